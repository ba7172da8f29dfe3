"""Example pictures for the page: which ones, and small enough to travel inside it."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hqdata.codecs import CodecError
from hqdata.errors import DatasetError
from hqdata.shards.check import decode_image, decode_mask
from hqdata.shards.dataset import Dataset
from hqdata.shards.names import Row

LONG_SIDE = 320
"""Pixels of a thumbnail's longer side."""

_LADDER = (
    (LONG_SIDE, 82),
    (LONG_SIDE, 70),
    (LONG_SIDE, 55),
    (240, 60),
    (160, 60),
    (120, 45),
    (80, 40),
)
"""(long side in pixels, JPEG quality), tried until a thumbnail fits its share of the page."""

_STEPS = 16
"""Levels of coverage in a thumbnail's mask: 4 bits a pixel."""

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One example picture.

    Attributes:
        row: its row of `samples.parquet`.
        width, height: of the thumbnail, in pixels.
        image, overlay, mask: `data:` addresses of the picture (JPEG), of the mask's contour and
            tint to lay over it (PNG with transparency), and of the mask (PNG).
    """

    row: Row
    width: int
    height: int
    image: str
    overlay: str
    mask: str

    @property
    def aspect(self) -> float:
        """Width over height of the frame it is shown in; extreme pictures get a margin."""
        return min(max(self.width / self.height, 0.5), 2.4)

    @property
    def num_bytes(self) -> int:
        """Characters it takes on the page."""
        return len(self.image) + len(self.overlay) + len(self.mask)


def choose_examples(dataset: Dataset, source: str, number: int, seed: int) -> list[int]:
    """Rows of a source to show, from its simplest to its thinnest object.

    The samples, sorted by thinness, are cut into as many equal parts as there are pictures; of each
    part the sample with the lowest hash of (seed, key) is taken. The same data set and seed give
    the same rows.
    """
    table = dataset.samples
    names, keys = table.column("source").to_numpy(), table.column("key").to_numpy()
    thinness = table.column("mask_thinness").to_numpy()
    rows = np.flatnonzero(names == source)
    by_thinness = rows[np.lexsort((keys[rows].astype(str), thinness[rows]))]
    parts = np.array_split(by_thinness, min(number, len(rows))) if number and len(rows) else []

    def rank(row: int) -> bytes:
        return hashlib.sha256(f"{seed}:{keys[row]}".encode()).digest()

    return [min(part.tolist(), key=rank) for part in parts]


def decoded(dataset: Dataset, row: Row) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image and mask of a sample as they are stored, decoded.

    Raises:
        DatasetError: the shard is missing or damaged.
    """
    try:
        image = decode_image(dataset.read_member(row, "image"), row["image_ext"])
        return image, decode_mask(dataset.read_member(row, "mask"))
    except CodecError as error:
        raise DatasetError(
            f"{row['key']!r} does not decode: {error}",
            where=dataset.root / row["shard"],
            do=f"see what else is damaged: hqdata check {dataset.root}",
        ) from error


def make_thumbnail(dataset: Dataset, index: int, colour: Colour, max_bytes: int) -> Thumbnail:
    """Reads one sample and makes it small.

    Args:
        dataset: the data set.
        index: row of `samples.parquet`.
        colour: RGB of the mask's tint and contour.
        max_bytes: characters the three pictures may take on the page; kept as far as a thumbnail
            of 80 pixels can.

    Raises:
        DatasetError: the shard is missing or damaged.
    """
    row = dataset.row(index)
    pixels, mask = decoded(dataset, row)
    for long_side, quality in _LADDER:
        thumbnail = _shrink(row, pixels, mask, colour, long_side, quality)
        if thumbnail.num_bytes <= max_bytes:
            break
    return thumbnail


def _shrink(
    row: Row,
    pixels: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    colour: Colour,
    long_side: int,
    quality: int,
) -> Thumbnail:
    height, width = mask.shape
    scale = min(1.0, long_side / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, optimize=True)
    small = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
    # A little blur gives a contour of about two pixels where the mask has a hard edge.
    coverage = cv2.GaussianBlur(small, (0, 0), 0.8)
    return Thumbnail(
        row=row,
        width=size[0],
        height=size[1],
        image=_data_address("image/jpeg", buffer.getvalue()),
        overlay=_data_address("image/png", _png(coverage, _overlay_palette(colour))),
        mask=_data_address("image/png", _png(small, [(v, v, v, 255) for v in _ramp(255)])),
    )


def _ramp(highest: int) -> list[int]:
    return [round(highest * step / (_STEPS - 1)) for step in range(_STEPS)]


def _overlay_palette(colour: Colour) -> list[tuple[int, int, int, int]]:
    """Colours by coverage: the surroundings dimmed, the contour bright, the inside tinted.

    Partial coverage is what a contour is once a mask is small, so that thin structures, which never
    reach full coverage, stay visible.
    """
    palette = [(8, 10, 18, 96)]
    for step in range(1, _STEPS):
        share = step / (_STEPS - 1)
        contour = 4 * share * (1 - share)
        palette.append((*colour, round(255 * max(0.95 * contour, 0.38 * share))))
    return palette


def _png(values: NDArray[Any], palette: Sequence[tuple[int, int, int, int]]) -> bytes:
    """4-bit palette PNG of grey values 0…255."""
    levels = ((values.astype(np.uint16) * (_STEPS - 1) + 127) // 255).astype(np.uint8)
    image = Image.frombytes("P", (levels.shape[1], levels.shape[0]), levels.tobytes())
    image.putpalette([part for entry in palette for part in entry[:3]])
    buffer = io.BytesIO()
    alphas = bytes(entry[3] for entry in palette)
    extra = {} if min(alphas) == 255 else {"transparency": alphas}
    image.save(buffer, "PNG", optimize=True, bits=4, **extra)
    return buffer.getvalue()


def _data_address(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
