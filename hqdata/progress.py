"""Telling how far long work has come: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SECONDS_BETWEEN_LINES = 10.0


class Reporter(Protocol):
    """What long work tells: what it does, and how many of how many units are done."""

    def start(self, what: str, total: int, unit: str) -> None:
        """Begins a stage; `total` units are to be done, 0 if nobody knows."""

    def update(self, done: int) -> None:
        """`done` units of the stage are done."""

    def finish(self) -> None:
        """The stage is over."""


class Silent:
    """Tells nothing."""

    def start(self, what: str, total: int, unit: str) -> None:
        """Does nothing."""

    def update(self, done: int) -> None:
        """Does nothing."""

    def finish(self) -> None:
        """Does nothing."""


class InMebibytes:
    """Takes bytes and passes on MiB: bytes tell best how long pictures of all sizes take."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def start(self, what: str, total: int, unit: str) -> None:
        """Begins a stage of `total` bytes."""
        self._reporter.start(what, total >> 20, unit)

    def update(self, done: int) -> None:
        """`done` bytes are done."""
        self._reporter.update(done >> 20)

    def finish(self) -> None:
        """The stage is over."""
        self._reporter.finish()


class Lines:
    """One line at the start, one at the end, and one every ten seconds between."""

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._what, self._unit, self._total, self._done = "", "", 0, 0
        self._began = self._told = 0.0

    def start(self, what: str, total: int, unit: str) -> None:
        """Begins a stage."""
        self._what, self._unit, self._total, self._done = what, unit, total, 0
        self._began = self._told = self._clock()
        self._tell(f"{what}: {total:,} {unit}" if total else what)

    def update(self, done: int) -> None:
        """Tells if ten seconds have gone by."""
        self._done = done
        now = self._clock()
        if now - self._told < SECONDS_BETWEEN_LINES:
            return
        self._told = now
        if not self._total:
            self._tell(f"{self._what}: {done:,} {self._unit}")
            return
        rate = done / max(1e-9, now - self._began)
        left = _minutes((self._total - done) / rate) if rate else "unknown time"
        self._tell(
            f"{self._what}: {done:,} of {self._total:,} {self._unit} ({done / self._total:.0%}), "
            f"{rate:,.0f} {self._unit} a second, {left} left"
        )

    def finish(self) -> None:
        """Tells what was done in which time."""
        seconds = self._clock() - self._began
        rate = self._done / seconds if seconds > 0 and self._total else 0.0
        told = f", {rate:,.0f} {self._unit} a second" if rate else ""
        self._tell(f"{self._what}: {self._done:,} {self._unit} in {_minutes(seconds)}{told}")

    def _tell(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


def _minutes(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Bar:
    """A progress bar with rate and time left; for terminals. A context manager."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("", total=None, visible=False, unit="", rate="")

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def start(self, what: str, total: int, unit: str) -> None:
        """Begins a stage."""
        self._progress.reset(
            self._task,
            total=total or None,
            description=what,
            visible=True,
            unit=unit,
            rate="",
        )

    def update(self, done: int) -> None:
        """Moves the bar."""
        speed = self._progress.tasks[0].speed
        rate = f"{speed:,.0f}/s" if speed else ""
        self._progress.update(self._task, completed=done, rate=rate)

    def finish(self) -> None:
        """Leaves the bar as it is."""
        self._progress.refresh()
