"""Edits beyond those that the self-test asks for: `python -m benchmarks.overlap --limits`.

They show where the search ends. No recall is asked of them; a false pair is one all the same.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from hqdata.overlap.edits import Edit, Given, Pixels, crop, jpeg, paste, resize


def _cropped(area: float) -> Callable[[Given], Pixels]:
    return lambda given: crop(given.picture, area, given.rng)


def _pasted(area: float) -> Callable[[Given], Pixels]:
    return lambda given: paste(given, area)


def _rotated(degrees: float) -> Callable[[Given], Pixels]:
    def apply(given: Given) -> Pixels:
        height, width = given.picture.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        return np.asarray(cv2.warpAffine(given.picture, turn, (width, height)), np.uint8)

    return apply


def _perspective(share: float) -> Callable[[Given], Pixels]:
    """One side gets shorter by a share at both of its ends."""

    def apply(given: Given) -> Pixels:
        height, width = given.picture.shape[:2]
        before = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        after = before.copy()
        after[0, 0] += share * width
        after[1, 0] -= share * width
        warp = cv2.getPerspectiveTransform(before, after)
        return np.asarray(cv2.warpPerspective(given.picture, warp, (width, height)), np.uint8)

    return apply


def _small(side: int) -> Callable[[Given], Pixels]:
    def apply(given: Given) -> Pixels:
        height, width = given.picture.shape[:2]
        factor = side / max(height, width)
        return resize(given.picture, round(width * factor), round(height * factor))

    return apply


def _negative(given: Given) -> Pixels:
    return 255 - given.picture


def _drawing(given: Given) -> Pixels:
    """Dark lines on white where the picture has edges."""
    gray = cv2.cvtColor(given.picture, cv2.COLOR_RGB2GRAY)
    lines = 255 - np.asarray(cv2.Canny(cv2.GaussianBlur(gray, (0, 0), 1.5), 40, 120))
    return np.repeat(lines[..., None], 3, axis=2)


def _small_crop(given: Given) -> Pixels:
    return jpeg(_small(128)(Given(_cropped(0.3)(given), given.donor, given.rng)), 40)


def _edit(name: str, apply: Callable[[Given], Pixels]) -> Edit:
    return Edit(name, apply, 0.0, frozenset())


LIMITS: tuple[Edit, ...] = (
    _edit("cropped to 20%", _cropped(0.2)),
    _edit("cropped to 10%", _cropped(0.1)),
    _edit("cropped to 5%", _cropped(0.05)),
    _edit("85% pasted over", _pasted(0.85)),
    _edit("93% pasted over", _pasted(0.93)),
    _edit("rotated by 15 degrees", _rotated(15)),
    _edit("rotated by 45 degrees", _rotated(45)),
    _edit("perspective, 5% at each end", _perspective(0.05)),
    _edit("perspective, 15% at each end", _perspective(0.15)),
    _edit("perspective, 30% at each end", _perspective(0.30)),
    _edit("128 pixels", _small(128)),
    _edit("64 pixels", _small(64)),
    _edit("30% at 128 pixels, JPEG 40", _small_crop),
    _edit("negative", _negative),
    _edit("line drawing", _drawing),
)
