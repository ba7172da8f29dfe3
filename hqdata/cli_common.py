"""What the commands share: options, where they print to, how they tell progress."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hqdata.progress import Bar, Lines, Reporter
from hqdata.remote.origin import is_url

err = Console(stderr=True, highlight=False, soft_wrap=True)
# A file or a pipe has no width: wide enough there that tables do not break paths apart.
out_console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)

EXIT_DATA = 1
"""Exit status where the data have problems."""

DataRoot = Annotated[
    Path,
    typer.Option(
        "--data-root",
        envvar="HQDATA_ROOT",
        help="Folder below which the source data sets lie, as folders or archives.",
        show_default=True,
    ),
]
DataRootOrUrl = Annotated[
    str,
    typer.Option(
        "--data-root",
        envvar="HQDATA_ROOT",
        help="Folder or URL below which the source data sets lie, as folders or archives.",
        show_default=True,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=1024, help="Processes. [default: one a core]"),
]


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def place_given(text: str) -> Path | str:
    """What a user gives as a place: a URL as it is, else a path."""
    return text if is_url(text) else Path(text)


def split_names(values: list[str] | None) -> list[str]:
    """`["dis,ecssd", "fss"]` as ["dis", "ecssd", "fss"]."""
    return [name for value in values or [] for name in value.replace(",", " ").split()]


@contextmanager
def reporting() -> Iterator[Reporter]:
    """A bar on a terminal, lines in a log."""
    if err.is_terminal:
        with Bar(err) as bar:
            yield bar
    else:
        yield Lines(sys.stderr)


def tell(message: str) -> None:
    """Prints a line beside the output."""
    err.print(message, markup=False)
