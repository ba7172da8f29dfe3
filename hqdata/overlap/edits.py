"""What people do to a picture before it turns up again: the edits that the self-test plants.

Each edit takes an upright picture and gives another one, with nothing but the randomness that it is
handed. All of them work on pictures of any size. None leaves the picture as it was, where there is
anything to change: a grey picture stays grey.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Given:
    """What an edit works with.

    Attributes:
        picture: uint8 (h, w, 3) RGB, upright.
        donor: another picture, from which a foreground is cut that goes over this one.
        rng: the edit's randomness.
    """

    picture: Pixels
    donor: Pixels
    rng: np.random.Generator


@dataclass(frozen=True, slots=True)
class Edit:
    """One kind of edit.

    Attributes:
        name: as the report prints it.
        apply: does it.
        recall: share of planted copies that a search has to find.
        kinds: what a pair of the copy and its original may rightly be called.
    """

    name: str
    apply: Callable[[Given], Pixels]
    recall: float
    kinds: frozenset[str]


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    """The picture after a round trip through JPEG."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), flags)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(np.asarray(decoded), cv2.COLOR_BGR2RGB), np.uint8)


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """The picture at another size, averaged where it shrinks."""
    shrinks = width * height < pixels.shape[0] * pixels.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    size = (max(1, width), max(1, height))
    return np.asarray(cv2.resize(pixels, size, interpolation=how), np.uint8)


def _scaled(pixels: Pixels, factor: float) -> Pixels:
    height, width = pixels.shape[:2]
    return resize(pixels, round(width * factor), round(height * factor))


