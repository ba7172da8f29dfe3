"""How the colours of a mask become grey levels, and which colours are labels instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from hqdata import codecs
from hqdata.mask_levels import MAX_OBJECT_ID, AmbiguousMaskError, Gray, nonzero

_NEAR_GRAY = 24
_LOSSLESS_GRAY = 3
_FEW = 5e-4
_LABEL_SHARE = 1e-4
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


@dataclass(frozen=True, slots=True)
class Colours:
    """How colours become grey levels.

    Attributes:
        mask_values: `object_ids` takes every colour but black as object.
        accept: take what is ambiguous, every colour but black as object.
        lossless: whether the file keeps every colour as it was drawn.
    """

    mask_values: Literal["auto", "object_ids"]
    accept: bool
    lossless: bool

    def to_gray(self, rgb: NDArray[np.uint8]) -> tuple[Gray, tuple[str, ...]]:
        """Grey levels of an RGB picture that is grey, or black and one colour.

        The level of a pixel is its middle channel. Takes uint8 (height, width, 3 or 4); a fourth
        channel is not looked at.

        What counts as grey: at most 5 in 10,000 pixels have channels more than 24 apart, as
        JPEG's chroma and colour fringes along resampled edges do. In a lossless file, moreover, no
        area may lose its colour to pure black or white, as labels such as (20, 0, 0) would: where
        the middle channel is 0 and another is not, or is 255 and another below 252, the pixel
        tells against grey, and 1 in 10,000 of them within areas (not along edges) suffice, or 5
        where channels are more than 3 apart. Any other colour keeps a level of its own, which
        `hqdata.mask_levels` takes for a label where it is flat.

        Raises:
            AmbiguousMaskError: there are more colours.
        """
        mid, high = np.empty(rgb.shape[:2], np.uint8), np.empty(rgb.shape[:2], np.uint8)
        lost = np.zeros(rgb.shape[:2], np.uint8) if self.lossless else None
        num_uneven = num_coloured = num_lost = widest = 0
        for rows in codecs.strips(*rgb.shape[:2]):
            low, mid[rows], high[rows] = _sorted_channels(rgb[rows])
            spread = np.asarray(cv2.subtract(high[rows], low), np.uint8)
            uneven = cv2.countNonZero(spread)
            if not uneven:
                continue
            num_uneven += uneven
            num_coloured += int(np.count_nonzero(spread > _NEAR_GRAY))
            widest = max(widest, int(spread.max(initial=0)))
            if lost is not None:
                apart = spread > _LOSSLESS_GRAY
                extreme = (mid[rows] == 0) | ((mid[rows] == 255) & apart)
                lost[rows] = extreme & (spread > 0)
                num_lost += int(np.count_nonzero(extreme & apart))
        if self.mask_values == "object_ids":
            return high, ("rgb",)
        if int(high.max(initial=0)) <= MAX_OBJECT_ID:
            # One step is a whole object among 0/1 and ids: only a trace of it is rounding.
            near_gray = num_uneven / high.size <= 0.01 and widest <= 1
        else:
            near_gray = num_coloured / high.size <= _FEW and num_lost / high.size <= _FEW
            if near_gray and lost is not None and num_uneven:
                num_within = cv2.countNonZero(cv2.erode(lost, _CROSS))
                near_gray = num_within / high.size <= _LABEL_SHARE
        if near_gray:
            return mid, ("rgb",)
        colours = _colours_of(rgb)
        if len(colours) == 2 and colours[0] == 0:
            return nonzero(high), (f"one-colour-{int(colours[1]):06x}",)
        if self.accept:
            return nonzero(high), ("colours-accepted",)
        raise AmbiguousMaskError(f"{len(colours)} colours: a label map or a photograph")

    def with_alpha(self, rgba: NDArray[np.uint8]) -> tuple[Gray, tuple[str, ...]]:
        """Grey levels of RGBA: the picture over black, or the alpha itself where all is black.

        Overwrites what is transparent.
        """
        alpha = rgba[:, :, 3]
        if int(alpha.min(initial=255)) == 255:
            gray, notes = self.to_gray(rgba)
            return gray, ("alpha-opaque", *notes)
        if not any(rgba[rows, :, :3].any() for rows in codecs.strips(*alpha.shape)):
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
