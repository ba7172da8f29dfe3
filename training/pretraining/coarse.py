"""Masks as SA-1B's automatic ones are: right about the object, poor at its detail.

SA-1B's masks were made by a model at a quarter of its input's resolution and cleaned up: small
holes are filled, thin parts are lost, small islands are removed, and outlines are smooth or
polygonal. A model that learns from them becomes good at objects and poor at detail.
"""

from __future__ import annotations

import cv2
import numpy as np

from training.pretraining.textures import U8, Rng

_LEAST_SHARE = 0.5
"""Where opening leaves less than this of an object, the object is thin, and its closed form stays:
automatic masks fill a lattice rather than lose it."""

_LEAST_ISLAND = 0.1
"""Islands below this share of the largest one are dropped."""


def _disc(radius: float) -> U8:
    side = 2 * round(radius) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def coarsened(mask: U8, rng: Rng) -> U8:
    """The mask as an automatic one would be.

    Args:
        mask: uint8 (h, w), above 128 is object.
        rng: what strengths are drawn from.

    Returns:
        uint8 (h, w), 0 or 255; empty only where `mask` is.
    """
    inside = np.where(mask > 128, 255, 0).astype(np.uint8)
    height, width = inside.shape
    unit = max(height, width) / 256
    closing, opening = rng.uniform(2, 6) * unit, rng.uniform(1.5, 4) * unit
    epsilon, hole = rng.uniform(0.7, 2.5) * unit, rng.uniform(0.03, 0.15)
    border = int(np.ceil(closing)) + 1
    padded = cv2.copyMakeBorder(inside, *(border,) * 4, borderType=cv2.BORDER_CONSTANT, value=(0,))
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, _disc(closing))[
        border:-border, border:-border
    ]
    opened = cv2.morphologyEx(np.ascontiguousarray(closed), cv2.MORPH_OPEN, _disc(opening))
    if cv2.countNonZero(opened) < _LEAST_SHARE * cv2.countNonZero(closed):
        opened = np.ascontiguousarray(closed)
    contours, tree = cv2.findContours(opened, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if tree is None:
        return inside
    areas = [cv2.contourArea(contour) for contour in contours]
    largest = max(areas)
    result = np.zeros_like(inside)
    holes = []
    for contour, area, (_, _, _, parent) in zip(contours, areas, tree[0], strict=True):
        smooth = cv2.approxPolyDP(contour, epsilon, True)
        if parent >= 0:
            if area > hole * largest:
                holes.append(smooth)
        elif area >= _LEAST_ISLAND * largest:
            cv2.fillPoly(result, [smooth], 255)
    for smooth in holes:
        cv2.fillPoly(result, [smooth], 0)
    return result if result.any() else inside
