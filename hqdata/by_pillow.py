"""Decoding by Pillow without what it does behind one's back, and without a second whole copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hqdata import codecs

ORIENTATION_TAG = 0x0112
"""EXIF (and TIFF) tag that tells which way up a picture is."""


def load_as_stored(image: Image.Image) -> None:
    """Decodes a Pillow image and leaves it the way round that it is stored.

    Pillow turns a TIFF upright while loading it, at the cost of a second copy. Afterwards
    `image.im.size` is the stored size; `image.size` may be that of the upright picture.
    """
    if image.format == "TIFF":
        exif = image.getexif()
        if ORIENTATION_TAG in exif:
            del exif[ORIENTATION_TAG]
    image.load()


def pillow_pixels(
    image: Image.Image,
    num_channels: int,
    convert: Callable[[Image.Image], Image.Image] = lambda strip: strip,
) -> NDArray[np.uint8]:
    """Pixels of a loaded Pillow image, uint8 (height, width) or (height, width, num_channels).

    Args:
        image: the image, as `load_as_stored` leaves it.
        num_channels: 1, 3 or 4, of what `convert` returns.
        convert: applied to each strip.
    """
    width, height = image.im.size
    pixels = np.empty((height, width, num_channels), np.uint8)
    for rows in codecs.strips(height, width):
        strip = convert(image.crop((0, rows.start, width, rows.stop)))
        pixels[rows] = np.asarray(strip, np.uint8).reshape(-1, width, num_channels)
    return pixels[:, :, 0] if num_channels == 1 else pixels


def pillow_array(image: Image.Image) -> NDArray[Any]:
    """A loaded Pillow image of one channel as an array of its own type, (height, width)."""
    if image.size != image.im.size:  # as `load_as_stored` leaves a TIFF turned by a quarter
        image = image.crop((0, 0, *image.im.size))
    return np.asarray(image)
