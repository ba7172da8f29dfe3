"""The benchmark of scanning runs, if only on a little archive: its figures are for people."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.builds import child_environment

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_it_tells_each_rate_beside_that_of_its_peer() -> None:
    size = ["--gigabytes", "0.02", "--drawn", "3", "--gzip-megabytes", "5", "--rounds", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.sa1b", *size],
        cwd=REPOSITORY,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode in (0, 1), done.stderr
    lines = [line for line in done.stdout.splitlines() if "ratio" in line]
    names = [line.partition(":")[0].partition(",")[0] for line in lines]
    assert names == ["stream", "stream", "hop", "gzip", "rle decode"]
