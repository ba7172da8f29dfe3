"""Weights go out under public names and come in from every public file, or with a clear message."""

from __future__ import annotations

import os
import pickle
import resource
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from hqdata.errors import UserError
from support.models import enliven, reference_names
from training.model import state_files
from training.model.backbones import BACKBONES, find_backbone
from training.model.checkpoints import load_hq, load_sam, save_hq, save_merged
from training.model.hq_decoder import HqDecoder
from training.model.hq_sam import HqSam, build_hq_sam
from training.model.recognise import DECODER, recognise

MICRO = find_backbone("vit_micro")


def new_model(seed: int) -> HqSam:
    model = build_hq_sam(MICRO, seed=seed)
    enliven(model, seed)
    return model


@pytest.fixture(scope="module")
def trained() -> HqSam:
    return new_model(1)


@pytest.fixture
def model() -> HqSam:
    return new_model(2)


def merged(model: HqSam) -> dict[str, Tensor]:
    state = dict(model.sam.state_dict())
    return state | {DECODER + n: value for n, value in model.hq.state_dict().items()}


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


@contextmanager
def unchanged(model: HqSam) -> Iterator[None]:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    yield
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_merged_file_brings_back_all(trained: HqSam, model: HqSam, tmp_path: Path):
    save_merged(trained, tmp_path / "sam_hq.pth")
    load_sam(model, tmp_path / "sam_hq.pth")
    assert same(model, trained)
    assert [path.name for path in tmp_path.iterdir()] == ["sam_hq.pth"]


def test_hq_weights_alone_leave_sam_as_it_is(trained: HqSam, model: HqSam, tmp_path: Path):
    sam = {name: value.clone() for name, value in model.sam.state_dict().items()}
    path = tmp_path / "hq.safetensors"
    save_hq(trained, path, {"steps": "17"})
    load_hq(model, path)
    assert same(model.hq, trained.hq)
    assert all(torch.equal(value, sam[name]) for name, value in model.sam.state_dict().items())
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == set(trained.hq.state_dict())
        metadata = file.metadata()
    assert (metadata["model"], metadata["steps"]) == ("vit_micro", "17")


def test_hq_weights_are_taken_out_of_a_merged_file(trained: HqSam, model: HqSam, tmp_path: Path):
    save_merged(trained, tmp_path / "sam_hq.pth")
    load_hq(model, tmp_path / "sam_hq.pth")
    assert same(model.hq, trained.hq)
    assert not same(model.sam, trained.sam)


def test_a_checkpoint_of_sam_leaves_hq_weights_as_they_are(
    trained: HqSam, model: HqSam, tmp_path: Path
):
    path = tmp_path / "sam.pth"
    torch.save(trained.sam.state_dict(), path)
    load_sam(model, path)
    assert same(model.sam, trained.sam)
    assert not same(model.hq, trained.hq)


@pytest.mark.parametrize("old_format", [True, False])
def test_weights_below_a_name_or_of_half_precision_are_taken_too(
    trained: HqSam, model: HqSam, tmp_path: Path, old_format: bool
):
    path = tmp_path / "sam.pth"
    half = {name: value.half() for name, value in merged(trained).items()}
    content = {"epoch": 3, "model": half}
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    load_sam(model, path)
    token = trained.hq.hf_token.weight
    assert torch.equal(model.hq.hf_token.weight, token.half().float())
    assert model.hq.hf_token.weight.dtype == torch.float32


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h", "vit_tiny"])
def test_names_and_shapes_of_public_checkpoints_are_recognised(name: str):
    backbone = find_backbone(name)
    state = {n: torch.empty(s, device="meta") for n, s in reference_names(backbone).items()}
    contents = recognise(state)
    assert (contents.backbone, contents.has_encoder) == (name, True)
    assert contents.in_words() == f"SAM with {name} and its HQ token"
    hq = {n.removeprefix(DECODER): tuple(v.shape) for n, v in contents.hq.items()}
    own = HqDecoder(backbone.early_dim).state_dict()
    assert hq == {n: tuple(v.shape) for n, v in own.items()}


def test_a_merged_file_has_exactly_the_names_of_the_public_package(trained: HqSam, tmp_path: Path):
    path = tmp_path / "sam_hq.pth"
    save_merged(trained, path)
    state = torch.load(path, weights_only=True)
    assert {name: tuple(value.shape) for name, value in state.items()} == reference_names(MICRO)
    assert path.stat().st_size < 1.05 * sum(v.numel() * v.element_size() for v in state.values())


def test_the_decoder_that_the_public_program_saves_gives_hq_weights(
    trained: HqSam, model: HqSam, tmp_path: Path
):
    path = decoder_only(trained, tmp_path)
    load_hq(model, path)
    assert same(model.hq, trained.hq)


