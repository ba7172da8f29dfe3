"""Small data sets to train and to evaluate on, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.builds import build_own, own_sources


@pytest.fixture(scope="session")
def own_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pairs of two sources, `discs` (7) and `rings` (5), three a shard."""
    root = tmp_path_factory.mktemp("own-shards")
    counts = {"discs": 7, "rings": 5}
    own_sources(root / "data", counts)
    build_own(root / "data", root / "shards", list(counts), samples_per_shard=3)
    return root / "shards"


@pytest.fixture(scope="session")
def own_eval_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pairs of two sources, `discs` and `held_out`."""
    root = tmp_path_factory.mktemp("own-eval-shards")
    counts = {"discs": 2, "held_out": 2}
    own_sources(root / "data", counts, width=120, height=90)
    build_own(root / "data", root / "shards", list(counts))
    return root / "shards"
