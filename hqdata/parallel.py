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
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, Protocol, TypeVar

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


class _WorkerDiedError(Exception):
    """A worker process is gone without an answer."""


class _InWorkerError(Exception):
    """The traceback of an exception as the worker saw it; stands as its cause."""


def _serve(
    work: Work[Any, Any],
    pipe: Connection,
    counter: Synchronized[int],
    stop: ctypes.c_byte,
) -> None:
    """The life of a worker: a task in, its result or its exception out, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    settle_worker()
    _Shared.counter, _Shared.stop = counter, stop
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    with suppress(EOFError, OSError):  # the parent has closed its end: there is no more to do
        while True:
            task = pipe.recv()
            _answer(pipe, *_attempt(work, task))


def _attempt(work: Work[Any, Any], task: object) -> tuple[object, BaseException | None, str]:
    try:
        return work(task, tick=_tick, should_stop=_should_stop), None, ""
    except Exception as error:
        return None, error, traceback.format_exc()


def _answer(pipe: Connection, result: object, error: BaseException | None, told: str) -> None:
    try:
        pipe.send((result, error, told))
    except OSError:
        raise
    except Exception as unsendable:  # a result or an exception that does not pickle
        pipe.send((None, RuntimeError(f"a worker's answer cannot be sent: {unsendable}"), told))


def settle_worker() -> None:
    """Has this process work as one of many on its machine: one thread, memory kept for the next."""
    import cv2

    cv2.setNumThreads(1)  # one process a core is the unit of parallelism here
    _keep_freed_memory()


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


def _die_with(parent: BaseProcess) -> None:
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


def run_tasks(
    work: Work[T, R],
    tasks: Iterable[T],
    *,
    workers: int,
    reporter: Reporter,
    out: Path | str,
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
    pool = _Pool(work, min(workers, len(todo)))
    try:
        pool.start()
        return pool.run(todo, reporter)
    except _WorkerDiedError as error:
        raise InterruptedBuildError(
            "a worker process died, killed from outside or for lack of memory",
            where=out,
            do="run the same command again: finished shards are kept; "
            "fewer --workers take less memory",
        ) from error
    finally:
        pool.end()


class _Pool:
    """Processes with a pipe each, one task at a time in each.

    Not `ProcessPoolExecutor`: when a worker dies while others are being started, its own thread
    fails with a traceback, and processes are left behind that wait for ever.
    """

    def __init__(self, work: Work[Any, Any], num_workers: int) -> None:
        self._context: SpawnContext = multiprocessing.get_context("spawn")
        self._work = work
        self._num_workers = num_workers
        self._counter: Synchronized[int] = self._context.Value("q", 0)
        self._stop = self._context.RawValue("b", 0)  # an Event has a lock, see _tick
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []

    def start(self) -> None:
        """Starts the workers, deaf to Ctrl-C from their first moment.

        Raises:
            _WorkerDiedError: one died while it was handed its work.
        """
        for _ in range(self._num_workers):
            ours, theirs = self._context.Pipe()
            self._pipes.append(ours)
            process = self._context.Process(
                target=_serve, args=(self._work, theirs, self._counter, self._stop), daemon=True
            )
            with theirs, _ctrl_c_held():
                try:
                    process.start()
                except BrokenPipeError as error:
                    raise _WorkerDiedError("while it was started") from error
                self._processes.append(process)

    def run(self, tasks: list[Any], reporter: Reporter) -> list[Any]:
        """Runs the tasks and returns their results in order; raises what a task raised."""
        results: list[Any] = [None] * len(tasks)
        waiting = iter(enumerate(tasks))
        at_work: dict[Connection, int] = {}
        for pipe in self._pipes:
            _hand_on(pipe, waiting, at_work)
        while at_work:
            ready = wait(list(at_work), POLL_SECONDS)
            reporter.update(self._counter.get_obj().value)
            for pipe in [pipe for pipe in at_work if pipe in ready]:
                results[at_work.pop(pipe)] = _result(pipe)
                _hand_on(pipe, waiting, at_work)
        reporter.update(self._counter.get_obj().value)
        return results

    def end(self) -> None:
        """Tells the workers to stop where they can, and waits for them."""
        self._stop.value = 1
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join()


def _hand_on(
    pipe: Connection, waiting: Iterator[tuple[int, Any]], at_work: dict[Connection, int]
) -> None:
    """Gives the worker behind `pipe` the next task, if there is one."""
    for number, task in waiting:
        try:
            pipe.send(task)
        except OSError as error:
            raise _WorkerDiedError("before its task") from error
        at_work[pipe] = number
        return


def _result(pipe: Connection) -> Any:
    try:
        result, error, told = pipe.recv()
    except (EOFError, OSError) as gone:
        raise _WorkerDiedError("in the middle of a task") from gone
    if error is not None:
        raise error from _InWorkerError(told)
    return result


@contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """Holds SIGINT back meanwhile; a process that is started in here is born with it held."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_here(work: Work[T, R], tasks: list[T], reporter: Reporter) -> list[R]:
    done = 0

    def tick(number: int) -> None:
        nonlocal done
        done += number
        reporter.update(done)

    return [work(task, tick=tick, should_stop=lambda: False) for task in tasks]
