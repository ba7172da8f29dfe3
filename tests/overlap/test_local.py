"""The index of local features: which pictures are worth a closer look."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from hqdata.overlap import local as module
from hqdata.overlap.edits import EDITS, Given
from hqdata.overlap.features import (
    LocalFeatures,
    extract_evaluation,
    extract_train,
    mirrored,
)
from hqdata.overlap.local import MIN_VOTES, Candidate, LocalIndex
from support.real import photographs

NUMBER = 16
EDIT = {edit.name: edit for edit in EDITS}

NONE = LocalFeatures(np.empty((0, 32), np.uint8), np.empty((0, 4), np.float32))


@pytest.fixture(scope="module")
def photos(real_data: Path) -> tuple[np.ndarray, ...]:
    half = NUMBER // 2
    return photographs(real_data / "photos", half) + photographs(real_data / "coco/val2017", half)


@pytest.fixture(scope="module")
def evaluation(photos: tuple[np.ndarray, ...]) -> list[LocalFeatures]:
    return [extract_evaluation(picture) for picture in photos]


@pytest.fixture(scope="module")
def index(evaluation: list[LocalFeatures]) -> LocalIndex:
    return LocalIndex(evaluation)


class Copies:
    """Edited copies, made once."""

    def __init__(self, photos: tuple[np.ndarray, ...]) -> None:
        self._photos = photos
        self._made: dict[str, list[LocalFeatures]] = {}

    def __getitem__(self, name: str) -> list[LocalFeatures]:
        if name not in self._made:
            self._made[name] = [
                extract_train(
                    EDIT[name].apply(Given(picture, self._photos[i - 1], np.random.default_rng(i)))
                )
                for i, picture in enumerate(self._photos)
            ]
        return self._made[name]


@pytest.fixture(scope="module")
def copies(photos: tuple[np.ndarray, ...]) -> Copies:
    return Copies(photos)


def same(a: Candidate, b: Candidate) -> bool:
    return all(map(np.array_equal, astuple(a), astuple(b)))


class TestCopies:
    @pytest.mark.parametrize(
        "name", ["cropped to 60%", "cropped to 30%", "resized to 1/4", "quarter turn"]
    )
    def test_come_first(self, index: LocalIndex, copies: Copies, name: str) -> None:
        first: dict[int, Candidate] = {}
        for candidate in index.search(copies[name]):
            first.setdefault(candidate.train, candidate)
        right = [c for c in first.values() if c.train == c.evaluation]
        assert len(right) >= NUMBER - 1
        assert not any(c.is_mirrored for c in right)

    @pytest.mark.parametrize("name", ["mirrored", "cropped, mirrored, JPEG, resized"])
    def test_mirrored_ones_say_so(self, index: LocalIndex, copies: Copies, name: str) -> None:
        first: dict[int, Candidate] = {}
        for candidate in index.search(copies[name]):
            first.setdefault(candidate.train, candidate)
        right = [c for c in first.values() if c.train == c.evaluation]
        assert len(right) >= NUMBER - 1
        assert all(c.is_mirrored for c in right)

    def test_of_two_pictures_put_together_both_are_found(
        self, index: LocalIndex, copies: Copies
    ) -> None:
        found = {(c.train, c.evaluation) for c in index.search(copies["50% pasted over"])}
        below = sum((i, i) in found for i in range(NUMBER))
        above = sum((i, (i - 1) % NUMBER) in found for i in range(NUMBER))
        assert below >= NUMBER - 1
        assert above >= NUMBER - 1

    def test_matched_features_are_those_of_the_copy(
        self, index: LocalIndex, evaluation: list[LocalFeatures], copies: Copies
    ) -> None:
        queries = copies["cropped to 60%"]
        for candidate in index.search(queries):
            ours = queries[candidate.train].codes[candidate.train_features]
            theirs = evaluation[candidate.evaluation].codes[candidate.evaluation_features]
            if candidate.is_mirrored:
                theirs = mirrored(theirs)
            assert np.unpackbits(ours ^ theirs, axis=1).sum(axis=1).max() <= module.MAX_BITS
            assert np.array_equal(
                index.frames_of(candidate),
                evaluation[candidate.evaluation].frames[candidate.evaluation_features],
            )


class TestCandidates:
    def test_are_ordered_by_picture_and_votes(self, index: LocalIndex, copies: Copies) -> None:
        found = list(index.search(copies["cropped to 30%"]))
        order = [(c.train, -c.votes, c.evaluation, c.is_mirrored) for c in found]
        assert order == sorted(order)
        assert len({(c.train, c.evaluation, c.is_mirrored) for c in found}) == len(found)

    def test_have_the_votes_they_need_and_no_more_than_matches(
        self, index: LocalIndex, copies: Copies
    ) -> None:
        for candidate in index.search(copies["cropped to 30%"]):
            features = len(set(candidate.train_features.tolist()))
            assert MIN_VOTES <= candidate.votes <= features

    def test_are_no_more_than_can_be_looked_at(
        self,
        index: LocalIndex,
        copies: Copies,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        every = list(index.search(copies["cropped to 30%"]))
        monkeypatch.setattr(module, "MAX_CANDIDATES", 2)
        kept = list(index.search(copies["cropped to 30%"]))
        expected = [
            c for train in range(NUMBER) for c in [c for c in every if c.train == train][:2]
        ]
        assert len(kept) == len(expected) < len(every)
        assert all(map(same, kept, expected))

    def test_the_same_search_gives_the_same_answer(
        self, index: LocalIndex, evaluation: list[LocalFeatures], copies: Copies
    ) -> None:
        first = list(index.search(copies["cropped to 60%"]))
        for again in (index, LocalIndex(evaluation)):
            found = list(again.search(copies["cropped to 60%"]))
            assert len(found) == len(first)
            assert all(map(same, found, first))

    @pytest.mark.parametrize("at_a_time", [1, 5])
    def test_it_does_not_matter_how_many_are_searched_at_a_time(
        self, index: LocalIndex, copies: Copies, at_a_time: int
    ) -> None:
        queries = [*copies["cropped to 60%"][:8], NONE, *copies["mirrored"][:4]]
        together = list(index.search(queries))
        begin, parts = 0, []
        while begin < len(queries):
            for c in index.search(queries[begin : begin + at_a_time]):
                fields = astuple(c)
                parts.append(Candidate(fields[0] + begin, *fields[1:]))
            begin += at_a_time
        assert len(parts) == len(together)
        assert all(map(same, parts, together))

    def test_one_feature_votes_once_however_many_it_matches(self) -> None:
        """Four times the same star in the evaluation picture is one vote for it."""
        rng = np.random.default_rng(0)
        code = rng.integers(0, 256, (1, 32), dtype=np.uint8)
        frame = np.array([[10, 10, 4, 1]], np.float32)
        four = LocalFeatures(np.repeat(code, 4, axis=0), np.repeat(frame, 4, axis=0))
        assert list(LocalIndex([four]).search([LocalFeatures(code, frame)])) == []

    def test_votes_that_point_every_way_do_not_count(self) -> None:
        rng = np.random.default_rng(0)
        codes = rng.integers(0, 256, (4, 32), dtype=np.uint8)
        frames = np.array([[10 * i, 10, 4, 0] for i in range(4)], np.float32)
        turned = frames.copy()
        turned[:, 3] = [0.1, 1.7, 3.2, 4.8]
        index = LocalIndex([LocalFeatures(codes, frames)])
        assert len(list(index.search([LocalFeatures(codes, frames)]))) == 1
        assert list(index.search([LocalFeatures(codes, turned)])) == []

    @pytest.mark.parametrize("turn", np.linspace(0, 2 * np.pi, 25)[:-1].tolist())
    def test_votes_that_agree_count_whatever_the_angle(self, turn: float) -> None:
        rng = np.random.default_rng(0)
        codes = rng.integers(0, 256, (6, 32), dtype=np.uint8)
        angle = rng.uniform(0, 2 * np.pi, 6)
        before = np.column_stack([rng.uniform(0, 99, (6, 2)), np.full(6, 4), angle])
        after = before.copy()
        after[:, 2] *= 2 ** rng.uniform(-0.1, 0.1, 6)
        after[:, 3] = (angle + turn + rng.uniform(-0.1, 0.1, 6)) % (2 * np.pi)
        index = LocalIndex([LocalFeatures(codes, before.astype(np.float32))])
        (found,) = index.search([LocalFeatures(codes, after.astype(np.float32))])
        assert found.votes == 6


class TestSkip:
    def test_pairs_left_out_are_not_named_and_others_are_as_before(
        self, index: LocalIndex, copies: Copies
    ) -> None:
        queries = copies["50% pasted over"]
        every = list(index.search(queries))
        skip = np.eye(NUMBER, dtype=bool)
        found = list(index.search(queries, skip=skip))
        expected = [c for c in every if c.train != c.evaluation]
        assert 0 < len(expected) < len(every)
        assert len(found) == len(expected)
        assert all(map(same, found, expected))

    def test_everything_left_out(self, index: LocalIndex, copies: Copies) -> None:
        skip = np.ones((NUMBER, NUMBER), bool)
        assert list(index.search(copies["mirrored"], skip=skip)) == []

    def test_nothing_left_out(self, index: LocalIndex, copies: Copies) -> None:
        skip = np.zeros((NUMBER, NUMBER), bool)
        every = list(index.search(copies["mirrored"]))
        found = list(index.search(copies["mirrored"], skip=skip))
        assert len(found) == len(every)
        assert all(map(same, found, every))


class TestNothing:
    @pytest.mark.parametrize("indexed", [[], [NONE], [NONE, NONE]], ids=["0", "1", "2"])
    @pytest.mark.parametrize("searched", [[], [NONE], "photos"], ids=["none", "blank", "photos"])
    def test_nothing_is_found_in_nothing(
        self, indexed: list[LocalFeatures], searched: list[LocalFeatures] | str, copies: Copies
    ) -> None:
        pictures = copies["mirrored"] if isinstance(searched, str) else searched
        assert list(LocalIndex(indexed).search(pictures)) == []

    def test_pictures_without_features_keep_their_numbers(
        self, evaluation: list[LocalFeatures], copies: Copies
    ) -> None:
        index = LocalIndex([NONE, evaluation[0], NONE, evaluation[1], NONE])
        queries = [NONE, NONE, copies["mirrored"][1], NONE, copies["mirrored"][0]]
        found = {(c.train, c.evaluation) for c in index.search(queries) if c.is_mirrored}
        assert {(2, 3), (4, 1)} <= found
        assert {train for train, _ in found} <= {2, 4}

    def test_one_feature_in_all(self) -> None:
        one = LocalFeatures(np.ones((1, 32), np.uint8), np.ones((1, 4), np.float32))
        assert list(LocalIndex([one]).search([one])) == []
