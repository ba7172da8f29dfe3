"""The mask of a sample: every encoding found in the wild brought to 8-bit 0…255, or refused by
name.

What a grey level means is decided from all levels that occur, never from one pixel: 0/1 and object
ids become 0/255, soft edges stay as they are, and what is neither (a trimap, a label map, a
photograph) is ambiguous.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hqdata import codecs
from hqdata.codecs import CodecError

Gray = NDArray[np.uint8]

OBJECT_THRESHOLD = 128
"""A pixel belongs to the object when its mask value is greater than this."""

MAX_OBJECT_ID = 32
"""Gapless levels 0…k up to here are object ids: no soft mask is that dark."""

SOFT_PEAK = 192
"""A soft mask reaches at least this level somewhere."""

_NEAR_GRAY = 24
_PLATEAU_SHARE = 0.5
_EXTREME_SHARE = 0.5
_EDGES_SHARE = 0.05
_EXACT_SHARE = 0.3


class AmbiguousMaskError(Exception):
    """The grey levels or colours can be read in more than one way."""


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
    """Reads a mask file.

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
    gray, notes, keep = _decode(data, max_pixels, mask_values, accept)
    values, how = to_soft(gray, mask_values=mask_values, accept=accept)
    if how:
        notes, keep = (*notes, how), False
    if size is not None and (values.shape[1], values.shape[0]) != size:
        notes = (*notes, f"resized-from-{values.shape[1]}x{values.shape[0]}")
        values = np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        keep = False
    if keep:
        return Mask(values, data, "untouched")
    return Mask(values, codecs.encode_png(values), ", ".join((*notes, "png")))


def to_soft(
    gray: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    mask_values: Literal["auto", "object_ids"] = "auto",
    accept: bool = False,
) -> tuple[Gray, str]:
    """Grey levels as 0…255 with soft edges kept, and how they were read ("" if nothing changed).

    Takes uint8 or uint16 (height, width). The readings, first that fits:

    - object ids (asked for): every non-zero value is 255;
    - 16 bits: v / 257 where any value exceeds 255;
    - only 0 and one other level below 250: that level is 255 (0/1 masks among them);
    - gapless levels 0…k with 2 <= k <= 32: object ids, every one is 255;
    - soft edges: the peak is 192 or more, at least half of the pixels are near 0 or 255, those in
      between have more than one level and lie for the most part not in flat areas; where they are
      more than 5 % of the picture, at least 30 % of it is exactly black or white;
    - otherwise ambiguous.

    Raises:
        AmbiguousMaskError: none of these fits.
    """
    note = ""
    if gray.dtype == np.uint16:
        if int(gray.max(initial=0)) > 255 and mask_values == "auto":
            byte, note = codecs.narrow(np.asarray(gray, np.uint16)), "16-bit"
        elif mask_values == "auto":
            byte, note = gray.astype(np.uint8), "16-bit-container"
        else:
            byte, note = np.minimum(gray, 255).astype(np.uint8), "16-bit-ids"
    else:
        byte = np.asarray(gray, dtype=np.uint8)

    def named(how: str) -> str:
        return ", ".join(part for part in (note, how) if part)

    peak = int(cv2.minMaxLoc(byte)[1])
    if peak == 0:
        return byte, note
    if mask_values == "auto" and peak >= SOFT_PEAK:
        # The ordinary case, kept free of a histogram, which would cost more than all the rest.
        at_peak = cv2.inRange(byte, np.array([float(peak)]), np.array([255.0]))
        if peak < 250 and cv2.countNonZero(byte) == cv2.countNonZero(at_peak):
            return _one_level(byte, peak, named, note, accept)
        doubt = _why_not_soft(byte)
        return (byte, note) if doubt is None else _accepted(byte, note, doubt, accept)
    lit = [level for level in _levels(byte) if level > 0]
    if mask_values == "object_ids":
        one = named(f"binary-{_pair(peak)}") if peak < 255 else note
        return _nonzero(byte), named("object-ids") if len(lit) > 1 else one
    if len(lit) == 1:
        return _one_level(byte, peak, named, note, accept)
    if len(lit) == peak <= MAX_OBJECT_ID and int(cv2.minMaxLoc(byte)[0]) == 0:
        return _nonzero(byte), named("object-ids")
    doubt = f"{len(lit)} levels above 0, up to {peak}: neither soft edges nor object ids"
    return _accepted(byte, note, doubt, accept)


def _levels(gray: Gray) -> list[int]:
    """The levels that occur."""
    counts = cv2.calcHist([gray], [0], None, [256], [0, 256])
    return [int(level) for level in np.flatnonzero(counts)]


