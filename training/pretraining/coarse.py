"""Masks as SA-1B's automatic ones are: right about the object, poor at its detail.

SA-1B's masks were made by a model that gives a quarter of its input's resolution and were cleaned
up afterwards: thin parts are lost, narrow gaps and small holes are filled, small islands removed,
and outlines are generous, and smooth or polygonal. A model that learns from them becomes good at
objects and poor at detail.
"""

from __future__ import annotations

import cv2
import numpy as np

from training.pretraining.textures import U8, Rng

_GAPS = (7.0, 14.0)
"""Pixels of 256 between parts of a thing that are filled: a dense lattice becomes a board."""

_SIGMAS = (2.0, 3.0)
"""Pixels of 256 by which a mask is blurred."""

_LEVELS = (0.33, 0.43)
"""Where the blurred mask is cut. Below one half: thin parts stay where they have four pixels or
more, of two are lost, and outlines run a little outside of the thing."""

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
    gap, sigma = rng.uniform(*_GAPS) * unit, rng.uniform(*_SIGMAS) * unit
    level, epsilon = rng.uniform(*_LEVELS), rng.uniform(0.7, 1.6) * unit
    hole = rng.uniform(0.03, 0.12)
    if not inside.any():
        return inside
    blurred = _blurred_and_cut(_closed(inside, gap), sigma, level)
    return _outlined(blurred, epsilon, hole, inside)


def _closed(inside: U8, gap: float) -> U8:
    side = 2 * int(gap / 2) + 1
    around = cv2.copyMakeBorder(inside, side, side, side, side, cv2.BORDER_REPLICATE)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    closed = cv2.morphologyEx(around, cv2.MORPH_CLOSE, disc)[side:-side, side:-side]
    return np.asarray(closed, np.uint8)


def _blurred_and_cut(inside: U8, sigma: float, level: float) -> U8:
    soft = cv2.GaussianBlur(
        inside.astype(np.float32) / 255, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE
    )
    # Of something as thin as a hair the blur leaves less than any level: then its own crest.
    level = min(level, 0.8 * float(soft.max()))
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
