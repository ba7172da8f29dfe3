"""From pairs to a list of independent shard tasks: pure arithmetic, no picture is opened.

Which sample goes where depends on the recipe's seed and on the keys alone. One source a shard:
leaving a source out is leaving files out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import PIL
import simplejpeg

from hqdata.catalogue.manifest import MaskValues
from hqdata.fingerprint import fingerprint_versions
from hqdata.normalise import Origin, Settings
from hqdata.recipe import Recipe
from hqdata.resolve import SplitRequest
from hqdata.sample import SCHEMA_VERSION, canonical_json
from hqdata.sources.pairing import Pair, Pairing
from hqdata.storage import FileRef

NORMALISATION_VERSION = 1
"""Counts up when the same input would give other bytes, so that no shard of an older version is
kept.
"""


@dataclass(frozen=True, slots=True)
class Item:
    """One pair to read: what it will be called and where its files lie.

    `annotation` is the id of the mask where `mask` is a file of many, else None.
    """

    origin: Origin
    image: FileRef
    mask: FileRef
    annotation: int | None = None


@dataclass(frozen=True, slots=True)
class ShardTask:
    """Everything a worker needs to write one shard.

    Attributes:
        path: below the data set's folder, e.g. `dis/train-00000-of-00012.tar`.
        items: its pairs in the order of the shard.
        settings: the recipe's settings of normalisation.
    """

    path: str
    source: str
    split: str
    items: tuple[Item, ...]
    settings: Settings

    @property
    def num_source_bytes(self) -> int:
        """Bytes of the files it will read."""
        return sum(item.image.size + item.mask.size for item in self.items)

    def fingerprint(self) -> str:
        """Digest of all inputs: a shard on disk is kept only if it was made from the same."""
        value = {
            "schema": SCHEMA_VERSION,
            "normalisation": NORMALISATION_VERSION,
            "codecs": codec_versions(),
            "fingerprints": fingerprint_versions(),
            "path": self.path,
            "settings": [self.settings.image_field, self.settings.max_pixels],
            "items": [_facts(item) for item in self.items],
        }
        return hashlib.sha256(canonical_json(value)).hexdigest()


def _facts(item: Item) -> list[str | int]:
    """All that a sample is made of."""
    origin = item.origin
    facts: list[str | int] = [
        origin.key,
        origin.source,
        origin.split,
        origin.licence,
        origin.upstream_image,
        origin.upstream_mask,
        origin.mask_values,
        origin.action,
        item.image.stamp,
        item.mask.stamp,
    ]
    return facts if item.annotation is None else [*facts, item.annotation]


def codec_versions() -> dict[str, str]:
    """Versions of the libraries that decode and encode pictures."""
    return {
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "simplejpeg": simplejpeg.__version__,
    }


def shuffled(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """The pairs in the seeded order of their source: by a keyed hash, the same on every machine."""

    def rank(item: Pair) -> bytes:
        return hashlib.sha256(f"{seed}:{item.key}".encode()).digest()

    return sorted(pairs, key=rank)


def num_shards(num_samples: int, num_bytes: int, recipe: Recipe) -> int:
    """How many shards a split is cut into: by samples, or by bytes where pictures are large."""
    by_samples = -(-num_samples // recipe.samples_per_shard)
    by_bytes = -(-num_bytes // recipe.bytes_per_shard)
    return min(num_samples, max(by_samples, by_bytes))


def plan_split(request: SplitRequest, pairing: Pairing, recipe: Recipe) -> list[ShardTask]:
    """The shard tasks of one split; shard sizes differ by one sample at most."""
    ordered = shuffled(pairing.pairs, recipe.seed)
    count = num_shards(len(ordered), num_source_bytes(ordered), recipe)
    return cut(request, [(pair,) for pair in ordered], count, recipe, request.mask_values)


def num_source_bytes(pairs: Iterable[Pair]) -> int:
    """Bytes of the files of some pairs."""
    return sum(pair.image.ref.size + pair.mask.ref.size for pair in pairs)


class _Request(Protocol):
    """What `cut` asks of a split."""

    @property
    def source(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def licence(self) -> str: ...


def cut(
    request: _Request,
    groups: Sequence[Sequence[Pair]],
    count: int,
    recipe: Recipe,
    mask_values: MaskValues = "auto",
) -> list[ShardTask]:
    """The tasks of `count` shards, each with its share of the groups, in their order."""
    settings = Settings(image_field=recipe.image_field, max_pixels=recipe.max_pixels)
    tasks = []
    for index in range(count):
        begin, end = index * len(groups) // count, (index + 1) * len(groups) // count
        pairs = [pair for group in groups[begin:end] for pair in group]
        tasks.append(
            ShardTask(
                path=f"{request.source}/{request.split}-{index:05d}-of-{count:05d}.tar",
                source=request.source,
                split=request.split,
                items=tuple(_item(request, pair, mask_values) for pair in pairs),
                settings=settings,
            )
        )
    return tasks


def _item(request: _Request, pair: Pair, mask_values: MaskValues) -> Item:
    origin = Origin(
        key=pair.key,
        source=request.source,
        split=request.split,
        licence=request.licence,
        upstream_image=pair.image.path,
        upstream_mask=pair.mask.path,
        mask_values=mask_values,
        action=pair.action,
    )
    return Item(origin, pair.image.ref, pair.mask.ref, pair.annotation)


def plan(
    requests: Sequence[SplitRequest], pairings: Mapping[tuple[str, str], Pairing], recipe: Recipe
) -> list[ShardTask]:
    """All shard tasks of a data set, by path."""
    tasks = [
        task
        for request in requests
        for task in plan_split(request, pairings[(request.source, request.split)], recipe)
    ]
    return sorted(tasks, key=lambda task: task.path)
