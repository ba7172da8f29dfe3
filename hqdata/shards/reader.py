"""Reading a shard from front to back, trusting nothing: every header, every byte of padding is
looked at.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hqdata.shards.writer import BLOCK, header

MAX_MEMBER_BYTES = 2**30


class ShardError(Exception):
    """The shard's bytes are not those of a shard; `position` says where, in bytes."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} (at byte {position:,})")
        self.position = position


@dataclass(frozen=True, slots=True)
class RawMember:
    """One file of a shard.

    Attributes:
        key: name up to the first dot, as WebDataset cuts it.
        ext: name after the first dot.
        offset: of its first byte in the shard.
        data: its bytes.
    """

    key: str
    ext: str
    offset: int
    data: bytes


class ShardReader:
    """Iterates over the members of a shard and digests its bytes on the way.

    After the iteration `sha256` and `num_bytes` are those of the whole file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_bytes = 0
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Digest in hexadecimal of all bytes read so far."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[RawMember]:
        """Yields every member.

        Raises:
            ShardError: damage in the structure of the tar.
            OSError: the file cannot be read.
        """
        with open(self.path, "rb", buffering=2**20) as file:

            def take(number: int) -> bytes:
                data = file.read(number)
                self._digest.update(data)
                self.num_bytes += len(data)
                if len(data) < number:
                    raise ShardError(
                        f"the shard ends where {number - len(data)} more bytes should follow",
                        self.num_bytes,
                    )
                return data

            while any(block := take(BLOCK)):
                yield self._member(block, take)
            if any(take(BLOCK)):
                raise ShardError("the end of the shard is not zero", self.num_bytes - BLOCK)
            rest = 0
            while tail := file.read(2**20):
                self._digest.update(tail)
                rest += len(tail)
            self.num_bytes += rest
            if rest:
                raise ShardError(f"{rest} bytes follow the end of the shard", self.num_bytes - rest)

    def _member(self, block: bytes, take: Callable[[int], bytes]) -> RawMember:
        begin = self.num_bytes - BLOCK
        try:
            info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise ShardError(f"no valid tar header: {error}", begin) from error
        if not 0 <= info.size <= MAX_MEMBER_BYTES or header(info.name, info.size) != block:
            raise ShardError(f"the header of {info.name!r} is not one that a build writes", begin)
        data = take(info.size)
        if any(take(-info.size % BLOCK)):
            raise ShardError(f"the padding after {info.name!r} is not zero", self.num_bytes)
        key, _, ext = info.name.partition(".")
        return RawMember(key, ext, begin + BLOCK, data)
