"""Where shard tasks run: in this process, or in a pool of processes on this machine.

Tasks are independent, so an engine needs to know nothing about them but their cost. Workers die
with their parent, however it dies.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Protocol, TypeVar

from hqdata.errors import InterruptedBuildError
from hqdata.progress import Reporter

T = TypeVar("T", contravariant=True)
R = TypeVar("R", covariant=True)

POLL_SECONDS = 0.2


class Work(Protocol[T, R]):
    """A picklable function of one task. It calls `tick(n)` for n finished units and obeys
    `should_stop`.
    """

    def __call__(
        self, task: T, *, tick: Callable[[int], None], should_stop: Callable[[], bool]
    ) -> R:
        """Does one task."""


class _Shared:
    """What a worker process was given at its start."""

    counter: Synchronized[int]
    stop: Event


def _start_worker(counter: Synchronized[int], stop: Event) -> None:
    import cv2

    cv2.setNumThreads(1)  # one process a core is the unit of parallelism here
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    _Shared.counter, _Shared.stop = counter, stop
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _tick(number: int) -> None:
    with _Shared.counter.get_lock():
        _Shared.counter.value += number


def _in_worker(work: Work[T, R], task: T) -> R:
    return work(task, tick=_tick, should_stop=_Shared.stop.is_set)


def run_tasks(
    work: Work[T, R],
    tasks: Iterable[T],
    *,
    workers: int,
    reporter: Reporter,
    out: Path,
) -> list[R]:
    """Runs every task and returns the results in the order of the tasks.

    Args:
        work: what to do with a task.
        tasks: in the order to start them; the dearest first balances best.
        workers: number of processes; 1 runs in this process.
        reporter: is told the number of finished units.
        out: named in messages.

    Raises:
        InterruptedBuildError: a worker died, or a task said so.
        KeyboardInterrupt: after the workers were stopped.
    """
    todo = list(tasks)
    if workers == 1 or len(todo) <= 1:
        return _run_here(work, todo, reporter)
    context = multiprocessing.get_context("spawn")
    counter: Synchronized[int] = context.Value("q", 0)
    stop = context.Event()
    pool = ProcessPoolExecutor(
        max_workers=min(workers, len(todo)),
        mp_context=context,
        initializer=_start_worker,
        initargs=(counter, stop),
    )
    try:
        futures: list[Future[R]] = [pool.submit(partial(_in_worker, work), task) for task in todo]
        pending: set[Future[R]] = set(futures)
        while pending:
            finished, pending = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
            reporter.update(counter.value)
            for future in finished:
                future.result()
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise InterruptedBuildError(
            "a worker process died, killed from outside or for lack of memory",
            where=out,
            do="run the same command again: finished shards are kept; "
            "fewer --workers take less memory",
        ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _run_here(work: Work[T, R], tasks: list[T], reporter: Reporter) -> list[R]:
    done = 0

    def tick(number: int) -> None:
        nonlocal done
        done += number
        reporter.update(done)

    return [work(task, tick=tick, should_stop=lambda: False) for task in tasks]
