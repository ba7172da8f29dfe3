"""A data root as one tree of files: folders, .zip, .tar and .tar.gz, read without unpacking.

`hqdata.scan` yields `Folder`s that list their files as `FileRef`s: everything another process needs
to read the bytes of one file, and nothing it has to look up again. An archive counts as a folder of
its name without the suffix. Names inside archives are only ever compared, never used as paths to
write to.
"""

from __future__ import annotations

import os
import re
import zlib
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from struct import unpack_from
from typing import Literal

from hqdata.remote.failures import NotThereError, redact
from hqdata.remote.origin import is_url, reader_of
from hqdata.remote.patience import outlived

MAX_FILE_BYTES = 512 * 2**20
"""Largest single file that is read into memory; no picture of the six sources comes near it."""

_ZIP_HEADER_BYTES = 1024
"""Bytes that are read with a member of a zip behind a URL: its header, of unknown length."""

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")

_DROPPINGS = {"thumbs.db", "desktop.ini", "__macosx", "lost+found"}


class DamagedFileError(Exception):
    """The bytes of one file cannot be had: vanished, cut short, or failing their checksum.

    Args:
        message: what is wrong, as the rest of a sentence about the file.
        passing: it may be had another time: a disk or a storage did not give it. What bytes that
            were read are worth will not change.
    """

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


@dataclass(frozen=True, slots=True)
class FileRef:
    """Where the bytes of one file lie.

    Attributes:
        container: absolute path or URL of the file itself, or of the archive that holds it.
        how: a whole file, or a stored or deflated range of an archive. Files of a .tar.gz are only
            listed until it is spooled (`hqdata.archives.spool_archive`); its lists of names are
            held in `inline`.
        offset: first byte in the container; of a zip member, of its local header.
        num_bytes: bytes in the container.
        size: bytes when read.
        crc: CRC-32 of the bytes when read, -1 if the container has none.
        stamp: changes when the bytes do, as far as can be told without reading them.
        inline: the bytes themselves, of small files that are needed before the others.
    """

    container: str
    how: Literal["file", "range", "zip-stored", "zip-deflated", "listed", "inline"]
    offset: int
    num_bytes: int
    size: int
    crc: int
    stamp: str
    inline: bytes = b""


@dataclass(slots=True)
class Folder:
    """A folder of the tree that holds files.

    Attributes:
        parts: path below the data root, one name a level, archives under their file names.
        is_archive: for each part, whether it is an archive.
        files: its files by name.
    """

    parts: tuple[str, ...]
    is_archive: tuple[bool, ...]
    files: dict[str, FileRef] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """POSIX path below the data root; `.` for the root itself."""
        return "/".join(self.parts) or "."

    @property
    def archive(self) -> str:
        """Path below the data root of the archive it lies in, or an empty string."""
        for i, is_archive in enumerate(self.is_archive):
            if is_archive:
                return "/".join(self.parts[: i + 1])
        return ""


@dataclass(frozen=True, slots=True)
class BadMember:
    """An archive member that is left alone, and why."""

    archive: str
    member: str
    reason: str


@dataclass(slots=True)
class Tree:
    """All files below a data root.

    Attributes:
        root: the data root, a folder or a URL.
        folders: every folder that holds files, in a fixed order.
        bad_members: archive members that are refused.
        unreadable: archives that cannot be listed, with the reason.
    """

    root: Path | str
    folders: list[Folder] = field(default_factory=list)
    bad_members: list[BadMember] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


def archive_stem(name: str) -> str | None:
    """The name without its archive suffix, or None if it has none."""
    for suffix in ARCHIVE_SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return None


