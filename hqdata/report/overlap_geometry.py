"""Where two pictures lie on each other: outlines to draw and words to say it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hqdata.overlap.report import Pair

Matrix = NDArray[np.float64]
Outline = list[tuple[float, float]]

_CORNERS = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], np.float64)

_SIDES = np.array([[1, 0, 0], [-1, 0, 1], [0, 1, 0], [0, -1, 1]], np.float64)
"""x >= 0, x <= w, y >= 0, y <= w: what of a homogeneous (x, y, w) lies in the unit square."""


def unit_transform(pair: Pair) -> Matrix | None:
    """3x3 matrix from the evaluation picture to the training picture, both as unit squares.

    None if the pair is not aligned, or by a matrix that takes no area to an area. Identical
    pictures lie on each other without a transform.
    """
    pixels = pair.transform
    if pixels is None:
        if not pair.kind.startswith("identical") or pair.train_size != pair.evaluation_size:
            return None
        pixels = (1, 0, 0, 0, 1, 0, 0, 0, 1)
    # The pixel (0, 0) has its centre at (0.5, 0.5) of the frame that is drawn.
    matrix = (
        np.diag([1 / max(1, pair.train_size[0]), 1 / max(1, pair.train_size[1]), 1])
        @ _shift(0.5)
        @ np.array(pixels, np.float64).reshape(3, 3)
        @ _shift(-0.5)
        @ np.diag([*pair.evaluation_size, 1.0])
    )
    largest = np.abs(matrix).max()
    if not np.isfinite(largest) or largest == 0:
        return None
    matrix = matrix / largest
    if abs(np.linalg.det(matrix)) < 1e-12:
        return None
    # A matrix and its negative are the same transform, but only one has what is seen in front.
    return np.asarray(matrix if (matrix @ [0.5, 0.5, 1])[2] > 0 else -matrix, np.float64)


def _shift(by: float) -> Matrix:
    return np.array([[1, 0, by], [0, 1, by], [0, 0, 1]], np.float64)


def outline(matrix: Matrix) -> Outline:
    """The unit square carried over by a matrix and cut to the unit square, [] if nothing is left.

    Cut by the four sides before the division by w (Sutherland and Hodgman 1974), so that a
    perspective whose horizon crosses the picture does no harm.
    """
    corners = list(_CORNERS @ matrix.T)
    for side in _SIDES:
        kept: list[NDArray[np.float64]] = []
        for here, there in zip(corners, [*corners[1:], *corners[:1]], strict=True):
            a, b = float(side @ here), float(side @ there)
            if a >= 0:
                kept.append(here)
            if (a >= 0) != (b >= 0):
                kept.append(here + (there - here) * (a / (a - b)))
        corners = kept
    points = [(float(x / w), float(y / w)) for x, y, w in corners if w > 0]
    return points if len(points) >= 3 else []


def inverse(matrix: Matrix) -> Matrix:
    """The matrix from the training picture to the evaluation picture, on the same side of w = 0."""
    return np.asarray(np.linalg.inv(matrix), np.float64)


def describe(pair: Pair, matrix: Matrix) -> str:
    """How the evaluation picture lies on the training picture, e.g. `mirrored, at 0.50 × size`.

    Mirroring, angle and scale are those at the middle of what is seen of the evaluation picture.
    """
    seen = outline(inverse(matrix)) or [(0.5, 0.5)]
    x, y = np.mean(seen, axis=0)
    u, v, w = matrix @ [x, y, 1]
    slope = (matrix[:2, :2] * w - np.outer([u, v], matrix[2, :2])) / w**2
    jacobian = (
        np.diag(pair.train_size) @ slope @ np.diag([1 / max(1, s) for s in pair.evaluation_size])
    )
    area = float(np.linalg.det(jacobian))
    if not math.isfinite(area) or area == 0:
        return ""
    turned = jacobian @ np.diag([-1, 1]) if area < 0 else jacobian
    angle = round(
        math.degrees(math.atan2(turned[1, 0] - turned[0, 1], turned[0, 0] + turned[1, 1]))
    )
    scale = math.sqrt(abs(area))
    parts = ["mirrored"] if area < 0 else []
    if angle % 360 == 180:
        parts.append("turned by 180°")
    elif angle:
        parts.append(f"turned by {abs(angle)}° {'clockwise' if angle > 0 else 'anticlockwise'}")
    parts.append("at its own size" if abs(scale - 1) < 0.005 else f"at {scale:.2f} × its size")
    return ", ".join(parts)
