"""Every value of a training run, checked, with the paper's as its default.

Section numbers are those of "Segment Anything in High Quality" (NeurIPS 2023). What the paper does
not say is as its public code has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hqdata.errors import UserError, nearest
from hqdata.recipe import is_recipe_path
from hqdata.yaml_files import explain, read_yaml

Precision = Literal["auto", "bf16", "fp32"]
PromptName = Literal["box", "point", "mask"]

FREE = frozenset(
    {
        "cache_dir",
        "cache_gib",
        "compile",
        "device",
        "device_batch",
        "epochs",
        "eval_every",
        "eval_shards",
        "keep",
        "max_steps",
        "num_pictures",
        "out",
        "save_every",
        "sam_checkpoint",
        "shards",
        "skip_bad",
        "workers",
    }
)
"""What may change when a run is resumed: where things lie, how they are computed and how long, not
what. The data set is the same by its digest, the checkpoint of SAM by its own.
"""


def _field(default: Any, group: str, text: str, **limits: Any) -> Any:
    return Field(default=default, description=text, json_schema_extra={"group": group}, **limits)


class TrainConfig(BaseModel):
    """What to train, on what, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shards: str = _field(
        "shards",
        "data",
        "data set to train on: a folder, or a URL (https://…, s3://…, hf://…)",
    )
    eval_shards: str | None = _field(
        None,
        "data",
        "data set to evaluate on after each epoch: a folder made with the recipe "
        "'evaluation'; without it nothing is evaluated",
    )
    recipe: str | None = _field(
        None,
        "data",
        "train on the sources of this recipe only, all of which the data set has to have: a name, "
        "e.g. sa1b-44k, or the path of a .yaml file",
    )
    only: tuple[str, ...] = _field((), "data", "train on these sources only")
    exclude: tuple[str, ...] = _field((), "data", "leave these sources out")
    cache_dir: Path | None = _field(
        None, "data", "where shards behind a URL are kept meanwhile (default: ~/.cache/hqdata)"
    )
    cache_gib: float = _field(50.0, "data", "room for them, in GiB", gt=0)
    workers: int | None = _field(
        None, "data", "loader processes a GPU (default: its share of the cores, at most 16)", ge=0
    )
    skip_bad: int = _field(0, "data", "unreadable samples to pass over before stopping", ge=0)

    model: str = _field("vit_l", "model", "backbone: vit_b, vit_l, vit_h, vit_tiny, vit_micro")
    sam_checkpoint: Path | None = _field(
        None, "model", "SAM's own weights (default: its usual file name, here or in checkpoints/)"
    )
    random_sam: bool = _field(
        False,
        "model",
        "leave SAM's weights random, by the seed, where they come with the package or nobody has "
        "any (vit_micro): to try the steps out",
    )
    precision: Precision = _field(
        "auto", "model", "of the frozen encoder: bf16, fp32, or auto (bf16 on CUDA)"
    )
    device: str = _field("auto", "model", "cuda, cuda:1, cpu, mps, or auto")
    compile: bool = _field(False, "model", "compile the encoder (worth it on CUDA)")

    epochs: int = _field(12, "schedule", "passes over the data (4.1)", ge=1)
    batch_size: int = _field(32, "schedule", "samples of a step over all GPUs (4.1)", ge=1)
    device_batch: int = _field(
        4, "schedule", "samples that a GPU computes at once; gradients add up over them (4.1)", ge=1
    )
    lr: float = _field(1e-3, "schedule", "learning rate of Adam (4.1)", gt=0)
    lr_drop_epoch: int = _field(10, "schedule", "epochs after which it drops (4.1)", ge=1)
    lr_drop_factor: float = _field(0.1, "schedule", "factor by which it drops", gt=0, le=1)
    beta1: float = _field(0.9, "schedule", "of Adam", ge=0, lt=1)
    beta2: float = _field(0.999, "schedule", "of Adam", ge=0, lt=1)
    weight_decay: float = _field(0.0, "schedule", "of Adam", ge=0)
    warmup_steps: int = _field(0, "schedule", "steps in which the rate rises from zero", ge=0)
    clip_norm: float | None = _field(None, "schedule", "longest gradient (default: any)", gt=0)
    ema: float | None = _field(
        None, "schedule", "decay of a running mean of the weights (default: none)", gt=0, lt=1
    )
    seed: int = _field(42, "schedule", "of order, augmentation, prompts and first weights", ge=0)
    max_steps: int | None = _field(None, "schedule", "stop, resumably, after so many steps", ge=1)

    flip: float = _field(0.5, "augmentation", "share of pictures that are mirrored", ge=0, le=1)
    scale_min: float = _field(0.1, "augmentation", "least scale of large-scale jitter", gt=0)
    scale_max: float = _field(2.0, "augmentation", "largest scale of large-scale jitter", le=8)
    prompts: tuple[PromptName, ...] = _field(
        ("box", "point", "mask"),
        "augmentation",
        "kinds of prompts, drawn evenly (3.3)",
        min_length=1,
    )
    num_points: int = _field(10, "augmentation", "points of a point prompt", ge=1, le=100)
    compat: Literal["none", "public"] = _field(
        "none",
        "augmentation",
        "'public': train on crops without an object, and give up points where one sample of a "
        "device batch has too few, as the public code does",
    )

    loss_points: int = _field(12_544, "loss", "points at which a mask is compared", ge=4)
    loss_oversample: float = _field(3.0, "loss", "candidates for each of them", ge=1, le=16)
    loss_importance: float = _field(0.75, "loss", "share of the most uncertain ones", ge=0, le=1)
    bce_weight: float = _field(1.0, "loss", "weight of the cross-entropy (3.3)", ge=0)
    dice_weight: float = _field(1.0, "loss", "weight of dice (3.3)", ge=0)

    out: Path | None = _field(
        None, "run", "folder of the run (default: runs/ and the model's name)"
    )
    save_every: int = _field(
        500, "run", "steps between checkpoints, beside those of each epoch", ge=1
    )
    keep: int = _field(3, "run", "checkpoints to keep", ge=1)
    eval_every: int = _field(1, "run", "epochs between evaluations", ge=1)
    num_pictures: int = _field(
        8,
        "run",
        "sample pictures of each epoch, of the evaluation sets if there are any",
        ge=0,
        le=64,
    )

    @field_validator("recipe")
    @classmethod
    def _from_anywhere(cls, value: str | None) -> str | None:
        """A path as the run can remember it: it may go on from another folder."""
        is_path = value is not None and is_recipe_path(value)
        return str(Path(value).resolve()) if value is not None and is_path else value

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        if self.scale_min > self.scale_max:
            raise ValueError(f"scale_min {self.scale_min} is above scale_max {self.scale_max}")
        if self.bce_weight == self.dice_weight == 0:
            raise ValueError("bce_weight and dice_weight are both 0: nothing would be learnt")
        if len(set(self.prompts)) < len(self.prompts):
            raise ValueError("prompts names a kind twice")
        return self

    def run_folder(self) -> Path:
        """Where the run goes."""
        if self.out is not None:
            return self.out
        recipe = "" if self.recipe is None else f"-{Path(self.recipe).stem}"
        left_out = "".join(f"-no-{name.replace('/', '_')}" for name in self.exclude)
        only = "".join(f"-{name.replace('/', '_')}" for name in self.only)
        return Path("runs") / f"hq-{self.model}{recipe}{only}{left_out}"

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of a step, from 0."""
        rate = self.lr * (
            self.lr_drop_factor if step >= self.lr_drop_epoch * steps_per_epoch else 1
        )
        return rate * min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else rate

    def changed(self, other: TrainConfig) -> dict[str, tuple[Any, Any]]:
        """Values that decide what is learnt and differ: name -> (here, there)."""
        return {
            name: (getattr(self, name), getattr(other, name))
            for name in type(self).model_fields
            if name not in FREE and getattr(self, name) != getattr(other, name)
        }

    def to_yaml(self) -> str:
        """The resolved config, by groups, each value with what it is."""
        lines: list[str] = []
        values = self.model_dump(mode="json")
        group = ""
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            own = str(extra["group"]) if isinstance(extra, dict) else ""
            if own != group:
                lines += [*([""] if lines else []), f"# {own}"]
                group = own
            dumped = yaml.safe_dump(values[name], default_flow_style=True, width=1000).splitlines()
            lines.append(f"{name}: {dumped[0]}")
        return "\n".join(lines) + "\n"


def read_config(path: Path) -> dict[str, Any]:
    """The values that a YAML file gives, by name; they are checked together with the flags.

    Raises:
        UserError: no such file, no mapping, or a name that is no value of a run.
    """
    document = read_yaml(path, "config")
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise UserError("the config is not a mapping of names to values", where=path)
    known = set(TrainConfig.model_fields)
    for name in document:
        if name not in known:
            raise UserError(
                f"unknown name {name!r}{nearest(str(name), known)}",
                where=path,
                expected="names as `python -m training.train --help` lists them, with underscores",
            )
    return document


def make_config(values: Mapping[str, Any], where: str) -> TrainConfig:
    """The checked config.

    Args:
        values: by name; what is missing takes the paper's value.
        where: what they come from, for the message.

    Raises:
        UserError: a value that is out of its range or of the wrong type.
    """
    try:
        return TrainConfig.model_validate(dict(values))
    except ValidationError as error:
        raise UserError("the config is not valid", where=where, expected=explain(error)) from error
