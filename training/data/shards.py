"""Reading the bytes of samples, from the shards of a folder or from those behind a URL."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hqdata.shards.dataset import Dataset
from training.data.members import Members, OpenFiles, SampleBytes
from training.data.order import Rows

__all__ = [
    "DEFAULT_CACHE_BYTES",
    "LocalShards",
    "OpenedShards",
    "SampleBytes",
    "ShardReader",
    "default_cache_dir",
    "is_url",
    "open_shards",
]

DEFAULT_CACHE_BYTES = 50 * 2**30
"""Room for shards behind a URL."""

MAX_OPEN = 128
"""Shards that a process keeps open; of HQSeg-44K's there are about as many."""


class ShardReader(Protocol):
    """Reads samples by the number of their row. Can be pickled; one thread at a time may use it."""

    def read(self, row: int) -> SampleBytes:
        """The bytes of a sample.

        Raises:
            DatasetError: they cannot be had; names the shard.
        """

    def follow(self, order: Rows, then: Rows | None = None) -> None:
        """Tells in which order samples will be read from now on, so that shards can be at hand.

        Each process that reads tells its own reader, at the start of an epoch and where it goes on
        in the middle of one. It may leave rows out that others read.

        Args:
            order: int64 (n,), rows that are to be read, by all processes together.
            then: the same of the next epoch, where it is known.

        Raises:
            UserError: this order needs more shards at once than there is room for.
        """

    def close(self) -> None:
        """Lets go of files and threads; a later `read` takes them up again."""


@dataclass(frozen=True)
class OpenedShards:
    """A data set, and what its samples are read with.

    Attributes:
        dataset: the manifest; `dataset.root` is the folder, or that of the cache.
        reader: of its samples.
        is_remote: whether the shards lie behind a URL and should be read in
            `training.data.order.sequential_order`.
    """

    dataset: Dataset
    reader: ShardReader
    is_remote: bool


class LocalShards:
    """Reads samples of a folder: one `pread` for the image and one for the mask.

    Args:
        dataset: the data set.
        max_open: shards that are kept open at once in each process.
    """

    def __init__(self, dataset: Dataset, *, max_open: int = MAX_OPEN) -> None:
        self._root = dataset.root
        self._members = Members(dataset)
        self._max_open = max_open
        self._files = OpenFiles(max_open)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": OpenFiles(self._max_open)}

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._members)

    def read(self, row: int) -> SampleBytes:
        """The bytes of a sample.

        Raises:
            DatasetError: the shard is missing, cannot be read, or is shorter than the manifest
                says.
        """
        return self._members.read(row, self._handle, self._describe)

    def follow(self, order: Rows, then: Rows | None = None) -> None:
        """Does nothing: all shards are at hand."""

    def close(self) -> None:
        """Closes the shards; a later `read` opens them again."""
        self._files.close()

    def _handle(self, shard: str) -> int:
        return self._files.get(shard, self._open)

    def _open(self, shard: str) -> int:
        return os.open(self._root / shard, os.O_RDONLY)

    def _describe(self, shard: str) -> tuple[str, str]:
        return str(self._root / shard), f"see what else is damaged: hqdata check {self._root}"


def is_url(location: str | Path) -> bool:
    """Whether a location names a scheme, as `https://…` or `s3://…` do."""
    return (
        isinstance(location, str) and re.match(r"[A-Za-z][A-Za-z0-9+.:-]*://", location) is not None
    )


def default_cache_dir() -> Path:
    """`hqdata` in the user's folder for caches."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hqdata"


def open_shards(
    location: str | Path,
    *,
    cache_dir: Path | None = None,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
) -> OpenedShards:
    """Opens a data set in a folder or behind a URL.

    Args:
        location: a folder, or a URL of any scheme that fsspec knows; what a scheme needs to be told
            (keys, end points) is taken from fsspec's own configuration and environment.
        cache_dir: where the shards behind URLs are kept while they are needed, shared by all
            processes of the machine; `default_cache_dir()` if None.
        cache_bytes: how much of them is kept there.

    Raises:
        DatasetError: there is no finished data set, or it is damaged.
        UserError: the URL cannot be used as it is, or the cache is too small.
    """
    if not is_url(location):
        dataset = Dataset.open(location)
        return OpenedShards(dataset, LocalShards(dataset), False)
    from training.data.mirror import open_remote

    dataset, reader = open_remote(
        str(location), cache_dir=cache_dir or default_cache_dir(), cache_bytes=cache_bytes
    )
    return OpenedShards(dataset, reader, True)
