"""Prompts against plain transcriptions of how they are described."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from support.pictures import disc
from training.data.draw import (
    NO_OBJECT_BOX,
    PromptConfig,
    draw_prompt,
    draw_prompts_together,
    noised_mask,
)
from training.prompts import Kind

Mask = np.ndarray[Any, np.dtype[np.float32]]

MASKS = arrays(
    np.float32, (24, 24), elements=st.sampled_from([0, 0, 0, 127.9, 128, 128.1, 200, 255])
)


def config(*kinds: Kind, **settings: Any) -> PromptConfig:
    return PromptConfig(mask_size=16, **({"kinds": kinds} if kinds else {}), **settings)


def soft_disc(radius: float = 20) -> Mask:
    return disc(64, 64, radius).astype(np.float32)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(MASKS)
def test_a_box_is_the_first_and_last_pixels_of_the_object(mask: Mask) -> None:
    inside = torch.tensor(mask) > 128
    box = draw_prompt(mask, generator(), config(Kind.BOX)).box
    if inside.any():
        y, x = torch.where(inside)
        assert box.tolist() == [int(x.min()), int(y.min()), int(x.max()), int(y.max())]
    else:
        assert box.tolist() == [0, 0, 0, 0]
    assert box.dtype == np.float32


@given(MASKS, st.integers(1, 12), st.integers(0, 100))
def test_points_are_different_pixels_of_the_object(mask: Mask, number: int, seed: int) -> None:
    prompt = draw_prompt(mask, generator(seed), config(Kind.POINT, num_points=number))
    assert prompt.points.shape == (number, 2)
    columns, rows = prompt.points.astype(int).T
    num_inside = int((mask > 128).sum())
    if num_inside:
        assert (mask[rows, columns] > 128).all()
        assert prompt.labels.tolist() == [1] * number
    if num_inside >= number:
        assert len(set(zip(columns, rows, strict=True))) == number
    if not num_inside:
        assert not prompt.points.any()
        assert prompt.labels.tolist() == [0] * number


def test_every_pixel_is_as_likely_as_the_others() -> None:
    mask = np.zeros((8, 8), np.float32)
    mask[1, 2:5] = mask[6, 1:7] = 255
    draw = generator()
    points = [
        tuple(point)
        for _ in range(2000)
        for point in draw_prompt(mask, draw, config(Kind.POINT, num_points=3)).points.tolist()
    ]
    counts = Counter(points)
    assert len(counts) == 9
    assert all(abs(count / len(points) - 1 / 9) < 0.02 for count in counts.values())


@settings(max_examples=40, deadline=None)
@given(radius=st.floats(2, 30), seed=st.integers(0, 1000), size=st.sampled_from([16, 24, 32]))
def test_a_noised_mask_is_the_mask_with_noise_along_its_edges(
    radius: float, seed: int, size: int
) -> None:
    mask = soft_disc(radius)
    low = F.interpolate(torch.tensor(mask)[None, None], (size, size), mode="bilinear") / 255
    small = F.interpolate(low, (size // 8, size // 8), mode="bilinear")
    again = F.interpolate(small, (size, size), mode="bilinear")
    edge = (low - again).abs() >= 0.01
    noise = torch.zeros_like(low)
    noise[edge] = torch.from_numpy(generator(seed).standard_normal(int(edge.sum()), np.float32))
    expected = ((low + noise) > 0.5).to(torch.uint8)[0, 0] * 255
    assert noised_mask(mask, generator(seed), size).tolist() == expected.tolist()


def test_the_kinds_are_drawn_evenly() -> None:
    draw = generator()
    counts = Counter(draw_prompt(soft_disc(), draw, config()).kind for _ in range(3000))
    assert set(counts) == set(Kind)
    assert all(abs(count / 3000 - 1 / 3) < 0.04 for count in counts.values())


def test_what_is_not_of_a_prompts_kind_is_zero() -> None:
    for kind in Kind:
        prompt = draw_prompt(soft_disc(), generator(), config(kind))
        assert prompt.kind == kind
        filled = {
            Kind.BOX: prompt.box.any(),
            Kind.POINT: prompt.points.any(),
            Kind.MASK: prompt.mask.any(),
        }
        assert [found for found, value in filled.items() if value] == [kind]
        assert prompt.labels.any() == (kind == Kind.POINT)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_small_an_object_gets_a_box_or_a_mask(count: int) -> None:
    mask = np.zeros((64, 64), np.float32)
    mask[5, :count] = 255
    draw = generator()
    kinds = Counter(draw_prompt(mask, draw, config()).kind for _ in range(200))
    assert set(kinds) == {Kind.BOX, Kind.MASK}


def test_where_there_are_only_points_their_pixels_are_repeated() -> None:
    mask = np.zeros((64, 64), np.float32)
    mask[5, 7:9] = 255
    prompt = draw_prompt(mask, generator(), config(Kind.POINT))
    assert {tuple(point) for point in prompt.points.tolist()} == {(7.0, 5.0), (8.0, 5.0)}
    assert prompt.labels.tolist() == [1] * 10


def test_an_empty_mask_as_the_public_code_has_it() -> None:
    empty = np.zeros((64, 64), np.float32)
    box = draw_prompt(empty, generator(), config(Kind.BOX, compat="public")).box
    assert box.tolist() == pytest.approx(NO_OBJECT_BOX)
    assert np.isfinite(box).all()
    assert not draw_prompt(empty, generator(), config(Kind.MASK, compat="public")).mask.any()


def test_the_public_code_gives_up_points_for_all_samples_of_a_batch() -> None:
    small = np.zeros((64, 64), np.float32)
    small[0, 0] = 255

    def kinds(*masks: Mask) -> set[Kind]:
        found = set()
        for seed in range(40):
            draws = [generator(seed + 100 * i) for i in range(len(masks))]
            prompts = draw_prompts_together(masks, draws, config(compat="public"))
            found |= {prompt.kind for prompt in prompts}
        return found

    assert kinds(soft_disc(), soft_disc()) == set(Kind)
    assert kinds(soft_disc(), small) == {Kind.BOX, Kind.MASK}
