"""The randomness of a sample: the same for whoever loads it, and no two alike."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from training.data.seeds import sample_generator, sample_seed

SEEDS = st.integers(0, 2**63)
EPOCHS = st.integers(0, 1000)
KEYS = st.text(min_size=1)


@given(SEEDS, EPOCHS, KEYS)
def test_the_same_sample_draws_the_same_numbers(seed: int, epoch: int, key: str) -> None:
    first, second = (sample_generator(seed, epoch, key) for _ in range(2))
    assert first.random(4).tolist() == second.random(4).tolist()
    assert sample_seed(seed, epoch, key) == sample_seed(seed, epoch, key)


@given(st.sets(st.tuples(SEEDS, EPOCHS, KEYS), min_size=2, max_size=20))
def test_another_seed_epoch_or_key_draws_others(samples: set[tuple[int, int, str]]) -> None:
    drawn = {tuple(sample_generator(*sample).random(2).tolist()) for sample in samples}
    seeds = {sample_seed(*sample) for sample in samples}
    assert len(drawn) == len(seeds) == len(samples)


@given(SEEDS, EPOCHS, KEYS)
def test_a_seed_fits_in_64_bits(seed: int, epoch: int, key: str) -> None:
    assert -(2**63) <= sample_seed(seed, epoch, key) < 2**63


def test_the_numbers_are_those_of_earlier_versions() -> None:
    assert sample_seed(42, 3, "dis-a") == 6_926_610_463_826_521_332
    assert sample_generator(42, 3, "dis-a").bit_generator.random_raw() == 11_448_713_202_951_746_815
