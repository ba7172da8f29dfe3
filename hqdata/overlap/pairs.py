"""Pairs for the report: findings with names in place of numbers, and what digests and ids add."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hqdata.overlap.blocks import WITHIN, Item
from hqdata.overlap.judge import Judgement
from hqdata.overlap.names import source_ids
from hqdata.overlap.report import EvaluationImage, Kind, Pair
from hqdata.overlap.search import Finding
from hqdata.overlap.tasks import ShardTask
from hqdata.overlap.training import TrainPictures
from hqdata.shards.dataset import Dataset


def asked_pairs(
    dataset: Dataset, shards: Sequence[TrainPictures], block: Sequence[Item]
) -> dict[int, list[tuple[int, int]]]:
    """What digests and names connect, by number of the shard.

    Returns:
        Shard number -> sorted (number in the shard, number in the block).
    """
    by_digest: dict[str, list[int]] = defaultdict(list)
    by_id: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, item in enumerate(block):
        if item.is_decoy:
            continue
        for digest in set(item.digests):
            by_digest[digest].append(number)
        if item.set != WITHIN:
            for source_id in source_ids(item.name):
                by_id[source_id].append(number)
    columns = dataset.samples.select(["image_sha256", "pixel_sha256", "upstream_image"]).to_pydict()
    asked: dict[int, list[tuple[int, int]]] = {}
    for shard_number, shard in enumerate(shards):
        found: set[tuple[int, int]] = set()
        for place, row in enumerate(shard.rows):
            others = {
                *by_digest.get(columns["image_sha256"][row], ()),
                *by_digest.get(columns["pixel_sha256"][row], ()),
            }
            for source_id in source_ids(columns["upstream_image"][row]) if by_id else ():
                others.update(by_id.get(source_id, ()))
            found |= {
                (place, other) for other in others if block[other].own < row or block[other].own < 0
            }
        if found:
            asked[shard_number] = sorted(found)
    return asked


def make_pairs(
    dataset: Dataset,
    tasks: Sequence[ShardTask],
    found: Iterable[Sequence[Finding]],
    block: Sequence[Item],
) -> list[Pair]:
    """The pairs of one block: what was found, and what was asked and not found."""
    pairs: list[Pair] = []
    for task, findings in zip(tasks, found, strict=True):
        by_pair = {(f.query, f.known): f for f in findings if not block[f.known].is_decoy}
        connected = sorted({*by_pair, *task.asked})
        rows = {place: dataset.row(task.pictures.rows[place]) for place, _ in connected}
        for place, known in connected:
            pair = _make_pair(rows[place], block[known], by_pair.get((place, known)))
            if pair is not None:
                pairs.append(pair)
    return pairs


def _make_pair(row: Mapping[str, Any], item: Item, finding: Finding | None) -> Pair | None:
    judgement = None if finding is None else finding.judgement
    distance = None if finding is None else finding.distance
    shared = _same(row, item)
    if shared is not None and shared != "same_source_id":
        what = "bytes" if shared == "identical_bytes" else "upright pixels"
        judgement = Judgement(
            shared, True, f"the two have the same {what}", 1.0, None, np.eye(3), 1.0, 1.0
        )
        distance = 0
    elif shared == "same_source_id" and judgement is None:
        ids = source_ids(row["upstream_image"]) & source_ids(item.name)
        told = ", ".join(f"{archive} {number}" for archive, number in sorted(ids))
        judgement = Judgement(
            "same_source_id",
            False,
            f"both names carry the id {told}, but nothing in the pictures agrees",
            None,
            None,
            None,
            None,
            None,
        )
    if judgement is None:
        return None
    matrix = judgement.matrix
    return Pair(
        train=row["key"],
        evaluation=EvaluationImage(set=item.set, name=item.name),
        kind=judgement.kind,
        confirmed=judgement.confirmed,
        reason=judgement.reason,
        distance=distance,
        inliers=judgement.inliers,
        score=judgement.score,
        transform=None if matrix is None else tuple(round(float(v), 8) for v in matrix.ravel()),
        train_size=(row["width"], row["height"]),
        evaluation_size=(item.known.width, item.known.height),
        train_fraction=judgement.train_fraction,
        evaluation_fraction=judgement.evaluation_fraction,
    )


def _same(row: Mapping[str, Any], item: Item) -> Kind | None:
    """What digests and names say, the strongest."""
    image, stored, pixels = item.digests
    if row["image_sha256"] in (image, stored):
        return "identical_bytes"
    if row["pixel_sha256"] == pixels:
        return "identical_pixels"
    if item.set != WITHIN and source_ids(row["upstream_image"]) & source_ids(item.name):
        return "same_source_id"
    return None
