"""From matched features to the one transform that most of them agree on.

Every match of two features proposes a whole similarity by itself: their sizes give the scale, their
angles the rotation, their places the shift. So no random sampling is needed: each match is asked
how many others it explains, and the best proposal is refined on those.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hqdata.overlap.features import Frames

Matrix = NDArray[np.float64]

TOLERANCE = 0.015
"""How far a feature may lie from where the transform puts it, as a share of the training picture's
diagonal.
"""

_MAX_HYPOTHESES = 200
_REFINED = 4
_STRETCHES = (1.0, 1.35, 1 / 1.35, 1.8, 1 / 1.8)
"""Ratios by which a copy may be wider than its original: a similarity fits too few features of a
picture that was squashed into a square.
"""

_ENOUGH = 10
"""Places in agreement from which on no other stretch is tried."""

_SQUASH = 2.6
"""How much more a copy may be stretched one way than the other: 16:9 made square is 1.8."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """A transform and what speaks for it.

    Attributes:
        matrix: float64 (3, 3), affine; takes (x, y, 1) of the evaluation picture to the training
            picture, both upright at full size in pixels.
        inliers: int (k,), indices of the matches that agree.
        places: how many clearly different places of the training picture the inliers lie in.
    """

    matrix: Matrix
    inliers: NDArray[np.intp]
    places: int


def align(
    evaluation: Frames,
    train: Frames,
    *,
    is_mirrored: bool,
    diagonal: float,
    stretched: bool = True,
) -> Alignment | None:
    """The transform most matches agree on, None if no three in different places do.

    Args:
        evaluation, train: float32 (n, 4), the frames of matched features, row by row.
        is_mirrored: whether the evaluation picture's features were mirrored to match.
        diagonal: of the training picture, in pixels.
        stretched: whether to try pictures that were squashed, too; takes five times as long.
    """
    tolerance = TOLERANCE * diagonal
    best: Alignment | None = None
    for stretch in _STRETCHES if stretched else _STRETCHES[:1]:
        found = _align(evaluation, train, is_mirrored, stretch, tolerance)
        if found is not None and (best is None or len(found.inliers) > len(best.inliers)):
            best = found
        if best is not None and best.places >= _ENOUGH:
            break
    return best


def _align(
    evaluation: Frames, train: Frames, is_mirrored: bool, stretch: float, tolerance: float
) -> Alignment | None:
    """`align` for pictures stretched by one ratio, as far as single features can tell."""
    source, target = evaluation[:, :2].astype(np.float64), train[:, :2].astype(np.float64)
    proposals = _similarities(_stretched(evaluation, stretch), train, is_mirrored=is_mirrored)
    proposals[:, :, :2] *= _factors(stretch)
    mapped = source @ proposals[:, :, :2].transpose(0, 2, 1) + proposals[:, None, :, 2]
    # A single feature's scale and angle are rough: far from it the tolerance has to be wider.
    apart = source[None] - source[: len(proposals), None]
    far = np.hypot(apart[..., 0], apart[..., 1])
    scale = np.sqrt(np.abs(np.linalg.det(proposals[:, :, :2])))
    off = mapped - target[None]
    within = np.hypot(off[..., 0], off[..., 1]) <= tolerance + 0.12 * far * scale[:, None]
    best: tuple[Matrix, NDArray[np.bool_]] | None = None
    count = within.sum(axis=1)
    for hypothesis in np.argsort(-count, kind="stable")[:_REFINED]:
        if count[hypothesis] < 3:
            break
        refined = _refine(source, target, within[hypothesis], tolerance)
        if refined is not None and (best is None or refined[1].sum() > best[1].sum()):
            best = refined
    if best is None:
        return None
    inliers = np.flatnonzero(best[1])
    places = _places(target[inliers], source[inliers], tolerance)
    return Alignment(best[0], inliers, places) if places >= 3 else None


def _factors(stretch: float) -> tuple[float, float]:
    """How much longer x and y get in a picture stretched by a ratio, its area kept."""
    return stretch**0.5, stretch**-0.5


def _stretched(frames: Frames, stretch: float) -> Frames:
    """The frames as they would be in the stretched picture, sizes apart."""
    if stretch == 1.0:
        return frames
    across, down = _factors(stretch)
    moved: Frames = np.array(frames)
    moved[:, 0] *= across
    moved[:, 1] *= down
    moved[:, 3] = np.arctan2(np.sin(frames[:, 3]) * down, np.cos(frames[:, 3]) * across)
    return moved


def _similarities(evaluation: Frames, train: Frames, *, is_mirrored: bool) -> Matrix:
    """float64 (h, 2, 3): the similarity that each match proposes."""
    evaluation = evaluation[:_MAX_HYPOTHESES].astype(np.float64)
    train = train[:_MAX_HYPOTHESES].astype(np.float64)
    scale = train[:, 2] / evaluation[:, 2]
    # In a mirrored picture (x turned round) a direction a becomes pi - a.
    angle_before = np.pi - evaluation[:, 3] if is_mirrored else evaluation[:, 3]
    turn = train[:, 3] - angle_before
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    flip = -1.0 if is_mirrored else 1.0
    matrix = np.empty((len(scale), 2, 3))
    matrix[:, 0, 0], matrix[:, 0, 1] = cos * flip, -sin
    matrix[:, 1, 0], matrix[:, 1, 1] = sin * flip, cos
    shift = train[:, :2] - np.einsum("hij,hj->hi", matrix[:, :, :2], evaluation[:, :2])
    matrix[:, :, 2] = shift
    return matrix


def _refine(
    source: Matrix, target: Matrix, inliers: NDArray[np.bool_], tolerance: float
) -> tuple[Matrix, NDArray[np.bool_]] | None:
    """An affine transform fitted to the inliers, and its own inliers; None if it collapses."""
    matrix = np.eye(3)
    for _ in range(4):
        if _places(target[inliers], source[inliers], tolerance) < 3:
            return None
        rows = np.concatenate([source[inliers], np.ones((int(inliers.sum()), 1))], axis=1)
        # With few or nearly collinear points an affine fit has no hold: lean on a similarity.
        matrix = _fit(rows, target[inliers])
        if not _is_sane(matrix):
            return None
        moved = source @ matrix[:2, :2].T + matrix[:2, 2]
        updated = np.linalg.norm(moved - target, axis=1) <= tolerance
        if np.array_equal(updated, inliers):
            break
        inliers = updated
    return matrix, inliers


def _fit(rows: Matrix, target: Matrix) -> Matrix:
    """Least squares, affine where at least six points in two directions hold it, else similar."""
    matrix = np.eye(3)
    centred = rows[:, :2] - rows[:, :2].mean(axis=0)
    spread = np.linalg.svd(centred, compute_uv=False)
    if len(rows) >= 6 and spread[-1] > 0.15 * spread[0]:
        matrix[:2] = np.linalg.lstsq(rows, target, rcond=None)[0].T
        return matrix
    flat = target - target.mean(axis=0)
    best, best_error = matrix, np.inf
    for flip in (1.0, -1.0):
        x, y = centred[:, 0] * flip, centred[:, 1]
        norm = float((x * x + y * y).sum()) or 1.0
        cos = float((x * flat[:, 0] + y * flat[:, 1]).sum()) / norm
        sin = float((x * flat[:, 1] - y * flat[:, 0]).sum()) / norm
        linear = np.array([[cos * flip, -sin], [sin * flip, cos]])
        error = float(((centred @ linear.T - flat) ** 2).sum())
        if error < best_error:
            best_error = error
            best = np.eye(3)
            best[:2, :2] = linear
            best[:2, 2] = target.mean(axis=0) - linear @ rows[:, :2].mean(axis=0)
    return best


def _is_sane(matrix: Matrix) -> bool:
    """Whether the transform keeps a picture a picture: it must not collapse to a line or a dot.

    Collapsed transforms gather many inliers, hundreds among unrelated pictures, because everything
    is close to everything else in a dot.
    """
    stretch = np.linalg.svd(matrix[:2, :2], compute_uv=False)
    return bool(stretch[1] >= 1 / 16 and stretch[0] <= 16 and stretch[0] <= _SQUASH * stretch[1])


def _places(target: Matrix, source: Matrix, tolerance: float) -> int:
    """How many different places the points lie in, in both pictures: a star or a letter that is
    found twenty times over is one place.
    """
    if not len(target):
        return 0
    if (source.max(axis=0) - source.min(axis=0)).max() < tolerance / 16:
        return 1
    # Plain tuples: for so few points a set is ten times as fast as numpy's unique.
    here = (target // max(2.0 * tolerance, 1e-6)).tolist()
    return len({(x, y) for x, y in here})
