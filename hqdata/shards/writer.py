"""Writing one shard: a USTAR file whose bytes depend on its samples and on nothing else."""

from __future__ import annotations

import hashlib
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from hqdata.files import publish, temporary_name
from hqdata.sample import Sample

BLOCK = 512
MASK_EXT = "mask.png"
RECORD_EXT = "json"


@dataclass(frozen=True, slots=True)
class Member:
    """Where the bytes of one member lie in its shard: offset of the first, and how many."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the three members of a sample lie."""

    image: Member
    mask: Member
    record: Member


_PADDING = b"\0" * BLOCK
_TEMPLATE = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
_MODE = slice(100, 108)
_SIZE = slice(124, 136)
_CHECKSUM = slice(148, 156)


def header(name: str, size: int) -> bytes:
    """The 512-byte USTAR header of a plain file: mode 0644, owner 0, time 0.

    Raises:
        ValueError: the name does not fit into 100 ASCII bytes, or the size into 8 GiB.
    """
    encoded = name.encode("ascii")
    if not 0 < len(encoded) <= 100 or not 0 <= size < 8**11:
        raise ValueError(f"no USTAR header for {name!r} of {size} bytes")
    block = bytearray(_TEMPLATE)
    block[: len(encoded)] = encoded
    block[_MODE] = b"0000644\0"
    block[_SIZE] = b"%011o\0" % size
    block[_CHECKSUM] = b" " * 8  # the sum is taken with blanks in its own place
    block[_CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)


class ShardWriter:
    """Writes samples to a temporary file and gives it its name when all are there.

    Use as a context manager; leaving it by an exception removes the temporary file. `close`
    publishes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_samples = 0
        self._temporary = temporary_name(path)
        self._digest = hashlib.sha256()
        self._position = 0
        self._file = open(self._temporary, "wb", buffering=2**20)  # noqa: SIM115  # closed by __exit__

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._file.closed:
            try:
                self._file.close()
            finally:
                self._temporary.unlink(missing_ok=True)
        else:
            self._temporary.unlink(missing_ok=True)

    def add(self, sample: Sample) -> Placed:
        """Appends a sample's members: image, mask, record."""
        placed = Placed(
            self._member(f"{sample.key}.{sample.image_ext}", sample.image),
            self._member(f"{sample.key}.{MASK_EXT}", sample.mask),
            self._member(f"{sample.key}.{RECORD_EXT}", sample.record.to_bytes()),
        )
        self.num_samples += 1
        return placed

    def close(self) -> tuple[str, int]:
        """Ends the tar, flushes it to the disk and publishes it. Returns (sha256, number of
        bytes).
        """
        self._write(b"\0" * (2 * BLOCK))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        publish(self._temporary, self.path)
        return self._digest.hexdigest(), self._position

    def _member(self, name: str, data: bytes) -> Member:
        self._write(header(name, len(data)))
        member = Member(self._position, len(data))
        self._write(data)
        self._write(_PADDING[: -len(data) % BLOCK])
        return member

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._position += len(data)
