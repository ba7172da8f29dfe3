"""The samples of an evaluation: decoded, stretched and prompted by worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from hqdata.codecs import CodecError
from hqdata.errors import HqdataError, UserError
from hqdata.shards.dataset import Dataset
from training.data.augment import OBJECT_ABOVE, Jitter, render
from training.data.batch import BadSample
from training.data.decode import Picture, decode
from training.data.draw import draw_points, tight_box
from training.data.processes import loader_context, start_loader
from training.data.seeds import sample_generator
from training.prompts import Kind, Prompts

Box = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptChoice:
    """What every image of an evaluation is prompted with.

    Attributes:
        kind: the tight box of the object (the paper's), or points.
        num_points: points of a prompt, drawn from the object's pixels.
        box_noise: how far boxes are off, see `noised_box`; 0 for not at all.
        seed: of points and noise; an image's own come from it and from the image's key.
    """

    kind: Kind = Kind.BOX
    num_points: int = 10
    box_noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in (Kind.BOX, Kind.POINT):
            raise ValueError(f"evaluation prompts with boxes or points, not with {self.kind.name}")
        if self.num_points < 1 or not 0 <= self.box_noise < 1:
            raise ValueError(f"{self.num_points} points, box noise {self.box_noise}")

    @classmethod
    def parse(cls, text: str, *, box_noise: float = 0.0, seed: int = 0) -> PromptChoice:
        """`box`, or `points:N`, as on the command line.

        Raises:
            UserError: anything else, or noise for what is no box.
        """
        kind, _, number = text.partition(":")
        if not 0 <= box_noise < 1:
            raise UserError(
                f"box noise {box_noise} makes no sense",
                expected="0 to less than 1, e.g. 0.2 or 0.4",
            )
        if kind == "box" and not number:
            return cls(box_noise=box_noise, seed=seed)
        if kind == "points" and number.isdecimal() and 1 <= int(number) <= 1000:
            if box_noise:
                raise UserError(
                    "box noise was given, but the prompt is points", do="leave out --box-noise"
                )
            return cls(kind=Kind.POINT, num_points=int(number), seed=seed)
        raise UserError(
            f"unknown prompt {text!r}", expected="box, or points:N with N from 1 to 1000"
        )

    def __str__(self) -> str:
        if self.kind == Kind.POINT:
            return f"points:{self.num_points}"
        return f"box, noise {self.box_noise:g}" if self.box_noise else "box"


@dataclass(frozen=True, slots=True)
class EvalSample:
    """One image of an evaluation.

    Attributes:
        row: in the data set's table.
        image: uint8 (s, s, 3), RGB, stretched.
        size: (height, width) of the truth.
        truth: the truth's pixels of the object, 8 to a byte, in reading order.
        box: float32 (4,), in pixels of the stretched image.
        points: float32 (p, 2).
        has_object: whether there is any; if not, box and points mean nothing.
    """

    row: int
    image: NDArray[np.uint8]
    size: tuple[int, int]
    truth: NDArray[np.uint8]
    box: Box
    points: NDArray[np.float32]
    has_object: bool

    def truth_mask(self) -> NDArray[np.bool_]:
        """bool (height, width) of `size`."""
        height, width = self.size
        flat = np.unpackbits(self.truth, count=height * width)
        return flat.reshape(height, width).view(np.bool_)


@dataclass(frozen=True, slots=True)
class EvalBatch:
    """Some images of an evaluation.

    Attributes:
        images: uint8 (b, s, s, 3).
        samples: the same images; their own pixels are dropped.
        prompts: one an image.
        bad: samples that could not be read; they are not among the others.
    """

    images: Tensor
    samples: tuple[EvalSample, ...]
    prompts: Prompts
    bad: tuple[BadSample, ...]


def stretch(picture: Picture, side: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A picture brought to a square: image, uint8 (side, side, 3), and mask, float32 (side, side).

    Bilinear without antialiasing, positions as in `torch.nn.functional.interpolate(...,
    align_corners=False)`; the image is cut down to 8 bits, the mask is not rounded.
    """
    image, mask = np.empty((side, side, 3), np.uint8), np.empty((side, side), np.float32)
    render(picture, Jitter(False, side, side), image, mask)
    return image, mask


def noised_box(box: Box, noise: float, generator: np.random.Generator, side: int) -> Box:
    """A box that is off, in the manner of DN-DETR, as HQ-SAM's robustness test does it (Table 4).

    The centre moves by up to noise/2 of width and height, and width and height change by up to
    `noise` of themselves, each of the four uniformly and on its own; the corners are then cut to
    the picture.

    Args:
        box: float32 (4,), x0, y0, x1, y1.
        noise: 0.2 and 0.4 in the paper.
        generator: of the image.
        side: of the picture.
    """
    centre, extent = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    shift, growth = generator.uniform(-1, 1, (2, 2))
    centre = centre + shift * noise * extent / 2
    extent = extent * (1 + growth * noise)
    corners = np.concatenate([centre - extent / 2, centre + extent / 2])
    return np.asarray(corners.clip(0, side), np.float32)


class EvalReader:
    """Rows of a data set in, samples out. Can be pickled: it opens nothing before it reads.

    Args:
        dataset: the data set.
        rows: which of its rows, in order.
        side: of the model's input.
        prompt: what to prompt with.
    """

    def __init__(
        self, dataset: Dataset, rows: Sequence[int], side: int, prompt: PromptChoice
    ) -> None:
        self._dataset = dataset
        self._rows = rows
        self._side = side
        self._prompt = prompt

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> EvalSample | BadSample:
        """The sample, or why it cannot be read: an error raised here would lose its form."""
        row = self._dataset.row(self._rows[index])
        try:
            picture = decode(
                self._dataset.read_member(row, "image"), self._dataset.read_member(row, "mask")
            )
        except (CodecError, HqdataError) as error:
            return BadSample(row["key"], row["shard"], str(error))
        return make_sample(picture, self._rows[index], row["key"], self._side, self._prompt)


def make_sample(
    picture: Picture, row: int, key: str, side: int, prompt: PromptChoice
) -> EvalSample:
    """Stretches and prompts a decoded picture.

    An object so small that stretching loses it is prompted with where it would have been.
    """
    image, mask = stretch(picture, side)
    inside = (mask > OBJECT_ABOVE).view(np.uint8)
    truth = picture.mask > OBJECT_ABOVE
    has_object = bool(truth.any())
    if has_object and not inside.any():
        inside = _marked(picture.mask, side)
    box, points = np.zeros(4, np.float32), np.zeros((0, 2), np.float32)
    generator = sample_generator(prompt.seed, 0, f"evaluation/{key}")
    if has_object and prompt.kind == Kind.BOX:
        box = tight_box(inside)
        if prompt.box_noise:
            box = noised_box(box, prompt.box_noise, generator, side)
    elif has_object:
        points = draw_points(inside, cv2.countNonZero(inside), generator, prompt.num_points)
    else:
        points = np.zeros((prompt.num_points if prompt.kind == Kind.POINT else 0, 2), np.float32)
    return EvalSample(row, image, picture.size, np.packbits(truth), box, points, has_object)


def _marked(mask: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The pixels of a square into which the object's pixels fall, uint8 (side, side), 0 or 1."""
    height, width = mask.shape
    rows, columns = np.nonzero(mask > OBJECT_ABOVE)
    inside = np.zeros((side, side), np.uint8)
    inside[rows * side // height, columns * side // width] = 1
    return inside


def make_eval_loader(
    reader: EvalReader, *, batch_size: int, num_workers: int, mask_side: int
) -> DataLoader[Any]:
    """The batches of a reader, in its order; an `EvalBatch` each."""
    source: TorchDataset[Any] = reader  # type: ignore[assignment]  # it has what a loader calls
    return DataLoader(
        source,
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=partial(_collate, mask_side=mask_side),
        worker_init_fn=start_loader,
        multiprocessing_context=loader_context() if num_workers else None,
    )


def _collate(items: Sequence[EvalSample | BadSample], mask_side: int) -> EvalBatch:
    samples = tuple(item for item in items if isinstance(item, EvalSample))
    bad = tuple(item for item in items if isinstance(item, BadSample))
    return make_batch(samples, mask_side, bad)


def make_batch(
    samples: Sequence[EvalSample], mask_side: int, bad: Sequence[BadSample] = ()
) -> EvalBatch:
    """A batch of samples that all have the same kind of prompt."""
    if not samples:
        empty = torch.zeros((0, 0, 0, 3), dtype=torch.uint8)
        return EvalBatch(empty, (), Prompts.of_boxes(torch.zeros((0, 4)), mask_side), tuple(bad))
    images = torch.from_numpy(np.stack([sample.image for sample in samples]))
    boxes = torch.from_numpy(np.stack([sample.box for sample in samples]))
    points = torch.from_numpy(np.stack([sample.points for sample in samples]))
    number, num_points = points.shape[:2]
    prompts = Prompts(
        (Kind.POINT if num_points else Kind.BOX,) * number,
        boxes,
        points,
        torch.ones((number, num_points), dtype=torch.int32),
        torch.zeros((number, 1, mask_side, mask_side), dtype=torch.uint8),
    )
    bare = np.empty((0, 0, 3), np.uint8)
    light = tuple(
        EvalSample(s.row, bare, s.size, s.truth, s.box, s.points, s.has_object) for s in samples
    )
    return EvalBatch(images, light, prompts, tuple(bad))
