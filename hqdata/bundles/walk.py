"""The members of a tar, front to back: hopping from header to header, or as a stream.

Both ways list the same: a member is told only when all of its bytes are there. Of the standard
library's reader neither is, which keeps every header it has seen, trusts sizes, and reads what it
skips. Names are compared, never used as paths.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

BLOCK = 512

MAX_EXTENSION_BYTES = 2**20
"""Largest header that says more of the next member (its long name, its PAX records)."""

MAX_EXTENSIONS = 16
"""Headers of that kind before one member."""

MAX_MEMBERS = 1_000_000
"""An archive of SA-1B has 22,400."""

MAX_MEMBER_BYTES = 2**44

_ZEROS = bytes(BLOCK)


class NoTarError(Exception):
    """From here on the bytes are no tar."""


class TruncatedTarError(NoTarError):
    """The tar ends too early; what was told before is whole."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a tar.

    Attributes:
        name: its path.
        offset: of its first byte in the tar.
        size: bytes.
        refused: why it is left alone, or an empty string.
    """

    name: str
    offset: int
    size: int
    refused: str = ""


class Source(Protocol):
    """Bytes that can only be read on and on."""

    def read(self, num_bytes: int) -> bytes:
        """As many bytes; fewer only at the end."""

    def skip(self, num_bytes: int) -> int:
        """Passes over as many bytes; returns how many there were."""


def walk_file(handle: int, size: int) -> Iterator[Member]:
    """The members of a plain tar on this machine: reads headers, hops over the rest.

    Folders are left out.

    Args:
        handle: the open file.
        size: its bytes.

    Raises:
        NoTarError, TruncatedTarError: see there.
        OSError: it cannot be read.
    """
    yield from walk_stream(Hopping(handle, size), size)


def walk_stream(
    source: Source,
    size: int | None,
    wanted: Callable[[Member], bool] = lambda member: False,
    take: Callable[[Member, bytes], None] = lambda member, data: None,
) -> Iterator[Member]:
    """The members of a tar that can only be read from its front.

    Folders are left out.

    Args:
        source: the tar's bytes.
        size: how many those are, or None where nobody knows.
        wanted: asked at each member's header whether its bytes are to be taken.
        take: is given the bytes of those, just before the member is told.

    Raises:
        NoTarError, TruncatedTarError: see there.
    """
    yield from _members(source, size, wanted, take)


class Hopping:
    """A file as a `Source` that does not read what is skipped.

    Args:
        handle: the open file.
        size: its bytes.

    Attributes:
        num_bytes: bytes that were read.
    """

    def __init__(self, handle: int, size: int) -> None:
        self._handle, self._size, self._at = handle, size, 0
        self.num_bytes = 0

    def read(self, num_bytes: int) -> bytes:
        """As many bytes; fewer only at the end."""
        data = os.pread(self._handle, num_bytes, self._at)
        while 0 < len(data) < num_bytes:
            more = os.pread(self._handle, num_bytes - len(data), self._at + len(data))
            if not more:
                break
            data += more
        self._at += len(data)
        self.num_bytes += len(data)
        return data

    def skip(self, num_bytes: int) -> int:
        """Passes over as many bytes; returns how many there were."""
        there = max(0, min(num_bytes, self._size - self._at))
        self._at += there
        return there


@dataclass(slots=True)
class _Extension:
    """What earlier headers say of the next member."""

    name: str | None = None
    size: int | None = None
    is_sparse: bool = False
    number: int = 0
    common: dict[str, str] = field(default_factory=dict)


def _members(
    source: Source,
    total: int | None,
    wanted: Callable[[Member], bool],
    take: Callable[[Member, bytes], None],
) -> Iterator[Member]:
    at = count = 0
    said = _Extension()
    while True:
        block = source.read(BLOCK)
        at += len(block)
        if len(block) < BLOCK:
            raise TruncatedTarError("it has no end-of-archive mark")
        if block == _ZEROS:
            return
        header = _Header.read(block)
        if header.kind in _EXTENSIONS:
            data = _extension_data(source, header, said)
            at += _padded(header.size)
            _extend(said, header.kind, data)
            continue
        if header.kind == b"S":
            at += _skip_sparse_map(source, block)
        member = _member(header, said, at)
        said = _Extension(common=said.common)
        if member.size > MAX_MEMBER_BYTES:
            raise NoTarError(f"a member of {member.size:,} bytes")
        if total is not None and member.offset + member.size > total:
            raise TruncatedTarError("it is cut short in the middle of a member")
        if not member.refused and member.size and wanted(member):
            data = source.read(member.size)
            if len(data) < member.size:
                raise TruncatedTarError("it is cut short in the middle of a member")
            take(member, data)
        else:
            _skip(source, member.size)
        _skip(source, -member.size % BLOCK)
        at += _padded(member.size)
        if header.kind == b"5":
            continue
        count += 1
        if count > MAX_MEMBERS:
            raise NoTarError(f"it has more than {MAX_MEMBERS:,} members")
        yield member


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    size: int
    kind: bytes

    @classmethod
    def read(cls, block: bytes) -> _Header:
        stored = _number(block[148:156])
        plain = sum(block) - sum(block[148:156]) + 256
        if stored != plain:
            # Some old programs summed signed bytes.
            rest = block[:148] + block[156:]
            if stored != plain - 256 * sum(byte > 127 for byte in rest):
                raise NoTarError("a header's checksum is wrong")
        name = _text(block[:100])
        kind = block[156:157]
        if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
            name = f"{prefix}/{name}"
        if kind == b"\0" and name.endswith("/"):
            kind = b"5"  # a folder, as the oldest tars have them
        # What links, devices and folders say of a size has no bytes behind it.
        size = 0 if kind in (b"1", b"2", b"3", b"4", b"5", b"6") else _number(block[124:136])
        return cls(name, size, kind)


_EXTENSIONS = (b"L", b"K", b"x", b"X", b"g")
_PLAIN = (b"0", b"\0", b"7")
_OCTAL = re.compile(rb"[0-7]*")
_ORDINARY = re.compile(r"[\w.][\w./-]*", re.ASCII)
"""Most names by far; the others are looked at more closely."""


def _number(digits: bytes) -> int:
    """A number of a header: octal digits, or GNU's binary form."""
    if digits[0] & 0x80:
        if digits[0] != 0x80:
            raise NoTarError("a size below zero, or beyond all bounds")
        return int.from_bytes(digits[1:], "big")
    text = digits.split(b"\0", 1)[0].strip()
    if not _OCTAL.fullmatch(text):
        raise NoTarError("a number in a header is none")
    return int(text or b"0", 8)


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return size + -size % BLOCK


