"""Writing files so that nobody ever sees half of one, and hashing them."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from hqdata.errors import InterruptedBuildError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

TEMPORARY_SUFFIX = ".tmp"


_token: tuple[int, str] = (0, "")
"""A process and what tells it from all processes of all machines."""


def process_token() -> str:
    """Some letters that no other process has, of this machine or of another."""
    global _token
    pid = os.getpid()
    if _token[0] != pid:  # a forked child is another process
        _token = (pid, os.urandom(6).hex())
    return f"{pid}.{_token[1]}"


def temporary_name(path: Path) -> Path:
    """A name beside `path` for its unfinished form, of this process alone.

    Several machines may write to one folder, and there process numbers are the same.
    """
    return path.with_name(f".{path.name}.{process_token()}{TEMPORARY_SUFFIX}")


def is_temporary(name: str) -> bool:
    """Whether a file of this name is the unfinished form of another."""
    return name.startswith(".") and name.endswith(TEMPORARY_SUFFIX)


def publish(temporary: Path, path: Path) -> None:
    """Gives a finished and flushed file its name; survives a power cut from then on."""
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file so that it is there in full or not at all."""
    temporary = temporary_name(path)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of(data: bytes) -> str:
    """SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def no_room(error: OSError, path: Path) -> InterruptedBuildError | None:
    """The message for a full disk or quota, or None if the error is another."""
    if error.errno not in _NO_ROOM:
        return None
    return InterruptedBuildError(
        f"no room left to write ({os.strerror(error.errno or 0)})",
        where=path,
        do="free some space and run the same command again: finished shards are kept",
    )
