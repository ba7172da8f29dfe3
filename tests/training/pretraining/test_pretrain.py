"""A pretraining run: the same steps whatever draws them, gone on from, and weights that load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hqdata.errors import UserError
from support.builds import child_environment
from training.distributed import Ranks
from training.model.backbones import find_backbone
from training.model.checkpoints import load_sam
from training.model.hq_sam import build_hq_sam
from training.pretraining.losses import mask_ious, mask_losses, step_loss
from training.pretraining.passes import correcting_click, run_passes
from training.pretraining.recipe import PretrainRecipe
from training.pretraining.run import Learner, PretrainFolder, check_ready, pretrain
from training.pretraining.samples import SampleSource, collate, make_loader
from training.snapshot import Snapshot, load_snapshot

MICRO = find_backbone("vit_micro")
TINY = PretrainRecipe(steps=4, pictures=2, warmup=1, target_side=64, correction_share=1.0)
CPU = torch.device("cpu")


def source(recipe: PretrainRecipe = TINY) -> SampleSource:
    return SampleSource(recipe, MICRO.image_size, MICRO.mask_size, None)


class TestSamples:
    def test_have_what_a_step_needs(self) -> None:
        batch = collate([source()[0], source()[1]])
        assert batch.image.shape == (2, 256, 256, 3)
        assert batch.targets.shape == (2, 4, 64, 64)
        assert batch.boxes.shape == (2, 4, 4)
        assert batch.points.shape == (2, 4, 10, 2)
        assert batch.masks.shape == (2, 4, 64, 64)
        assert (batch.boxes[..., 2:] >= batch.boxes[..., :2]).all()
        assert (batch.targets.flatten(2) > 0).any(2).all()

    def test_are_the_same_with_any_number_of_workers_and_from_any_step_on(self) -> None:
        alone = list(make_loader(source(), TINY, first_step=0, workers=0))
        helped = list(make_loader(source(), TINY, first_step=2, workers=1))
        assert (len(alone), len(helped)) == (4, 2)
        for one, other in zip(alone[2:], helped, strict=True):
            assert torch.equal(one.image, other.image)
            assert torch.equal(one.boxes, other.boxes)
            assert torch.equal(one.points, other.points)

    def test_points_lie_on_the_thing(self) -> None:
        sample = source()[3]
        for points, target in zip(sample.points, sample.targets, strict=True):
            x, y = (points // 4).astype(int).T
            near = np.array([target[max(b - 1, 0) : b + 2, max(a - 1, 0) : a + 2].max() for a, b in
                             zip(x, y, strict=True)])  # fmt: skip
            assert (near > 0).all()


class TestLoss:
    def test_of_a_right_mask_is_near_zero_and_of_a_wrong_one_is_not(self) -> None:
        truth = torch.zeros(1, 16, 16)
        truth[:, 4:12, 4:12] = 1
        right = (truth * 40 - 20)[:, None]
        focal, dice = mask_losses(torch.cat([right, -right], 1), truth, 0.5)
        assert float(focal[0, 0]) < 1e-6
        assert float(dice[0, 0]) < 1e-4
        assert float(focal[0, 1]) > 3
        assert float(dice[0, 1]) > 0.9
        assert mask_ious(torch.cat([right, -right], 1), truth).tolist() == [[1.0, 0.0]]

    def test_of_three_masks_the_best_one_learns(self) -> None:
        truth = torch.zeros(1, 16, 16)
        truth[:, 4:12, 4:12] = 1
        masks = torch.zeros(1, 4, 16, 16)
        masks[:, 2] = truth * 2 - 1
        masks.requires_grad_()
        step_loss(masks, torch.zeros(1, 4), truth, TINY).total.backward()
        moved = masks.grad.abs().sum((0, 2, 3)) > 0  # type: ignore[union-attr]
        assert moved.tolist() == [True, False, True, False]

    def test_a_click_falls_where_mask_and_truth_differ(self) -> None:
        truth = torch.zeros(2, 32, 32)
        truth[:, 8:24, 8:24] = 1
        logits = torch.full((2, 16, 16), -5.0)
        logits[0, 4:12, 4:12] = 5  # right but for a corner
        logits[0, 10:12, 10:12] = -5
        logits[1] = 5  # all ground was taken for the thing
        for seed in range(5):
            place, label = correcting_click(logits, truth, torch.tensor([seed, seed]))
            assert label.tolist() == [1, 0]
            assert (place[0] * 16 >= 10).all()
            assert (place[0] * 16 < 12).all()
            x, y = (place[1] * 32).tolist()
            assert truth[1, int(y), int(x)] == 0


def test_a_step_reaches_every_weight_of_sam() -> None:
    sam = build_hq_sam(MICRO, seed=0).sam.requires_grad_(True)
    batch = collate([source()[0], source()[1]])
    run_passes(sam, batch, TINY, 0).total.backward()
    unused = {n for n, p in sam.named_parameters() if p.grad is None or not p.grad.any()}
    # Labels of points are drawn; nothing is a ground point where no mask was wrong that way.
    assert {name for name in unused if "point_embeddings" not in name} == set()


def run(folder: Path, recipe: PretrainRecipe = TINY, **other: int) -> list[dict[str, object]]:
    with PretrainFolder.claimed(folder) as claimed:
        claimed.begin(recipe, extend=False)
        return list(
            pretrain(
                claimed, recipe, dataset=None, judged=(), device=CPU, workers=0,
                save_every=other.get("save_every", 1), eval_every=100,
                num_held_out=2,
            )
        )  # fmt: skip


def same(one: Path, other: Path) -> bool:
    """Whether two runs came to the same weights, bit for bit."""
    ends = [load_file(folder / "vit_micro.safetensors") for folder in (one, other)]
    return all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0] | ends[1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    run(root)
    return root


class TestRun:
    def test_writes_weights_that_load_as_sam(self, whole: Path) -> None:
        path = whole / "vit_micro.safetensors"
        assert path.stat().st_size <= 12e6
        tensors = load_file(path)
        assert sum(tensor.numel() for tensor in tensors.values()) <= 6e6
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
        model = build_hq_sam(MICRO, seed=5)
        load_sam(model, path)
        mean = load_snapshot(sorted((whole / "checkpoints").iterdir())[-1]).mean
        name = "image_encoder.patch_embed.proj.weight"
        assert torch.allclose(model.sam.state_dict()[name], mean[name], atol=1e-3)

    def test_tells_losses_and_figures(self, whole: Path) -> None:
        lines = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [4, 4]
        assert lines[0]["loss"] > 0
        assert 0 <= lines[1]["scenes"]["iou"] <= 1
        assert 0 < lines[1]["scenes"]["box_iou"] < 1

    def test_goes_on_as_if_it_had_never_stopped(self, whole: Path, tmp_path: Path) -> None:
        learner = Learner(TINY, CPU)
        batches = make_loader(source(), TINY, first_step=0, workers=0)
        with PretrainFolder.claimed(tmp_path) as folder:
            folder.begin(TINY, extend=False)
            for batch, _ in zip(batches, range(2), strict=False):
                learner.step(batch)
            folder.save(learner.snapshot(), 0)
        run(tmp_path)
        assert same(tmp_path, whole)

    def test_with_another_recipe_is_another_run(self, whole: Path) -> None:
        with pytest.raises(UserError, match=r"lr: 0\.0005 then, 0\.002 now"):
            run(whole, TINY.model_copy(update={"lr": 0.002}))

    def test_may_be_made_longer(self, whole: Path) -> None:
        longer = TINY.model_copy(update={"steps": 5})
        with PretrainFolder.claimed(whole) as folder:
            with pytest.raises(UserError, match="--extend"):
                folder.begin(longer, extend=False)
            with pytest.raises(UserError, match="has 4 steps already"):
                folder.begin(TINY.model_copy(update={"steps": 3}), extend=True)
            folder.begin(longer, extend=True)
        assert len(run(whole, longer)) == 2

    def test_made_longer_it_goes_on_from_before_the_fall(self, tmp_path: Path) -> None:
        recipe = TINY.model_copy(update={"decay_share": 0.5})
        run(tmp_path, recipe)
        longer = recipe.model_copy(update={"steps": 8})
        with PretrainFolder.claimed(tmp_path) as folder:
            assert [path.stem for path in folder.snapshots()] == [
                "step-000000002", "step-000000003", "step-000000004",
            ]  # fmt: skip
            folder.begin(longer, extend=True)
            found = folder.newest()
        assert found is not None
        assert found.position.step == 2

    def test_of_which_no_snapshot_can_be_read_does_not_begin_anew(self, tmp_path: Path) -> None:
        run(tmp_path)
        for path in (tmp_path / "checkpoints").iterdir():
            path.write_bytes(b"cut short")
        with pytest.raises(UserError, match="damaged"):
            run(tmp_path)

    def test_that_is_done_does_nothing(self, tmp_path: Path) -> None:
        run(tmp_path)
        assert run(tmp_path) == []

    def test_keeps_out_of_the_folder_of_a_training(self, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_text("model: vit_micro\n")
        with pytest.raises(UserError, match="folder of a training"):
            run(tmp_path)


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "training.pretrain", "--steps=6", "--pictures=1", "--save-every=1",
        "--eval-every=100", "--workers=0", "--held-out=2",
    ]  # fmt: skip

    def finish(out: Path) -> None:
        subprocess.run(
            [*command, f"--out={out}"],
            env=child_environment(OMP_NUM_THREADS="1"),
            check=True,
            capture_output=True,
        )

    finish(tmp_path / "undisturbed")
    out = tmp_path / "killed"
    child = subprocess.Popen(
        [*command, f"--out={out}"],
        env=child_environment(OMP_NUM_THREADS="1"),
        stderr=subprocess.DEVNULL,
    )
    for _ in range(600):
        if list((out / "checkpoints").glob("step-*")) or child.poll() is not None:
            break
        time.sleep(0.1)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    finish(out)
    assert same(out, tmp_path / "undisturbed")


@pytest.mark.slow
def test_two_processes_learn_what_one_does_and_one_goes_on_from_them(tmp_path: Path) -> None:
    flags = ["--pictures=4", "--save-every=1", "--eval-every=100", "--workers=0", "--held-out=2"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]

    def learn(out: str, steps: int, *before: str) -> None:
        done = subprocess.run(
            [sys.executable, *before, "-m", "training.pretrain", f"--steps={steps}", *flags,
             f"--out={tmp_path / out}", "--extend"],
            env=child_environment(OMP_NUM_THREADS="1"), capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def snapshot(out: str, step: int) -> Snapshot:
        return load_snapshot(tmp_path / out / f"checkpoints/step-{step:09}.safetensors")

    learn("one", 2)
    learn("two", 2, *launcher)
    one, two = snapshot("one", 2), snapshot("two", 2)
    start = dict(build_hq_sam(MICRO, seed=0).sam.named_parameters())
    alike = []
    for name, value in one.weights.items():
        moved = [(end[name] - start[name].detach()).flatten() for end in (one.weights, two.weights)]
        if moved[0].any():
            alike.append(float(torch.cosine_similarity(moved[0], moved[1], dim=0)))
            assert moved[1].norm() == pytest.approx(float(moved[0].norm()), rel=0.2), name
        assert value.shape == two.weights[name].shape
    # They compute in bfloat16, and an orthogonal step makes the most of any rounding.
    assert np.mean(alike) > 0.95
    assert min(alike) > 0.5
    norms = [
        json.loads((tmp_path / out / "log.jsonl").read_text().splitlines()[0])["norm"]
        for out in ("one", "two")
    ]
    assert norms[1] == pytest.approx(norms[0], rel=0.05)

    # One process takes over all that the two had, each of which steps a part of the matrices.
    recipe = PretrainRecipe.model_validate_json((tmp_path / "two/recipe.json").read_bytes())
    learner = Learner(recipe, CPU)
    learner.restore(two)
    again = learner.snapshot()
    for mine, theirs in ((again.weights, two.weights), (again.moments, two.moments)):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    buffers = [v for name, v in two.moments.items() if name.startswith("momentum_buffer/")]
    assert len(buffers) > 40
    assert all(buffer.any() for buffer in buffers)
    learn("two", 3)
    learn("one", 3, *launcher)
    assert {snapshot(out, 3).position.step for out in ("one", "two")} == {3}
    for out, before in (("one", one), ("two", two)):
        after = snapshot(out, 3)
        name = "image_encoder.blocks.2.mlp.lin1.weight"
        step = float((after.weights[name] - before.weights[name]).norm())
        whole = float((after.weights[name] - start[name].detach()).norm())
        assert 0 < step < whole  # it went on, and did not begin anew


def test_pictures_that_processes_cannot_share_evenly_are_a_mistake() -> None:
    with pytest.raises(UserError, match="3 pictures a step for 2 processes"):
        check_ready(TINY.model_copy(update={"pictures": 3}), Ranks(0, 2))


def test_a_pytorch_without_muon_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(UserError, match="needs Muon"):
        check_ready(TINY, Ranks())


def test_the_learning_rate_rises_stays_and_falls() -> None:
    recipe = PretrainRecipe(steps=100, warmup=9, decay_share=0.2)
    assert recipe.lr_share(0) == pytest.approx(0.1)
    assert recipe.lr_share(9) == recipe.lr_share(79) == 1.0
    assert recipe.lr_share(90) == pytest.approx(0.5)
    assert recipe.lr_share(99) == pytest.approx(0.05)
