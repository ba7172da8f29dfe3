"""The bytes of a sample as pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hqdata.codecs import (
    CodecError,
    check_pixels,
    check_png,
    decode_jpeg,
    decode_png,
    describe_bytes,
    jpeg_header,
    png_size,
    sniff,
    swap_red_and_blue,
)
from hqdata.errors import DatasetError
from hqdata.shards.dataset import Dataset

MAX_PIXELS = 120_000_000
"""What a build accepts by default; a header that claims more is not decoded."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded sample.

    Attributes:
        image: uint8 (h, w, 3), RGB.
        mask: uint8 (h, w).
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.mask.shape[0], self.mask.shape[1]


def decode(image: bytes, mask: bytes, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decodes a sample as it lies in a shard: upright, so EXIF orientation is not looked at.

    A grayscale image has three equal channels.

    Raises:
        CodecError: damaged or cut off bytes, more pixels than `max_pixels`, a mask of another size
            than the image.
    """
    try:
        pixels = _decode_image(image, max_pixels)
    except CodecError as error:
        raise CodecError(f"the image: {error}") from error
    try:
        decoded = _decode_mask(mask, max_pixels)
    except CodecError as error:
        raise CodecError(f"the mask: {error}") from error
    if decoded.shape != pixels.shape[:2]:
        raise CodecError(
            f"the mask has {decoded.shape[1]}x{decoded.shape[0]} pixels, "
            f"the image {pixels.shape[1]}x{pixels.shape[0]}"
        )
    return Picture(pixels, decoded)


def _decode_image(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """Pixels, uint8 (h, w, 3), RGB."""
    kind = sniff(data)
    if kind == "jpeg":
        width, height, space = jpeg_header(data)
        check_pixels((width, height), max_pixels)
        if space in ("CMYK", "YCCK"):
            raise CodecError(f"it is a {space} JPEG, not RGB or grayscale")
        return decode_jpeg(data)
    if kind == "png":
        check_pixels(png_size(data), max_pixels)
        check_png(data)
        return swap_red_and_blue(np.asarray(decode_png(data, cv2.IMREAD_COLOR), np.uint8))
    raise CodecError(f"it is neither JPEG nor PNG: {describe_bytes(data)}")


def _decode_mask(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """Pixels, uint8 (h, w)."""
    if sniff(data) != "png":
        raise CodecError(f"it is no PNG: {describe_bytes(data)}")
    check_pixels(png_size(data), max_pixels)
    check_png(data)
    return np.asarray(decode_png(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def read_picture(dataset: Dataset, index: int) -> Picture:
    """The picture of a row of a data set.

    Raises:
        DatasetError: its shard is missing, or it cannot be decoded.
    """
    row = dataset.row(index)
    try:
        return decode(dataset.read_member(row, "image"), dataset.read_member(row, "mask"))
    except CodecError as error:
        where = dataset.root / row["shard"]
        raise DatasetError(f"sample {row['key']!r}: {error}", where=where) from error
