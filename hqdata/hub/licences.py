"""May this be published, to whom, and what can be instead. Information, not legal advice.

The strictest terms of a data set decide for all of it. Names, digests and figures may always be
published: whoever has the sources builds the same shards from them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from hqdata.catalogue.licences import SetTerms, find_terms, known_sets, licence_of_id
from hqdata.catalogue.manifest import Licence, SetManifest
from hqdata.errors import DatasetError, UserError, nearest
from hqdata.hub.permission import Permission
from hqdata.mini.mark import HEAD_BYTES, is_marked
from hqdata.pictures import UNTOUCHED
from hqdata.report import words
from hqdata.shards.dataset import Dataset
from hqdata.shards.names import PROBLEMS_FILE
from hqdata.shards.subset import rows_of

Audience = Literal["public", "private-gated", "private", "refuse"]
"""To whom pictures may be published, the strictest last."""

What = Literal["all", "manifest"]
"""all: with the pictures · manifest: names, digests and figures only."""

NO_ADVICE = "This says what was found and where; it is information, not legal advice."

_STRICTNESS: tuple[Audience, ...] = ("public", "private-gated", "private", "refuse")

_DRAWN = "drawn by program, no rights reserved (CC0-1.0)"


class ForbiddenError(UserError):
    """The terms of a source forbid what was asked for."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of one source of a data set.

    Attributes:
        source: short name.
        title: of the source, for people.
        num_samples, num_bytes: samples, and bytes of its shards.
        licence: the strictest of what is known: of the set of this name, and of the ids in the
            records.
        push: to whom it may be published as it stands, without a permission.
        permission: a recorded permission that goes with it, or None.
        stand_in: whether all its pictures are drawn by `hqdata mini`.
        home: page of the source, or None.
        citation: BibTeX, or None.
    """

    source: str
    title: str
    num_samples: int
    num_bytes: int
    licence: Licence
    push: Audience
    permission: Permission | None
    stand_in: bool
    home: str | None = None
    citation: str | None = None

    @property
    def audience(self) -> Audience:
        """To whom it may be published: a permission can widen it, never narrow it."""
        if self.permission is None:
            return self.push
        return min(self.push, self.permission.allows, key=_STRICTNESS.index)


@dataclass(frozen=True, slots=True)
class Decision:
    """What may be published, and how.

    Attributes:
        what: with the pictures or without.
        terms: of every source in it.
        audience: the strictest of all; "public" where no pictures go.
        private: whether the repository has to be private.
        gated: whether whoever gets access has to accept the terms first.
        warnings: sentences that the user should read.
    """

    what: What
    terms: tuple[Terms, ...]
    audience: Audience
    private: bool
    gated: bool
    warnings: tuple[str, ...]


def strictest(audiences: Sequence[Audience]) -> Audience:
    """The strictest of some audiences; "public" for none."""
    return max(audiences, key=_STRICTNESS.index, default="public")


def terms_of(
    dataset: Dataset, sources: Collection[str], permissions: Sequence[Permission]
) -> tuple[Terms, ...]:
    """The terms of some sources of a data set, in its order.

    Reads the beginning of stored pictures, to see whether they are those of `hqdata mini`.

    Args:
        dataset: on disk.
        sources: of it, that are to be published.
        permissions: each for a source of the data set, by its name or by any name of its set; the
            source may be one that stays out.

    Raises:
        UserError: these sources have no samples, a permission is for no source of the data set, or
            two are for the same one.
        DatasetError: a shard cannot be read.
    """
    _refuse_nothing(dataset, sources)
    granted = _by_source(dataset, permissions)
    return tuple(
        _terms(dataset, source, granted.get(source))
        for source in dataset.info.sources
        if source in sources
    )


def decide(terms: Sequence[Terms], *, what: What, public: bool) -> Decision:
    """Whether, and to whom, a data set of these terms may be published.

    Args:
        terms: of the sources that are to be published.
        what: with the pictures or without.
        public: whether everybody is to see it. Otherwise the repository is private, and gated where
            it has pictures.

    Raises:
        ForbiddenError: it may not; the message names each source that forbids it, its terms, and
            what can be published instead.
    """
    listed = tuple(terms)
    if what == "manifest":
        return Decision(what, listed, "public", private=not public, gated=False, warnings=())
    audience = strictest([t.audience for t in listed])
    if public and audience != "public":
        raise _refusal(listed, [t for t in listed if t.audience != "public"], public=True)
    if audience == "refuse":
        raise _refusal(listed, [t for t in listed if t.audience == "refuse"], public=False)
    return Decision(
        what,
        listed,
        audience,
        private=not public,
        gated=not public,
        warnings=tuple(_warnings(listed)),
    )


def _warnings(terms: Sequence[Terms]) -> list[str]:
    found = []
    for item in terms:
        if item.permission is not None and item.audience != item.push:
            found.append(
                f"{item.source}: published by permission of {item.permission.holder}, "
                f"{item.permission.date} ({item.permission.name}), which the card names"
            )
        elif item.audience == "private-gated":
            found.append(
                f"{item.source}: {item.licence.name}. Copies stay private and gated. "
                f"{_one_line(item.licence.evidence)}"
            )
    return found


def _refuse_nothing(dataset: Dataset, sources: Collection[str]) -> None:
    if not len(dataset):
        raise UserError(
            "there is nothing to publish: the data set has no samples",
            where=dataset.root,
            do=f"see why its pairs stayed out: {dataset.root / PROBLEMS_FILE}",
        )
    if not rows_of(dataset.samples, sources).num_rows:
        raise UserError(
            f"there is nothing to publish: no samples are of {', '.join(sources)}",
            where=dataset.root,
            do="leave out fewer sources",
        )


def _by_source(dataset: Dataset, permissions: Sequence[Permission]) -> dict[str, Permission]:
    """Source of the data set -> its permission; a source and a set's name that mean one set fit."""
    granted: dict[str, Permission] = {}
    for permission in permissions:
        name = permission.source
        of_it = [source for source in dataset.info.sources if _set_of(source) == _set_of(name)]
        if not of_it:
            raise UserError(
                f"there is a permission for {name!r}, which is no source of this data set"
                f"{nearest(name, dataset.info.sources)}",
                where=f"permission {permission.name!r}",
                expected="one of " + ", ".join(dataset.info.sources),
                do="mend `source` in the file, or leave the permission out",
            )
        for source in of_it:
            if source in granted:
                raise UserError(
                    f"there are two permissions for {source!r}: {granted[source].name!r} and "
                    f"{permission.name!r}",
                    do="give the one that holds, or write one file that names both documents",
                )
            granted[source] = permission
    return granted


