"""Example pictures for the card: of each source a strip of three samples with their masks."""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from hqdata.report.thumbs import choose_examples, decoded
from hqdata.shards.dataset import Dataset
from hqdata.shards.names import Row

FOLDER = "examples"
PICTURES = 3
MAX_BYTES = 100_000

_SEED = 0
_GAP = 8
_WIDEST = 1.6
"""Width over height beyond which a picture is shown smaller instead."""
_COLOUR = (255, 154, 77)
_LADDER = ((200, 85), (200, 75), (180, 65), (160, 55), (120, 50), (80, 40))
"""(height in pixels, JPEG quality), tried until a strip is small enough."""

Pixels = NDArray[np.uint8]


def example_pictures(
    dataset: Dataset, rows: pa.Table, sources: Collection[str]
) -> dict[str, bytes]:
    """One JPEG a source, of at most 100 kB: `examples/<source>.jpg` -> its bytes.

    Three samples side by side, from a simple to a thin object, with the surroundings of the object
    dimmed and its outline drawn. The same data set and libraries give the same bytes.

    Args:
        dataset: the data set on disk.
        rows: the rows of `samples.parquet` to choose from.
        sources: short names; one without samples gets no picture.

    Raises:
        DatasetError: a shard is missing or damaged.
    """
    part = Dataset(dataset.root, dataset.info, rows)
    found = {}
    for source in sources:
        chosen = choose_examples(part, source, PICTURES, _SEED)
        if chosen:
            samples = [_read(part, part.row(index)) for index in chosen]
            found[f"{FOLDER}/{source}.jpg"] = _strip(samples)
    return found


def _read(dataset: Dataset, row: Row) -> tuple[Pixels, Pixels]:
    """RGB pixels, at the largest size that is needed, and the mask's values at the same size."""
    pixels, mask = decoded(dataset, row)
    if pixels.ndim == 2:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    return _fit(pixels, _LADDER[0][0]), _fit(mask, _LADDER[0][0])


def _fit(pixels: Pixels, height: int) -> Pixels:
    """The picture within a box of this height; small ones are enlarged."""
    scale = min(height / pixels.shape[0], height * _WIDEST / pixels.shape[1])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size, interpolation=how), np.uint8)


def _strip(samples: list[tuple[Pixels, Pixels]]) -> bytes:
    drawn = [_drawn(pixels, mask) for pixels, mask in samples]
    data = b""
    for height, quality in _LADDER:
        panels = [_fit(panel, height) for panel in drawn]
        tallest = max(panel.shape[0] for panel in panels)
        width = sum(panel.shape[1] for panel in panels) + _GAP * (len(panels) - 1)
        strip = Image.new("RGB", (width, tallest), (255, 255, 255))
        left = 0
        for panel in panels:
            strip.paste(Image.fromarray(panel), (left, (tallest - panel.shape[0]) // 2))
            left += panel.shape[1] + _GAP
        buffer = io.BytesIO()
        strip.save(buffer, "JPEG", quality=quality, optimize=True)
        data = buffer.getvalue()
        if len(data) <= MAX_BYTES:
            break
    return data


def _drawn(pixels: Pixels, mask: Pixels) -> Pixels:
    """The picture with the surroundings dimmed and the outline drawn, uint8 (height, width, 3)."""
    # A little blur gives an outline of about two pixels where the mask has a hard edge.
    share: NDArray[Any] = cv2.GaussianBlur(mask, (0, 0), 0.8).astype(np.float32)[..., None] / 255
    outline = 4 * share * (1 - share)
    light = pixels * (0.45 + 0.55 * share)
    mixed = light + (np.array(_COLOUR, np.float32) - light) * np.maximum(outline, 0.12 * share)
    return np.asarray(np.clip(np.round(mixed), 0, 255), np.uint8)
