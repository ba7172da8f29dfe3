"""Masks as COCO's compressed run lengths, which is how SA-1B holds them.

A mask is read column by column; its runs are the numbers of pixels outside, inside, outside, …,
the first of which may be none. Each run is written as a number in groups of five bits, the lowest
first, as the characters `0` to `o`: 48 + the five bits + 32 if more groups follow. The highest bit
of the last group is the number's sign: from the fourth run on, what is written is the difference
from the run before the last.

Everything is checked before memory is taken for pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_PIXELS = 2**30
"""Larger masks are refused."""

_MAX_GROUPS = 7
"""Groups of five bits of one number: enough for any difference of two runs of `MAX_PIXELS`."""

_FEW_RUNS = 2_000
"""Up to here setting one run after the other is faster than numpy's `repeat`."""

Runs = NDArray[np.int64]


class RleError(ValueError):
    """The run lengths are no mask of the size that they are said to be."""


def run_lengths(counts: str | bytes, height: int, width: int) -> Runs:
    """The runs of a mask: pixels outside, inside, outside, …, column by column.

    Args:
        counts: the compressed form.
        height, width: of the mask in pixels.

    Returns:
        int64, none negative, their sum height * width.

    Raises:
        RleError: the characters are no run lengths, or not those of a mask of this size.
    """
    num_pixels = _num_pixels(height, width)
    groups = _groups(counts, num_pixels)
    last = (groups & 32) == 0
    if not last[-1]:
        raise RleError("they end in the middle of a number")
    ends = np.flatnonzero(last)
    begins = np.empty_like(ends)
    begins[0], begins[1:] = 0, ends[:-1] + 1
    longest = int((ends - begins).max()) + 1
    if longest > _MAX_GROUPS:
        raise RleError(f"a number of {longest} characters is longer than any of such a mask")
    if len(ends) > num_pixels + 1:
        raise RleError(f"{len(ends):,} runs are more than a mask of {num_pixels:,} pixels can have")
    written = _numbers(groups, begins, ends, longest)
    if int(np.abs(written).max()) > num_pixels:
        raise RleError("a run is longer than the whole mask")
    # Nothing overflows: 2**30 numbers of at most 2**30 each.
    runs = written
    runs[1::2] = np.cumsum(written[1::2])
    runs[2::2] = np.cumsum(written[2::2])
    if int(runs.min()) < 0:
        raise RleError("a run has a length below zero")
    if int(runs.max()) > num_pixels or (total := int(runs.sum())) != num_pixels:
        told = "more" if int(runs.max()) > num_pixels else f"{total:,}"
        raise RleError(f"they are {told} pixels where {height} x {width} are {num_pixels:,}")
    return runs


def area(runs: Runs) -> int:
    """Number of pixels inside."""
    return int(runs[1::2].sum())


def decode(counts: str | bytes, height: int, width: int) -> NDArray[np.uint8]:
    """The mask, uint8 (height, width), C-contiguous, 255 inside and 0 outside.

    Raises:
        RleError: see `run_lengths`.
    """
    return draw(run_lengths(counts, height, width), height, width)


def draw(runs: Runs, height: int, width: int) -> NDArray[np.uint8]:
    """The mask of checked runs; see `decode`."""
    mask = np.zeros((height, width), np.uint8)
    ends = np.cumsum(runs)
    inside = np.flatnonzero(runs[1::2]) * 2 + 1
    if not inside.size:
        return mask
    # Only the columns that the object spans are drawn, as rows, and turned.
    first = int(ends[inside[0] - 1]) // height
    last = (int(ends[inside[-1]]) - 1) // height
    columns = np.zeros((last - first + 1, height), np.uint8)
    flat = columns.reshape(-1)
    begins_at, ends_at = ends[inside - 1] - first * height, ends[inside] - first * height
    if inside.size <= _FEW_RUNS:
        for begin, end in zip(begins_at.tolist(), ends_at.tolist(), strict=True):
            flat[begin:end] = 255
    else:
        steps = np.zeros(flat.size + 1, np.uint8)
        steps[begins_at] = 255
        steps[ends_at] ^= 255
        np.bitwise_xor.accumulate(steps[:-1], out=flat)
    # cv2 has no form for pictures wider than this; numpy turns them more slowly.
    turned = cv2.transpose(columns) if max(columns.shape) < 2**15 else columns.T
    mask[:, first : last + 1] = turned
    return mask


def _num_pixels(height: int, width: int) -> int:
    if height < 1 or width < 1:
        raise RleError(f"a mask of {height} x {width} has no pixels")
    if height * width > MAX_PIXELS:
        raise RleError(f"{height} x {width} are more than the limit of {MAX_PIXELS:,} pixels")
    return height * width


def _groups(counts: str | bytes, num_pixels: int) -> NDArray[np.uint8]:
    """The characters as numbers 0 to 63."""
    if len(counts) > (num_pixels + 1) * _MAX_GROUPS:
        raise RleError(f"{len(counts):,} characters are more than such a mask can have")
    if not counts:
        raise RleError("they are empty")
    try:
        data = counts.encode("ascii") if isinstance(counts, str) else counts
    except UnicodeEncodeError as error:
        raise RleError(f"they have the character {counts[error.start]!r}") from error
    # What lies below wraps around.
    groups: NDArray[np.uint8] = np.frombuffer(data, np.uint8) - np.uint8(48)
    if int(groups.max()) > 63:
        wrong = data[int(np.argmax(groups > 63))]
        raise RleError(f"they have the character {chr(wrong)!r}")
    return groups


def _numbers(
    groups: NDArray[np.uint8], begins: NDArray[np.intp], ends: NDArray[np.intp], longest: int
) -> Runs:
    """The signed numbers that end at `ends`."""
    numbers = (groups[begins] & 31).astype(np.int64)
    for place in range(1, longest):
        there = np.flatnonzero(ends - begins >= place)
        numbers[there] |= (groups[begins[there] + place] & 31).astype(np.int64) << (5 * place)
    negative = np.flatnonzero(groups[ends] & 16)
    numbers[negative] -= np.int64(1) << (5 * (ends[negative] - begins[negative] + 1))
    return numbers