def _set_of(name: str) -> str:
    """Short name of the set that a name means; the name itself where nobody knows it."""
    known = find_terms(name)
    return name if known is None else known.short_name


def _terms(dataset: Dataset, source: str, permission: Permission | None) -> Terms:
    rows = dataset.samples.filter(pc.equal(dataset.samples["source"], source))
    known = find_terms(source)
    stand_in = _is_stand_in(dataset, rows)
    title = source if known is None else known.title
    licence = _drawn(title) if stand_in else _licence(rows, known)
    return Terms(
        source=source,
        title=title,
        num_samples=rows.num_rows,
        num_bytes=sum(
            shard.num_bytes for shard in dataset.info.shards if shard.path.startswith(f"{source}/")
        ),
        licence=licence,
        push=licence.push,
        permission=permission,
        stand_in=stand_in,
        home=None if known is None else known.home,
        citation=None if known is None else known.citation.strip(),
    )


def _drawn(title: str) -> Licence:
    return Licence(
        id="CC0-1.0",
        name=_DRAWN,
        url="https://creativecommons.org/publicdomain/zero/1.0/legalcode",
        evidence=f"Every picture carries the mark of `hqdata mini`, which draws them; nothing of "
        f"{title} is in it.",
        push="public",
    )


def _licence(rows: pa.Table, known: SetManifest | SetTerms | None) -> Licence:
    """The strictest licence that concerns a source; the set's own where several are as strict."""
    found: list[Licence] = [] if known is None else [known.licence]
    own = {item.id for item in found}
    ids = sorted(set(rows["licence"].to_pylist()))
    found += [licence_of_id(licence_id) for licence_id in ids if licence_id not in own]
    found += [licence for licence in _recognised(rows) if licence.id not in own]
    if not found:
        found = [licence_of_id("not-stated")]
    return max(found, key=lambda licence: _STRICTNESS.index(licence.push))


