"""Training as users start it: alone, on several processes, stopped, killed, gone on with."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hqdata.errors import UserError
from support.runs import QUICK, finish, largest_difference, start, train, weights
from support.tiny_shards import build_sampled
from training import train as command
from training.journal import Metrics, StepRow, read_metrics
from training.loading import load_model
from training.model.backbones import BACKBONES, find_backbone
from training.model.checkpoints import save_merged
from training.model.hq_sam import build_hq_sam
from training.run_folder import RunFolder, open_run
from training.setup import build_model

STEPS = ("--epochs=2", "--batch-size=5", "--device-batch=2", "--lr-drop-epoch=1")
"""Three steps an epoch of 12 samples, the last one of two: one rank of three has nothing to do."""

TOLERANCE = 1e-4
"""What the order of additions may change in a few steps of 1e-3: Adam makes large steps of
gradients that are next to nothing. Other samples in one of the steps change weights by more.
"""


@pytest.fixture(scope="module")
def undisturbed(
    own_shards: Path, own_eval_shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of one process from beginning to end."""
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    status, told = train(
        *QUICK, *STEPS, "--shards", own_shards, "--eval-shards", own_eval_shards, "--out", root
    )
    assert status == 0, told
    return root


class TestARun:
    def test_leaves_all_that_is_needed_and_nothing_half_written(self, undisturbed: Path):
        names = {path.name for path in undisturbed.iterdir()}
        assert {
            "config.yaml", "run.json", "metrics.jsonl", "best.safetensors", "last.safetensors",
            "sam_hq.pth", "checkpoints", "tensorboard", "evaluation",
        } <= names  # fmt: skip
        assert not list(undisturbed.rglob("*.tmp"))

    def test_takes_every_step_once(self, undisturbed: Path):
        rows = [row for row in read_metrics(undisturbed / "metrics.jsonl") if row["kind"] == "step"]
        assert [(row["epoch"], row["step"]) for row in rows] == [
            (1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6),
        ]  # fmt: skip
        assert [row["lr"] for row in rows] == [1e-3] * 3 + [1e-4] * 3

    def test_changes_every_hq_weight(self, undisturbed: Path):
        snapshot, _ = RunFolder(undisturbed).newest()
        first = RunFolder(undisturbed).snapshots()[0]
        assert snapshot is not None
        assert snapshot.position.step == 6
        assert first.name == "step-000000003.safetensors"
        for name, moment in snapshot.moments.items():
            assert moment.abs().max() > 0, f"{name} never had a gradient"

    def test_says_what_it_was_trained_on(self, undisturbed: Path):
        info = RunFolder(undisturbed).read_info()
        assert info.trained_on == {"discs/all": 7, "rings/all": 5}
        assert info.num_parameters == sum(
            value.numel() for value in weights(undisturbed / "last.safetensors").values()
        )
        assert open_run(undisturbed).model == "vit_micro"

    def test_is_evaluated_after_each_epoch(self, undisturbed: Path):
        rows = read_metrics(undisturbed / "metrics.jsonl")
        scores = [row["mean/hq_mbiou"] for row in rows if row["kind"] == "evaluation"]
        assert len(scores) == 2
        saved = json.loads((undisturbed / "evaluation" / "epoch-002.json").read_text())
        assert saved["trained_on"] == ["discs/all", "rings/all"]
        text = (undisturbed / "evaluation" / "epoch-002.md").read_text()
        assert "held_out/all" in text

    def test_shows_pictures_of_each_epoch_on_its_page(self, undisturbed: Path):
        names = [path.name for path in sorted((undisturbed / "pictures").iterdir())]
        assert names == ["epoch-001.png", "epoch-002.png"]
        page = (undisturbed / "index.html").read_text(encoding="utf-8")
        assert page.count("data:image/png;base64,") >= 2
        assert "held_out/all" in page

    def test_is_not_written_over(self, undisturbed: Path, own_shards: Path):
        before = (undisturbed / "metrics.jsonl").read_bytes()
        status, told = train(*QUICK, "--shards", own_shards, "--out", undisturbed)
        assert status == 2
        assert "this folder holds a run" in told
        assert f"--resume {undisturbed}" in told
        assert (undisturbed / "metrics.jsonl").read_bytes() == before


class TestSeveralProcesses:
    @pytest.mark.parametrize("ranks", [2, 3])
    def test_end_with_the_weights_of_one(
        self, undisturbed: Path, own_shards: Path, tmp_path: Path, ranks: int
    ):
        out = tmp_path / "run"
        status, told = train(*QUICK, *STEPS, "--shards", own_shards, "--out", out, ranks=ranks)
        assert status == 0, told
        assert largest_difference(undisturbed / "last.safetensors", out / "last.safetensors") < (
            TOLERANCE
        )
        losses = [
            [row["loss"] for row in read_metrics(root / "metrics.jsonl") if row["kind"] == "step"]
            for root in (undisturbed, out)
        ]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)


