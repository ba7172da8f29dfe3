"""The prompt of a sample: a box, points, or a noised mask.

All are drawn from the mask in float32, before it is rounded to the 8 bits that the loss sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.augment import OBJECT_ABOVE, Compat, Mask
from training.prompts import Kind

NO_OBJECT_BOX = (1e8, 1e8, 0.0, 0.0)
"""What the public trainer's search for the box of an empty mask comes to."""

_NOISE_FACTOR = 8
_NOISE_THRESHOLD = 0.01
_NOISE_SIGMA = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptConfig:
    """Which prompts are drawn.

    Attributes:
        kinds: of these, each as likely as the others.
        num_points: points of a prompt of points.
        mask_size: side of a prompt's mask, in pixels.
        compat: see `training.data.augment.JitterConfig`.
    """

    mask_size: int
    kinds: tuple[Kind, ...] = (Kind.BOX, Kind.POINT, Kind.MASK)
    num_points: int = 10
    compat: Compat = "none"


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of one sample; what is not of its kind is zero.

    Attributes:
        kind: what it is.
        box: float32 (4,), x0, y0, x1, y1 in inclusive pixels.
        points: float32 (p, 2), x, y.
        labels: int32 (p,), 1 object, 0 background.
        mask: uint8 (m, m), 0 or 255.
    """

    kind: Kind
    box: NDArray[np.float32]
    points: NDArray[np.float32]
    labels: NDArray[np.int32]
    mask: NDArray[np.uint8]


def draw_prompts_together(
    masks: Sequence[Mask], generators: Sequence[np.random.Generator], config: PromptConfig
) -> list[Prompt]:
    """Draws the prompts of samples that are computed at once, as the public code does.

    It has points for none of them if one has fewer than `num_points` pixels of object.
    """
    enough = all(cv2.countNonZero(_inside(mask)) >= config.num_points for mask in masks)
    return [
        draw_prompt(mask, generator, config, with_points=enough)
        for mask, generator in zip(masks, generators, strict=True)
    ]


def draw_prompt(
    mask: Mask, generator: np.random.Generator, config: PromptConfig, *, with_points: bool = True
) -> Prompt:
    """Draws a sample's prompt.

    With fewer than `num_points` pixels of object it is no prompt of points, unless nothing else is
    configured: then pixels are drawn with repetition. Without any object (a mask that has none
    even in the whole picture, or `compat="public"`), the box is (0, 0, 0, 0), the points are
    background points at (0, 0), and the mask is empty; with `compat="public"` the box is what the
    public code's comes to, (1e8, 1e8, 0, 0), which its encoding maps to finite values.

    Args:
        mask: float32 (s, s), from 0 to 255.
        generator: of the sample.
        config: see `PromptConfig`.
        with_points: whether it may be points.
    """
    inside = _inside(mask)
    num_inside = cv2.countNonZero(inside)
    kinds = config.kinds
    if num_inside < config.num_points or not with_points:
        kinds = tuple(kind for kind in kinds if kind != Kind.POINT) or kinds
    kind = kinds[int(generator.integers(len(kinds)))]
    box = np.zeros(4, np.float32)
    points = np.zeros((config.num_points, 2), np.float32)
    labels = np.zeros(config.num_points, np.int32)
    low = np.zeros((config.mask_size, config.mask_size), np.uint8)
    if kind == Kind.BOX:
        box = tight_box(inside) if num_inside else box
        if not num_inside and config.compat == "public":
            box = np.array(NO_OBJECT_BOX, np.float32)
    elif kind == Kind.POINT and num_inside:
        points = draw_points(inside, num_inside, generator, config.num_points)
        labels[:] = 1
    elif kind == Kind.MASK:
        low = noised_mask(mask, generator, config.mask_size)
    return Prompt(kind, box, points, labels, low)


def _inside(mask: Mask) -> NDArray[np.uint8]:
    """Where the object is: uint8 (s, s), 1 or 0."""
    return (mask > OBJECT_ABOVE).view(np.uint8)


def tight_box(inside: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The box of what is not zero, float32 (4,): x0, y0, x1, y1 in inclusive pixels."""
    x, y, width, height = cv2.boundingRect(inside)
    return np.array([x, y, x + width - 1, y + height - 1], np.float32)


def draw_points(
    inside: NDArray[np.uint8], num_inside: int, generator: np.random.Generator, number: int
) -> NDArray[np.float32]:
    """Pixels of what is not zero, float32 (number, 2): x, y.

    Every pixel is as likely as the others; none comes twice, unless there are fewer than `number`.
    """
    chosen = generator.choice(num_inside, number, replace=num_inside < number)
    # The chosen ones are found by their rank in reading order: a row by the sums of rows, and
    # within it by looking at that row alone.
    sums = cv2.reduce(inside, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0]
    ends = np.cumsum(sums)
    rows = np.searchsorted(ends, chosen, side="right")
    within = chosen - (ends - sums)[rows]
    columns = [np.flatnonzero(inside[row])[k] for row, k in zip(rows, within, strict=True)]
    return np.stack([np.array(columns), rows], axis=1).astype(np.float32)


def noised_mask(mask: Mask, generator: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """A small mask whose edges are frayed, uint8 (size, size), 0 or 255.

    Noise of sigma 1 is added where the mask changes by being made eight times smaller and large
    again, that is along its edges, and the sum is cut at 0.5.
    """
    low = resize(mask, size) / np.float32(255)
    rough = resize(resize(low, max(1, size // _NOISE_FACTOR)), size)
    frayed = np.abs(low - rough) >= _NOISE_THRESHOLD
    noise = generator.standard_normal(np.count_nonzero(frayed), np.float32)
    low[frayed] += noise * np.float32(_NOISE_SIGMA)
    return np.where(low > 0.5, 255, 0).astype(np.uint8)


def resize(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Bilinear without antialiasing, as torch does it: float32 (h, w) -> (size, size)."""
    return np.asarray(cv2.resize(values, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)
