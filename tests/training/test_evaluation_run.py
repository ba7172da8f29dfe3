"""Evaluation: what it measures, and that nothing but model and images decides the figures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from hqdata.errors import DatasetError, UserError
from hqdata.shards.dataset import Dataset
from support.evaluations import micro_model, score, small_sets
from support.pictures import disc, photo
from training.data.decode import Picture, decode
from training.eval_samples import PromptChoice, make_sample, noised_box, stretch
from training.evaluation import EvaluationOptions, evaluate, mask_of
from training.metrics import boundary_iou, iou
from training.model.hq_sam import HqSam
from training.prompts import Kind, Prompts
from training.scores import collect

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_sets(tmp_path_factory.mktemp("sets"), {"one": 3, "two": 2})


@pytest.fixture(scope="module")
def model() -> HqSam:
    return micro_model()


def options(**changes: Any) -> EvaluationOptions:
    return EvaluationOptions(**{"batch_size": 2, "num_workers": 0, "num_threads": 2, **changes})


@pytest.fixture(scope="module")
def result(model: HqSam, sets: Dataset) -> Any:
    return evaluate(model, sets, options=options(), device=CPU)


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> EvaluationOptions:
    """With the features of the images kept: what is tested with it is not the encoder."""
    return options(feature_cache=tmp_path_factory.mktemp("features"))


def figures(result: Any) -> list[float]:
    images = [image for one in result.sets for image in one.images]
    return [f for image in images for f in dataclasses.astuple(image)[3:]]


def test_it_follows_the_protocol_step_by_step(model: HqSam, sets: Dataset, result: Any) -> None:
    for number in range(len(sets)):
        row = sets.row(number)
        picture = decode(sets.read_member(row, "image"), sets.read_member(row, "mask"))
        both = np.dstack([picture.image, picture.mask])
        pixels = torch.from_numpy(both).permute(2, 0, 1)[None].float()
        square = functional.interpolate(pixels, (256, 256), mode="bilinear")
        image = square[:, :3].permute(0, 2, 3, 1).to(torch.uint8)
        ys, xs = np.nonzero(square[0, 3].numpy() > 128)
        box = torch.tensor([[xs.min(), ys.min(), xs.max(), ys.max()]], dtype=torch.float32)
        features = model.encode(image)
        prompts = Prompts.of_boxes(box, 128)
        with torch.no_grad():
            logits = {
                "hq": model.hq_logits(features, prompts),
                "sam": model.sam_logits(features, prompts)[0],
            }
        truth = picture.mask > 128
        (image_score,) = (i for one in result.sets for i in one.images if i.key == row["key"])
        for method, values in logits.items():
            own_size = functional.interpolate(values, truth.shape, mode="bilinear")
            mask = (own_size[0, 0] > 0).numpy()
            assert getattr(image_score, f"{method}_iou") == pytest.approx(
                iou(mask, truth), abs=2e-3
            )
            assert getattr(image_score, f"{method}_boundary_iou") == pytest.approx(
                boundary_iou(mask, truth), abs=5e-3
            )


def test_sets_are_named_by_source_and_split_and_means_are_over_images(result: Any) -> None:
    assert [(one.name, one.num_images) for one in result.sets] == [("one/all", 3), ("two/all", 2)]
    for one in result.sets:
        assert one.hq.miou == pytest.approx(np.mean([image.hq_iou for image in one.images]))
        assert one.sam.mbiou == pytest.approx(np.mean([i.sam_boundary_iou for i in one.images]))
    mean = result.mean("hq")
    assert mean.miou == pytest.approx(np.mean([one.hq.miou for one in result.sets]))
    assert result.figures()["mean/hq_miou"] == mean.miou


@pytest.mark.parametrize(
    "changes",
    [{"batch_size": 1}, {"batch_size": 4, "num_threads": 1, "num_workers": 2}],
    ids=["one by one", "many at once, by workers"],
)
def test_batches_threads_and_workers_leave_no_trace(
    model: HqSam, sets: Dataset, result: Any, changes: dict[str, int]
) -> None:
    other = evaluate(model, sets, options=options(**changes), device=CPU)
    assert [one.name for one in other.sets] == [one.name for one in result.sets]
    # A pixel whose logit is zero but for rounding may change sides with the batch size.
    assert figures(other) == pytest.approx(figures(result), abs=1e-3)


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_ranks_share_the_images_and_all_have_the_whole_result(
    model: HqSam, sets: Dataset, result: Any, cached: EvaluationOptions, world_size: int
) -> None:
    parts: list[list[Any]] = []

    class EnoughError(Exception):
        pass

    def keep(own: list[Any]) -> list[list[Any]]:
        parts.append(own)
        raise EnoughError

    for rank in range(world_size):
        with pytest.raises(EnoughError):
            evaluate(
                model, sets, options=cached, device=CPU,
                rank=rank, world_size=world_size, gather=keep,
            )  # fmt: skip
    assert sorted(len(part) for part in parts)[-1] == -(-len(sets) // world_size)
    whole = evaluate(
        model, sets, options=cached, device=CPU,
        rank=0, world_size=world_size, gather=lambda own: [own, *parts[1:]],
    )  # fmt: skip
    assert figures(whole) == pytest.approx(figures(result), abs=1e-3)


def test_only_some_rows(model: HqSam, sets: Dataset, cached: EvaluationOptions) -> None:
    some = evaluate(model, sets, options=cached, device=CPU, rows=[4, 0])
    assert {i.key for one in some.sets for i in one.images} == {
        sets.row(4)["key"], sets.row(0)["key"]
    }  # fmt: skip


def test_an_unreadable_image_stops_all_ranks_with_its_name(
    model: HqSam, sets: Dataset, tmp_path: Path
) -> None:
    broken = small_sets(tmp_path, {"one": 2})
    row = broken.row(1)
    shard = broken.root / row["shard"]
    data = bytearray(shard.read_bytes())
    data[row["image_offset"] + 300 : row["image_offset"] + row["image_size"] - 50] = b""
    shard.write_bytes(bytes(data).ljust(shard.stat().st_size, b"\0"))
    told: list[list[Any]] = []

    def gather(own: list[Any]) -> list[list[Any]]:
        told.append(own)
        return [own]

    with pytest.raises(DatasetError, match=row["key"]):
        evaluate(
            model, broken, options=options(), device=CPU, rank=0, world_size=2, gather=gather,
            rows=[1, 0],
        )  # fmt: skip
    assert len(told) == 1  # the other ranks heard of it


class TestFeatureCache:
    def test_a_second_evaluation_encodes_nothing_and_finds_the_same(
        self, model: HqSam, sets: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cached = options(feature_cache=tmp_path / "cache")
        first = evaluate(model, sets, options=cached, device=CPU)

        def refuse(images: torch.Tensor) -> None:
            raise AssertionError("an image was encoded again")

        monkeypatch.setattr(model, "encode", refuse)
        again = evaluate(model, sets, options=cached, device=CPU)
        assert again == first
        points = options(feature_cache=tmp_path / "cache", prompt=PromptChoice.parse("points:3"))
        assert evaluate(model, sets, options=points, device=CPU) != first  # same features

    def test_another_encoder_and_a_damaged_file_are_encoded_anew(
        self, model: HqSam, sets: Dataset, result: Any, tmp_path: Path
    ) -> None:
        cached = options(feature_cache=tmp_path)
        evaluate(micro_model(seed=1), sets, options=cached, device=CPU)
        assert figures(evaluate(model, sets, options=cached, device=CPU)) == figures(result)
        for path in tmp_path.glob("*/*.safetensors"):
            path.write_bytes(path.read_bytes()[:1000])
        assert figures(evaluate(model, sets, options=cached, device=CPU)) == figures(result)

    def test_it_says_what_it_needs_before_it_begins(
        self, model: HqSam, sets: Dataset, tmp_path: Path
    ) -> None:
        small = options(feature_cache=tmp_path, feature_cache_bytes=1000)
        with pytest.raises(UserError, match="more than the limit"):
            evaluate(model, sets, options=small, device=CPU)


class TestSamples:
    @settings(max_examples=30, deadline=None)
    @given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 1000))
    def test_stretching_is_torch_s_interpolation(self, height: int, width: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        mask = rng.integers(0, 256, (height, width), dtype=np.uint8)
        found, found_mask = stretch(Picture(image, mask), 64)
        both = torch.from_numpy(np.dstack([image, mask])).permute(2, 0, 1)[None].float()
        expected = functional.interpolate(both, (64, 64), mode="bilinear")[0].permute(1, 2, 0)
        whole = expected[..., :3].numpy().astype(np.uint8)
        # Values that are whole numbers but for rounding may be cut down to the one below.
        assert np.abs(found.astype(int) - whole).max() <= 1
        assert (found != whole).mean() < 0.02 or min(height, width) < 8
        np.testing.assert_allclose(found_mask, expected[..., 3].numpy(), atol=0.05)

    @given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 100))
    @settings(max_examples=30, deadline=None)
    def test_logits_are_brought_to_any_size_in_one_step(
        self, height: int, width: int, seed: int
    ) -> None:
        logits = np.random.default_rng(seed).normal(size=(64, 64)).astype(np.float32)
        expected = functional.interpolate(
            torch.from_numpy(logits)[None, None], (height, width), mode="bilinear"
        )[0, 0].numpy()
        clear = np.abs(expected) > 1e-4
        assert np.array_equal(mask_of(logits, (height, width))[clear], (expected > 0)[clear])

    def test_the_box_is_tight_around_what_is_above_the_threshold(self) -> None:
        mask = np.zeros((64, 64), np.uint8)
        mask[10:21, 5:31] = 129
        mask[9, 5:31] = 128
        sample = make_sample(Picture(photo(0, 64, 64), mask), 0, "a", 64, PromptChoice())
        assert sample.box.tolist() == [5, 10, 30, 20]
        assert np.array_equal(sample.truth_mask(), mask > 128)

    def test_points_lie_on_the_object_and_belong_to_the_image(self) -> None:
        picture = Picture(photo(0), disc())
        choice = PromptChoice.parse("points:20")
        sample = make_sample(picture, 0, "a", 128, choice)
        _, mask = stretch(picture, 128)
        x, y = sample.points.astype(int).T
        assert (mask[y, x] > 128).all()
        assert len({tuple(p) for p in sample.points.tolist()}) == 20
        again = make_sample(picture, 5, "a", 128, choice)
        other = make_sample(picture, 0, "b", 128, choice)
        assert np.array_equal(again.points, sample.points)
        assert not np.array_equal(other.points, sample.points)

    @given(st.floats(0, 0.99), st.integers(0, 1000))
    def test_a_noised_box_stays_within_its_bounds(self, noise: float, seed: int) -> None:
        box = np.array([30, 40, 70, 120], np.float32)
        found = noised_box(box, noise, np.random.default_rng(seed), 160)
        assert (found >= 0).all()
        assert (found <= 160).all()
        (x0, y0, x1, y1), (w, h) = found.tolist(), (40, 80)
        if x0 > 0 and y0 > 0 and x1 < 160 and y1 < 160:
            assert abs((x0 + x1) / 2 - 50) <= noise * w / 2 + 1e-3
            assert abs((y0 + y1) / 2 - 80) <= noise * h / 2 + 1e-3
            assert abs((x1 - x0) - w) <= noise * w + 1e-3
            assert abs((y1 - y0) - h) <= noise * h + 1e-3

    def test_an_object_that_stretching_loses_is_prompted_where_it_was(self) -> None:
        mask = np.zeros((640, 640), np.uint8)
        mask[321, 101] = 255
        _, stretched = stretch(Picture(photo(0, 640, 640), mask), 64)
        assert stretched.max() <= 128
        for text in ("box", "points:2"):
            choice = PromptChoice.parse(text)
            sample = make_sample(Picture(photo(0, 640, 640), mask), 0, "a", 64, choice)
            assert sample.has_object
            places = sample.points if choice.kind == Kind.POINT else sample.box.reshape(2, 2)
            assert places.tolist() == [[10, 32], [10, 32]]

    def test_an_empty_truth_is_listed_and_does_not_count(self) -> None:
        empty = np.zeros((64, 96), np.uint8)
        for text, shape in (("box", (0, 2)), ("points:3", (3, 2))):
            sample = make_sample(Picture(photo(), empty), 0, "a", 64, PromptChoice.parse(text))
            assert not sample.has_object
            assert sample.points.shape == shape
        images = [score("a/all", 0, 0.5, 0.7), score("a/all", 1, 0.0, 0.0), score("b/all", 0, 0, 0)]
        images[1:] = [dataclasses.replace(image, has_object=False) for image in images[1:]]
        (only,) = collect(images).sets
        assert (only.num_images, only.num_without_object, only.hq.miou) == (1, 1, 0.7)

    @pytest.mark.parametrize("text", ["", "boxes", "box:3", "points", "points:0", "points:-1"])
    def test_a_prompt_that_is_none_is_refused(self, text: str) -> None:
        with pytest.raises(UserError, match="unknown prompt"):
            PromptChoice.parse(text)

    def test_noise_is_for_boxes_and_has_bounds(self) -> None:
        with pytest.raises(UserError, match="points"):
            PromptChoice.parse("points:5", box_noise=0.2)
        with pytest.raises(UserError, match="box noise"):
            PromptChoice.parse("box", box_noise=1.0)
        assert str(PromptChoice.parse("box", box_noise=0.4)) == "box, noise 0.4"


@given(st.permutations(range(12)))
def test_the_order_in_which_images_come_changes_no_bit(order: list[int]) -> None:
    values = np.random.default_rng(0).random((12, 2)).tolist()
    images = [score(f"{'ab'[i % 2]}/all", i, *values[i]) for i in range(12)]
    assert collect(images[i] for i in order) == collect(images)


def test_the_worst_images_come_first() -> None:
    (one,) = collect([score("a/all", i, 0.5, hq) for i, hq in enumerate((0.9, 0.2, 0.6))]).sets
    assert [image.hq_iou for image in one.worst(2)] == [0.2, 0.6]


def test_opencv_is_left_as_it_was(model: HqSam, sets: Dataset, cached: EvaluationOptions) -> None:
    before = cv2.getNumThreads()
    evaluate(model, sets, options=cached, device=CPU, rows=[0])
    assert cv2.getNumThreads() == before