def _recognised(rows: pa.Table) -> list[Licence]:
    """Licences of sets whose file names are among these, whatever the source is called."""
    stems = [PurePosixPath(path).stem for path in rows["upstream_image"].to_pylist()]
    found = []
    for known in known_sets():
        if known.licence.stem is None:
            continue
        pattern = re.compile(known.licence.stem)
        hits = [stem for stem in stems if pattern.fullmatch(stem)]
        if hits:
            evidence = (
                f"{len(hits):,} of {len(stems):,} files are named like those of {known.title}, "
                f"e.g. {hits[0]!r}. {_one_line(known.licence.evidence)}"
            )
            found.append(known.licence.model_copy(update={"evidence": evidence}))
    return found


def _is_stand_in(dataset: Dataset, rows: pa.Table) -> bool:
    """Whether every picture of a source carries the mark of `hqdata mini`.

    A picture that was re-encoded has lost its mark and could be any: it makes the source a real
    one. `hqdata mini` draws none that would have to be.
    """
    if not rows.num_rows or pc.any(pc.not_equal(rows["image_changes"], UNTOUCHED)).as_py():
        return False
    by_shard: dict[str, list[tuple[int, int]]] = {}
    columns = (rows[name].to_pylist() for name in ("shard", "image_offset", "image_size"))
    for shard, offset, size in zip(*columns, strict=True):
        by_shard.setdefault(shard, []).append((offset, min(size, HEAD_BYTES)))
    for shard, places in by_shard.items():
        path = dataset.root / shard
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DatasetError(
                f"cannot open the shard: {error.strerror}",
                where=path,
                do=f"see what else is damaged: hqdata check {dataset.root}",
            ) from error
        try:
            if not all(is_marked(os.pread(handle, size, offset)) for offset, size in places):
                return False
        finally:
            os.close(handle)
    return True


def _refusal(terms: tuple[Terms, ...], bad: list[Terms], *, public: bool) -> ForbiddenError:
    good = [item for item in terms if item not in bad]
    names = ", ".join(item.source for item in bad)
    extent = "be public" if public else "go to the Hub, not even to a private repository"
    return ForbiddenError(
        f"the pictures of {names} may not {extent}",
        where="\n".join(map(_describe, bad)),
        do="\n".join([*_instead(bad, good, public=public), NO_ADVICE]),
    )


def _describe(item: Terms) -> str:
    link = f" <{item.licence.url}>" if item.licence.url else ""
    return (
        f"{item.source}: {item.title}, {item.num_samples:,} images, {words.size(item.num_bytes)}\n"
        f"  terms: {item.licence.name}{link}\n"
        f"  evidence: {_one_line(item.licence.evidence)}\n"
        f"  so: {SAYS[item.audience]}"
    )


SAYS: dict[Audience, str] = {
    "refuse": "no copies, private ones included",
    "private": "private copies only",
    "private-gated": "private and gated copies only",
    "public": "may be public",
}
"""What an audience means, in words."""


def _instead(bad: list[Terms], good: list[Terms], *, public: bool) -> list[str]:
    """What can be done, an option a line."""
    lines = ["one of"]
    if public:
        refused = [item for item in bad if item.audience == "refuse"]
        rest = [item for item in (*bad, *good) if item not in refused]
        if rest and refused:
            lines.append(f"  without --public, and {_without(refused, rest)}, private and gated")
        elif rest:
            lines.append("  without --public: all of it, private and gated")
    lines.append(
        "  --what manifest: names, digests and figures, no picture; whoever has the sources "
        "rebuilds the same shards from them"
    )
    if good:
        lines.append(f"  {_without(bad, good)}")
    lines.append(
        "  --permission FILE: if the holder of the rights allowed it in writing; its name, date "
        "and holder go into the card"
    )
    return lines


def _without(gone: list[Terms], rest: list[Terms]) -> str:
    number = sum(item.num_samples for item in rest)
    images = f"{number:,} image" + ("" if number == 1 else "s")
    return (
        f"--exclude {','.join(item.source for item in gone)}: "
        f"the other {images}, of {', '.join(item.source for item in rest)}"
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())
