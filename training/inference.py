"""A mask for one photo and one prompt, with the geometry of segment-anything's predictor.

The photo's long side is brought to the model's input side, and the rest is padded on the right and
at the bottom; the logits go the same way back to the photo's own size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from hqdata.codecs import CodecError, decode_png
from hqdata.errors import UserError
from hqdata.pictures import make_picture
from training.data.decode import MAX_PIXELS
from training.metrics import Mask
from training.model.hq_sam import HqSam
from training.prompts import Kind, Prompts

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]
Point = tuple[float, float, int]

THRESHOLD = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class UserPrompt:
    """What the user points at, in pixels of the upright photo: one of the three.

    Attributes:
        box: x0, y0, x1, y1.
        points: x, y, and 1 for the object or 0 for the background.
        mask: bool (h, w) of the photo's size, a rough mask of the object.
    """

    box: Box | None = None
    points: tuple[Point, ...] = ()
    mask: Mask | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """A mask of the photo's size, bool (h, w), and the IoU that SAM expects of its own mask."""

    mask: Mask
    expected_iou: float


def read_photo(path: Path) -> Pixels:
    """The pixels of a picture file, upright: uint8 (h, w, 3), RGB.

    EXIF orientation is undone, CMYK and palettes are resolved, transparency is laid over white.

    Raises:
        UserError: no such file, or no picture.
    """
    try:
        picture = make_picture(_bytes(path), max_pixels=MAX_PIXELS, image_field="png")
        pixels = decode_png(picture.data, cv2.IMREAD_COLOR)
    except CodecError as error:
        raise UserError(f"cannot read the picture: {error}", where=path) from error
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def read_prior(path: Path, size: tuple[int, int]) -> Mask:
    """A rough mask from a gray picture file, above 128: bool (h, w).

    Raises:
        UserError: no such file, no picture, another size than the photo's (h, w), or empty.
    """
    gray = cv2.cvtColor(read_photo(path), cv2.COLOR_RGB2GRAY)
    if gray.shape != size:
        raise UserError(
            f"the mask has {gray.shape[1]}x{gray.shape[0]} pixels, "
            f"the upright photo {size[1]}x{size[0]}",
            where=path,
            expected="a mask of the photo's size",
        )
    mask = np.asarray(gray > THRESHOLD, np.bool_)
    if not mask.any():
        raise UserError("the mask is empty", where=path, expected="pixels brighter than 128")
    return mask


def check_prompt(prompt: UserPrompt, size: tuple[int, int]) -> None:
    """Whether there is exactly one prompt, within a photo of (height, width).

    Raises:
        UserError: not so.
    """
    given = [
        name
        for name, there in (
            ("--box", prompt.box is not None),
            ("--point", bool(prompt.points)),
            ("--mask", prompt.mask is not None),
        )
        if there
    ]
    if len(given) != 1:
        raise UserError(
            f"several kinds of prompt were given: {', '.join(given)}"
            if given
            else "no prompt was given: which object of the photo is meant?",
            expected="one of --box x0,y0,x1,y1, --point x,y (repeatable), --mask FILE",
        )
    height, width = size
    inside = f"within 0,0,{width},{height}, the pixels of the upright photo"
    if prompt.box is not None:
        x0, y0, x1, y1 = prompt.box
        told = f"the box {_numbers(prompt.box)}"
        if x0 >= x1 or y0 >= y1:
            raise UserError(f"{told} has no inside", expected="x0 < x1 and y0 < y1")
        if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
            raise UserError(f"{told} reaches out of the photo", expected=f"a box {inside}")
    for x, y, _ in prompt.points:
        if not (0 <= x < width and 0 <= y < height):
            raise UserError(
                f"the point {_numbers((x, y))} is not in the photo", expected=f"a point {inside}"
            )


