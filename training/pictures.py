"""Sample pictures: image with prompt, SAM's mask, the HQ token's mask and the truth, side by side.

The colours are four of Okabe and Ito's, which people with any kind of colour blindness tell apart;
what is not the object is gray and dimmed, so that even a print in gray shows the mask.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hqdata.codecs import encode_png
from hqdata.files import write_whole
from hqdata.shards.dataset import Dataset
from training.data.decode import read_picture
from training.eval_samples import PromptChoice, make_batch, make_sample
from training.evaluation import mask_of, score_image
from training.metrics import Mask
from training.model.hq_sam import HqSam
from training.prompts import Kind
from training.scores import ImageScore

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

SAM_COLOUR: Colour = (230, 159, 0)
HQ_COLOUR: Colour = (86, 180, 233)
TRUTH_COLOUR: Colour = (0, 158, 115)
PROMPT_COLOUR: Colour = (240, 228, 66)

_GROUND: Colour = (24, 27, 33)
_INK: Colour = (236, 238, 242)
_GAP = 6
_CAPTION = 22
_NARROWEST = 170
_WIDEST = 1.5
"""Width of a cell over its height, at most; wider pictures are made smaller."""


@dataclass(frozen=True, slots=True)
class Example:
    """One image with its masks, at the size at which it is shown.

    Attributes:
        image: uint8 (h, w, 3), RGB.
        box: x0, y0, x1, y1 in pixels of `image`, None if prompted otherwise.
        points: x, y in pixels of `image`.
        sam, hq, truth: bool (h, w).
        score: the figures, measured at the image's own size.
    """

    image: Pixels
    box: tuple[float, float, float, float] | None
    points: tuple[tuple[float, float], ...]
    sam: Mask
    hq: Mask
    truth: Mask
    score: ImageScore


def choose_rows(dataset: Dataset, number: int, seed: int = 0) -> list[int]:
    """Rows to look at: the same ones after every epoch, taking turns among the sets.

    Which ones of a set is decided by a hash of seed and key.
    """
    columns = dataset.samples.select(["key", "source", "split"]).to_pydict()
    queues: dict[str, list[tuple[bytes, int]]] = {}
    for row, (key, source, split) in enumerate(zip(*columns.values(), strict=True)):
        drawn = hashlib.sha256(f"picture/{seed}/{key}".encode()).digest()
        queues.setdefault(f"{source}/{split}", []).append((drawn, row))
    turns = [
        (turn, name, row)
        for name, queue in queues.items()
        for turn, (_, row) in enumerate(sorted(queue))
    ]
    return [row for _, _, row in sorted(turns)[:number]]


@torch.no_grad()
def make_examples(
    model: HqSam,
    dataset: Dataset,
    rows: Sequence[int],
    *,
    device: torch.device,
    prompt: PromptChoice | None = None,
    height: int = 240,
) -> list[Example]:
    """Computes examples one by one; images without an object are left out.

    Args:
        model: on `device`.
        dataset: where from; an evaluation set or a training set.
        rows: which.
        device: where to compute.
        prompt: the tight box by default.
        height: of the pictures, in pixels.

    Raises:
        DatasetError: an image cannot be read.
    """
    prompt = prompt or PromptChoice()
    found = []
    for index in rows:
        row, picture = dataset.row(index), read_picture(dataset, index)
        side = model.backbone.image_size
        sample = make_sample(picture, index, row["key"], side, prompt)
        if not sample.has_object:
            continue
        batch = make_batch([sample], model.backbone.mask_size)
        features = model.encode(batch.images.to(device))
        prompts = batch.prompts.to(device)
        sam = model.sam_logits(features, prompts)[0][0, 0].float().cpu().numpy()
        hq = model.hq_logits(features, prompts)[0, 0].float().cpu().numpy()
        score = score_image(sample, row["key"], f"{row['source']}/{row['split']}", sam, hq)
        shown = _fitted(sample.size, height)
        scale = np.array([shown[1] / side, shown[0] / side])
        # The box is of inclusive pixels: it ends where its last ones end.
        corners = (sample.box.reshape(2, 2) + np.array([[0], [1]])) * scale
        x0, y0, x1, y1 = corners.ravel().tolist()
        found.append(
            Example(
                _resized(picture.image, shown),
                (x0, y0, x1, y1) if prompt.kind == Kind.BOX else None,
                tuple((float(x), float(y)) for x, y in (sample.points + 0.5) * scale),
                mask_of(sam, shown),
                mask_of(hq, shown),
                _resized(picture.mask, shown) > 128,
                score,
            )
        )
    return found


def draw_sheet(examples: Iterable[Example]) -> Pixels:
    """All examples below one another, uint8 (h, w, 3), RGB."""
    rows = [draw_row(example) for example in examples]
    if not rows:
        rows = [np.full((_CAPTION, 8 * _CAPTION, 3), _GROUND, np.uint8)]
    width = max(row.shape[1] for row in rows)
    return np.concatenate([_padded(row, row.shape[0], width) for row in rows])


def draw_row(example: Example) -> Pixels:
    """One example: four pictures with their captions, uint8 (h, w, 3), RGB."""
    score = example.score
    cells = [
        (_with_prompt(example), score.key),
        (
            _with_mask(example.image, example.sam, SAM_COLOUR),
            f"SAM  {_figures(score.sam_iou, score.sam_boundary_iou)}",
        ),
        (
            _with_mask(example.image, example.hq, HQ_COLOUR),
            f"HQ  {_figures(score.hq_iou, score.hq_boundary_iou)}",
        ),
        (_with_mask(example.image, example.truth, TRUTH_COLOUR), "truth"),
    ]
    return np.concatenate([_cell(picture, caption) for picture, caption in cells], axis=1)


def write_png(path: Path, pixels: Pixels) -> None:
    """Writes a picture, whole or not at all."""
    write_whole(path, encode_png(pixels))


def overlay(image: Pixels, mask: Mask, colour: Colour = HQ_COLOUR) -> Pixels:
    """An image of any size with a mask over it, uint8 (h, w, 3), RGB."""
    return _with_mask(image, mask, colour)


def _figures(overlap: float, edge: float) -> str:
    return f"IoU {100 * overlap:.1f} · boundary {100 * edge:.1f}"


def _fitted(size: tuple[int, int], height: int) -> tuple[int, int]:
    """(height, width) at which a picture of `size` is shown."""
    factor = min(height / size[0], _WIDEST * height / size[1])
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    smaller = size[0] < pixels.shape[0]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size[::-1], interpolation=how), np.uint8)


def _with_mask(image: Pixels, mask: Mask, colour: Colour) -> Pixels:
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    dimmed = cv2.convertScaleAbs(gray, alpha=0.45, beta=10)
    tint = np.full_like(image, colour)
    tinted = cv2.addWeighted(image, 0.5, tint, 0.5, 0)
    shown = np.where(mask[:, :, None], tinted, dimmed)
    outlines, _ = cv2.findContours(
        np.ascontiguousarray(mask).view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    thick = max(1, round(max(mask.shape) / 600))
    return np.asarray(cv2.drawContours(shown, outlines, -1, colour, thick, cv2.LINE_AA), np.uint8)


def _with_prompt(example: Example) -> Pixels:
    shown: Pixels = np.array(example.image)
    if example.box is not None:
        x0, y0, x1, y1 = (round(value) for value in example.box)
        height, width = shown.shape[:2]
        corners = (max(1, x0), max(1, y0)), (min(width - 2, x1), min(height - 2, y1))
        # Dark below, bright above: one of the two is seen on any ground.
        cv2.rectangle(shown, *corners, (0, 0, 0), 3)
        cv2.rectangle(shown, *corners, PROMPT_COLOUR, 1)
    for x, y in example.points:
        at = round(x), round(y)
        cv2.circle(shown, at, 5, (0, 0, 0), -1, cv2.LINE_AA)
        cv2.circle(shown, at, 3, PROMPT_COLOUR, -1, cv2.LINE_AA)
    return shown


def _cell(picture: Pixels, caption: str) -> Pixels:
    """A picture in a cell that has room for its caption, which stands below."""
    height, width = picture.shape[0], max(picture.shape[1], _NARROWEST)
    cell = Image.new("RGB", (width + _GAP, height + _CAPTION + _GAP), _GROUND)
    left = (width - picture.shape[1]) // 2
    cell.paste(Image.fromarray(picture), (left, 0))
    font = ImageFont.load_default(12)
    draw = ImageDraw.Draw(cell)
    while caption and draw.textlength(caption, font) > width:
        caption = caption[:-2].rstrip("…") + "…"
    draw.text((2, height + 3), caption, _INK, font)
    return np.asarray(cell, np.uint8)


def _padded(pixels: Pixels, height: int, width: int) -> Pixels:
    whole: Pixels = np.full((height, width, 3), _GROUND, np.uint8)
    whole[: pixels.shape[0], : pixels.shape[1]] = pixels
    return whole
