"""Flip and large-scale jitter against a plain transcription with torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from support.pictures import disc, photo
from training.data import augment as module
from training.data.augment import (
    MAX_DRAWS,
    Jitter,
    JitterConfig,
    apply,
    augment,
    draw_jitter,
    scaled_size,
)
from training.data.decode import Picture

SIDES = st.integers(8, 90)


def transcribed(
    image: np.ndarray[Any, Any], mask: np.ndarray[Any, Any], jitter: Jitter, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The whole picture flipped, resized, cropped, padded; image and mask in float32, HWC."""
    results = []
    for array, value in ((image, 128.0), (mask[:, :, None], 0.0)):
        whole = torch.tensor(array).permute(2, 0, 1).float()
        if jitter.flipped:
            whole = whole.flip(-1)
        scaled = F.interpolate(whole[None], (jitter.height, jitter.width), mode="bilinear")[0]
        top, left = jitter.top, jitter.left
        crop = scaled[:, top : top + size, left : left + size]
        pad = [0, size - crop.shape[2], 0, size - crop.shape[1]]
        results.append(F.pad(crop, pad, value=value).permute(1, 2, 0))
    return results[0], results[1][:, :, 0]


def assert_equal(
    image: np.ndarray[Any, Any], mask: np.ndarray[Any, Any], jitter: Jitter, size: int
) -> float:
    """Returns the share of equal values; others must be a hair's breadth from a whole number.

    Two roundings of float32 may fall on either side of it, and are then cut to its neighbours.
    """
    ours, our_mask = apply(image, mask, jitter, size)
    theirs, their_mask = transcribed(image, mask, jitter, size)
    difference = np.abs(ours.astype(int) - theirs.to(torch.uint8).numpy().astype(int))
    assert difference.max() <= 1
    unequal = theirs.numpy()[difference > 0]
    assert (np.abs(unequal - np.round(unequal)) < 0.01).all()
    assert np.abs(our_mask - their_mask.numpy()).max() < 0.01
    return float((difference == 0).mean())


@settings(max_examples=60, deadline=None)
@given(height=SIDES, width=SIDES, seed=st.integers(0, 2**32), size=st.sampled_from([32, 64]))
def test_it_equals_torch_for_every_jitter(height: int, width: int, seed: int, size: int) -> None:
    image, mask = photo(seed, width, height), disc(width, height, min(height, width) / 3)
    generator = np.random.default_rng(seed)
    assert_equal(
        image, mask, draw_jitter(generator, (height, width), JitterConfig(size=size)), size
    )


@pytest.mark.parametrize("scale", [0.13, 0.6, 1.0, 1.37, 1.99])
@pytest.mark.parametrize("flipped", [False, True])
def test_it_equals_torch_at_full_size(scale: float, flipped: bool) -> None:
    image, mask = photo(1, 400, 300), disc(400, 300, 90)
    height, width = scaled_size((300, 400), round(scale * 1024))
    top, left = max(0, height - 1024) // 3, max(0, width - 1024) // 2
    jitter = Jitter(flipped, height, width, top, left)
    assert assert_equal(image, mask, jitter, 1024) > 0.999


def test_a_picture_of_one_colour_keeps_it() -> None:
    for value in (0, 1, 127, 254, 255):
        image, mask = np.full((40, 30, 3), value, np.uint8), np.full((40, 30), value, np.uint8)
        new, new_mask = apply(image, mask, Jitter(False, 80, 60, 11, 3), 50)
        assert set(new.ravel()) == {value}
        assert set(new_mask.ravel()) == {np.float32(value)}


def test_what_lies_beside_the_picture_is_gray_and_no_object() -> None:
    white = np.full((20, 10, 3), 255, np.uint8)
    image, mask = apply(white, white[:, :, 0], Jitter(True, 40, 20), 64)
    assert (image[:40, :20] == 255).all()
    assert (mask[:40, :20] == 255).all()
    for outside in (image[40:], image[:, 20:]):
        assert set(outside.ravel()) == {128}
    assert not mask[40:].any()
    assert not mask[:, 20:].any()


