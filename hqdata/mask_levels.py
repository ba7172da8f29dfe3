"""What the grey levels of a mask mean: decided from all levels that occur and from where they lie,
never from one pixel.

0/1 and object ids become 0/255, soft edges stay as they are, and what is neither (a trimap, a label
map with a bright border, a photograph) is ambiguous.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from hqdata import codecs

Gray = NDArray[np.uint8]
Levels = NDArray[np.uint8] | NDArray[np.uint16]

MAX_OBJECT_ID = 32
"""Gapless levels 0…k up to here are object ids: no soft mask is that dark."""

SOFT_PEAK = 192
"""A soft mask reaches at least this level somewhere."""

_DARK, _BRIGHT = 16, 239
_PLATEAU_SHARE = 0.5
_EXTREME_SHARE = 0.5
_EDGES_SHARE = 0.05
_EXACT_SHARE = 0.3
_INNER_SHARE = 1e-4
_AREA_SHARE = 1e-3
_MAX_SAMPLED_ROWS = 512


_Level = TypeVar("_Level", np.uint8, np.uint16)


class AmbiguousMaskError(Exception):
    """The grey levels or colours can be read in more than one way."""


def to_soft(
    gray: Levels,
    *,
    mask_values: Literal["auto", "object_ids"] = "auto",
    accept: bool = False,
    lossless: bool = True,
) -> tuple[Gray, str]:
    """Grey levels as 0…255 with soft edges kept, and how they were read ("" if nothing changed).

    Takes uint8 or uint16 (height, width). The readings, first that fits:

    - object ids (asked for): every non-zero value is 255;
    - 16 bits with a value above 255: v / 257, once the 16-bit levels themselves have passed what
      follows, so that no id vanishes in the division;
    - only 0 and one other level below 250 (16 bits: 64250): that level is 255 (0/1 masks among
      them);
    - gapless levels 0…k with 2 <= k <= 32: object ids, every one is 255;
    - soft edges: the peak is 192 or more, at least half of the pixels are near 0 or 255, those in
      between have more than one level and lie for the most part not in flat areas; where they are
      more than 5 % of the picture, at least 30 % of it is exactly black or white;
    - otherwise ambiguous.

    With `lossless`, soft edges must also be free of labels at any level from 1 to 238, those next
    to black included: ids beside a void border of 255 are refused. Levels from 239 are object
    whatever they were meant to be. A level is a label where more than 1 in 1000 pixels of the
    picture have it and equal their four neighbours, and these are more than half of all pixels of
    the level: a matte or a resampled mask has flat spots too, ringing at levels 1…16 among them,
    but they are few, or most pixels of their level are no part of them. Labels too thin to be flat
    are found where a single level lies between 0 and the peak, or none but levels up to 16. Objects
    smaller than that share pass unseen. JPEG rings around every edge, and its flat blocks need not
    be exactly black: without `lossless` only levels 17…238 are looked at.

    Raises:
        AmbiguousMaskError: none of these fits.
    """
    byte, note = _as_bytes(gray, mask_values)

    def named(how: str) -> str:
        return ", ".join(part for part in (note, how) if part)

    if mask_values == "auto" and note == "16-bit":
        wide = np.asarray(gray, np.uint16)
        lit = _lit_levels(wide)
        if len(lit) == 1 and lit[0] < 250 * 257:
            return _one_level(wide, lit[0], named, byte, accept)
        if len(lit) > 1:
            doubt = _doubt_of_16_bits(wide, lit)
            if doubt is not None:
                return _accepted(byte, note, doubt, accept)
            lossless = False  # the 16-bit levels have been looked at
    peak = int(cv2.minMaxLoc(byte)[1])
    if peak == 0:
        return byte, note
    if mask_values == "auto" and peak >= SOFT_PEAK:
        # The ordinary case, kept free of a histogram, which would cost more than all the rest.
        if peak < 250 and cv2.countNonZero(byte) == cv2.countNonZero(_within(byte, peak, 255)):
            return _one_level(byte, peak, named, byte, accept)
        doubt = _why_not_soft(byte, lossless)
        return (byte, note) if doubt is None else _accepted(byte, note, doubt, accept)
    lit = _lit_levels(byte)
    if mask_values == "object_ids":
        one = named(f"binary-{_pair(peak)}") if peak < 255 else note
        return nonzero(byte), named("object-ids") if len(lit) > 1 else one
    if len(lit) == 1:
        return _one_level(byte, peak, named, byte, accept)
    if len(lit) == peak <= MAX_OBJECT_ID and int(cv2.minMaxLoc(byte)[0]) == 0:
        return nonzero(byte), named("object-ids")
    return _accepted(byte, note, _too_dark(lit), accept)


def nonzero(gray: Levels) -> Gray:
    """255 where a value is not 0."""
    return _within(gray, 1, int(np.iinfo(gray.dtype).max))


def _as_bytes(gray: Levels, mask_values: str) -> tuple[Gray, str]:
    """8-bit levels, and what was done for them."""
    if gray.dtype != np.uint16:
        return np.asarray(gray, dtype=np.uint8), ""
    if mask_values == "object_ids":
        return np.minimum(gray, 255).astype(np.uint8), "16-bit-ids"
    if int(gray.max(initial=0)) > 255:
        return codecs.narrow(np.asarray(gray, np.uint16)), "16-bit"
    return gray.astype(np.uint8), "16-bit-container"


def _lit_levels(gray: Levels) -> list[int]:
    """The levels above 0 that occur."""
    return [int(level) for level in np.flatnonzero(_counts(gray)) if level > 0]


def _counts(gray: Levels) -> NDArray[np.float32]:
    """Number of pixels of each level."""
    size = 2 ** (8 * gray.dtype.itemsize)
    counts = cv2.calcHist([np.ascontiguousarray(gray)], [0], None, [size], [0, size])
    return np.asarray(counts, np.float32).ravel()


def _within(gray: Levels, low: int, high: int) -> Gray:
    """255 where low <= value <= high."""
    inside = cv2.inRange(gray, np.array([float(low)]), np.array([float(high)]))
    return np.asarray(inside, np.uint8)


def _one_level(
    gray: Levels, level: int, named: Callable[[str], str], byte: Gray, accept: bool
) -> tuple[Gray, str]:
    """A mask of 0 and one other level, or of that level alone."""
    if int(cv2.minMaxLoc(gray)[0]) == 0 or level == 1:
        return nonzero(gray), named(f"binary-{_pair(level)}")
    return _accepted(byte, named(""), f"every pixel has the level {level}", accept)


def _accepted(byte: Gray, note: str, doubt: str, accept: bool) -> tuple[Gray, str]:
    if not accept:
        raise AmbiguousMaskError(doubt)
    return byte, ", ".join(part for part in (note, "ambiguous-accepted") if part)


def _pair(level: int) -> str:
    return "01" if level == 1 else f"0-{level}"


def _listed(levels: list[int]) -> str:
    shown = ", ".join(map(str, levels[:6])) + (", …" if len(levels) > 6 else "")
    return f"level {shown}" if len(levels) == 1 else f"levels {shown}"


def _too_dark(lit: list[int]) -> str:
    return f"{len(lit)} levels above 0, up to {lit[-1]}: neither soft edges nor object ids"


def _doubt_of_16_bits(wide: NDArray[np.uint16], lit: list[int]) -> str | None:
    """Why several 16-bit levels, at least one above 255, are no soft edges, or None."""
    if lit[-1] < SOFT_PEAK * 257:
        return _too_dark(lit)
    here, above, below = _sampled_rows(wide)
    inner = _within(here, 1, min(lit[-1] - 1, _BRIGHT * 257 - 1))
    return _labels(here, above, below, inner, lit[-1])


def _why_not_soft(gray: Gray, lossless: bool) -> str | None:
    """Why the levels of a mask with a bright peak are no soft edges, or None if they are."""
    here, above, below = _sampled_rows(gray)
    # Between black and white come first: a hard mask has none and is done.
    inexact = _within(here, 1, 254)
    share_inexact = cv2.countNonZero(inexact) / here.size
    if share_inexact < _INNER_SHARE:
        return None
    between = _within(here, _DARK + 1, _BRIGHT - 1)
    num_between = cv2.countNonZero(between)
    share = num_between / here.size
    if share > 1 - _EXTREME_SHARE:
        return (
            f"{share:.0%} of the pixels are neither near 0 nor near 255: "
            "that is a photograph rather than a mask"
        )
    if share > _EDGES_SHARE and share_inexact > 1 - _EXACT_SHARE:
        return "few pixels are exactly 0 or 255: that is a dark photograph rather than a mask"
    if share >= _INNER_SHARE:
        doubt = _flat_greys(here, above, between, num_between)
        if doubt is not None:
            return doubt
    if not lossless:
        return None
    peak = int(cv2.minMaxLoc(here)[1])
    # Levels just below white are object whatever they were meant to be: mattes are full of 254.
    return _labels(here, above, below, _within(here, 1, min(peak, _BRIGHT) - 1), peak)


def _sampled_rows(
    gray: NDArray[_Level],
) -> tuple[NDArray[_Level], NDArray[_Level], NDArray[_Level]]:
    """Rows, the row above each and the row below each: all inner ones, of many a sample.

    What is looked for are shares of the picture, which a sample tells.
    """
    if min(gray.shape) < 3:
        gray = np.pad(gray, 1, mode="edge")
    step = max(1, gray.shape[0] // _MAX_SAMPLED_ROWS)
    return gray[1:-1:step], gray[:-2:step], gray[2::step]


def _flat_greys(here: Gray, above: Gray, between: Gray, num_between: int) -> str | None:
    """Why levels well between black and white are no soft edges: one level, or flat areas."""
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
    inner = [level for level in _lit_levels(here) if _DARK < level < _BRIGHT]
    return f"flat areas of the {_listed(inner)} between 0 and 255: a trimap or a label map"


def _labels(here: Levels, above: Levels, below: Levels, inner: Gray, peak: int) -> str | None:
    """Why levels between 0 and the peak are labels rather than soft edges, or None.

    Args:
        here, above, below: rows and their neighbours, uint8 or uint16.
        inner: 255 where a level of `here` is above 0, below the peak and not nearly white.
        peak: highest level.
    """
    num_inner = cv2.countNonZero(inner)
    if num_inner <= _AREA_SHARE * here.size:
        return None
    lowest, highest, *_ = cv2.minMaxLoc(here, inner)
    if lowest == highest:
        return (
            f"one level, {int(lowest)}, between 0 and {peak} where soft edges have many: a trimap "
            "or a label map"
        )
    scale = 257 if here.dtype == np.uint16 else 1
    if highest <= _DARK * scale:
        levels = [level for level in _lit_levels(here) if level < peak]
        return f"the {_listed(levels)} beside {peak} and no edge between: a label map"
    sides = cv2.compare(here[:, 1:], here[:, :-1], cv2.CMP_EQ)
    flat = cv2.bitwise_and(inner[:, 1:-1], cv2.bitwise_and(sides[:, 1:], sides[:, :-1]))
    for other in (above, below):
        if cv2.countNonZero(flat) <= _AREA_SHARE * here.size:
            return None
        same = cv2.compare(here[:, 1:-1], other[:, 1:-1], cv2.CMP_EQ)
        flat = cv2.bitwise_and(flat, same)
    flat_counts = np.bincount(here[:, 1:-1][flat > 0])
    counts = _counts(here)[: len(flat_counts)]
    enough = (flat_counts > _AREA_SHARE * here.size) & (flat_counts > _PLATEAU_SHARE * counts)
    labels = [int(level) for level in np.flatnonzero(enough)]
    if not labels:
        return None
    return f"flat areas of the {_listed(labels)} between 0 and {peak}: a trimap or a label map"
