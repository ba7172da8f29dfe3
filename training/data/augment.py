"""Horizontal flip and large-scale jitter, as HQ-SAM trains with.

The picture is resized so that its longer side is u times the input's side, u uniform from 0.1 to 2;
a crop no larger than the input is taken at a random place, and padded on the right and at the
bottom (image 128, mask 0). Resizing is bilinear without antialiasing, positions are those of
`torch.nn.functional.interpolate(..., align_corners=False)`, and the image is cut down, not rounded,
to 8 bits. The part of the source that the crop shows is cut out before it is resized.

OpenCV older than 5 rounds the positions of `warpAffine` to 1/32 of a pixel, which makes a few per
cent of the pixels differ by a grey level or two from those of torch; from 5 on they are equal but
for rounding in the last bits of float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.decode import Picture

Compat = Literal["none", "public"]

OBJECT_ABOVE = 128
"""A pixel is object if its mask value is larger."""

PAD_VALUE = 128
"""Grey level of the image beside the picture."""

MAX_DRAWS = 10
"""How often a crop is drawn before the whole picture is taken."""

_STRIP_ROWS = 128
_BLOCK_PIXELS = 2**16
"""How much of the result is made at once, and of the source is in float32: what the caches hold."""

Image = NDArray[np.uint8]
Mask = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class JitterConfig:
    """How pictures are changed.

    Attributes:
        size: side of the model's input, in pixels.
        flip: probability of a horizontal flip.
        scale_min, scale_max: longer side of the resized picture, as a multiple of `size`.
        compat: "public" trains on a crop without any object, as the public trainer does; "none"
            draws another.
    """

    size: int
    flip: float = 0.5
    scale_min: float = 0.1
    scale_max: float = 2.0
    compat: Compat = "none"


@dataclass(frozen=True, slots=True)
class Jitter:
    """What is done to one picture.

    Attributes:
        flipped: left and right change places, first of all.
        height, width: of the resized picture, in pixels.
        top, left: of the crop in the resized picture.
    """

    flipped: bool
    height: int
    width: int
    top: int = 0
    left: int = 0


def scaled_size(size: tuple[int, int], target: int) -> tuple[int, int]:
    """(height, width) of a picture of (height, width) whose longer side shall be `target`.

    In float32 and rounded half to even, as the public trainer's tensors; at least 1 pixel.
    """
    height, width = np.float32(size[0]), np.float32(size[1])
    factor = min(np.float32(target) / height, np.float32(target) / width)
    return max(1, int(np.rint(height * factor))), max(1, int(np.rint(width * factor)))


def draw_jitter(
    generator: np.random.Generator, size: tuple[int, int], config: JitterConfig
) -> Jitter:
    """Draws a flip, a scale, and a place among all places, for a picture of (height, width)."""
    flipped = bool(generator.random() < config.flip)
    scale = np.float32(
        config.scale_min + generator.random() * (config.scale_max - config.scale_min)
    )
    height, width = scaled_size(size, int(np.rint(scale * np.float32(config.size))))
    top = int(generator.integers(max(0, height - config.size) + 1))
    left = int(generator.integers(max(0, width - config.size) + 1))
    return Jitter(flipped, height, width, top, left)


def whole_picture(
    generator: np.random.Generator, size: tuple[int, int], config: JitterConfig
) -> Jitter:
    """The whole picture, as large as fits in the input."""
    height, width = scaled_size(size, config.size)
    return Jitter(bool(generator.random() < config.flip), height, width)


def apply(image: Image, mask: NDArray[np.uint8], jitter: Jitter, size: int) -> tuple[Image, Mask]:
    """Does it.

    Args:
        image: uint8 (h, w, 3).
        mask: uint8 (h, w).
        jitter: what to do.
        size: side of the result.

    Returns:
        Image, uint8 (size, size, 3), and mask, float32 (size, size) from 0 to 255, not rounded.
    """
    new_image, new_mask = np.empty((size, size, 3), np.uint8), np.empty((size, size), np.float32)
    render(Picture(image, mask), jitter, new_image, new_mask)
    return new_image, new_mask


def augment(
    picture: Picture,
    generator: np.random.Generator,
    config: JitterConfig,
    image: Image,
    mask: Mask,
) -> Jitter:
    """Draws a jitter that leaves some of the object, and renders it.

    After `MAX_DRAWS` crops without any object it is the whole picture.

    Args:
        picture: the sample.
        generator: of the sample; see `training.data.seeds`.
        config: see `JitterConfig`.
        image, mask: where to write, see `render`.

    Returns:
        What was done.
    """
    for _ in range(MAX_DRAWS):
        jitter = draw_jitter(generator, picture.size, config)
        if config.compat == "public" or _may_show_object(picture, jitter, config.size):
            render(picture, jitter, image, mask)
            if config.compat == "public" or mask.max() > OBJECT_ABOVE:
                return jitter
    jitter = whole_picture(generator, picture.size, config)
    render(picture, jitter, image, mask)
    return jitter


def _may_show_object(picture: Picture, jitter: Jitter, size: int) -> bool:
    """Whether any source pixel of the crop is object; a mixture of others never is."""
    rows = _Axis.of(picture.size[0], jitter.height, jitter.top, size)
    columns = _Axis.of(picture.size[1], jitter.width, jitter.left, size)
    top, bottom = rows.source(0, rows.count)
    left, right = columns.source(0, columns.count)
    if jitter.flipped:
        left, right = picture.size[1] - right, picture.size[1] - left
    return bool(picture.mask[top:bottom, left:right].max() > OBJECT_ABOVE)


@dataclass(frozen=True, slots=True)
class _Axis:
    """Where the pixels of a crop come from, along one axis: from i·step + start of the source."""

    length: int
    step: float
    start: float
    count: int

    @classmethod
    def of(cls, length: int, scaled: int, offset: int, size: int) -> _Axis:
        step = length / scaled
        return cls(length, step, (offset + 0.5) * step - 0.5, min(size, scaled - offset))

    def source(self, first: int, end: int) -> tuple[int, int]:
        """The source pixels, first and past the end, that crop pixels [first, end) are made of."""
        low = int(np.floor(first * self.step + self.start))
        high = int(np.floor((end - 1) * self.step + self.start)) + 2
        # One more on either side: the position is computed in float32 in the end.
        return max(0, low - 1), min(self.length, high + 1)


def render(picture: Picture, jitter: Jitter, image: Image, mask: Mask) -> None:
    """Writes the changed picture.

    Works in strips, so that of a picture of any size only a few megabytes are ever in float32.

    Args:
        picture: the sample.
        jitter: what to do.
        image: uint8 (size, size, 3), is overwritten.
        mask: float32 (size, size), is overwritten: 0 to 255, not rounded.
    """
    size = mask.shape[0]
    rows = _Axis.of(picture.size[0], jitter.height, jitter.top, size)
    columns = _Axis.of(picture.size[1], jitter.width, jitter.left, size)
    left, right = columns.source(0, columns.count)
    cut = slice(left, right)
    if jitter.flipped:
        cut = slice(picture.size[1] - right, picture.size[1] - left)
    block = max(1, int(_BLOCK_PIXELS / (right - left) / rows.step))
    for begin in range(0, rows.count, block):
        finish = min(begin + block, rows.count)
        top, bottom = rows.source(begin, finish)
        source = _as_floats(picture, slice(top, bottom), cut, flipped=jitter.flipped)
        for first in range(begin, finish, _STRIP_ROWS):
            end = min(first + _STRIP_ROWS, finish)
            warp = np.array(
                [
                    [columns.step, 0, columns.start - left],
                    [0, rows.step, first * rows.step + rows.start - top],
                ]
            )
            strip = cv2.warpAffine(
                source,
                warp,
                (columns.count, end - first),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )
            target = image[first:end, : columns.count]
            cv2.cvtColor(strip.astype(np.uint8), cv2.COLOR_RGBA2RGB, dst=target)
            cv2.extractChannel(strip, 3, dst=mask[first:end, : columns.count])
    image[: rows.count, columns.count :] = PAD_VALUE
    mask[: rows.count, columns.count :] = 0
    image[rows.count :] = PAD_VALUE
    mask[rows.count :] = 0


def _as_floats(
    picture: Picture, rows: slice, columns: slice, *, flipped: bool
) -> NDArray[np.float32]:
    """A part of image and mask as one array of four channels, float32.

    Resampling that takes half the time that three channels and then one take.
    """
    part = cv2.cvtColor(picture.image[rows, columns], cv2.COLOR_RGB2RGBA)
    cv2.insertChannel(picture.mask[rows, columns], part, 3)
    return (cv2.flip(part, 1) if flipped else part).astype(np.float32)
