"""Pictures of a data set beside the drawn scenes, and what a pretraining is judged by."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from docs.make_pretraining_log import curves, kept, to_svg
from hqdata.shards.dataset import Dataset
from training.data.decode import Picture
from training.pretraining.held_out import asked_for, boxed, held_out_scenes
from training.pretraining.recipe import PretrainRecipe
from training.pretraining.run import judged_pictures
from training.pretraining.samples import PretrainSample, SampleSource

RECIPE = PretrainRecipe(steps=8, pictures=2, dataset_share=1.0)


def same(one: PretrainSample, other: PretrainSample) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in PretrainSample.__slots__
    )


class TestADataSet:
    def test_gives_samples_that_hang_on_their_number_alone(self, own_shards: Path) -> None:
        dataset = Dataset.open(own_shards)
        sources = [SampleSource(RECIPE, 256, 64, dataset) for _ in range(2)]
        forward = [sources[0][number] for number in range(6)]
        backward = [sources[1][number] for number in reversed(range(6))][::-1]
        assert all(same(a, b) for a, b in zip(forward, backward, strict=True))
        assert not same(forward[0], forward[1])

    def test_is_asked_for_where_its_objects_are(self, own_shards: Path) -> None:
        source = SampleSource(RECIPE, 256, 64, Dataset.open(own_shards))
        for number in range(8):
            sample = source[number]
            for target, box in zip(sample.targets, sample.boxes, strict=True):
                rows, columns = np.nonzero(target > 128)
                assert len(rows) > 0
                middle = 4 * np.array([columns.mean() + 0.5, rows.mean() + 0.5])
                assert (box[:2] - 12 <= middle).all()
                assert (middle <= box[2:] + 12).all()

    def test_is_shown_for_its_share_of_the_pictures(
        self, own_shards: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        half = RECIPE.model_copy(update={"dataset_share": 0.5})
        source = SampleSource(half, 256, 64, Dataset.open(own_shards))
        of_dataset, calls = source._picture, []
        monkeypatch.setattr(source, "_picture", lambda *a: calls.append(a) or of_dataset(*a))
        for number in range(30):
            source[number]
        assert 6 <= len(calls) <= 24

    def test_of_masks_without_object_falls_back_to_scenes(
        self, own_shards: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        empty = Picture(np.zeros((90, 120, 3), np.uint8), np.zeros((90, 120), np.uint8))
        monkeypatch.setattr(SampleSource, "_picture", lambda *_: empty)
        sample = SampleSource(RECIPE, 256, 64, Dataset.open(own_shards))[0]
        assert (sample.targets > 0).any((1, 2)).all()


class TestJudging:
    def test_is_by_set_and_prompted_as_evaluations_are(self, own_eval_shards: Path) -> None:
        found = judged_pictures([Dataset.open(own_eval_shards)], 256)
        assert {name: len(pictures) for name, pictures in found.items()} == {
            "discs/all": 2, "held_out/all": 2,
        }  # fmt: skip
        for asked in found["discs/all"]:
            assert asked.truth.shape == (90, 120)
            assert boxed(asked)[asked.truth].all()

    def test_a_box_is_filled_at_the_size_of_the_truth(self) -> None:
        mask = np.zeros((100, 200), np.uint8)
        mask[20:60, 50:150] = 255
        asked = asked_for(Picture(np.zeros((100, 200, 3), np.uint8), mask), 256)
        assert asked is not None
        rows, columns = np.nonzero(boxed(asked))
        assert abs(rows.min() - 20) <= 1
        assert abs(rows.max() - 59) <= 1
        assert abs(columns.min() - 50) <= 1
        assert abs(columns.max() - 149) <= 1

    def test_a_picture_without_object_is_left_out_and_a_tiny_one_is_not(self) -> None:
        image, mask = np.zeros((2000, 2000, 3), np.uint8), np.zeros((2000, 2000), np.uint8)
        assert asked_for(Picture(image, mask), 256) is None
        mask[1000, 1000] = 255
        asked = asked_for(Picture(image, mask), 256)
        assert asked is not None
        assert asked.truth.sum() == 1

    def test_held_out_scenes_are_never_drawn_by_a_recipe(self) -> None:
        scene = held_out_scenes(1, 256)[0]
        for seed in (0, 2**62 - 1):
            recipe = RECIPE.model_copy(update={"seed": seed})
            assert not np.array_equal(SampleSource(recipe, 256, 64, None)[0].image, scene.image)
        with pytest.raises(ValueError, match="seed"):
            PretrainRecipe(seed=2**63)


LINES = [
    {"step": 20, "loss": 1.0},
    {"step": 100, "loss": 0.5},
    {"step": 100, "scenes": {"iou": 0.5}},
    {"step": 100, "set": "a", "iou": 0.6, "box_iou": 0.4},
    {"step": 100, "set": "b", "iou": 0.8, "box_iou": 0.2},
]


def test_the_log_that_is_kept_has_every_hundredth_step_and_all_evaluations() -> None:
    assert kept(LINES) == LINES[1:]
    assert curves(LINES) == {
        "drawn scenes": [(100, 50.0)],
        "held-out stand-in": [(100, pytest.approx(70.0))],
        "box filled in": [(100, pytest.approx(30.0))],
    }
    assert to_svg(LINES).count("<polyline") == 3
    json.dumps(kept(LINES))