class TestGoingOn:
    def test_after_max_steps_on_another_number_of_processes(
        self, undisturbed: Path, own_shards: Path, own_eval_shards: Path, tmp_path: Path
    ):
        out = tmp_path / "run"
        status, told = train(
            *QUICK, *STEPS, "--shards", own_shards, "--eval-shards", own_eval_shards, "--out", out,
            "--max-steps=2", ranks=2,
        )  # fmt: skip
        assert (status, "stopped after step 2" in told) == (0, True), told
        status, told = train("--resume", out, "--max-steps=999", "--device-batch=3")
        assert status == 0, told
        assert "from step 2" in told
        for name in ("last.safetensors", "best.safetensors"):
            assert largest_difference(undisturbed / name, out / name) < TOLERANCE
        steps = [row["step"] for row in read_metrics(out / "metrics.jsonl")]
        assert steps == [1, 2, 3, 3, 4, 5, 6, 6]  # two of them are evaluations

    def test_after_kill_9_at_any_moment(self, undisturbed: Path, own_shards: Path, tmp_path: Path):
        out = tmp_path / "run"
        children = start(
            *QUICK, *STEPS, "--save-every=1", "--shards", own_shards, "--out", out, ranks=2
        )
        _wait_for_steps(out, 2)
        for child in children:
            child.kill()
        finish(children)
        snapshot, wrong = RunFolder(out).newest()
        assert wrong == []
        assert snapshot is not None
        assert 1 <= snapshot.position.step < 6
        status, told = train("--resume", out)
        assert status == 0, told
        assert largest_difference(undisturbed / "last.safetensors", out / "last.safetensors") < (
            TOLERANCE
        )

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_after_a_signal_nothing_is_lost(
        self, undisturbed: Path, own_shards: Path, tmp_path: Path, number: signal.Signals
    ):
        out = tmp_path / "run"
        children = start(*QUICK, *STEPS, "--shards", own_shards, "--out", out)
        _wait_for_steps(out, 1)
        children[0].send_signal(number)
        [(status, told)] = finish(children)
        assert status == 130
        assert "stopped after step" in told
        assert "Traceback" not in told
        assert f"python -m training.train --resume {out}" in told
        done = max(row["step"] for row in read_metrics(out / "metrics.jsonl"))
        snapshot, _ = RunFolder(out).newest()
        assert snapshot is not None
        assert snapshot.position.step == done
        status, told = train("--resume", out)
        assert status == 0, told
        assert largest_difference(undisturbed / "last.safetensors", out / "last.safetensors") < (
            TOLERANCE
        )

    def test_after_a_signal_to_all_processes_of_the_job(self, own_shards: Path, tmp_path: Path):
        """Launchers and batch systems end a whole group: the loaders have to outlive the saving."""
        out = tmp_path / "run"
        flags = [flag for flag in QUICK if not flag.startswith("--workers")]
        [child] = start(
            *flags, *STEPS, "--epochs=200", "--workers=2", "--shards", own_shards, "--out", out,
            own_group=True,
        )  # fmt: skip
        _wait_for_steps(out, 2)
        os.killpg(child.pid, signal.SIGTERM)
        [(status, told)] = finish([child])
        assert status == 130, told
        assert "stopped after step" in told
        done = max(row["step"] for row in read_metrics(out / "metrics.jsonl"))
        snapshot, _ = RunFolder(out).newest()
        assert snapshot is not None
        assert snapshot.position.step == done

    def test_of_a_finished_run_changes_nothing(self, undisturbed: Path):
        before = (undisturbed / "last.safetensors").read_bytes()
        status, told = train("--resume", undisturbed)
        assert status == 0, told
        assert (undisturbed / "last.safetensors").read_bytes() == before
        assert "the run is complete: 6 steps" in told

    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (("--lr=0.5",), "lr: 0.001 in the run, 0.5 now"),
            (("--batch-size=6",), "batch_size: 5 in the run, 6 now"),
            (("--exclude=rings",), "exclude"),
            (("--model=vit_b",), "model: vit_micro in the run, vit_b now"),
        ],
    )
    def test_with_other_values_is_refused(self, undisturbed: Path, flags, said: str, capsys):
        assert command.main(["--resume", str(undisturbed), *flags]) == 2
        assert said in capsys.readouterr().err

    def test_into_another_folder_is_refused(self, undisturbed: Path, tmp_path: Path, capsys):
        flags = ["--resume", str(undisturbed), "--out", str(tmp_path / "other")]
        assert command.main(flags) == 2
        assert "not the folder of the run" in capsys.readouterr().err

    def test_with_another_data_set_is_refused(
        self, undisturbed: Path, own_eval_shards: Path, capsys
    ):
        flags = ["--resume", str(undisturbed), "--shards", str(own_eval_shards)]
        assert command.main(flags) == 2
        assert "another data set" in capsys.readouterr().err