def _clip(values: NDArray[np.float32] | NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _reencoded(given: Given) -> Pixels:
    return jpeg(given.picture, int(given.rng.integers(40, 90)))


def _quarter_size(given: Given) -> Pixels:
    return _scaled(given.picture, 0.25)


def _squashed(given: Given) -> Pixels:
    return resize(given.picture, 224, 224)


def _jpeg_10(given: Given) -> Pixels:
    return jpeg(given.picture, 10)


def _grey(given: Given) -> Pixels:
    return np.repeat(cv2.cvtColor(given.picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def _brightness_and_contrast(given: Given) -> Pixels:
    gain = given.rng.uniform(0.65, 1.35)
    shift = given.rng.uniform(-40, 40)
    return _clip((given.picture.astype(np.float32) - 128) * gain + 128 + shift)


def _saturation(given: Given) -> Pixels:
    grey = _grey(given).astype(np.float32)
    factor = given.rng.choice([0.3, 1.8])
    return _clip(grey + (given.picture.astype(np.float32) - grey) * factor)


def _blur(given: Given) -> Pixels:
    sigma = max(0.7, max(given.picture.shape[:2]) / 640 * given.rng.uniform(1.5, 2.5))
    return np.asarray(cv2.GaussianBlur(given.picture, (0, 0), sigma), np.uint8)


def _sharpen(given: Given) -> Pixels:
    values = given.picture.astype(np.float32)
    return _clip(values + 1.2 * (values - cv2.GaussianBlur(values, (0, 0), 1.5)))


def _mirrored(given: Given) -> Pixels:
    return np.array(given.picture[:, ::-1], order="C")


def _quarter_turn(given: Given) -> Pixels:
    return np.array(np.rot90(given.picture, int(given.rng.choice([1, 3]))), order="C")


def _bordered(given: Given) -> Pixels:
    height, width = given.picture.shape[:2]
    share = given.rng.uniform(0.05, 0.15)
    dy, dx = max(1, round(height * share)), max(1, round(width * share))
    colour = [int(v) for v in given.rng.choice([[0, 0, 0], [255, 255, 255], [30, 60, 120]])]
    return np.asarray(
        cv2.copyMakeBorder(given.picture, dy, dy, dx, dx, cv2.BORDER_CONSTANT, value=colour),
        np.uint8,
    )


def _caption_bar(given: Given) -> Pixels:
    height, width = given.picture.shape[:2]
    bar = np.full((max(8, round(height * 0.14)), width, 3), 255, np.uint8)
    size = bar.shape[0] / 40
    text = "".join(chr(int(c)) for c in given.rng.integers(97, 123, 24))
    at = (round(width * 0.04), round(bar.shape[0] * 0.65))
    cv2.putText(bar, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), max(1, round(size * 2)))
    return np.concatenate([given.picture, bar])


def _rotated(given: Given) -> Pixels:
    height, width = given.picture.shape[:2]
    degrees = float(given.rng.choice([-3.0, 3.0]))
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return np.asarray(
        cv2.warpAffine(given.picture, turn, (width, height), flags=cv2.INTER_CUBIC), np.uint8
    )


def _logo(given: Given) -> Pixels:
    edited: Pixels = np.array(given.picture)
    height, width = edited.shape[:2]
    side = max(4, round(min(height, width) * 0.15))
    x, y = round(width * 0.97) - side, round(height * 0.97) - side
    x, y = max(0, x), max(0, y)
    colour = [int(v) for v in given.rng.integers(0, 256, 3)]
    cv2.rectangle(edited, (x, y), (x + side, y + side), colour, -1)
    cv2.circle(edited, (x + side // 2, y + side // 2), side // 3, (255, 255, 255), -1)
    return edited


def crop(pixels: Pixels, area: float, rng: np.random.Generator) -> Pixels:
    """A part of the picture of its own shape and a share `area` of its size, anywhere."""
    height, width = pixels.shape[:2]
    h, w = max(1, round(height * area**0.5)), max(1, round(width * area**0.5))
    y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    return np.array(pixels[y : y + h, x : x + w])


def _cropped(area: float) -> Callable[[Given], Pixels]:
    return lambda given: crop(given.picture, area, given.rng)


def blob(height: int, width: int, area: float, rng: np.random.Generator) -> Pixels:
    """A mask uint8 (height, width), 255 in one irregular spot that covers a share `area`."""
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    centre_y, centre_x = rng.uniform(0.3, 0.7) * height, rng.uniform(0.3, 0.7) * width
    dy, dx = (ys - centre_y) / height, (xs - centre_x) / width
    angle = np.arctan2(dy, dx)
    wave = np.ones_like(angle)
    for harmonic in range(2, 6):
        wave += rng.uniform(-0.25, 0.25) / harmonic * np.cos(harmonic * angle + rng.uniform(0, 6.3))
    distance = np.hypot(dy, dx) / wave
    return np.where(distance <= np.quantile(distance, area), 255, 0).astype(np.uint8)


def paste(given: Given, area: float) -> Pixels:
    """A foreground cut from the donor over a share `area` of the picture."""
    height, width = given.picture.shape[:2]
    donor = resize(given.donor, width, height)
    mask = cv2.GaussianBlur(blob(height, width, area, given.rng), (0, 0), 1.0)
    alpha = mask[..., None].astype(np.float32) / 255
    return _clip(alpha * donor + (1 - alpha) * given.picture)


def _pasted(area: float) -> Callable[[Given], Pixels]:
    return lambda given: paste(given, area)


def _combined(given: Given) -> Pixels:
    part = crop(given.picture, 0.6, given.rng)[:, ::-1]
    return jpeg(_scaled(np.ascontiguousarray(part), 0.7), 40)


_WHOLE = frozenset({"near", "identical_pixels"})
_PART = frozenset({"crop", "near"})
_COVERED = frozenset({"composite", "near"})

EDITS: tuple[Edit, ...] = (
    Edit("re-encoded", _reencoded, 0.995, _WHOLE),
    Edit("resized to 1/4", _quarter_size, 0.995, _WHOLE),
    Edit("squashed to 224x224", _squashed, 0.995, _WHOLE),
    Edit("JPEG quality 10", _jpeg_10, 0.995, _WHOLE),
    Edit("grey", _grey, 0.995, _WHOLE),
    Edit("brightness and contrast", _brightness_and_contrast, 0.995, _WHOLE),
    Edit("saturation", _saturation, 0.995, _WHOLE),
    Edit("blurred", _blur, 0.995, _WHOLE),
    Edit("sharpened", _sharpen, 0.995, _WHOLE),
    Edit("mirrored", _mirrored, 0.99, _WHOLE),
    Edit("quarter turn", _quarter_turn, 0.99, _WHOLE),
    Edit("bordered", _bordered, 0.99, _WHOLE | {"crop", "composite"}),
    Edit("caption bar", _caption_bar, 0.99, _WHOLE | {"crop", "composite"}),
    Edit("rotated by 3 degrees", _rotated, 0.99, _PART),
    Edit("small logo", _logo, 0.99, _COVERED),
    Edit("cropped to 80%", _cropped(0.8), 0.99, _PART),
    Edit("cropped to 60%", _cropped(0.6), 0.98, _PART),
    Edit("cropped to 30%", _cropped(0.3), 0.90, _PART),
    Edit("10% pasted over", _pasted(0.10), 0.99, _COVERED),
    Edit("25% pasted over", _pasted(0.25), 0.98, _COVERED),
    Edit("50% pasted over", _pasted(0.50), 0.95, _COVERED),
    Edit("70% pasted over", _pasted(0.70), 0.75, _COVERED),
    Edit("cropped, mirrored, JPEG, resized", _combined, 0.95, _PART),
)
"""Every edit with the share of its copies that the search has to find."""