def _one_level(
    byte: Gray, level: int, named: Callable[[str], str], note: str, accept: bool
) -> tuple[Gray, str]:
    """A mask of 0 and one other level, or of that level alone."""
    if int(cv2.minMaxLoc(byte)[0]) == 0 or level == 1:
        return _nonzero(byte), named(f"binary-{_pair(level)}")
    return _accepted(byte, note, f"every pixel has the level {level}", accept)


def _accepted(byte: Gray, note: str, doubt: str, accept: bool) -> tuple[Gray, str]:
    if not accept:
        raise AmbiguousMaskError(doubt)
    return byte, ", ".join(part for part in (note, "ambiguous-accepted") if part)


def _pair(level: int) -> str:
    return "01" if level == 1 else f"0-{level}"


def _nonzero(gray: Gray) -> Gray:
    return np.asarray(cv2.threshold(gray, 0, 255, cv2.THRESH_BINARY)[1], dtype=np.uint8)


def _why_not_soft(gray: Gray) -> str | None:
    """Why the levels of a mask with a bright peak are no soft edges, or None if they are."""
    # Shares need no more than a sample of the rows where there are many.
    step = max(1, gray.shape[0] // 512)
    here, above = gray[1::step], gray[: gray.shape[0] - 1 : step]
    if min(here.shape) < 2:
        here = above = gray
    between = cv2.inRange(here, np.array([17.0]), np.array([238.0]))
    num_between = cv2.countNonZero(between)
    share = num_between / here.size
    if share > 1 - _EXTREME_SHARE:
        return (
            f"{share:.0%} of the pixels are neither near 0 nor near 255: "
            "that is a photograph rather than a mask"
        )
    if share < 1e-4:
        return None
    if share > _EDGES_SHARE:
        inexact = cv2.countNonZero(cv2.inRange(here, np.array([1.0]), np.array([254.0])))
        if inexact / here.size > 1 - _EXACT_SHARE:
            return "few pixels are exactly 0 or 255: that is a dark photograph rather than a mask"
    lowest, highest, *_ = cv2.minMaxLoc(here, between)
    if lowest == highest:
        return (
            f"one level, {int(lowest)}, between 0 and 255 where soft edges have many: a trimap or "
            "a label map"
        )
    flat = cv2.bitwise_and(between, cv2.compare(here, above, cv2.CMP_EQ))[:, 1:]
    flat = cv2.bitwise_and(flat, cv2.compare(here[:, 1:], here[:, :-1], cv2.CMP_EQ))
    if cv2.countNonZero(flat) / num_between <= _PLATEAU_SHARE:
        return None
    inner = [level for level in _levels(gray) if 17 <= level <= 238]
    shown = ", ".join(map(str, inner[:6])) + (", …" if len(inner) > 6 else "")
    return f"flat areas of the levels {shown} between 0 and 255: a trimap or a label map"


def _decode(
    data: bytes, max_pixels: int, mask_values: Literal["auto", "object_ids"], accept: bool
) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], tuple[str, ...], bool]:
    """(grey levels, what the file was, whether its bytes may stay as they are)."""
    kind = codecs.sniff(data)
    if kind is None:
        raise CodecError(codecs.describe_bytes(data))
    colours = _Colours(mask_values, accept)
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
        codecs.check_png_rows(data)
    gray, notes = _decode_by_pillow(data, max_pixels, colours)
    return gray, notes if kind == "png" else (kind, *notes), False


def _decode_gray_png(
    data: bytes, header: codecs.PngHeader
) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], tuple[str, ...], bool]:
    if header.depth == 16:
        return codecs.decode_png(data, cv2.IMREAD_ANYDEPTH), (), False
    gray = codecs.decode_png(data, cv2.IMREAD_GRAYSCALE)
    if header.depth == 8:
        return gray, (), not header.transparent and header.trailing == 0
    # OpenCV stretches 2 and 4 bits to 0…255; without white they are ids.
    ids = header.depth > 1 and int(gray.max(initial=0)) < 255
    step = 255 // (2**header.depth - 1) if ids else 1
    return np.asarray(gray // step, dtype=np.uint8), (f"{header.depth}-bit",), False


def _decode_by_pillow(
    data: bytes, max_pixels: int, colours: _Colours
) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], tuple[str, ...]]:
    try:
        mode, pixels = _load_by_pillow(data, max_pixels)
    except Image.DecompressionBombError as error:
        raise codecs.TooLargeError(str(error)) from error
    except codecs.PILLOW_ERRORS as error:
        raise CodecError(f"it cannot be decoded ({error})") from error
    if mode in ("1", "L") or mode.startswith("I;16"):
        return pixels, ("1-bit",) if mode == "1" else ()
    byte = np.asarray(pixels, np.uint8)
    if mode in ("RGBA", "LA"):
        return colours.with_alpha(byte)
    gray, notes = colours.to_gray(byte)
    return gray, ("palette", *notes) if mode in ("P", "PA") else notes


