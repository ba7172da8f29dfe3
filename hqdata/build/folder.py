"""The folder of a data set: whose it is, who writes to it, and what lies in it from before."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hqdata.build.work import sidecar_path
from hqdata.errors import BusyError, DatasetError, UserError
from hqdata.files import TEMPORARY_SUFFIX, no_room, sync_folder, write_whole
from hqdata.shards.dataset import read_info
from hqdata.shards.names import DATASET_FILE, STATE_DIR
from hqdata.sources.pairing import Pairing

_SHARD = re.compile(r"(?P<source>[a-z0-9_]+)/(?P<split>[a-z0-9_]+)-\d{5}-of-\d{5}\.tar")


@contextmanager
def claim(out: Path) -> Iterator[None]:
    """Holds the folder for this process alone; makes it if need be.

    Raises:
        UserError: the folder holds something else, has links in it, or cannot be written to.
        BusyError: another process holds it.
    """
    state = out / STATE_DIR
    existed = out.is_dir()
    try:
        _refuse_foreign(out, state)
        state.mkdir(parents=True, exist_ok=True)
        lock = open(state / "lock", "a+", encoding="utf-8")  # noqa: SIM115  # closed below
    except OSError as error:
        raise no_room(error, out) or UserError(
            f"cannot write to the output folder: {error.strerror}", where=out
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise UserError(
                    f"the output folder's file system cannot lock files ({error.strerror})",
                    where=out,
                    do="choose an --out on a disk of this machine",
                ) from error
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            raise BusyError(
                f"another hqdata (process {owner}) is writing to this folder",
                where=out,
                do="wait for it, or choose another --out",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            yield
        finally:
            # A build that never began leaves no folder behind.
            if not existed and [p.name for p in out.rglob("*")] == [STATE_DIR, "lock"]:
                (state / "lock").unlink()
                state.rmdir()
                out.rmdir()


def _refuse_foreign(out: Path, state: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError("the output is a file, not a folder", where=out)
    present = [path for path in out.iterdir() if path.name != "lost+found"]
    if present and not state.is_dir():
        raise UserError(
            "the output folder is not empty and no data set of ours",
            where=out,
            expected="a new or empty folder, or one that an earlier build wrote to",
            do="choose another --out",
        )
    for path in present:
        if path.is_symlink():
            raise UserError(
                "the output folder has a link in it: a build writes nothing outside of its folder",
                where=path,
                do="remove the link, or choose another --out",
            )


def remove_temporaries(out: Path) -> None:
    """Removes what a killed build was writing."""
    for pattern in (f".*{TEMPORARY_SUFFIX}", f"*/.*{TEMPORARY_SUFFIX}"):
        for temporary in out.glob(pattern):
            temporary.unlink(missing_ok=True)
    for temporary in (out / STATE_DIR).rglob(f".*{TEMPORARY_SUFFIX}"):
        temporary.unlink(missing_ok=True)


def stale_shards(
    out: Path, wanted: Collection[str], splits: Iterable[tuple[str, str]], *, prune: bool
) -> list[str]:
    """Shards of earlier builds that this one does not want, to be removed once it is done.

    Shards of the same splits make room for the new ones. Shards of other splits, and files that no
    build writes, are left alone; the former only with `prune` are not.

    Raises:
        UserError: shards of other splits are there, and `prune` is false.
    """
    ours = set(splits)
    stale: list[str] = []
    others: list[str] = []
    for path in sorted(out.glob("*/*.tar")):
        name = path.relative_to(out).as_posix()
        found = _SHARD.fullmatch(name)
        if found is None or name in wanted:
            continue
        (stale if (found["source"], found["split"]) in ours else others).append(name)
    if others and not prune:
        raise UserError(
            f"the output folder holds {len(others)} shards that are not of this build, of "
            + ", ".join(sorted({name.rsplit("-", 3)[0] for name in others})),
            where=out / others[0],
            do="choose another --out, or remove them with --prune",
        )
    return stale + others


def remove_shards(out: Path, names: Iterable[str]) -> None:
    """Removes shards with their sidecars, and the folders they leave empty."""
    for name in names:
        (out / DATASET_FILE).unlink(missing_ok=True)
        path = out / name
        path.unlink(missing_ok=True)
        sidecar_path(out, name).unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()


def refuse_to_shrink(
    out: Path, pairings: Mapping[tuple[str, str], Pairing], *, prune: bool
) -> None:
    """Keeps a complete data set from being replaced by less of the same.

    Raises:
        UserError: a split of the complete data set here had more pairs than the sources now give,
            knowingly dropped ones counted in, and `prune` is false.
    """
    try:
        info = read_info(out)
    except DatasetError:
        return
    if not info.complete or prune:
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
                where=out,
                expected="the files that it was built from",
                do="look what has gone from the data root, choose another --out, or replace the "
                "data set with --prune",
            )


def publish_manifest(out: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files of the manifest, `dataset.json` last; nothing if all are there already."""
    if all(_holds(out / name, data) for name, data in files.items()):
        return
    withdraw_manifest(out)
    for name, data in files.items():
        write_whole(out / name, data)


def withdraw_manifest(out: Path) -> None:
    """From here on there is no data set in the folder, whatever happens."""
    (out / DATASET_FILE).unlink(missing_ok=True)
    sync_folder(out)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False
