"""From a checked config to what a run needs: data, model, and where it goes on."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import hqdata
from hqdata.errors import UserError
from hqdata.files import sha256_file
from hqdata.recipe import load_recipe
from hqdata.resolve import resolve
from hqdata.shards.dataset import Dataset
from training.config import TrainConfig, make_config, read_config
from training.data.selection import Selection, select
from training.model.backbones import Backbone, find_backbone
from training.model.checkpoints import load_sam
from training.model.hq_sam import HqSam, Precision, build_hq_sam
from training.model.shipped import shipped_weights
from training.run_folder import CONFIG_FILE, RunFolder, RunInfo

LIBRARIES = ("numpy", "opencv-python-headless", "segment-anything", "timm", "torch", "torchvision")
"""Libraries whose versions a run writes down."""

CHECKPOINT_FOLDERS = (Path(), Path("checkpoints"))
"""Where SAM's weights are looked for by their usual names."""


def resolve_config(
    given: Mapping[str, Any], config_file: Path | None, resume: Path | None
) -> TrainConfig:
    """The config of a new run, or of one that goes on.

    Args:
        given: values of flags.
        config_file: more values; flags win over them.
        resume: folder of the run that goes on.

    Raises:
        UserError: a value is not valid, or a run that goes on would learn something else.
    """
    values = {**(read_config(config_file) if config_file else {}), **given}
    if resume is None:
        return make_config(values, str(config_file) if config_file else "flags")
    saved = RunFolder(resume).read_config()
    if "out" in values and Path(values["out"]).resolve() != resume.resolve():
        raise UserError(
            f"--out {values['out']} is not the folder of the run that goes on, {resume}",
            do="leave out --out; for a run of its own, copy the folder first",
        )
    # How far it was to go in an earlier call is not how far it is to go now.
    whole = {**saved.model_dump(), "max_steps": None, **values, "out": resume}
    config = make_config(whole, f"flags and {resume / CONFIG_FILE}")
    changed = saved.changed(config)
    if changed:
        told = "; ".join(
            f"{name}: {old} in the run, {new} now" for name, (old, new) in changed.items()
        )
        raise UserError(
            f"a run goes on with the values that it began with, and these differ: {told}",
            where=resume / CONFIG_FILE,
            do="leave them out, or start a new run with another --out",
        )
    return config


def select_samples(config: TrainConfig, dataset: Dataset) -> Selection:
    """The samples of a data set that a config asks for.

    Raises:
        UserError: see `training.data.selection.select`; or there is no such recipe.
    """
    recipe = None if config.recipe is None else resolve(load_recipe(config.recipe))
    return select(
        dataset,
        only=config.only,
        exclude=config.exclude,
        recipe=recipe,
        recipe_called=config.recipe or "",
    )


def find_sam_checkpoint(config: TrainConfig, backbone: Backbone) -> Path | None:
    """SAM's weights: the file that is given, the package's own, or one of the usual name.

    None where they stay random: if that is asked for, or of a model without any of these.

    Raises:
        UserError: there are none, or both a file and random ones are asked for.
    """
    if config.random_sam:
        if config.sam_checkpoint is not None or backbone.checkpoint_name is not None:
            raise UserError(
                f"random weights of SAM were asked for, but {backbone.name} has weights"
                if config.sam_checkpoint is None
                else "random weights of SAM were asked for, and a checkpoint was given",
                do="leave out one of --random-sam and --sam-checkpoint"
                if config.sam_checkpoint is not None
                else "leave out --random-sam, or try the steps out with --model vit_micro",
            )
        return None
    if config.sam_checkpoint is not None:
        if not config.sam_checkpoint.is_file():
            raise UserError(
                "there is no such checkpoint of SAM",
                where=config.sam_checkpoint,
                expected=f"SAM's weights for {backbone.name}, e.g. {backbone.checkpoint_name}",
            )
        return config.sam_checkpoint
    if backbone.checkpoint_name is None:
        return shipped_weights(backbone)
    for folder in CHECKPOINT_FOLDERS:
        if (folder / backbone.checkpoint_name).is_file():
            return folder / backbone.checkpoint_name
    raise UserError(
        f"SAM's weights for {backbone.name} are needed and not here",
        expected=f"{backbone.checkpoint_name} in this folder or in checkpoints/",
        do="give their path: --sam-checkpoint PATH (docs/training.md says where they come from); "
        "to try things out without any: --model vit_micro",
    )


@dataclass(frozen=True, slots=True)
class Built:
    """A model on its device, and where SAM's weights are from.

    Attributes:
        model: the model.
        sam_checkpoint: the file of SAM's weights, None if they are the package's own or random.
        sam_sha256: digest of the weights' file, empty if they are random.
    """

    model: HqSam
    sam_checkpoint: Path | None
    sam_sha256: str


def build_model(config: TrainConfig, device: torch.device) -> Built:
    """The model with SAM's weights, HQ weights as the seed has them.

    Raises:
        UserError: no such model, no checkpoint, or a wrong one.
    """
    backbone = find_backbone(config.model)
    checkpoint = find_sam_checkpoint(config, backbone)
    model = build_hq_sam(backbone, seed=config.seed, precision=precision_of(config, device))
    digest = ""
    if checkpoint is not None:
        # HQ weights that the file may hold, too, are not where a run begins.
        own = {name: value.clone() for name, value in model.hq.state_dict().items()}
        load_sam(model, checkpoint)
        model.hq.load_state_dict(own)
        digest = sha256_file(checkpoint)
        # The run remembers it, and is opened from elsewhere; the package is found wherever it is.
        own_file = checkpoint == shipped_weights(backbone)
        checkpoint = None if own_file else checkpoint.resolve()
    model.to(device)
    if config.compile:
        model.sam.image_encoder.compile()
    return Built(model, checkpoint, digest)


def precision_of(config: TrainConfig, device: torch.device) -> Precision:
    """What the frozen encoder computes in."""
    if config.precision != "auto":
        return config.precision
    return "bf16" if device.type == "cuda" else "fp32"


def describe_run(config: TrainConfig, selection: Selection, built: Built) -> RunInfo:
    """What a run writes down of itself."""
    info = selection.dataset.info
    sizes = {}
    for name in selection.sources:
        source, split = name.split("/")
        sizes[name] = info.sources[source][split].built
    return RunInfo(
        model=config.model,
        dataset=info.name,
        dataset_digest=info.digest,
        selection_digest=selection.digest,
        trained_on=sizes,
        recipe=selection.recipe,
        num_samples=len(selection),
        sam_sha256=built.sam_sha256,
        num_parameters=sum(p.numel() for p in built.model.hq_parameters()),
        versions=_versions(),
    )


def check_same_run(saved: RunInfo, now: RunInfo, root: Path) -> None:
    """Refuses to go on with other data or another SAM.

    Raises:
        UserError: something differs; it says what.
    """
    for what, old, new, do in (
        ("data set", saved.dataset_digest, now.dataset_digest, "give its --shards"),
        ("selection of sources", saved.selection_digest, now.selection_digest, ""),
        ("checkpoint of SAM", saved.sam_sha256, now.sam_sha256, "give its --sam-checkpoint"),
    ):
        if old != new:
            raise UserError(
                f"the run was made with another {what}",
                where=root,
                expected=f"digest {old or '(random weights)'}, not {new or '(random weights)'}",
                do=do or "start a new run with another --out",
            )


def _versions() -> dict[str, str]:
    own = {"hqdata": hqdata.__version__, "python": platform.python_version()}
    return own | {name: _version_of(name) for name in LIBRARIES}


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
