"""A data set so small that it is built in an instant, of many shards."""

from __future__ import annotations

from pathlib import Path

from hqdata.shards.dataset import Dataset
from support.builds import build_own, own_sources

COUNTS = {"reds": 26, "greens": 11, "blues": 5}
SAMPLES_PER_SHARD = 3


def build_tiny(folder: Path) -> Dataset:
    """Builds a data set of three sources in `folder/out`."""
    own_sources(folder / "sources", COUNTS)
    build_own(folder / "sources", folder / "out", list(COUNTS), samples_per_shard=SAMPLES_PER_SHARD)
    return Dataset.open(folder / "out")