def test_but_it_is_no_checkpoint_of_sam(trained: HqSam, model: HqSam, tmp_path: Path):
    path = decoder_only(trained, tmp_path)
    with unchanged(model), pytest.raises(UserError) as caught:
        load_sam(model, path)
    text = str(caught.value)
    assert "a mask decoder alone, with the HQ token for vit_micro, no image encoder" in text
    assert "the public training program saves such files" in text
    assert "give SAM's own checkpoint here, and this file as the HQ weights" in text
    assert str(path) in text


def decoder_only(trained: HqSam, folder: Path) -> Path:
    path = folder / "epoch_11.pth"
    state = {
        name.removeprefix(DECODER): value
        for name, value in merged(trained).items()
        if name.startswith(DECODER)
    }
    torch.save(state, path)
    return path


@pytest.mark.parametrize("other", ["vit_b", "vit_l", "vit_h", "vit_tiny"])
def test_hq_weights_for_another_encoder_are_refused(model: HqSam, tmp_path: Path, other: str):
    path = tmp_path / "hq.safetensors"
    save_file(HqDecoder(find_backbone(other).early_dim).state_dict(), path)
    with unchanged(model), pytest.raises(UserError) as caught:
        load_hq(model, path)
    assert f"is of another model: it holds the HQ token for {other} alone" in str(caught.value)
    assert "HQ weights for vit_micro" in str(caught.value)
    assert f"choose the model {other}" in str(caught.value)


@pytest.mark.parametrize("other", ["vit_b", "vit_l", "vit_h", "vit_tiny"])
def test_sam_with_another_encoder_is_refused(model: HqSam, tmp_path: Path, other: str):
    path = tmp_path / "sam.pth"
    state = {
        name: torch.zeros(shape)
        for name, shape in reference_names(BACKBONES[other]).items()
        if len(shape) != 2 or "layers.2.blocks.0" in name
    }
    torch.save({n: v.expand(v.shape) for n, v in state.items() if v.numel() < 2_000_000}, path)
    with unchanged(model), pytest.raises(UserError) as caught:
        load_sam(model, path)
    assert f"it holds SAM with {other}" in str(caught.value)
    assert f"choose the model {other}" in str(caught.value)


def test_an_encoder_of_no_known_size_is_told_by_its_size(model: HqSam, tmp_path: Path):
    path = tmp_path / "sam.pth"
    torch.save({"image_encoder.patch_embed.proj.weight": torch.zeros(384, 3, 16, 16)}, path)
    with pytest.raises(UserError, match="a transformer of width 384 and depth 0"):
        load_sam(model, path)


def test_files_without_what_is_asked_for_say_what_they_hold(
    trained: HqSam, model: HqSam, tmp_path: Path
):
    torch.save(trained.sam.state_dict(), tmp_path / "sam.pth")
    with pytest.raises(UserError, match="no HQ token: it holds SAM with vit_micro"):
        load_hq(model, tmp_path / "sam.pth")
    save_hq(trained, tmp_path / "hq.safetensors", {})
    with pytest.raises(UserError, match="the HQ token for vit_micro alone, not SAM"):
        load_sam(model, tmp_path / "hq.safetensors")
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "resnet.pth")
    for load in (load_sam, load_hq):
        with pytest.raises(UserError, match="weights of something else"):
            load(model, tmp_path / "resnet.pth")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mask_decoder.hf_token.weight": None}, "1 of 25 tensors are missing: mask_decoder.hf_"),
        ({"image_encoder.pos_embed": None}, "tensors are missing: image_encoder.pos_embed"),
        ({"image_encoder.odd": torch.zeros(1)}, "1 tensors have no place in the model: image_"),
        ({"image_encoder.pos_embed": torch.zeros(1, 9, 9, 128)}, r"is \(1, 9, 9, 128\), should be"),
        ({"mask_decoder.hf_token.weight": torch.full((1, 256), torch.nan)}, "hold NaN or infinity"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(
    trained: HqSam, model: HqSam, tmp_path: Path, change: dict[str, Tensor | None], told: str
):
    path = tmp_path / "sam_hq.pth"
    state = {n: v for n, v in (merged(trained) | change).items() if v is not None}
    torch.save(state, path)
    with unchanged(model), pytest.raises(UserError, match=told):
        load_sam(model, path)


def test_an_unknown_tensor_beside_hq_weights_is_refused(
    trained: HqSam, model: HqSam, tmp_path: Path
):
    path = tmp_path / "hq.safetensors"
    save_file({**trained.hq.state_dict(), "other": torch.zeros(1)}, path)
    with (
        unchanged(model),
        pytest.raises(UserError, match=r"no place in the model: mask_decoder.other"),
    ):
        load_hq(model, path)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("how", ["torch", "old torch", "plain pickle"])
def test_a_file_with_code_is_not_opened(model: HqSam, tmp_path: Path, how: str):
    path, mark = tmp_path / "sam.pth", tmp_path / "ran"
    content = {"image_encoder.pos_embed": Trap(mark)}
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(content, protocol=4))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    for load in (load_sam, load_hq):
        with pytest.raises(UserError, match="may hold code, which would run") as caught:
            load(model, path)
        assert ("mkdir" in str(caught.value)) == (how != "plain pickle")
    assert not mark.exists()


