"""Perceptual fingerprints of pictures: 256 bits that re-encoding and resizing hardly change.

PDQ ("The TMK+PDQF video-hashing algorithm and the PDQ image-hashing algorithm", Facebook 2019,
ThreatExchange) of the picture brought down to 512 pixels: it blurs and samples the luma at 64x64,
keeps the 16x16 lowest frequencies of a DCT, and a bit says whether one is above their median. Two
unrelated pictures differ in about 128 bits, copies of one in some 30 at most.

A second hash, of the picture without its uniform borders, finds what was letterboxed or framed.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pdqhash
from numpy.typing import NDArray

FINGERPRINT_VERSION = 1
"""Counts up when the same picture would have another hash, so that no old one is kept."""

HASH_BYTES = 32
MAX_SIDE = 512
MIN_SIDE = 64
"""What PDQ samples: a side with fewer pixels is enlarged to as many."""

ORIENTATIONS: tuple[str, ...] = (
    "as it is",
    "quarter turn left",
    "half turn",
    "quarter turn right",
    "mirrored top to bottom",
    "mirrored",
    "mirrored, then quarter turn left",
    "mirrored, then quarter turn right",
)
"""What was done to a picture whose hash is the row of `dihedral_hashes` of that number."""

_STRICT, _LENIENT = 16, 32
"""Levels by which a pixel of a border may differ from its colour in any channel. Where both
tolerances find the border to end is where it does; a background that fades has no such place.
"""

_OUTLIERS = 0.03
"""Share of a line's pixels that may differ more: specks, and the ringing of JPEG."""

_MIN_BORDER, _MAX_VAGUE = 0.015, 0.06
"""As shares of a side: thinner borders change no hash, and vaguer ends are none."""

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class GlobalHash:
    """The fingerprint of a whole picture.

    Attributes:
        pdq: 32 bytes.
        pdq_trimmed: 32 bytes, of the picture without its borders; `pdq` where it has none.
        quality: how much there is to see in the picture, 0 to 100; PDQ itself advises against
            comparing pictures below 50, for a plain surface is like any other.
    """

    pdq: bytes
    pdq_trimmed: bytes
    quality: int


def fingerprint_versions() -> dict[str, str]:
    """What the hashes depend on beside the pixels."""
    return {
        "fingerprint": str(FINGERPRINT_VERSION),
        "opencv": cv2.__version__,
        "pdqhash": str(pdqhash.__version__),
    }


def global_hash(pixels: Pixels) -> GlobalHash:
    """The fingerprint of an upright picture.

    Takes uint8 (height, width) gray or (height, width, 3) RGB of any size, 1x1 included. Needs
    memory for a picture of 512 pixels, whatever the size.
    """
    small = _reduce(pixels)
    bits, quality = pdqhash.compute(_three_channels(_enlarge(small)))
    pdq = np.packbits(bits).tobytes()
    height, width = small.shape[:2]
    x0, y0, x1, y1 = _content(small)
    if (x0, y0, x1, y1) == (0, 0, width, height):
        return GlobalHash(pdq, pdq, int(quality))
    inside = _enlarge(small[y0:y1, x0:x1])
    trimmed = np.packbits(pdqhash.compute(_three_channels(inside))[0]).tobytes()
    return GlobalHash(pdq, trimmed, int(quality))


def dihedral_hashes(pixels: Pixels) -> Pixels:
    """PDQ of the eight flips and quarter turns of a picture, for the price of little more than one.

    Takes what `global_hash` takes; returns uint8 (8, 32) in the order of `ORIENTATIONS`. The first
    is the `pdq` of `global_hash`, but in a picture of nearly one colour (`quality` 0), where mere
    rounding decides; the others differ by a few bits from those of a picture really turned.
    """
    hashes, _ = pdqhash.compute_dihedral(_three_channels(_enlarge(_reduce(pixels))))
    return np.packbits(np.array(hashes, np.uint8), axis=1)


