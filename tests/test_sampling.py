"""The order that a sample is taken in: fixed for ever, and fair."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqdata.sampling import Choice, image_hash, mask_hash, num_to_keep


def test_the_hashes_are_those_that_anybody_can_compute() -> None:
    """Another value here would be another data set under the same recipe."""
    assert image_hash(44320, 226692) == int(hashlib.sha256(b"44320:226692").hexdigest()[:16], 16)
    assert mask_hash(7, 1, 523353737) == int(hashlib.sha256(b"7:1:523353737").hexdigest()[:16], 16)
    assert image_hash(0, 1) == 0xEF134F2A180BA05D


@given(st.integers(0, 2**63), st.integers(0, 2**63), st.integers(0, 2**63))
def test_hashes_have_64_bits(seed: int, image_id: int, annotation_id: int) -> None:
    assert 0 <= image_hash(seed, image_id) < 2**64
    assert 0 <= mask_hash(seed, image_id, annotation_id) < 2**64


def test_another_seed_is_another_order() -> None:
    orders = [sorted(range(100), key=lambda i, s=seed: image_hash(s, i)) for seed in range(5)]
    assert len({tuple(order) for order in orders}) == 5


def test_every_picture_is_as_likely_as_any_other() -> None:
    """Of a thousand pictures in ten archives, each archive has its share of the first hundred."""
    shares = [0] * 10
    for seed in range(100):
        for image_id in sorted(range(1_000), key=lambda i: image_hash(seed, i))[:100]:
            shares[image_id // 100] += 1
    # 1,000 expected, with a standard deviation of about 30.
    assert all(850 < share < 1_150 for share in shares), shares


def test_what_an_archive_lists_leaves_room_for_chance() -> None:
    assert num_to_keep(0) == 8
    assert num_to_keep(44.32) == 79
    assert num_to_keep(11_186) == 11_618
    assert all(num_to_keep(share) >= share + 8 for share in (0.1, 1, 10, 1e4))


def test_a_choice_as_plain_values() -> None:
    choice = Choice(seed=1, masks=0, min_predicted_iou=0)
    assert choice.to_dict() == {
        "seed": 1,
        "masks": 0,
        "min_predicted_iou": 0.0,
        "min_stability_score": 0.0,
        "min_area_fraction": 0.0,
        "max_area_fraction": 1.0,
    }
    assert str(choice.to_dict()) == str(Choice(seed=1, masks=0).to_dict())


def test_a_choice_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Choice(seed=1).seed = 2  # type: ignore[misc]
