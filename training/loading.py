"""The model that a user means: a run, or a checkpoint file with or without SAM in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from hqdata.errors import UserError
from hqdata.files import sha256_file
from training.model.backbones import find_backbone
from training.model.checkpoints import load_hq, load_sam
from training.model.hq_sam import HqSam, Precision, build_hq_sam
from training.model.recognise import recognise
from training.model.shipped import shipped_weights
from training.model.state_files import read_state
from training.run_folder import CONFIG_FILE, INFO_FILE, Run, open_run

PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model on its device, and what is known of it.

    Attributes:
        model: ready for use.
        weights: where the HQ weights come from, in words.
        trained_on: "source/split" names; None where nobody knows.
        recipe: name of the recipe that these are of, if one was asked for.
    """

    model: HqSam
    weights: str
    trained_on: tuple[str, ...] | None
    recipe: str | None = None


def resolve_precision(name: str, device: torch.device) -> Precision:
    """`auto` is bf16 on CUDA and fp32 elsewhere.

    Raises:
        UserError: another name.
    """
    if name == "auto":
        return "bf16" if device.type == "cuda" else "fp32"
    if name == "fp32":
        return "fp32"
    if name == "bf16":
        return "bf16"
    raise UserError(f"unknown precision {name!r}", expected=", ".join(PRECISIONS))


def load_model(
    path: Path,
    *,
    device: torch.device,
    precision: Precision,
    name: str | None = None,
    sam_checkpoint: Path | None = None,
) -> Loaded:
    """Loads a model.

    Args:
        path: folder of a run, HQ weights alone, or a merged sam_hq_*.pth.
        device: where to.
        precision: of the encoder.
        name: of the backbone, if the user insists; else it is read from the file.
        sam_checkpoint: SAM's weights, where `path` has none.

    Raises:
        UserError: see `training.model.checkpoints`; or SAM's weights are missing.
    """
    if path.is_dir():
        return _of_run(open_run(path), device, precision, name, sam_checkpoint)
    if all((path.parent / own).is_file() for own in (CONFIG_FILE, INFO_FILE)):
        # One of a run's own files: the run knows its SAM, and what it was trained on.
        run = replace(open_run(path.parent), hq_weights=path)
        return _of_run(run, device, precision, name, sam_checkpoint)
    state = read_state(path)
    contents = recognise(state.tensors)
    found = name or contents.backbone
    if found is None:
        raise UserError(
            f"cannot tell which model this is of: the file holds {contents.in_words()}",
            where=path,
            expected="HQ weights saved by training.train, or a sam_hq_*.pth",
        )
    if not contents.hq:
        raise UserError(
            f"the file has no HQ token: it holds {contents.in_words()}",
            where=path,
            expected="HQ weights saved by training.train, or a sam_hq_*.pth",
            do="give SAM's own checkpoint as --sam-checkpoint, and the HQ weights here",
        )
    model = build_hq_sam(find_backbone(found), seed=0, precision=precision)
    if sam_checkpoint is None and not contents.has_encoder:
        sam_checkpoint = shipped_weights(model.backbone)
        if sam_checkpoint is not None:
            _check_shipped(sam_checkpoint, state.metadata.get("sam_sha256"), path)
    if sam_checkpoint is not None:
        load_sam(model, sam_checkpoint)
        load_hq(model, path)
    elif contents.has_encoder:
        load_sam(model, path)
    else:
        raise UserError(
            f"the file holds {contents.in_words()}: SAM's own weights are missing",
            where=path,
            expected=model.backbone.checkpoint_name,
            do="give them with --sam-checkpoint, or the sam_hq.pth or the folder of the run",
        )
    said = state.metadata.get("trained_on")
    trained_on = None if said is None else tuple(word for word in said.split(",") if word)
    return Loaded(model.to(device), path.name, trained_on, state.metadata.get("recipe"))


def _of_run(
    run: Run,
    device: torch.device,
    precision: Precision,
    name: str | None,
    sam_checkpoint: Path | None,
) -> Loaded:
    if name is not None and name != run.model:
        raise UserError(
            f"the run is of {run.model}, not of {name}", where=run.root, do="leave out --model"
        )
    # The seed makes SAM's weights where the run began with random ones.
    model = build_hq_sam(find_backbone(run.model), seed=run.seed, precision=precision)
    checkpoint = sam_checkpoint or run.sam_checkpoint
    if checkpoint is None and run.sam_sha256:
        checkpoint = shipped_weights(model.backbone)
        if checkpoint is None:
            raise UserError(
                f"the run was trained with weights of {run.model} that came with its package, and "
                "this one has none",
                where=run.root,
                do="give them with --sam-checkpoint",
            )
    if checkpoint is not None:
        _check_sam(checkpoint, run)
        load_sam(model, checkpoint)
    load_hq(model, run.hq_weights)
    weights = f"{run.root.name}/{run.hq_weights.name}"
    return Loaded(model.to(device), weights, tuple(run.trained_on), run.recipe)


def _check_shipped(shipped: Path, trained_with: str | None, path: Path) -> None:
    """Holds the package's own weights of SAM against those that a token was trained with.

    Args:
        shipped: the package's file.
        trained_with: SHA-256 of the file, empty for random weights, None where nothing is said.
        path: the token's file.

    Raises:
        UserError: they are others.
    """
    if trained_with is not None and trained_with != sha256_file(shipped):
        what = "other weights of SAM than those of the package" if trained_with else "a random SAM"
        raise UserError(
            f"the token was trained with {what}",
            where=path,
            do="give those with --sam-checkpoint, or the sam_hq.pth or the folder of the run",
        )


def _check_sam(checkpoint: Path, run: Run) -> None:
    """Holds SAM's weights against those that the run was trained with.

    Raises:
        UserError: they are gone, or others.
    """
    if not checkpoint.is_file():
        raise UserError(
            "SAM's weights of the run are not where they were",
            where=checkpoint,
            do="give them with --sam-checkpoint",
        )
    digest = sha256_file(checkpoint)
    if digest != run.sam_sha256:
        raise UserError(
            "the run was trained with other weights of SAM",
            where=checkpoint,
            expected=f"a file of SHA-256 {run.sam_sha256}, not {digest}"
            if run.sam_sha256
            else "none: the run began with random ones",
        )
