"""What the loader hands to the trainer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.prompts import Prompts


@dataclass(frozen=True, slots=True)
class BadSample:
    """A sample that could not be read, and why."""

    key: str
    shard: str
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """A micro-batch.

    Attributes:
        images: uint8 (b, s, s, 3), RGB.
        masks: uint8 (b, s, s), 255 is object; soft edges lie between.
        prompts: one a sample.
        seeds: int64 (b,), from which the loss draws its points.
        keys: of the samples.
        epoch, step, is_last, num_global: see `training.data.order.MicroBatch`.
        bad: samples that are missing here because they could not be read.
    """

    images: Tensor
    masks: Tensor
    prompts: Prompts
    seeds: Tensor
    keys: tuple[str, ...]
    epoch: int
    step: int
    is_last: bool
    num_global: int
    bad: tuple[BadSample, ...] = ()

    def __len__(self) -> int:
        """Samples that are here."""
        return len(self.keys)

    def pin_memory(self) -> Batch:
        """The same in page-locked memory."""
        return self._with(
            self.images.pin_memory(),
            self.masks.pin_memory(),
            self.prompts.pin_memory(),
            self.seeds.pin_memory(),
        )

    def to(self, device: torch.device) -> Batch:
        """The same on a device; copies from page-locked memory run beside the computation."""
        beside = self.images.is_pinned()
        return self._with(
            self.images.to(device, non_blocking=beside),
            self.masks.to(device, non_blocking=beside),
            self.prompts.to(device, non_blocking=beside),
            self.seeds.to(device, non_blocking=beside),
        )

    def _with(self, images: Tensor, masks: Tensor, prompts: Prompts, seeds: Tensor) -> Batch:
        return Batch(
            images,
            masks,
            prompts,
            seeds,
            self.keys,
            self.epoch,
            self.step,
            self.is_last,
            self.num_global,
            self.bad,
        )
