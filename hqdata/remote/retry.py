"""Trying again what fails for a moment, and only that."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

T = TypeVar("T")


class PassingError(Exception):
    """Something that may go well the next time.

    Args:
        reason: what happened, without secrets.
        wait: seconds that the other side asked to be left alone for.
        max_tries: how often at most it is worth to be tried in all; None: as `Retry` says.
    """

    def __init__(self, reason: str, *, wait: float = 0.0, max_tries: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait
        self.max_tries = max_tries


class AlteredError(PassingError):
    """Other bytes came than should have. Once more may help; often would not."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, max_tries=2)


class ShortReadError(PassingError):
    """Fewer bytes came than were asked for: the connection broke, or the file has no more."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, max_tries=3)


def system_jitter() -> float:
    """A number in [0, 1) from the operating system: other in each process, seeded by nobody."""
    return int.from_bytes(os.urandom(4), "little") / 2**32


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and after which time something is tried again.

    The pauses double from `first_wait` to `longest_wait`, less up to half of each by chance, so
    that many processes do not come back all at once; longer if the other side asks for it.

    Attributes:
        max_tries: tries in all.
        first_wait, longest_wait: seconds.
        longest_asked: seconds that are waited at most where the other side asks for more.
        sleep: waits some seconds.
        jitter: gives a number in [0, 1).
    """

    max_tries: int = 7
    first_wait: float = 1.0
    longest_wait: float = 30.0
    longest_asked: float = 300.0
    sleep: Callable[[float], object] = time.sleep
    jitter: Callable[[], float] = system_jitter

    def call(self, work: Callable[[], T]) -> T:
        """What `work` returns.

        Raises:
            PassingError: the last one, when all tries were in vain.
        """
        tries = 0
        while True:
            try:
                return work()
            except PassingError as error:  # noqa: PERF203  # this is what the loop is for
                tries += 1
                if tries >= min(self.max_tries, error.max_tries or self.max_tries):
                    raise
                self.sleep(self.pause(tries, error.wait))

    def pause(self, tries: int, asked: float = 0.0) -> float:
        """Seconds before the next try.

        Args:
            tries: tries that failed so far, at least 1.
            asked: seconds that the other side asked for.
        """
        longest = min(self.longest_wait, self.first_wait * 2.0 ** min(tries - 1, 60))
        return max(longest * (1 - self.jitter() / 2), min(asked, self.longest_asked))


def retry_after(value: str | None, now: Callable[[], float] = time.time) -> float:
    """Seconds that a `Retry-After` header asks for: a number or a date; 0 if it says nothing."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value)) if value.strip().isdecimal() else _until(value, now)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _until(date: str, now: Callable[[], float]) -> float:
    return max(0.0, parsedate_to_datetime(date).timestamp() - now())
