"""Which sample comes next: pure arithmetic.

The order of an epoch is a function of (digest, seed, epoch) alone. It is cut into global batches,
each of these into one part a rank, each part into micro-batches: so neither the number of ranks nor
that of workers changes what a step of the optimizer sees, and every sample comes exactly once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STATE_VERSION = 1

Rows = NDArray[np.int64]
"""Numbers of samples: rows of a data set's table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """Where a stream stands; all that it takes to go on elsewhere.

    Attributes:
        digest: of the data set and of what was selected from it.
        seed: of the run.
        epoch: the epoch under way, from 0.
        position: samples of this epoch that were trained on, over all ranks.
        version: of this record.
    """

    digest: str
    seed: int
    epoch: int = 0
    position: int = 0
    version: int = STATE_VERSION

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What one rank loads and computes at once.

    Attributes:
        epoch: epoch, from 0.
        step: step of the optimizer in this epoch, from 0.
        rows: samples; none where a rank has nothing to do in the last step of an epoch.
        is_last: whether it is this rank's last one of the step.
        num_global: samples of the step over all ranks.
    """

    epoch: int
    step: int
    rows: tuple[int, ...]
    is_last: bool
    num_global: int


@dataclass(frozen=True, slots=True)
class ShardRows:
    """The samples of one shard, and the source it belongs to."""

    path: str
    source: str
    rows: tuple[int, ...]


def _ranks(label: str, count: int) -> NDArray[np.uint64]:
    """uint64 (count,): random numbers that depend on the label alone.

    Raw output of the counter-based generator Philox, which numpy promises never to change, unlike
    that of `Generator.permutation`.
    """
    key = np.frombuffer(hashlib.sha256(label.encode()).digest()[:16], np.uint64)
    return np.asarray(np.random.Philox(key=key).random_raw(count), np.uint64)


def _label(kind: str, digest: str, seed: int, epoch: int) -> str:
    return f"{kind}/{digest}/{seed}/{epoch}"


def shuffled_order(rows: Rows, *, num_rows: int, digest: str, seed: int, epoch: int) -> Rows:
    """The samples of an epoch in random order, for shards of which any part can be read at once.

    Each row of the whole data set draws a number, and the selected ones are sorted by it: leaving a
    source out leaves the order of the others as it was.

    Args:
        rows: int64 (n,), the selected rows.
        num_rows: rows of the whole data set.
        digest: of the whole data set.
        seed: of the run.
        epoch: from 0.
    """
    drawn = _ranks(_label("shuffled", digest, seed, epoch), num_rows)[rows]
    return rows[np.lexsort((rows, drawn))]


def sequential_order(
    shards: Sequence[ShardRows], *, digest: str, seed: int, epoch: int, open_shards: int = 4
) -> Rows:
    """The samples of an epoch in an order that needs few shards at a time, for remote ones.

    The shards of a source come in random order, `open_shards` of them are shuffled into one
    another, and the sources are mixed in proportion to what is left of each, so that every stretch
    of the epoch is a fair sample of all sources and all of them end together.

    Args:
        shards: the selected shards.
        digest: of the whole data set.
        seed: of the run.
        epoch: from 0.
        open_shards: shards of one source that are shuffled into one another.
    """
    queues: dict[str, Rows] = {}
    for source in sorted({shard.source for shard in shards}):
        own = sorted((s for s in shards if s.source == source), key=lambda s: s.path)
        label = _label(f"shards/{source}", digest, seed, epoch)
        turn = [own[i] for i in np.argsort(_ranks(label, len(own)), kind="stable")]
        pools = []
        for first in range(0, len(turn), open_shards):
            group = turn[first : first + open_shards]
            pool = np.array([row for shard in group for row in shard.rows], np.int64)
            drawn = _ranks(f"{label}/{group[0].path}", len(pool))
            pools.append(pool[np.argsort(drawn, kind="stable")])
        queues[source] = np.concatenate(pools) if pools else np.empty(0, np.int64)
    return _mixed(queues)


def _mixed(queues: dict[str, Rows]) -> Rows:
    """Several queues in one, each spread evenly over the whole: the k-th of n comes at (k+½)/n."""
    if not queues:
        return np.empty(0, np.int64)
    places = [(np.arange(len(q)) + 0.5) / max(1, len(q)) for q in queues.values()]
    whole = np.concatenate(list(queues.values()))
    number = np.concatenate([np.full(len(q), i) for i, q in enumerate(queues.values())])
    return np.asarray(whole[np.lexsort((number, np.concatenate(places)))], np.int64)


def num_steps(num_samples: int, batch_size: int) -> int:
    """Steps of the optimizer in an epoch; the last one may see fewer samples."""
    return -(-num_samples // batch_size)


def rank_part(batch: Rows, rank: int, world_size: int) -> Rows:
    """The part of a global batch that a rank computes: in order, as even as can be."""
    first, end = (len(batch) * r // world_size for r in (rank, rank + 1))
    return batch[first:end]


def micro_batches(
    order: Rows,
    *,
    epoch: int,
    position: int,
    batch_size: int,
    micro_batch_size: int,
    rank: int,
    world_size: int,
) -> Iterator[MicroBatch]:
    """What a rank computes from a position of an epoch to its end.

    Args:
        order: int64 (n,), the epoch's samples.
        epoch: its number.
        position: samples that are done, a multiple of `batch_size` or all of them.
        batch_size: samples of a step over all ranks.
        micro_batch_size: samples that a rank computes at once.
        rank, world_size: which of how many ranks.
    """
    if position % batch_size and position < len(order):
        raise ValueError(f"position {position} is not the start of a batch of {batch_size}")
    for first in range(position, len(order), batch_size):
        batch = order[first : first + batch_size]
        part = rank_part(batch, rank, world_size)
        starts = range(0, max(1, len(part)), micro_batch_size)
        for start in starts:
            yield MicroBatch(
                epoch=epoch,
                step=first // batch_size,
                rows=tuple(part[start : start + micro_batch_size].tolist()),
                is_last=start == starts[-1],
                num_global=len(batch),
            )
