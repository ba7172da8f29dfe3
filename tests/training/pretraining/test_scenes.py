"""Scenes to pretrain on: functions of (seed, index), whole, varied, and fast enough."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.pretraining.coarse import coarsened
from training.pretraining.scenes import draw_scene, scene_generator
from training.pretraining.textures import clouds, surface

SIDE = 128


def test_a_scene_is_a_function_of_seed_and_index() -> None:
    one = draw_scene(scene_generator(3, 5), SIDE)
    draw_scene(scene_generator(3, 6), SIDE)
    np.random.default_rng(0).random()
    again = draw_scene(scene_generator(3, 5), SIDE)
    assert np.array_equal(one.image, again.image)
    assert np.array_equal(one.masks, again.masks)
    assert not np.array_equal(one.image, draw_scene(scene_generator(3, 6), SIDE).image)
    assert not np.array_equal(one.image, draw_scene(scene_generator(4, 5), SIDE).image)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**63), index=st.integers(0, 2**62))
def test_a_scene_has_things_that_do_not_hide_one_another_twice(seed: int, index: int) -> None:
    scene = draw_scene(scene_generator(seed, index), SIDE)
    assert scene.image.shape == (SIDE, SIDE, 3)
    assert scene.image.dtype == scene.masks.dtype == np.uint8
    assert scene.masks.shape[1:] == (SIDE, SIDE)
    assert len(scene.masks) >= 1
    assert all((mask > 128).sum() >= 10 for mask in scene.masks)
    # What is seen of two things adds up to at most a whole pixel, but for rounding.
    assert int(scene.masks.astype(int).sum(0).max()) <= 255 + len(scene.masks)


def test_scenes_differ_in_their_number_of_things() -> None:
    numbers = {len(draw_scene(scene_generator(0, index), SIDE).masks) for index in range(40)}
    assert len(numbers) >= 4


def test_a_thing_can_be_told_from_what_is_around_it() -> None:
    """In most scenes the colours inside and just outside the largest thing differ."""
    apart = []
    for index in range(30):
        scene = draw_scene(scene_generator(1, index), SIDE)
        mask = max(scene.masks, key=lambda m: int((m > 128).sum())) > 128
        around = cv2.dilate(mask.view(np.uint8), np.ones((15, 15), np.uint8)).astype(bool) & ~mask
        if around.any():
            gap = scene.image[mask].mean(0) - scene.image[around].mean(0)
            apart.append(np.abs(gap).max())
    assert np.median(apart) > 12


def test_noise_has_a_mean_of_zero_and_a_deviation_of_one() -> None:
    values = [
        clouds(np.random.default_rng(k), 96, 128, cell=24, octaves=4, fall=0.6) for k in range(30)
    ]
    assert values[0].shape == (96, 128)
    assert abs(np.mean(values)) < 0.15
    assert 0.7 < np.std(values) < 1.4


def test_a_surface_keeps_near_its_colour() -> None:
    base = np.array([200, 40, 90], np.float32)
    means = [
        surface(np.random.default_rng(k), 40, 50, base, size=50).mean((0, 1)) for k in range(30)
    ]
    assert np.abs(np.median(means, axis=0) - base).max() < 25


class TestCoarse:
    @pytest.mark.parametrize("seed", range(5))
    def test_hairs_are_lost_and_thin_parts_stay(self, seed: int) -> None:
        mask = np.zeros((256, 256), np.uint8)
        cv2.circle(mask, (128, 150), 60, 255, -1)
        mask[5:90, 100] = 255  # an antenna
        mask[5:90, 150:154] = 255  # a stalk
        coarse = coarsened(mask, np.random.default_rng(seed))
        assert not coarse[:70, :130].any()
        assert 4 <= (coarse[50] == 255).sum() <= 6
        assert coarse[150, 128] == 255

    @pytest.mark.parametrize("seed", range(5))
    def test_narrow_gaps_are_filled_and_wide_ones_stay(self, seed: int) -> None:
        mask = np.zeros((256, 256), np.uint8)
        mask[60:200, 60:90] = mask[60:200, 94:120] = mask[60:200, 150:180] = 255
        coarse = coarsened(mask, np.random.default_rng(seed))
        assert (coarse[80:180, 92] == 255).all()
        assert not coarse[80:180, 130:140].any()

    def test_small_holes_are_filled_and_large_ones_stay(self) -> None:
        mask = np.zeros((256, 256), np.uint8)
        cv2.circle(mask, (128, 128), 100, 255, -1)
        cv2.circle(mask, (80, 128), 3, 0, -1)
        cv2.circle(mask, (150, 128), 45, 0, -1)
        coarse = coarsened(mask, np.random.default_rng(0))
        assert coarse[128, 80] == 255
        assert coarse[128, 150] == 0

    def test_a_lattice_is_filled_rather_than_lost(self) -> None:
        mask = np.zeros((256, 256), np.uint8)
        for at in range(40, 220, 8):
            cv2.line(mask, (at, 40), (at, 216), 255, 2)
            cv2.line(mask, (40, at), (216, at), 255, 2)
        coarse = coarsened(mask, np.random.default_rng(0))
        assert (coarse[48:208, 48:208] == 255).mean() > 0.95

    def test_a_part_within_a_hole_stays(self) -> None:
        mask = np.zeros((256, 256), np.uint8)
        cv2.circle(mask, (128, 128), 110, 255, 20)  # a rim
        cv2.circle(mask, (128, 128), 45, 255, -1)  # and a hub
        coarse = coarsened(mask, np.random.default_rng(0))
        assert coarse[128, 128] == 255
        assert coarse[128, 200] == 0
        assert coarse[128, 238] == 255

    def test_islands_are_dropped(self) -> None:
        mask = np.zeros((256, 256), np.uint8)
        cv2.circle(mask, (100, 128), 60, 255, -1)
        cv2.circle(mask, (230, 30), 9, 255, -1)
        assert not coarsened(mask, np.random.default_rng(0))[:60, 200:].any()

    @pytest.mark.parametrize("size", [(256, 256), (100, 300), (33, 21)])
    def test_what_there_is_stays_and_nothing_comes_of_nothing(self, size: tuple[int, int]) -> None:
        empty = np.zeros(size, np.uint8)
        assert not coarsened(empty, np.random.default_rng(0)).any()
        empty[size[0] // 2, size[1] // 2] = 255
        dot = coarsened(empty, np.random.default_rng(0))
        assert dot.any()
        assert dot.shape == size
        assert set(np.unique(dot)) <= {0, 255}


def test_drawing_is_no_bottleneck() -> None:
    """A step of training takes a fifth of a second a picture on one core; drawing a tenth of it."""
    draw_scene(scene_generator(0, 0), 256)
    start = time.process_time()
    for index in range(10):
        draw_scene(scene_generator(0, index), 256)
    assert (time.process_time() - start) / 10 < 0.1