@pytest.mark.parametrize("kept", [0.0, 0.0001, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["torch", "old torch", "safetensors"])
def test_a_file_that_was_cut_short_is_refused(
    trained: HqSam, model: HqSam, tmp_path: Path, kind: str, kept: float
):
    path = tmp_path / ("hq.safetensors" if kind == "safetensors" else "sam.pth")
    if kind == "safetensors":
        save_hq(trained, path, {})
    else:
        torch.save(merged(trained), path, _use_new_zipfile_serialization=kind == "torch")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with unchanged(model), pytest.raises(UserError, match=r"cut short|damaged|is empty"):
        load_hq(model, path)


def test_files_that_are_no_checkpoints_are_refused(model: HqSam, tmp_path: Path):
    with pytest.raises(UserError, match="there is no such checkpoint"):
        load_sam(model, tmp_path / "none.pth")
    with pytest.raises(UserError, match="a folder, not a checkpoint"):
        load_sam(model, tmp_path)
    (tmp_path / "text.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(UserError, match="damaged or no checkpoint"):
        load_sam(model, tmp_path / "text.pth")
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(UserError, match="damaged or no checkpoint"):
        load_sam(model, tmp_path / "other.pth")
    for content in ([1, 2], {}, {"lr": 0.1}, {3: torch.zeros(1)}):
        torch.save(content, tmp_path / "odd.pth")
        with pytest.raises(UserError, match="no checkpoint of a model"):
            load_sam(model, tmp_path / "odd.pth")


def test_a_file_larger_than_any_model_is_refused_unread(model: HqSam, tmp_path: Path):
    path = tmp_path / "huge.pth"
    with open(path, "wb") as file:
        file.truncate(state_files.MAX_NUM_BYTES + 1)
    with pytest.raises(UserError, match=r"8\.0 GiB, more than any of SAM"):
        load_sam(model, path)


def test_a_small_file_that_unpacks_to_a_huge_one_is_refused(
    model: HqSam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(state_files, "MAX_NUM_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data/0", bytes(2**21))
    assert (tmp_path / "bomb.pth").stat().st_size < 2**14
    with pytest.raises(UserError, match="more than any of SAM"):
        load_sam(model, tmp_path / "bomb.pth")


@contextmanager
def room_for(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_without_room_the_older_file_stays(trained: HqSam, model: HqSam, tmp_path: Path):
    whole, alone = tmp_path / "sam_hq.pth", tmp_path / "hq.safetensors"
    save_merged(trained, whole)
    save_hq(trained, alone, {})
    before = whole.read_bytes(), alone.read_bytes()
    with room_for(100_000):
        with pytest.raises(UserError, match="no room left to write the checkpoint"):
            save_merged(model, whole)
        with pytest.raises(UserError, match="no room left to write the checkpoint"):
            save_hq(model, alone, {})
    assert (whole.read_bytes(), alone.read_bytes()) == before
    assert {path.name for path in tmp_path.iterdir()} == {"sam_hq.pth", "hq.safetensors"}


def test_a_folder_that_is_not_there_is_named(trained: HqSam, tmp_path: Path):
    with pytest.raises(UserError, match="cannot write the checkpoint: No such file or directory"):
        save_hq(trained, tmp_path / "none" / "hq.safetensors", {})


def test_mobile_sam_checkpoints_may_lack_what_is_not_used(tmp_path: Path):
    tiny = find_backbone("vit_tiny")
    one, other = build_hq_sam(tiny, seed=1), build_hq_sam(tiny, seed=2)
    enliven(one, 1)
    path = tmp_path / "sam_hq.pth"
    save_merged(one, path)
    state = torch.load(path, weights_only=True)
    assert {name: tuple(value.shape) for name, value in state.items()} == reference_names(tiny)
    lean = {
        name: value
        for name, value in state.items()
        if ".head." not in name and ".norm_head." not in name and "num_batches" not in name
    }
    table = torch.zeros(49, 49, dtype=torch.int64)
    lean["image_encoder.layers.1.blocks.0.attn.attention_bias_idxs"] = table
    torch.save(lean, path)
    load_sam(other, path)
    assert same(other.hq, one.hq)
    assert same(other.sam.image_encoder.trunk, one.sam.image_encoder.trunk)
    assert same(other.sam.mask_decoder, one.sam.mask_decoder)
