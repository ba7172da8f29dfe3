"""Folders for files that are being written before they are uploaded."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

_PREFIX = "hqdata-upload-"
_IN_USE = "in-use"

_SECONDS_TO_BEGIN = 60.0
"""Age at which a folder that nobody holds counts as left by a process that was killed."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder where this machine keeps temporary files (TMPDIR), removed afterwards.

    What processes of the same user left that were killed is removed, too: it may be gigabytes.

    Raises:
        OSError: none can be made.
    """
    _remove_left(os.getpid())
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with open(folder / _IN_USE, "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            files = folder / "files"
            files.mkdir()
            yield files
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@lru_cache(maxsize=1)
def _remove_left(pid: int) -> None:
    """Once a process."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            info = folder.lstat()
            old = time.time() - info.st_mtime > _SECONDS_TO_BEGIN
            if info.st_uid != os.getuid() or not old or not _is_free(folder / _IN_USE):
                continue
        except OSError:
            continue  # it went away by itself
        shutil.rmtree(folder, ignore_errors=True)


def _is_free(path: Path) -> bool:
    """Whether the process that made the file is no more."""
    try:
        with open(path, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    return True
