"""Weights in and out: SAM's and MobileSAM's own, HQ-SAM's public ones, and the HQ token's alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from hqdata.errors import UserError
from training.model.hq_sam import HqSam
from training.model.recognise import DECODER, ENCODER, Contents, recognise
from training.model.state_files import read_state, write_state

_UNUSED = ("image_encoder.head.", "image_encoder.norm_head.")
"""Parts of MobileSAM's checkpoints that are not used, and that some copies lack."""

_DERIVED = (".attention_bias_idxs", ".ab", ".num_batches_tracked")
"""Entries that follow from others, and that some copies have and others lack."""

_MAX_NAMES = 3


def load_sam(model: HqSam, path: Path) -> None:
    """Loads SAM's weights, and the HQ decoder's if they are in the same file.

    Nothing of the model changes unless all of it fits.

    Args:
        model: into which.
        path: a checkpoint of SAM or MobileSAM as their makers give it out, or a public
            `sam_hq_*.pth`.

    Raises:
        UserError: see `read_state`; or it is of another encoder, has no encoder at all, or does
            not fit.
    """
    contents = recognise(read_state(path).tensors)
    if not contents.has_encoder:
        raise _without_encoder(model, contents, path)
    _check_backbone(model, contents, path)
    names = _sam_names(model)
    sam = {
        name: value
        for name, value in contents.sam.items()
        if name in names or not name.endswith(_DERIVED)
    }
    optional = {name for name in names if name.startswith(_UNUSED) or name.endswith(_DERIVED)}
    own = model.sam.state_dict()
    _check(sam, {name: own[ours] for name, ours in names.items()}, path, optional=optional)
    if contents.hq:
        _check(contents.hq, _hq_state(model), path)
    model.sam.load_state_dict({names[name]: value for name, value in sam.items()}, strict=False)
    if contents.hq:
        _load_hq(model, contents.hq)


def load_hq(model: HqSam, path: Path) -> None:
    """Loads the HQ decoder's weights and leaves SAM as it is.

    Args:
        model: into which.
        path: what `save_hq` wrote, or any other file that has them among others: a public
            `sam_hq_*.pth`, or the mask decoder that the public training program saves.

    Raises:
        UserError: see `read_state`; or it has no HQ weights, or those for another encoder.
    """
    contents = recognise(read_state(path).tensors)
    if not contents.hq:
        raise UserError(
            f"the file has no HQ token: it holds {contents.in_words()}",
            where=path,
            expected="HQ weights that were saved here, or a public sam_hq_*.pth",
        )
    _check_backbone(model, contents, path)
    # What stands beside them may only be the rest of a model.
    odd = {} if contents.has_encoder or contents.is_decoder_only else contents.sam
    _check(contents.hq | odd, _hq_state(model), path)
    _load_hq(model, contents.hq)


def save_hq(model: HqSam, path: Path, metadata: dict[str, str]) -> None:
    """Writes the HQ decoder's weights alone, as safetensors.

    Args:
        model: of which.
        path: where; replaced in one step.
        metadata: what the file shall say of itself beside the name of the model.

    Raises:
        UserError: it cannot be written.
    """
    tensors = {name: _plain(value) for name, value in model.hq.state_dict().items()}
    about = {**metadata, "format": "pt", "content": "hq-token", "model": model.backbone.name}
    data = safetensors.torch.save(tensors, about)
    write_state(path, lambda file: file.write(data))


def save_merged(model: HqSam, path: Path) -> None:
    """Writes SAM and the HQ decoder in one file, as public HQ-SAM checkpoints are.

    The package `segment-anything-hq` loads it as it is, except for the stand-in, which it has not.

    Raises:
        UserError: it cannot be written.
    """
    own = model.sam.state_dict()
    state = {name: _plain(own[ours]) for name, ours in _sam_names(model).items()}
    state |= {name: _plain(value) for name, value in _hq_state(model).items()}
    write_state(path, lambda file: torch.save(state, file))


def _plain(value: Tensor) -> Tensor:
    """Without gradient, on the CPU, in a storage of its own: nothing more goes into a file."""
    return value.detach().cpu().contiguous()


def _sam_names(model: HqSam) -> dict[str, str]:
    """Public name -> name in `model.sam.state_dict()`."""
    if model.backbone.vit is not None:
        return {name: name for name in model.sam.state_dict()}
    from training.model.tiny_vit import mobile_sam_name

    return {
        ENCODER + mobile_sam_name(name.removeprefix(ENCODER))
        if name.startswith(ENCODER)
        else name: name
        for name in model.sam.state_dict()
    }


def _hq_state(model: HqSam) -> dict[str, Tensor]:
    """The HQ decoder's tensors by public name."""
    return {DECODER + name: value for name, value in model.hq.state_dict().items()}


def _load_hq(model: HqSam, tensors: Mapping[str, Tensor]) -> None:
    model.hq.load_state_dict({name.removeprefix(DECODER): v for name, v in tensors.items()})


def _without_encoder(model: HqSam, contents: Contents, path: Path) -> UserError:
    if contents.is_decoder_only:
        return UserError(
            f"the file holds {contents.in_words()}, no image encoder: the public training program "
            "saves such files",
            where=path,
            expected=_wanted(model),
            do="give SAM's own checkpoint here, and this file as the HQ weights",
        )
    return UserError(
        f"the file holds {contents.in_words()}, not SAM", where=path, expected=_wanted(model)
    )


def _wanted(model: HqSam) -> str:
    backbone = model.backbone
    named = f" ({backbone.checkpoint_name})" if backbone.checkpoint_name else ""
    return f"SAM's checkpoint for {backbone.name}{named}, or a sam_hq_*.pth for it"


def _check_backbone(model: HqSam, contents: Contents, path: Path) -> None:
    if contents.backbone == model.backbone.name:
        return
    raise UserError(
        f"the checkpoint is of another model: it holds {contents.in_words()}",
        where=path,
        expected=_wanted(model)
        if contents.has_encoder
        else f"HQ weights for {model.backbone.name}",
        do=f"or choose the model {contents.backbone}" if contents.backbone else None,
    )


def _check(
    found: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    path: Path,
    *,
    optional: set[str] | None = None,
) -> None:
    """Whether tensors can be loaded: all of them there, no other, of these shapes, finite.

    Raises:
        UserError: not so.
    """
    missing = [name for name in wanted if name not in found and name not in (optional or set())]
    if missing:
        raise _misfit(f"{len(missing)} of {len(wanted)} tensors are missing", missing, path)
    odd = [name for name in found if name not in wanted]
    if odd:
        raise _misfit(f"{len(odd)} tensors have no place in the model", odd, path)
    shapes = [
        f"{name} is {tuple(value.shape)}, should be {tuple(wanted[name].shape)}"
        for name, value in found.items()
        if value.shape != wanted[name].shape
    ]
    if shapes:
        raise _misfit(f"{len(shapes)} tensors have other shapes", shapes, path)
    broken = [
        name
        for name, value in found.items()
        if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]
    if broken:
        raise _misfit(f"{len(broken)} tensors hold NaN or infinity", broken, path)


def _misfit(what: str, names: list[str], path: Path) -> UserError:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return UserError(
        f"the checkpoint does not fit: {what}: {', '.join(names[:_MAX_NAMES])}{more}", where=path
    )
