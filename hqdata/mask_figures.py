"""What is measured on a mask: area, box, softness, components, thinness."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

OBJECT_THRESHOLD = 128
"""A pixel belongs to the object when its mask value is greater than this."""


@dataclass(frozen=True, slots=True)
class MaskFigures:
    """What is measured on a mask.

    Attributes:
        area_fraction: share of the picture that is object (> 128).
        box: tight box of the object, (x0, y0, x1, y1), inclusive pixel coordinates.
        soft_fraction: share of the pixels strictly between 0 and 255.
        num_components: 8-connected components of the object.
        thinness: isoperimetric quotient, perimeter² / (4 π area), of the whole object, holes
            included, as DIS5K reports it: 1 for a disc, hundreds for a net. The perimeter runs
            through the centres of the border pixels.
    """

    area_fraction: float
    box: tuple[int, int, int, int]
    soft_fraction: float
    num_components: int
    thinness: float


def measure(values: NDArray[np.uint8]) -> MaskFigures | None:
    """Figures of a mask, uint8 (height, width); None if no pixel is object."""
    binary = cv2.threshold(values, OBJECT_THRESHOLD, 255, cv2.THRESH_BINARY)[1]
    area = cv2.countNonZero(binary)
    if area == 0:
        return None
    x, y, width, height = cv2.boundingRect(binary)
    num_soft = cv2.countNonZero(cv2.inRange(values, np.array([1.0]), np.array([254.0])))
    contours, hierarchy = cv2.findContours(binary, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    perimeter = sum(cv2.arcLength(contour, True) for contour in contours)
    return MaskFigures(
        area_fraction=area / values.size,
        box=(x, y, x + width - 1, y + height - 1),
        soft_fraction=num_soft / values.size,
        num_components=int((hierarchy[0, :, 3] == -1).sum()),
        thinness=perimeter**2 / (4 * np.pi * area),
    )