def test_small_strips_make_the_same_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    image, mask = photo(2, 333, 222), disc(333, 222, 70)
    jitter = Jitter(True, 150, 225, 9, 31)
    whole, whole_mask = apply(image, mask, jitter, 128)
    monkeypatch.setattr(module, "_BLOCK_PIXELS", 2000)
    monkeypatch.setattr(module, "_STRIP_ROWS", 7)
    strips, strips_mask = apply(image, mask, jitter, 128)
    assert (whole != strips).mean() < 1e-2
    assert np.abs(whole.astype(int) - strips).max() <= 1
    assert np.abs(whole_mask - strips_mask).max() < 0.01


@given(
    size=st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
    scale=st.floats(0.125, 2.0, width=32),
    side=st.sampled_from([256, 1024]),
)
def test_the_scaled_size_is_that_of_the_rule_in_tensors(
    size: tuple[int, int], scale: float, side: int
) -> None:
    target = (torch.tensor(scale) * torch.tensor(side)).round()
    sizes = torch.tensor(size)
    factor = torch.minimum(target / sizes[0], target / sizes[1])
    expected = (sizes * factor).round().long().clamp(min=1).tolist()
    assert list(scaled_size(size, int(target))) == expected


def test_jitter_is_drawn_as_it_should_be() -> None:
    config = JitterConfig(size=64)
    generator = np.random.default_rng(0)
    drawn = [draw_jitter(generator, (50, 100), config) for _ in range(4000)]
    assert np.mean([j.flipped for j in drawn]) == pytest.approx(0.5, abs=0.03)
    widths = np.array([j.width for j in drawn]) / 64
    assert np.quantile(widths, [0, 0.25, 0.5, 0.75, 1]) == pytest.approx(
        [0.1, 0.575, 1.05, 1.525, 2.0], abs=0.06
    )
    for jitter in drawn:
        assert jitter.height == pytest.approx(jitter.width / 2, abs=0.51)
        assert 0 <= jitter.left <= max(0, jitter.width - 64)
        assert jitter.top == 0
    largest = [j.left / (j.width - 64) for j in drawn if j.width > 74]
    assert np.mean(largest) == pytest.approx(0.5, abs=0.03)
    assert {0.0, 1.0} <= set(largest)  # both margins


def test_flip_and_scales_can_be_set() -> None:
    config = JitterConfig(size=64, flip=0.0, scale_min=1.0, scale_max=1.0)
    generator = np.random.default_rng(0)
    assert {draw_jitter(generator, (64, 64), config) for _ in range(50)} == {Jitter(False, 64, 64)}


def corner() -> Picture:
    """A picture whose object is small and in a corner."""
    mask = np.zeros((60, 60), np.uint8)
    mask[:9, :9] = 255
    return Picture(photo(3, 60, 60), mask)


def rendered(
    picture: Picture, seed: int, **settings: Any
) -> tuple[Jitter, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    image, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.float32)
    config = JitterConfig(size=64, **settings)
    return augment(picture, np.random.default_rng(seed), config, image, mask), image, mask


def test_a_crop_that_lost_its_object_is_drawn_again() -> None:
    redrawn = 0
    for seed in range(60):
        jitter, image, mask = rendered(corner(), seed)
        first = draw_jitter(np.random.default_rng(seed), (60, 60), JitterConfig(size=64))
        assert mask.max() > 128
        expected = apply(corner().image, corner().mask, jitter, 64)
        assert (image == expected[0]).all()
        assert (mask == expected[1]).all()
        if jitter != first:
            redrawn += 1
            assert apply(corner().image, corner().mask, first, 64)[1].max() <= 128
    assert redrawn > 5


def test_the_public_code_trains_on_it() -> None:
    lost = 0
    for seed in range(60):
        jitter, _, mask = rendered(corner(), seed, compat="public")
        assert jitter == draw_jitter(np.random.default_rng(seed), (60, 60), JitterConfig(size=64))
        lost += mask.max() <= 128
    assert lost > 5


def test_in_the_end_the_whole_picture_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Picture(photo(4, 80, 40), np.zeros((40, 80), np.uint8))
    draws: list[Jitter] = []

    def counted(draw: Callable[..., Jitter]) -> Callable[..., Jitter]:
        def wrapper(*arguments: Any) -> Jitter:
            draws.append(draw(*arguments))
            return draws[-1]

        return wrapper

    monkeypatch.setattr(module, "draw_jitter", counted(draw_jitter))
    jitter, _, mask = rendered(nothing, 0)
    assert len(draws) == MAX_DRAWS
    assert (jitter.height, jitter.width, jitter.top, jitter.left) == (32, 64, 0, 0)
    assert not mask.any()
