"""One process alone, or several that act as one."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
import torch

from hqdata.errors import UserError
from support.builds import child_environment
from training.distributed import GradientSum, Ranks

WHOLE = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


def test_without_a_launcher_there_is_one_process():
    assert Ranks.from_environment({}) == Ranks(0, 1, 0, 1)
    assert Ranks().is_first


def test_torchrun_says_which_of_how_many():
    assert Ranks.from_environment(WHOLE) == Ranks(3, 8, 1, 2)
    assert not Ranks.from_environment(WHOLE).is_first


@pytest.mark.parametrize(
    "change",
    [{"RANK": "x"}, {"RANK": "8"}, {"LOCAL_RANK": "2"}, {"WORLD_SIZE": None}],
)
def test_half_a_launcher_is_a_clear_error(change: dict[str, str | None]):
    values = {k: v for k, v in {**WHOLE, **change}.items() if v is not None}
    with pytest.raises(UserError):
        Ranks.from_environment(values)


def test_alone_everything_is_already_summed():
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    idle = torch.nn.Parameter(torch.zeros(3))
    figures = GradientSum([parameter, idle], 2)(Ranks(), torch.tensor([4.0, 5.0]))
    assert figures.tolist() == [4.0, 5.0]
    assert parameter.grad.tolist() == [1.0, 2.0]
    assert idle.grad is not None
    assert idle.grad.tolist() == [0.0] * 3
    assert Ranks().gather([7]) == [[7]]


CODE = """
import torch
from training.distributed import GradientSum, Ranks, joined
ranks = Ranks.from_environment()
with joined(ranks, torch.device("cpu")):
    a, b = (torch.nn.Parameter(torch.full((2,), float(ranks.rank))) for _ in range(2))
    if ranks.rank == 1:  # the first has nothing to do in this step
        a.grad = torch.tensor([1.0, 2.0])
    figures = GradientSum([a, b], 1)(ranks, torch.tensor([float(ranks.rank + 1)]))
    ranks.spread([a.detach(), b.detach()])
    parts = ranks.gather(["x"] * ranks.rank)
    line = (a.grad.tolist(), b.grad.tolist(), figures.tolist(), a.tolist(), parts)
    print(f"{line}\\n", end="", flush=True)
"""


def test_two_processes_add_up_and_agree():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CODE],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=child_environment(
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE="2",
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=port,
            ),
        )
        for rank in range(2)
    ]
    told = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0, 0], told
    expected = "([1.0, 2.0], [0.0, 0.0], [3.0], [0.0, 0.0], [[], ['x']])\n"
    assert [out for out, _ in told] == [expected] * 2
