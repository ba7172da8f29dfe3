"""What a run tells: a bar or lines, `metrics.jsonl`, and TensorBoard."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hqdata.files import write_whole

SECONDS_BETWEEN_LINES = 10.0
WINDOW = 50
"""Steps over which the rate is measured."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step of the optimizer.

    Attributes:
        step: from 1, over all epochs.
        epoch: from 1.
        loss, bce, dice: means over the samples of the step.
        lr: learning rate.
        images_per_second: over all ranks, over the last steps.
    """

    step: int
    epoch: int
    loss: float
    bce: float
    dice: float
    lr: float
    images_per_second: float


class Speed:
    """Samples a second over the last steps."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque(maxlen=WINDOW + 1)
        self.restart()

    def restart(self) -> None:
        """Forgets what was: something else than training took time."""
        self._marks.clear()
        self._marks.append((self._clock(), 0))

    def add(self, num_samples: int) -> float:
        """Counts the samples of a step; returns the rate."""
        now, done = self._clock(), self._marks[-1][1] + num_samples
        self._marks.append((now, done))
        first, before = self._marks[0]
        return (done - before) / max(now - first, 1e-9)


class Display(Protocol):
    """Where a run tells how far it has come."""

    def start(self, done: int, total: int) -> None:
        """Training goes on from `done` of `total` samples of all epochs."""

    def step(self, done: int, row: StepRow) -> None:
        """A step is done."""

    def say(self, text: str) -> None:
        """A line of its own."""


class BarDisplay:
    """A progress bar with figures; for terminals. A context manager."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            expand=True,
        )
        self._task = self._progress.add_task("training", total=None, figures="")

    def __enter__(self) -> BarDisplay:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def start(self, done: int, total: int) -> None:
        """Begins at `done` samples."""
        self._progress.reset(self._task, total=total, completed=done, figures="")

    def step(self, done: int, row: StepRow) -> None:
        """Moves the bar."""
        self._progress.update(
            self._task,
            completed=done,
            description=f"epoch {row.epoch}",
            figures=f"{row.images_per_second:,.1f} images/s  loss {row.loss:.4f}  lr {row.lr:.0e}",
        )

    def say(self, text: str) -> None:
        """Prints above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)


class LineDisplay:
    """A line every ten seconds; for logs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._total = 0
        self._told = -SECONDS_BETWEEN_LINES

    def start(self, done: int, total: int) -> None:
        """Begins at `done` samples."""
        self._total = total
        self._told = self._clock()

    def step(self, done: int, row: StepRow) -> None:
        """Tells if ten seconds have gone by, or all is done."""
        now = self._clock()
        if now - self._told < SECONDS_BETWEEN_LINES and done < self._total:
            return
        self._told = now
        left = (self._total - done) / max(row.images_per_second, 1e-9)
        self.say(
            f"epoch {row.epoch} step {row.step:,}: loss {row.loss:.4f} (bce {row.bce:.4f}, "
            f"dice {row.dice:.4f}), lr {row.lr:.0e}, {row.images_per_second:,.1f} images/s, "
            f"{done:,} of {self._total:,} samples, {_clock_time(left)} left"
        )

    def say(self, text: str) -> None:
        """Prints it."""
        print(text, file=sys.stderr, flush=True)


class MuteDisplay:
    """For all ranks but the first."""

    def start(self, done: int, total: int) -> None:
        """Does nothing."""

    def step(self, done: int, row: StepRow) -> None:
        """Does nothing."""

    def say(self, text: str) -> None:
        """Does nothing."""


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


class Metrics:
    """`metrics.jsonl` and TensorBoard's files."""

    def __init__(
        self, path: Path, tensorboard: Path | None, *, after_step: int, evaluated: bool = True
    ) -> None:
        """Opens both; what they say of steps after `after_step` is of a run that went no further.

        Args:
            path: the lines.
            tensorboard: folder of TensorBoard's files, None for none.
            after_step: step at which the run goes on.
            evaluated: whether it was evaluated after that step, if it had to be.
        """
        _cut(path, after_step, evaluated)
        self._file = path.open("a", encoding="utf-8")
        self._board = None
        if tensorboard is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(tensorboard), purge_step=after_step + 1)

    def step(self, row: StepRow) -> None:
        """Writes down a step."""
        self._write({"kind": "step", **_rounded(asdict(row))})
        self._plot(
            row.step,
            {f"train/{n}": getattr(row, n) for n in ("loss", "bce", "dice", "lr")}
            | {"speed/images_per_second": row.images_per_second},
        )

    def evaluation(self, step: int, epoch: int, figures: Mapping[str, float]) -> None:
        """Writes down an evaluation."""
        row = {"kind": "evaluation", "step": step, "epoch": epoch}
        self._write({**row, **_rounded(figures)})
        self._plot(step, {f"evaluation/{name}": value for name, value in figures.items()})
        self._file.flush()

    def picture(self, step: int, name: str, pixels: Any) -> None:
        """Hands an (h, w, 3) uint8 picture to TensorBoard."""
        if self._board is not None:
            self._board.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Closes both."""
        self._file.close()
        if self._board is not None:
            self._board.close()

    def _write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()

    def _plot(self, step: int, figures: Mapping[str, float]) -> None:
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`; one that a crash cut short is left out."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [row for line in lines if (row := _parsed(line)) is not None]


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def _cut(path: Path, after_step: int, evaluated: bool) -> None:
    kept = [
        row
        for row in read_metrics(path)
        if row["step"] < after_step
        or (row["step"] == after_step and (evaluated or row.get("kind") == "step"))
    ]
    write_whole(path, "".join(json.dumps(row) + "\n" for row in kept).encode())


def _rounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {n: float(f"{v:.6g}") if isinstance(v, float) else v for n, v in figures.items()}
