"""The command that evaluates: runs and checkpoints in, tables and files out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from hqdata.errors import DatasetError, UserError
from hqdata.shards.dataset import Dataset
from support.evaluations import micro_model, small_sets
from training import loading
from training.evaluate import app
from training.model.checkpoints import save_hq, save_merged
from training.results import read_results


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_sets(tmp_path_factory.mktemp("sets"), {"one": 2, "two": 1})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with HQ weights, the same merged with SAM, and room for features."""
    folder = tmp_path_factory.mktemp("files")
    save_hq(micro_model(), folder / "hq.safetensors", {"trained_on": "one/train,other/all"})
    save_merged(micro_model(), folder / "sam_hq.pth")
    return folder


def run(sets: Dataset, files: Path, *arguments: str, weights: str = "hq.safetensors") -> Any:
    base = [str(files / weights), "--eval-shards", str(sets.root), "--device", "cpu"]
    if weights == "hq.safetensors":
        base += ["--sam-checkpoint", str(files / "sam_hq.pth")]
    cache = ["--features-cache", str(files / "features"), "--workers", "0"]
    return CliRunner().invoke(app, [*base, *cache, *arguments])


def test_table_json_and_markdown_say_the_same(sets: Dataset, files: Path) -> None:
    json_file, markdown = files / "results.json", files / "results.md"
    done = run(sets, files, "--json", str(json_file), "--markdown", str(markdown), "--worst", "1")
    assert done.exit_code == 0, done.output
    results = read_results(json_file)
    assert results.trained_on == ("one/train", "other/all")
    assert (results.model, results.weights, results.prompt) == (
        "vit_micro",
        "hq.safetensors",
        "box",
    )
    assert results.dataset_digest == sets.info.digest
    for one in results.result.sets:
        figures = f"{100 * one.hq.miou:.1f} / {100 * one.hq.mbiou:.1f}"
        shown = f"({figures})" if one.name == "one/all" else f" {figures}"
        assert shown in done.output
        assert shown in markdown.read_text()
        assert one.worst(1)[0].key in done.output


def test_a_merged_checkpoint_knows_nothing_of_its_training(sets: Dataset, files: Path) -> None:
    first, second = files / "a.json", files / "b.json"
    done = run(sets, files, "--json", str(first), weights="sam_hq.pth")
    assert done.exit_code == 0, done.output
    assert "unknown" in done.output
    run(sets, files, "--json", str(second), "--trained-on", "one/train", weights="sam_hq.pth")
    assert read_results(first).trained_on is None
    assert read_results(second).trained_on == ("one/train",)
    assert read_results(first).result == read_results(second).result


def test_a_run_brings_its_weights_its_sam_and_its_sources(
    sets: Dataset, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        loading,
        "open_run",
        lambda root: SimpleNamespace(
            root=root,
            model="vit_micro",
            sam_checkpoint=None,
            sam_sha256="",
            hq_weights=files / "hq.safetensors",
            trained_on=("two/all",),
            seed=0,
            recipe="few",
        ),
    )
    base = [str(tmp_path), "--eval-shards", str(sets.root), "--workers", "0"]
    cache = ["--features-cache", str(files / "features")]
    out = files / "run.json"
    done = CliRunner().invoke(app, [*base, *cache, "--json", str(out)])
    assert done.exit_code == 0, done.output
    assert "warning: the token was trained on what it is evaluated on: two/all" in done.output
    assert read_results(out).weights == f"{tmp_path.name}/hq.safetensors"
    other = files / "other.json"
    assert run(sets, files, "--json", str(other)).exit_code == 0
    assert read_results(out).result == read_results(other).result
    refused = CliRunner().invoke(app, [*base, "--model", "vit_b"])
    assert "the run is of vit_micro" in str(refused.exception)


def test_only_some_sets_with_other_prompts(sets: Dataset, files: Path) -> None:
    found = []
    for name, arguments in (
        ("box", []),
        ("points:5", ["--prompt", "points:5"]),
        ("box, noise 0.4", ["--box-noise", "0.4"]),
    ):
        path = files / "some.json"
        done = run(sets, files, "--only", "two", "--json", str(path), *arguments)
        assert done.exit_code == 0, done.output
        results = read_results(path)
        assert results.prompt == name
        assert [one.name for one in results.result.sets] == ["two/all"]
        found.append(results.images[0].hq_iou)
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "tow"], "did you mean 'two"),
        (["--exclude", "one,two"], "nothing is left"),
        (["--prompt", "circle"], "unknown prompt"),
        (["--prompt", "points:3", "--box-noise", "0.2"], "points"),
        (["--json", "no/such/folder/a.json"], "does not exist"),
        (["--features-cache-gib", "0.001"], "more than the limit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_named(sets: Dataset, files: Path, arguments: list[str], message: str) -> None:
    done = run(sets, files, *arguments)
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)


def test_shards_that_are_none(files: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, [str(files / "sam_hq.pth"), "--eval-shards", str(tmp_path / "eval")]
    )
    assert isinstance(done.exception, DatasetError)
    assert done.exception.exit_status == 2
