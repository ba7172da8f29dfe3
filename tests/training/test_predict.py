"""Prediction: the geometry of segment-anything's predictor, and messages that help."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from segment_anything import SamPredictor
from segment_anything.utils.transforms import ResizeLongestSide
from typer.testing import CliRunner

from hqdata.errors import UserError
from support.builds import child_environment
from support.evaluations import micro_model
from support.pictures import disc, photo
from training import loading
from training.cli_common import pick_device
from training.inference import (
    UserPrompt,
    check_prompt,
    fitted_size,
    predict_mask,
    read_photo,
    read_prior,
)
from training.model.checkpoints import save_hq, save_merged
from training.model.hq_sam import HqSam
from training.predict import app, parse_box, parse_point

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> HqSam:
    return micro_model()


@pytest.fixture
def without_token(model: HqSam, monkeypatch: pytest.MonkeyPatch) -> HqSam:
    """A model without the HQ token, which SAM's own tokens see: what is left is SAM."""

    def of_sam(features: Any, prompts: Any, *, multimask: bool, hq_only: bool) -> Any:
        masks, expected = model.sam_logits(features, prompts, multimask=multimask)
        best = expected.argmax(dim=1)
        return masks[:, best], expected[:, best]

    monkeypatch.setattr(model, "predict", of_sam)
    return model