def suffix_of(name: str) -> str:
    """The last suffix with its dot, in lower case; `a.jpg.PNG` has `.png`."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def stem_of(name: str) -> str:
    """The name without its last suffix; `a.jpg.PNG` has `a.jpg`."""
    dot = name.rfind(".")
    return name[:dot] if dot > 0 else name


def printable(name: str) -> str:
    """The name as valid Unicode: bytes that are no UTF-8 are spelt out, as in `caf%E9.jpg`."""
    return re.sub(r"[\ud800-\udfff]", lambda found: f"%{ord(found[0]) & 0xFF:02X}", name)


def is_dropping(name: str) -> bool:
    """Hidden files and what operating systems leave behind (.DS_Store, Thumbs.db, __MACOSX, …)."""
    return name.startswith(".") or name.lower() in _DROPPINGS


class FileReader:
    """Reads the bytes of `FileRef`s; keeps the most recent archives open. One per process.

    Use as a context manager. Not safe to share between threads.

    Args:
        max_open: archives of this machine that are kept open.
    """

    def __init__(self, max_open: int = 16) -> None:
        self._open: OrderedDict[str, int] = OrderedDict()
        self._max_open = max_open

    def __enter__(self) -> FileReader:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def read(self, ref: FileRef) -> bytes:
        """The file's bytes, all of them, checksum compared where the container has one.

        Raises:
            DamagedFileError: they cannot be had, are fewer than listed, or fail the checksum.
            InterruptedBuildError: the network fails for longer than it is worth to wait.
            UserError: a server refuses access.
        """
        if ref.size > MAX_FILE_BYTES:
            raise DamagedFileError(f"{ref.size} bytes are more than the limit of {MAX_FILE_BYTES}")
        if ref.num_bytes > MAX_FILE_BYTES:
            # What an archive claims is memory that os.pread would ask for.
            raise DamagedFileError(
                f"{ref.num_bytes} bytes in the archive are more than the limit of {MAX_FILE_BYTES}"
            )
        try:
            if is_url(ref.container) and ref.how not in ("inline", "listed"):
                data = self._read_url(ref)
            elif ref.how == "file":
                with open(ref.container, "rb", buffering=0) as file:
                    data = _pread(file.fileno(), ref.size + 1, 0)
            else:
                data = self._read_range(ref)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DamagedFileError(f"cannot be read: {reason}", passing=True) from error
        if len(data) != ref.size:
            # Whoever listed it saw the rest.
            told = f"has {len(data)} bytes where {ref.size} are listed"
            raise DamagedFileError(told, passing=True)
        if ref.crc >= 0 and zlib.crc32(data) != ref.crc:
            raise DamagedFileError("its bytes do not fit the archive's CRC-32")
        return data

    def _read_range(self, ref: FileRef) -> bytes:
        if ref.how == "inline":
            return ref.inline
        if ref.how == "listed":
            raise DamagedFileError("lies in a .tar.gz that was listed but not decompressed")
        handle = self._handle(ref.container)
        if ref.how == "range":
            return _pread(handle, ref.num_bytes, ref.offset)
        header = _pread(handle, 30, ref.offset)
        begin = ref.offset + _zip_data_begin(header)
        return _unzipped(ref, _pread(handle, ref.num_bytes, begin))

    def _read_url(self, ref: FileRef) -> bytes:
        try:
            return outlived(lambda: _from_url(ref), redact(ref.container))
        except NotThereError:
            told = "is no longer where it was listed"
            raise DamagedFileError(told, passing=True) from None

    def _handle(self, container: str) -> int:
        if container in self._open:
            self._open.move_to_end(container)
        else:
            if len(self._open) >= self._max_open:
                os.close(self._open.popitem(last=False)[1])
            self._open[container] = os.open(container, os.O_RDONLY)
        return self._open[container]


def _from_url(ref: FileRef) -> bytes:
    origin, name = reader_of(ref.container)
    if ref.how == "file":
        return origin.part(name, 0, ref.size + 1)  # one more, to see that it ends there
    if ref.how == "range":
        return origin.range(name, ref.offset, ref.num_bytes)
    data = origin.part(name, ref.offset, ref.num_bytes + _ZIP_HEADER_BYTES)
    begin = _zip_data_begin(data)
    if len(data) >= begin + ref.num_bytes:
        return _unzipped(ref, data[begin : begin + ref.num_bytes])
    return _unzipped(ref, origin.part(name, ref.offset + begin, ref.num_bytes))


def _zip_data_begin(header: bytes) -> int:
    """Where the bytes of a zip member begin after its local header."""
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise DamagedFileError("the zip has no member where its directory says")
    name_length, extra_length = unpack_from("<HH", header, 26)
    return 30 + int(name_length) + int(extra_length)


def _unzipped(ref: FileRef, data: bytes) -> bytes:
    if ref.how == "zip-stored":
        return data
    try:
        # Bounded by the listed size: a deflate bomb stops there.
        return zlib.decompressobj(-15).decompress(data, ref.size + 1)
    except zlib.error as error:
        raise DamagedFileError(f"cannot be decompressed: {error}") from error


def _pread(handle: int, num_bytes: int, offset: int) -> bytes:
    """`os.pread` until all is there or the file ends."""
    chunks = []
    while num_bytes > 0:
        chunk = os.pread(handle, num_bytes, offset)
        if not chunk:
            break
        chunks.append(chunk)
        num_bytes -= len(chunk)
        offset += len(chunk)
    return b"".join(chunks) if len(chunks) != 1 else chunks[0]
