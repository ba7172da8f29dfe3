"""The folder of a run: who may write to it, and what it goes on from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hqdata.errors import BusyError, UserError
from support.builds import child_environment
from training.config import TrainConfig
from training.run_folder import RunFolder, RunInfo, claimed, open_run
from training.snapshot import Position, Snapshot

INFO = RunInfo(
    model="vit_micro",
    dataset="own",
    dataset_digest="a" * 64,
    selection_digest="b" * 64,
    trained_on={"dis/train": 3},
    num_samples=3,
    sam_sha256="",
    num_parameters=1,
    versions={},
)


def snapshot(step: int) -> Snapshot:
    position = Position(
        step=step, epoch=0, position=0, digest="b", seed=1, batch_size=1, num_samples=3
    )
    return Snapshot("vit_micro", position, {"w": torch.full((2,), float(step))}, {}, {})


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    found = RunFolder(tmp_path)
    found.write_start(TrainConfig(model="vit_micro", seed=5), INFO)
    return found


def test_what_was_written_at_the_start_reads_back(folder: RunFolder):
    assert folder.read_info() == INFO
    assert folder.read_config().seed == 5


def test_only_the_last_snapshots_are_kept(folder: RunFolder):
    for step in (1, 2, 10, 9, 11):
        folder.save(snapshot(step), keep=2)
    assert [int(p.stem.removeprefix("step-")) for p in folder.snapshots()] == [10, 11]


def test_it_goes_on_from_the_newest_whole_one_and_says_what_is_wrong_with_others(folder: RunFolder):
    for step in (1, 2, 3):
        folder.save(snapshot(step), keep=9)
    path = folder.snapshots()[-1]
    path.write_bytes(path.read_bytes()[:100])
    found, wrong = folder.newest()
    assert found is not None
    assert found.position.step == 2
    assert [path.name in str(error) for error in wrong] == [True]


def test_a_half_written_snapshot_is_not_looked_at(folder: RunFolder):
    folder.save(snapshot(1), keep=3)
    (folder.checkpoints / ".step-000000002.safetensors.123.tmp").write_bytes(b"half")
    found, wrong = folder.newest()
    assert found is not None
    assert (found.position.step, wrong) == (1, [])


def test_without_any_it_starts_at_the_beginning(folder: RunFolder):
    assert folder.newest() == (None, [])


def test_where_all_are_damaged_it_refuses(folder: RunFolder):
    folder.save(snapshot(1), keep=3).write_bytes(b"")
    with pytest.raises(UserError):
        folder.newest()


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_another_folder_is_no_run(tmp_path: Path, what: str):
    root = tmp_path / "x"
    if what == "empty":
        root.mkdir()
    with pytest.raises(UserError, match=r"no run|no folder"):
        open_run(root)


def test_a_run_without_weights_yet_says_how_to_go_on(folder: RunFolder):
    with pytest.raises(UserError, match="--resume"):
        open_run(folder.root)


def test_the_best_weights_go_before_the_last(folder: RunFolder):
    folder.last.touch()
    assert open_run(folder.root).hq_weights == folder.last
    folder.best.touch()
    run = open_run(folder.root)
    assert run.hq_weights == folder.best
    assert (run.model, run.trained_on, run.sam_checkpoint) == ("vit_micro", ("dis/train",), None)


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 9}', '{"version": 1}'])
def test_a_damaged_description_is_a_clear_error(folder: RunFolder, text: str):
    (folder.root / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"run\.json"):
        folder.read_info()


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from training.run_folder import claimed\n"
        "with claimed(Path(sys.argv[1])):\n print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=str(child.pid)), claimed(tmp_path):
            pass
    finally:
        child.communicate("")
    with claimed(tmp_path):  # it is free again
        pass
