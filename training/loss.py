"""The loss: cross-entropy and dice at points, most of them where the mask is uncertain.

HQ-SAM takes it over from Mask2Former and PointRend: a mask is judged at 12,544 points instead of at
a million pixels. Here each sample draws its points from its own seed, and all samples are computed
at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.uniforms import uniforms

_CANDIDATES, _FRESH = 0, 1
"""Streams of a sample's seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """What the loss is made of; the defaults are the paper's.

    Attributes:
        num_points: points a sample.
        oversample: candidates a point, among which the uncertain ones are looked for.
        importance: share of the points that are the most uncertain candidates; the others are
            drawn anew from the whole picture.
        bce_weight, dice_weight: weights of the two parts in the total.
    """

    num_points: int = 112 * 112
    oversample: float = 3.0
    importance: float = 0.75
    bce_weight: float = 1.0
    dice_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.num_points < 1:
            raise ValueError(f"num_points is {self.num_points}; at least 1 is needed")
        if self.oversample < 1:
            raise ValueError(f"oversample is {self.oversample}; at least 1 is needed")
        if not 0 <= self.importance <= 1:
            raise ValueError(f"importance is {self.importance}; it is a share from 0 to 1")

    @property
    def num_candidates(self) -> int:
        """Points among which the uncertain ones are looked for: 37,632."""
        return int(self.num_points * self.oversample)

    @property
    def num_uncertain(self) -> int:
        """Candidates that become points: 9,408."""
        return int(self.num_points * self.importance)


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses of each sample, float32 (b,): the two parts without their weights, and the total."""

    bce: Tensor
    dice: Tensor
    total: Tensor


def hq_loss(logits: Tensor, targets: Tensor, seeds: Tensor, config: LossConfig) -> Losses:
    """The loss of each sample, whoever is in its batch.

    Args:
        logits: float (b, 1, m, m), of the object; the gradient runs through them.
        targets: uint8 (b, s, s), 255 is object; soft values between count as shares.
        seeds: int64 (b,), from which a sample's points are drawn.
        config: what the loss is made of.

    Returns:
        Losses of the samples, not reduced: whoever trains divides their sum by the number of
        samples of the whole step.
    """
    logits = logits.float()
    points = choose_points(logits, seeds, config)
    values = sample_logits(logits, points)
    truth = sample_targets(targets, points)
    bce = functional.binary_cross_entropy_with_logits(values, truth, reduction="none").mean(1)
    dice = _dice(values.sigmoid(), truth)
    return Losses(bce, dice, config.bce_weight * bce + config.dice_weight * dice)


@torch.no_grad()
def choose_points(logits: Tensor, seeds: Tensor, config: LossConfig) -> Tensor:
    """Where a sample is judged: its most uncertain candidates, then points drawn anew.

    Candidates that are equally uncertain go by their number, so that the choice does not hang on
    the device's way of sorting: the untrained token gives large stretches of equal logits.

    Returns:
        float32 (b, num_points, 2), x and y in [0, 1) of the picture's width and height.
    """
    number = config.num_candidates
    candidates = uniforms(seeds, 2 * number, stream=_CANDIDATES).view(len(seeds), number, 2)
    doubt = sample_logits(logits, candidates).abs()
    # The bits of a float that is not negative, read as an integer, sort like the float.
    rank = doubt.view(torch.int32).to(torch.int64) << 32
    rank += torch.arange(number, device=logits.device)
    chosen = rank.topk(config.num_uncertain, largest=False, sorted=True).indices
    uncertain = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    num_fresh = config.num_points - config.num_uncertain
    fresh = uniforms(seeds, 2 * num_fresh, stream=_FRESH).view(len(seeds), num_fresh, 2)
    return torch.cat((uncertain, fresh), dim=1)


def sample_logits(logits: Tensor, points: Tensor) -> Tensor:
    """Bilinear values, float32 (b, p), of (b, 1, m, m) at points (b, p, 2); zero beyond the edge.

    A pixel's value stands at its middle (`align_corners=False`).
    """
    grid = (2 * points - 1)[:, :, None]
    return functional.grid_sample(logits, grid, align_corners=False)[:, 0, :, 0]


def sample_targets(targets: Tensor, points: Tensor) -> Tensor:
    """The same of uint8 (b, h, w), as shares of 255.

    Only the four neighbours of each point are looked up: a float copy of the targets would take
    four times their memory, most of which no point ever touches.
    """
    number, height, width = targets.shape
    place = torch.stack((points[..., 0] * width, points[..., 1] * height), dim=-1) - 0.5
    corner = place.floor()
    part = place - corner
    x, y = corner.to(torch.int64).unbind(-1)
    right, down = part.unbind(-1)
    flat = targets.reshape(number, height * width)
    value = torch.zeros_like(right)
    for step_y, weight_y in ((0, 1 - down), (1, down)):
        for step_x, weight_x in ((0, 1 - right), (1, right)):
            column, line = x + step_x, y + step_y
            inside = (column >= 0) & (column < width) & (line >= 0) & (line < height)
            index = (line * width + column).clamp_(0, height * width - 1)
            value += flat.gather(1, index) * (weight_x * weight_y * inside)
    return value.mul_(1 / 255)


def _dice(shares: Tensor, truth: Tensor) -> Tensor:
    """1 - (2·overlap + 1) / (both areas + 1), (b,) of (b, p)."""
    overlap = (shares * truth).sum(1)
    return 1 - (2 * overlap + 1) / (shares.sum(1) + truth.sum(1) + 1)
