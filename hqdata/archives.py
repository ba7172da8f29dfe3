"""Listing .zip, .tar and .tar.gz archives into a `hqdata.storage.Tree`, trusting none of their
names.

A member is refused, and reported, when its path is absolute or leaves the archive, when it is a
link or a device, encrypted, compressed by a method we do not read, or when its path is listed
twice.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, BinaryIO, cast

from hqdata.errors import HqdataError, InterruptedBuildError
from hqdata.remote.files import open_url, stat_url
from hqdata.remote.origin import Stat, is_url, reader_of
from hqdata.storage import BadMember, FileRef, Folder, Tree, is_dropping, printable

MAX_MEMBERS = 4_000_000
"""More members than this and the archive is refused: the listing alone would take gigabytes."""

MAX_EXPANSION = 64
"""A .tar.gz that grows by more than this is refused: pictures hardly compress, bombs do."""

ALWAYS_EXPANDED = 2**30
"""Bytes that any .tar.gz may grow to, however small it is."""

MAX_INLINE_BYTES = 2**20
"""Text files of a .tar.gz up to this size are kept from the listing: its lists of names."""


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    ref: FileRef | None
    refused: str = ""


class _UnreadableArchiveError(Exception):
    """The archive as a whole cannot be listed."""


_STREAM_BYTES = 2**23
"""Bytes that are asked for at once of an archive behind a URL that is read front to back."""


@dataclass(frozen=True, slots=True)
class _Archive:
    """An archive of this machine or behind a URL.

    Attributes:
        container: its absolute path or its URL.
        name: of the file.
        size: in bytes.
        stamp: changes when the bytes do.
    """

    container: str
    name: str
    size: int
    stamp: str

    @staticmethod
    def at(where: Path | str) -> _Archive:
        """Raises OSError if it is not there."""
        if isinstance(where, str) and is_url(where):
            stat = stat_url(where)
            if stat is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            name = reader_of(where)[1].rpartition("/")[2]
            return _Archive(where, name, stat.size, f"{stat.size}:{stat.token}")
        path = Path(where)
        info = path.stat()
        stamp = f"{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}"
        return _Archive(str(path.absolute()), path.name, info.st_size, stamp)

    def open(self, *, front_to_back: bool = False) -> BinaryIO:
        if not is_url(self.container):
            return open(self.container, "rb")
        stat = Stat(self.size, self.stamp)
        if front_to_back:
            return open_url(self.container, stat, block_bytes=_STREAM_BYTES)
        return open_url(self.container, stat)


def list_archive(tree: Tree, parts: tuple[str, ...], path: Path | str) -> None:
    """Adds the members of the archive `path`, which lies in folder `parts`, to the tree.

    Args:
        tree: receives folders, refused members, or the archive's name if it cannot be listed.
        parts: the folder below the data root that the archive lies in.
        path: the archive, or its URL.

    Raises:
        InterruptedBuildError: the network fails for too long.
        UserError: a server refuses access.
    """
    name = reader_of(path)[1] if isinstance(path, str) else path.name
    at_archive = (*parts, printable(name.rpartition("/")[2]))
    label = "/".join(at_archive)
    try:
        members = list(_bounded(_members(path)))
    except _UnreadableArchiveError as error:
        tree.unreadable[label] = str(error)
        return
    folders: dict[tuple[str, ...], Folder] = {}
    twice: set[tuple[str, ...]] = set()
    for member in members:
        name = printable(member.name)
        if member.ref is None:
            tree.bad_members.append(BadMember(label, name, member.refused))
            continue
        inside = _safe_parts(name)
        if inside is None:
            reason = "its path is absolute, leaves the archive or has control characters"
            tree.bad_members.append(BadMember(label, name, reason))
            continue
        if not inside or any(is_dropping(part) for part in inside):
            continue
        where = (*at_archive, *inside[:-1])
        if where not in folders:
            flags = (False,) * len(parts) + (True,) + (False,) * (len(inside) - 1)
            folders[where] = Folder(where, flags)
        files = folders[where].files
        if inside[-1] in files or inside in twice:
            # Which of the two was meant nobody can tell, so neither is taken.
            files.pop(inside[-1], None)
            twice.add(inside)
            tree.bad_members.append(BadMember(label, name, "its path is listed twice"))
            continue
        files[inside[-1]] = member.ref
    tree.folders.extend(folder for folder in folders.values() if folder.files)


def _bounded(members: Iterator[_Member]) -> Iterator[_Member]:
    for number, member in enumerate(members):
        if number >= MAX_MEMBERS:
            raise _UnreadableArchiveError(f"it has more than {MAX_MEMBERS:,} members")
        yield member


def _members(path: Path | str) -> Iterator[_Member]:
    try:
        archive = _Archive.at(path)
        with archive.open() as file:
            magic = file.read(4)
    except OSError as error:
        raise _UnreadableArchiveError(f"cannot be read: {error.strerror}") from error
    if magic in (b"PK\x03\x04", b"PK\x05\x06"):  # a tar's first name may begin with PK
        return _zip_members(archive)
    if magic[:2] == b"\x1f\x8b":
        return _gzip_members(archive)
    if archive.name.lower().endswith(".zip"):
        raise _UnreadableArchiveError("it is no zip file, whatever its name says")
    return _tar_members(archive)


def _safe_parts(name: str) -> tuple[str, ...] | None:
    """The member's path as parts, or None if nobody should trust it."""
    name = name.replace("\\", "/")
    if name.startswith("/") or re.match(r"^[A-Za-z]:", name) or re.search(r"[\x00-\x1f\x7f]", name):
        return None
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    return None if ".." in parts else parts


