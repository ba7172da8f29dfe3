"""The mask of a sample: every encoding found in the wild brought to 8-bit 0…255, or refused by
name.

Here files are decoded; what their grey levels and colours mean is decided in `hqdata.mask_levels`
and `hqdata.mask_colours`.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hqdata import codecs
from hqdata.by_pillow import load_as_stored, pillow_array, pillow_pixels
from hqdata.codecs import CodecError
from hqdata.mask_colours import Colours
from hqdata.mask_figures import OBJECT_THRESHOLD, MaskFigures, measure
from hqdata.mask_levels import AmbiguousMaskError, Gray, Levels, to_soft
from hqdata.orientation import exif_orientation, turn_upright

__all__ = [
    "OBJECT_THRESHOLD",
    "AmbiguousMaskError",
    "Gray",
    "Mask",
    "MaskFigures",
    "measure",
    "read_mask",
    "to_soft",
]


@dataclass(frozen=True, slots=True)
class Mask:
    """A mask in the one form that shards hold.

    Attributes:
        values: uint8 (height, width), 255 = object, soft edges between.
        data: PNG bytes of exactly these values.
        changes: `untouched`, or what was done, comma-separated, e.g. `rgb, binary-01`.
    """

    values: Gray
    data: bytes
    changes: str


def read_mask(
    data: bytes,
    *,
    max_pixels: int,
    mask_values: Literal["auto", "object_ids"] = "auto",
    accept: bool = False,
    size: tuple[int, int] | None = None,
) -> Mask:
    """Reads a mask file, upright.

    Args:
        data: the file's bytes.
        max_pixels: largest width x height that is decoded.
        mask_values: `object_ids` takes every non-zero value as object.
        accept: take an ambiguous mask as it decodes, every colour but black as object.
        size: (width, height) to resize the mask to where it differs (bilinear), or None.

    Raises:
        AmbiguousMaskError: its levels can be read in more than one way.
        TooLargeError, TruncatedError, DamagedError, CodecError: see `hqdata.codecs`.
    """
    lossless = codecs.is_lossless(data)
    gray, notes, keep = _decode(data, max_pixels, Colours(mask_values, accept, lossless))
    values, how = to_soft(gray, mask_values=mask_values, accept=accept, lossless=lossless)
    del gray
    if how:
        notes, keep = (*notes, how), False
    orientation = exif_orientation(data)
    if orientation != 1:
        notes, keep = (f"exif-orientation-{orientation}", *notes), False
        values = turn_upright(values, orientation)
    if size is not None and (values.shape[1], values.shape[0]) != size:
        notes = (*notes, f"resized-from-{values.shape[1]}x{values.shape[0]}")
        values = np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        keep = False
    if keep:
        return Mask(values, data, "untouched")
    return Mask(values, codecs.encode_png(values), ", ".join((*notes, "png")))


def _decode(data: bytes, max_pixels: int, colours: Colours) -> tuple[Levels, tuple[str, ...], bool]:
    """(grey levels as stored, what the file was, whether its bytes may stay as they are)."""
    kind = codecs.sniff(data)
    if kind is None:
        raise CodecError(codecs.describe_bytes(data))
    if kind == "jpeg":
        width, height, space = codecs.jpeg_header(data)
        codecs.check_pixels((width, height), max_pixels)
        if space == "Gray":
            return codecs.decode_jpeg(data, gray=True), ("jpeg",), False
        from_colour, seen = colours.to_gray(codecs.decode_jpeg(data))
        return from_colour, ("jpeg", *seen), False
    if kind == "png":
        codecs.check_pixels(codecs.png_size(data), max_pixels)
        header = codecs.check_png(data)
        if header.colour == 0:
            return _decode_gray_png(data, header)
        if header.depth >= 8 and header.colour in (2, 4, 6) and not header.transparent:
            return *_decode_colour_png(data, colours), False
        codecs.check_png_rows(data)
    gray, notes = _decode_by_pillow(data, max_pixels, colours)
    return gray, notes if kind == "png" else (kind, *notes), False


def _decode_gray_png(data: bytes, header: codecs.PngHeader) -> tuple[Levels, tuple[str, ...], bool]:
    if header.depth == 16:
        return codecs.decode_png(data, cv2.IMREAD_ANYDEPTH), (), False
    gray = codecs.decode_png(data, cv2.IMREAD_GRAYSCALE)
    if header.depth == 8:
        return gray, (), not header.transparent and header.trailing == 0
    # OpenCV stretches 2 and 4 bits to 0…255; without white they are ids.
    ids = header.depth > 1 and int(gray.max(initial=0)) < 255
    step = 255 // (2**header.depth - 1) if ids else 1
    return np.asarray(gray // step, dtype=np.uint8), (f"{header.depth}-bit",), False


def _decode_colour_png(data: bytes, colours: Colours) -> tuple[Levels, tuple[str, ...]]:
    """A PNG of 8 or 16 bits with colour or alpha."""
    decoded = codecs.decode_png(data, cv2.IMREAD_UNCHANGED)
    if decoded.dtype != np.uint16:
        return _from_colours(codecs.swap_red_and_blue(np.asarray(decoded, np.uint8)), colours)
    wide = np.asarray(decoded, np.uint16)
    del decoded
    if int(wide.max(initial=0)) <= 255:
        gray, notes = _from_colours(codecs.swap_red_and_blue(wide.astype(np.uint8)), colours)
        return gray, ("16-bit-container", *notes)
    opaque = wide.shape[2] == 3 or int(wide[:, :, 3].min(initial=65535)) == 65535
    rows_of = list(codecs.strips(*wide.shape[:2]))
    if opaque and all(
        np.array_equal(wide[rows, :, 0], wide[rows, :, channel])
        for rows in rows_of
        for channel in (1, 2)
    ):
        return np.ascontiguousarray(wide[:, :, 0]), ("rgb",)
    num_lost = sum(
        int(np.count_nonzero((part > 0) & (part <= 128)))
        for part in (wide[rows, :, :3].max(axis=2) for rows in rows_of)
    )
    if num_lost > 1e-3 * wide[:, :, 0].size and colours.mask_values == "auto":
        raise AmbiguousMaskError(
            "16-bit colours, some so dark that 8 bits do not hold them: a label map"
        )
    narrow = _nonzero_kept(wide) if colours.mask_values == "object_ids" else codecs.narrow(wide)
    del wide
    gray, notes = _from_colours(codecs.swap_red_and_blue(narrow), colours)
    return gray, ("16-bit", *notes)


def _nonzero_kept(wide: NDArray[np.uint16]) -> NDArray[np.uint8]:
    return np.minimum(wide, 255).astype(np.uint8)


def _from_colours(pixels: NDArray[np.uint8], colours: Colours) -> tuple[Gray, tuple[str, ...]]:
    """Grey levels of (height, width, 3) RGB or (height, width, 4) RGBA."""
    return colours.with_alpha(pixels) if pixels.shape[2] == 4 else colours.to_gray(pixels)


def _decode_by_pillow(
    data: bytes, max_pixels: int, colours: Colours
) -> tuple[Levels, tuple[str, ...]]:
    try:
        mode, pixels = _load_by_pillow(data, max_pixels)
    except Image.DecompressionBombError as error:
        raise codecs.TooLargeError(str(error)) from error
    except codecs.PILLOW_ERRORS as error:
        raise CodecError(f"it cannot be decoded ({error})") from error
    if mode in ("1", "L") or mode.startswith("I;16"):
        return pixels, ("1-bit",) if mode == "1" else ()
    gray, notes = _from_colours(np.asarray(pixels, np.uint8), colours)
    return gray, ("palette", *notes) if mode in ("P", "PA") else notes


def _load_by_pillow(data: bytes, max_pixels: int) -> tuple[str, Levels]:
    """(Pillow's mode, pixels): gray, 16-bit gray, RGB, or RGBA for the modes RGBA and LA."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of bombs; our own limit decides
        with Image.open(io.BytesIO(data)) as image:
            codecs.check_pixels(image.size, max_pixels)
            mode = image.mode
            if image.format == "WEBP" and (decoded := codecs.decode_webp(data)) is not None:
                del image
                return mode, codecs.swap_red_and_blue(decoded)
            load_as_stored(image)
            mode = image.mode
            if mode in ("1", "L"):
                return mode, pillow_pixels(image, 1, lambda strip: strip.convert("L"))
            if mode.startswith("I;16"):
                return mode, pillow_array(image).astype(np.uint16)
            if mode in ("P", "PA", "RGB"):
                return mode, pillow_pixels(image, 3, lambda strip: strip.convert("RGB"))
            if mode in ("RGBA", "LA"):
                return mode, pillow_pixels(image, 4, lambda strip: strip.convert("RGBA"))
    raise CodecError(f"it cannot be decoded (pixel mode {mode!r} is no mask)")
