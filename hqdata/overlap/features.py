"""Local features of a picture: where something is to be seen, and 256 bits of what it looks like.

SIFT (Lowe, IJCV 2004) finds and describes; each descriptor is cut to 256 bits at two of its own
quantiles (scalar quantisation, Zhou et al., ACM Multimedia 2012), so that it takes 32 bytes, needs
no codebook trained on anybody's pictures, and the descriptor of a mirrored picture is a permutation
of its bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FEATURES_VERSION = 1
"""Counts up when the same picture would give other features."""

CODE_BYTES = 32
PACKED_BYTES = CODE_BYTES + 8

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class LocalFeatures:
    """The local features of one picture.

    Attributes:
        codes: uint8 (n, 32), 256 bits a feature.
        frames: float32 (n, 4): x, y, size in pixels of the upright picture at its full size, angle
            in radians.
    """

    codes: Bytes
    frames: NDArray[np.float32]

    def __len__(self) -> int:
        """Number of features."""
        return len(self.codes)

    def packed(self, width: int, height: int) -> Bytes:
        """uint8 (n, 40): codes, then x, y, size, angle as little-endian 16-bit fractions."""
        raise NotImplementedError

    @classmethod
    def unpack(cls, packed: Bytes, width: int, height: int) -> LocalFeatures:
        """The inverse of `packed`, up to rounding."""
        raise NotImplementedError


def extract(gray: Bytes, width: int, height: int, *, max_side: int, number: int) -> LocalFeatures:
    """The features of a gray picture.

    Args:
        gray: uint8 (h, w), upright; may be smaller than the picture.
        width, height: of the upright picture at its full size, in pixels: the unit of `frames`.
        max_side: the picture is brought down to this longer side first, in pixels.
        number: how many features at most.
    """
    raise NotImplementedError
