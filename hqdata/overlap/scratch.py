"""A folder for what one run needs while it lives."""

from __future__ import annotations

import fcntl
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def scratch_folder(cache: Path) -> Iterator[Path]:
    """A folder for this run alone, held by a lock; those of runs that were killed go."""
    runs = cache / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    for lock in runs.glob("*.lock"):
        with open(lock, "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # its run is at work
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
    own = runs / secrets.token_hex(8)
    held = own.with_suffix(".lock")
    with open(held, "a") as file:
        with suppress(OSError):  # a file system without locks: nobody else tidies up there
            fcntl.flock(file, fcntl.LOCK_EX)
        own.mkdir()
        try:
            yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)
            held.unlink(missing_ok=True)
