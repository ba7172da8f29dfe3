"""The loss, beside a plain transcription of its formulas, one sample and one point at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from training.loss import LossConfig, choose_points, hq_loss, sample_logits, sample_targets
from training.uniforms import uniforms

SMALL = LossConfig(num_points=40)


def bilinear(values: NDArray[np.float64], x: float, y: float) -> float:
    """The value at (x, y) in [0, 1)² of the picture, pixels standing at their middles."""
    height, width = values.shape
    px, py = x * width - 0.5, y * height - 0.5
    x0, y0 = math.floor(px), math.floor(py)
    total = 0.0
    for row, wy in ((y0, 1 - (py - y0)), (y0 + 1, py - y0)):
        for column, wx in ((x0, 1 - (px - x0)), (x0 + 1, px - x0)):
            if 0 <= row < height and 0 <= column < width:
                total += wx * wy * values[row, column]
    return total


def one_sample(
    logits: NDArray[np.float64], target: NDArray[np.uint8], seed: int, config: LossConfig
) -> tuple[float, float]:
    """(bce, dice) in float64 and in loops."""
    drawn = [
        uniforms(torch.tensor([seed]), 2 * number, stream=stream)[0].double().view(-1, 2).tolist()
        for stream, number in (
            (0, int(config.num_points * config.oversample)),
            (1, config.num_points - int(config.num_points * config.importance)),
        )
    ]
    candidates, fresh = drawn
    order = sorted(candidates, key=lambda point: abs(bilinear(logits, *point)))
    number = int(config.num_points * config.importance)
    if number:
        last, following = (abs(bilinear(logits, *point)) for point in order[number - 1 :][:2])
        # Where single precision cannot tell which of two is less sure, either choice is right.
        assume(following - last > 1e-5)
    points = order[:number] + fresh
    bce, overlap, predicted, wanted = 0.0, 0.0, 0.0, 0.0
    for x, y in points:
        value, truth = bilinear(logits, x, y), bilinear(target.astype(np.float64), x, y) / 255
        share = 1 / (1 + math.exp(-value))
        bce -= truth * math.log(share) + (1 - truth) * math.log(1 - share)
        overlap, predicted, wanted = overlap + share * truth, predicted + share, wanted + truth
    return bce / len(points), 1 - (2 * overlap + 1) / (predicted + wanted + 1)


def random_case(
    seed: int, number: int = 3, small: int = 16, large: int = 64
) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn((number, 1, small, small), generator=draw)
    targets = torch.randint(0, 256, (number, large, large), generator=draw, dtype=torch.uint8)
    seeds = torch.randint(-(2**62), 2**62, (number,), generator=draw)
    return logits, targets, seeds


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 3),
    st.sampled_from([(4, 16), (16, 64), (7, 23), (32, 32), (5, 1)]),
    st.sampled_from(
        [
            SMALL,
            LossConfig(num_points=17, oversample=2.5, importance=0.6),
            LossConfig(num_points=12, importance=1.0),
            LossConfig(num_points=12, importance=0.0),
        ]
    ),
)
def test_each_sample_has_the_loss_of_the_formulas(
    seed: int, number: int, sides: tuple[int, int], config: LossConfig
) -> None:
    logits, targets, seeds = random_case(seed, number, *sides)
    losses = hq_loss(logits, targets, seeds, config)
    expected = [
        one_sample(logits[i, 0].double().numpy(), targets[i].numpy(), int(seeds[i]), config)
        for i in range(number)
    ]
    assert losses.bce.tolist() == pytest.approx([bce for bce, _ in expected], rel=2e-5)
    assert losses.dice.tolist() == pytest.approx([dice for _, dice in expected], rel=2e-5)


def test_the_paper_s_numbers_of_points() -> None:
    config = LossConfig()
    assert (config.num_points, config.num_candidates, config.num_uncertain) == (12544, 37632, 9408)
    logits, _, seeds = random_case(0)
    points = choose_points(logits, seeds, config)
    assert points.shape == (3, 12544, 2)
    candidates = uniforms(seeds, 2 * 37632).view(3, 37632, 2)
    for sample in range(3):
        doubt = sample_logits(logits, points)[sample].abs()
        all_doubts = sample_logits(logits, candidates)[sample].abs().sort().values
        # The chosen 9,408 are the least sure of the candidates; the other 3,136 are not of them.
        assert torch.equal(doubt[:9408], all_doubts[:9408])
        assert doubt[9408:].max() > all_doubts[9408]


def test_a_sample_s_loss_and_gradient_do_not_depend_on_its_batch() -> None:
    logits, targets, seeds = random_case(1, number=5)
    logits.requires_grad_()
    together = hq_loss(logits, targets, seeds, SMALL)
    (gradient,) = torch.autograd.grad(together.total.sum(), logits)
    for rows in ([2], [4, 2], [0, 2, 1]):
        part = logits[rows].detach().requires_grad_()
        alone = hq_loss(part, targets[rows], seeds[rows], SMALL)
        (own,) = torch.autograd.grad(alone.total.sum(), part)
        torch.testing.assert_close(alone.total, together.total[rows], rtol=1e-6, atol=0)
        torch.testing.assert_close(own, gradient[rows], rtol=1e-5, atol=1e-8)


def test_equal_logits_are_chosen_by_their_number() -> None:
    _, targets, seeds = random_case(2)
    logits = torch.zeros((3, 1, 16, 16))
    points = choose_points(logits, seeds, SMALL)
    # Zero everywhere: the first candidates are taken, on any device and in any batch.
    assert torch.equal(points[:, :30], uniforms(seeds, 2 * 120).view(3, 120, 2)[:, :30])
    losses = hq_loss(logits, targets, seeds, SMALL)
    assert losses.bce.tolist() == pytest.approx([math.log(2)] * 3)


def test_the_gradient_is_that_of_the_formulas() -> None:
    logits, targets, seeds = random_case(3, number=2, small=6, large=12)
    config = LossConfig(num_points=60)
    points = choose_points(logits, seeds, config)
    wide = logits.double().requires_grad_()

    def total(values: Tensor) -> Tensor:
        at = torch.nn.functional.grid_sample(
            values, (2 * points.double() - 1)[:, :, None], align_corners=False
        )[:, 0, :, 0]
        truth = sample_targets(targets, points).double()
        share = at.sigmoid()
        bce = -(truth * share.log() + (1 - truth) * (1 - share).log()).mean(1)
        dice = 1 - (2 * (share * truth).sum(1) + 1) / (share.sum(1) + truth.sum(1) + 1)
        return (bce + dice).sum()

    assert torch.autograd.gradcheck(total, (wide,))
    (expected,) = torch.autograd.grad(total(wide), wide)
    ours = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(hq_loss(ours, targets, seeds, config).total.sum(), ours)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-7)


def test_targets_are_sampled_like_logits() -> None:
    _, targets, seeds = random_case(4, large=32)
    points = uniforms(seeds, 600).view(3, 300, 2)
    as_floats = sample_logits(targets[:, None].float(), points) / 255
    torch.testing.assert_close(sample_targets(targets, points), as_floats, rtol=1e-6, atol=1e-7)


def test_the_parts_are_weighted() -> None:
    case = random_case(5)
    losses = hq_loss(*case, LossConfig(num_points=40, bce_weight=2.0, dice_weight=0.5))
    torch.testing.assert_close(losses.total, 2 * losses.bce + 0.5 * losses.dice)
    plain = hq_loss(*case, SMALL)
    assert torch.equal(plain.bce, losses.bce)
    assert torch.equal(plain.dice, losses.dice)


def test_a_perfect_mask_has_next_to_no_loss_and_its_opposite_a_large_one() -> None:
    targets = torch.zeros((1, 64, 64), dtype=torch.uint8)
    targets[:, 16:48, 16:48] = 255
    small = targets[:, None, 2::4, 2::4].float() / 255
    seeds = torch.tensor([7])
    good = hq_loss(40 * small - 20, targets, seeds, LossConfig(num_points=400, importance=0.0))
    bad = hq_loss(20 - 40 * small, targets, seeds, LossConfig(num_points=400, importance=0.0))
    assert good.total.item() < 1
    assert bad.bce.item() > 15
    assert bad.dice.item() > 0.9


def test_half_precision_logits_and_an_empty_batch() -> None:
    logits, targets, seeds = random_case(6)
    half = hq_loss(logits.bfloat16(), targets, seeds, SMALL)
    assert half.total.dtype == torch.float32
    assert torch.equal(half.total, hq_loss(logits.bfloat16().float(), targets, seeds, SMALL).total)
    none = hq_loss(logits[:0], targets[:0], seeds[:0], SMALL)
    assert none.total.shape == (0,)


def test_a_nan_among_the_logits_is_not_hidden() -> None:
    logits, targets, seeds = random_case(7)
    logits[1] = math.nan
    losses = hq_loss(logits, targets, seeds, SMALL)
    assert losses.total.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("field", "value"), [("num_points", 0), ("oversample", 0.5), ("importance", 1.5)]
)
def test_impossible_settings_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        LossConfig(**{field: value})
