"""Every value of a run, with the paper's as its default."""

from __future__ import annotations

from pathlib import Path

import pytest

from hqdata.errors import UserError
from training.config import FREE, TrainConfig, make_config, read_config


def test_defaults_are_those_of_the_paper():
    config = TrainConfig()
    assert (config.epochs, config.batch_size, config.device_batch) == (12, 32, 4)
    assert (config.lr, config.lr_drop_epoch, config.lr_drop_factor) == (1e-3, 10, 0.1)
    assert (config.beta1, config.beta2, config.weight_decay) == (0.9, 0.999, 0.0)
    assert (config.warmup_steps, config.clip_norm, config.ema) == (0, None, None)
    assert (config.flip, config.scale_min, config.scale_max) == (0.5, 0.1, 2.0)
    assert (config.prompts, config.num_points) == (("box", "point", "mask"), 10)
    assert (config.loss_points, config.loss_oversample, config.loss_importance) == (12544, 3, 0.75)
    assert (config.bce_weight, config.dice_weight) == (1.0, 1.0)
    assert config.compat == "none"


def test_the_rate_drops_once_after_ten_epochs():
    config = TrainConfig()
    steps = 1385  # 44,320 samples in batches of 32
    assert config.rate(0, steps) == config.rate(10 * steps - 1, steps) == 1e-3
    assert (
        config.rate(10 * steps, steps) == config.rate(12 * steps - 1, steps) == pytest.approx(1e-4)
    )


def test_the_rate_rises_over_the_warm_up_if_there_is_one():
    config = TrainConfig(warmup_steps=4)
    assert [config.rate(step, 100) for step in range(5)] == pytest.approx(
        [0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3]
    )


def test_the_saved_yaml_reads_back_as_the_same_config(tmp_path: Path):
    config = TrainConfig(
        exclude=("dis", "duts/test"), clip_norm=0.1, out=tmp_path / "a b", prompts=("box",)
    )
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert make_config(read_config(path), "test") == config
    assert all(f"{name}:" in config.to_yaml() for name in TrainConfig.model_fields)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"lr": 0}, "lr"),
        ({"batch_size": "many"}, "batch_size"),
        ({"prompts": ["box", "boxes"]}, "prompts"),
        ({"prompts": ["box", "box"]}, "twice"),
        ({"prompts": []}, "prompts"),
        ({"scale_min": 3.0}, "scale_max"),
        ({"bce_weight": 0, "dice_weight": 0}, "nothing would be learnt"),
        ({"precision": "fp16"}, "precision"),
        ({"ema": 1.0}, "ema"),
    ],
)
def test_a_value_out_of_its_range_is_a_clear_error(values: dict[str, object], said: str):
    with pytest.raises(UserError, match=said) as caught:
        make_config(values, "flags")
    assert "flags" in str(caught.value)


def test_an_unknown_name_in_the_file_shows_the_nearest(tmp_path: Path):
    path = tmp_path / "c.yaml"
    path.write_text("batchsize: 3\n", encoding="utf-8")
    with pytest.raises(UserError, match="did you mean 'batch_size'"):
        read_config(path)


@pytest.mark.parametrize("text", ["- 1\n", "just text\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="not a mapping"):
        read_config(path)


def test_an_empty_file_gives_nothing(tmp_path: Path):
    path = tmp_path / "c.yaml"
    path.write_text("# all as in the paper\n", encoding="utf-8")
    assert read_config(path) == {}


def test_what_may_change_on_resuming_are_values_of_a_run():
    assert set(TrainConfig.model_fields) >= FREE


@pytest.mark.parametrize(
    ("values", "changed"),
    [
        ({"workers": 7, "device_batch": 1, "device": "cpu", "epochs": 30}, set()),
        ({"lr": 1e-4}, {"lr"}),
        ({"batch_size": 8, "exclude": ("dis",)}, {"batch_size", "exclude"}),
        ({"precision": "bf16"}, {"precision"}),
        ({"recipe": "no-dis"}, {"recipe"}),
    ],
)
def test_only_what_decides_what_is_learnt_counts_as_changed(values, changed):
    assert set(TrainConfig().changed(TrainConfig(**values))) == changed


@pytest.mark.parametrize(
    ("values", "folder"),
    [
        ({}, "runs/hq-vit_l"),
        ({"model": "vit_b", "exclude": ("dis", "duts/test")}, "runs/hq-vit_b-no-dis-no-duts_test"),
        ({"only": ("dis",)}, "runs/hq-vit_l-dis"),
        ({"recipe": "sa1b-44k"}, "runs/hq-vit_l-sa1b-44k"),
        ({"recipe": "my/own.yaml", "exclude": ("dis",)}, "runs/hq-vit_l-own-no-dis"),
        ({"out": Path("x/y")}, "x/y"),
    ],
)
def test_the_folder_of_a_run_says_what_it_is(values, folder):
    assert TrainConfig(**values).run_folder() == Path(folder)


def test_a_recipe_in_a_file_is_found_again_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert TrainConfig(recipe="own.yaml").recipe == str(tmp_path / "own.yaml")
    assert TrainConfig(recipe="no-dis").recipe == "no-dis"
