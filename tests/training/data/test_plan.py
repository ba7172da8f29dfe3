"""Which shards an order needs, and when."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqdata.shards.dataset import ShardInfo
from training.data.order import ShardRows, sequential_order
from training.data.plan import ShardUse, peak_bytes, shard_uses, wanted, workable_bytes

ORDERS = st.lists(st.integers(0, 6), max_size=60)
"""Orders of the shards 0 to 6, as the numbers of their samples' shards."""

SHARDS = tuple("abcdefg")
SIZES = {name: 2**number for number, name in enumerate(SHARDS)}


def uses_of(numbers: list[int]) -> tuple[ShardUse, ...]:
    return shard_uses(np.arange(len(numbers)), np.array(numbers, np.int32), SHARDS)


@given(ORDERS)
def test_a_plan_tells_the_first_and_the_last_need_of_each_shard(numbers: list[int]) -> None:
    text = "".join(SHARDS[number] for number in numbers)
    expected = [ShardUse(name, text.index(name), text.rindex(name)) for name in dict.fromkeys(text)]
    assert list(uses_of(numbers)) == expected


@given(ORDERS)
def test_the_peak_is_the_most_that_is_in_use_anywhere(numbers: list[int]) -> None:
    uses = uses_of(numbers)
    by_place = [
        sum(SIZES[use.path] for use in uses if use.first <= place <= use.last)
        for place in range(len(numbers))
    ]
    assert peak_bytes(uses, SIZES) == max(by_place, default=0)


@given(ORDERS, st.integers(0, 59), st.integers(0, 130))
def test_what_is_in_use_is_wanted_before_what_comes_next(
    numbers: list[int], position: int, max_bytes: int
) -> None:
    uses = uses_of(numbers)
    names = wanted(uses, SIZES, position, max_bytes)
    in_use = [use.path for use in uses if use.first <= position <= use.last]
    coming = [use.path for use in uses if use.first > position]
    assert names[: len(in_use)] == in_use
    assert names[len(in_use) :] == coming[: len(names) - len(in_use)]
    if len(names) > len(in_use):
        assert sum(SIZES[name] for name in names) <= max_bytes


def test_the_next_epoch_is_thought_of_at_the_end_of_this_one() -> None:
    numbers = np.array([0, 1, 2], np.int32)
    uses = shard_uses(np.array([0, 1, 2]), numbers, SHARDS)
    uses += shard_uses(np.array([2, 0, 1]), numbers, SHARDS, offset=3)
    assert wanted(uses, SIZES, 2, 7) == ["c", "a", "b"]


@given(
    st.dictionaries(
        st.sampled_from(["a/train", "b/train", "b/test"]),
        st.lists(st.integers(1, 9), min_size=1, max_size=9),
        min_size=1,
    ),
    st.integers(0, 99),
)
def test_the_workable_room_is_enough_for_any_seed(counts: dict[str, list[int]], seed: int) -> None:
    shards, infos, numbers = [], [], []
    for source, sizes in counts.items():
        for number, size in enumerate(sizes):
            path = f"{source}-{number:05d}-of-{len(sizes):05d}.tar"
            rows = tuple(range(len(numbers), len(numbers) + size))
            numbers += [len(shards)] * size
            shards.append(ShardRows(path, source, rows))
            infos.append(ShardInfo(path=path, sha256="0" * 64, num_samples=size, num_bytes=size))
    order = sequential_order(shards, digest="", seed=seed, epoch=0)
    uses = shard_uses(order, np.array(numbers, np.int32), [info.path for info in infos])
    sizes_of = {info.path: info.num_bytes for info in infos}
    assert peak_bytes(uses, sizes_of) <= workable_bytes(infos)


@pytest.mark.parametrize("position", [0, 5])
def test_an_empty_order_wants_nothing(position: int) -> None:
    assert wanted(uses_of([]), SIZES, position, 100) == []
