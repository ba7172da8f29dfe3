"""Reading samples from shards behind a URL, by way of a cache on this machine's disk."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO

from hqdata.errors import DatasetError, UserError
from hqdata.remote.origin import Origin
from hqdata.remote.retry import AlteredError, PassingError, Retry
from hqdata.shards.dataset import Dataset, DatasetInfo, ShardInfo
from training.data.cache import ShardCache, mark_used
from training.data.download import copy
from training.data.members import Members, OpenFiles, SampleBytes
from training.data.order import Rows
from training.data.plan import Course
from training.data.prefetch import Halt, Prefetcher

READING = Retry(max_tries=12)
"""A training outlives four minutes without a network."""

MAX_OPEN = 64
"""Shards that a process keeps open. What is open takes room on the disk even when it is removed."""

_SECONDS_BETWEEN_MARKS = 1.0
"""Time after which a shard in use is marked as such again."""


class _Source:
    """Shards behind a URL and the place where they are kept: everything but who reads which."""

    def __init__(self, origin: Origin, cache: ShardCache, folder: str, info: DatasetInfo) -> None:
        self.origin = origin
        self.cache = cache
        self.sizes = {shard.path: shard.num_bytes for shard in info.shards}
        self._shards = {shard.path: shard for shard in info.shards}
        self._folder = folder

    def open(self, retry: Retry, path: str, keep: Collection[str]) -> int:
        """A descriptor of a shard, downloaded if it is not there."""
        shard = self._shards[path]
        fill = partial(self._download, retry, shard, None)
        names = self._names(keep)
        return self.cache.open(f"{self._folder}/{path}", shard.num_bytes, fill, keep=names)

    def fetch(self, retry: Retry, path: str, keep: Collection[str], halt: Halt) -> bool:
        """Downloads a shard ahead; returns whether it did."""
        shard = self._shards[path]
        fill = partial(self._download, replace(retry, sleep=halt.rest), shard, halt)
        names = self._names(keep)
        return self.cache.fetch(f"{self._folder}/{path}", shard.num_bytes, fill, keep=names)

    def _names(self, paths: Collection[str]) -> set[str]:
        return {f"{self._folder}/{path}" for path in paths}

    def _download(self, retry: Retry, shard: ShardInfo, halt: Halt | None, file: BinaryIO) -> None:
        work = partial(
            copy,
            self.origin,
            shard.path,
            file,
            sha256=shard.sha256,
            max_bytes=shard.num_bytes,
            check=None if halt is None else halt.check,
        )
        try:
            retry.call(work)
        except AlteredError as error:
            raise DatasetError(
                f"this is not the shard that was built: {error.reason}",
                where=self.origin.describe(shard.path),
                do="see that the data set was uploaded whole, and is not being replaced",
            ) from None
        except PassingError as error:
            # Not of the data set: no sample is to be passed over for it.
            raise UserError(
                f"the shard cannot be had: {error.reason}",
                where=self.origin.describe(shard.path),
                do="see that the server can be reached, and resume",
            ) from None


class RemoteShards:
    """Reads samples from shards that are downloaded whole when they are needed.

    All processes of a machine that name the same cache share it. Those that `follow` an order find
    the next shards downloaded when they come to them, as far as there is room.

    Args:
        dataset: the mirror of the data set's manifest.
        origin: the URL.
        cache: where shards are kept.
        folder: name of the data set in there.
        retry: how network faults are met.
        ahead: whether shards are downloaded before they are needed.
    """

    def __init__(
        self,
        dataset: Dataset,
        origin: Origin,
        cache: ShardCache,
        folder: str,
        *,
        retry: Retry = READING,
        ahead: bool = True,
    ) -> None:
        self._source = _Source(origin, cache, folder, dataset.info)
        self._members = Members(dataset)
        self._retry = retry
        self._ahead = ahead
        self._course: Course | None = None
        self._begin_here()

    def _begin_here(self) -> None:
        """What belongs to one process alone."""
        self._pid = os.getpid()
        self._files = OpenFiles(MAX_OPEN)
        self._marked: dict[str, float] = {}
        self._prefetcher: Prefetcher | None = None
        self._let_go: weakref.finalize[[], RemoteShards] | None = None

    def _begin_here_if_forked(self) -> None:
        if self._pid != os.getpid():
            self._files.close()
            self._begin_here()

    def __getstate__(self) -> dict[str, Any]:
        own = {"_pid", "_files", "_marked", "_prefetcher", "_let_go"}
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin_here()

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._members)

    def read(self, row: int) -> SampleBytes:
        """The bytes of a sample.

        Raises:
            DatasetError: the shard is not at its URL, or is other than the manifest says.
            UserError: the server cannot be reached or refuses, or the cache cannot be written.
        """
        self._begin_here_if_forked()
        if self._course is not None:
            self._course.reach(row)
            if self._prefetcher is None and self._ahead:
                self._start_ahead(self._course)
        return self._members.read(row, self._handle, self._describe)

    def follow(self, order: Rows, then: Rows | None = None) -> None:
        """Tells in which order samples will be read from now on; see `ShardReader`.

        Raises:
            UserError: this order needs more shards at once than the cache has room for.
        """
        room = self._source.cache.max_bytes
        course = Course(order, then, self._members, self._source.sizes, room)
        if course.peak_bytes > room:
            raise UserError(
                f"a cache of {room:,} bytes is too small for the shards that are needed at once",
                where=self._source.cache.root,
                expected=f"{course.peak_bytes:,} bytes at least",
                do="give the cache more room",
            )
        self._begin_here_if_forked()
        self._stop_ahead(wait=0.0)
        self._course = course

    def close(self) -> None:
        """Closes the shards and stops downloading; a later `read` takes both up again."""
        self._begin_here_if_forked()
        self._stop_ahead(wait=5.0)
        self._files.close()

    def _start_ahead(self, course: Course) -> None:
        # Nothing in there holds the reader itself: when it goes, the thread goes.
        self._prefetcher = Prefetcher(course.wanted, partial(self._source.fetch, self._retry))
        self._let_go = weakref.finalize(self, self._prefetcher.halt.call)

    def _stop_ahead(self, *, wait: float) -> None:
        if self._prefetcher is not None and self._let_go is not None:
            self._let_go()
            self._prefetcher.join(wait)
        self._prefetcher = self._let_go = None

    def _handle(self, shard: str) -> int:
        handle = self._files.get(shard, self._open)
        now = time.monotonic()
        if now - self._marked.get(shard, now) >= _SECONDS_BETWEEN_MARKS:
            mark_used(handle)
            self._marked[shard] = now
        return handle

    def _open(self, shard: str) -> int:
        self._files.close_deleted()
        keep = self._course.wanted() if self._course is not None else ()
        handle = self._source.open(self._retry, shard, keep)
        self._marked[shard] = time.monotonic()
        return handle

    def _describe(self, shard: str) -> tuple[str, str]:
        return self._source.origin.describe(shard), "see that the data set is whole: hqdata check"
