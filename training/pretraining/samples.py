"""Samples of the pretraining: a picture, coarse masks of things in it, and what asks for them.

A sample is a function of the recipe and its number alone. Numbers count up through the run, so a
run that goes on needs nothing but the number at which it stopped, however many processes draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from hqdata.shards.dataset import Dataset
from training.data.augment import Jitter, JitterConfig, draw_jitter, render, whole_picture
from training.data.decode import Picture, read_picture
from training.data.draw import draw_points, noised_mask, tight_box
from training.data.processes import loader_context, start_loader
from training.distributed import Ranks
from training.pretraining.coarse import coarsened
from training.pretraining.recipe import PretrainRecipe
from training.pretraining.scenes import Scene, draw_scene, scene_generator
from training.pretraining.textures import F32, U8, Rng

MAX_POINTS = 10
"""Points that are drawn for each thing; a step uses the first few."""

_LEAST_PIXELS = 40
_KEPT_SIDE = 512
_KEPT_BYTES = 2 * 2**30
"""Pictures of a data set are kept in memory, shrunk to this longer side: more is never seen. Each
process that draws keeps no more bytes than these."""


@dataclass(frozen=True, slots=True)
class PretrainSample:
    """A picture and `k` prompts.

    Attributes:
        image: uint8 (s, s, 3), RGB.
        targets: uint8 (k, t, t), coarse masks, 255 in full.
        boxes: float32 (k, 4), x0, y0, x1, y1 in pixels of the picture, jittered.
        points: float32 (k, 10, 2), pixels of the thing.
        masks: uint8 (k, m, m), the thing with frayed edges, 0 or 255.
    """

    image: U8
    targets: U8
    boxes: F32
    points: F32
    masks: U8


@dataclass(frozen=True, slots=True)
class PretrainBatch:
    """Samples of a step as tensors: `PretrainSample` with a first axis of pictures."""

    image: Tensor
    targets: Tensor
    boxes: Tensor
    points: Tensor
    masks: Tensor


class SampleSource:
    """Number of a sample in, sample out. Can be pickled; keeps the pictures that it decoded.

    Args:
        recipe: all that a sample hangs on.
        side: of the model's input, in pixels.
        mask_side: of a mask prompt.
        dataset: pictures that are shown beside the scenes, or None.
    """

    def __init__(
        self, recipe: PretrainRecipe, side: int, mask_side: int, dataset: Dataset | None
    ) -> None:
        self._recipe = recipe
        self._side = side
        self._mask_side = mask_side
        self._dataset = dataset
        self._kept: dict[int, Picture] = {}
        self._kept_bytes = 0

    def __len__(self) -> int:
        return self._recipe.steps * self._recipe.pictures

    def __getitem__(self, index: int) -> PretrainSample:
        """Draws a sample."""
        rng = scene_generator(self._recipe.seed, index)
        if self._dataset is not None and rng.random() < self._recipe.dataset_share:
            scene = self._of_dataset(rng, self._dataset)
        else:
            scene = draw_scene(rng, self._side)
            if rng.random() < self._recipe.shrink_share:
                scene = _shrunk(rng, scene)
        return prompted(rng, scene, self._recipe, self._mask_side)

    def _of_dataset(self, rng: Rng, dataset: Dataset) -> Scene:
        picture = self._picture(dataset, int(rng.integers(len(dataset))))
        image = np.empty((self._side, self._side, 3), np.uint8)
        mask = np.empty((self._side, self._side), np.float32)
        for attempt in range(5):
            jitter = self._jitter(rng, picture) if attempt < 4 else self._whole()
            render(picture, jitter, image, mask)
            if np.count_nonzero(mask > 128) >= _LEAST_PIXELS:
                break
        else:  # nothing to ask for; a drawn scene always has something
            return draw_scene(rng, self._side)
        return Scene(image, np.rint(mask).astype(np.uint8)[None])

    def _jitter(self, rng: Rng, picture: Picture) -> Jitter:
        config = JitterConfig(size=self._side, scale_min=0.35, scale_max=1.8)
        kind = rng.random()
        if kind < 0.4:
            return Jitter(bool(rng.random() < 0.5), self._side, self._side)
        if kind < 0.6:
            return whole_picture(rng, picture.size, config)
        return draw_jitter(rng, picture.size, config)

    def _whole(self) -> Jitter:
        return Jitter(False, self._side, self._side)

    def _picture(self, dataset: Dataset, number: int) -> Picture:
        if number in self._kept:
            return self._kept[number]
        picture = _small(read_picture(dataset, number))
        self._kept_bytes += picture.image.nbytes + picture.mask.nbytes
        if self._kept_bytes <= _KEPT_BYTES:
            self._kept[number] = picture
        return picture


def _small(picture: Picture) -> Picture:
    height, width = picture.size
    factor = _KEPT_SIDE / max(height, width)
    if factor >= 1:
        return picture
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    image = cv2.resize(picture.image, size, interpolation=cv2.INTER_LINEAR)
    mask = cv2.resize(picture.mask, size, interpolation=cv2.INTER_LINEAR)
    return Picture(np.asarray(image, np.uint8), np.asarray(mask, np.uint8))


def _shrunk(rng: Rng, scene: Scene) -> Scene:
    """The scene made smaller, with grey on the right and at the bottom, as crops are padded."""
    side = len(scene.image)
    wide, high = (int(side * part) for part in rng.uniform(0.45, 1.0, 2))
    image = np.full_like(scene.image, 128)
    image[:high, :wide] = cv2.resize(scene.image, (wide, high), interpolation=cv2.INTER_AREA)
    masks = np.zeros_like(scene.masks)
    for mask, small in zip(scene.masks, masks, strict=True):
        small[:high, :wide] = cv2.resize(mask, (wide, high), interpolation=cv2.INTER_AREA)
    kept = (masks > 128).sum((1, 2)) >= _LEAST_PIXELS
    return Scene(image, masks[kept]) if kept.any() else scene


def prompted(rng: Rng, scene: Scene, recipe: PretrainRecipe, mask_side: int) -> PretrainSample:
    """Chooses things of a scene, coarsens their masks, and draws what asks for them.

    A scene with fewer things than prompts has some asked for more than once.
    """
    side, number = len(scene.image), recipe.prompts
    order = rng.permutation(len(scene.masks))
    coarse = {int(k): coarsened(scene.masks[k], rng) for k in order[:number]}
    targets = np.empty((number, recipe.target_side, recipe.target_side), np.uint8)
    boxes, points = np.empty((number, 4), np.float32), np.empty((number, MAX_POINTS, 2), np.float32)
    masks = np.empty((number, mask_side, mask_side), np.uint8)
    for place in range(number):
        which = int(order[place % len(coarse)])
        mask = coarse[which]
        size = (recipe.target_side, recipe.target_side)
        targets[place] = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
        inside = (mask > 128).view(np.uint8)
        # People draw boxes around all of a thing, so half of them are about the exact mask.
        exact = (scene.masks[which] > 128).view(np.uint8)
        about = exact if rng.random() < 0.5 and exact.any() else inside
        boxes[place] = _jittered(rng, tight_box(about), recipe.box_jitter, side)
        points[place] = draw_points(inside, cv2.countNonZero(inside), rng, MAX_POINTS)
        masks[place] = noised_mask(mask.astype(np.float32), rng, mask_side)
    return PretrainSample(scene.image, targets, boxes, points, masks)


def _jittered(rng: Rng, box: F32, jitter: float, side: int) -> F32:
    """Corners moved by a share of the box's sides, within limits (SAM's appendix A)."""
    extent = np.tile(np.maximum(box[2:] - box[:2], 1), 2)
    most = 20 / 1024 * side
    moved = box + np.clip(rng.normal(0, jitter, 4) * extent, -most, most)
    return np.asarray(moved.clip(0, side - 1), np.float32)


class _Numbers(Sampler[list[int]]):
    """Numbers of samples, batch by batch, from a step on: of each step those of one process."""

    def __init__(self, start: int, stop: int, size: int, ranks: Ranks) -> None:
        self._range, self._size = range(start, stop), size
        self._mine = slice(*(size * k // ranks.world_size for k in (ranks.rank, ranks.rank + 1)))

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._range:
            yield list(range(step * self._size, (step + 1) * self._size)[self._mine])

    def __len__(self) -> int:
        return len(self._range)


def make_loader(
    source: SampleSource,
    recipe: PretrainRecipe,
    *,
    first_step: int,
    workers: int,
    ranks: Ranks | None = None,
) -> DataLoader[PretrainBatch]:
    """The batches from a step on, the same ones with any number of workers.

    Of several processes each gets an equal part of every step's pictures, in their order.
    """
    dataset: TorchDataset[Any] = source  # type: ignore[assignment]  # it has what a loader calls
    return DataLoader(
        dataset,
        batch_sampler=_Numbers(first_step, recipe.steps, recipe.pictures, ranks or Ranks()),
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=start_loader,
        multiprocessing_context=loader_context() if workers else None,
    )


def collate(samples: Sequence[PretrainSample]) -> PretrainBatch:
    """Stacks samples."""

    def stacked(values: Sequence[NDArray[np.generic]]) -> Tensor:
        return torch.from_numpy(np.stack(values))

    return PretrainBatch(
        stacked([s.image for s in samples]),
        stacked([s.targets for s in samples]),
        stacked([s.boxes for s in samples]),
        stacked([s.points for s in samples]),
        stacked([s.masks for s in samples]),
    )
