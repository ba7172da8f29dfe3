"""Local features of a picture: where something is to be seen, and 256 bits of what it looks like.

SIFT (Lowe, IJCV 2004) finds and describes. Each descriptor is cut to 256 bits at two of its own
quantiles, after the idea of scalar quantisation (Zhou et al., ACM Multimedia 2012): it takes 32
bytes, needs no codebook trained on anybody's pictures, and the descriptor of a mirrored picture is
a permutation of its bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

FEATURES_VERSION = 1
"""Counts up when the same picture would give other features."""

CODE_BYTES = 32
PACKED_BYTES = CODE_BYTES + 8

TRAIN_SIDE, TRAIN_NUMBER = 480, 300
"""Longer side in pixels, and features, of a training picture: there are many of them."""

EVALUATION_SIDE, EVALUATION_NUMBER = 640, 800
"""The same of an evaluation picture: there are few, and a crop of one shows few of its features."""

_CONTRAST = 0.01
"""SIFT's own default is 0.04, which leaves smooth pictures with a handful of features."""

_GRID = 8
"""Features are taken in turn from 8x8 cells: what covers half of the picture covers half of them,
even where the other half is the sharper one.
"""

_SURPLUS = 2.5
"""Features described for each one kept, so that the cells have a choice."""

_MIRRORED_AT_ONCE = 65_536

Bytes = NDArray[np.uint8]
Frames = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LocalFeatures:
    """The local features of one picture.

    Attributes:
        codes: uint8 (n, 32), 256 bits a feature.
        frames: float32 (n, 4): x, y, diameter in pixels of the upright picture at its full size,
            and angle in radians, 0 to 2 pi.
    """

    codes: Bytes
    frames: Frames

    def __len__(self) -> int:
        """Number of features."""
        return len(self.codes)

    def packed(self, width: int, height: int) -> Bytes:
        """uint8 (n, 40): the code, then x, y, diameter and angle as little-endian 16-bit numbers.

        x and y are fractions of width and height, the diameter is a logarithm, the angle a
        fraction of the full turn.
        """
        scaled = np.empty((len(self), 4), np.float64)
        scaled[:, 0] = self.frames[:, 0] / width * 0xFFFF
        scaled[:, 1] = self.frames[:, 1] / height * 0xFFFF
        scaled[:, 2] = (np.log2(np.maximum(self.frames[:, 2], 2.0**-8)) + 8) * 2048
        scaled[:, 3] = self.frames[:, 3] / (2 * np.pi) * 0x10000 % 0x10000
        words = np.clip(np.floor(scaled + 0.5), 0, 0xFFFF).astype("<u2")
        return np.concatenate([self.codes, words.view(np.uint8).reshape(-1, 8)], axis=1)

    @classmethod
    def unpack(cls, packed: Bytes, width: int, height: int) -> LocalFeatures:
        """The inverse of `packed`, up to rounding."""
        words = np.ascontiguousarray(packed[:, CODE_BYTES:]).view("<u2").astype(np.float32)
        frames = np.empty((len(packed), 4), np.float32)
        frames[:, 0] = words[:, 0] / 0xFFFF * width
        frames[:, 1] = words[:, 1] / 0xFFFF * height
        frames[:, 2] = np.exp2(words[:, 2] / 2048 - 8)
        frames[:, 3] = words[:, 3] / 0x10000 * (2 * np.pi)
        return cls(np.ascontiguousarray(packed[:, :CODE_BYTES]), frames)


def extract_train(pixels: Bytes) -> LocalFeatures:
    """The features of a training picture, uint8 (h, w) gray or (h, w, 3) RGB."""
    return extract(pixels, max_side=TRAIN_SIDE, number=TRAIN_NUMBER)


def extract_evaluation(pixels: Bytes) -> LocalFeatures:
    """The features of an evaluation picture, uint8 (h, w) gray or (h, w, 3) RGB."""
    return extract(pixels, max_side=EVALUATION_SIDE, number=EVALUATION_NUMBER)


