"""The bytes of one file behind a URL, one after the other, from one request where that is known."""

from __future__ import annotations

from typing import Any, Protocol

from hqdata.remote.connect import HTTP, S3

CHUNK_BYTES = 2**23
"""Bytes that are asked for at once."""


class Stream(Protocol):
    """Bytes to be read in order.

    Attributes:
        begin: which byte of the file comes first.
    """

    begin: int

    def read(self) -> bytes:
        """Some bytes; none at the end."""
        ...

    def close(self) -> None:
        """Lets go of the connection."""
        ...


def open_stream(
    file_system: Any, scheme: str, path: str, start: int = 0, end: int | None = None
) -> Stream:
    """The bytes of a file from about `start` on; a server may begin earlier and end later."""
    if scheme in S3:
        return _S3Stream(file_system, path, start)
    if scheme in HTTP:
        return _HttpStream(file_system, path, start, end)
    return _FileStream(file_system, path, start, streaming=scheme == "hf" and not start)


class _FileStream:
    """A file of fsspec, which asks for one range after the other."""

    def __init__(self, file_system: Any, path: str, start: int, *, streaming: bool) -> None:
        options: dict[str, Any] = {"block_size": CHUNK_BYTES, "cache_type": "none"}
        if streaming:
            options = {"block_size": 0}
        self._file = file_system.open(path, "rb", **options)
        self.begin = start
        if start:
            self._file.seek(start)

    def read(self) -> bytes:
        chunk: bytes = self._file.read(CHUNK_BYTES)
        return chunk

    def close(self) -> None:
        self._file.close()


class _HttpStream:
    """The answer of a web server, which need not know of ranges."""

    def __init__(self, file_system: Any, path: str, start: int, end: int | None) -> None:
        # Any size: else it asks for it, in a request of its own.
        options: dict[str, Any] = {"block_size": 0, "size": 1}
        if start or end is not None:
            # Of compressed bytes a range would be another one.
            wanted = f"bytes={start}-" + ("" if end is None else str(end - 1))
            options["headers"] = {"Range": wanted, "Accept-Encoding": "identity"}
        self._file = file_system.open(path, "rb", **options)
        self.begin = start if self._file.r.status == 206 else 0

    def read(self) -> bytes:
        chunk: bytes = self._file.read(CHUNK_BYTES)
        return chunk

    def close(self) -> None:
        self._file.close()


class _S3Stream:
    """An object in one request: all bytes are of the same version of it."""

    def __init__(self, file_system: Any, path: str, start: int) -> None:
        bucket, key, _ = file_system.split_path(path)
        if not key:
            raise IsADirectoryError("is a bucket, not a file")
        wanted = {"Range": f"bytes={start}-"} if start else {}
        self.begin = start
        self._file_system = file_system
        self._body = file_system.call_s3("get_object", Bucket=bucket, Key=key, **wanted)["Body"]

    def read(self) -> bytes:
        from fsspec.asyn import sync

        data: bytes = sync(self._file_system.loop, _fill, self._body)
        return data

    def close(self) -> None:
        from fsspec.asyn import sync

        sync(self._file_system.loop, _close, self._body)


async def _fill(body: Any) -> bytes:
    """A chunk: aiohttp gives what has come so far, often no more than some kilobytes."""
    parts, room = [], CHUNK_BYTES
    while room > 0 and (part := await body.read(room)):
        parts.append(part)
        room -= len(part)
    return b"".join(parts)


async def _close(body: Any) -> None:
    body.close()
