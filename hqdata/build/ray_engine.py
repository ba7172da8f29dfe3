"""The tasks of a build on a Ray cluster, or on a Ray of this machine where there is no cluster.

Ray does a task again whose worker or node died. Our own errors come back as values: a wrong path
does not get better by being tried again.
"""

from __future__ import annotations

import importlib
import logging
import os
import platform
import re
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import hqdata
from hqdata.build.plan import codec_versions
from hqdata.errors import InterruptedBuildError, UserError
from hqdata.fingerprint import fingerprint_versions
from hqdata.parallel import Work, settle_worker
from hqdata.progress import Reporter

MAX_RETRIES = 8
"""Deaths of a worker that one task may survive."""

LOCAL = "local"
"""The address that asks for a Ray of this machine, whatever cluster it belongs to."""

POLL_SECONDS = 0.5
CONNECT_SECONDS = 10.0


class RayEngine:
    """Tasks on a Ray cluster.

    Args:
        workers: tasks at once; None: twice the cores of the cluster, so that none is idle.
        address: of the cluster; None: as Ray finds it (RAY_ADDRESS, or a cluster that this machine
            belongs to), and where there is none, a Ray of this machine for as long as the build
            takes; `local` for that in any case.
        tell: is given a line of text for each thing worth knowing.
    """

    def __init__(
        self,
        workers: int | None = None,
        address: str | None = None,
        tell: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._workers = workers
        self._address = address
        self._tell = tell
        self._ray: Any = None
        self._ours = False
        self._connected = False

    @property
    def one_machine(self) -> bool:
        """Whether it is a Ray that was started here for this build."""
        return self._ours

    def __enter__(self) -> RayEngine:
        """Connects.

        Raises:
            UserError: Ray is not installed, or the cluster cannot be reached.
        """
        try:
            self._ray = importlib.import_module("ray")
        except ImportError:
            raise UserError(
                "Ray is not installed", do="pip install 'hqdata[scale]', here and on every node"
            ) from None
        if not self._ray.is_initialized():
            with _signals_kept():
                self._connect()
            self._connected = True
        return self

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        named = self._address or os.environ.get("RAY_ADDRESS") or ""
        if named and named != LOCAL:
            refuse_silent(named)
        try:
            if named == LOCAL:
                raise ConnectionError
            self._ray.init(address=named or "auto", **quiet)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            if named and named != LOCAL:
                raise _unreachable(named, " ".join(str(error).split())[:300]) from None
            self._start_here(quiet)
            why = "as asked" if named else "no Ray cluster found"
            self._tell(f"{why}: a Ray was started on this machine for this build")
        else:
            self._ours = False
            cores = int(self._ray.cluster_resources().get("CPU", 0))
            nodes = sum(bool(node["Alive"]) for node in self._ray.nodes())
            plural = "" if nodes == 1 else "s"
            self._tell(f"Ray cluster: {nodes} node{plural}, {cores} cores")

    def _start_here(self, quiet: dict[str, Any]) -> None:
        # Without a dashboard and its metrics: Ray is here for as long as one build. Nor does it
        # tell its makers of a cluster that nobody asked for.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._ray.init(address=LOCAL, num_cpus=self._workers, include_dashboard=False, **quiet)
        self._ours = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnects; ends the Ray that was started here. What was connected before stays so."""
        if self._connected:
            self._ray.shutdown()
            self._connected = self._ours = False

    def run(
        self, work: Work[Any, Any], tasks: Sequence[Any], *, reporter: Reporter, out: str
    ) -> list[Any]:
        """See `Engine.run`; progress is told by whole tasks."""
        ray = self._ray
        remote = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(_do)
        work = ray.put(work)
        results: list[Any] = [None] * len(tasks)
        waiting = iter(enumerate(tasks))
        at_work: dict[Any, int] = {}
        versions = environment()
        done = 0
        try:
            while True:
                while len(at_work) < self._room():
                    number, task = next(waiting, (-1, None))
                    if number < 0:
                        break
                    at_work[remote.remote(work, task, versions)] = number
                if not at_work:
                    return results
                ready, _ = ray.wait(list(at_work), num_returns=1, timeout=POLL_SECONDS)
                for reference in ready:
                    # First of all it is no longer at work: Ray ends this process when a task is
                    # cancelled that has just come to an end.
                    number = at_work.pop(reference)
                    results[number], units = self._outcome(reference, out)
                    done += units
                reporter.update(done)
        finally:
            # After an error or Ctrl-C none of them is wanted any more. Where the connection is
            # ours, all of them end with it.
            if at_work and not self._connected:
                _, going_on = ray.wait(list(at_work), num_returns=len(at_work), timeout=0)
                for reference in going_on:
                    ray.cancel(reference, force=True)

    def _room(self) -> int:
        """Tasks that may be at work at once; a cluster may grow meanwhile."""
        if self._workers is not None:
            return self._workers
        return max(1, 2 * int(self._ray.cluster_resources().get("CPU", 1)))

    def _outcome(self, reference: Any, out: str) -> tuple[Any, int]:
        """(what the task returned, units that it ticked); raises what it raised."""
        try:
            result, units, error, told = self._ray.get(reference)
        except self._ray.exceptions.RayError as gone:
            raise InterruptedBuildError(
                f"a task was lost by Ray: {' '.join(str(gone).split())[:300]}",
                where=out,
                do="run the same command again: finished shards are kept; where memory ran out, "
                "fewer --workers take less",
            ) from None
        if error is not None:
            raise error from _OnWorkerError(told)
        return result, units


def refuse_silent(address: str, seconds: float = CONNECT_SECONDS) -> None:
    """Finds out soon that nobody is at an address: Ray itself asks again for many minutes.

    Raises:
        UserError: nobody answers there.
    """
    found = re.fullmatch(r"(?:ray://)?\[?([^\[\]/]+?)\]?:(\d{1,5})", address)
    if found is None or int(found[2]) > 65_535:
        return  # "auto", "local", or something that Ray will say something about
    try:
        socket.create_connection((found[1], int(found[2])), timeout=seconds).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from None


def _unreachable(address: str, why: str) -> UserError:
    return UserError(
        f"the Ray cluster cannot be reached: {why}",
        where=address,
        expected="the address of a running cluster, e.g. 10.0.0.1:6379 or ray://10.0.0.1:10001",
    )


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Takes back what Ray makes of SIGTERM: for us it means what Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _OnWorkerError(Exception):
    """The traceback of an exception as the worker saw it; stands as its cause."""


def environment() -> dict[str, str]:
    """Versions on which the bytes of a shard hang."""
    return {"hqdata": hqdata.__version__, **codec_versions(), **fingerprint_versions()}


def _do(
    work: Work[Any, Any], task: Any, versions: dict[str, str]
) -> tuple[Any, int, Exception | None, str]:
    """One task, on a worker: (result, units, exception, its traceback)."""
    settle_worker()
    units = 0

    def tick(number: int) -> None:
        nonlocal units
        units += number

    try:
        refuse_other_versions(versions, environment(), platform.node())
        result = work(task, tick=tick, should_stop=lambda: False)
    except Exception as error:
        return None, units, error, traceback.format_exc()
    return result, units, None, ""


def refuse_other_versions(wanted: dict[str, str], here: dict[str, str], node: str) -> None:
    """Keeps a node whose libraries would write other bytes from writing any.

    Raises:
        UserError: a version differs.
    """
    different = [name for name in wanted if here.get(name) != wanted[name]]
    if different:
        raise UserError(
            "a node of the cluster has other versions of "
            + ", ".join(f"{name} ({here.get(name)}, not {wanted[name]})" for name in different),
            where=node,
            expected="the versions of the machine that runs the build: the bytes of a shard hang "
            "on them",
            do="install the same on every node",
        )
