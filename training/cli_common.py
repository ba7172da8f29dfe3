"""What the trainer's commands share: messages, progress, errors, the choice of a device."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
import typer
from rich.console import Console

from hqdata.errors import HqdataError, UserError
from hqdata.files import no_room
from hqdata.progress import Bar, Lines, Reporter

err = Console(stderr=True, highlight=False, soft_wrap=True)
# A file or a pipe has no width: wide enough there that tables do not break names apart.
out_console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)

_EXPECTED_DEVICE = "auto, cpu, cuda, cuda:N or mps"


def make_app(description: str) -> typer.Typer:
    """A command line of one command, in the manner of all of them."""
    return typer.Typer(
        help=description,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


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


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of a name.

    Args:
        name: `auto` takes CUDA where there is some, else the CPU; `cuda` the GPU of `local_rank`;
            `cuda:1`, `cpu` and `mps` what they say.
        local_rank: number of this process among those of the machine.

    Raises:
        UserError: no such device here, or no such name.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, colon, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (
        colon and (kind != "cuda" or not number.isdecimal() or not number.isascii())
    ):
        raise UserError(f"unknown device {name!r}", expected=_EXPECTED_DEVICE)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("MPS was asked for, and there is none here", expected=_EXPECTED_DEVICE)
    if kind != "cuda":
        return torch.device(kind)
    if not torch.cuda.is_available():
        raise UserError(
            "CUDA was asked for, and there is none here",
            expected="a GPU with its driver, and a PyTorch that was built for CUDA"
            f" (this is {torch.__version__})",
            do="run it with --device cpu, or look at what nvidia-smi says",
        )
    index, count = int(number) if colon else local_rank, torch.cuda.device_count()
    if index >= count:
        raise UserError(
            f"there is no GPU number {index}: this machine shows {count}",
            expected=f"cuda:0 to cuda:{count - 1}",
            do="start no more processes on a machine than it has GPUs" if not colon else None,
        )
    # Convolutions, too, compute in float32 where float32 is asked for, not in TF32.
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", index)


def explain_os_error(error: OSError) -> str:
    """What the operating system refused, and where."""
    path = Path(str(error.filename)) if error.filename else Path()
    full = no_room(error, path)
    where = f"\n  where: {error.filename}" if error.filename else ""
    if full is not None:
        return (
            f"no room left to write ({error.strerror}){where}\n  to do: free some space; what was "
            "saved before is whole, and a run goes on with --resume"
        )
    return f"{error.strerror or error}{where}"


def run_app(app: Any) -> NoReturn:
    """Runs a command line; the user's mistakes become one message and an exit status.

    0 is success, 1 work that was stopped and can go on, 2 a mistake, 130 Ctrl-C or SIGTERM.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = app(standalone_mode=False)
    except HqdataError as error:
        err.print(f"error: {error}", markup=False)
        sys.exit(error.exit_status)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # The reader of our output has gone (`| head`): nothing is left to say.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        err.print(f"error: {explain_os_error(error)}", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("stopped")
        sys.exit(130)
    except torch.cuda.OutOfMemoryError as error:
        short = str(error).partition(". ")[0]
        err.print(f"error: {short}", markup=False)
        err.print("  to do: choose a smaller batch, or a GPU with more memory", markup=False)
        sys.exit(2)
    except Exception as error:
        show = getattr(error, "show", None)  # a usage error of the option parser explains itself
        if show is None:
            raise
        show()
        sys.exit(getattr(error, "exit_code", 2))
    sys.exit(status if isinstance(status, int) else 0)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
