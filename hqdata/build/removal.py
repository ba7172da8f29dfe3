"""Leaving out of a build what a report of overlaps names, and telling what comes back without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from hqdata.build.folder import read_there
from hqdata.errors import UserError
from hqdata.overlap.removal import Removal, mark_of
from hqdata.places import Place
from hqdata.shards.dataset import Removed
from hqdata.sources.pairing import Pairing

_SHOWN = 3

Where = tuple[str, str]
"""(source, split)."""


def leave_out(
    pairings: Mapping[Where, Pairing],
    removal: Removal,
    tell: Callable[[str], None],
    reserves: Collection[str] = (),
) -> tuple[dict[Where, Pairing], Removed | None]:
    """The pairings without the keys of a report, each of these recorded as dropped.

    Args:
        pairings: of every split of the build.
        removal: what to leave out. Keys of sources that this build does not have are ignored.
        tell: is given a line of text for each thing worth knowing.
        reserves: keys that this build would have if others were damaged; they may be named, too.

    Returns:
        The pairings, and what to write of it into `dataset.json`; None if nothing was left out.

    Raises:
        UserError: the report names keys of this build's sources that this build does not have.
    """
    sources = {source for source, _ in pairings}
    foreign = Counter(s for s in map(_source_of, removal.reasons) if s not in sources)
    if foreign:
        tell(
            f"{removal.path.name}: {foreign.total():,} keys are of sources that this recipe does "
            f"not build: {', '.join(sorted(foreign))}"
        )
    wanted = {k: why for k, why in removal.reasons.items() if _source_of(k) in sources}
    there = {pair.key for pairing in pairings.values() for pair in pairing.pairs}
    missing = [key for key in wanted if key not in there and key not in reserves]
    if missing:
        raise _other_data_set(removal, missing)
    wanted = {key: why for key, why in wanted.items() if key in there}
    if not wanted:
        what = "no confirmed overlap" if not foreign else "none of the sources built here"
        tell(f"{removal.path.name} has {what}: nothing is left out")
        return dict(pairings), None
    result = {}
    for where, pairing in pairings.items():
        gone = [pair for pair in pairing.pairs if pair.key in wanted]
        dropped = tuple((pair.name, f"{wanted[pair.key]}, {removal.mark}") for pair in gone)
        result[where] = replace(
            pairing,
            pairs=tuple(pair for pair in pairing.pairs if pair.key not in wanted),
            dropped=(*pairing.dropped, *dropped),
            lost=pairing.lost + len(gone),
        )
    tell(f"pictures left out, {removal.mark}: {len(wanted):,} ({removal.path})")
    return result, Removed(
        report_sha256=removal.sha256,
        dataset_digest=removal.dataset_digest,
        num_keys=len(wanted),
        keys=tuple(sorted(wanted)),
    )


def tell_what_returns(
    out: Place, pairings: Mapping[Where, Pairing], tell: Callable[[str], None]
) -> None:
    """Says plainly that pictures return which the data set here was built without."""
    info = read_there(out)
    if info is None or info.removed is None:
        return
    mark = mark_of(info.removed.report_sha256)
    names = {where: {pair.name for pair in pairing.pairs} for where, pairing in pairings.items()}
    back = [
        f"{item.source} {item.name}"
        for item in info.dropped
        if item.reason.endswith(mark) and item.name in names.get((item.source, item.split), ())
    ]
    if back:
        tell(
            f"warning: {len(back):,} pictures that the data set here was built without, {mark}, "
            f"come back, e.g. {back[0]}; to keep them out, build with --remove and that report"
        )


def _source_of(key: str) -> str:
    return key.partition("-")[0]


def _other_data_set(removal: Removal, missing: list[str]) -> UserError:
    shown = ", ".join(missing[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
    return UserError(
        f"{len(missing):,} of the {len(removal.reasons):,} pictures to leave out are not in this "
        f"build: {shown}",
        where=removal.path,
        expected="a report of the data set that this recipe builds from these sources; this one "
        f"belongs to another, with the digest {removal.dataset_digest[:12]}",
        do="make it anew: build without --remove, then hqdata verify-no-overlap",
    )
