"""The fingerprints of an evaluation set: from a file, from a cache, or from the pictures.

The cache has one file a chunk of pictures, named after everything that went into it, so whatever
was killed goes on where it was, and a picture that changed is read again. What could not be read is
never kept: the disk may be back the next time.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from hqdata.archives import remove_spool, spool_archive
from hqdata.build.plan import codec_versions
from hqdata.errors import InterruptedBuildError, UserError
from hqdata.files import TEMPORARY_SUFFIX, no_room
from hqdata.overlap.evaluation import EvaluationPicture, EvaluationSource
from hqdata.overlap.fingerprints import (
    Fingerprint,
    UnreadPictureError,
    fingerprint_picture,
    read_fingerprints,
    set_digest,
    versions,
    write_fingerprints,
)
from hqdata.parallel import run_tasks
from hqdata.progress import Reporter
from hqdata.sample import canonical_json
from hqdata.storage import DamagedFileError, FileReader

PICTURES_PER_CHUNK = 32
_ABANDONED_SECONDS = 3600
"""A temporary file older than this belongs to nobody any more."""

Unread = tuple[str, str]
"""Name of a picture and why it could not be read."""


@dataclass(frozen=True, slots=True)
class Collected:
    """The fingerprints of one evaluation set.

    Attributes:
        set: its name.
        how: from its pictures, or from a file of fingerprints.
        digest: see `hqdata.overlap.fingerprints.set_digest`; of what was read.
        where: the place, for people.
        fingerprints: sorted by name.
        unread: pictures that could not be read, sorted by name. While there is one, the set was not
            searched as a whole.
    """

    set: str
    how: Literal["pictures", "fingerprints"]
    digest: str
    where: str
    fingerprints: tuple[Fingerprint, ...]
    unread: tuple[Unread, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Pictures that are worked on together; `key` names all that their fingerprints depend on."""

    key: str
    pictures: tuple[EvaluationPicture, ...]


def collect(
    source: EvaluationSource, *, cache: Path, workers: int, reporter: Reporter
) -> Collected:
    """The fingerprints of an evaluation set.

    Args:
        source: what `hqdata.overlap.evaluation.find_evaluation` found.
        cache: folder that keeps what is done; made if need be, shared by all sets.
        workers: number of processes.
        reporter: is told how many pictures are done.

    Raises:
        UserError: a damaged file of fingerprints, or a cache that cannot be written to.
        InterruptedBuildError: no room, or a worker died; the same call goes on.
    """
    if source.fingerprints is not None:
        _, digest, found = read_fingerprints(source.fingerprints)
        return Collected(source.set, "fingerprints", digest, source.where, tuple(found), ())
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(cache)
        found, unread = _collect(source, cache, workers, reporter)
    except OSError as error:
        raise no_room(error, cache) or UserError(
            f"cannot write to the cache: {error.strerror}", where=cache, do="name another folder"
        ) from error
    found.sort(key=lambda f: f.name)
    return Collected(
        source.set, "pictures", set_digest(found), source.where, tuple(found), tuple(sorted(unread))
    )


def _collect(
    source: EvaluationSource, cache: Path, workers: int, reporter: Reporter
) -> tuple[list[Fingerprint], list[Unread]]:
    chunks = list(_chunks(source))
    found: dict[str, list[Fingerprint]] = {}
    todo = []
    for chunk in chunks:
        kept = _load(chunk, cache)
        if len(kept) == len(chunk.pictures):
            found[chunk.key] = kept
        else:
            todo.append(chunk)
    unread: list[Unread] = []
    if todo:
        spool = cache / f"spool-{os.getpid()}"
        num_pictures = sum(len(chunk.pictures) for chunk in todo)
        reporter.start(f"fingerprints of {source.set}", num_pictures, "pictures")
        try:
            readable = _spooled(todo, spool)
            work = partial(_fill, cache=cache)
            results = run_tasks(work, readable, workers=workers, reporter=reporter, out=cache)
        finally:
            remove_spool(spool)
        reporter.finish()
        for chunk, failed in zip(todo, results, strict=True):
            unread += failed
            found[chunk.key] = _load(chunk, cache)
            if len(found[chunk.key]) + len(failed) != len(chunk.pictures):
                raise InterruptedBuildError(
                    "the cache was changed while it was written",
                    where=_path(chunk, cache),
                    do="run the same command again",
                )
    return [one for chunk in chunks for one in found[chunk.key]], unread


