"""SAM's weights that come with the package: small, no pickle, what vit_micro begins with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from hqdata.errors import UserError
from hqdata.files import sha256_file
from training.config import TrainConfig
from training.loading import load_model
from training.model.backbones import BACKBONES, find_backbone
from training.model.checkpoints import load_sam, save_hq
from training.model.hq_sam import build_hq_sam
from training.model.shipped import shipped_weights
from training.pretraining.held_out import held_out_scenes, measure
from training.setup import build_model

MICRO = find_backbone("vit_micro")
CPU = torch.device("cpu")


@pytest.fixture
def weights() -> Path:
    found = shipped_weights(MICRO)
    assert found is not None
    return found


def test_are_small(weights: Path) -> None:
    assert weights.stat().st_size <= 12e6
    with safe_open(str(weights), "pt") as file:
        tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
        assert (file.metadata() or {})["model"] == "vit_micro"
    assert sum(tensor.numel() for tensor in tensors) <= 6e6
    assert {tensor.dtype for tensor in tensors} == {torch.float16}


def test_come_with_a_model_card(weights: Path) -> None:
    card = (weights.parent / "vit_micro.md").read_text(encoding="utf-8")
    assert "**Not for:**" in card


def test_there_are_none_of_models_whose_makers_give_them_out() -> None:
    assert all(
        shipped_weights(backbone) is None
        for backbone in BACKBONES.values()
        if backbone.checkpoint_name is not None
    )


def test_are_what_a_run_begins_with(weights: Path) -> None:
    built = build_model(TrainConfig(model="vit_micro", device="cpu"), CPU)
    own = build_hq_sam(MICRO, seed=1)
    load_sam(own, weights)
    for name, value in own.sam.state_dict().items():
        assert torch.equal(built.model.sam.state_dict()[name], value), name
    assert built.sam_checkpoint is None  # the package is found wherever it lies then
    assert built.sam_sha256


def test_stay_out_where_random_ones_are_asked_for() -> None:
    built = build_model(TrainConfig(model="vit_micro", device="cpu", random_sam=True, seed=3), CPU)
    own = build_hq_sam(MICRO, seed=3).sam.state_dict()
    assert all(torch.equal(built.model.sam.state_dict()[name], own[name]) for name in own)
    assert (built.sam_checkpoint, built.sam_sha256) == (None, "")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model": "vit_b"}, "vit_b has weights"),
        ({"model": "vit_micro", "sam_checkpoint": "a.pth"}, "a checkpoint was given"),
    ],
)
def test_random_ones_of_a_model_that_has_weights_are_a_mistake(
    values: dict[str, str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        build_model(TrainConfig(random_sam=True, **values), CPU)  # type: ignore[arg-type]


def test_are_good_at_objects_and_poor_at_detail(weights: Path) -> None:
    model = build_hq_sam(MICRO, seed=0)
    load_sam(model, weights)
    found = measure(model, held_out_scenes(24, MICRO.image_size))
    assert found.iou > found.box_iou + 0.1
    assert found.iou > 0.55
    assert found.boundary_iou < found.iou - 0.15
    assert found.coarse_iou is not None
    assert found.coarse_iou > found.iou - 0.02  # what it learnt from


def test_that_are_missing_are_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("training.model.shipped._FOLDER", tmp_path)
    with pytest.raises(UserError, match="vit_micro that come with the package are missing"):
        build_model(TrainConfig(model="vit_micro", device="cpu"), CPU)


@pytest.mark.parametrize(
    ("digest", "said"), [("", "with a random SAM"), ("ab" * 32, "with other weights of SAM")]
)
def test_complete_no_token_of_another_sam(tmp_path: Path, digest: str, said: str) -> None:
    path = tmp_path / "hq.safetensors"
    save_hq(build_hq_sam(MICRO, seed=4), path, {"sam_sha256": digest})
    with pytest.raises(UserError, match=said):
        load_model(path, device=CPU, precision="fp32")


def test_complete_hq_weights_alone(weights: Path, tmp_path: Path) -> None:
    model = build_hq_sam(MICRO, seed=4)
    about = {"sam_sha256": sha256_file(weights)}
    save_hq(model, tmp_path / "hq.safetensors", about)
    loaded = load_model(tmp_path / "hq.safetensors", device=CPU, precision="fp32").model
    own = build_hq_sam(MICRO, seed=1)
    load_sam(own, weights)
    assert torch.equal(
        loaded.sam.mask_decoder.iou_token.weight, own.sam.mask_decoder.iou_token.weight
    )
    assert torch.equal(loaded.hq.hf_token.weight, model.hq.hf_token.weight)


def test_a_model_without_any_keeps_random_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "vit_small", replace(MICRO, name="vit_small"))
    built = build_model(TrainConfig(model="vit_small", device="cpu"), CPU)
    assert built.sam_sha256 == ""
