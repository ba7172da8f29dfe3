"""Which way up a picture file says it is, and turning pixels accordingly."""

from __future__ import annotations

import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hqdata import codecs
from hqdata.by_pillow import ORIENTATION_TAG


def exif_orientation(data: bytes) -> int:
    """EXIF orientation 1…8 of a picture file; 1 if there is none or it is nonsense.

    JPEG and WebP carry an EXIF block, PNG an eXIf chunk (anywhere in the file), or a text chunk
    from before there was one; in TIFF it is a tag of the picture itself. No pixel is decoded.
    """
    kind = codecs.sniff(data)
    try:
        if kind == "png":
            value = _of_png(data)
        elif kind in ("webp", "tiff") or (kind == "jpeg" and data.find(b"Exif\0\0", 0, 2**18) >= 0):
            with Image.open(io.BytesIO(data)) as image:
                value = image.getexif().get(ORIENTATION_TAG, 1)
        else:
            return 1
    except (*codecs.PILLOW_ERRORS, Image.DecompressionBombError):
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _of_other(data: bytes) -> object:
    with Image.open(io.BytesIO(data)) as image:
        return image.getexif().get(ORIENTATION_TAG, 1)


def _of_png(data: bytes) -> object:
    """The orientation tag of a PNG; Pillow would decode the whole picture to look behind it."""
    exif = Image.Exif()
    if b"eXIf" in data:
        position = 8
        while position + 12 <= len(data):
            (length,) = struct.unpack_from(">I", data, position)
            if data[position + 4 : position + 8] == b"eXIf":
                exif.load(b"Exif\0\0" + data[position + 8 : position + 8 + length])
                return exif.get(ORIENTATION_TAG, 1)
            position += 12 + length
    if b"Raw profile type exif" in data:
        with Image.open(io.BytesIO(data)) as image:
            text = image.info.get("Raw profile type exif", "")
        exif.load(bytes.fromhex("".join(str(text).split("\n")[3:])))
    return exif.get(ORIENTATION_TAG, 1)


def turn_upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The pixels with an EXIF orientation (1…8) undone. Shape (height, width[, 3]) of the upright
    picture.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2) if pixels.ndim == 3 else pixels.T
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
