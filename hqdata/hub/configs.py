"""The configurations of a published data set: which shards `load_dataset(repo, name)` reads.

One shard holds one source, so that every choice of sources is a choice of files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from hqdata.catalogue.registry import load_manifests
from hqdata.shards.dataset import DatasetInfo

DEFAULT = "default"

LEAVE_TWO_OUT = ("dis", "thinobject")
"""Without these two all four evaluation sets of HQ-SAM are zero-shot (Table 7 of the paper)."""

_HUB_SPLIT = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
_HUB_SPLITS = ("train", "validation", "test")

Where = tuple[str, str]
"""(source, split)."""


@dataclass(frozen=True, slots=True)
class Config:
    """One configuration.

    Attributes:
        name: by which it is loaded.
        splits: (name of the split on the Hub, patterns of its shards), none of them empty.
        num_samples: of each split, in the same order.
    """

    name: str
    splits: tuple[tuple[str, tuple[str, ...]], ...]
    num_samples: tuple[int, ...]


def configs_of(info: DatasetInfo) -> tuple[Config, ...]:
    """The configurations of a data set.

    `default` is all of it; then each source left out (`no-dis`), and DIS5K with ThinObject-5K
    (`no-dis-no-thinobject`); then each source alone (`dis`). Every pattern fits the shards of one
    split, whose number it names, and no other file. A data set without samples has none.
    """
    patterns = _patterns(info)
    if not patterns:
        return ()
    sources = list(dict.fromkeys(source for source, _ in patterns))
    chosen: dict[str, Collection[str]] = {DEFAULT: sources}
    if len(sources) > 1:
        for source in sources:
            chosen[f"no-{source}"] = [name for name in sources if name != source]
    if len(sources) > 2 and set(LEAVE_TWO_OUT) <= set(sources):
        both = "-".join(f"no-{source}" for source in LEAVE_TWO_OUT)
        chosen[both] = [name for name in sources if name not in LEAVE_TWO_OUT]
    for source in sources:
        chosen.setdefault(source, [source])  # a source called 'default' has none of its own
    return tuple(_config(name, names, info, patterns) for name, names in chosen.items())


def _config(
    name: str, sources: Collection[str], info: DatasetInfo, patterns: dict[Where, tuple[str, int]]
) -> Config:
    found: dict[str, list[str]] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    for (source, split), (pattern, num_samples) in patterns.items():
        if source in sources:
            hub_split = _hub_split(info, source, split)
            found[hub_split].append(pattern)
            counts[hub_split] += num_samples
    there = [split for split in _HUB_SPLITS if split in found]
    return Config(
        name,
        tuple((split, tuple(found[split])) for split in there),
        tuple(counts[split] for split in there),
    )


def _patterns(info: DatasetInfo) -> dict[Where, tuple[str, int]]:
    """(source, split) -> pattern of its shards, number of samples, in the data set's order."""
    found: dict[Where, tuple[str, int]] = {}
    for shard in info.shards:
        source, _, file_name = shard.path.partition("/")
        # '-of-00012' says how many there are, and no name of a split has a hyphen: so left-overs of
        # a build with other shards are not caught.
        split, _, _, rest = file_name.rsplit("-", 3)
        pattern, count = found.get((source, split), (f"{source}/{split}-*-of-{rest}", 0))
        found[(source, split)] = pattern, count + shard.num_samples
    order = {
        where: number
        for number, where in enumerate(
            (source, split) for source, splits in info.sources.items() for split in splits
        )
    }
    # A split whose pairs all stayed out has shards without a sample, which no loader can look into.
    there = [(where, found[where]) for where in found if found[where][1]]
    return dict(sorted(there, key=lambda item: order.get(item[0], len(order))))


def _hub_split(info: DatasetInfo, source: str, split: str) -> str:
    """What a split is called on the Hub: train, validation or test.

    In a training set every split is trained on: DUTS's test split is a part of HQSeg-44K.
    Elsewhere a split keeps its name, and one of another name is what its set is for.
    """
    if info.recipe.get("must_not_overlap"):
        return "train"
    if split in _HUB_SPLIT:
        return _HUB_SPLIT[split]
    manifest = load_manifests().get(source)
    if manifest is None:
        return "train"
    is_whole = len(manifest.splits) == 1
    return "train" if is_whole and manifest.role == "training" else "test"