def _skip(source: Source, num_bytes: int) -> None:
    if num_bytes and source.skip(num_bytes) < num_bytes:
        raise TruncatedTarError("it is cut short in the middle of a member")


def _extension_data(source: Source, header: _Header, said: _Extension) -> bytes:
    said.number += 1
    if header.size > MAX_EXTENSION_BYTES or said.number > MAX_EXTENSIONS:
        raise NoTarError("a header that goes on and on")
    data = source.read(_padded(header.size))
    if len(data) < _padded(header.size):
        raise TruncatedTarError("it is cut short in the middle of a header")
    return data[: header.size]


def _extend(said: _Extension, kind: bytes, data: bytes) -> None:
    if kind == b"L":
        said.name = _text(data)
        return
    if kind == b"K":
        return  # where a link leads; links are refused
    records = _pax_records(data)
    if kind == b"g":
        said.common |= records
        if len(said.common) > 1_000:
            raise NoTarError("a header that goes on and on")
        return
    _apply(said, records)


def _apply(said: _Extension, records: dict[str, str]) -> None:
    said.name = records.get("path", said.name)
    said.is_sparse = said.is_sparse or any(key.startswith("GNU.sparse.") for key in records)
    if "size" in records:
        if not re.fullmatch(r"[0-9]{1,20}", records["size"], re.ASCII):
            raise NoTarError("a number in a header is none")
        said.size = int(records["size"])


def _pax_records(data: bytes) -> dict[str, str]:
    """`<length> <key>=<value>\\n` one after the other; the length counts all of it."""
    records: dict[str, str] = {}
    at = 0
    while at < len(data) and data[at]:
        space = data.find(b" ", at, at + 12)
        digits = data[at:space] if space > 0 else b""
        if not re.fullmatch(rb"[0-9]{1,10}", digits):
            raise NoTarError("a PAX header without a length")
        end = at + int(digits)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space + 1 or not equals or data[end - 1 : end] != b"\n":
            raise NoTarError("a PAX header whose length is wrong")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at = end
    return records


def _skip_sparse_map(source: Source, block: bytes) -> int:
    """Passes over the further blocks of a sparse member's map; returns their bytes."""
    number = 0
    more = block[482]
    while more:
        number += 1
        block = source.read(BLOCK)
        if len(block) < BLOCK:
            raise TruncatedTarError("it is cut short in the middle of a header")
        if number * BLOCK > MAX_EXTENSION_BYTES:
            raise NoTarError("a header that goes on and on")
        more = block[504]
    return number * BLOCK


def _member(header: _Header, said: _Extension, at: int) -> Member:
    if said.common:
        own, said = said, _Extension()
        _apply(said, own.common)
        said = replace(
            said,
            name=own.name if own.name is not None else said.name,
            size=own.size if own.size is not None else said.size,
            is_sparse=own.is_sparse or said.is_sparse,
        )
    name = header.name if said.name is None else said.name
    is_file = header.kind in _PLAIN
    size = said.size if said.size is not None and (is_file or header.size) else header.size
    return Member(name, at, size, "" if header.kind == b"5" else _refused(name, header, said))


def _refused(name: str, header: _Header, said: _Extension) -> str:
    if header.kind not in _PLAIN or said.is_sparse:
        return "it is a link, a device or sparse, not a plain file"
    if _ORDINARY.fullmatch(name) and ".." not in name:
        return ""
    if (
        name.startswith(("/", "\\"))
        or re.match(r"[A-Za-z]:", name)
        or ".." in re.split(r"[/\\]", name)
        or re.search(r"[\x00-\x1f\x7f]", name)
    ):
        return "its path is absolute, leaves the archive or has control characters"
    return ""
