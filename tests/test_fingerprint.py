"""Fingerprints stay what they are when a picture is copied, and differ between pictures."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pdqhash
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hqdata.fingerprint import (
    HASH_BYTES,
    ORIENTATIONS,
    Pixels,
    dihedral_hashes,
    global_hash,
    hamming,
    trim_borders,
)
from support.pictures import encode, photo

SHAPES = st.one_of(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(st.integers(1, 90), st.integers(1, 90), st.just(3)),
    st.tuples(st.integers(1, 3), st.integers(500, 900), st.just(3)),
)


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    data = np.frombuffer(encode(pixels, quality=quality), np.uint8)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


def scaled(pixels: Pixels, factor: float) -> Pixels:
    resized = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def bordered(pixels: Pixels, colour: tuple[int, int, int], **sides: int) -> Pixels:
    widths = [sides.get(side, 0) for side in ("top", "bottom", "left", "right")]
    return np.asarray(
        cv2.copyMakeBorder(pixels, *widths, cv2.BORDER_CONSTANT, value=colour), np.uint8
    )


@pytest.fixture(scope="module")
def photos(real_data: Path) -> list[Pixels]:
    paths = sorted((real_data / "coco" / "val2017").glob("*.jpg"))[:40]
    assert len(paths) == 40
    return [np.asarray(cv2.imread(str(p), cv2.IMREAD_COLOR_RGB), np.uint8) for p in paths]


@settings(max_examples=150, deadline=None)
@given(pixels=SHAPES.flatmap(lambda shape: arrays(np.uint8, shape)))
def test_any_picture_has_a_fingerprint(pixels: Pixels) -> None:
    before = pixels.copy()
    found = global_hash(pixels)
    assert (len(found.pdq), len(found.pdq_trimmed)) == (HASH_BYTES, HASH_BYTES)
    assert 0 <= found.quality <= 100
    assert global_hash(pixels) == found
    if found.quality >= 50:
        assert dihedral_hashes(pixels)[0].tobytes() == found.pdq
    x0, y0, x1, y1 = trim_borders(pixels)
    height, width = pixels.shape[:2]
    assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
    assert 2 * (x1 - x0) >= width - 1 and 2 * (y1 - y0) >= height - 1
    if (x0, y0, x1, y1) == (0, 0, width, height):
        assert found.pdq_trimmed == found.pdq
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (3, 500, 3), (500, 3), (1, 40_000), (2, 2)])
def test_the_smallest_and_the_thinnest_pictures_too(shape: tuple[int, ...]) -> None:
    for value in (0, 7, 255):
        found = global_hash(np.full(shape, value, np.uint8))
        assert found.quality == 0
        assert found.pdq_trimmed == found.pdq


def test_gray_is_the_rgb_of_three_equal_channels() -> None:
    gray = photo(1, 700, 500)[:, :, 0].copy()
    rgb = np.dstack([gray] * 3)
    assert global_hash(gray) == global_hash(rgb)
    assert trim_borders(gray) == trim_borders(rgb)
    assert np.array_equal(dihedral_hashes(gray), dihedral_hashes(rgb))


def test_a_picture_need_not_be_contiguous() -> None:
    pixels = photo(2, 300, 200)
    assert global_hash(pixels[:, ::-1]) == global_hash(np.ascontiguousarray(pixels[:, ::-1]))


HASHES = st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES)


@given(a=HASHES, b=HASHES, c=HASHES)
def test_hamming_is_a_distance(a: bytes, b: bytes, c: bytes) -> None:
    bits = np.unpackbits(np.frombuffer(a, np.uint8) ^ np.frombuffer(b, np.uint8))
    assert hamming(a, b) == bits.sum() == hamming(b, a)
    assert (hamming(a, b) == 0) == (a == b)
    assert hamming(a, c) <= hamming(a, b) + hamming(b, c)


def test_hashes_of_other_lengths_are_not_compared() -> None:
    with pytest.raises(ValueError, match="32 and 31 bytes"):
        hamming(bytes(32), bytes(31))


def test_it_is_pdq(photos: list[Pixels]) -> None:
    """As the library hashes the full picture, up to the reduction to 512 pixels."""
    full = [np.packbits(pdqhash.compute(pixels)[0]).tobytes() for pixels in photos]
    bits = [hamming(a, global_hash(pixels).pdq) for a, pixels in zip(full, photos, strict=True)]
    assert np.median(bits) <= 10 and max(bits) <= 24


def test_a_copy_is_near_and_another_picture_far(photos: list[Pixels]) -> None:
    hashes = [global_hash(pixels).pdq for pixels in photos]
    for pixels, original in zip(photos, hashes, strict=True):
        for factor, quality in ((1.0, 40), (0.5, 75), (1.7, 90)):
            assert hamming(global_hash(jpeg(scaled(pixels, factor), quality)).pdq, original) <= 31
    for a, b in itertools.combinations(hashes, 2):
        assert hamming(a, b) > 64


TURNS = {
    "as it is": lambda p: p,
    "quarter turn left": lambda p: np.rot90(p),
    "half turn": lambda p: np.rot90(p, 2),
    "quarter turn right": lambda p: np.rot90(p, 3),
    "mirrored top to bottom": lambda p: p[::-1],
    "mirrored": lambda p: p[:, ::-1],
    "mirrored, then quarter turn left": lambda p: np.rot90(p[:, ::-1]),
    "mirrored, then quarter turn right": lambda p: np.rot90(p[:, ::-1], 3),
}


@pytest.mark.parametrize("number", range(8), ids=ORIENTATIONS)
def test_each_row_is_of_the_picture_turned_so(photos: list[Pixels], number: int) -> None:
    assert len(ORIENTATIONS) == len(TURNS) == len(set(ORIENTATIONS)) == 8
    for pixels in photos[:12]:
        turned = global_hash(np.ascontiguousarray(TURNS[ORIENTATIONS[number]](pixels))).pdq
        bits = [hamming(turned, row.tobytes()) for row in dihedral_hashes(pixels)]
        assert int(np.argmin(bits)) == number
        assert bits[number] <= 31


BORDERS = {
    "letterbox": {"top": 60, "bottom": 60},
    "pillarbox": {"left": 70, "right": 70},
    "frame": {"top": 40, "bottom": 40, "left": 40, "right": 40},
    "one strip": {"top": 50},
}


@pytest.mark.parametrize("kind", BORDERS)
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (128, 128, 128)])
def test_borders_are_trimmed(photos: list[Pixels], kind: str, colour: tuple[int, int, int]) -> None:
    """At least nine of ten, of pictures that were re-encoded and resized with the border on."""
    found = 0
    for pixels in photos:
        original = global_hash(pixels)
        framed = jpeg(scaled(jpeg(bordered(pixels, colour, **BORDERS[kind]), 80), 0.7), 75)
        copy = global_hash(framed)
        bits = [
            hamming(a, b)
            for a in (original.pdq, original.pdq_trimmed)
            for b in (copy.pdq, copy.pdq_trimmed)
        ]
        found += min(bits) <= 31
    assert found >= 36


def test_the_trimmed_box_is_that_of_the_picture_inside() -> None:
    inside = photo(3, 800, 600)
    framed = jpeg(bordered(inside, (0, 0, 0), top=90, bottom=90, left=50, right=70), 70)
    found = np.array(trim_borders(framed))
    assert np.abs(found - (50, 90, 850, 690)).max() <= 4  # two pixels of 512, of 920


def test_few_photographs_have_borders(photos: list[Pixels]) -> None:
    whole = [trim_borders(p) == (0, 0, p.shape[1], p.shape[0]) for p in photos]
    assert sum(whole) >= 32


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_picture_of_one_colour_is_not_trimmed(value: int) -> None:
    noise = np.random.default_rng(0).integers(-3, 4, (300, 400, 3))
    plain = np.clip(value + noise, 0, 255).astype(np.uint8)
    assert trim_borders(plain) == (0, 0, 400, 300)


def test_half_of_a_side_is_kept_where_borders_take_more() -> None:
    small = bordered(photo(4, 100, 300), (255, 255, 255), left=300, right=100)
    x0, y0, x1, y1 = trim_borders(small)
    assert (y0, y1) == (0, 300)
    assert 248 <= x1 - x0 <= 254
    assert x0 / (500 - x1) == pytest.approx(3, rel=0.05)  # in proportion to the two borders


def test_a_background_that_fades_is_no_border() -> None:
    fading = np.repeat(np.linspace(40, 250, 512).astype(np.uint8)[:, None], 400, axis=1)
    assert trim_borders(fading) == (0, 0, 400, 512)


def studio(texture: Pixels, seed: int) -> Pixels:
    """A thing with the texture in the middle of a white ground with a little noise."""
    rng = np.random.default_rng(seed)
    canvas = np.clip(rng.normal(250, 1.5, (400, 300, 3)), 0, 255)
    y, x = np.mgrid[:400, :300]
    a, b = rng.uniform(60, 100), rng.uniform(80, 150)
    thing = ((x - 150) / a) ** 2 + ((y - 200) / b) ** 2 < 1
    canvas[thing] = cv2.resize(texture, (300, 400))[thing]
    return canvas.astype(np.uint8)


def test_a_white_ground_is_trimmed_alike_in_copies(photos: list[Pixels]) -> None:
    """To a line or two: of a thing of 110 pixels, one line is as much as PDQ notices."""
    bits = []
    for seed, texture in enumerate(photos):
        pixels = studio(texture, seed)
        original, box = global_hash(pixels), np.array(trim_borders(pixels))
        assert tuple(box) != (0, 0, 300, 400)
        for factor, quality in ((1.0, 50), (0.6, 80), (1.5, 90)):
            copy = jpeg(scaled(pixels, factor), quality)
            assert np.abs(np.array(trim_borders(copy)) / factor - box).max() <= 8
            bits.append(hamming(global_hash(copy).pdq_trimmed, original.pdq_trimmed))
    assert np.median(bits) <= 20 and max(bits) <= 64
