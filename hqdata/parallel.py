"""Where independent tasks run: in this process, or in a pool of processes on this machine.

Tasks are independent, so an engine needs to know nothing about them but their cost. Workers die
with their parent, however it dies.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from multiprocessing.sharedctypes import Synchronized
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
    stop: ctypes.c_byte


def _start_worker(counter: Synchronized[int], stop: ctypes.c_byte) -> None:
    import cv2

    cv2.setNumThreads(1)  # one process a core is the unit of parallelism here
    _keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    _Shared.counter, _Shared.stop = counter, stop
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _keep_freed_memory() -> None:
    """Has the C library reuse the memory of one picture for the next.

    By default it gives large blocks back to the system at once, and getting them anew, page by page
    and zeroed, takes a tenth of the time that decoding does.
    """
    keep_below, trim_above = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
    with suppress(OSError, AttributeError):  # another C library than glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(keep_below, 32 * 2**20)
        mallopt(trim_above, 256 * 2**20)


def _die_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _tick(number: int) -> None:
    # A worker that was killed in here keeps the lock for ever: better to count too little.
    lock = _Shared.counter.get_lock()
    if lock.acquire(timeout=1.0):
        try:
            _Shared.counter.value += number
        finally:
            lock.release()


def _should_stop() -> bool:
    return bool(_Shared.stop.value)


def _in_worker(work: Work[T, R], task: T) -> R:
    return work(task, tick=_tick, should_stop=_should_stop)


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
    stop = context.RawValue("b", 0)  # an Event has a lock, see _tick
    pool = ProcessPoolExecutor(
        max_workers=min(workers, len(todo)),
        mp_context=context,
        initializer=_start_worker,
        initargs=(counter, stop),
    )
    try:
        futures = _submit(pool, work, todo)
        pending: set[Future[R]] = set(futures)
        while pending:
            finished, pending = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
            reporter.update(counter.get_obj().value)
            for future in finished:
                future.result()
        reporter.update(counter.get_obj().value)
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise InterruptedBuildError(
            "a worker process died, killed from outside or for lack of memory",
            where=out,
            do="run the same command again: finished shards are kept; "
            "fewer --workers take less memory",
        ) from error
    finally:
        stop.value = 1
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, work: Work[T, R], tasks: list[T]) -> list[Future[R]]:
    """Hands all tasks over; this is when the pool starts its processes.

    Raises:
        BrokenProcessPool: one of them died meanwhile.
    """
    try:
        return [pool.submit(partial(_in_worker, work), task) for task in tasks]
    except (BrokenProcessPool, OSError, ValueError) as error:
        # The pool tears its pipes down while it still starts processes that would wait on them.
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.kill()
        raise BrokenProcessPool("a worker died while the others were started") from error


def _run_here(work: Work[T, R], tasks: list[T], reporter: Reporter) -> list[R]:
    done = 0

    def tick(number: int) -> None:
        nonlocal done
        done += number
        reporter.update(done)

    return [work(task, tick=tick, should_stop=lambda: False) for task in tasks]