def _zip_members(archive: _Archive) -> Iterator[_Member]:
    try:
        with archive.open() as file, zipfile.ZipFile(file) as opened:
            infos = opened.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        reason = f"it is no complete zip file ({error}); was its download cut short?"
        raise _UnreadableArchiveError(reason) from error
    how = {zipfile.ZIP_STORED: "zip-stored", zipfile.ZIP_DEFLATED: "zip-deflated"}
    for info in infos:
        mode = info.external_attr >> 16
        if info.is_dir():
            continue
        if stat.S_ISLNK(mode) or (stat.S_IFMT(mode) and not stat.S_ISREG(mode)):
            yield _Member(info.filename, None, "it is a link or a device, not a file")
        elif info.flag_bits & 0x1:
            yield _Member(info.filename, None, "it is encrypted")
        elif info.compress_type not in how:
            method = f"its compression (method {info.compress_type}) is neither store nor deflate"
            yield _Member(info.filename, None, method)
        else:
            yield _Member(
                info.filename,
                FileRef(
                    container=archive.container,
                    how=how[info.compress_type],  # type: ignore[arg-type]  # a closed dict above
                    offset=info.header_offset,
                    num_bytes=info.compress_size,
                    size=info.file_size,
                    crc=info.CRC,
                    stamp=f"{info.file_size}:{info.CRC:08x}",
                ),
            )


_TAR_ERRORS = (tarfile.TarError, ValueError, OverflowError, RecursionError, MemoryError)
"""What the standard library raises for headers that lie about their size or never end."""


def _tar_members(archive: _Archive) -> Iterator[_Member]:
    """Members of a plain tar."""
    try:
        with archive.open() as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.size < 0:
                    raise tarfile.ReadError("a size below zero")  # would be listed for ever
                if member.isdir():
                    continue
                yield _tar_member(member, archive)
                if member.isreg() and member.offset_data + member.size > archive.size:
                    raise _UnreadableArchiveError("it is cut short in the middle of a member")
            end = tar.offset
    except _TAR_ERRORS as error:
        reason = f"it is no complete tar file ({error}); was its download cut short?"
        raise _UnreadableArchiveError(reason) from error
    except OSError as error:
        raise _UnreadableArchiveError(f"cannot be read: {error.strerror}") from error
    with archive.open() as file:
        # tarfile takes a tar that was cut at a member's end for whole; the end marker tells.
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != b"\0" * tarfile.BLOCKSIZE:
            raise _UnreadableArchiveError("it has no end-of-archive mark; was it cut short?")


