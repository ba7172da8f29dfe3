"""A file behind a URL as a file object that can be read anywhere."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import TYPE_CHECKING, BinaryIO

from hqdata.errors import UserError
from hqdata.remote.failures import NotThereError
from hqdata.remote.origin import Origin, Stat, reader_of
from hqdata.remote.patience import outlived

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 2**20
"""Bytes of a request, the more of which are wasted, the further apart lies what is wanted."""

_MAX_BLOCKS = 4


def stat_url(url: str) -> Stat | None:
    """What the storage says of the file of a URL that `Origin.reference` gave, None: not there.

    Raises:
        InterruptedBuildError: the network fails for too long.
        UserError: access is refused.
    """
    origin, name = reader_of(url)
    return outlived(lambda: origin.stat(name), origin.describe(name))


def open_url(url: str, stat: Stat, *, block_bytes: int = BLOCK_BYTES) -> BinaryIO:
    """Such a file, to be read in any order; see `RangedFile` for what goes wrong."""
    origin, name = reader_of(url)
    return io.BufferedReader(RangedFile(origin, name, stat, block_bytes), 65_536)


class _EndsBeforeError(Exception):
    """The file has fewer bytes than the storage said."""


class RangedFile(io.RawIOBase):
    """Reads a file in blocks, each by a request of its own, the most recent of which are kept.

    Faults of the network are outlived; what they do after that is an InterruptedBuildError, so
    that no reader of archives takes it for damage.

    Args:
        origin: the folder that the file lies in.
        name: its name.
        stat: what the storage says of it.
        block_bytes: bytes of a request.
    """

    def __init__(
        self, origin: Origin, name: str, stat: Stat, block_bytes: int = BLOCK_BYTES
    ) -> None:
        super().__init__()
        self._origin = origin
        self._file = name
        self._size = stat.size
        self._block_bytes = block_bytes
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._at = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Offset of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to an offset, also behind the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("an offset below zero")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Reads up to the end of the block at hand."""
        room = memoryview(buffer).cast("B")
        if not room or self._at >= self._size:
            return 0
        number, begin = divmod(self._at, self._block_bytes)
        part = self._block(number)[begin : begin + len(room)]
        room[: len(part)] = part
        self._at += len(part)
        return len(part)

    def _range(self, begin: int, num_bytes: int) -> bytes:
        data = self._origin.part(self._file, begin, num_bytes)
        if len(data) != num_bytes:
            raise _EndsBeforeError
        return data

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        begin = number * self._block_bytes
        num_bytes = min(self._block_bytes, self._size - begin)
        try:
            data = outlived(
                lambda: self._range(begin, num_bytes),
                self._origin.describe(self._file),
            )
        except (NotThereError, _EndsBeforeError):
            raise UserError(
                "the file was removed or replaced while it was being read",
                where=self._origin.describe(self._file),
                do="run this again when nobody writes there",
            ) from None
        while len(self._blocks) >= _MAX_BLOCKS:
            self._blocks.popitem(last=False)
        self._blocks[number] = data
        return data
