"""Having shards at hand before they are needed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection
from contextlib import suppress

from hqdata.errors import HqdataError


class StoppedError(Exception):
    """A download was called off."""


class Halt:
    """Calls off what a thread does."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._pid = os.getpid()

    def call(self) -> None:
        """Ends it, soon."""
        # In a forked child there is no such thread, and its lock may be held forever.
        if self._pid == os.getpid():
            self._event.set()

    def check(self) -> None:
        """Raises `StoppedError` if it was called off."""
        if self._event.is_set():
            raise StoppedError

    def rest(self, seconds: float) -> None:
        """Waits, and raises `StoppedError` as soon as it is called off."""
        self._event.wait(seconds)
        self.check()


class Prefetcher:
    """A thread that fetches what is wanted and not there, one shard after the other.

    A thread is enough: it waits for the network, and hashing and writing large pieces let others
    run meanwhile. Each process that reads has one; which of them fetches is settled by the cache's
    locks, and how many at once by its places.

    Args:
        wanted: gives the names of what should be at hand now, the most urgent first.
        fetch: fetches one of them beside the others, and says whether it did.
        pause: seconds between two looks when there is nothing to do.
    """

    def __init__(
        self,
        wanted: Callable[[], Collection[str]],
        fetch: Callable[[str, Collection[str], Halt], bool],
        *,
        pause: float = 0.5,
    ) -> None:
        self._wanted = wanted
        self._fetch = fetch
        self._pause = pause
        self.halt = Halt()
        self._thread = threading.Thread(target=self._run, name="shards-ahead", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Waits until it has ended, at most some seconds."""
        self._thread.join(seconds)

    def _run(self) -> None:
        # Who needs a shard that cannot be had meets the same failure and tells it.
        with suppress(HqdataError, StoppedError):
            while True:
                names = self._wanted()
                if not any(self._fetch(name, names, self.halt) for name in names):
                    self.halt.rest(self._pause)
                self.halt.check()
