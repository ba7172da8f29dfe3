"""Making a file of fingerprints that others can search with."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hqdata.build.plan import codec_versions
from hqdata.errors import MissingSourceError, UserError
from hqdata.files import no_room
from hqdata.overlap.collect import Unread, collect
from hqdata.overlap.evaluation import find_evaluation, fingerprint_file_name
from hqdata.overlap.fingerprints import write_fingerprints
from hqdata.progress import Reporter

CACHE = ".hqdata-fingerprints"
"""Folder beside the file that keeps what is done, until the file is whole."""


@dataclass(frozen=True, slots=True)
class Published:
    """What came of it.

    Attributes:
        set: name of the evaluation set.
        path: the file, or None where none was written.
        num_images, num_bytes: pictures and bytes in it.
        digest: of the set.
        problems: what the set lacks.
        unread: pictures that could not be read.
    """

    set: str
    path: Path | None
    num_images: int
    num_bytes: int
    digest: str
    problems: tuple[str, ...]
    unread: tuple[Unread, ...]


def publish_fingerprints(
    target: str,
    data_root: Path,
    out: Path,
    *,
    workers: int,
    use: Sequence[str] = (),
    subset: bool = False,
    reporter: Reporter,
) -> Published:
    """Writes the file of fingerprints of one evaluation set, from its pictures.

    A picture that cannot be read leaves a hole, and a file with holes is never written. A part of a
    set is, if asked for by `subset`; what it lacks stands in the file and follows it into every
    proof.

    Raises:
        MissingSourceError: the set is not below the data root.
        HqdataError: an unknown or ambiguous name, no room.
    """
    # No folders of fingerprints: a file shall not be made from another file.
    found, missing = find_evaluation(
        [target], data_root, fingerprint_folders=(), reporter=reporter, use=use
    )
    if missing:
        raise MissingSourceError(
            f"the evaluation set {missing[0].set} is not below the data root {str(data_root)!r}",
            where=str(missing[0]),
            do="get it, or name the folder that its pictures lie in",
        )
    (source,) = found
    if source.fingerprints is not None:
        raise UserError(
            "this is a file of fingerprints already", where=source.fingerprints, do="name pictures"
        )
    if not source.pictures or (source.problems and not subset):
        return Published(source.set, None, 0, 0, "", source.problems, ())
    cache = out / CACHE
    collected = collect(source, cache=cache, workers=workers, reporter=reporter)
    if collected.unread:
        return Published(source.set, None, 0, 0, "", source.problems, collected.unread)
    path = out / fingerprint_file_name(source.set)
    try:
        digest = write_fingerprints(
            path,
            source.set,
            collected.fingerprints,
            codec_versions=codec_versions(),
            problems=source.problems,
        )
    except OSError as error:
        raise no_room(error, path) or UserError(
            f"cannot write the fingerprints: {error.strerror}", where=path
        ) from error
    shutil.rmtree(cache, ignore_errors=True)
    num_images = len(collected.fingerprints)
    size = path.stat().st_size
    return Published(source.set, path, num_images, size, digest, source.problems, ())
