"""Data sets so small that they are built in an instant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hqdata.build.run import build
from hqdata.recipe import Recipe
from hqdata.resolve import resolve
from hqdata.shards.dataset import Dataset
from hqdata.shards.names import DATASET_FILE
from support.builds import build_own, own_sources
from support.sa1b import make_bundle

COUNTS = {"reds": 26, "greens": 11, "blues": 5}
SAMPLES_PER_SHARD = 3


def build_tiny(folder: Path) -> Dataset:
    """Builds a data set of three sources in `folder/out`."""
    own_sources(folder / "sources", COUNTS)
    build_own(folder / "sources", folder / "out", list(COUNTS), samples_per_shard=SAMPLES_PER_SHARD)
    return Dataset.open(folder / "out")


def build_sampled(
    folder: Path, number: int = 6, *, others: int = 0, seed: int = 44320, **changes: Any
) -> Dataset:
    """Builds a data set in `folder/out` with a sample of one small archive like those of SA-1B.

    Args:
        folder: where to.
        number: of the sample's pictures.
        others: pictures of another source, `reds`.
        seed: of the recipe.
        changes: of what `dataset.json` says of the sample.
    """
    data = folder / "sources"
    data.mkdir(parents=True)
    ids = range(226692, 226692 + 2 * number)
    make_bundle(data / "sa_000020.tar", ids, seed=1, width=96, height=64, num_masks=4)
    listed: list[dict[str, Any]] = [{"source": "sa1b", "sample": {"images": number}}]
    if others:
        own_sources(data, {"reds": others})
        listed.append({"source": "reds", "images": "reds/images", "masks": "reds/masks"})
    settings = {
        "name": "sa1b-44k",
        "seed": seed,
        "sources": listed,
        "samples_per_shard": SAMPLES_PER_SHARD,
        "must_not_overlap": ["dis/validation"],
    }
    build(resolve(Recipe.model_validate(settings)), data, folder / "out")
    if changes:
        info = Dataset.open(folder / "out").info
        sampled = {
            where: item.model_copy(update=changes) for where, item in (info.sampled or {}).items()
        }
        info = info.model_copy(update={"sampled": sampled})
        (folder / "out" / DATASET_FILE).write_bytes(info.sealed().to_bytes())
    return Dataset.open(folder / "out")
