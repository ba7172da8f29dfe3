"""Prompts of one kind, embedded by SAM's prompt encoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.prompts import Kind, Prompts


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """The samples of a batch that have one kind of prompt.

    Attributes:
        indices: their places in the batch, ascending.
        rows: int64 (n,), the same on the device.
        sparse: float32 (n, p, 256), embedded points or corners; a mask has none.
        dense: float32 (n, 256, e, e), the embedded mask, or what stands for none.
    """

    indices: tuple[int, ...]
    rows: Tensor
    sparse: Tensor
    dense: Tensor


def embed_prompts(encoder: nn.Module, prompts: Prompts) -> list[PromptGroup]:
    """Embeds the prompts of a batch kind by kind, as SAM would each alone.

    SAM's encoder is frozen: nothing here has a gradient.

    Args:
        encoder: SAM's prompt encoder.
        prompts: of a batch; masks are fed as the values they have.
    """
    if not len(prompts):
        raise ValueError("no prompts")
    found = prompts.groups()
    groups = []
    for kind, indices in found.items():
        rows = indices_on(prompts.boxes.device, indices)
        whole = len(found) == 1
        with torch.no_grad():
            sparse, dense = _embed(encoder, prompts, kind, slice(None) if whole else rows)
        groups.append(PromptGroup(tuple(indices), rows, sparse, dense))
    return groups


def indices_on(device: torch.device, indices: list[int]) -> Tensor:
    """int64 (n,) on a device, without waiting for what it is computing."""
    values = torch.tensor(indices)
    if device.type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def _embed(
    encoder: nn.Module, prompts: Prompts, kind: Kind, rows: slice | Tensor
) -> tuple[Tensor, Tensor]:
    points = boxes = masks = None
    if kind is Kind.BOX:
        boxes = prompts.boxes[rows].float()
    elif kind is Kind.POINT:
        # Without a box, SAM adds a padding point of its own to these.
        points = (prompts.points[rows].float(), prompts.labels[rows])
    else:
        masks = prompts.masks[rows].float()
    sparse, dense = encoder(points=points, boxes=boxes, masks=masks)
    return sparse, dense