def _tar_member(member: tarfile.TarInfo, archive: _Archive) -> _Member:
    if not member.isreg() or member.issparse():
        return _Member(member.name, None, "it is a link, a device or sparse, not a plain file")
    return _Member(
        member.name,
        FileRef(
            container=archive.container,
            how="range",
            offset=member.offset_data,
            num_bytes=member.size,
            size=member.size,
            crc=-1,
            stamp=f"{archive.stamp}:{member.offset_data}:{member.size}",
        ),
    )


class _Inflated:
    """A .tar.gz as a stream of the tar's bytes, which bombs cannot make endless."""

    def __init__(self, archive: _Archive) -> None:
        self._raw = archive.open(front_to_back=True)
        self._file = gzip.GzipFile(fileobj=self._raw, mode="rb")
        self._limit = max(ALWAYS_EXPANDED, archive.size * MAX_EXPANSION)
        self._tail = b""
        self.num_bytes = 0

    def __enter__(self) -> _Inflated:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._raw.close()

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self.num_bytes += len(chunk)
        if self.num_bytes > self._limit:
            raise _UnreadableArchiveError(
                f"it grows to more than {MAX_EXPANSION} times its size: no archive of pictures"
            )
        self._tail = (self._tail + chunk)[-65_536:]
        return chunk

    def block_at(self, offset: int) -> bytes:
        """The 512 bytes at an offset that lies just behind."""
        begin = offset - (self.num_bytes - len(self._tail))
        return self._tail[begin : begin + tarfile.BLOCKSIZE] if begin >= 0 else b""


def _gzip_members(archive: _Archive) -> Iterator[_Member]:
    """Members of a .tar.gz, read front to back.

    Only lists of names are kept; the pictures can be read once `spool_archive` has decompressed it.
    """
    try:
        with _Inflated(archive) as stream:
            with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|") as tar:
                for member in tar:
                    if member.size < 0:
                        raise tarfile.ReadError("a size below zero")  # would be listed for ever
                    if member.isdir():
                        continue
                    listed = _tar_member(member, archive)
                    yield _as_listed(listed, tar, member)
                end = tar.offset
            whole = stream.block_at(end) == b"\0" * tarfile.BLOCKSIZE
            while stream.read(2**20):
                pass  # the checksum of the whole stands at its end
    except (*_TAR_ERRORS, EOFError, zlib.error, OSError) as error:
        reason = f"it is no complete .tar.gz ({error}); was its download cut short?"
        raise _UnreadableArchiveError(reason) from error
    if not whole:
        raise _UnreadableArchiveError("it has no end-of-archive mark; was it cut short?")


def _as_listed(listed: _Member, tar: tarfile.TarFile, member: tarfile.TarInfo) -> _Member:
    if listed.ref is None:
        return listed
    if listed.name.lower().endswith(".txt") and member.size <= MAX_INLINE_BYTES:
        file = tar.extractfile(member)
        data = b"" if file is None else file.read()
        return replace(listed, ref=replace(listed.ref, how="inline", inline=data))
    return replace(listed, ref=replace(listed.ref, how="listed"))


def spool_archive(path: Path | str, spool: Path) -> Path:
    """Decompresses a .tar.gz into the folder `spool`, for reading in any order; returns the tar.

    Args:
        path: the archive, or its URL, which is downloaded on the way.
        spool: the folder.

    Raises:
        InterruptedBuildError: it cannot be decompressed, for lack of room or because it changed.
    """
    spool.mkdir(parents=True, exist_ok=True)
    target = spool / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.tar"
    try:
        with _Inflated(_Archive.at(path)) as source, open(target, "wb") as sink:
            while chunk := source.read(4 * 2**20):
                sink.write(chunk)
    except HqdataError:
        target.unlink(missing_ok=True)
        raise
    except (_UnreadableArchiveError, EOFError, zlib.error, OSError) as error:
        target.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        name = str(path).rpartition("/")[2]
        raise InterruptedBuildError(
            f"cannot decompress {name}: {reason}",
            where=target,
            expected="room for the decompressed archive beside the output while the build runs",
            do=f"free some space, or unpack {name} in the data root, and run this again",
        ) from error
    return target


def remove_spool(spool: Path) -> None:
    """Deletes what `spool_archive` decompressed into `spool`."""
    shutil.rmtree(spool, ignore_errors=True)
