"""Files as Xet clients cut them up: chunks, xorbs of chunks, and shards that tell of xorbs."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

RECORD = 48
BOOKEND = b"\xff" * 32
WITH_VERIFICATION, WITH_METADATA = 1 << 31, 1 << 30


class DamagedError(ValueError):
    """Bytes that are no xorb or shard."""


def hash_text(raw: bytes) -> str:
    """The hexadecimal name of 32 bytes, of which each 8 are a little-endian number."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))


@dataclass(frozen=True, slots=True)
class Term:
    """Some chunks of a xorb, and how many bytes they make."""

    xorb: str
    num_bytes: int
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What a file is made of; `sha256` is None where the client did not say."""

    hash: str
    sha256: str | None
    terms: tuple[Term, ...]

    @property
    def size(self) -> int:
        return sum(term.num_bytes for term in self.terms)


@dataclass(frozen=True, slots=True)
class Shard:
    """Files, and the records of new xorbs by the xorbs' names.

    `tag` is what every shard begins with.
    """

    tag: bytes
    files: tuple[FileInfo, ...]
    xorbs: dict[str, bytes]


class _Records:
    """A shard, record by record."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = RECORD  # after the header

    def next(self) -> bytes:
        record = self.data[self.at : self.at + RECORD]
        if len(record) < RECORD:
            raise DamagedError("the shard ends early")
        self.at += RECORD
        return record


def read_shard(data: bytes) -> Shard:
    """Reads an uploaded shard; raises DamagedError."""
    if len(data) < RECORD or struct.unpack_from("<Q", data, 32)[0] != 2:
        raise DamagedError("no shard of version 2")
    records = _Records(data)
    files = []
    while not (record := records.next()).startswith(BOOKEND):
        files.append(_file(record, records))
    xorbs = {}
    while not (record := records.next()).startswith(BOOKEND):
        (count,) = struct.unpack_from("<I", record, 36)
        block = b"".join([record, *(records.next() for _ in range(count))])
        xorbs[hash_text(record[:32])] = block
    return Shard(data[:32], tuple(files), xorbs)


def _file(head: bytes, records: _Records) -> FileInfo:
    flags, count = struct.unpack_from("<II", head, 32)
    terms = []
    for _ in range(count):
        record = records.next()
        _, num_bytes, first, end = struct.unpack_from("<4I", record, 32)
        terms.append(Term(hash_text(record[:32]), num_bytes, first, end))
    if flags & WITH_VERIFICATION:
        for _ in range(count):
            records.next()
    sha256 = hash_text(records.next()[:32]) if flags & WITH_METADATA else None
    return FileInfo(hash_text(head[:32]), sha256, tuple(terms))


def chunk_hashes(xorb: bytes) -> list[str]:
    """The names of a xorb's chunks, by its records in a shard."""
    return [hash_text(xorb[at : at + 32]) for at in range(RECORD, len(xorb), RECORD)]


def write_shard(tag: bytes, xorbs: Iterable[bytes], now: int) -> bytes:
    """A shard that tells of xorbs and no files, good for a day."""
    end = BOOKEND + bytes(RECORD - len(BOOKEND))
    body = b"".join([tag, struct.pack("<QQ", 2, 200), end, *xorbs, end])
    at = len(body)
    tables = struct.pack("<6Q", at, 0, at, 0, at, 0)  # none: clients read the records themselves
    footer = struct.pack("<QQQ", 1, RECORD, 2 * RECORD) + tables + bytes(32)
    return body + footer + struct.pack("<QQ", now, now + 86_400) + bytes(72) + struct.pack("<Q", at)


def read_chunks(path: Path) -> Iterator[bytes]:
    """The chunks of a xorb on disk, unpacked, in order; raises DamagedError."""
    with open(path, "rb") as file:
        while head := file.read(8):
            if head.startswith(b"XETBLOB"):
                return  # what follows repeats lengths and hashes
            if len(head) < 8 or head[0] != 0:
                raise DamagedError("no header of a chunk")
            packed = int.from_bytes(head[1:4], "little")
            size = int.from_bytes(head[5:8], "little")
            data = file.read(packed)
            if len(data) < packed:
                raise DamagedError("the xorb ends early")
            yield _unpacked(data, head[4], size)


def _unpacked(data: bytes, scheme: int, size: int) -> bytes:
    if scheme == 0:
        found = data
    elif scheme in (1, 2):
        found = pa.Codec("lz4").decompress(data, size, asbytes=True)
        if scheme == 2:
            found = _ungrouped(found)
    else:
        raise DamagedError(f"unknown compression {scheme}")
    if len(found) != size:
        raise DamagedError(f"a chunk of {len(found)} bytes where {size} were said")
    return found


def _ungrouped(data: bytes) -> bytes:
    """Undoes the sorting of bytes by their place in groups of four."""
    found = bytearray(len(data))
    at = 0
    for place in range(4):
        count = len(range(place, len(data), 4))
        found[place::4] = data[at : at + count]
        at += count
    return bytes(found)
