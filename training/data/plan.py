"""Which shards an order of samples needs, and when: pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hqdata.shards.dataset import Dataset, ShardInfo
from training.data.members import Members
from training.data.order import Rows

OPEN_SHARDS = 4
"""Shards of a source that `training.data.order.sequential_order` needs at once."""


@dataclass(frozen=True, slots=True)
class ShardUse:
    """When a shard is needed.

    Attributes:
        path: of the shard, below the data set's folder.
        first, last: places in the order of its first and its last sample.
    """

    path: str
    first: int
    last: int


def plan_shards(order: Rows, dataset: Dataset) -> tuple[ShardUse, ...]:
    """The shards that an order needs, by their first need.

    Args:
        order: int64 (n,), rows of the data set.
        dataset: the data set.
    """
    members = Members(dataset)
    return shard_uses(order, members.shard_numbers(), members.shards)


def shard_uses(
    order: Rows, shard_numbers: NDArray[np.int32], shards: Sequence[str], *, offset: int = 0
) -> tuple[ShardUse, ...]:
    """The same, without the data set.

    Args:
        order: int64 (n,), rows.
        shard_numbers: int32 (rows,), which of `shards` each row is in.
        shards: paths.
        offset: is added to the places.
    """
    numbers = shard_numbers[order]
    used, first = np.unique(numbers, return_index=True)
    last = len(numbers) - 1 - np.unique(numbers[::-1], return_index=True)[1]
    uses = [
        ShardUse(shards[number], int(begin) + offset, int(end) + offset)
        for number, begin, end in zip(used.tolist(), first, last, strict=True)
    ]
    return tuple(sorted(uses, key=lambda use: use.first))


def peak_bytes(uses: Sequence[ShardUse], sizes: Mapping[str, int]) -> int:
    """The most bytes of shards that are needed at once anywhere in the order."""
    if not uses:
        return 0
    # A peak is where a shard is needed for the first time: what began until then, less what ended.
    by_last = sorted(uses, key=lambda use: use.last)
    begun = np.cumsum([sizes[use.path] for use in uses])
    ended = np.cumsum([0, *(sizes[use.path] for use in by_last)])
    over = np.searchsorted([use.last for use in by_last], [use.first for use in uses])
    return int((begun - ended[over]).max())


def wanted(
    uses: Sequence[ShardUse], sizes: Mapping[str, int], position: int, max_bytes: int
) -> list[str]:
    """The shards that should be at hand at a place of the order, by their first need.

    Those that are in use there, and as many of the next ones as fit beside them.
    """
    found: dict[str, None] = {}
    room = max_bytes
    for use in uses:
        if use.last < position or use.path in found:
            continue
        room -= sizes[use.path]
        if room < 0 and use.first > position:
            break
        found[use.path] = None
    return list(found)


def workable_bytes(shards: Iterable[ShardInfo], open_shards: int = OPEN_SHARDS) -> int:
    """Bytes of shards that `sequential_order` may need at once, whatever its seed."""
    sizes: dict[str, list[int]] = {}
    for shard in shards:
        # `<source>/<split>-00003-of-00012.tar`: the splits of a source are mixed on their own.
        sizes.setdefault(shard.path.rsplit("-", 3)[0], []).append(shard.num_bytes)
    return sum(sum(sorted(own)[-open_shards:]) for own in sizes.values())


class Course:
    """An order that is being read: how far, and which shards it wants there.

    One thread tells how far it has come, others may ask.

    Args:
        order: int64 (n,), rows that are to be read.
        then: the order after that, if it is known.
        members: of the data set.
        sizes: bytes of each shard.
        max_bytes: room for shards.
    """

    def __init__(
        self,
        order: Rows,
        then: Rows | None,
        members: Members,
        sizes: Mapping[str, int],
        max_bytes: int,
    ) -> None:
        numbers, shards = members.shard_numbers(), members.shards
        self._uses = shard_uses(order, numbers, shards)
        self.peak_bytes = peak_bytes(self._uses, sizes)
        if then is not None:
            self._uses += shard_uses(then, numbers, shards, offset=len(order))
        self._places = np.full(len(members), -1, np.int64)
        self._places[order] = np.arange(len(order))
        self._sizes = sizes
        self._max_bytes = max_bytes
        self._position = 0

    def reach(self, row: int) -> None:
        """A row is being read."""
        self._position = max(self._position, int(self._places[row]))

    def wanted(self) -> list[str]:
        """The shards that should be at hand now, by their first need."""
        return wanted(self._uses, self._sizes, self._position, self._max_bytes)
