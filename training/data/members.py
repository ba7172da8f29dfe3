"""Where the bytes of each sample lie: the few columns of `samples.parquet` that reading needs."""

from __future__ import annotations

import os
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hqdata.errors import DatasetError
from hqdata.shards.dataset import Dataset
from hqdata.shards.names import SAMPLES_FILE


@dataclass(frozen=True, slots=True)
class SampleBytes:
    """A sample as it stands in its shard, not decoded.

    Attributes:
        key: of the sample.
        shard: path below the data set's folder.
        image: the file of the image.
        image_ext: what kind of file that is, `jpg` or `png`.
        mask: the PNG of the mask.
    """

    key: str
    shard: str
    image: bytes
    image_ext: str
    mask: bytes


_LARGE = 2**26
"""Bytes of a member from which on its size is not just believed."""

_PLACE = np.dtype(
    [
        ("image_offset", "<i8"),
        ("image_size", "<i8"),
        ("mask_offset", "<i8"),
        ("mask_size", "<i8"),
        ("key_end", "<i8"),
        ("key_size", "<i4"),
        ("shard", "<i4"),
        ("image_ext", "<i4"),
    ]
)
"""What is to be known of a sample; `key_end` is where its key ends among all keys."""

_UNPACK = struct.Struct("<qqqqqiii")
"""The same for one row: many times faster than indexing arrays with a number."""


class Members:
    """Where image and mask of each sample lie.

    A few pieces of memory, not objects row by row: worker processes share them with their parent
    without a copy, and they are quick to pickle.
    """

    def __init__(self, dataset: Dataset) -> None:
        """Takes them from a data set's table.

        Raises:
            DatasetError: an offset or a size is below zero.
        """
        table = dataset.samples
        places = np.zeros(len(dataset), _PLACE)
        for name in ("image_offset", "image_size", "mask_offset", "mask_size"):
            places[name] = table[name].to_numpy()
            if len(places) and places[name].min() < 0:
                raise DatasetError(
                    f"{SAMPLES_FILE} has a value of {name} below zero",
                    where=dataset.root / SAMPLES_FILE,
                    do=f"see what else is damaged: hqdata check {dataset.root}",
                )
        keys = [key.encode() for key in table["key"].to_pylist()]
        places["key_size"] = [len(key) for key in keys]
        places["key_end"] = np.cumsum(places["key_size"], dtype=np.int64)
        self.shards, places["shard"] = _numbered(table["shard"].to_pylist())
        self._kinds, places["image_ext"] = _numbered(table["image_ext"].to_pylist())
        self._keys = b"".join(keys)
        self._places = places.tobytes()

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._places) // _UNPACK.size

    def shard_numbers(self) -> NDArray[np.int32]:
        """int32 (n,): which of `shards` each sample is in."""
        return np.asarray(np.frombuffer(self._places, _PLACE)["shard"], np.int32)

    def shard_of(self, row: int) -> str:
        """Path of a sample's shard below the data set's folder."""
        return self.shards[self._place(row)[6]]

    def key_of(self, row: int) -> str:
        """Key of a sample."""
        end, size = self._place(row)[4:6]
        return self._keys[end - size : end].decode()

    def read(
        self, row: int, open_shard: Callable[[str], int], describe: Callable[[str], tuple[str, str]]
    ) -> SampleBytes:
        """Reads a sample from its shard.

        Args:
            row: number of the sample.
            open_shard: gives the descriptor of a shard.
            describe: gives what messages call a shard, and what they recommend.

        Raises:
            DatasetError: the shard cannot be opened or read, or is shorter than the manifest says.
        """
        image_offset, image_size, mask_offset, mask_size, key_end, key_size, number, kind = (
            self._place(row)
        )
        shard = self.shards[number]
        key = self._keys[key_end - key_size : key_end].decode()
        try:
            handle = open_shard(shard)
        except OSError as error:
            where, do = describe(shard)
            what = f"cannot open the shard of {key!r}: {error.strerror}"
            raise DatasetError(what, where=where, do=do) from error
        try:
            image = _read_at(handle, image_size, image_offset)
            mask = _read_at(handle, mask_size, mask_offset)
        except OSError as error:
            where, do = describe(shard)
            what = f"cannot read {key!r} in its shard: {error.strerror}"
            raise DatasetError(what, where=where, do=do) from error
        if len(image) != image_size or len(mask) != mask_size:
            where, do = describe(shard)
            member = "image" if len(image) != image_size else "mask"
            what = f"the shard ends before the {member} of {key!r}"
            raise DatasetError(what, where=where, do=do)
        return SampleBytes(key, shard, image, self._kinds[kind], mask)

    def _place(self, row: int) -> tuple[int, int, int, int, int, int, int, int]:
        return _UNPACK.unpack_from(self._places, row * _UNPACK.size)


def _numbered(strings: list[str]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """The different strings in order of appearance, and for each one its number among them."""
    numbers: dict[str, int] = {}
    coded = [numbers.setdefault(string, len(numbers)) for string in strings]
    return tuple(numbers), np.array(coded, np.int32)


def _read_at(handle: int, num_bytes: int, offset: int) -> bytes:
    """The bytes of a range, fewer where the file ends before.

    What a damaged manifest claims is memory that `os.pread` would ask for: large sizes are held
    against that of the file first.
    """
    if num_bytes > _LARGE:
        num_bytes = min(num_bytes, max(0, os.fstat(handle).st_size - offset))
    data = os.pread(handle, num_bytes, offset)
    while data and len(data) < num_bytes:
        more = os.pread(handle, num_bytes - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


class OpenFiles:
    """Descriptors of the files that were read last, by name.

    A copy in a forked process reads through descriptors of its own: `os.pread` moves no position
    that they would share. Not for several threads at once.
    """

    def __init__(self, max_open: int) -> None:
        self._open: OrderedDict[str, int] = OrderedDict()
        self._max_open = max_open

    def get(self, name: str, open_it: Callable[[str], int]) -> int:
        """The descriptor of a file, opened by `open_it` if it is not open."""
        handle = self._open.get(name)
        if handle is not None:
            self._open.move_to_end(name)
            return handle
        while len(self._open) >= self._max_open:
            os.close(self._open.popitem(last=False)[1])
        handle = self._open[name] = open_it(name)
        return handle

    def close_deleted(self) -> None:
        """Closes files that have no name any more, so that the disk gets its room back."""
        for name, handle in list(self._open.items()):
            if os.fstat(handle).st_nlink == 0:
                os.close(self._open.pop(name))

    def close(self) -> None:
        """Closes them all; they are opened again when they are asked for."""
        while self._open:
            os.close(self._open.popitem()[1])
