"""COCO's compressed run lengths: as pycocotools reads them, and refused before they do harm."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco

from hqdata import rle
from hqdata.rle import RleError
from support.sa1b import compressed, written

Mask = NDArray[np.uint8]


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    """Noise, stripes, blocks, nothing and everything, of any shape."""
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    seed = draw(st.integers(0, 2**32 - 1))
    share = draw(st.sampled_from((0.0, 0.01, 0.3, 0.9, 1.0)))
    grain = draw(st.integers(1, 9))
    small = np.random.default_rng(seed).random((-(-height // grain), -(-width // grain))) < share
    large = np.kron(small, np.ones((grain, grain), bool))[:height, :width]
    return np.ascontiguousarray(large, dtype=np.uint8)


def peer_counts(mask: Mask) -> bytes:
    counts: bytes = coco.encode(np.asfortranarray(mask))["counts"]
    return counts


@given(masks())
def test_masks_are_read_as_pycocotools_writes_them(mask: Mask) -> None:
    height, width = mask.shape
    counts = peer_counts(mask)
    decoded = rle.decode(counts, height, width)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, mask * 255)
    runs = rle.run_lengths(counts, height, width)
    assert rle.area(runs) == mask.sum() == coco.area({"size": [height, width], "counts": counts})
    assert runs.dtype == np.int64
    np.testing.assert_array_equal(rle.decode(counts.decode(), height, width), decoded)


@given(masks())
def test_the_tests_write_them_as_pycocotools_does(mask: Mask) -> None:
    assert compressed(mask).encode() == peer_counts(mask)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from((0.02, 0.5)))
def test_many_runs_are_drawn_like_few(seed: int, share: float) -> None:
    mask = (np.random.default_rng(seed).random((150, 210)) < share).astype(np.uint8)
    np.testing.assert_array_equal(rle.decode(peer_counts(mask), 150, 210), mask * 255)


@given(st.lists(st.integers(0, 2**29), min_size=1, max_size=40))
def test_runs_of_any_length_come_back(runs: list[int]) -> None:
    total = sum(runs)
    if 1 <= total <= rle.MAX_PIXELS and len(runs) <= total + 1:
        assert rle.run_lengths(written(runs), 1, total).tolist() == runs


@given(st.text("0123456789:;<=>?@ABCNOPQRUZ`abcmno", max_size=40), st.integers(1, 99))
def test_what_is_not_refused_is_a_mask_and_pycocotools_agrees(text: str, side: int) -> None:
    try:
        runs = rle.run_lengths(text, side, side)
    except RleError:
        return
    assert runs.min() >= 0
    assert runs.sum() == side * side
    peer = coco.decode({"size": [side, side], "counts": text.encode()})
    np.testing.assert_array_equal(rle.decode(text, side, side), peer * 255)


@given(st.binary(max_size=60), st.integers(1, 50), st.integers(1, 50))
def test_no_bytes_raise_anything_else(data: bytes, height: int, width: int) -> None:
    for counts in (data, data.decode("latin-1")):
        with suppress(RleError):
            assert rle.decode(counts, height, width).shape == (height, width)


@pytest.mark.parametrize(
    ("counts", "height", "width", "said"),
    [
        ("", 2, 2, "empty"),
        ("4", 2, 3, "4 pixels where 2 x 3 are 6"),  # too few
        ("8", 2, 3, "longer than the whole mask"),  # too many
        ("33", 2, 2, "6 pixels"),  # too many in two
        ("1N5", 3, 3, "below zero"),  # a negative run
        ("11110", 2, 2, "6 pixels"),  # the fourth is a difference
        ("T", 2, 2, "middle of a number"),
        ("4 ", 2, 2, "character ' '"),
        ("4p", 2, 2, "character 'p'"),
        ("4é", 2, 2, "character 'é'"),
        ("P" * 7 + "0", 2, 2, "8 characters is longer"),  # a number without end
        ("0" * 6, 2, 2, "6 runs are more"),
        ("0" * 99, 2, 2, "99 characters are more"),
        ("oooooo3", 30, 30, "longer than the whole mask"),
        ("1", 0, 5, "no pixels"),
        ("1", 5, -1, "no pixels"),
        ("1", 2**20, 2**20, "more than the limit"),
    ],
)
def test_malformed_ones_are_refused(counts: str, height: int, width: int, said: str) -> None:
    with pytest.raises(RleError, match=said):
        rle.decode(counts, height, width)


def test_differences_that_overflow_are_refused() -> None:
    """Each within bounds, their sum far beyond: it may not wrap around to something that fits."""
    largest = written([rle.MAX_PIXELS])
    with pytest.raises(RleError, match="more pixels"):
        rle.run_lengths("0" + largest * 40, 2**15, 2**15)


def test_memory_is_taken_for_pixels_only_when_all_is_checked() -> None:
    tracemalloc.start()
    with pytest.raises(RleError):
        rle.decode("0", 2**15, 2**15)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_mask_wider_than_opencv_turns_is_drawn_too() -> None:
    mask = np.zeros((3, 40_000), np.uint8)
    mask[1, 5:39_990] = 1
    np.testing.assert_array_equal(rle.decode(peer_counts(mask), 3, 40_000), mask * 255)


def test_a_full_mask_and_an_empty_one() -> None:
    assert rle.decode(written([0, 12]), 3, 4).tolist() == [[255] * 4] * 3
    assert rle.decode(written([12]), 3, 4).tolist() == [[0] * 4] * 3


def real_annotations(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted((folder / "sa1b/annotations_real_fragments").glob("*.json")):
        found += json.loads(path.read_bytes())["annotations"]
    return found


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools with numpy 2
def test_the_real_annotations_are_read_as_pycocotools_reads_them(real_data: Path) -> None:
    found = real_annotations(real_data)
    assert len(found) == 9
    for annotation in found:
        height, width = annotation["segmentation"]["size"]
        counts = annotation["segmentation"]["counts"]
        mask = rle.decode(counts, height, width)
        peer = coco.decode({"size": [height, width], "counts": counts.encode()})
        np.testing.assert_array_equal(mask, peer * 255)
        assert rle.area(rle.run_lengths(counts, height, width)) == annotation["area"]
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        x, y, w, h = annotation["bbox"]
        # SA-1B's width and height are one less than the number of pixels.
        assert (columns[0], rows[0]) == (x, y)
        assert (columns[-1] - columns[0], rows[-1] - rows[0]) == (w, h)
        assert written(rle.run_lengths(counts, height, width).tolist()) == counts
