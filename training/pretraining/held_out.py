"""What the pretraining is judged by as it goes: scenes and pictures that it never sees."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from training.data.decode import Picture
from training.data.draw import tight_box
from training.eval_samples import PromptChoice, make_sample
from training.metrics import boundary_iou, iou
from training.model.hq_sam import HqSam
from training.pretraining.coarse import coarsened
from training.pretraining.scenes import draw_scene, scene_generator
from training.prompts import Prompts

HELD_OUT_SEED = 2**63
"""Beyond any seed that a recipe may have."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A picture with a box and the truth.

    Attributes:
        image: uint8 (s, s, 3).
        box: float32 (4,), tight, inclusive pixels.
        truth: bool (h, w), exact.
        coarse: bool (h, w), or None where nobody asks for it.
    """

    image: NDArray[np.uint8]
    box: NDArray[np.float32]
    truth: NDArray[np.bool_]
    coarse: NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over pictures, 0 to 1: of SAM's single mask, and of the box filled in."""

    iou: float
    boundary_iou: float
    coarse_iou: float | None
    box_iou: float
    box_boundary_iou: float


def held_out_scenes(number: int, side: int) -> list[Asked]:
    """Scenes that no recipe draws, the largest thing of each asked for."""
    found = []
    for index in range(number):
        rng = scene_generator(HELD_OUT_SEED, index)
        scene = draw_scene(rng, side)
        mask = scene.masks[int((scene.masks > 128).sum((1, 2)).argmax())]
        inside = mask > 128
        coarse = coarsened(mask, rng) > 128
        found.append(Asked(scene.image, tight_box(inside.view(np.uint8)), inside, coarse))
    return found


def asked_for(picture: Picture, side: int) -> Asked | None:
    """A picture stretched and boxed as evaluations do it; None if it has no object."""
    sample = make_sample(picture, 0, "", side, PromptChoice())
    if not sample.has_object:
        return None
    return Asked(sample.image, sample.box, sample.truth_mask(), None)


def boxed(asked: Asked) -> NDArray[np.bool_]:
    """The box filled in, bool (h, w) of the truth's size."""
    height, width = asked.truth.shape
    side = len(asked.image)
    x0, y0, x1, y1 = asked.box / side * np.array([width, height, width, height])
    x1, y1 = x1 + width / side, y1 + height / side  # its last pixel belongs to it
    filled = np.zeros((height, width), np.bool_)
    filled[round(y0) : max(round(y1), round(y0) + 1), round(x0) : max(round(x1), round(x0) + 1)] = 1
    return filled


def measure(model: HqSam, pictures: Iterable[Asked], batch_size: int = 8) -> Figures:
    """Figures of SAM's single mask, prompted with boxes."""
    rows: list[tuple[float, float, float, float, float]] = []
    batch: list[Asked] = []
    for asked in pictures:
        batch.append(asked)
        if len(batch) == batch_size:
            rows += _measure(model, batch)
            batch = []
    if batch:
        rows += _measure(model, batch)
    means = np.array(rows).mean(0) if rows else np.full(5, np.nan)
    # A picture without a coarse mask has NaN there, and of a set all have one or none has.
    coarse = None if np.isnan(means[2]) else float(means[2])
    return Figures(float(means[0]), float(means[1]), coarse, float(means[3]), float(means[4]))


def _measure(model: HqSam, batch: list[Asked]) -> list[tuple[float, float, float, float, float]]:
    images = torch.from_numpy(np.stack([asked.image for asked in batch]))
    boxes = torch.from_numpy(np.stack([asked.box for asked in batch]))
    prompts = Prompts.of_boxes(boxes, model.backbone.mask_size)
    logits, _ = model.sam_logits(model.encode(images), prompts)
    rows = []
    for asked, low in zip(batch, logits[:, 0].numpy(), strict=True):
        height, width = asked.truth.shape
        found = cv2.resize(low, (width, height), interpolation=cv2.INTER_LINEAR) > 0
        coarse = np.nan if asked.coarse is None else iou(found, asked.coarse)
        filled = boxed(asked)
        rows.append(
            (
                iou(found, asked.truth), boundary_iou(found, asked.truth), coarse,
                iou(filled, asked.truth), boundary_iou(filled, asked.truth),
            )
        )  # fmt: skip
    return rows
