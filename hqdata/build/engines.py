"""Where the tasks of a build run: in processes of this machine, or on a Ray cluster.

An engine knows nothing of what a task does. Tasks are independent and can be done twice, so each
engine gives the same bytes; it decides only how soon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from hqdata.parallel import Work, run_tasks
from hqdata.progress import Reporter


class Engine(Protocol):
    """Runs tasks. A context manager: what it needs is held until it is left."""

    @property
    def one_machine(self) -> bool:
        """Whether all tasks run on this machine, and see its disks."""

    def __enter__(self) -> Engine:
        """Begins."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Lets go of what it held."""

    def run(
        self, work: Work[Any, Any], tasks: Sequence[Any], *, reporter: Reporter, out: str
    ) -> list[Any]:
        """Runs every task; returns the results in the order of the tasks.

        Args:
            work: what to do with a task; it can be pickled, and importing it is enough to run it.
            tasks: in the order to start them; the dearest first balances best.
            reporter: is told the number of finished units.
            out: named in messages.

        Raises:
            InterruptedBuildError: workers died too often, or a task said so.
            KeyboardInterrupt: after the workers were stopped.
        """


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """Processes of this machine; with one, this process itself."""

    workers: int = 1

    @property
    def one_machine(self) -> bool:
        """True."""
        return True

    def __enter__(self) -> LocalEngine:
        """Nothing to begin: each run has processes of its own."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held."""

    def run(
        self, work: Work[Any, Any], tasks: Sequence[Any], *, reporter: Reporter, out: str
    ) -> list[Any]:
        """See `Engine.run`."""
        return run_tasks(work, tasks, workers=self.workers, reporter=reporter, out=out)
