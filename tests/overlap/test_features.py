"""Local features: what is kept of a picture, and what survives packing and mirroring."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hqdata.overlap import features as module
from hqdata.overlap.features import (
    Bytes,
    LocalFeatures,
    binarise,
    extract,
    extract_evaluation,
    extract_train,
    mirrored,
    to_gray,
)
from support.pictures import photo
from support.real import photographs

CODES = arrays(np.uint8, st.tuples(st.integers(0, 20), st.just(32)))


@pytest.fixture(scope="module")
def photos(real_data: Path) -> tuple[Bytes, ...]:
    return photographs(real_data / "photos", 5) + photographs(real_data / "coco/val2017", 5)


def same(a: LocalFeatures, b: LocalFeatures) -> bool:
    return np.array_equal(a.codes, b.codes) and np.array_equal(a.frames, b.frames)


def bits(a: Bytes, b: Bytes) -> np.ndarray:
    """Differing bits of every pair of codes, (len(a), len(b))."""
    return np.asarray(np.unpackbits(a[:, None] ^ b[None], axis=2).sum(axis=2, dtype=int))


class TestExtraction:
    def test_shapes_and_ranges(self, photos: tuple[Bytes, ...]) -> None:
        for picture in photos:
            found = extract_train(picture)
            height, width = picture.shape[:2]
            assert found.codes.shape == (len(found), 32)
            assert found.codes.dtype == np.uint8
            assert found.frames.shape == (len(found), 4)
            assert found.frames.dtype == np.float32
            x, y, diameter, angle = found.frames.T
            assert ((x >= -0.5) & (x < width)).all()
            assert ((y >= -0.5) & (y < height)).all()
            assert ((diameter > 0) & (diameter < max(height, width))).all()
            assert ((angle >= 0) & (angle <= 2 * np.pi)).all()

    def test_a_photograph_gives_as_many_as_asked_for_or_nearly(
        self, photos: tuple[Bytes, ...]
    ) -> None:
        numbers = [len(extract_train(picture)) for picture in photos]
        assert max(numbers) == module.TRAIN_NUMBER
        assert np.median(numbers) > 0.9 * module.TRAIN_NUMBER

    @pytest.mark.parametrize("number", [1, 2, 17, 300])
    def test_never_more_than_asked_for(self, photos: tuple[Bytes, ...], number: int) -> None:
        for picture in photos[::4]:
            assert 0 < len(extract(picture, max_side=480, number=number)) <= number

    def test_training_and_evaluation_keep_their_own_numbers(self) -> None:
        busy = np.random.default_rng(0).integers(0, 256, (700, 700), dtype=np.uint8)
        assert len(extract_train(busy)) == module.TRAIN_NUMBER
        assert len(extract_evaluation(busy)) == module.EVALUATION_NUMBER

    def test_the_same_picture_gives_the_same_features(self, photos: tuple[Bytes, ...]) -> None:
        first = [extract_train(picture) for picture in photos[:4]]
        again = [extract_train(picture.copy()) for picture in reversed(photos[:4])][::-1]
        assert all(map(same, first, again))

    def test_colour_does_not_matter(self, photos: tuple[Bytes, ...]) -> None:
        gray = cv2.cvtColor(photos[0], cv2.COLOR_RGB2GRAY)
        assert same(extract_train(photos[0]), extract_train(np.asarray(gray, np.uint8)))

    def test_the_picture_is_left_alone(self) -> None:
        picture = photo(3, 200, 150)
        before = picture.copy()
        extract_train(picture)
        assert np.array_equal(picture, before)

    @pytest.mark.parametrize("value", [0, 128, 255])
    def test_a_blank_picture_has_none(self, value: int) -> None:
        found = extract_train(np.full((120, 160, 3), value, np.uint8))
        assert len(found) == 0
        assert found.codes.shape == (0, 32)
        assert found.frames.shape == (0, 4)

    @pytest.mark.parametrize(
        "size", [(1, 1), (1, 9), (9, 1), (2, 2), (1, 1500), (1500, 1), (3, 4000)], ids=str
    )
    def test_tiny_and_thin_pictures_do_no_harm(self, size: tuple[int, int]) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        found = extract_train(picture)
        assert len(found.codes) == len(found.frames) <= module.TRAIN_NUMBER
        assert np.isfinite(found.frames).all()


class TestSpread:
    @pytest.mark.parametrize("faint_side", ["left", "right"])
    def test_a_faint_half_gets_its_share(self, photos: tuple[Bytes, ...], faint_side: str) -> None:
        rng = np.random.default_rng(1)
        loud = rng.integers(0, 256, (320, 240), dtype=np.uint8)
        quiet = np.clip(128 + rng.normal(0, 14, (320, 240)), 0, 255).astype(np.uint8)
        halves = (quiet, loud) if faint_side == "left" else (loud, quiet)
        found = extract_train(np.hstack(halves))
        left = (found.frames[:, 0] < 240).mean()
        assert 0.35 < left < 0.65

    def test_a_covered_photograph_keeps_features_around_the_cover(
        self, photos: tuple[Bytes, ...]
    ) -> None:
        rng = np.random.default_rng(2)
        shares = []
        for picture in photos:
            covered = picture.copy()
            middle = picture.shape[1] // 2
            cover = rng.integers(0, 256, covered[:, middle:].shape[:2], dtype=np.uint8)
            covered[:, middle:] = cover[..., None]
            shares.append((extract_train(covered).frames[:, 0] < middle).mean())
        assert np.median(shares) > 0.35
        assert min(shares) > 0.05

    def test_of_one_cell_the_strongest_are_kept(self) -> None:
        picture = np.full((400, 400), 128, np.uint8)
        for i in range(10):  # ten dots in one cell, each fainter than the one before
            cv2.circle(picture, (8 + i % 4 * 12, 8 + i // 4 * 12), 3, 250 - 10 * i, -1)
        found = extract(picture, max_side=400, number=3)
        distance = np.hypot(*(found.frames[:, :2] - (8, 8)).T)
        assert distance.min() < 2


class TestPlaces:
    """Frames are in pixels of the whole picture, however far it was brought down."""

    @staticmethod
    def dots(side: int) -> Bytes:
        """Dots at fixed places of a square picture of any size."""
        scale = side / 400
        picture = np.full((400, 400), 90, np.uint8)
        for x, y in [(60, 80), (200, 120), (330, 310), (90, 290)]:
            cv2.circle(picture, (x, y), 9, 240, -1, cv2.LINE_AA)
        size = (round(400 * scale), round(400 * scale))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8)

    @pytest.mark.parametrize("side", [400, 480, 800, 1600])
    def test_dots_are_found_where_they_are(self, side: int) -> None:
        found = extract_train(self.dots(side))
        scale = side / 400
        for x, y in [(60, 80), (200, 120), (330, 310), (90, 290)]:
            centre = np.array([x + 0.5, y + 0.5]) * scale - 0.5
            offset = np.linalg.norm(found.frames[:, :2] - centre, axis=1)
            assert offset.min() < 0.6 * scale

    def test_sizes_grow_with_the_picture(self) -> None:
        small, large = extract_train(self.dots(400)), extract_train(self.dots(1600))
        assert large.frames[:, 2].max() == pytest.approx(4 * small.frames[:, 2].max(), rel=0.1)

    def test_pictures_are_brought_down_by_their_longer_side_and_never_up(self) -> None:
        assert to_gray(np.zeros((300, 1000, 3), np.uint8), 480).shape == (144, 480)
        assert to_gray(np.zeros((1000, 300), np.uint8), 480).shape == (480, 144)
        assert to_gray(np.zeros((200, 100), np.uint8), 480).shape == (200, 100)
        assert to_gray(np.zeros((5000, 1), np.uint8), 480).shape == (480, 1)


@st.composite
def some_features(draw: st.DrawFn) -> tuple[LocalFeatures, int, int]:
    width, height = draw(st.integers(1, 20_000)), draw(st.integers(1, 20_000))
    codes = draw(CODES)
    unit = st.floats(0, 1, width=32)
    rows = [
        (
            draw(unit) * width,
            draw(unit) * height,
            2.0 ** draw(st.floats(-7.9, 14)),
            draw(unit) * 2 * np.pi,
        )
        for _ in range(len(codes))
    ]
    return LocalFeatures(codes, np.array(rows, np.float32).reshape(-1, 4)), width, height


class TestPacking:
    @settings(max_examples=60, deadline=None)
    @given(some_features())
    def test_nothing_but_rounding_is_lost(self, given: tuple[LocalFeatures, int, int]) -> None:
        found, width, height = given
        packed = found.packed(width, height)
        assert packed.shape == (len(found), module.PACKED_BYTES)
        assert packed.dtype == np.uint8
        back = LocalFeatures.unpack(packed, width, height)
        assert np.array_equal(back.codes, found.codes)
        x, y, diameter, angle = np.abs(back.frames - found.frames).T
        assert (x <= width / 0xFFFF).all()
        assert (y <= height / 0xFFFF).all()
        assert (diameter <= 2.0 ** (1 / 2048) * found.frames[:, 2] - found.frames[:, 2]).all()
        assert (np.minimum(angle, 2 * np.pi - angle) <= 2 * np.pi / 0xFFFF).all()

    @settings(max_examples=60, deadline=None)
    @given(some_features())
    def test_what_was_unpacked_packs_to_the_same_bytes(
        self, given: tuple[LocalFeatures, int, int]
    ) -> None:
        found, width, height = given
        packed = found.packed(width, height)
        again = LocalFeatures.unpack(packed, width, height).packed(width, height)
        assert np.array_equal(again, packed)

    @settings(max_examples=60, deadline=None)
    @given(
        arrays(np.uint8, st.tuples(st.integers(0, 20), st.just(40))),
        st.integers(1, 20_000),
        st.integers(1, 20_000),
    )
    def test_any_bytes_unpack_to_finite_frames_inside_the_picture(
        self, packed: Bytes, width: int, height: int
    ) -> None:
        x, y, diameter, angle = LocalFeatures.unpack(packed, width, height).frames.T
        assert ((x >= 0) & (x <= width * 1.0001)).all()
        assert ((y >= 0) & (y <= height * 1.0001)).all()
        assert (np.isfinite(diameter) & (diameter > 0)).all()
        assert ((angle >= 0) & (angle <= 2 * np.pi)).all()

    def test_real_features_keep_their_places(self, photos: tuple[Bytes, ...]) -> None:
        for picture in photos:
            height, width = picture.shape[:2]
            found = extract_train(picture)
            back = LocalFeatures.unpack(found.packed(width, height), width, height)
            assert np.abs(back.frames[:, :2] - found.frames[:, :2]).max() <= 0.5

    def test_the_layout_is_fixed(self) -> None:
        found = LocalFeatures(
            np.arange(32, dtype=np.uint8)[None], np.array([[50, 25, 2, np.pi]], np.float32)
        )
        expected = bytes(range(32)) + bytes.fromhex("0080 0040 0048 0080")
        assert found.packed(100, 100).tobytes() == expected

    def test_none_at_all(self) -> None:
        none = extract_train(np.zeros((9, 9), np.uint8))
        assert none.packed(9, 9).shape == (0, 40)
        assert len(LocalFeatures.unpack(none.packed(9, 9), 9, 9)) == 0


class TestCodes:
    @settings(max_examples=40, deadline=None)
    @given(arrays(np.float32, (3, 128), elements=st.integers(0, 255).map(float)))
    def test_at_most_half_and_a_quarter_of_the_values_stand_out(
        self, descriptors: np.ndarray
    ) -> None:
        above = np.unpackbits(binarise(descriptors), axis=1).reshape(3, 2, 128).astype(bool)
        assert (above[:, 0].sum(axis=1) <= 64).all()
        assert (above[:, 1].sum(axis=1) <= 32).all()
        assert not (above[:, 1] & ~above[:, 0]).any()

    @settings(max_examples=40, deadline=None)
    @given(CODES)
    def test_mirrored_twice_is_the_code(self, codes: Bytes) -> None:
        assert np.array_equal(mirrored(mirrored(codes)), codes)
        assert np.unpackbits(mirrored(codes)).sum() == np.unpackbits(codes).sum()

    def test_a_mirrored_picture_has_the_mirrored_codes(self, photos: tuple[Bytes, ...]) -> None:
        found, medians, as_they_are = [], [], []
        for picture in photos[::2]:
            width = picture.shape[1]
            there = extract_train(picture)
            here = extract_train(np.ascontiguousarray(picture[:, ::-1]))
            # The same feature: at the mirrored place, of the same size, in the mirrored direction.
            place = here.frames[:, None, :2] - [width - 1, 0] - there.frames[None, :, :2] * [-1, 1]
            size = here.frames[:, None, 2] / there.frames[None, :, 2]
            turn = here.frames[:, None, 3] - (np.pi - there.frames[None, :, 3])
            is_same = (
                (np.abs(place).max(axis=2) < 1)
                & (np.abs(np.log2(size)) < 0.2)
                & (np.cos(turn) > 0.98)
            )
            found.append(is_same.any(axis=1).mean())
            medians.append(np.median(bits(here.codes, mirrored(there.codes))[is_same]))
            as_they_are.append(np.median(bits(here.codes, there.codes)[is_same]))
        assert np.median(found) > 0.8
        assert max(medians) <= 10
        assert min(as_they_are) > 40
