"""Prompts of a batch: boxes, points and masks side by side, one a sample."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor


class Kind(IntEnum):
    """What a sample is prompted with."""

    BOX = 0
    POINT = 1
    MASK = 2


@dataclass(frozen=True, slots=True)
class Prompts:
    """One prompt a sample, in pixels of the model's input; what is not of its kind is ignored.

    Attributes:
        kinds: one a sample. Plain values: whoever groups by them need not ask the device.
        boxes: float32 (b, 4), x0, y0, x1, y1, inclusive.
        points: float32 (b, p, 2), x, y.
        labels: int32 (b, p), 1 object, 0 background.
        masks: float32 or uint8 (b, 1, m, m), m a quarter of the input's side.
    """

    kinds: tuple[Kind, ...]
    boxes: Tensor
    points: Tensor
    labels: Tensor
    masks: Tensor

    def __len__(self) -> int:
        """Samples."""
        return len(self.kinds)

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Prompts:
        """The same on a device."""
        moved = (
            value.to(device, non_blocking=non_blocking)
            for value in (self.boxes, self.points, self.labels, self.masks)
        )
        return Prompts(self.kinds, *moved)

    def pin_memory(self) -> Prompts:
        """The same in page-locked memory."""
        values = (self.boxes, self.points, self.labels, self.masks)
        return Prompts(self.kinds, *(value.pin_memory() for value in values))

    def groups(self) -> dict[Kind, list[int]]:
        """Which samples have which kind of prompt; kinds without any are left out."""
        found: dict[Kind, list[int]] = {}
        for index, kind in enumerate(self.kinds):
            found.setdefault(kind, []).append(index)
        return dict(sorted(found.items()))

    @classmethod
    def of_boxes(cls, boxes: Tensor, mask_side: int) -> Prompts:
        """Boxes only, float32 (b, 4)."""
        number, device = len(boxes), boxes.device
        return cls(
            (Kind.BOX,) * number,
            boxes,
            torch.zeros((number, 0, 2), device=device),
            torch.zeros((number, 0), dtype=torch.int32, device=device),
            torch.zeros((number, 1, mask_side, mask_side), dtype=torch.uint8, device=device),
        )
