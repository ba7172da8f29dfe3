"""What a run goes on from: whole, or not taken at all."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hqdata.errors import InterruptedBuildError, UserError
from training.snapshot import Position, Snapshot, load_snapshot, save_snapshot


def snapshot(step: int = 7) -> Snapshot:
    generator = torch.Generator().manual_seed(step)
    weights = {n: torch.randn(3, 5, generator=generator) for n in ("hf_token.weight", "b")}
    moments = {f"{m}/{n}": v + 1 for m in ("first", "second") for n, v in weights.items()}
    position = Position(
        step=step,
        epoch=1,
        position=32,
        digest="ab",
        seed=3,
        batch_size=32,
        num_samples=100,
        best=0.5,
    )
    return Snapshot("vit_micro", position, weights, moments, {})


def test_it_reads_back_as_it_was(tmp_path: Path):
    path = tmp_path / "s.safetensors"
    save_snapshot(path, snapshot())
    found = load_snapshot(path)
    assert (found.model, found.position) == ("vit_micro", snapshot().position)
    for own, read in ((snapshot().weights, found.weights), (snapshot().moments, found.moments)):
        assert own.keys() == read.keys()
        assert all(torch.equal(own[name], read[name]) for name in own)
    assert found.mean == {}
    assert found.position.stream().position == 32
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_one_that_was_cut_short_is_refused(tmp_path: Path, kept: float):
    path = tmp_path / "s.safetensors"
    save_snapshot(path, snapshot())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(UserError, match="not a checkpoint that a run can go on from"):
        load_snapshot(path)


def test_one_whose_numbers_were_altered_is_refused(tmp_path: Path):
    path = tmp_path / "s.safetensors"
    save_snapshot(path, snapshot())
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match="not those that were written"):
        load_snapshot(path)


def test_a_pickle_is_never_opened(tmp_path: Path):
    path, mark = tmp_path / "s.safetensors", tmp_path / "ran"

    class Harm:
        def __reduce__(self):
            return (Path.touch, (mark,))

    path.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(UserError):
        load_snapshot(path)
    assert not mark.exists()


def test_other_safetensors_are_refused(tmp_path: Path):
    path = tmp_path / "s.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="version is not told"):
        load_snapshot(path)


def test_a_missing_one_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="nowhere"):
        load_snapshot(tmp_path / "nowhere")


def test_a_disk_that_fills_up_is_said_and_the_old_one_stays(tmp_path: Path, monkeypatch):
    import errno
    import os

    path = tmp_path / "s.safetensors"
    save_snapshot(path, snapshot(7))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("hqdata.files.os.fsync", full)
    with pytest.raises(InterruptedBuildError, match="no room left for a checkpoint"):
        save_snapshot(path, snapshot(8))
    monkeypatch.undo()
    assert load_snapshot(path).position.step == 7
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]
