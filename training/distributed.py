"""The processes of a run: one a GPU, started by torchrun, or one alone without any launcher."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hqdata.errors import HqdataError, UserError

T = TypeVar("T")

_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_HOURS = 2
"""How long a process waits for the others: evaluating and merging take the first one a while."""


class LostRankError(HqdataError):
    """A process of the run has gone, and the others cannot go on."""

    exit_status = 1


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which process this is, of how many.

    Attributes:
        rank, world_size: over all machines.
        local_rank, local_world_size: on this machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    @classmethod
    def from_environment(cls, environment: dict[str, str] | None = None) -> Ranks:
        """What torchrun says, or one process alone.

        Raises:
            UserError: half of the variables, or values that make no sense.
        """
        values = os.environ if environment is None else environment
        given = [name for name in _NAMES if name in values]
        if not given:
            return cls()
        try:
            rank, world_size, local_rank = (int(values[name]) for name in _NAMES)
            local = int(values.get("LOCAL_WORLD_SIZE", world_size))
        except (KeyError, ValueError):
            raise UserError(
                f"of {', '.join(_NAMES)} only {', '.join(given)} are set, or not to numbers",
                expected="all of them, as torchrun sets them, or none for one process",
                do="start it with `torchrun --nproc-per-node N -m training.train ...`",
            ) from None
        if not 0 <= rank < world_size or not 0 <= local_rank < local:
            raise UserError(f"rank {rank} of {world_size}, local rank {local_rank} of {local}")
        return cls(rank, world_size, local_rank, local)

    def barrier(self) -> None:
        """Waits for all."""
        if self.world_size > 1:
            with _together():
                dist.barrier()

    def gather(self, value: list[T]) -> list[list[T]]:
        """The lists of all ranks, in their order, on every rank."""
        if self.world_size == 1:
            return [value]
        found: list[list[T] | None] = [None] * self.world_size
        with _together():
            dist.all_gather_object(found, value)
        return [one or [] for one in found]

    def sum_(self, values: Tensor) -> None:
        """Adds the tensors of all ranks, in place."""
        if self.world_size > 1:
            with _together():
                dist.all_reduce(values)

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """Gives all ranks the values that the first one has, in place."""
        if self.world_size > 1:
            with _together():
                for tensor in tensors:
                    dist.broadcast(tensor, src=0)


@contextmanager
def joined(ranks: Ranks, device: torch.device) -> Iterator[None]:
    """With all processes connected to one another."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if ranks.world_size == 1:
        yield
        return
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        rank=ranks.rank,
        world_size=ranks.world_size,
        timeout=timedelta(hours=_HOURS),
        device_id=device if device.type == "cuda" else None,
    )
    yield
    # Not where an error comes by: the others may be waiting for this process, and it for them. It
    # ends, and its launcher ends them.
    dist.destroy_process_group()


@contextmanager
def _together() -> Iterator[None]:
    """Around what all processes do together.

    Raises:
        LostRankError: one of them has gone.
    """
    try:
        yield
    except RuntimeError as error:
        raise LostRankError(
            f"another process of the run has gone ({str(error).splitlines()[0][:120]})",
            do="see what it said before it went; what was saved before is whole",
        ) from error


class GradientSum:
    """Adds up the gradients of all ranks, and a few figures with them, in one exchange.

    The trained part is some five megabytes: one flat sum, after all micro-batches of a step, costs
    less than hooks that send pieces while the backward pass runs. And ranks that have nothing to do
    in the last step of an epoch simply add zeros.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], num_figures: int) -> None:
        self._parameters = parameters
        self._sizes = [parameter.numel() for parameter in parameters]
        self._flat = torch.zeros(
            sum(self._sizes) + num_figures, device=parameters[0].device, dtype=torch.float32
        )
        self._num_figures = num_figures

    def __call__(self, ranks: Ranks, figures: Tensor) -> Tensor:
        """Leaves the sums in the parameters' gradients; returns those of the figures.

        Args:
            ranks: the processes.
            figures: float32 (num_figures,), on the parameters' device.
        """
        if ranks.world_size == 1:
            for parameter in self._parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            return figures
        pieces = [
            (torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1)
            for p in self._parameters
        ]
        torch.cat([*pieces, figures], out=self._flat)
        ranks.sum_(self._flat)
        *sums, figures = torch.split(self._flat, [*self._sizes, self._num_figures])
        for parameter, values in zip(self._parameters, sums, strict=True):
            parameter.grad = values.view_as(parameter).clone()
        return figures.clone()
