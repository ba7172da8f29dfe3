"""What was pushed loads in one line, every configuration with exactly its samples."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hqdata.hub.configs import configs_of
from hqdata.hub.push import push
from hqdata.progress import Silent
from hqdata.shards.dataset import Dataset
from support.builds import REPOSITORY, hqdata
from support.hub import FakeHub, fake_hub
from support.pushes import TOKEN, connect, plan_of

LOAD = """
import hashlib, json, sys
from datasets import load_dataset
found = {}
for name in sys.argv[1:]:
    for split, rows in load_dataset("me/stand-in", name, streaming=STREAMING).items():
        for row in rows:
            image, mask = row["jpg"], row["mask.png"]
            found.setdefault(name, {}).setdefault(split, []).append([
                row["__key__"].rsplit("/")[-1],
                hashlib.sha256(b"%dx%d" % image.size + image.convert("RGB").tobytes()).hexdigest(),
                [image.size == mask.size, mask.mode, row["json"]["key"]],
            ])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("load")
    assert hqdata("mini", "--out", root / "data").returncode == 0
    words = ["build", "--data-root", root / "data", "--recipe", "mini", "--out", root / "shards"]
    assert hqdata(*words).returncode == 0
    return Dataset.open(root / "shards")


@pytest.fixture(scope="module")
def server(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    with pytest.MonkeyPatch.context() as patch, fake_hub(tmp_path_factory.mktemp("hub")) as server:
        patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        server.add_user("me", TOKEN)
        push(
            plan_of(dataset, "me/stand-in"),
            connect(server),
            reporter=Silent(),
            tell=lambda line: None,
        )
        yield server
        assert server.failures == []


def run_python(server: FakeHub, code: str, *arguments: str) -> str:
    environment = {**server.environment(TOKEN), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        cwd=server.folder,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def expected(dataset: Dataset, config_name: str) -> dict[str, str]:
    """Key -> digest of the pixels, of the samples of a configuration."""
    rows = dataset.samples.to_pylist()
    if config_name.startswith("no-"):
        left_out = set(config_name.removeprefix("no-").split("-no-"))
        rows = [row for row in rows if row["source"] not in left_out]
    elif config_name != "default":
        rows = [row for row in rows if row["source"] == config_name]
    return {row["key"]: row["pixel_sha256"] for row in rows}


@pytest.mark.slow
def test_every_configuration_streams_exactly_its_samples(server: FakeHub, dataset: Dataset) -> None:
    names = [config.name for config in configs_of(dataset.info)]
    assert {"default", "no-dis", "no-thinobject", "no-dis-no-thinobject", "dis", "duts"} <= {*names}
    found = json.loads(run_python(server, LOAD.replace("STREAMING", "True"), *names))
    for name in names:
        assert list(found[name]) == ["train"]
        rows = found[name]["train"]
        assert len({key for key, *_ in rows}) == len(rows)
        assert {key: pixels for key, pixels, _ in rows} == expected(dataset, name), name
        assert all(facts == [True, "L", key] for key, _, facts in rows)


def test_it_loads_without_streaming_too(server: FakeHub, dataset: Dataset) -> None:
    found = json.loads(run_python(server, LOAD.replace("STREAMING", "False"), "ecssd"))
    rows = found["ecssd"]["train"]
    assert {key: pixels for key, pixels, _ in rows} == expected(dataset, "ecssd")


def test_the_hub_takes_the_card(server: FakeHub) -> None:
    from huggingface_hub import DatasetCard

    text = server.repo("me/stand-in").read("main", "README.md").decode()
    card = DatasetCard(text)
    assert card.data.license == "other" and card.data.license_name
    assert "configs" in card.data.to_dict()


def test_the_manifest_alone_loads_as_a_table(server: FakeHub, dataset: Dataset) -> None:
    plan = plan_of(dataset, "me/manifest", what="manifest")
    push(plan, connect(server), reporter=Silent(), tell=lambda line: None)
    code = (
        "from datasets import load_dataset; "
        "rows = load_dataset('me/manifest', split='train'); print(len(rows), rows[0]['key'])"
    )
    number, key = run_python(server, code).split()
    assert int(number) == len(dataset)
    assert key in dataset.samples["key"].to_pylist()


@pytest.mark.slow
def test_the_trainer_reads_it_from_the_hub(server: FakeHub, tmp_path: Path) -> None:
    environment = {**server.environment(TOKEN), "PYTHONPATH": str(REPOSITORY)}
    words = ["--model", "vit_micro", "--shards", "hf://datasets/me/stand-in", "--device", "cpu"]
    words += ["--only", "ecssd", "--epochs", "1", "--lr-drop-epoch", "1", "--batch-size", "8"]
    done = subprocess.run(
        [sys.executable, "-m", "training.train", *words, "--out", str(tmp_path / "run")],
        env={**environment, "HOME": str(tmp_path)},  # shards are kept below it meanwhile
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert TOKEN not in done.stdout + done.stderr
    assert (tmp_path / "run" / "sam_hq.pth").is_file()


def test_push_and_pull_give_the_same_bytes(
    server: FakeHub, dataset: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    environment = {**os.environ, **server.environment(TOKEN)}
    done = hqdata("pull", "me/stand-in", "--out", out, **environment)
    assert done.returncode == 0, done.stderr
    names = [shard.path for shard in dataset.info.shards]
    names += ["dataset.json", "samples.parquet", "problems.jsonl", "_info.json"]
    for name in names:
        ours, theirs = (
            hashlib.sha256((d / name).read_bytes()).hexdigest() for d in (dataset.root, out)
        )
        assert ours == theirs, name
    checked = hqdata("check", out)
    assert checked.returncode == 0, checked.stdout
    assert f"digest {dataset.info.digest}" in checked.stdout
