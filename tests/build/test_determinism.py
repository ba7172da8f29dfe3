"""The same inputs give the same bytes: any number of workers, folder or archive, any day."""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from hqdata.build.plan import num_shards, shuffled
from hqdata.recipe import Recipe
from hqdata.sources.pairing import File, Pair
from hqdata.storage import FileRef
from support.builds import build_own, bytes_of, hqdata, own_sources, write_recipe

NAMES = ["flowers", "tools"]
SETTINGS = {"samples_per_shard": 3, "seed": 7}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_sources(tmp_path_factory.mktemp("data"), {"flowers": 8, "tools": 5})


@pytest.fixture(scope="module")
def reference(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("reference") / "out"
    build_own(data, out, NAMES, **SETTINGS)
    return bytes_of(out)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_number_of_workers_changes_no_byte(
    data: Path, reference: dict[str, str], tmp_path: Path, workers: int
) -> None:
    build_own(data, tmp_path / "out", NAMES, workers=workers, **SETTINGS)
    assert bytes_of(tmp_path / "out") == reference


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_an_archive_gives_the_bytes_of_its_folder(
    data: Path, reference: dict[str, str], tmp_path: Path, kind: str
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for name in NAMES:
        files = sorted(p for p in (data / name).rglob("*") if p.is_file())
        if kind == "zip":
            with zipfile.ZipFile(root / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                for file in reversed(files):
                    archive.write(file, file.relative_to(data))
        else:
            mode = "w" if kind == "tar" else "w:gz"
            with tarfile.open(root / f"{name}.{kind}", mode) as archive:
                for file in reversed(files):
                    archive.add(file, file.relative_to(data))
    build_own(root, tmp_path / "out", NAMES, **SETTINGS)
    assert bytes_of(tmp_path / "out") == reference
    assert not (tmp_path / "out" / ".hqdata" / "spool").exists()


def test_another_day_another_folder_and_another_hash_seed_change_no_byte(
    data: Path, reference: dict[str, str], tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(data, moved)
    for path in moved.rglob("*.jpg"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    recipe = write_recipe(tmp_path / "own.yaml", NAMES, "samples_per_shard: 3", "seed: 7")
    out = tmp_path / "out"
    arguments = ["build", "--data-root", moved, "--recipe", recipe, "--out", out]
    done = hqdata(*arguments, PYTHONHASHSEED="12345", TZ="Asia/Tokyo", LC_ALL="C")
    assert done.returncode == 0, done.stderr
    built = bytes_of(out)
    # The licence of the YAML file's sources is another, and with it the records.
    assert set(built) == set(reference)
    again = bytes_of_build(data, recipe, tmp_path / "again")
    assert again == built


def bytes_of_build(data: Path, recipe: Path, out: Path) -> dict[str, str]:
    done = hqdata(
        "build", "--data-root", data, "--recipe", recipe, "--out", out, PYTHONHASHSEED="1"
    )
    assert done.returncode == 0, done.stderr
    return bytes_of(out)


def test_leaving_a_source_out_leaves_its_files_out_and_changes_no_other(
    data: Path, reference: dict[str, str], tmp_path: Path
) -> None:
    build_own(data, tmp_path / "out", ["tools"], **SETTINGS)
    shards = {k: v for k, v in bytes_of(tmp_path / "out").items() if k.endswith(".tar")}
    assert shards == {k: v for k, v in reference.items() if k.startswith("tools/")}


def test_another_seed_gives_another_order_of_the_same_samples(
    data: Path, reference: dict[str, str], tmp_path: Path
) -> None:
    build_own(data, tmp_path / "out", NAMES, samples_per_shard=3, seed=8)
    assert set(bytes_of(tmp_path / "out")) == set(reference)
    assert bytes_of(tmp_path / "out") != reference


def _pairs(count: int) -> list[Pair]:
    file = File("x", FileRef("x", "file", 0, 10, 10, -1, ""))
    return [Pair(f"own-{i:05d}", str(i), file, file) for i in range(count)]


def test_the_order_is_a_permutation_that_does_not_look_at_the_order_of_files() -> None:
    pairs = _pairs(500)
    ordered = shuffled(pairs, 3)
    assert sorted(p.key for p in ordered) == [p.key for p in pairs]
    assert ordered == shuffled(pairs[::-1], 3)
    assert ordered != shuffled(pairs, 4)


@pytest.mark.parametrize(
    ("num_samples", "num_bytes", "expected"),
    [
        (0, 0, 0),  # nothing, no shard
        (1, 10, 1),
        (384, 10**6, 1),
        (385, 10**6, 2),  # by samples
        (3000, 6 * 2**30, 24),  # by bytes: large pictures
        (2, 10**12, 2),  # never more shards than samples
    ],
)
def test_shards_are_cut_by_samples_or_by_bytes(
    num_samples: int, num_bytes: int, expected: int
) -> None:
    assert num_shards(num_samples, num_bytes, Recipe(name="x")) == expected