@torch.no_grad()
def predict_mask(
    model: HqSam,
    photo: Pixels,
    prompt: UserPrompt,
    *,
    device: torch.device,
    hq_only: bool = False,
    multimask: bool = False,
) -> Prediction:
    """The mask of the object that the prompt means.

    Args:
        model: on `device`.
        photo: uint8 (h, w, 3), RGB.
        prompt: one kind of prompt, see `check_prompt`.
        device: where to compute.
        hq_only: the HQ token's mask alone, not added to SAM's.
        multimask: add it to the best of SAM's three masks instead of SAM's single one.
    """
    size = photo.shape[0], photo.shape[1]
    side = model.backbone.image_size
    fitted = fitted_size(size, side)
    features = model.encode(_padded(photo, fitted, model).to(device))
    prompts = _prompts(prompt, size, fitted, model.backbone.mask_size, side).to(device)
    logits, expected = model.predict(features, prompts, multimask=multimask, hq_only=hq_only)
    mask = _restored(logits, fitted, size, side)[0, 0] > 0
    return Prediction(mask.cpu().numpy(), float(expected[0, 0]))


def fitted_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) of a photo of (height, width) whose long side becomes `side`.

    Half a pixel and more is rounded up, as segment-anything does it.
    """
    scale = side / max(size)
    return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))


def _padded(photo: Pixels, fitted: tuple[int, int], model: HqSam) -> Tensor:
    """float32 (1, s, s, 3): the photo, and beside it the mean colour, which normalises to zero."""
    side = model.backbone.image_size
    resized = Image.fromarray(photo).resize(fitted[::-1], Image.Resampling.BILINEAR)
    mean = model.sam.pixel_mean.reshape(3).cpu()
    whole: Tensor = mean.expand(1, side, side, 3).clone()
    whole[0, : fitted[0], : fitted[1]] = torch.from_numpy(np.array(resized, np.float32))
    return whole


def _prompts(
    prompt: UserPrompt, size: tuple[int, int], fitted: tuple[int, int], mask_side: int, side: int
) -> Prompts:
    scale = torch.tensor([fitted[1] / size[1], fitted[0] / size[0]], dtype=torch.float64)
    box = torch.tensor([prompt.box or (0.0, 0.0, 0.0, 0.0)], dtype=torch.float64)
    points = torch.tensor([[p[:2] for p in prompt.points]], dtype=torch.float64).reshape(1, -1, 2)
    mask = torch.zeros((1, 1, mask_side, mask_side), dtype=torch.uint8)
    if prompt.mask is not None:
        kind = Kind.MASK
        mask[0, 0] = torch.from_numpy(_small_mask(prompt.mask, fitted, mask_side, side))
    else:
        kind = Kind.BOX if prompt.box is not None else Kind.POINT
    return Prompts(
        (kind,),
        (box.reshape(1, 2, 2) * scale).reshape(1, 4).float(),
        (points * scale).float(),
        torch.tensor([[p[2] for p in prompt.points]], dtype=torch.int32).reshape(1, -1),
        mask,
    )


def _small_mask(mask: Mask, fitted: tuple[int, int], mask_side: int, side: int) -> Pixels:
    """uint8 (m, m), 0 or 255, as the token was trained with: the mask in the padded square."""
    height, width = (max(1, round(length * mask_side / side)) for length in fitted)
    small = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    whole = np.zeros((mask_side, mask_side), np.uint8)
    # A thin object covers less than half of a coarse pixel, and is still the object.
    whole[:height, :width] = np.where(small > min(0.5, small.max() / 2), 255, 0)
    return whole


def _restored(logits: Tensor, fitted: tuple[int, int], size: tuple[int, int], side: int) -> Tensor:
    """Logits (1, 1, m, m) at the photo's size: to the input's side, padding off, to the photo."""
    square = functional.interpolate(logits, (side, side), mode="bilinear", align_corners=False)
    inner = square[..., : fitted[0], : fitted[1]]
    return functional.interpolate(inner, size, mode="bilinear", align_corners=False)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError("there is no such file", where=path) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=path) from error


def _numbers(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)
