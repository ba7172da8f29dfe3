"""What is a pair, given two pictures and what their features say."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hqdata.overlap.geometry import Alignment, Matrix
from hqdata.overlap.judge import MANY_PLACES, View, judge

SIDE = 512


def noise(seed: int) -> np.ndarray:
    """A picture full of detail, like no other."""
    coarse = np.random.default_rng(seed).integers(0, 256, (SIDE // 4, SIDE // 4), np.uint8)
    return cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def turned(degrees: float) -> Matrix:
    """From the evaluation picture to the training picture: turned about its centre, a bit smaller,
    so that the frames do not lie on one another.
    """
    centre = ((SIDE - 1) / 2, (SIDE - 1) / 2)
    matrix = np.eye(3)
    matrix[:2] = cv2.getRotationMatrix2D(centre, degrees, 0.8)
    return matrix


def composite(matrix: Matrix) -> np.ndarray:
    """Training picture of its own content but for a square that the evaluation picture shows."""
    ours, theirs = noise(1), cv2.warpAffine(noise(2), matrix[:2], (SIDE, SIDE))
    ours[150:320, 150:320] = theirs[150:320, 150:320]
    return ours


@pytest.mark.parametrize(
    ("degrees", "is_pair"),
    [
        (0.0, True),
        (8.0, True),  # a little askew
        (90.0, True),
        (25.0, False),  # nobody lays a background at such an angle: it has to show more
    ],
)
def test_a_small_shared_part_is_proof_only_where_the_transform_is_straight(degrees, is_pair):
    matrix = turned(degrees)
    found = judge(
        View.of(composite(matrix)),
        View.of(noise(2)),
        None,
        [Alignment(matrix, np.arange(20), MANY_PLACES)],
    )
    assert (found is not None and found.confirmed) == is_pair
    if found is not None:
        assert found.kind == "composite"


def test_a_large_shared_part_is_proof_at_any_angle():
    matrix = turned(25.0)
    ours = cv2.warpAffine(noise(2), matrix[:2], (SIDE, SIDE))
    found = judge(
        View.of(ours), View.of(noise(2)), None, [Alignment(matrix, np.arange(20), MANY_PLACES)]
    )
    assert found is not None
    assert found.confirmed
