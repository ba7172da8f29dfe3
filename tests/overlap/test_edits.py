"""The edits that the self-test plants."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hqdata.overlap.edits import EDITS, Edit, Given, Pixels, blob, crop, paste
from support.real import photographs

ASKED = {
    **dict.fromkeys(
        (
            "re-encoded",
            "resized to 1/4",
            "squashed to 224x224",
            "JPEG quality 10",
            "grey",
            "brightness and contrast",
            "saturation",
            "blurred",
            "sharpened",
        ),
        0.995,
    ),
    **dict.fromkeys(
        (
            "mirrored",
            "quarter turn",
            "bordered",
            "caption bar",
            "rotated by 3 degrees",
            "small logo",
        ),
        0.99,
    ),
    "cropped to 80%": 0.99,
    "cropped to 60%": 0.98,
    "cropped to 30%": 0.90,
    "10% pasted over": 0.99,
    "25% pasted over": 0.98,
    "50% pasted over": 0.95,
    "70% pasted over": 0.75,
    "cropped, mirrored, JPEG, resized": 0.95,
}

SIZES = [(33, 500), (500, 33), (8, 8), (7, 1), (1, 7), (1, 1)]
"""Height and width in pixels of pictures that nobody thinks of."""

every_edit = pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name)


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def edited(edit: Edit, picture: Pixels, donor: Pixels, seed: int = 0) -> Pixels:
    return edit.apply(Given(picture, donor, np.random.default_rng(seed)))


def changes(edit: Edit, picture: Pixels) -> bool:
    result = edited(edit, picture, noise(50, 40, 1))
    return result.shape != picture.shape or not np.array_equal(result, picture)


@pytest.fixture(scope="module")
def photos(real_data: Path) -> tuple[Pixels, ...]:
    return photographs(real_data / "photos", 6) + photographs(real_data / "coco/val2017", 6)


class TestTheList:
    def test_it_asks_for_what_was_agreed(self) -> None:
        assert {edit.name: edit.recall for edit in EDITS} == ASKED

    def test_names_are_unique(self) -> None:
        assert len({edit.name for edit in EDITS}) == len(EDITS)

    @every_edit
    def test_every_edit_has_a_kind_that_a_pair_may_have(self, edit: Edit) -> None:
        assert edit.kinds
        assert edit.kinds <= {"identical_pixels", "near", "crop", "composite"}


@every_edit
class TestEveryEdit:
    def test_changes_the_picture(self, edit: Edit, photos: tuple[Pixels, ...]) -> None:
        for i, photo in enumerate(photos):
            result = edited(edit, photo, photos[i - 1], seed=i)
            assert result.shape != photo.shape or not np.array_equal(result, photo)

    def test_gives_a_colour_picture(self, edit: Edit, photos: tuple[Pixels, ...]) -> None:
        result = edited(edit, photos[0], photos[1])
        assert result.dtype == np.uint8
        assert result.ndim == 3
        assert result.shape[2] == 3
        assert result.flags.c_contiguous

    def test_depends_on_nothing_but_what_it_is_given(
        self, edit: Edit, photos: tuple[Pixels, ...]
    ) -> None:
        first = edited(edit, photos[0], photos[1], seed=7)
        np.random.seed(3)
        for other in EDITS:
            edited(other, photos[2], photos[3], seed=8)
        assert np.array_equal(first, edited(edit, photos[0].copy(), photos[1].copy(), seed=7))

    def test_leaves_its_input_alone(self, edit: Edit, photos: tuple[Pixels, ...]) -> None:
        picture, donor = photos[0].copy(), photos[1].copy()
        result = edited(edit, picture, donor)
        assert np.array_equal(picture, photos[0])
        assert np.array_equal(donor, photos[1])
        assert not np.shares_memory(result, picture)
        result[:] = 0
        assert np.array_equal(picture, photos[0])

    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_works_at_any_size(self, edit: Edit, size: tuple[int, int]) -> None:
        result = edited(edit, noise(*size), noise(50, 40, 1))
        assert min(result.shape) > 0
        assert result.dtype == np.uint8

    @pytest.mark.parametrize("size", [(33, 500), (500, 33)], ids=str)
    def test_changes_long_pictures_too(self, edit: Edit, size: tuple[int, int]) -> None:
        assert changes(edit, noise(*size))


@every_edit
def test_every_edit_changes_small_pictures(edit: Edit) -> None:
    assert changes(edit, noise(8, 8))


@pytest.mark.parametrize("name", ["mirrored", "cropped to 60%"])
def test_a_picture_one_pixel_wide_is_left_alone_too(name: str) -> None:
    (edit,) = (edit for edit in EDITS if edit.name == name)
    picture = noise(40, 1)
    assert not np.shares_memory(edited(edit, picture, noise(5, 5)), picture)


class TestShapes:
    def edit(self, name: str, picture: Pixels, seed: int = 0) -> Pixels:
        (edit,) = (edit for edit in EDITS if edit.name == name)
        return edited(edit, picture, noise(*picture.shape[:2], seed=1), seed)

    @pytest.mark.parametrize(
        ("name", "shape"),
        [
            ("re-encoded", (60, 100)),
            ("resized to 1/4", (15, 25)),
            ("squashed to 224x224", (224, 224)),
            ("quarter turn", (100, 60)),
            ("rotated by 3 degrees", (60, 100)),
            ("small logo", (60, 100)),
            ("caption bar", (68, 100)),
            ("50% pasted over", (60, 100)),
        ],
    )
    def test_sizes(self, name: str, shape: tuple[int, int]) -> None:
        assert self.edit(name, noise(60, 100)).shape[:2] == shape

    def test_mirrored_twice_is_the_picture(self) -> None:
        picture = noise(9, 13)
        assert np.array_equal(self.edit("mirrored", self.edit("mirrored", picture)), picture)

    def test_quarter_turns_go_both_ways(self) -> None:
        picture = noise(9, 13)
        turned = [self.edit("quarter turn", picture, seed) for seed in range(12)]
        for expected in (np.rot90(picture), np.rot90(picture, 3)):
            assert any(np.array_equal(result, expected) for result in turned)

    def test_grey_has_three_equal_channels(self) -> None:
        assert np.ptp(self.edit("grey", noise(9, 13)), axis=2).max() == 0

    def test_a_border_and_a_bar_keep_the_picture_inside(self) -> None:
        picture = noise(60, 100)
        assert np.array_equal(self.edit("caption bar", picture)[:60], picture)
        framed = self.edit("bordered", picture)
        y, x = (framed.shape[0] - 60) // 2, (framed.shape[1] - 100) // 2
        assert np.array_equal(framed[y : y + 60, x : x + 100], picture)

    def test_a_logo_is_small(self) -> None:
        picture = noise(60, 100)
        touched = (self.edit("small logo", picture) != picture).any(axis=2)
        assert 0 < touched.mean() < 0.05


class TestCrops:
    @settings(max_examples=60, deadline=None)
    @given(
        height=st.integers(1, 500),
        width=st.integers(1, 500),
        area=st.floats(0.05, 1),
        seed=st.integers(0, 99),
    )
    def test_keep_the_asked_share_and_the_shape(
        self, height: int, width: int, area: float, seed: int
    ) -> None:
        places = np.arange(height * width, dtype=np.int64).reshape(height, width)
        picture = np.stack([places >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8)
        part = crop(picture, area, np.random.default_rng(seed))
        h, w = part.shape[:2]
        assert abs(h - height * area**0.5) <= max(0.5, 1 - height * area**0.5)
        assert abs(w - width * area**0.5) <= max(0.5, 1 - width * area**0.5)
        y, x = divmod(int(part[0, 0] @ (1, 1 << 8, 1 << 16)), width)
        assert np.array_equal(part, picture[y : y + h, x : x + w])

    def test_lie_anywhere(self) -> None:
        ramp = np.repeat(np.arange(200, dtype=np.uint8)[:, None, None], 3, axis=2)
        picture = np.repeat(ramp, 50, axis=1)
        begins = [int(crop(picture, 0.25, np.random.default_rng(s))[0, 0, 0]) for s in range(100)]
        assert min(begins) < 10
        assert max(begins) > 90


class TestPasting:
    @settings(max_examples=60, deadline=None)
    @given(
        height=st.integers(16, 300),
        width=st.integers(16, 300),
        area=st.floats(0.05, 0.9),
        seed=st.integers(0, 2**32 - 1),
    )
    def test_a_blob_is_one_spot_of_the_asked_share(
        self, height: int, width: int, area: float, seed: int
    ) -> None:
        mask = blob(height, width, area, np.random.default_rng(seed))
        assert mask.shape == (height, width)
        assert set(np.unique(mask)) <= {0, 255}
        assert (mask > 0).mean() == pytest.approx(area, abs=1 / min(height, width))
        spots, labels = cv2.connectedComponents(mask, connectivity=8)
        largest = max(int((labels == spot).sum()) for spot in range(1, spots))
        assert largest >= 0.99 * (mask > 0).sum()  # rounding may cut a pixel off at a tip

    @pytest.mark.parametrize("area", [0.1, 0.25, 0.5, 0.7])
    def test_the_donor_covers_the_asked_share(self, area: float) -> None:
        black, white = np.zeros((200, 300, 3), np.uint8), np.full((40, 50, 3), 255, np.uint8)
        result = paste(Given(black, white, np.random.default_rng(2)), area)
        assert result.mean() / 255 == pytest.approx(area, abs=0.01)

    def test_the_rest_stays_as_it_was(self, photos: tuple[Pixels, ...]) -> None:
        result = paste(Given(photos[0], photos[1], np.random.default_rng(2)), 0.5)
        assert (result == photos[0]).all(axis=2).mean() > 0.45
