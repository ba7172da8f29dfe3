"""What is searched for, in blocks that fit into memory: evaluation pictures, or the training set
itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hqdata.fingerprint import dihedral_hashes, trim_borders
from hqdata.overlap.collect import Collected
from hqdata.overlap.evaluation import EvaluationSource
from hqdata.overlap.features import LocalFeatures, extract_evaluation
from hqdata.overlap.search import Known
from hqdata.overlap.training import TrainPictures
from hqdata.overlap.views import EvaluationFile, train_pixels
from hqdata.shards.dataset import Dataset

MAX_FEATURES = 6_000_000
"""Local features of a block: its index takes 100 bytes for each, in every process."""

WITHIN = "within"
"""Name of the set whose pictures are the training set's own."""


@dataclass(frozen=True, slots=True)
class Item:
    """One picture searched for.

    Attributes:
        set, name: as reports call it.
        known: what the search knows of it.
        digests: of its bytes, its stored bytes and its pixels.
        file: where it lies, None for fingerprints without pictures and for training pictures.
        own: its row in the data set's table if it is a training picture, else -1.
        is_decoy: whether it is here for the self-test alone.
    """

    set: str
    name: str
    known: Known
    digests: tuple[str, str, str]
    file: EvaluationFile | None
    own: int = -1
    is_decoy: bool = False

    @property
    def is_readable(self) -> bool:
        """Whether its pixels are to be had."""
        return self.file is not None or self.own >= 0


def evaluation_items(source: EvaluationSource, collected: Collected) -> list[Item]:
    """The pictures of one evaluation set."""
    refs = {picture.name: picture.ref for picture in source.pictures}
    items = []
    for f in collected.fingerprints:
        ref = refs.get(f.name) if collected.how == "pictures" else None
        file = None if ref is None else EvaluationFile(collected.set, f.name, ref, f.image_sha256)
        known = Known(f.width, f.height, f.hashes, f.hashes_trimmed, f.features)
        digests = (f.image_sha256, f.stored_sha256, f.pixel_sha256)
        items.append(Item(collected.set, f.name, known, digests, file))
    return items


def training_items(
    dataset: Dataset, pictures: TrainPictures, features: Sequence[LocalFeatures]
) -> list[Item]:
    """The pictures of one shard as what is searched for."""
    rows = dataset.samples.select(["image_sha256", "pixel_sha256"]).take(list(pictures.rows))
    digests = rows.to_pylist()
    items = []
    for number, row in enumerate(pictures.rows):
        plain, trimmed = pictures.hashes[number, :1], pictures.hashes[number, 1:]
        known = Known(*pictures.sizes[number], plain, trimmed, features[number])
        image, pixels = digests[number]["image_sha256"], digests[number]["pixel_sha256"]
        items.append(Item(WITHIN, pictures.keys[number], known, (image, image, pixels), None, row))
    return items


def decoys(dataset: Dataset, shards: Sequence[TrainPictures], number: int) -> list[Item]:
    """Training pictures among those searched for, so that copies of them can be planted where no
    evaluation picture is to be had. What they are paired with is not reported.
    """
    places = [
        (row, key) for shard in shards for row, key in zip(shard.rows, shard.keys, strict=True)
    ]
    drawn = np.random.default_rng(0).permutation(len(places))[:number]
    items = []
    for row, key in (places[n] for n in np.sort(drawn)):
        pixels = train_pixels(dataset, row)
        x0, y0, x1, y1 = trim_borders(pixels)
        known = Known(
            pixels.shape[1],
            pixels.shape[0],
            dihedral_hashes(pixels),
            dihedral_hashes(np.ascontiguousarray(pixels[y0:y1, x0:x1])),
            extract_evaluation(pixels),
        )
        items.append(Item("self-test", key, known, ("", "", ""), None, row, is_decoy=True))
    return items


def in_blocks(items: Sequence[Item]) -> list[list[Item]]:
    """The items in blocks of at most `MAX_FEATURES` local features; at least one block."""
    blocks: list[list[Item]] = [[]]
    total = 0
    for item in items:
        if blocks[-1] and total + len(item.known.features) > MAX_FEATURES:
            blocks.append([])
            total = 0
        blocks[-1].append(item)
        total += len(item.known.features)
    return blocks


def with_refs(items: Sequence[Item], containers: dict[str, str]) -> list[Item]:
    """The items with files of decompressed archives in place of those that cannot be read in any
    order; `containers` names the one for the other.
    """
    result = []
    for item in items:
        if item.file is not None and item.file.ref.how == "listed":
            target = containers[item.file.ref.container]
            ref = replace(item.file.ref, how="range", container=target)
            item = replace(item, file=replace(item.file, ref=ref))
        result.append(item)
    return result
