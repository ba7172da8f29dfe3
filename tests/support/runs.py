"""Training runs in processes of their own, as users start them."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch
from safetensors.torch import load_file

from support.builds import child_environment

QUICK = (
    "--model=vit_micro",
    "--device=cpu",
    "--loss-points=256",
    "--num-pictures=2",
    "--workers=0",
)
"""Flags of a run that takes seconds."""


def start(
    *arguments: str | Path, ranks: int = 1, own_group: bool = False
) -> list[subprocess.Popen[str]]:
    """Starts `python -m training.train` once a rank, connected as torchrun connects them."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    children = []
    for rank in range(ranks):
        launcher = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        children.append(
            subprocess.Popen(
                [sys.executable, "-m", "training.train", *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=own_group,
                env=child_environment(OMP_NUM_THREADS="1", **(launcher if ranks > 1 else {})),
            )
        )
    return children


def finish(children: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Waits for them: exit status and what was told, of each rank."""
    told = [child.communicate(timeout=240)[1] for child in children]
    return [(child.returncode, text) for child, text in zip(children, told, strict=True)]


def train(*arguments: str | Path, ranks: int = 1) -> tuple[int, str]:
    """Runs it to its end: exit status, and what the first rank told."""
    return finish(start(*arguments, ranks=ranks))[0]


def weights(path: Path) -> dict[str, torch.Tensor]:
    """HQ weights of a file."""
    return load_file(path)


def largest_difference(one: Path, other: Path) -> float:
    """Between the HQ weights of two files."""
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)
