"""Who writes to a folder of this machine: one process, or several that agreed to."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hqdata.errors import BusyError, UserError
from hqdata.files import no_room

STATE_FOLDER = ".hqdata"
"""Where a build keeps what it needs to go on; `hqdata.shards.names.STATE_DIR` is the same."""


@contextmanager
def claim(out: Path, *, shared: bool = False) -> Iterator[None]:
    """Holds the folder for this process alone; makes it if need be.

    Args:
        out: the folder of a data set.
        shared: hold it together with others that say so, too; each keeps out who does not.

    Raises:
        UserError: the folder holds something else, has links in it, or cannot be written to.
        BusyError: another process holds it.
    """
    state = out / STATE_FOLDER
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
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise UserError(
                    f"the output folder's file system cannot lock files ({error.strerror})",
                    where=out,
                    do="choose an --out on a disk of this machine, or on a shared file system that "
                    "locks (Lustre, for one, if it is mounted with flock)",
                ) from error
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            raise BusyError(
                f"another hqdata (process {owner}) is writing to this folder",
                where=out,
                do="wait for it, or choose another --out",
            ) from None
        lock.truncate(0)
        if not shared:
            lock.write(str(os.getpid()))
            lock.flush()
        try:
            yield
        finally:
            # A build that never began leaves no folder behind.
            alone = not existed and not shared
            if alone and [p.name for p in out.rglob("*")] == [STATE_FOLDER, "lock"]:
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
