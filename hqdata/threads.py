"""Some work at once in threads of this process: for what waits on a network or a disk.

`hqdata.parallel` is for what computes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from hqdata.progress import Reporter

T = TypeVar("T")
R = TypeVar("R")

Tick = Callable[[int], None]
"""Is told how many more units are done; fewer than none where some have to be done again."""

ShouldStop = Callable[[], bool]

SECONDS_TO_STOP = 2.0
"""How long a thread may take to notice that it should stop before nobody waits for it any more."""


class StoppedError(Exception):
    """The work was asked to stop, and did."""


def in_threads(
    work: Callable[[T, Tick, ShouldStop], R],
    items: Sequence[T],
    *,
    workers: int,
    reporter: Reporter,
) -> list[R]:
    """Does some work for each item; returns the results in the order of the items.

    The threads never outlive the process, and once asked to stop they do nothing that could be
    seen: whoever presses Ctrl-C does not wait for a network that gives no answer.

    Args:
        work: is given an item, `Tick` and `ShouldStop`; may raise StoppedError when asked to stop.
        items: what to do it for.
        workers: how many at once, at least 1.
        reporter: is told the ticks; its stage has begun.

    Raises:
        Exception: the first that `work` raised, when all threads have stopped.
    """
    results: dict[int, R] = {}
    errors: list[BaseException] = []
    waiting = list(reversed(list(enumerate(items))))
    lock, stop = threading.Lock(), threading.Event()
    done = 0

    def tick(number: int) -> None:
        nonlocal done
        with lock:
            done += number

    def run() -> None:
        while not stop.is_set():
            with lock:
                if not waiting:
                    return
                number, item = waiting.pop()
            try:
                results[number] = work(item, tick, stop.is_set)
            except BaseException as error:
                if not isinstance(error, StoppedError):
                    errors.append(error)
                stop.set()

    threads = [
        threading.Thread(target=run, daemon=True) for _ in range(max(1, min(workers, len(items))))
    ]
    for thread in threads:
        thread.start()
    try:
        while alive := [thread for thread in threads if thread.is_alive()]:
            if stop.is_set():
                break
            alive[0].join(0.05)
            reporter.update(done)
    finally:
        stop.set()
        until = time.monotonic() + SECONDS_TO_STOP
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
    if errors:
        raise errors[0]
    reporter.update(done)
    return [results[number] for number in range(len(items))]