@pytest.fixture(scope="module")
def files(model: HqSam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a photo, a checkpoint with SAM in it, and one without."""
    folder = tmp_path_factory.mktemp("files")
    Image.fromarray(photo(3, 200, 120)).save(folder / "photo.jpg")
    save_merged(model, folder / "sam_hq.pth")
    save_hq(model, folder / "hq.safetensors", {})
    return folder


@pytest.mark.parametrize("size", [(200, 120), (97, 301), (256, 256)], ids=str)
@pytest.mark.parametrize("multimask", [False, True], ids=["one mask", "three masks"])
def test_without_the_token_it_is_segment_anything_s_predictor(
    without_token: HqSam, size: tuple[int, int], multimask: bool
) -> None:
    width, height = size
    image = photo(3, width, height)
    predictor = SamPredictor(without_token.sam)
    predictor.set_image(image)
    box = (0.2 * width, 0.1 * height, 0.8 * width, 0.7 * height)
    points = ((0.5 * width, 0.5 * height, 1), (0.1 * width, 0.9 * height, 0))
    for prompt, asked in (
        (UserPrompt(box=box), {"box": np.array(box)}),
        (
            UserPrompt(points=points),
            {
                "point_coords": np.array([p[:2] for p in points]),
                "point_labels": np.array([p[2] for p in points]),
            },
        ),
    ):
        masks, expected, _ = predictor.predict(**asked, multimask_output=multimask)
        found = predict_mask(without_token, image, prompt, device=CPU, multimask=multimask)
        best = int(np.argmax(expected))
        assert found.mask.shape == (height, width)
        assert (found.mask != masks[best]).mean() < 1e-3  # but for logits of zero
        assert 0 < masks[best].mean() < 1
        assert found.expected_iou == pytest.approx(float(expected[best]), abs=1e-4)


def test_the_token_s_mask_is_added_unless_it_is_asked_for_alone(model: HqSam) -> None:
    image, prompt = photo(3, 200, 120), UserPrompt(box=(20, 10, 150, 100))
    both = predict_mask(model, image, prompt, device=CPU)
    alone = predict_mask(model, image, prompt, device=CPU, hq_only=True)
    assert (both.mask != alone.mask).any()
    assert both.expected_iou == alone.expected_iou


def test_a_rough_mask_is_a_prompt_too(model: HqSam) -> None:
    image = photo(3, 200, 120)
    left, right = np.zeros((120, 200), bool), np.zeros((120, 200), bool)
    left[:, :40], right[:, 160:] = True, True
    found = [predict_mask(model, image, UserPrompt(mask=m), device=CPU) for m in (left, right)]
    assert (found[0].mask != found[1].mask).any()


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_the_long_side_fills_the_input(height: int, width: int) -> None:
    fitted = fitted_size((height, width), 1024)
    assert max(fitted) == 1024
    public = ResizeLongestSide.get_preprocess_shape(height, width, 1024)
    assert fitted == tuple(max(1, side) for side in public)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_exif_says(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.png"
    Image.fromarray(photo(3, 60, 40)).save(path, exif=exif)
    from PIL import ImageOps

    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(read_photo(path), upright)


class TestPrompts:
    SIZE = (120, 200)

    @pytest.mark.parametrize(
        "prompt",
        [
            UserPrompt(box=(0, 0, 200, 120)),
            UserPrompt(box=(10.5, 3, 11, 4)),
            UserPrompt(points=((0, 0, 1), (199.5, 119.5, 0))),
            UserPrompt(mask=np.ones((120, 200), bool)),
        ],
    )
    def test_what_lies_within_the_photo_is_taken(self, prompt: UserPrompt) -> None:
        check_prompt(prompt, self.SIZE)

    @pytest.mark.parametrize(
        ("prompt", "message"),
        [
            (UserPrompt(), "no prompt"),
            (UserPrompt(box=(1, 1, 9, 9), points=((1, 1, 1),)), "--box, --point"),
            (UserPrompt(box=(50, 10, 50, 90)), "no inside"),
            (UserPrompt(box=(50, 90, 60, 10)), "no inside"),
            (UserPrompt(box=(-1, 0, 60, 10)), "out of the photo"),
            (UserPrompt(box=(0, 0, 201, 10)), "out of the photo"),
            (UserPrompt(box=(0, 0, 100, 121)), "out of the photo"),
            (UserPrompt(points=((5, 5, 1), (200, 5, 1))), "200,5 is not in the photo"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, prompt: UserPrompt, message: str) -> None:
        with pytest.raises(UserError, match=message):
            check_prompt(prompt, self.SIZE)

    def test_texts_become_numbers(self) -> None:
        assert parse_box("100, 80,640.5,560") == (100, 80, 640.5, 560)
        assert parse_point("3,4") == (3, 4, 1)
        assert parse_point("3,4,0") == (3, 4, 0)

    @pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1,2,3,nan"])
    def test_a_text_that_is_no_box(self, text: str) -> None:
        with pytest.raises(UserError, match="--box"):
            parse_box(text)

    @pytest.mark.parametrize("text", ["", "1", "1,2,3", "1,2,1,1", "1,inf"])
    def test_a_text_that_is_no_point(self, text: str) -> None:
        with pytest.raises(UserError, match="--point"):
            parse_point(text)

    def test_a_rough_mask_has_the_photo_s_size_and_an_object(self, tmp_path: Path) -> None:
        path = tmp_path / "prior.png"
        Image.fromarray(disc(200, 120)).save(path)
        assert np.array_equal(read_prior(path, self.SIZE), disc(200, 120) > 128)
        with pytest.raises(UserError, match="200x120"):
            read_prior(path, (120, 201))
        Image.fromarray(np.full((120, 200), 100, np.uint8)).save(path)
        with pytest.raises(UserError, match="empty"):
            read_prior(path, self.SIZE)


class TestCommand:
    def run(self, files: Path, *arguments: str, checkpoint: str = "sam_hq.pth") -> list[str]:
        checkpoint_path = str(files / checkpoint)
        return [
            str(files / "photo.jpg"), "--checkpoint", checkpoint_path,
            "--out", str(files / "mask.png"), "--device", "cpu", *arguments,
        ]  # fmt: skip

    def test_it_writes_the_mask_at_the_photo_s_size(self, files: Path, model: HqSam) -> None:
        overlay = files / "overlay.png"
        done = CliRunner().invoke(
            app, self.run(files, "--box", "20,10,150,100", "--overlay", str(overlay))
        )
        assert done.exit_code == 0, done.output
        assert "SAM expects an IoU of" in done.output
        with Image.open(files / "mask.png") as image:
            mask = np.asarray(image)
        assert mask.shape == (120, 200)
        assert set(np.unique(mask)) <= {0, 255}
        image = read_photo(files / "photo.jpg")
        found = predict_mask(model, image, UserPrompt(box=(20, 10, 150, 100)), device=CPU)
        assert np.array_equal(mask > 0, found.mask)
        assert f"{found.mask.mean():.2%}" in done.output
        shown = cv2.imread(str(overlay))
        assert shown is not None
        assert shown.shape == (120, 200, 3)

    def test_weights_without_sam_need_sam_s_own(
        self, files: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(loading, "shipped_weights", lambda backbone: None)
        points = ["--point", "100,60", "--point", "5,5,0"]
        merged = CliRunner().invoke(app, self.run(files, *points))
        first = (files / "mask.png").read_bytes()
        alone = CliRunner().invoke(
            app,
            [
                *self.run(files, *points, checkpoint="hq.safetensors"),
                "--sam-checkpoint", str(files / "sam_hq.pth"),
            ],
        )  # fmt: skip
        assert merged.exit_code == alone.exit_code == 0, alone.output
        assert (files / "mask.png").read_bytes() == first
        missing = CliRunner().invoke(app, self.run(files, *points, checkpoint="hq.safetensors"))
        assert isinstance(missing.exception, UserError)
        assert "--sam-checkpoint" in str(missing.exception)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "no prompt"),
            (["--box", "20,10,350,100"], "out of the photo"),
            (["--box", "20,10,50,100", "--model", "vit_b"], "another model|is of|vit_micro"),
            (["--box", "20,10,50,100", "--overlay", "shown.jpg"], "PNG"),
            (["--box", "20,10,50,100", "--device", "tpu"], "unknown device"),
            (["--box", "20,10,50,100", "--precision", "fp8"], "unknown precision"),
            (["--mask", "nowhere.png"], "no such file"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_a_mistake_is_named(self, files: Path, arguments: list[str], message: str) -> None:
        done = CliRunner().invoke(app, self.run(files, *arguments))
        assert isinstance(done.exception, UserError)
        assert re.search(message, str(done.exception))

    def test_the_shell_sees_one_message_and_status_2(self, files: Path, tmp_path: Path) -> None:
        text = tmp_path / "photo.jpg"
        text.write_text("no picture")
        done = subprocess.run(
            [
                sys.executable, "-m", "training.predict", str(text), "--checkpoint", "none.pth",
                "--out", str(tmp_path / "mask.png"), "--box", "1,1,2,2",
            ],
            capture_output=True, text=True, env=child_environment(), timeout=120,
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr.startswith("error: cannot read the picture")
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "mask.png").exists()


class TestDevices:
    def test_names(self) -> None:
        assert pick_device("cpu").type == "cpu"
        assert pick_device("auto").type in ("cpu", "cuda")

    @pytest.mark.parametrize("name", ["", "gpu", "cpu:0", "cuda:x", "cuda:-1"])
    def test_a_name_that_is_none(self, name: str) -> None:
        with pytest.raises(UserError, match="unknown device"):
            pick_device(name)

    def test_cuda_where_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(UserError, match="CUDA was asked for"):
            pick_device("cuda")
        assert pick_device("auto").type == "cpu"

    def test_a_gpu_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert pick_device("cuda:1") == torch.device("cuda", 1)
        assert pick_device("cuda", local_rank=1) == torch.device("cuda", 1)
        with pytest.raises(UserError, match="no GPU number 2"):
            pick_device("cuda:2")
        with pytest.raises(UserError, match="no GPU number 3"):
            pick_device("cuda", local_rank=3)