def hamming(a: bytes, b: bytes) -> int:
    """Number of bits in which two hashes differ.

    Raises:
        ValueError: they are not of the same length.
    """
    if len(a) != len(b):
        raise ValueError(f"hashes of {len(a)} and {len(b)} bytes cannot be compared")
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


def trim_borders(pixels: Pixels) -> Box:
    """The part of a picture inside its uniform borders: x0, y0, x1, y1 in pixels, half-open.

    A border is a strip along a side, of one colour up to the noise of JPEG, with a clear end:
    letterbox, pillarbox, frame, a studio's white ground. At least half of each side is kept, and a
    picture of one colour, or with a side below 64 pixels, is kept whole. Measured on the picture at
    512 pixels: as exact as that.

    Takes uint8 (height, width) gray or (height, width, 3) RGB.
    """
    small = _reduce(pixels)
    x0, y0, x1, y1 = _content(small)
    height, width = pixels.shape[:2]
    across, down = width / small.shape[1], height / small.shape[0]
    left, top = round(x0 * across), round(y0 * down)
    return left, top, max(left + 1, round(x1 * across)), max(top + 1, round(y1 * down))


def _reduce(pixels: Pixels) -> Pixels:
    """The picture with a longer side of 512 pixels at most."""
    height, width = pixels.shape[:2]
    scale = MAX_SIDE / max(width, height)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _enlarge(pixels: Pixels) -> Pixels:
    """Each side brought up to 64 pixels on its own: PDQ looks at 64x64 whatever the shape."""
    height, width = pixels.shape[:2]
    if min(width, height) >= MIN_SIDE:
        return pixels
    size = (max(MIN_SIDE, width), max(MIN_SIDE, height))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _three_channels(pixels: Pixels) -> Pixels:
    """The form that pdqhash takes; a gray picture is not copied for it."""
    if pixels.ndim == 3:
        return pixels
    return np.broadcast_to(pixels[:, :, None], (*pixels.shape, 3))


def _content(small: Pixels) -> Box:
    """`trim_borders` of a picture that is small already."""
    height, width = small.shape[:2]
    if min(width, height) < MIN_SIDE:
        return 0, 0, width, height  # too small for a line to tell anything
    turned = small.swapaxes(0, 1)
    top, bottom = _keep_half(_border(small), _border(small[::-1]), height)
    left, right = _keep_half(_border(turned), _border(turned[::-1]), width)
    return left, top, width - right, height - bottom


def _border(lines: Pixels) -> int:
    """How many lines from the first on are border; 0 if all are, or if it is unclear."""
    first = lines[:1]
    # Of every fourth pixel, because nearly every picture ends here.
    colour = np.median(first[0, ::4], axis=0)
    if _outliers(first, colour, _STRICT)[0] > _OUTLIERS:
        return 0
    lines = np.ascontiguousarray(lines)
    outliers = _outliers(lines, colour, _STRICT) > _OUTLIERS
    strict = int(outliers.argmax())
    if not outliers[strict] or strict == 0:
        return 0
    reach = max(2, round(_MAX_VAGUE * len(lines)))
    lenient = _outliers(lines[strict : strict + reach + 1], colour, _LENIENT) > _OUTLIERS
    vague = int(lenient.argmax())
    return strict + vague if lenient[vague] else 0


def _outliers(lines: Pixels, colour: NDArray[np.float64], tolerance: int) -> NDArray[np.float64]:
    """Share of each line's pixels that differ from the colour by more than the tolerance."""
    low, high = np.atleast_1d(colour - tolerance), np.atleast_1d(colour + tolerance)
    alike = np.asarray(cv2.inRange(lines, low, high))
    return np.asarray(1 - alike.mean(axis=1) / 255)


def _keep_half(before: int, after: int, length: int) -> tuple[int, int]:
    """Widths of the two borders of an axis, cut in proportion where they take more than half."""
    both, most = before + after, length // 2
    if both < _MIN_BORDER * length:
        return 0, 0
    if both <= most:
        return before, after
    return before * most // both, after * most // both
