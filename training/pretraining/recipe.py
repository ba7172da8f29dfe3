"""Every value of a pretraining run; what is learnt hangs on these and on the data set alone."""

from __future__ import annotations

import hashlib

from pydantic import BaseModel, ConfigDict, Field

from training.pretraining.scenes import SCENES_VERSION


class PretrainRecipe(BaseModel):
    """How a small SAM is pretrained.

    Attributes:
        model: name of the backbone.
        seed: of weights, samples and clicks.
        steps: of the optimizer.
        pictures: a step.
        prompts: a picture.
        layer_lr: the highest learning rate of the layers' matrices, of Muon.
        lr: the highest one of all other parameters, of AdamW.
        beta2: how long AdamW remembers squared gradients.
        warmup: steps in which both learning rates rise.
        decay_share: share of the steps, at the end, in which they fall to zero, linearly.
        weight_decay: of the layers' matrices; the rest has none.
        clip: gradients of a larger norm are cut to it.
        mean_decay: of the running mean of the weights, which is what is kept in the end.
        focal_weight, dice_weight, iou_weight: of the parts of the loss.
        focal_alpha: weight of a thing's pixels in the focal loss; the ground's have 1 less it.
        correction_share: share of the steps that go on with a click and the mask predicted so far.
        box_jitter: deviation of a box's corners as a share of its sides.
        target_side: of the masks that are learnt, in pixels.
        dataset_share: share of pictures from the data set, if there is one.
        shrink_share: share of scenes that are shown smaller, with a grey margin.
        dataset_digest: of the data set; empty without one.
        scenes: version of the generator of scenes.
        amp: compute in bfloat16 where that is safe.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "vit_micro"
    seed: int = Field(0, ge=0, lt=2**62)
    steps: int = Field(6000, ge=1)
    pictures: int = Field(8, ge=1)
    prompts: int = Field(4, ge=1)
    layer_lr: float = Field(0.01, gt=0)
    lr: float = Field(5e-4, gt=0)
    beta2: float = Field(0.98, ge=0, lt=1)
    warmup: int = Field(100, ge=0)
    decay_share: float = Field(0.3, ge=0, le=1)
    weight_decay: float = Field(0.05, ge=0)
    clip: float = Field(1.0, gt=0)
    mean_decay: float = Field(0.998, ge=0, lt=1)
    focal_weight: float = Field(20.0, ge=0)
    dice_weight: float = Field(2.0, ge=0)
    iou_weight: float = Field(1.0, ge=0)
    focal_alpha: float = Field(0.5, ge=0, le=1)
    correction_share: float = Field(0.35, ge=0, le=1)
    box_jitter: float = Field(0.1, ge=0)
    target_side: int = Field(64, ge=8)
    dataset_share: float = Field(0.5, ge=0, le=1)
    shrink_share: float = Field(0.15, ge=0, le=1)
    dataset_digest: str = ""
    scenes: int = SCENES_VERSION
    amp: bool = True

    def digest(self) -> str:
        """Of all that decides what a step learns; how many steps there are decides that, too."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def level_until(self) -> int:
        """Steps before the learning rate begins to fall."""
        return int(self.steps * (1 - self.decay_share))

    def lr_share(self, step: int) -> float:
        """Of the highest learning rates at a step, counted from 0: up, level, down at the end."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        length = max(1.0, self.decay_share * self.steps)
        return min(rise, (self.steps - step) / length, 1.0)
