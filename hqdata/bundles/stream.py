"""Bytes of an archive from its front to its end: of a file, of a URL, of what gzip holds."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator

from hqdata.archives import ALWAYS_EXPANDED, MAX_EXPANSION
from hqdata.bundles.find import stamp_of
from hqdata.bundles.task import Task
from hqdata.bundles.walk import NoTarError, TruncatedTarError
from hqdata.errors import InterruptedBuildError
from hqdata.places import PATIENCE
from hqdata.remote.failures import NotThereError
from hqdata.remote.origin import reader_of
from hqdata.remote.retry import PassingError, ShortReadError

GZIP_MAGIC = b"\x1f\x8b"

_READ_BYTES = 2**19
"""What stays in a core's cache between being read and being looked at."""

_INFLATE_BYTES = 2**16
"""Compressed bytes at a time. What zlib leaves over it copies, so they are few."""


class Chunks:
    """Chunks of bytes as a `hqdata.bundles.walk.Source`; what is skipped is not copied.

    Args:
        chunks: of any sizes.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0

    def read(self, num_bytes: int) -> bytes:
        """As many bytes; fewer only at the end."""
        end = self._at + num_bytes
        if end <= len(self._chunk):
            data = self._chunk[self._at : end]
            self._at = end
            return data
        # No more memory is taken than bytes come, whatever a header claims.
        parts = []
        while num_bytes and self._more():
            part = self._chunk[self._at : self._at + num_bytes]
            parts.append(part)
            self._at += len(part)
            num_bytes -= len(part)
        return b"".join(parts)

    def skip(self, num_bytes: int) -> int:
        """Passes over as many bytes; returns how many there were."""
        left = num_bytes
        while left and self._more():
            step = min(left, len(self._chunk) - self._at)
            self._at += step
            left -= step
        return num_bytes - left

    def peek(self) -> bytes:
        """The first two bytes; only before anything is read."""
        while len(self._chunk) < 2:
            following = next(self._chunks, b"")
            if not following:
                break
            self._chunk += following
        return self._chunk[:2]

    def rest(self) -> Iterator[bytes]:
        """All chunks from here on."""
        while self._more():
            chunk = self._chunk[self._at :] if self._at else self._chunk
            self._at = len(self._chunk)
            yield chunk

    def _more(self) -> bool:
        while self._at >= len(self._chunk):
            self._chunk, self._at = next(self._chunks, b""), 0
            if not self._chunk:
                return False
        return True


def local_chunks(task: Task, handle: int) -> Iterator[bytes]:
    """The bytes of an open file of this machine.

    Raises:
        InterruptedBuildError: it cannot be read on.
    """
    at = 0
    while True:
        task.check()
        try:
            chunk = os.pread(handle, _READ_BYTES, at)
        except OSError as error:
            raise task.unreadable(f"after {at:,} bytes: {error.strerror}") from error
        if not chunk:
            return
        at += len(chunk)
        task.num_bytes_read += len(chunk)
        yield chunk
        task.advance(at)


def remote_chunks(task: Task) -> Iterator[bytes]:
    """The bytes of the task's archive behind a URL; goes on where a connection broke.

    Raises:
        InterruptedBuildError: no byte comes for as many tries as are made, or the archive has
            become shorter.
    """
    retry = PATIENCE
    origin, name = reader_of(task.bundle.containers[0])
    at = tries = 0
    while at < task.bundle.size:
        try:
            for chunk in origin.chunks(name, at):
                at += len(chunk)
                tries = 0
                task.num_bytes_read += len(chunk)
                yield chunk
                task.advance(at)
                task.check()
            if at < task.bundle.size:
                raise ShortReadError(f"only {at:,} of {task.bundle.size:,} bytes came")
        except NotThereError as error:  # noqa: PERF203  # this is what the loop is for
            raise task.unreadable(error.what) from None
        except PassingError as error:
            tries += 1
            if tries >= min(retry.max_tries, error.max_tries or retry.max_tries):
                if isinstance(error, ShortReadError):
                    check_remote(task)  # it may be a shorter one by now
                raise _unreachable(error, origin.describe(name)) from None
            _pause(task, retry.pause(tries, error.wait))


def check_remote(task: Task) -> None:
    """Compares the task's archive behind a URL with what was found.

    Raises:
        InterruptedBuildError: it is another one, or the storage cannot be asked.
    """
    origin, name = reader_of(task.bundle.containers[0])
    try:
        found = PATIENCE.call(lambda: origin.stat(name))
    except PassingError as error:
        raise _unreachable(error, origin.describe(name)) from None
    if found is None or f"{found.size}:{found.token}" != task.bundle.stamp:
        raise task.changed()


def check_local(task: Task, handle: int) -> None:
    """Compares the task's archive on this machine with what was found.

    Raises:
        InterruptedBuildError: it is another one.
    """
    if stamp_of(os.fstat(handle)) != task.bundle.stamp:
        raise task.changed()


def _unreachable(error: PassingError, where: str) -> InterruptedBuildError:
    return InterruptedBuildError(
        f"the storage cannot be reached: {error.reason}",
        where=where,
        do="see that it can be, and run the same command again",
    )


def _pause(task: Task, seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        task.check()
        time.sleep(min(left, 0.2))


def inflated(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """What gzip holds, which bombs cannot make endless.

    Args:
        chunks: the compressed bytes; several gzip files one after the other count as one.
        size: how many those are.

    Raises:
        TruncatedTarError: they end too early.
        NoTarError: they are damaged, or grow beyond all bounds.
    """
    limit = max(ALWAYS_EXPANDED, size * MAX_EXPANSION)
    total = 0
    inflate = zlib.decompressobj(31)
    is_begun = False
    for chunk in chunks:
        for begin in range(0, len(chunk), _INFLATE_BYTES):
            data = chunk[begin : begin + _INFLATE_BYTES]
            while data:
                if inflate.eof:
                    if not data.startswith(GZIP_MAGIC[:1]):
                        return  # padding, as tapes and gzip itself allow it
                    inflate, is_begun = zlib.decompressobj(31), False
                try:
                    out = inflate.decompress(data, _READ_BYTES)
                except zlib.error as error:
                    raise NoTarError(f"its compression is damaged: {error}") from error
                is_begun = True
                total += len(out)
                if total > limit:
                    raise NoTarError(
                        f"it grows to more than {MAX_EXPANSION} times its size: no archive of "
                        "pictures"
                    )
                data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
                if out:
                    yield out
    while is_begun and not inflate.eof and (out := inflate.decompress(b"", _READ_BYTES)):
        total += len(out)
        yield out
    if not inflate.eof:
        raise TruncatedTarError("its gzip stream ends too early")
