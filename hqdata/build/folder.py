"""The folder of a data set: whose it is, who writes to it, and what lies in it from before."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from hqdata.build.work import sidecar_name
from hqdata.errors import DatasetError, UserError
from hqdata.files import TEMPORARY_SUFFIX, sync_folder
from hqdata.places import Place
from hqdata.resolve import SampleRequest
from hqdata.shards.dataset import DatasetInfo, parse_info
from hqdata.shards.names import DATASET_FILE, STATE_DIR
from hqdata.sources.pairing import Pairing

_SHARD = re.compile(r"(?P<source>[a-z0-9_]+)/(?P<split>[a-z0-9_]+)-\d{5}-of-\d{5}\.tar")


def remove_temporaries(out: Path) -> None:
    """Removes what a killed build was writing."""
    for pattern in (f".*{TEMPORARY_SUFFIX}", f"*/.*{TEMPORARY_SUFFIX}"):
        for temporary in out.glob(pattern):
            temporary.unlink(missing_ok=True)
    for temporary in (out / STATE_DIR).rglob(f".*{TEMPORARY_SUFFIX}"):
        temporary.unlink(missing_ok=True)


def stale_shards(
    out: Path | Place, wanted: Collection[str], splits: Iterable[tuple[str, str]], *, prune: bool
) -> list[str]:
    """Shards of earlier builds that this one does not want, to be removed once it is done.

    Shards of the same splits make room for the new ones. Shards of other splits, and files that no
    build writes, are left alone; the former only with `prune` are not.

    Raises:
        UserError: shards of other splits are there, and `prune` is false.
    """
    ours = set(splits)
    place = Place.of(out)
    stale: list[str] = []
    others: list[str] = []
    for name in place.names():
        found = _SHARD.fullmatch(name)
        if found is None or name in wanted:
            continue
        (stale if (found["source"], found["split"]) in ours else others).append(name)
    if others and not prune:
        raise UserError(
            f"the output folder holds {len(others)} shards that are not of this build, of "
            + ", ".join(sorted({name.rsplit("-", 3)[0] for name in others})),
            where=f"{place.shown}/{others[0]}",
            do="choose another --out, or remove them with --prune",
        )
    return stale + others


def remove_shards(out: Path | Place, names: Iterable[str]) -> None:
    """Removes shards with their sidecars, and the folders they leave empty."""
    place = Place.of(out)
    for name in names:
        place.remove(DATASET_FILE)
        place.remove(name)
        place.remove(sidecar_name(name))
        if place.local is not None:
            with suppress(OSError):  # it is not empty, or has gone
                (place.local / name).parent.rmdir()


def read_there(out: Place) -> DatasetInfo | None:
    """The `dataset.json` that is there; None if there is none that can be read."""
    data = out.read(DATASET_FILE)
    try:
        return None if data is None else parse_info(data, f"{out.shown}/{DATASET_FILE}")
    except DatasetError:
        return None


def refuse_to_shrink(
    out: Place, pairings: Mapping[tuple[str, str], Pairing], *, prune: bool
) -> None:
    """Keeps a complete data set from being replaced by less of the same.

    Raises:
        UserError: a split of the complete data set here had more pairs than the sources now give,
            knowingly dropped ones counted in, and `prune` is false.
    """
    info = read_there(out)
    if info is None or not info.complete or prune:
        return
    for (source, split), pairing in pairings.items():
        before = info.sources.get(source, {}).get(split)
        if before is None:
            continue
        now = len(pairing.pairs) + pairing.lost
        if now < before.built + before.dropped:
            raise UserError(
                f"the complete data set here has {before.built:,} samples of {source} {split}, the "
                f"sources now give {len(pairing.pairs):,}",
                where=out.shown,
                expected="the files that it was built from",
                do="look what has gone from the data root, choose another --out, or replace the "
                "data set with --prune",
            )


def refuse_another_sample(out: Place, samples: Iterable[SampleRequest], *, prune: bool) -> None:
    """Keeps a complete data set's sample from being replaced by one that is drawn otherwise.

    Raises:
        UserError: the sample that is there has other settings, and `prune` is false.
    """
    info = read_there(out)
    if info is None or not info.complete or prune:
        return
    for request in samples:
        where = f"{request.source}/{request.split}"
        there = (info.sampled or {}).get(where)
        wanted = {"images": request.settings.images, **request.choice.to_dict()}
        differ = [n for n in wanted if there is not None and getattr(there, n) != wanted[n]]
        if differ:
            told = ", ".join(f"{n} {getattr(there, n)}, not {wanted[n]}" for n in differ)
            raise UserError(
                f"the complete data set here has another sample of {where}: {told}",
                where=out.shown,
                expected="the same sample",
                do="choose another --out, or replace the data set with --prune",
            )


def publish_manifest(out: Path | Place, files: Mapping[str, bytes]) -> None:
    """Writes the files of the manifest, `dataset.json` last; nothing if all are there already."""
    place = Place.of(out)
    if all(place.read(name) == data for name, data in files.items()):
        return
    withdraw_manifest(place)
    for name, data in files.items():
        place.write(name, data)


def withdraw_manifest(out: Path | Place) -> None:
    """From here on there is no data set in the folder, whatever happens."""
    place = Place.of(out)
    place.remove(DATASET_FILE)
    if place.local is not None:
        sync_folder(place.local)
