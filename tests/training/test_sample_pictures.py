"""Sample pictures: what is on them, and where."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hqdata.shards.dataset import Dataset
from support.evaluations import micro_model, score, small_sets
from support.pictures import disc, photo
from training.eval_samples import PromptChoice
from training.evaluation import EvaluationOptions, evaluate
from training.pictures import (
    HQ_COLOUR,
    PROMPT_COLOUR,
    SAM_COLOUR,
    TRUTH_COLOUR,
    Example,
    choose_rows,
    draw_row,
    draw_sheet,
    make_examples,
    overlay,
    write_png,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_sets(tmp_path_factory.mktemp("sets"), {"one": 4, "two": 2})


def example(width: int = 96, height: int = 64) -> Example:
    truth = disc(width, height) > 128
    return Example(
        photo(1, width, height), (28, 12, 67, 51), (), truth, truth, truth,
        score("one/all", 0, 0.5, 0.875),
    )  # fmt: skip


def distance(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(pixels.astype(int) - colour).sum(axis=-1)


def test_the_rows_take_turns_among_the_sets_and_stay_the_same(sets: Dataset) -> None:
    rows = choose_rows(sets, 4)
    assert [sets.row(row)["source"] for row in rows] == ["one", "two", "one", "two"]
    assert choose_rows(sets, 5)[:4] == rows
    assert len(set(choose_rows(sets, 100))) == 6
    assert choose_rows(sets, 0) == []
    assert len({tuple(choose_rows(sets, 2, seed)) for seed in range(20)}) > 1


def test_an_example_has_the_figures_of_the_evaluation(sets: Dataset) -> None:
    model = micro_model()
    options = EvaluationOptions(batch_size=2, num_workers=0)
    rows = choose_rows(sets, 2)
    result = evaluate(model, sets, options=options, device=CPU, rows=rows)
    by_key = {image.key: image for one in result.sets for image in one.images}
    for found in make_examples(model, sets, rows, device=CPU, height=64):
        expected = by_key[found.score.key]
        assert found.score.hq_iou == pytest.approx(expected.hq_iou, abs=1e-3)
        assert found.image.shape == (64, 96, 3)
        x0, y0, x1, y1 = cv2.boundingRect(found.truth.view(np.uint8))
        assert found.box == pytest.approx((x0, y0, x0 + x1, y0 + y1), abs=1.5)


def test_points_are_shown_on_the_object(sets: Dataset) -> None:
    (found,) = make_examples(
        micro_model(), sets, [0], device=CPU, prompt=PromptChoice.parse("points:5"), height=128
    )
    assert found.box is None
    assert len(found.points) == 5
    assert all(found.truth[int(y), int(x)] for x, y in found.points)
    x, y = found.points[0]
    cell = draw_row(found)
    assert distance(cell[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2], PROMPT_COLOUR).min() < 9


def test_a_row_shows_prompt_masks_and_truth_in_their_colours() -> None:
    row = draw_row(example())
    width = row.shape[1] // 4
    cells = [row[:, i * width : (i + 1) * width] for i in range(4)]
    # A cell has room for its caption: the picture stands in its middle.
    middle = (width - 6) // 2
    for cell, colour in zip(cells[1:], (SAM_COLOUR, HQ_COLOUR, TRUTH_COLOUR), strict=True):
        before = cells[0][32, middle].astype(int)
        assert np.abs(cell[32, middle] - (before + colour) / 2).max() <= 1
        outside = cell[4, middle - 44].astype(int)
        assert outside.max() - outside.min() == 0  # gray
    assert (distance(cells[0], PROMPT_COLOUR) == 0).sum() > 100
    assert (distance(cells[1], PROMPT_COLOUR) == 0).sum() == 0


def test_rows_of_any_shape_make_one_sheet(tmp_path: Path) -> None:
    examples = [example(), example(60, 64), example(300, 40)]
    sheet = draw_sheet(examples)
    assert sheet.dtype == np.uint8
    assert sheet.ndim == 3
    assert len(sheet) == sum(len(draw_row(one)) for one in examples)
    write_png(tmp_path / "sheet.png", sheet)
    read = cv2.imread(str(tmp_path / "sheet.png"))
    assert read is not None
    assert np.array_equal(read[:, :, ::-1], sheet)
    assert draw_sheet([]).shape[2] == 3


def test_an_overlay_has_the_size_of_the_image_and_leaves_it_alone() -> None:
    image = photo(2, 300, 200)
    before = image.copy()
    shown = overlay(image, disc(300, 200) > 128)
    assert shown.shape == image.shape
    assert np.array_equal(image, before)


def test_the_colours_differ_in_lightness_too() -> None:
    colours = np.array([[SAM_COLOUR, HQ_COLOUR, TRUTH_COLOUR, PROMPT_COLOUR]], np.uint8)
    lightness = np.sort(cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)[0].astype(int))
    assert lightness[-1] - lightness[0] > 80