def _chunks(source: EvaluationSource) -> list[Chunk]:
    pictures = source.pictures
    depends_on = {"versions": versions(), "codecs": codec_versions(), "set": source.set}
    chunks = []
    for begin in range(0, len(pictures), PICTURES_PER_CHUNK):
        part = pictures[begin : begin + PICTURES_PER_CHUNK]
        value = {**depends_on, "pictures": [[p.name, p.ref.stamp] for p in part]}
        chunks.append(Chunk(hashlib.sha256(canonical_json(value)).hexdigest(), part))
    return chunks


def _path(chunk: Chunk, cache: Path) -> Path:
    return cache / f"{chunk.key}.parquet"


def _load(chunk: Chunk, cache: Path) -> list[Fingerprint]:
    """What the cache has of a chunk; a file that is not whole or not ours counts as none."""
    path = _path(chunk, cache)
    if not path.is_file():
        return []
    try:
        key, _, found = read_fingerprints(path)
    except UserError:
        return []
    names = {picture.name for picture in chunk.pictures}
    return found if key == chunk.key and all(f.name in names for f in found) else []


def _fill(
    chunk: Chunk, *, cache: Path, tick: Callable[[int], None], should_stop: Callable[[], bool]
) -> list[Unread]:
    """Brings the cache's file of a chunk up to date; returns what could not be read.

    Work for `hqdata.parallel.run_tasks`; ticks pictures.
    """
    found = {f.name: f for f in _load(chunk, cache)}
    num_before = len(found)
    unread: list[Unread] = []
    with FileReader() as reader:
        for picture in chunk.pictures:
            if should_stop():
                raise InterruptedBuildError("stopped", do="run the same command again to go on")
            if picture.name not in found:
                try:
                    data = reader.read(picture.ref)
                    found[picture.name] = fingerprint_picture(picture.name, data)
                except DamagedFileError as error:
                    unread.append((picture.name, f"the file {error}"))
                except UnreadPictureError as error:
                    unread.append((picture.name, str(error)))
            tick(1)
    if len(found) > num_before:
        write_fingerprints(
            _path(chunk, cache), chunk.key, list(found.values()), codec_versions=codec_versions()
        )
    return unread


def _spooled(chunks: Sequence[Chunk], spool: Path) -> list[Chunk]:
    """The chunks with the files of each .tar.gz readable in any order."""
    archives = {
        picture.ref.container
        for chunk in chunks
        for picture in chunk.pictures
        if picture.ref.how == "listed"
    }
    targets = {name: str(spool_archive(Path(name), spool)) for name in sorted(archives)}

    def readable(picture: EvaluationPicture) -> EvaluationPicture:
        ref = picture.ref
        if ref.how != "listed":
            return picture
        return replace(picture, ref=replace(ref, how="range", container=targets[ref.container]))

    if not targets:
        return list(chunks)
    return [replace(c, pictures=tuple(readable(p) for p in c.pictures)) for c in chunks]


def _remove_abandoned(cache: Path) -> None:
    """Removes what a killed run was writing; not what another one is."""
    now = time.time()
    for path in (*cache.glob(f".*{TEMPORARY_SUFFIX}"), *cache.glob("spool-*")):
        try:
            if now - path.stat().st_mtime < _ABANDONED_SECONDS:
                continue
        except FileNotFoundError:
            continue
        if path.is_dir():
            remove_spool(path)
        else:
            path.unlink(missing_ok=True)
