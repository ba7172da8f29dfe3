"""The loop itself: what a step is, what stops it, and what is saved."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import training.loop
from hqdata.shards.dataset import Dataset
from training.config import TrainConfig
from training.data.selection import select
from training.data.shards import open_shards
from training.data.stream import Stream, stream_config
from training.distributed import Ranks
from training.journal import Metrics, MuteDisplay, read_metrics
from training.loop import Trainer, TrainingError
from training.model.backbones import find_backbone
from training.model.hq_sam import build_hq_sam
from training.run_folder import RunFolder
from training.setup import build_model, describe_run
from training.snapshot import Position

CPU = torch.device("cpu")


class Setting:
    """A run in this process."""

    def __init__(self, shards: Path, root: Path, **values: object) -> None:
        settings: dict[str, object] = {
            "model": "vit_micro", "random_sam": True, "epochs": 1, "batch_size": 4,
            "device_batch": 4, "workers": 0,
            "loss_points": 64, "save_every": 500, "keep": 99, "shards": str(shards), "out": root,
        }  # fmt: skip
        self.config = TrainConfig.model_validate({**settings, **values})
        root.mkdir(exist_ok=True)
        self.folder = RunFolder(root)
        opened = open_shards(shards)
        selection = select(opened.dataset)
        built = build_model(self.config, CPU)
        self.model = built.model
        self.folder.write_start(self.config, describe_run(self.config, selection, built))
        position = Position(
            step=0, epoch=0, position=0, digest=selection.digest, seed=self.config.seed,
            batch_size=4, num_samples=len(selection),
        )  # fmt: skip
        self.stream = Stream(
            selection,
            opened,
            stream_config(self.config, Ranks(), CPU),
            state=position.stream(),
            epochs=self.config.epochs,
        )
        self.metrics = Metrics(self.folder.metrics, None, after_step=0)
        self.trainer = Trainer(
            config=self.config,
            model=built.model,
            ranks=Ranks(),
            folder=self.folder,
            metrics=self.metrics,
            display=MuteDisplay(),
            position=position,
        )

    def run(self, after_epoch: Callable[[int], float | None] = lambda _: None) -> None:
        try:
            self.trainer.run(self.stream, after_epoch)
        finally:
            self.metrics.close()


def weights(setting: Setting) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in setting.model.hq.named_parameters()}


def test_a_step_is_one_of_adam_on_the_mean_over_its_samples(own_shards: Path, tmp_path: Path):
    setting = Setting(own_shards, tmp_path, device_batch=3, max_steps=1)
    before = weights(setting)
    first = [batch for batch in setting.stream if batch.step == 0]
    assert [len(batch) for batch in first] == [3, 1]
    setting.run()

    model = build_hq_sam(find_backbone("vit_micro"), seed=setting.config.seed)
    assert all(torch.equal(before[name], p) for name, p in model.hq.named_parameters())
    optimizer = torch.optim.Adam(model.hq_parameters(), lr=1e-3)
    losses = []
    for batch in first:
        logits = model.hq_logits(model.encode(batch.images), batch.prompts)
        losses.append(
            training.loop.hq_loss(
                logits, batch.masks, batch.seeds, training.loop.LossConfig(num_points=64)
            ).total
        )
    torch.cat(losses).mean().backward()
    optimizer.step()
    # Adam's first step is lr wherever the gradient is not zero, so compare where it is not tiny.
    for name, parameter in model.hq.named_parameters():
        assert parameter.grad is not None
        clear = parameter.grad.abs() > 1e-5
        assert torch.allclose(weights(setting)[name][clear], parameter[clear], atol=2e-6), name
    [row] = read_metrics(setting.folder.metrics)
    assert row["loss"] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-4)


def test_a_loss_that_is_no_number_names_its_samples_and_keeps_what_was_good(
    own_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    setting = Setting(own_shards, tmp_path, epochs=3, save_every=1)
    batches = list(setting.stream)
    spoilt = batches[2]
    real = training.loop.hq_loss

    def spoil(logits, targets, seeds, config):
        found = real(logits, targets, seeds, config)
        if torch.equal(seeds, spoilt.seeds):
            total = found.total.clone()
            total[1] = total[1] * float("nan")
            return replace(found, total=total)
        return found

    monkeypatch.setattr(training.loop, "hq_loss", spoil)
    with pytest.raises(TrainingError, match="not a number at step 3") as caught:
        setting.run()
    assert spoilt.keys[1] in str(caught.value)
    assert spoilt.keys[0] not in str(caught.value)
    snapshot, wrong = setting.folder.newest()
    assert wrong == []
    assert snapshot is not None
    assert snapshot.position.step == 2
    assert all(bool(torch.isfinite(value).all()) for value in snapshot.weights.values())
    assert "step-000000002" in str(caught.value)


def test_a_gradient_that_is_no_number_is_never_saved(
    own_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    setting = Setting(own_shards, tmp_path, save_every=1)
    real, calls = training.loop.hq_loss, []

    def spoil(logits, targets, seeds, config):
        found = real(logits, targets, seeds, config)
        calls.append(len(seeds))
        if len(calls) == 2:
            logits.register_hook(lambda gradient: gradient * float("inf"))
        return found

    monkeypatch.setattr(training.loop, "hq_loss", spoil)
    with pytest.raises(TrainingError, match="gradient is not a number at step 2"):
        setting.run()
    snapshot, _ = setting.folder.newest()
    assert snapshot is not None
    assert snapshot.position.step == 1
    assert all(bool(torch.isfinite(value).all()) for value in snapshot.weights.values())


class TestUnreadableSamples:
    @pytest.fixture
    def damaged(self, own_shards: Path, tmp_path: Path) -> tuple[Path, str]:
        """Shards with one image overwritten, and its key."""
        root = tmp_path / "damaged"
        shutil.copytree(own_shards, root)
        dataset = Dataset.open(root)
        row = dataset.row(4)
        with (root / row["shard"]).open("r+b") as file:
            file.seek(row["image_offset"])
            file.write(b"\0" * int(row["image_size"]))
        return root, str(row["key"])

    def test_stop_the_run_and_are_named(self, damaged: tuple[Path, str], tmp_path: Path):
        root, key = damaged
        setting = Setting(root, tmp_path / "run")
        with pytest.raises(TrainingError, match="cannot be read") as caught:
            setting.run()
        assert key in str(caught.value)
        assert "--skip-bad 1" in str(caught.value)

    def test_are_passed_over_where_that_is_allowed(self, damaged: tuple[Path, str], tmp_path: Path):
        root, _ = damaged
        setting = Setting(root, tmp_path / "run", skip_bad=1)
        setting.run()
        assert len(setting.trainer.position.bad) == 1
        assert setting.trainer.position.epoch == 1

    def test_are_missing_from_the_mean(
        self, damaged: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        root, _ = damaged
        seen: list[torch.Tensor] = []
        real = training.loop.hq_loss

        def keep(*arguments):
            found = real(*arguments)
            seen.append(found.total.detach())
            return found

        monkeypatch.setattr(training.loop, "hq_loss", keep)
        setting = Setting(root, tmp_path / "run", skip_bad=1)
        setting.run()
        assert sorted(len(losses) for losses in seen) == [3, 4, 4]
        told = [row["loss"] for row in read_metrics(setting.folder.metrics)]
        assert told == pytest.approx([losses.mean().item() for losses in seen], rel=1e-4)

    def test_count_once_in_however_many_epochs(self, damaged: tuple[Path, str], tmp_path: Path):
        root, key = damaged
        setting = Setting(root, tmp_path / "run", skip_bad=1, epochs=2)
        setting.run()
        assert setting.trainer.position.bad == (key,)
        assert setting.trainer.position.epoch == 2


def test_results_see_the_running_mean_and_training_goes_on_with_the_weights(
    own_shards: Path, tmp_path: Path
):
    setting = Setting(own_shards, tmp_path, ema=0.9, epochs=1)
    first = weights(setting)
    seen: list[dict[str, torch.Tensor]] = []
    setting.run(lambda _: seen.append(weights(setting)))
    last = weights(setting)
    snapshot, _ = setting.folder.newest()
    assert snapshot is not None
    for name in first:
        assert torch.equal(seen[0][name], snapshot.mean[name])
        between = (seen[0][name] - first[name]).abs().sum() / (last[name] - first[name]).abs().sum()
        assert 0.05 < float(between) < 0.6, "a mean over three steps lags behind them"


def test_an_epoch_that_was_stopped_before_its_results_gets_them(own_shards: Path, tmp_path: Path):
    setting = Setting(own_shards, tmp_path / "run")

    def fail(_: int) -> float | None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        setting.run(fail)
    snapshot, _ = setting.folder.newest()
    assert snapshot is not None
    assert (snapshot.position.epoch, snapshot.position.position) == (0, 12)
    setting.trainer.restore(snapshot)
    epochs: list[int] = []

    def score(epoch: int) -> float | None:
        epochs.append(epoch)
        return 0.5

    setting.trainer.run([], score)
    assert epochs == [1]
    snapshot, _ = setting.folder.newest()
    assert snapshot is not None
    assert (snapshot.position.epoch, snapshot.position.position, snapshot.position.best) == (
        1,
        0,
        0.5,
    )
