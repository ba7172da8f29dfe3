"""The benchmarks run, if only on a handful of pictures: their figures are for people to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from hqdata.overlap.edits import EDITS
from support.builds import child_environment
from support.real import photographs

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photographs, small."""
    path = tmp_path_factory.mktemp("photographs")
    for number, pixels in enumerate(photographs(real_data / "photos", 6, 320)):
        cv2.imwrite(str(path / f"{number}.jpg"), pixels[..., ::-1])
    return path


def overlap(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.overlap", *map(str, arguments)],
        cwd=REPOSITORY,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.slow
def test_overlap_tells_of_every_edit_and_finds_the_plain_ones(folder: Path) -> None:
    done = overlap("--photos", folder, "--step", "3", "--no-peers", "--workers", "1")
    assert done.returncode in (0, 1), done.stderr
    rows = {
        edit.name: line.removeprefix(edit.name).split()
        for edit in EDITS
        for line in done.stdout.splitlines()
        if line.startswith(f"{edit.name} ")
    }
    assert list(rows) == [edit.name for edit in EDITS]
    for edit in EDITS:
        copies, asked, found, verdict = rows[edit.name][:4]
        assert (copies, asked) == ("2", f"{edit.recall:.1%}")
        assert (verdict == "held") == (float(found.rstrip("%")) / 100 >= edit.recall)
    assert rows["re-encoded"][2] == rows["mirrored"][2] == "100.0%"
    assert "false pairs of ours: 0" in done.stdout
    held = all(row[3] == "held" for row in rows.values())
    assert done.returncode == (0 if held else 1)


def test_overlap_says_that_there_are_no_photographs(tmp_path: Path) -> None:
    assert "no such folder" in overlap("--photos", tmp_path / "none").stderr
    assert "three are the least" in overlap("--photos", tmp_path).stderr


@pytest.mark.slow
def test_push_tells_of_both_and_of_their_ratio() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.push", "--mebibytes", "8", "--rounds", "1"],
        cwd=REPOSITORY,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode in (0, 1), done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines[1:3]] == ["bare client", "hqdata push"]
    rates = [float(line.split()[2]) for line in lines[1:3]]
    assert float(lines[3].split()[1]) == pytest.approx(rates[1] / rates[0], abs=0.05)
