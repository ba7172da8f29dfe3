"""The order of an epoch: every sample once, the same for any number of ranks, and never another."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.order import (
    Rows,
    ShardRows,
    StreamState,
    micro_batches,
    num_steps,
    rank_part,
    sequential_order,
    shuffled_order,
)

DIGEST = "ab" * 32
RANKS = st.sampled_from([1, 2, 3, 8])


def shuffled(rows: Rows, num_rows: int, *, seed: int = 7, epoch: int = 0) -> Rows:
    return shuffled_order(rows, num_rows=num_rows, digest=DIGEST, seed=seed, epoch=epoch)


def sequential(shards: list[ShardRows], *, seed: int = 7, epoch: int = 0, **options: int) -> Rows:
    return sequential_order(shards, digest=DIGEST, seed=seed, epoch=epoch, **options)


def shards_of(counts: dict[str, list[int]]) -> list[ShardRows]:
    """Shards of these sizes by source, their rows numbered through."""
    shards = []
    first = 0
    for source, sizes in counts.items():
        for number, size in enumerate(sizes):
            rows = tuple(range(first, first + size))
            shards.append(ShardRows(f"{source}-{number:05d}.tar", source, rows))
            first += size
    return shards


SOURCES = st.dictionaries(
    st.sampled_from([f"{name}/train" for name in "abcdef"]),
    st.lists(st.integers(1, 9), min_size=1, max_size=11),
    min_size=1,
)


def sha256(order: Rows) -> str:
    return hashlib.sha256(np.asarray(order, "<i8").tobytes()).hexdigest()


# One epoch


@given(st.integers(0, 300), st.integers(0, 2**40), st.integers(0, 50))
def test_a_shuffled_epoch_has_every_sample_once(count: int, seed: int, epoch: int) -> None:
    order = shuffled(np.arange(count), count, seed=seed, epoch=epoch)
    assert sorted(order.tolist()) == list(range(count))


@given(SOURCES, st.integers(0, 2**40), st.integers(0, 50), st.integers(1, 6))
def test_a_sequential_epoch_has_every_sample_once(
    counts: dict[str, list[int]], seed: int, epoch: int, open_shards: int
) -> None:
    shards = shards_of(counts)
    order = sequential(shards, seed=seed, epoch=epoch, open_shards=open_shards)
    assert sorted(order.tolist()) == [row for shard in shards for row in shard.rows]


def test_epochs_seeds_and_data_sets_have_orders_of_their_own() -> None:
    rows, shards = np.arange(200), shards_of({"a": [20] * 5, "b": [25] * 4})
    found = set()
    for digest in (DIGEST, "cd" * 32):
        for seed in (0, 1):
            for epoch in (0, 1):
                found.add(
                    sha256(
                        shuffled_order(rows, num_rows=200, digest=digest, seed=seed, epoch=epoch)
                    )
                )
                found.add(sha256(sequential_order(shards, digest=digest, seed=seed, epoch=epoch)))
    assert len(found) == 16


def test_the_order_is_random_enough_to_train_on() -> None:
    """Neighbours in the order are as far apart as random ones are: a third of the whole."""
    order = shuffled(np.arange(9_000), 9_000)
    assert np.abs(np.diff(order)).mean() == pytest.approx(3_000, rel=0.05)


def test_the_order_never_changes() -> None:
    """A run that goes on with another version of this package sees the samples it would have."""
    assert shuffled(np.arange(12), 12, seed=1, epoch=2).tolist() == SHUFFLED
    assert sha256(shuffled(np.arange(44_320), 44_320)) == SHUFFLED_SHA256
    shards = shards_of({"dis/train": [3, 3, 2], "fss/all": [4]})
    assert sequential(shards, seed=1, epoch=2, open_shards=2).tolist() == SEQUENTIAL
    many = shards_of({"a/x": [384] * 20 + [7], "b/x": [384] * 9, "c/y": [200]})
    assert sha256(sequential(many)) == SEQUENTIAL_SHA256


SHUFFLED = [2, 10, 9, 3, 0, 11, 8, 4, 5, 7, 1, 6]
SHUFFLED_SHA256 = "3114684d44456553d05ab2879fabf7888d913e317d31964f02e0e48e1cdf43ab"
SEQUENTIAL = [4, 9, 5, 2, 8, 3, 1, 10, 0, 7, 11, 6]
SEQUENTIAL_SHA256 = "7c650cf991f9de2811ab85c26c092e6d8abdc8abbf7a94dec4b9889f0882df83"


# Leaving sources out


@given(st.integers(1, 200), st.data())
def test_leaving_samples_out_leaves_the_shuffled_order_of_the_others(
    count: int, data: st.DataObject
) -> None:
    kept = sorted(data.draw(st.sets(st.integers(0, count - 1))))
    everything = shuffled(np.arange(count), count).tolist()
    rest = shuffled(np.array(kept, np.int64), count).tolist()
    assert rest == [row for row in everything if row in set(kept)]


@given(SOURCES, st.data())
def test_leaving_a_source_out_leaves_the_sequential_order_of_the_others(
    counts: dict[str, list[int]], data: st.DataObject
) -> None:
    shards = shards_of(counts)
    gone = data.draw(st.sampled_from(sorted(counts)))
    kept = [shard for shard in shards if shard.source != gone]
    rows = {row for shard in kept for row in shard.rows}
    assert sequential(kept).tolist() == [row for row in sequential(shards).tolist() if row in rows]


@given(SOURCES, st.randoms(use_true_random=False))
def test_the_sequential_order_does_not_depend_on_that_of_its_input(
    counts: dict[str, list[int]], random: object
) -> None:
    shards = shards_of(counts)
    mixed = shards.copy()
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert sequential(mixed).tolist() == sequential(shards).tolist()


# What sequential reading needs


@given(SOURCES, st.integers(1, 5))
def test_every_stretch_holds_each_source_in_proportion(
    counts: dict[str, list[int]], open_shards: int
) -> None:
    """After t samples of N, a source with n of them has had t·n/N, within a sample or little more.

    The k-th sample of a source stands at (k + ½)/n of the whole, so that of the first t each source
    has had n·x + e, with the same x and |e| ≤ ½ for all of them. Since these sum up to t, a source
    is off by e(1 - n/N) - (n/N)·(the other sources' e): at most ½(1 + (n/N)(sources - 2)).
    """
    shards = shards_of(counts)
    source_of = {row: shard.source for shard in shards for row in shard.rows}
    total = len(source_of)
    sizes = Counter(source_of.values())
    had: Counter[str] = Counter()
    for number, row in enumerate(sequential(shards, open_shards=open_shards).tolist(), start=1):
        had[source_of[row]] += 1
        for source, size in sizes.items():
            bound = (1 + size / total * (len(sizes) - 2)) / 2
            assert abs(had[source] - number * size / total) <= bound + 1e-9


@given(SOURCES, st.integers(1, 5))
def test_few_shards_of_a_source_are_needed_at_once(
    counts: dict[str, list[int]], open_shards: int
) -> None:
    shards = shards_of(counts)
    shard_of = {row: shard for shard in shards for row in shard.rows}
    order = [shard_of[row] for row in sequential(shards, open_shards=open_shards).tolist()]
    last = {shard.path: place for place, shard in enumerate(order)}
    needed: defaultdict[str, set[str]] = defaultdict(set)
    for place, shard in enumerate(order):
        needed[shard.source].add(shard.path)
        assert len(needed[shard.source]) <= open_shards
        if last[shard.path] == place:
            needed[shard.source].remove(shard.path)


def test_samples_of_the_open_shards_are_mixed() -> None:
    shards = shards_of({"a": [50] * 4})
    first = {row // 50 for row in sequential(shards, open_shards=4).tolist()[:20]}
    assert first == {0, 1, 2, 3}


def test_no_shards_have_an_empty_order() -> None:
    assert sequential([]).tolist() == []


# Batches, ranks and going on


@given(
    count=st.integers(0, 120),
    batch_size=st.integers(1, 40),
    micro_batch_size=st.integers(1, 12),
    turns=st.lists(st.tuples(RANKS, st.integers(1, 4)), max_size=4),
)
def test_an_epoch_is_whole_however_often_it_is_interrupted(
    count: int, batch_size: int, micro_batch_size: int, turns: list[tuple[int, int]]
) -> None:
    """Some steps on some ranks, then on others, and so on to the end: each sample comes once, and
    the global batches are those of one rank alone.
    """
    order = shuffled(np.arange(count), count)
    position, batches = 0, []
    for world_size, steps in [*turns, (1, count)]:
        parts: defaultdict[int, list[int]] = defaultdict(list)
        for rank in range(world_size):
            for micro in micro_batches(
                order,
                epoch=0,
                position=position,
                batch_size=batch_size,
                micro_batch_size=micro_batch_size,
                rank=rank,
                world_size=world_size,
            ):
                if micro.step < position // batch_size + steps:
                    parts[micro.step] += micro.rows
        batches += [parts[step] for step in sorted(parts)]
        position = min(count, position + steps * batch_size)
    expected = [order[i : i + batch_size].tolist() for i in range(0, count, batch_size)]
    assert batches == expected
    assert len(batches) == num_steps(count, batch_size)


@given(
    count=st.integers(1, 100),
    batch_size=st.integers(1, 40),
    micro_batch_size=st.integers(1, 12),
    world_size=RANKS,
    epoch=st.integers(0, 9),
)
def test_all_ranks_take_the_same_steps(
    count: int, batch_size: int, micro_batch_size: int, world_size: int, epoch: int
) -> None:
    """Each rank ends each step with exactly one last micro-batch, were it empty, and all agree on
    how many samples the step has.
    """
    order = shuffled(np.arange(count), count)
    told = []
    for rank in range(world_size):
        micros = list(
            micro_batches(
                order,
                epoch=epoch,
                position=0,
                batch_size=batch_size,
                micro_batch_size=micro_batch_size,
                rank=rank,
                world_size=world_size,
            )
        )
        assert {micro.epoch for micro in micros} == {epoch}
        assert max(len(micro.rows) for micro in micros) <= micro_batch_size
        ends = [i for i, micro in enumerate(micros) if micro.is_last]
        assert [micros[i].step for i in ends] == list(range(num_steps(count, batch_size)))
        assert all(a.step == b.step for a, b in itertools.pairwise(micros) if not a.is_last)
        told.append([micros[i].num_global for i in ends])
    assert told == [told[0]] * world_size
    assert sum(told[0]) == count


@given(st.integers(0, 100), RANKS)
def test_parts_of_ranks_differ_by_one_sample_at_most(count: int, world_size: int) -> None:
    batch = np.arange(count)
    parts = [rank_part(batch, rank, world_size) for rank in range(world_size)]
    assert np.concatenate(parts).tolist() == batch.tolist()
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_position_within_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="not the start of a batch"):
        next(
            micro_batches(
                np.arange(20),
                epoch=0,
                position=5,
                batch_size=4,
                micro_batch_size=4,
                rank=0,
                world_size=1,
            )
        )


@given(st.text(), st.integers(), st.integers(0), st.integers(0))
def test_a_state_survives_being_written(digest: str, seed: int, epoch: int, position: int) -> None:
    state = StreamState(digest=digest, seed=seed, epoch=epoch, position=position)
    told = state.to_dict()
    assert set(told) == {"version", "digest", "seed", "epoch", "position"}
    assert StreamState(**told) == state
