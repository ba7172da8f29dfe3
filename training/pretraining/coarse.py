"""Masks as SA-1B's automatic ones are: right about the object, poor at its detail.

SA-1B's masks were made by a model that gives a quarter of its input's resolution and were cleaned
up afterwards: thin parts are lost or run together, small holes are filled, small islands removed,
and outlines are smooth or polygonal. A model that learns from them becomes good at objects and
poor at detail.
"""

from __future__ import annotations

import cv2
import numpy as np

from training.pretraining.textures import U8, Rng

_LEVELS = (0.3, 0.5)
"""Where a blurred mask may be cut. The cut that keeps the area is taken: what is all thin, such as
a tree, keeps its thicker limbs, and what is mostly thick loses its thin parts."""

_LEAST_ISLAND = 0.06
"""Islands below this share of the largest one are dropped."""


def coarsened(mask: U8, rng: Rng) -> U8:
    """The mask as an automatic one would be.

    Args:
        mask: uint8 (h, w), above 128 is object.
        rng: what strengths are drawn from.

    Returns:
        uint8 (h, w), 0 or 255; empty only where `mask` is.
    """
    inside = np.where(mask > 128, 255, 0).astype(np.uint8)
    unit = max(inside.shape) / 256
    sigma, epsilon = rng.uniform(2.0, 3.5) * unit, rng.uniform(0.7, 1.6) * unit
    hole = rng.uniform(0.03, 0.12)
    if not inside.any():
        return inside
    return _outlined(_blurred_and_cut(inside, sigma), epsilon, hole, inside)


def _blurred_and_cut(inside: U8, sigma: float) -> U8:
    soft = cv2.GaussianBlur(
        inside.astype(np.float32) / 255, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE
    )
    number = int(np.count_nonzero(inside))
    keeps_area = float(np.sort(soft, axis=None)[-number - 1 :][0])
    # Of something as thin as a hair the blur leaves less than any level: then its own crest.
    level = min(float(np.clip(keeps_area, *_LEVELS)), 0.8 * float(soft.max()))
    return np.where(soft >= level, 255, 0).astype(np.uint8)


def _outlined(mask: U8, epsilon: float, hole: float, otherwise: U8) -> U8:
    """Polygons instead of outlines, without small holes and islands."""
    contours, tree = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
    if tree is None:
        return otherwise
    parents = [int(row[3]) for row in tree[0]]
    areas = [cv2.contourArea(contour) for contour in contours]
    largest = max(areas)
    result = np.zeros_like(mask)
    # From the outside in: a part in a hole is drawn after the hole.
    for depth, number in sorted((_depth(parents, k), k) for k in range(len(contours))):
        is_hole = depth % 2 == 1
        if areas[number] >= (hole if is_hole else _LEAST_ISLAND) * largest:
            polygon = cv2.approxPolyDP(contours[number], epsilon, True)
            cv2.fillPoly(result, [polygon], 0 if is_hole else 255)
    return result if result.any() else otherwise


def _depth(parents: list[int], number: int) -> int:
    """How many outlines lie around one: those of parts have an even number, those of holes odd."""
    depth = 0
    while parents[number] >= 0:
        number, depth = parents[number], depth + 1
    return depth