def to_gray(pixels: Bytes, max_side: int) -> Bytes:
    """The picture in gray, brought down to a longer side of at most `max_side` pixels."""
    gray = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    height, width = gray.shape
    factor = max_side / max(height, width)
    if factor >= 1:
        return np.asarray(gray, np.uint8)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8)


def extract(pixels: Bytes, *, max_side: int, number: int) -> LocalFeatures:
    """The features of an upright picture.

    Args:
        pixels: uint8 (h, w) gray or (h, w, 3) RGB.
        max_side: it is brought down to this longer side first, in pixels.
        number: how many features at most.
    """
    gray = to_gray(pixels, max_side)
    height, width = gray.shape
    found, descriptors = _sift(round(number * _SURPLUS)).detectAndCompute(gray, None)
    if descriptors is None or not len(found):
        return LocalFeatures(np.empty((0, CODE_BYTES), np.uint8), np.empty((0, 4), np.float32))
    frames = np.array([(*k.pt, k.size, np.deg2rad(k.angle)) for k in found], np.float32)
    response = np.array([k.response for k in found], np.float32)
    kept = _spread(frames, response, (width, height), number)
    frames = frames[kept]
    # Pixel centres: (x + 0.5) scales, x alone does not.
    scale = np.array([pixels.shape[1] / width, pixels.shape[0] / height], np.float32)
    frames[:, :2] = (frames[:, :2] + 0.5) * scale - 0.5
    frames[:, 2] *= float(np.sqrt(scale[0] * scale[1]))
    return LocalFeatures(binarise(np.asarray(descriptors, np.float32)[kept]), frames)


@lru_cache(maxsize=4)
def _sift(number: int) -> cv2.SIFT:
    return cv2.SIFT.create(nfeatures=number, contrastThreshold=_CONTRAST)


def _spread(
    frames: Frames, response: NDArray[np.float32], size: tuple[int, int], number: int
) -> NDArray[np.intp]:
    """Indices of the features to keep: the strongest of every cell, then the second of each, …"""
    column = np.clip(frames[:, 0] * _GRID // size[0], 0, _GRID - 1)
    row = np.clip(frames[:, 1] * _GRID // size[1], 0, _GRID - 1)
    cell = (row * _GRID + column).astype(np.intp)
    order = np.lexsort((-response, cell))
    first = np.r_[True, np.diff(cell[order]) != 0]
    begin = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    rank = np.empty(len(order), np.intp)
    rank[order] = np.arange(len(order)) - begin
    return np.sort(np.lexsort((-response, rank))[:number])


def binarise(descriptors: NDArray[np.float32]) -> Bytes:
    """uint8 (n, 32): which of the 128 values are above the median, then above the upper quartile.

    Args:
        descriptors: float32 (n, 128), SIFT's.
    """
    ordered = np.sort(descriptors, axis=1)
    bits = [descriptors > ordered[:, 64:65], descriptors > ordered[:, 96:97]]
    return np.packbits(np.concatenate(bits, axis=1), axis=1)


def mirrored(codes: Bytes) -> Bytes:
    """The codes that the same features have in the mirrored picture, uint8 (n, 32)."""
    result = np.empty_like(codes)
    for begin in range(0, len(codes), _MIRRORED_AT_ONCE):  # bits take eight times the room of bytes
        part = slice(begin, begin + _MIRRORED_AT_ONCE)
        result[part] = np.packbits(np.unpackbits(codes[part], axis=1)[:, _MIRROR], axis=1)
    return result


def _mirror_permutation() -> NDArray[np.intp]:
    """A descriptor is 4x4 cells by 8 directions, turned to the feature's own direction: a mirror
    swaps the two sides of that direction, and with them the sense in which angles run.
    """
    index = np.arange(128).reshape(4, 4, 8)
    swapped = index[::-1][:, :, -np.arange(8) % 8].ravel()
    return np.concatenate([swapped, swapped + 128])


_MIRROR = _mirror_permutation()
