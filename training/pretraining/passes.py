"""A step's passes through SAM: the first prompt, and perhaps a click that corrects it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch import Tensor

from training.model.encoder import Features
from training.model.hq_decoder import decode_sam
from training.model.prompt_groups import PromptGroup
from training.pretraining.losses import StepLoss, step_loss
from training.pretraining.recipe import PretrainRecipe
from training.pretraining.samples import PretrainBatch
from training.pretraining.scenes import scene_generator
from training.uniforms import uniforms

NUMBERS_OF_POINTS = (1, 1, 1, 2, 3, 5, 10)
"""Points of a prompt of points; a step has one number for all of its, drawn from these."""

MASK_LOGIT = 10.0
"""What a mask prompt has as logit in half of the steps; in the others it has 0 and 255, as the
public trainer of HQ-SAM feeds it."""

_STEP_STREAM = 1 << 62
"""Numbers of steps are put this far from numbers of samples in the seed's counter."""


@dataclass(frozen=True, slots=True)
class Passes:
    """What a step came to; `correction` is None where there was only one pass."""

    first: StepLoss
    correction: StepLoss | None

    @property
    def total(self) -> Tensor:
        """The loss of the step."""
        if self.correction is None:
            return self.first.total
        return (self.first.total + self.correction.total) / 2


def run_passes(
    sam: Sam, batch: PretrainBatch, recipe: PretrainRecipe, step: int, first_picture: int = 0
) -> Passes:
    """The loss of a batch; gradients run through all of SAM.

    Of each picture's prompts the first two are boxes, the others points, and of every other
    picture the last is a mask: of the even ones in one step, of the odd ones in the next.

    Args:
        sam: what learns.
        batch: pictures of a step, or some of them.
        recipe: weights of the losses, and the seed.
        step: its number.
        first_picture: which of the step's pictures the batch begins with.
    """
    rng = scene_generator(recipe.seed, _STEP_STREAM + step)
    number_of_points = int(rng.choice(NUMBERS_OF_POINTS))
    in_logits = bool(rng.random() < 0.5)
    corrects = bool(rng.random() < recipe.correction_share)
    pixels = (batch.image.permute(0, 3, 1, 2).float() - sam.pixel_mean) / sam.pixel_std
    targets = batch.targets.flatten(0, 1).float() / 255
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=recipe.amp):
        embedding = sam.image_encoder(pixels).repeat_interleave(recipe.prompts, 0)
        features = Features(embedding, embedding)  # the early feature is of no use here
        places = sam.prompt_encoder.get_dense_pe()
        asked = _Asked(sam, batch, recipe, number_of_points, in_logits, first_picture + step)
        masks, iou = decode_sam(sam.mask_decoder, features, places, asked.groups())
        first = step_loss(masks, iou, targets, recipe)
        if not corrects:
            return Passes(first, None)
        seeds = torch.from_numpy(rng.integers(0, 2**62, recipe.pictures * recipe.prompts))
        seeds = seeds[first_picture * recipe.prompts :][: len(targets)]
        click, label = correcting_click(masks[:, 0], targets, seeds.to(targets.device))
        click = (click * batch.image.shape[1]).floor()
        groups = asked.groups(click, label, masks[:, :1].detach().float())
        masks, iou = decode_sam(sam.mask_decoder, features, places, groups)
        return Passes(first, step_loss(masks, iou, targets, recipe))


@torch.no_grad()
def correcting_click(logits: Tensor, targets: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """A pixel at random where mask and truth differ, and whether the thing is there.

    Args:
        logits: (n, m, m).
        targets: float32 (n, t, t), 0 to 1.
        seeds: int64 (n,), what the pixels are drawn from.

    Returns:
        float32 (n, 2), x and y as shares of the picture, and int32 (n,), 1 thing, 0 ground. Where
        nothing differs it is any pixel.
    """
    side = logits.shape[-1]
    truth = torch.nn.functional.adaptive_avg_pool2d(targets[:, None], side)[:, 0] > 0.5
    wrong = (logits > 0) != truth
    luck = uniforms(seeds, side * side)
    chosen = (luck + wrong.flatten(1)).argmax(1)
    x, y = chosen % side, chosen // side
    label = truth.flatten(1).gather(1, chosen[:, None])[:, 0].to(torch.int32)
    return (torch.stack((x, y), 1).float() + 0.5) / side, label


class _Asked:
    """The prompts of a batch, kind by kind."""

    def __init__(
        self,
        sam: Sam,
        batch: PretrainBatch,
        recipe: PretrainRecipe,
        number_of_points: int,
        in_logits: bool,
        turn: int,
    ) -> None:
        self._encoder = sam.prompt_encoder
        self._boxes = batch.boxes.flatten(0, 1)
        self._points = batch.points.flatten(0, 1)[:, :number_of_points]
        masks = batch.masks.flatten(0, 1)[:, None].float()
        self._masks = (masks / 127.5 - 1) * MASK_LOGIT if in_logits else masks
        place = np.arange(recipe.prompts)[None].repeat(len(batch.image), 0)
        picture = turn + np.arange(len(batch.image))[:, None]
        is_mask = (place == 3) & (picture % 2 == 1)
        self._rows = [
            torch.from_numpy(np.flatnonzero(which)).to(batch.image.device)
            for which in (place < 2, (place >= 2) & ~is_mask, is_mask)
        ]

    def groups(
        self, click: Tensor | None = None, label: Tensor | None = None, masks: Tensor | None = None
    ) -> list[PromptGroup]:
        """Embedded; with a click, its label and the mask so far, as a correction of the first."""
        box, point, mask = self._rows
        made = []
        for rows in (box, point, mask):
            if not len(rows):
                continue
            parts, labels = [], []
            if rows is point:
                parts.append(self._points[rows])
                labels.append(
                    torch.ones(parts[0].shape[:2], dtype=torch.int32, device=parts[0].device)
                )
            if click is not None and label is not None:
                parts.append(click[rows, None])
                labels.append(label[rows, None])
            dense = self._masks[rows] if rows is mask else None
            sparse, embedded = self._encoder(
                points=(torch.cat(parts, 1), torch.cat(labels, 1)) if parts else None,
                boxes=self._boxes[rows] if rows is box else None,
                masks=dense if masks is None else masks[rows],
            )
            made.append(PromptGroup(tuple(rows.tolist()), rows, sparse, embedded))
        return made
