"""How well a mask fits the truth: IoU, and Boundary IoU (Cheng et al., CVPR 2021)."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
"""bool (height, width), true where the object is."""

DILATION_RATIO = 0.02
"""Width of the boundary as a share of the picture's diagonal."""


def iou(prediction: Mask, truth: Mask) -> float:
    """Intersection over union; 1.0 where both are empty.

    Raises:
        ValueError: the two have different shapes.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"the masks have the shapes {prediction.shape} and {truth.shape}")
    overlap = np.count_nonzero(prediction & truth)
    union = np.count_nonzero(prediction) + np.count_nonzero(truth) - overlap
    return overlap / union if union else 1.0


def boundary_width(height: int, width: int) -> int:
    """Width of the boundary in pixels: 2 % of the diagonal, rounded half to even, at least 1."""
    return max(1, round(DILATION_RATIO * math.sqrt(height**2 + width**2)))


def boundary(mask: Mask, width: int) -> Mask:
    """The object's pixels that are at most `width` pixels from what is not the object.

    What lies outside the picture is not the object. Distance is that of a king on a chessboard: the
    published definition erodes `width` times by 3×3, which is once by a square of 2·width + 1.
    """
    return np.asarray(mask & ~eroded(mask, width), np.bool_)


def boundary_iou(prediction: Mask, truth: Mask, width: int | None = None) -> float:
    """IoU of the two boundaries; `width` defaults to `boundary_width` of the masks' size."""
    if width is None:
        width = boundary_width(*truth.shape)
    return iou(boundary(prediction, width), boundary(truth, width))


def eroded(mask: Mask, radius: int) -> Mask:
    """What is left of a mask after `radius` erosions by 3×3, with no object outside of it.

    A minimum over 2·radius + 1 pixels in each direction. It is put together from minima of 2, 4, 8,
    … pixels: eight passes for a radius of 100 instead of 200.
    """
    if not mask.size:
        return np.zeros(mask.shape, np.bool_)
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    ring = (radius,) * 4
    rest = cv2.copyMakeBorder(pixels, *ring, borderType=cv2.BORDER_CONSTANT, value=(0,))
    length, reach = 2 * radius + 1, 1
    while reach < length:
        step = min(reach, length - reach)
        rest = cv2.min(rest[:-step], rest[step:])
        reach += step
    reach = 1
    while reach < length:
        step = min(reach, length - reach)
        rest = cv2.min(rest[:, :-step], rest[:, step:])
        reach += step
    return np.asarray(rest, np.uint8).view(np.bool_)
