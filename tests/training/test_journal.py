"""What a run writes down of itself, also when it was killed and went on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.journal import LineDisplay, Metrics, Speed, StepRow, read_metrics


def row(step: int, loss: float = 0.5) -> StepRow:
    return StepRow(step=step, epoch=1, loss=loss, bce=0.2, dice=0.3, lr=1e-3, images_per_second=4.0)


def test_steps_and_evaluations_are_lines_of_their_own(tmp_path: Path):
    path = tmp_path / "m.jsonl"
    metrics = Metrics(path, None, after_step=0)
    metrics.step(row(1))
    metrics.evaluation(1, 1, {"mean/hq_mbiou": 0.25})
    metrics.close()
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert (first["kind"], first["step"], first["loss"]) == ("step", 1, 0.5)
    assert (second["kind"], second["mean/hq_mbiou"]) == ("evaluation", 0.25)


def test_a_run_that_goes_on_forgets_steps_that_were_not_saved(tmp_path: Path):
    path = tmp_path / "m.jsonl"
    metrics = Metrics(path, None, after_step=0)
    for step in (1, 2, 3):
        metrics.step(row(step))
    metrics.close()
    path.write_text(path.read_text() + '{"kind": "st', encoding="utf-8")  # killed half-way
    metrics = Metrics(path, None, after_step=2)
    metrics.step(row(3, loss=0.25))
    metrics.close()
    assert [(r["step"], r["loss"]) for r in read_metrics(path)] == [(1, 0.5), (2, 0.5), (3, 0.25)]


def test_an_evaluation_that_is_made_again_is_told_once(tmp_path: Path):
    path = tmp_path / "m.jsonl"
    metrics = Metrics(path, None, after_step=0)
    metrics.step(row(1))
    metrics.evaluation(1, 1, {"mean/hq_mbiou": 0.25})
    metrics.close()
    Metrics(path, None, after_step=1).close()
    assert [r["kind"] for r in read_metrics(path)] == ["step", "evaluation"]
    Metrics(path, None, after_step=1, evaluated=False).close()
    assert [r["kind"] for r in read_metrics(path)] == ["step"]


def test_tensorboard_reads_the_same_figures(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    metrics = Metrics(tmp_path / "m.jsonl", tmp_path / "board", after_step=0)
    metrics.step(row(1))
    metrics.evaluation(1, 1, {"mean/hq_mbiou": 0.25})
    metrics.close()
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    assert events.Scalars("train/loss")[0].value == pytest.approx(0.5)
    assert events.Scalars("evaluation/mean/hq_mbiou")[0].value == pytest.approx(0.25)


def test_a_missing_file_has_no_rows(tmp_path: Path):
    assert read_metrics(tmp_path / "none") == []


def test_the_rate_is_that_of_the_last_steps():
    now = [0.0]
    speed = Speed(lambda: now[0])
    rates = []
    for _ in range(200):
        now[0] += 2.0
        rates.append(speed.add(32))
    now[0] += 1.0
    assert rates[0] == rates[-1] == 16.0
    assert speed.add(32) > 16.0
    now[0] += 1000.0  # an evaluation
    speed.restart()
    now[0] += 1.0
    assert speed.add(32) == 32.0


def test_a_log_gets_a_line_every_ten_seconds_and_the_last_one(capsys: pytest.CaptureFixture[str]):
    now = [0.0]
    display = LineDisplay(lambda: now[0])
    display.start(0, 100)
    for done in range(10, 101, 10):
        now[0] += 3.0
        display.step(done, row(done // 10))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "epoch 1 step 4",
        "epoch 1 step 8",
        "epoch 1 step 10",
    ]
    assert "40 of 100 samples, 0:00:15 left" in lines[0]
