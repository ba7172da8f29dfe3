"""IoU and Boundary IoU, beside erosions done one after the other."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from training.metrics import boundary, boundary_iou, boundary_width, eroded, iou

Mask = NDArray[np.bool_]


def eroded_step_by_step(mask: Mask, times: int) -> Mask:
    """3×3 erosions one after the other, by looking at all nine pixels."""
    height, width = mask.shape
    for _ in range(times):
        ringed = np.zeros((height + 2, width + 2), bool)
        ringed[1:-1, 1:-1] = mask
        mask = np.ones((height, width), bool)
        for dy in range(3):
            for dx in range(3):
                mask &= ringed[dy : dy + height, dx : dx + width]
    return mask


MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)).flatmap(
    # Random pixels never survive an erosion: blown up, some of them do.
    lambda mask: st.integers(1, 5).map(lambda k: mask.repeat(k, axis=0).repeat(k, axis=1))
)


@given(MASKS, st.integers(1, 12))
def test_one_erosion_by_a_large_square_equals_many_by_a_small_one(mask: Mask, width: int) -> None:
    expected = eroded_step_by_step(mask, width)
    assert np.array_equal(eroded(mask, width), expected)
    assert np.array_equal(boundary(mask, width), mask & ~expected)


def test_an_erosion_leaves_its_input_and_takes_any_layout() -> None:
    mask = np.ones((9, 14), bool)
    view = np.asfortranarray(mask)[::2, ::2]
    assert np.array_equal(eroded(view, 1), eroded_step_by_step(view, 1))
    assert mask.all()


def test_a_full_picture_has_its_frame_as_boundary() -> None:
    edge = boundary(np.ones((10, 12), bool), 2)
    assert edge.sum() == 10 * 12 - 6 * 8
    assert not edge[2:-2, 2:-2].any()


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (1, 1, 1),  # never less than one pixel
        (30, 40, 1),
        (300, 400, 10),
        (3000, 4000, 100),
        (15, 20, 1),  # 0.5 would be rounded to 0
        (45, 60, 2),  # 1.5 to the even neighbour
        (75, 100, 2),  # 2.5 too
        (105, 140, 4),  # 3.5 too
    ],
)
def test_the_boundary_is_two_percent_of_the_diagonal(
    height: int, width: int, expected: int
) -> None:
    assert boundary_width(height, width) == expected


@given(MASKS, st.randoms(use_true_random=False))
def test_iou_counts_pixels(mask: Mask, random: object) -> None:
    other = np.roll(mask, 1, axis=1)
    pairs = list(zip(mask.ravel().tolist(), other.ravel().tolist(), strict=True))
    either = sum(a or b for a, b in pairs)
    both = sum(a and b for a, b in pairs)
    assert iou(mask, other) == (both / either if either else 1.0)
    assert iou(mask, other) == iou(other, mask)
    assert iou(mask, mask) == 1.0


def test_two_empty_masks_agree_and_an_empty_one_misses_everything() -> None:
    empty, disc = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    disc[2:6, 2:6] = True
    assert iou(empty, empty) == boundary_iou(empty, empty) == 1.0
    assert iou(empty, disc) == boundary_iou(disc, empty) == 0.0


def test_masks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        iou(np.zeros((1, 4), bool), np.zeros((4, 4), bool))


def test_boundary_iou_sees_an_edge_that_iou_hardly_does() -> None:
    truth = np.zeros((300, 400), bool)
    truth[50:250, 50:350] = True
    shifted = np.roll(truth, 5, axis=0)
    d = boundary_width(300, 400)
    edges = [mask & ~eroded_step_by_step(mask, d) for mask in (shifted, truth)]
    assert boundary_iou(shifted, truth) == iou(*edges)
    assert boundary_iou(shifted, truth) < 0.8 < 0.94 < iou(shifted, truth)


def test_a_large_mask_takes_no_longer_than_opencv_s_own_erosion() -> None:
    """The fastest of a few runs each, in one thread: 20 ms against 45 for twelve megapixels."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(40, 50)).astype(np.float32)
    mask = cv2.resize(noise, (2000, 1500), interpolation=cv2.INTER_CUBIC) > 0
    d = boundary_width(*mask.shape)
    kernel = np.ones((2 * d + 1, 2 * d + 1), np.uint8)

    def plain() -> Mask:
        pixels = mask.view(np.uint8)
        border = {"borderType": cv2.BORDER_CONSTANT, "borderValue": (0,)}
        return np.asarray(cv2.erode(pixels, kernel, **border), np.uint8).view(bool)  # type: ignore[call-overload]

    def fastest(function: object, *arguments: object) -> float:
        times = []
        for _ in range(5):
            began = time.perf_counter()
            function(*arguments)  # type: ignore[operator]
            times.append(time.perf_counter() - began)
        return min(times)

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        assert np.array_equal(eroded(mask, d), plain())
        assert fastest(eroded, mask, d) < 1.5 * fastest(plain)
    finally:
        cv2.setNumThreads(threads)
