"""A bounded folder of shards that all processes of a machine share.

A shard is made under a temporary name by the one process that holds its lock, and gets its own name
when it is whole and on disk. Locks belong to open files, so they end with the process that holds
them, however it ends: an unfinished file whose lock is free is nobody's and is removed. When a
shard was last used is written in its time of modification, which, other than the time of access,
no option of the file system changes.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hqdata.errors import UserError
from hqdata.files import no_room, publish, write_whole

Fill = Callable[[BinaryIO], None]
"""Writes a whole shard into an empty file, or raises."""

FOLDER = "remote-shards"
"""Below the folder that the user names, which may hold other things."""

_TAG = "CACHEDIR.TAG"
_TAG_TEXT = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# Shards from elsewhere. They are removed when room is needed; so can this folder be.\n"
)

_DOWNLOADS_AHEAD = 4
"""Shards that all processes together download before they are needed."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A file of the cache: name below its folder, when it was last used, and its size."""

    name: str
    used: int
    num_bytes: int


class ShardCache:
    """The shards that lie in a folder; the oldest make room for new ones.

    Their names have the form `<data set>/<source>/<shard>.tar`.

    Args:
        folder: where the user wants it.
        max_bytes: room for finished shards and those that are being written. More is taken only by
            what someone waits for while all the rest is being written too.

    Raises:
        UserError: the folder cannot be written, or it is no cache.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.root = folder / FOLDER
        self.max_bytes = max_bytes
        with explained(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            # In this order: another process may be making the cache, and makes the tag first.
            is_used = any(path.name[0] != "." and path.name != _TAG for path in self.root.iterdir())
            is_ours = (self.root / _TAG).exists()
            if is_used and not is_ours:
                raise UserError(
                    f"{str(self.root)!r} holds files, but is no cache of shards",
                    expected=f"a new folder, or one with the file {_TAG}",
                    do="name another folder: what lies in a cache is removed without asking",
                )
            if not is_ours:
                write_whole(self.root / _TAG, _TAG_TEXT)

    def open(
        self, name: str, num_bytes: int, fill: Fill, *, keep: Collection[str] = frozenset()
    ) -> int:
        """A descriptor of a whole shard; it stays good when the shard is removed meanwhile.

        Args:
            name: of the shard.
            num_bytes: its size.
            fill: makes it, if no process has or is at it.
            keep: names that are removed only if nothing else can be.

        Raises:
            UserError: no room on the disk, or the folder cannot be written.
            Exception: whatever `fill` raises.
        """
        handle = self._open_whole(name, num_bytes)
        if handle is not None:
            return handle
        with self.locked(name):
            handle = self._open_whole(name, num_bytes)  # who held the lock may have made it
            if handle is not None:
                return handle
            with self.locked(""), explained(self.root):
                self._make_room(name, num_bytes, keep, needed=True)
                self._reserve(name, num_bytes)
            return self._make(name, num_bytes, fill, keep)

    def fetch(self, name: str, num_bytes: int, fill: Fill, *, keep: Collection[str]) -> bool:
        """Makes a shard that is not needed yet, and never waits for others.

        Returns:
            Whether it was made here: not if it is there, if another process is at it, if enough
            are being downloaded ahead, or if something of `keep` would have to go for it.
        """
        if self.has(name, num_bytes):
            return False
        with self._slot() as has_slot:
            if not has_slot:
                return False
            with self.locked(name, wait=False) as is_held:
                if not is_held or self.has(name, num_bytes):
                    return False
                with self.locked(""), explained(self.root):
                    if not self._make_room(name, num_bytes, keep, needed=False):
                        return False
                    self._reserve(name, num_bytes)
                os.close(self._make(name, num_bytes, fill, keep))
                return True

    def has(self, name: str, num_bytes: int) -> bool:
        """Whether a shard lies there, whole."""
        try:
            return (self.root / name).stat().st_size == num_bytes
        except OSError:
            return False

    @contextmanager
    def locked(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Holds the lock of a file of the cache, that of the whole cache if the name is empty.

        Yields:
            Whether it is held; always, if it was waited for.
        """
        path = _beside(self.root / name, ".lock") if name else self.root / ".lock"
        with explained(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            is_held = _lock(handle, self.root, wait=wait)
            try:
                yield is_held
            finally:
                if is_held:
                    # By name: closing frees nothing while a forked child has a copy.
                    fcntl.flock(handle, fcntl.LOCK_UN)
        finally:
            os.close(handle)

    @contextmanager
    def _slot(self) -> Iterator[bool]:
        """Holds one of the few places of those that download ahead, if one is free."""
        for number in range(_DOWNLOADS_AHEAD):
            with self.locked(f"ahead-{number}", wait=False) as is_held:
                if is_held:
                    yield True
                    return
        yield False

    def _open_whole(self, name: str, num_bytes: int) -> int | None:
        """A descriptor of a shard that lies there, marked as used; None if it does not."""
        try:
            handle = os.open(self.root / name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _cannot(error, self.root / name) from error
        if os.fstat(handle).st_size != num_bytes:
            os.close(handle)
            return None
        mark_used(handle)
        return handle

    def _reserve(self, name: str, num_bytes: int) -> None:
        """Begins the unfinished file, at its full size, so that others count it."""
        with open(_beside(self.root / name, ".tmp"), "wb") as file:
            file.truncate(num_bytes)

    def _make(self, name: str, num_bytes: int, fill: Fill, keep: Collection[str]) -> int:
        """A descriptor of the shard that `fill` makes. Its lock is held and its room reserved."""
        path = self.root / name
        temporary = _beside(path, ".tmp")
        with explained(self.root):
            try:
                with open(temporary, "r+b", buffering=0) as file:
                    fill(file)
                    os.fsync(file.fileno())
                    # Opened before it can be seen: from now on nobody can take it away.
                    handle = os.open(temporary, os.O_RDONLY)
                publish(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
            with self.locked(""):
                # What several processes needed at the same time may be more than there is room for.
                self._make_room(name, num_bytes, keep, needed=True)
        return handle

    def _make_room(self, name: str, num_bytes: int, keep: Collection[str], *, needed: bool) -> bool:
        """Removes the shards that were used longest ago until another one fits.

        Returns:
            Whether it fits. If it does not and is not needed, nothing is removed.
        """
        shards = self._shards()
        room = self.max_bytes - num_bytes - self._unfinished(except_for=name)
        room -= sum(shard.num_bytes for shard in shards if shard.name != name)
        going = sorted(
            (s for s in shards if s.name != name and (needed or s.name not in keep)),
            key=lambda s: (s.name in keep, s.used),
        )
        if room + sum(shard.num_bytes for shard in going) < 0 and not needed:
            return False
        for shard in going:
            if room >= 0:
                break
            (self.root / shard.name).unlink(missing_ok=True)
            room += shard.num_bytes
        return True

    def _shards(self) -> list[_Kept]:
        found = []
        for path in self.root.glob("*/*/*.tar"):
            with suppress(FileNotFoundError):
                facts = path.stat()
                name = path.relative_to(self.root).as_posix()
                found.append(_Kept(name, facts.st_mtime_ns, facts.st_size))
        return found

    def _unfinished(self, *, except_for: str) -> int:
        """Bytes that are reserved for shards being made; what dead processes left is removed."""
        num_bytes = 0
        for path in self.root.glob("*/*/.*.tar.tmp"):
            name = path.with_name(path.name[1 : -len(".tmp")]).relative_to(self.root).as_posix()
            if name == except_for:
                continue
            with suppress(FileNotFoundError), self.locked(name, wait=False) as is_held:
                if is_held:
                    path.unlink()
                else:
                    num_bytes += path.stat().st_size
        return num_bytes


def mark_used(handle: int) -> None:
    """Says that a shard is in use now."""
    # It may belong to another user, who lets us read it but not that.
    with suppress(PermissionError):
        os.utime(handle)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}{suffix}")


def _lock(handle: int, root: Path, *, wait: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f"files cannot be locked there: {error.strerror}",
            where=root,
            expected="a folder on a disk of this machine",
        ) from error
    return True


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Makes a message of what the disk refuses."""
    try:
        yield
    except OSError as error:
        raise _cannot(error, root) from error


def _cannot(error: OSError, where: Path) -> UserError:
    if no_room(error, where) is not None or error.errno == errno.ENOMEM:
        return UserError(
            f"no room left for shards from elsewhere ({os.strerror(error.errno or 0)})",
            where=where,
            do="free some space, name a folder on a larger disk, or let the cache be smaller; what "
            "is whole is kept",
        )
    return UserError(f"the cache of shards cannot be written: {error.strerror}", where=where)
