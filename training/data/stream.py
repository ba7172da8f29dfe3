"""Batch after batch, from where a run stands to its end.

Which samples a batch holds is told by `training.data.order`, what is made of each of them by
`training.data.seeds`: so neither the number of ranks nor that of loader processes changes anything.

`training.data.processes` says how loader processes are started. A script that uses a `Stream` with
workers needs the usual `if __name__ == "__main__":`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hqdata.errors import HqdataError
from training.data.augment import Compat, JitterConfig
from training.data.batch import Batch
from training.data.draw import PromptConfig
from training.data.members import Members
from training.data.order import MicroBatch, StreamState, micro_batches
from training.data.processes import loader_context, start_loader
from training.data.resume import validate_state
from training.data.samples import BatchMaker, Epochs, Failure
from training.data.selection import Selection
from training.data.shards import OpenedShards
from training.data.slots import Slots, picture_bytes, split_pictures
from training.model.backbones import find_backbone
from training.prompts import Kind

if TYPE_CHECKING:
    from training.config import TrainConfig
    from training.distributed import Ranks

__all__ = ["LoaderError", "Stream", "StreamConfig", "stream_config", "validate_state"]

MAX_WORKERS = 16


class LoaderError(HqdataError):
    """A loader process died."""

    exit_status = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """What is loaded, and how.

    Attributes:
        image_size: side of the model's input, in pixels.
        mask_size: side of a prompt's mask, in pixels.
        batch_size: samples of a step over all ranks.
        micro_batch_size: samples that a rank computes at once.
        workers: loader processes of this rank; 0 loads in this process.
        prefetch: micro-batches that each of them has ready.
        flip, scale_min, scale_max: see `training.data.augment.JitterConfig`.
        kinds, num_points: see `training.data.draw.PromptConfig`.
        compat: "public" does as the public trainer does with samples of little or no object.
    """

    image_size: int
    mask_size: int
    batch_size: int
    micro_batch_size: int
    workers: int = 0
    prefetch: int = 2
    flip: float = 0.5
    scale_min: float = 0.1
    scale_max: float = 2.0
    kinds: tuple[Kind, ...] = (Kind.BOX, Kind.POINT, Kind.MASK)
    num_points: int = 10
    compat: Compat = "none"


def stream_config(config: TrainConfig, ranks: Ranks, device: torch.device) -> StreamConfig:
    """What a run's config says about loading.

    Raises:
        UserError: no such model.
    """
    backbone = find_backbone(config.model)
    workers = config.workers
    if workers is None:
        workers = min(MAX_WORKERS, max(1, _num_cores() // ranks.local_world_size))
        if device.type == "cpu":
            workers = min(workers, 2)  # the cores have the model to compute
    return StreamConfig(
        image_size=backbone.image_size,
        mask_size=backbone.mask_size,
        batch_size=config.batch_size,
        micro_batch_size=config.device_batch,
        workers=workers,
        flip=config.flip,
        scale_min=config.scale_min,
        scale_max=config.scale_max,
        kinds=tuple(Kind[name.upper()] for name in config.prompts),
        num_points=config.num_points,
        compat=config.compat,
    )


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Stream:
    """The batches of a run that one rank computes.

    Iterating yields them from the state to the end of the last epoch; each iteration starts from
    the state again.

    Args:
        selection: the samples.
        shards: where they are read.
        config: what is made of them.
        state: where the run stands.
        epochs: of the whole run.
        rank, world_size: which of how many ranks.
        pin_memory: whether batches come in page-locked memory.

    Raises:
        UserError: the state does not fit the selection; see `validate_state`.
    """

    def __init__(
        self,
        selection: Selection,
        shards: OpenedShards,
        config: StreamConfig,
        *,
        state: StreamState,
        epochs: int,
        rank: int = 0,
        world_size: int = 1,
        pin_memory: bool = False,
    ) -> None:
        validate_state(state, selection, batch_size=config.batch_size)
        self.config, self.state = config, state
        self._rank, self._world_size, self._pin_memory = rank, world_size, pin_memory
        self._epochs = Epochs(
            kind="sequential" if shards.is_remote else "shuffled",
            digest=selection.dataset.info.digest,
            seed=state.seed,
            num_rows=selection.num_rows,
            rows=selection.rows,
            shards=selection.shards if shards.is_remote else (),
            number=epochs,
        )
        self._reader, self._members = shards.reader, Members(selection.dataset)

    def maker(self, memory: Sequence[Tensor] = ()) -> BatchMaker:
        """What makes the batches; see `training.data.samples`."""
        config = self.config
        return BatchMaker(
            self._reader,
            self._members,
            self._epochs,
            batch_size=config.batch_size,
            jitter=JitterConfig(
                size=config.image_size,
                flip=config.flip,
                scale_min=config.scale_min,
                scale_max=config.scale_max,
                compat=config.compat,
            ),
            prompts=PromptConfig(
                mask_size=config.mask_size,
                kinds=config.kinds,
                num_points=config.num_points,
                compat=config.compat,
            ),
            memory=memory,
        )

    def micro_batches(self) -> Iterator[MicroBatch]:
        """What this rank loads, from the state on."""
        for epoch in range(self.state.epoch, self._epochs.number):
            yield from micro_batches(
                self._epochs.order(epoch),
                epoch=epoch,
                position=self.state.position if epoch == self.state.epoch else 0,
                batch_size=self.config.batch_size,
                micro_batch_size=self.config.micro_batch_size,
                rank=self._rank,
                world_size=self._world_size,
            )

    def __iter__(self) -> Iterator[Batch]:
        """Yields every batch.

        Raises:
            LoaderError: a loader process died.
            HqdataError: the reader cannot go on.
        """
        workers, size = self.config.workers, self.config.image_size
        slots = Slots(
            workers=workers,
            # One for each batch under way, one for that which has come. With several processes the
            # one before it, which the trainer has not let go of yet, is another's.
            per_worker=self.config.prefetch + (2 if workers == 1 else 1),
            num_bytes=picture_bytes(self.config.micro_batch_size, size),
        )
        indices = _Indices(self.micro_batches(), slots if workers else None)
        batches = iter(self._loader(indices, slots.memory))
        try:
            while True:
                made = _next(batches)
                if made is None:
                    return
                if isinstance(made, Failure):
                    raise made.error
                slot = indices.given.popleft()
                if slot is not None and self._pin_memory and made.images.is_pinned():
                    slots.give_back(slot)  # it is a copy
                elif slot is not None:
                    # The slot was laid out before anybody knew which samples are bad.
                    planned = len(made) + len(made.bad)
                    images, masks = split_pictures(slots.lend(slot), planned, size)
                    made = replace(made, images=images[: len(made)], masks=masks[: len(made)])
                yield made
        finally:
            del batches  # ends the processes now, not when the traceback of an error is forgotten

    def _loader(self, indices: _Indices, memory: Sequence[Tensor]) -> DataLoader[Batch | Failure]:
        # One sampler for all epochs: the processes live, and load ahead, across their ends.
        workers = self.config.workers
        return DataLoader(
            self.maker(memory),
            sampler=indices,
            batch_size=None,
            collate_fn=_same,
            num_workers=workers,
            prefetch_factor=self.config.prefetch if workers else None,
            multiprocessing_context=loader_context() if workers else None,
            worker_init_fn=start_loader,
            pin_memory=self._pin_memory,
        )


@dataclass
class _Indices:
    """Micro-batches, each with the slot that it goes to.

    Attributes:
        micro_batches: what is to be loaded.
        slots: where from, or None.
        given: the slots of what was asked for and has not come yet, in order.
    """

    micro_batches: Iterator[MicroBatch]
    slots: Slots | None
    given: deque[int | None] = field(default_factory=deque)

    def __iter__(self) -> Iterator[tuple[MicroBatch, int | None]]:
        for turn, micro_batch in enumerate(self.micro_batches):
            slot = None if self.slots is None else self.slots.take(turn)
            self.given.append(slot)
            yield micro_batch, slot


def _next(batches: Iterator[Batch | Failure]) -> Batch | Failure | None:
    """The next one, None at the end.

    Raises:
        LoaderError: a loader process died.
    """
    try:
        return next(batches, None)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise LoaderError(
            "a loader process died, killed from outside or for lack of memory",
            do="go on from the last checkpoint; fewer --workers take less memory; a container "
            "needs shared memory (docker run --shm-size 8g)",
        ) from error


def _same(made: Any) -> Any:
    return made
