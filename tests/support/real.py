"""Real photographs for tests, decoded and no larger than a test needs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


@cache
def photographs(folder: Path, number: int, longer_side: int = 480) -> tuple[NDArray[np.uint8], ...]:
    """`number` photographs from all over a folder, uint8 (h, w, 3) RGB, read-only."""
    paths = sorted(folder.glob("*.jpg"))
    chosen = np.linspace(0, len(paths) - 1, number).round().astype(int)
    return tuple(_read(paths[i], longer_side) for i in chosen)


def _read(path: Path, longer_side: int) -> NDArray[np.uint8]:
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert pixels is not None, path
    height, width = pixels.shape[:2]
    factor = longer_side / max(height, width)
    if factor < 1:
        size = (round(width * factor), round(height * factor))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    rgb = np.ascontiguousarray(pixels[..., ::-1], dtype=np.uint8)
    rgb.setflags(write=False)
    return rgb


def gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture in gray, uint8 (h, w)."""
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
