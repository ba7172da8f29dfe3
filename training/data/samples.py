"""What a loader's process does: bytes of samples in, a batch out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from hqdata.codecs import CodecError
from hqdata.errors import DatasetError, HqdataError
from training.data.augment import JitterConfig, augment
from training.data.batch import BadSample, Batch
from training.data.decode import MAX_PIXELS, Picture, decode
from training.data.draw import Prompt, PromptConfig, draw_prompt, draw_prompts_together
from training.data.members import Members
from training.data.order import MicroBatch, Rows, ShardRows, sequential_order, shuffled_order
from training.data.seeds import sample_generator, sample_seed
from training.data.shards import ShardReader
from training.data.slots import new_memory, picture_bytes, split_pictures
from training.prompts import Prompts

OrderKind = Literal["shuffled", "sequential"]


@dataclass(frozen=True)
class Epochs:
    """The order of every epoch.

    Attributes:
        kind: "shuffled" for shards of which any part can be read at once, "sequential" for those
            that are fetched whole.
        digest: of the whole data set.
        seed: of the run.
        num_rows: samples of the whole data set.
        rows: int64 (n,), the selected ones.
        shards: the shards that hold them.
        number: of epochs.
    """

    kind: OrderKind
    digest: str
    seed: int
    num_rows: int
    rows: Rows
    shards: tuple[ShardRows, ...]
    number: int

    def order(self, epoch: int) -> Rows:
        """int64 (n,): the samples of an epoch, one after the other."""
        if self.kind == "sequential":
            return sequential_order(self.shards, digest=self.digest, seed=self.seed, epoch=epoch)
        return shuffled_order(
            self.rows, num_rows=self.num_rows, digest=self.digest, seed=self.seed, epoch=epoch
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of a loader's process, on its way to the trainer's.

    A value and not an exception: torch would turn it into a message with a traceback in it.
    """

    error: HqdataError


class BatchMaker(Dataset["Batch | Failure"]):
    """Makes a batch of a `MicroBatch`, which is its index together with the number of a slot.

    Args:
        reader: of the samples' bytes.
        members: names of the samples.
        epochs: their order, which a reader of remote shards is told.
        batch_size: samples of a step over all ranks.
        jitter: how pictures are changed.
        prompts: which prompts are drawn.
        max_pixels: a header that claims more is not decoded.
        memory: of the slots; see `training.data.slots`.
    """

    def __init__(
        self,
        reader: ShardReader,
        members: Members,
        epochs: Epochs,
        *,
        batch_size: int,
        jitter: JitterConfig,
        prompts: PromptConfig,
        max_pixels: int = MAX_PIXELS,
        memory: Sequence[Tensor] = (),
    ) -> None:
        self._reader, self._members, self._epochs = reader, members, epochs
        self._batch_size, self._max_pixels = batch_size, max_pixels
        self._jitter, self._prompts, self._memory = jitter, prompts, memory
        self._following = -1

    def __getitem__(self, index: tuple[MicroBatch, int | None]) -> Batch | Failure:
        """The batch, in the memory of a slot if one is given, or what kept it from being made."""
        what, slot = index
        try:
            return self.make(what, None if slot is None else self._memory[slot])
        except HqdataError as error:
            return Failure(error)

    def close(self) -> None:
        """Lets go of the shards."""
        self._reader.close()

    def make(self, index: MicroBatch, memory: Tensor | None = None) -> Batch:
        """The batch; its images and masks lie in `memory`, if that is given.

        Raises:
            HqdataError: the reader cannot go on.
        """
        self._follow(index)
        number, size = len(index.rows), self._jitter.size
        if memory is None:
            shared = get_worker_info() is not None
            memory = new_memory(picture_bytes(number, size), shared=shared)
        images, masks = split_pictures(memory, number, size)
        image_views, mask_views = images.numpy(), masks.numpy()
        together = self._prompts.compat == "public"
        exact = [np.empty((size, size), np.float32) for _ in range(number if together else 1)]
        keys: list[str] = []
        bad: list[BadSample] = []
        generators: list[np.random.Generator] = []
        prompts: list[Prompt] = []
        for row in index.rows:
            found = self._read(row)
            if isinstance(found, BadSample):
                bad.append(found)
                continue
            key, picture = found
            at = len(keys)
            mask = exact[at if together else 0]
            generator = sample_generator(self._epochs.seed, index.epoch, key)
            augment(picture, generator, self._jitter, image_views[at], mask)
            cv2.convertScaleAbs(mask, dst=mask_views[at])
            if not together:
                prompts.append(draw_prompt(mask, generator, self._prompts))
            generators.append(generator)
            keys.append(key)
            del found, picture  # or they would stay until the next one is decoded beside them
        if together:
            prompts = draw_prompts_together(exact[: len(keys)], generators, self._prompts)
        seeds = [sample_seed(self._epochs.seed, index.epoch, key) for key in keys]
        return Batch(
            images[: len(keys)],
            masks[: len(keys)],
            stack_prompts(prompts, self._prompts),
            torch.tensor(seeds, dtype=torch.int64),
            tuple(keys),
            index.epoch,
            index.step,
            index.is_last,
            index.num_global,
            tuple(bad),
        )

    def _read(self, row: int) -> tuple[str, Picture] | BadSample:
        """Key and picture of a sample, or why there is none."""
        try:
            sample = self._reader.read(row)
        except DatasetError as error:
            return BadSample(self._members.key_of(row), self._members.shard_of(row), str(error))
        try:
            picture = decode(sample.image, sample.mask, max_pixels=self._max_pixels)
        except CodecError as error:
            return BadSample(sample.key, sample.shard, str(error))
        return sample.key, picture

    def _follow(self, index: MicroBatch) -> None:
        """Tells the reader the order of an epoch when its first batch is asked for."""
        if self._epochs.kind == "shuffled" or self._following == index.epoch:
            return
        self._following = index.epoch
        order = self._epochs.order(index.epoch)[index.step * self._batch_size :]
        is_last = index.epoch + 1 == self._epochs.number
        self._reader.follow(order, None if is_last else self._epochs.order(index.epoch + 1))


def stack_prompts(prompts: Sequence[Prompt], config: PromptConfig) -> Prompts:
    """The prompts of samples as those of a batch."""
    number, side = len(prompts), config.mask_size
    boxes = np.empty((number, 4), np.float32)
    points = np.empty((number, config.num_points, 2), np.float32)
    labels = np.empty((number, config.num_points), np.int32)
    masks = np.empty((number, 1, side, side), np.uint8)
    for at, prompt in enumerate(prompts):
        boxes[at], points[at], labels[at] = prompt.box, prompt.points, prompt.labels
        masks[at, 0] = prompt.mask
    arrays = (boxes, points, labels, masks)
    return Prompts(tuple(p.kind for p in prompts), *(torch.from_numpy(a) for a in arrays))