def _load_by_pillow(
    data: bytes, max_pixels: int
) -> tuple[str, NDArray[np.uint8] | NDArray[np.uint16]]:
    """(Pillow's mode, pixels): gray, 16-bit gray, RGB, or RGBA for the modes RGBA and LA."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of bombs; our own limit decides
        with Image.open(io.BytesIO(data)) as image:
            codecs.check_pixels(image.size, max_pixels)
            image.load()
            mode = image.mode
            if mode in ("1", "L"):
                return mode, codecs.pillow_pixels(image, 1, lambda strip: strip.convert("L"))
            if mode.startswith("I;16"):
                return mode, np.asarray(image).astype(np.uint16)
            if mode in ("P", "PA", "RGB"):
                return mode, codecs.pillow_pixels(image, 3, lambda strip: strip.convert("RGB"))
            if mode in ("RGBA", "LA"):
                return mode, codecs.pillow_pixels(image, 4, lambda strip: strip.convert("RGBA"))
    raise CodecError(f"it cannot be decoded (pixel mode {mode!r} is no mask)")


@dataclass(frozen=True, slots=True)
class _Colours:
    """How colours become grey levels."""

    mask_values: Literal["auto", "object_ids"]
    accept: bool

    def to_gray(self, rgb: NDArray[np.uint8]) -> tuple[Gray, tuple[str, ...]]:
        """Grey levels of an RGB picture that is grey, or black and one colour.

        Takes uint8 (height, width, 3 or 4); a fourth channel is not looked at.
        """
        mid, high = np.empty(rgb.shape[:2], np.uint8), np.empty(rgb.shape[:2], np.uint8)
        num_uneven = num_coloured = widest = 0
        for rows in codecs.strips(*rgb.shape[:2]):
            low, mid[rows], high[rows] = _sorted_channels(rgb[rows])
            spread = cv2.subtract(high[rows], low)
            num_uneven += cv2.countNonZero(spread)
            num_coloured += int(np.count_nonzero(spread > _NEAR_GRAY))
            widest = max(widest, int(spread.max(initial=0)))
        if self.mask_values == "object_ids":
            return high, ("rgb",)
        if int(high.max(initial=0)) <= MAX_OBJECT_ID:
            # One step is a whole object among 0/1 and ids: only a trace of it is rounding.
            near_gray = num_uneven / high.size <= 0.01 and widest <= 1
        else:
            near_gray = num_coloured / high.size <= 5e-4
        if near_gray:
            return mid, ("rgb",)
        colours = _colours_of(rgb)
        if len(colours) == 2 and colours[0] == 0:
            return _nonzero(high), (f"one-colour-{int(colours[1]):06x}",)
        if self.accept:
            return _nonzero(high), ("colours-accepted",)
        raise AmbiguousMaskError(f"{len(colours)} colours: a label map or a photograph")

    def with_alpha(self, rgba: NDArray[np.uint8]) -> tuple[Gray, tuple[str, ...]]:
        """Grey levels of RGBA: the picture over black, or the alpha itself where all is black.

        Overwrites what is transparent.
        """
        alpha = rgba[:, :, 3]
        if int(alpha.min(initial=255)) == 255:
            gray, notes = self.to_gray(rgba)
            return gray, ("alpha-opaque", *notes)
        if not rgba[:, :, :3].any():
            return np.ascontiguousarray(alpha), ("alpha-is-mask",)
        for rows in codecs.strips(*alpha.shape):
            rgba[rows][alpha[rows] == 0] = 0
        gray, notes = self.to_gray(rgba)
        for rows in codecs.strips(*alpha.shape):
            gray[rows] = (gray[rows].astype(np.uint32) * alpha[rows] + 127) // 255
        return gray, ("alpha-over-black", *notes)


def _colours_of(rgb: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The different colours, as 0xrrggbb, sorted. Takes uint8 (height, width, 3 or 4)."""
    found = np.empty(0, np.uint32)
    weights = np.array([65536, 256, 1], np.uint32)
    for rows in codecs.strips(*rgb.shape[:2]):
        found = np.union1d(found, rgb[rows, :, :3].astype(np.uint32) @ weights)
    return found


def _sorted_channels(rgb: NDArray[np.uint8]) -> tuple[Gray, Gray, Gray]:
    """Smallest, middle and largest of the first three channels of each pixel."""
    r, g, b = cv2.split(rgb)[:3]
    low, high = cv2.min(r, cv2.min(g, b)), cv2.max(r, cv2.max(g, b))
    mid = cv2.max(cv2.min(r, g), cv2.min(cv2.max(r, g), b))
    return np.asarray(low), np.asarray(mid), np.asarray(high)


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


def measure(values: Gray) -> MaskFigures | None:
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
