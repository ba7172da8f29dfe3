"""Counter-based uniforms: the same for a seed whatever is beside it."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.uniforms import uniforms

WHOLE = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
SEEDS = st.integers(-(2**63), 2**63 - 1)


def mixed(z: int) -> int:
    """The finalizer of splitmix64, in whole numbers of any size."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WHOLE
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WHOLE
    return z ^ (z >> 31)


def in_plain_numbers(seed: int, count: int, stream: int) -> list[float]:
    start = mixed((seed + (stream + 1) * GOLDEN) & WHOLE)
    return [(mixed((start + i * GOLDEN) & WHOLE) >> 40) / 2**24 for i in range(1, count + 1)]


def test_the_hash_is_the_published_one() -> None:
    # First outputs of splitmix64 from state 1234567, as its reference implementation gives them.
    state, found = 1234567, []
    for _ in range(3):
        state = (state + GOLDEN) & WHOLE
        found.append(mixed(state))
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(st.lists(SEEDS, min_size=0, max_size=5), st.integers(0, 40), st.integers(0, 5))
def test_they_equal_a_transcription_in_whole_numbers(
    seeds: list[int], count: int, stream: int
) -> None:
    drawn = uniforms(torch.tensor(seeds, dtype=torch.int64), count, stream=stream)
    assert drawn.dtype == torch.float32
    assert drawn.shape == (len(seeds), count)
    assert drawn.tolist() == [in_plain_numbers(seed, count, stream) for seed in seeds]


@given(st.lists(SEEDS, min_size=1, max_size=6))
def test_a_seed_draws_the_same_whatever_is_beside_it(seeds: list[int]) -> None:
    together = uniforms(torch.tensor(seeds), 7)
    for seed, row in zip(seeds, together, strict=True):
        assert torch.equal(uniforms(torch.tensor([seed]), 7)[0], row)


def test_more_of_them_begin_with_the_fewer() -> None:
    seeds = torch.tensor([3, -4])
    assert torch.equal(uniforms(seeds, 100)[:, :60], uniforms(seeds, 60))


def test_they_are_uniform_and_seeds_and_streams_have_nothing_in_common() -> None:
    seeds = torch.arange(8)
    rows = torch.cat([uniforms(seeds, 40_000, stream=s) for s in (0, 1)]).double().numpy()
    assert rows.min() >= 0
    assert rows.max() < 1
    counts = np.stack([np.histogram(row, 64, (0, 1))[0] for row in rows])
    chi2 = ((counts - 625) ** 2 / 625).sum(axis=1)
    assert (chi2 < 63 + 5 * np.sqrt(2 * 63)).all()  # five standard deviations
    off_diagonal = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(40_000)
    serial = [np.corrcoef(row[:-1], row[1:])[0, 1] for row in rows]
    assert np.abs(serial).max() < 5 / np.sqrt(40_000)
