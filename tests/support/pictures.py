"""Small pictures and masks, made on the spot, as arrays and as files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def photo(seed: int = 0, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """A smooth coloured picture with some grain, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [
        np.sin(x / rng.uniform(5, 20) + y / rng.uniform(5, 20) + rng.uniform(0, 6))
        for _ in range(3)
    ]
    smooth = 128 + 90 * np.stack(waves, axis=-1)
    grain = rng.normal(0, 4, (height, width, 3))
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)


def disc(
    width: int = 96, height: int = 64, radius: float = 20, soft: bool = True
) -> NDArray[np.uint8]:
    """The mask of a disc in the middle, with an anti-aliased edge unless `soft` is false."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(x - width / 2 + 0.5, y - height / 2 + 0.5)
    coverage = np.clip(radius - distance + 0.5, 0, 1) if soft else distance <= radius
    return np.round(255 * coverage.astype(np.float64)).astype(np.uint8)


def encode(pixels: NDArray[np.uint8], kind: str = "JPEG", **options: object) -> bytes:
    """The pixels as a file of a Pillow format."""
    buffer = io.BytesIO()
    if kind == "JPEG":
        options.setdefault("quality", 92)
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def write_pair(
    images: Path, masks: Path, stem: str, seed: int = 0, width: int = 96, height: int = 64
) -> None:
    """Writes `<stem>.jpg` and `<stem>.png` of one size into two folders."""
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    (images / f"{stem}.jpg").write_bytes(encode(photo(seed, width, height)))
    radius = min(width, height) / 3 + seed % 5
    (masks / f"{stem}.png").write_bytes(encode(disc(width, height, radius), "PNG"))
