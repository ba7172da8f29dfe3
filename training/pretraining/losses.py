"""SAM's loss: focal and dice, the best of three masks where there is a choice, and the IoU.

(Kirillov et al., "Segment Anything", 2023, section 3 and appendix A.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.pretraining.recipe import PretrainRecipe

_GAMMA = 2.0


@dataclass(frozen=True, slots=True)
class StepLoss:
    """Means over the prompts of a pass.

    Attributes:
        total: what the gradient runs through.
        focal, dice: of the single mask, without weights.
        iou_error: mean squared error of the expected IoU.
        iou: of the single mask at the size of the targets.
    """

    total: Tensor
    focal: Tensor
    dice: Tensor
    iou_error: Tensor
    iou: Tensor


def mask_losses(logits: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Focal and dice loss of each mask, float32 (n, k).

    Args:
        logits: float32 (n, k, t, t).
        targets: float32 (n, t, t), 0 to 1.
        alpha: weight of the thing's pixels in the focal loss.
    """
    truth = targets[:, None].expand_as(logits).flatten(2)
    logits = logits.flatten(2)
    share = logits.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    hit = share * truth + (1 - share) * (1 - truth)
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    focal = (weight * entropy * (1 - hit).pow(_GAMMA)).mean(2)
    overlap = (share * truth).sum(2)
    dice = 1 - (2 * overlap + 1) / (share.sum(2) + truth.sum(2) + 1)
    return focal, dice


@torch.no_grad()
def mask_ious(logits: Tensor, targets: Tensor) -> Tensor:
    """IoU of each mask, float32 (n, k), with both cut: logits at 0, targets at 1/2."""
    found, truth = logits > 0, targets[:, None] > 0.5
    both, either = (found & truth).sum((2, 3)), (found | truth).sum((2, 3))
    return both / either.clamp(min=1)


def step_loss(masks: Tensor, expected: Tensor, targets: Tensor, recipe: PretrainRecipe) -> StepLoss:
    """The loss of a pass.

    The single mask learns from every prompt; of the three others the one that is best does.

    Args:
        masks: (n, 4, m, m) logits, the single mask first.
        expected: (n, 4), their expected IoU.
        targets: float32 (n, t, t), 0 to 1.
        recipe: weights.
    """
    size = targets.shape[-2:]
    logits = functional.interpolate(masks.float(), size, mode="bilinear", align_corners=False)
    focal, dice = mask_losses(logits, targets, recipe.focal_alpha)
    both = recipe.focal_weight * focal + recipe.dice_weight * dice
    iou = mask_ious(logits, targets)
    iou_error = (expected.float() - iou).square().mean()
    total = both[:, 0].mean() + both[:, 1:].min(dim=1).values.mean()
    total = total + recipe.iou_weight * iou_error
    return StepLoss(total, focal[:, 0].mean(), dice[:, 0].mean(), iou_error, iou[:, 0].mean())