def test_a_disk_that_fills_up_is_one_message_and_what_was_saved_stays(
    own_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    def full(self: Metrics, row: StepRow) -> None:
        if row.step == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.jsonl")

    monkeypatch.setattr(Metrics, "step", full)
    out = tmp_path / "run"
    own = [f"--shards={own_shards}", f"--out={out}", "--save-every=1"]
    assert command.main([*QUICK, *STEPS, *own]) == 1
    told = capsys.readouterr().err
    assert "error: no room left to write" in told
    assert "metrics.jsonl" in told
    snapshot, wrong = RunFolder(out).newest()
    assert wrong == []
    assert snapshot is not None
    assert snapshot.position.step == 2


@pytest.fixture(scope="module")
def sam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sam")
    save_merged(build_hq_sam(find_backbone("vit_micro"), seed=9), root / "sam_vit_micro.pth")
    return root


@pytest.fixture(scope="module")
def run_of_its_own(sam_folder: Path, own_shards: Path) -> Path:
    """A run that found it by its usual name."""
    named = replace(find_backbone("vit_micro"), checkpoint_name="sam_vit_micro.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "vit_micro", named)
        patch.chdir(sam_folder)
        own = [f"--shards={own_shards}", f"--out={sam_folder / 'run'}", "--epochs=1"]
        assert command.main([*QUICK, "--batch-size=12", *own]) == 0
    return sam_folder / "run"


class TestSamOfItsOwn:
    """A run whose SAM came from a file, here one of random weights."""

    def test_is_what_evaluation_and_prediction_load(self, run_of_its_own: Path, sam_folder: Path):
        loaded = load_model(run_of_its_own, device=torch.device("cpu"), precision="fp32")
        original = build_hq_sam(find_backbone("vit_micro"), seed=9)
        for name, value in original.sam.state_dict().items():
            assert torch.equal(loaded.model.sam.state_dict()[name], value), name

    @pytest.mark.parametrize("name", ["last.safetensors", "sam_hq.pth"])
    def test_is_found_for_each_file_of_the_run(self, run_of_its_own: Path, name: str):
        loaded = load_model(run_of_its_own / name, device=torch.device("cpu"), precision="fp32")
        assert loaded.trained_on == ("discs/all", "rings/all")
        assert loaded.weights == f"run/{name}"

    def test_does_not_bring_hq_weights_with_it(self, run_of_its_own: Path):
        """The file holds some: a run begins with those of its seed all the same."""
        config = RunFolder(run_of_its_own).read_config()
        begun = build_model(config, torch.device("cpu")).model.hq.state_dict()
        own = build_hq_sam(find_backbone("vit_micro"), seed=config.seed).hq.state_dict()
        assert all(torch.equal(begun[name], own[name]) for name in own)

    def test_is_not_taken_from_another_file(self, run_of_its_own: Path, tmp_path: Path):
        other = tmp_path / "other.pth"
        save_merged(build_hq_sam(find_backbone("vit_micro"), seed=10), other)
        with pytest.raises(UserError, match="other weights of SAM"):
            load_model(
                run_of_its_own, device=torch.device("cpu"), precision="fp32", sam_checkpoint=other
            )

    def test_is_asked_for_where_it_has_gone(self, run_of_its_own: Path, sam_folder: Path):
        path = sam_folder / "sam_vit_micro.pth"
        path.rename(sam_folder / "elsewhere.pth")
        try:
            with pytest.raises(UserError, match="--sam-checkpoint"):
                load_model(run_of_its_own, device=torch.device("cpu"), precision="fp32")
        finally:
            (sam_folder / "elsewhere.pth").rename(path)


class TestLeavingOut:
    def test_a_source_leaves_its_samples_out(
        self, own_shards: Path, own_eval_shards: Path, tmp_path: Path
    ):
        out = tmp_path / "run"
        status, told = train(
            *QUICK, "--epochs=1", "--batch-size=4", "--shards", own_shards,
            "--eval-shards", own_eval_shards, "--exclude", "discs", "--out", out,
        )  # fmt: skip
        assert status == 0, told
        assert "5 samples (rings/all)" in told
        assert RunFolder(out).read_info().trained_on == {"rings/all": 5}

    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (("--exclude=disc",), "did you mean 'discs'"),
            (("--exclude=discs,rings",), "nothing is left"),
            (("--only=ring",), "did you mean 'rings'"),
        ],
    )
    def test_a_wrong_name_or_nothing_left_is_a_clear_error(
        self, own_shards: Path, tmp_path: Path, flags, said: str, capsys
    ):
        own = [f"--shards={own_shards}", f"--out={tmp_path / 'run'}"]
        assert command.main([*QUICK, *own, *flags]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


class TestARecipe:
    @pytest.fixture(scope="class")
    @staticmethod
    def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A sample of SA-1B and something else: hard masks, 0 or 255."""
        return build_sampled(tmp_path_factory.mktemp("sampled"), 6, others=3).root

    @pytest.fixture(scope="class")
    @staticmethod
    def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
        path = tmp_path_factory.mktemp("recipes") / "few.yaml"
        path.write_text(
            "name: few\nseed: 44320\nsources:\n  - {source: sa1b, sample: {images: 6}}\n"
        )
        return path

    def test_trains_on_what_it_asks_for_and_says_so_everywhere(
        self, sampled: Path, recipe: Path, own_eval_shards: Path, tmp_path: Path
    ):
        out = tmp_path / "run"
        status, told = train(
            *QUICK, "--epochs=1", "--batch-size=3", "--shards", sampled,
            "--eval-shards", own_eval_shards, "--recipe", recipe, "--out", out,
        )  # fmt: skip
        assert status == 0, told
        note = "few, a cluster sample of 1 of 1,000 archives"
        assert f"6 samples (recipe {note}: sa1b/train)" in told
        info = RunFolder(out).read_info()
        assert (info.recipe, info.trained_on) == (note, {"sa1b/train": 6})
        assert RunFolder(out).read_config().recipe == str(recipe)
        losses = [r["loss"] for r in read_metrics(out / "metrics.jsonl") if r["kind"] == "step"]
        assert len(losses) == 2 and all(0 < loss < 10 for loss in losses)
        text = (out / "evaluation" / "epoch-001.md").read_text()
        assert f"Trained on sa1b/train (recipe {note})." in text
        page = (out / "index.html").read_text(encoding="utf-8")
        assert f"<dt>recipe</dt><dd>{note}</dd>" in page
        assert "of 1 of 1,000 archives, seed 44320" in page
        loaded = load_model(out, device=torch.device("cpu"), precision="fp32")
        assert (loaded.recipe, loaded.trained_on) == (note, ("sa1b/train",))

    def test_a_data_set_that_lacks_it_is_one_message(
        self, own_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        own = [f"--shards={own_shards}", f"--out={tmp_path / 'run'}"]
        assert command.main([*QUICK, *own, "--recipe=sa1b-44k"]) == 2
        told = capsys.readouterr().err
        assert "does not have all of recipe 'sa1b-44k'" in told
        assert "sa1b/train: 44,320 samples, none there" in told
        assert "hqdata build --recipe sa1b-44k" in told
        assert not (tmp_path / "run").exists()

    def test_a_wrong_name_is_one_message(
        self, own_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        own = [f"--shards={own_shards}", f"--out={tmp_path / 'run'}"]
        assert command.main([*QUICK, *own, "--recipe=sa1b-44"]) == 2
        assert "did you mean 'sa1b-44k'" in capsys.readouterr().err


class TestMistakes:
    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (("--shards=nowhere",), "no folder 'nowhere'"),
            (("--model=vit_x",), "unknown model 'vit_x'"),
            (("--model=vit_b",), "sam_vit_b_01ec64.pth"),
            (("--model=vit_b", "--sam-checkpoint=no.pth"), "no.pth"),
            (("--eval-shards=nowhere",), "no folder 'nowhere'"),
            (("--lr=much",), "lr"),
            (("--batchsize=3",), "did you mean '--batch-size'"),
            (("--resume=nowhere",), "no folder 'nowhere'"),
            (("--config=nowhere.yaml",), "nowhere.yaml"),
            (("--device=gpu",), "gpu"),
        ],
    )
    def test_are_one_message_and_leave_nothing_behind(
        self, own_shards: Path, tmp_path: Path, flags, said: str, capsys
    ):
        own = [f"--shards={own_shards}", f"--out={tmp_path / 'run'}"]
        assert command.main([*QUICK, *own, *flags]) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ")
        assert said in told
        assert not (tmp_path / "run").exists()

    def test_of_a_whole_program_are_no_traceback(self, tmp_path: Path):
        status, told = train(*QUICK, "--shards=nowhere", "--out", tmp_path / "run")
        assert status == 2
        assert told.startswith("error: ")
        assert "Traceback" not in told

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_gpu_that_is_not_there_is_said(self, own_shards: Path, tmp_path: Path, capsys):
        own = [f"--shards={own_shards}", f"--out={tmp_path / 'run'}"]
        assert command.main([*QUICK, *own, "--device=cuda"]) == 2
        assert "CUDA" in capsys.readouterr().err


def _wait_for_steps(out: Path, number: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        rows = read_metrics(out / "metrics.jsonl")
        if sum(row["kind"] == "step" for row in rows) >= number:
            return
        time.sleep(0.02)
    raise AssertionError(f"no {number} steps in two minutes")
