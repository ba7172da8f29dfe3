"""A folder behind a URL: reading, writing and listing its files with fsspec.

Nothing here tries anything twice; `hqdata.remote.retry` does. Nothing that is raised holds a user
name, a password or the query of a signed URL.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

from hqdata.errors import DatasetError, UserError
from hqdata.remote.connect import HTTP, S3, connect
from hqdata.remote.failures import NotThereError, explain, failures, status_of
from hqdata.remote.failures import redact as redact  # who shows URLs looks for it here
from hqdata.remote.index_pages import walk_pages
from hqdata.remote.retry import PassingError, ShortReadError
from hqdata.remote.stat import Stat as Stat  # what `Origin.stat` gives
from hqdata.remote.stat import stat_of
from hqdata.remote.streams import open_stream

T = TypeVar("T")

MAX_SKIPPED_BYTES = 2**26
"""How much of a file is read past to get at a range of it where a server sends only whole files."""

_UPLOAD = {"chunksize": 2**24, "max_concurrency": 4}
"""Parts that S3 is sent at once. s3fs holds them all in memory: by itself, half a gigabyte."""

_APPEAR_WHOLE = {"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"}
"""Schemes of storages where a file is seen when its upload is complete, and not before."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

_connected: weakref.WeakSet[Origin] = weakref.WeakSet()
"""All that may hold connections, so that a forked child lets go of them."""

_left_to_parents: list[Any] = []
"""Connections of parents. Never to be closed: a child shares the kernel's list of what its parent
waits for, and closing would take them off it."""


def _after_fork() -> None:
    for origin in list(_connected):
        origin.leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)


def is_url(text: str) -> bool:
    """Whether a place is named by a URL (`s3://bucket/folder`) rather than by a path."""
    return _URL.match(text.strip()) is not None


class Origin:
    """The folder behind a URL. Can be pickled; each process makes its own connections.

    Every method raises PassingError (the connection failed; it may go well the next time),
    UserError (access is refused, or nothing of this kind can be done here), and DatasetError
    (there is no such file) where its own description says no other.

    Args:
        url: with its scheme; a query (as signed URLs have) goes along with each file's name.
    """

    def __init__(self, url: str) -> None:
        self._url = url.strip()
        self._scheme = self._url.partition("://")[0].lower()
        self._opened: Any = None
        _connected.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _connected.add(self)

    @property
    def scheme(self) -> str:
        """`s3` of `s3://bucket/folder`."""
        return self._scheme

    def describe(self, name: str = "") -> str:
        """The URL of a file as messages show it."""
        return redact(self._join(name))

    def reference(self, name: str) -> str:
        """The URL of a file as it may be kept on disk: `reader_of` finds the file by it.

        Raises:
            UserError: the URL has a password or a query, which do not belong on disk.
        """
        parts = urlsplit(self._url)
        if parts.password is not None or (self._scheme in HTTP and parts.query):
            raise UserError(
                "the URL holds a password or a signature, which would be written down",
                where=self.describe(),
                expected="a URL without user, password and query",
                do="give credentials as the storage wants them: AWS_PROFILE, gcloud auth, ~/.netrc",
            )
        return self._join(name)

    def chunks(self, name: str, start: int = 0) -> Iterator[bytes]:
        """The bytes of a file, in order, in pieces of some megabytes at most.

        Args:
            name: of the file.
            start: the first byte that is wanted; where the server sends only whole files, what
                comes before is read past.
        """
        stream = None
        try:
            stream = open_stream(self._file_system(), self._scheme, self._join(name), start)
            past = start - stream.begin
            while chunk := stream.read():
                if past >= len(chunk):
                    past -= len(chunk)
                    continue
                yield chunk[past:] if past else chunk
                past = 0
        except failures() as error:
            if start and status_of(error) == 416:
                return  # it ends before
            # Without `from error`: its text may hold the URL and all that is secret in it.
            raise explain(error, self.describe(name)) from None
        finally:
            if stream is not None:
                stream.close()

    def read(self, name: str, max_bytes: int) -> bytes:
        """All bytes of a small file.

        Raises:
            DatasetError: it is larger than `max_bytes`, or there is none.
        """
        data = bytearray()
        for chunk in self.chunks(name):
            data += chunk
            if len(data) > max_bytes:
                raise DatasetError(
                    f"{name} has more than {max_bytes:,} bytes, more than any should have",
                    where=self.describe(name),
                )
        return bytes(data)

    def range(self, name: str, offset: int, num_bytes: int) -> bytes:
        """Exactly so many bytes of a file, in one request.

        Raises:
            ShortReadError: fewer came. A PassingError that is not worth many tries.
        """
        data = self.part(name, offset, num_bytes)
        if len(data) != num_bytes:
            raise ShortReadError(f"{len(data):,} bytes came where {num_bytes:,} were asked for")
        return data

    def part(self, name: str, offset: int, num_bytes: int) -> bytes:
        """As `range`, but fewer bytes where the file ends before."""
        if num_bytes <= 0:
            return b""
        if self._scheme in HTTP:
            return self._http_part(name, offset, num_bytes)
        try:
            data: bytes = self._file_system().cat_file(
                self._join(name), start=offset, end=offset + num_bytes
            )
        except failures() as error:
            if status_of(error) == 416:
                return b""  # it ends before
            raise explain(error, self.describe(name)) from None
        return data[:num_bytes]

    def _http_part(self, name: str, offset: int, num_bytes: int) -> bytes:
        data = bytearray()
        end = offset + num_bytes
        stream = None
        try:
            stream = open_stream(self._file_system(), self._scheme, self._join(name), offset, end)
            past = offset - stream.begin
            if past > MAX_SKIPPED_BYTES:
                raise UserError(
                    "the server does not send parts of files",
                    where=self.describe(name),
                    expected="a server that answers requests for ranges",
                    do="download the file, or serve it with another server",
                )
            while len(data) < past + num_bytes and (chunk := stream.read()):
                data += chunk
        except failures() as error:
            if status_of(error) != 416:
                raise explain(error, self.describe(name)) from None
        finally:
            if stream is not None:
                past = offset - stream.begin
                stream.close()
        return bytes(data[past : past + num_bytes]) if data else b""

    def stat(self, name: str) -> Stat | None:
        """Size and token of a file, None if there is none."""
        try:
            info = self._file_system().info(self._join(name))
        except failures() as error:
            explained = explain(error, self.describe(name))
            if isinstance(explained, NotThereError):
                return None
            raise explained from None
        return stat_of(info) if info.get("type", "file") == "file" else None

    def walk(self) -> Iterator[tuple[str, Stat]]:
        """Every file below, by its path from here, sorted.

        What cannot be named by a relative path (keys of an object storage with `..` or `//` in
        them, or control characters) is left out.

        Raises:
            UserError: the storage cannot list (plain http without pages that do).
        """
        try:
            if self._scheme in HTTP:
                found = list(walk_pages(self._file_system(), self._url, self.stat))
            else:
                file_system = self._file_system()
                root = str(file_system._strip_protocol(self._url)).rstrip("/")
                found = [
                    (path[len(root) + 1 :], stat_of(info))
                    for path, info in file_system.find(root, detail=True).items()
                    if info.get("type") == "file" and path.startswith(f"{root}/")
                ]
        except failures() as error:
            raise explain(error, self.describe()) from None
        yield from sorted((pair for pair in found if _is_plain(pair[0])), key=lambda pair: pair[0])

    def write(self, name: str, data: bytes, *, only_new: bool = False) -> bool:
        """Writes a small file, which is there in full or not at all.

        Args:
            name: of the file.
            data: what it shall hold.
            only_new: leave a file alone that is there already. Of several processes that write
                at once only one succeeds where the storage has conditional writes: S3 and most of
                its kin, Google's and Azure's do; disks behind a URL do not.

        Returns:
            False where `only_new` kept it from being written. A try whose answer was lost may
            have written it all the same, even where a library below tried again by itself: who
            has to know compares what is there.
        """
        return self._guarded(name, lambda: self._write(name, data, only_new=only_new))

    def _write(self, name: str, data: bytes, *, only_new: bool) -> bool:
        file_system, path = self._file_system(), self._join(name)
        self.check_writable()
        if self._scheme not in _APPEAR_WHOLE:
            return self._write_by_rename(file_system, path, data, only_new=only_new)
        if self._scheme == "memory" and only_new and file_system.exists(path):
            return False
        try:
            if only_new and self._scheme != "memory":
                file_system.pipe_file(path, data, mode="create")
            else:
                file_system.pipe_file(path, data)
        except FileExistsError:
            return False
        except failures() as error:
            if only_new and status_of(error) == 412:
                return False
            raise
        return True

    def _write_by_rename(self, file_system: Any, path: str, data: bytes, *, only_new: bool) -> bool:
        if only_new and file_system.exists(path):
            return False
        file_system.makedirs(path.rpartition("/")[0], exist_ok=True)
        temporary = _temporary(path)
        file_system.pipe_file(temporary, data)
        file_system.mv(temporary, path)
        return True

    def put(self, name: str, path: Path) -> Stat:
        """Uploads a file of this machine, which appears only when it is whole.

        Large files go up in parts where the storage has such. What it then says of itself.

        Raises:
            PassingError: also where the storage then has another size than was sent.
        """
        self.check_writable()
        num_bytes = path.stat().st_size
        self._guarded(name, lambda: self._put(name, path))
        found = self.stat(name)
        if found is None or found.size != num_bytes:
            size = "none" if found is None else f"{found.size:,}"
            raise PassingError(f"{num_bytes:,} bytes were sent and {size} are there")
        return found

    def _put(self, name: str, path: Path) -> None:
        file_system, target = self._file_system(), self._join(name)
        if self._scheme in S3:
            file_system.put_file(str(path), target, **_UPLOAD)
            return
        if self._scheme in _APPEAR_WHOLE:
            file_system.put_file(str(path), target)
            return
        file_system.makedirs(target.rpartition("/")[0], exist_ok=True)
        temporary = _temporary(target)
        file_system.put_file(str(path), temporary)
        file_system.mv(temporary, target)

    def remove(self, name: str) -> None:
        """Removes a file; fine if there is none."""
        self.check_writable()
        try:
            self._file_system().rm_file(self._join(name))
        except failures() as error:
            explained = explain(error, self.describe(name))
            if not isinstance(explained, NotThereError):
                raise explained from None

    def _guarded(self, name: str, work: Callable[[], T]) -> T:
        try:
            return work()
        except failures() as error:
            raise explain(error, self.describe(name)) from None

    def check_writable(self) -> None:
        """Whether files can be written to URLs of this kind; asks nobody.

        Raises:
            UserError: they cannot.
        """
        if self._scheme in HTTP or self._scheme == "hf":
            raise UserError(
                f"nothing can be written to URLs of the kind {self._scheme!r}",
                where=self.describe(),
                expected="a folder, or a URL that begins with s3://, gs:// or az://",
                do="build to a folder and `hqdata push` it" if self._scheme == "hf" else None,
            )

    def _join(self, name: str) -> str:
        if not name:
            return self._url
        base, mark, query = self._url, "", ""
        if self._scheme in HTTP:
            base, mark, query = self._url.partition("?")
            name = quote(name, safe="/:@!$&'()*+,;=~")
        if base.endswith("://"):
            return f"{base}{name}"  # of a disk; the name begins with a slash
        return f"{base.rstrip('/')}/{name}{mark}{query}"

    def _file_system(self) -> Any:
        if self._opened is None:
            self._opened = connect(self._url)
        return self._opened

    def leave_to_parent(self) -> None:
        """Forgets the connections of the process that this one was forked from."""
        if self._opened is not None:
            _left_to_parents.append(self._opened)
            self._opened = None


def reader_of(url: str) -> tuple[Origin, str]:
    """The origin and the name by which to read the file of a URL that `Origin.reference` gave.

    Origins are kept: one a process and bucket or server.
    """
    parts = urlsplit(url)
    root = f"{parts.scheme}://{parts.netloc}"
    name = url[len(root) :]
    if parts.netloc:
        name = name.lstrip("/")
    return _origin_of(root), unquote(name) if parts.scheme in HTTP else name


@lru_cache(maxsize=64)
def _origin_of(root: str) -> Origin:
    return Origin(root)


def _temporary(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.{os.urandom(8).hex()}.tmp"


def _is_plain(name: str) -> bool:
    """Whether a name is a relative path that means itself."""
    parts = name.split("/")
    return all(part not in ("", ".", "..") for part in parts) and name.isprintable()
