"""The verdict on one pair of pictures: the same, a part of it, a composite, or nothing at all?

Whatever proposed the pair, its transforms are tried on the pixels, and the pixels decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hqdata.fingerprint import ORIENTATIONS, Box, trim_borders
from hqdata.overlap.agreement import (
    ALONE,
    BACKED,
    FRAMED,
    MIN_SCORE,
    MIN_WINDOWS,
    Agreement,
    Limits,
    compare,
)
from hqdata.overlap.features import to_gray
from hqdata.overlap.geometry import Alignment, Matrix
from hqdata.overlap.hashes import MATCH_BITS, Alike, implied_transform
from hqdata.overlap.report import Kind

VIEW_SIDE = 512
"""Longer side in pixels of the pictures that are compared."""

MIN_WHOLE = 0.85
"""Share of both pictures that the common region takes in a copy of the whole."""

MAX_HOLE = 0.055
"""Share of the compared windows in one patch that disagrees from which on something covers it."""

MANY_PLACES = 10
"""Places in which features agree that back a transform."""

MAX_TILT = 0.2
"""How far such a transform may turn or shear the axes of a picture off a quarter turn, as a
tangent: copies lie straight or a little askew, and two drawings of wires agree at any angle.
"""

UNBACKED_SCORE, UNBACKED_SHARED = 0.3, 0.08
"""Shares of the windows and of the common region that have to agree where nothing backs the
transform that features propose: two bottles of one brand, two photographs of one wall stay below.
"""

MAX_OFF_FRAME = 0.03
"""How far the corners of two frames laid over one another may lie apart, as a share of the
diagonal. Chance transforms take corners anywhere; whoever pastes something over a picture leaves
the rest where it was.
"""

BARE_CORRELATION = 0.99
"""Correlation of the whole common region in two copies of a picture too bare for windows."""

MIN_PLACES = 24
"""Places in which features agree that stand in for pixels where there are only fingerprints. Among
unrelated photographs no more than a dozen ever did.
"""

Gray = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class View:
    """A picture as it is compared.

    Attributes:
        gray: uint8 (h, w), upright, at most `VIEW_SIDE`.
        width, height: of the picture at its full size, in pixels.
    """

    gray: Gray
    width: int
    height: int

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> View:
        """The view of an upright picture, uint8 (h, w) gray or (h, w, 3) RGB."""
        return cls(to_gray(pixels, VIEW_SIDE), pixels.shape[1], pixels.shape[0])

    def to_full(self) -> Matrix:
        """float64 (3, 3): from pixels of the view to pixels of the picture."""
        height, width = self.gray.shape
        across, down = self.width / width, self.height / height
        return np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1.0]])

    def content(self) -> Box:
        """The box inside uniform borders, in pixels of the view."""
        return trim_borders(self.gray)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be said of a pair.

    Attributes:
        kind: how the pictures are alike.
        confirmed: whether it is proven.
        reason: a sentence for people.
        score: share of the compared windows that agree, None where no pixels were compared.
        inliers: features that agree on the transform, None where none were asked.
        matrix: (3, 3), from pixels of the evaluation picture to those of the training picture, both
            at full size; None where nothing was aligned.
        train_fraction, evaluation_fraction: share of each picture that agrees.
    """

    kind: Kind
    confirmed: bool
    reason: str
    score: float | None
    inliers: int | None
    matrix: Matrix | None
    train_fraction: float | None
    evaluation_fraction: float | None


def judge(
    train: View, evaluation: View, alike: Alike | None, alignments: Sequence[Alignment]
) -> Judgement | None:
    """The judgement on two pictures by their pixels, None where nothing connects them.

    Args:
        train, evaluation: the pictures.
        alike: what their hashes say, or None.
        alignments: what their features say, at full size, the best first.
    """
    tried = [_Try(matrix, None, ALONE) for matrix in _implied(train, evaluation, alike)]
    if alike is None and not alignments:
        # Nothing but a name or a wish connects them: try the plain and the mirrored picture.
        tried += [_Try(_over(evaluation, train, o), None, ALONE) for o in (0, 5)]
    into, out = np.linalg.inv(train.to_full()), evaluation.to_full()
    for alignment in alignments:
        matrix = into @ alignment.matrix @ out
        framed = _framed(matrix, train, evaluation)
        backed = alignment.places >= MANY_PLACES and _tilt(matrix) <= MAX_TILT
        limits = BACKED if backed else ALONE
        tried.append(_Try(matrix, alignment, limits if framed is None else FRAMED))
        if framed is not None:
            tried.append(_Try(framed, alignment, FRAMED))
    best: tuple[Agreement, _Try] | None = None
    for one in tried:
        agreement = compare(train.gray, evaluation.gray, one.matrix)
        if agreement is None:
            continue
        if one.alignment is not None and one.limits is ALONE and _is_little(agreement):
            continue
        if best is None or _weight(agreement, one) > _weight(*best):
            best = (agreement, one)
        if agreement.proves() and agreement.score >= 0.95 and agreement.train_fraction > 0.9:
            break
    if best is not None and best[0].proves(best[1].limits):
        return _proven(train, evaluation, *best, alike)
    if best is not None and alike is not None and alike.distance <= MATCH_BITS:
        return _bare(train, evaluation, best[0], best[1].matrix, alike)
    if best is None and alike is not None and alike.distance <= MATCH_BITS:
        reason = (
            f"the hashes differ in {alike.distance} of 256 bits; the pictures are too small or too "
            "narrow to be compared"
        )
        return Judgement("near", False, reason, None, None, None, None, None)
    return None


def judge_fingerprints(alike: Alike | None, alignments: Sequence[Alignment]) -> Judgement | None:
    """The judgement where the evaluation picture itself is not to be had."""
    best = max(alignments, key=lambda a: a.places, default=None)
    if alike is not None and alike.distance <= MATCH_BITS:
        matrix = None if best is None else best.matrix
        inliers = None if best is None else len(best.inliers)
        sure = best is not None and best.places >= MIN_PLACES // 2
        reason = (
            f"the hashes differ in {alike.distance} of 256 bits; the evaluation picture is known "
            "by its fingerprint only"
        )
        return Judgement("near", sure, reason, None, inliers, matrix, None, None)
    if best is not None and best.places >= MIN_PLACES:
        reason = (
            f"{len(best.inliers)} local features in {best.places} places agree on one transform; "
            "the evaluation picture is known by its fingerprint only"
        )
        return Judgement(
            "composite", True, reason, None, len(best.inliers), best.matrix, None, None
        )
    return None


@dataclass(frozen=True, slots=True)
class _Try:
    """A transform of views to be tried, what proposed it, and what a part has to show then."""

    matrix: Matrix
    alignment: Alignment | None
    limits: Limits


def _is_little(agreement: Agreement) -> bool:
    return agreement.score < UNBACKED_SCORE or agreement.shared < UNBACKED_SHARED


def _weight(agreement: Agreement, one: _Try) -> tuple[bool, float]:
    share = max(agreement.train_fraction, agreement.evaluation_fraction)
    return agreement.proves(one.limits), agreement.gained * share


def _implied(train: View, evaluation: View, alike: Alike | None) -> list[Matrix]:
    """The transforms that two hashes imply, with borders trimmed as the hashes had them."""
    if alike is None:
        return []
    ours = train.content() if alike.query_trimmed else _whole(train)
    theirs = evaluation.content() if alike.evaluation_trimmed else _whole(evaluation)
    return [implied_transform(alike.orientation, theirs, ours)]


def _over(evaluation: View, train: View, orientation: int) -> Matrix:
    """The transform that lays one whole view over the other."""
    return implied_transform(orientation, _whole(evaluation), _whole(train))


def _framed(matrix: Matrix, train: View, evaluation: View) -> Matrix | None:
    """The transform that lays one frame exactly over the other, if this one nearly does."""
    height, width = evaluation.gray.shape
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1.0]])
    corners[:, :2] -= 0.5
    limit = MAX_OFF_FRAME * float(np.hypot(*train.gray.shape))
    for orientation in range(len(ORIENTATIONS)):
        exact = _over(evaluation, train, orientation)
        if np.abs((corners @ (matrix - exact).T)[:, :2]).max() <= limit:
            return exact
    return None


def _tilt(matrix: Matrix) -> float:
    """Tangent of the larger angle by which the transform takes an axis off the nearest axis."""
    smaller, larger = np.sort(np.abs(matrix[:2, :2]), axis=0)
    return float((smaller / larger).max())


def _whole(view: View) -> Box:
    return 0, 0, view.gray.shape[1], view.gray.shape[0]


def _covered(box: Box, other: View, matrix: Matrix) -> float:
    """Share of a box of a view that the other view covers, laid over it by the transform."""
    height, width = other.gray.shape
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1.0]])
    corners[:, :2] -= 0.5
    laid = (corners @ matrix.T)[:, :2]
    if np.linalg.det(matrix[:2, :2]) < 0:
        laid = laid[::-1]
    x0, y0, x1, y1 = (value - 0.5 for value in box)
    edges = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)
    area, _ = cv2.intersectConvexConvex(np.ascontiguousarray(laid, np.float32), edges)
    return min(1.0, float(area) / ((x1 - x0) * (y1 - y0)))


def _proven(
    train: View,
    evaluation: View,
    agreement: Agreement,
    one: _Try,
    alike: Alike | None,
) -> Judgement:
    matrix, alignment = one.matrix, one.alignment
    # A border is nothing of the picture: inside a frame the whole picture may be.
    ours = _covered(train.content(), evaluation, matrix)
    theirs = _covered(evaluation.content(), train, np.asarray(np.linalg.inv(matrix), np.float64))
    covered = agreement.hole >= MAX_HOLE or agreement.score < MIN_SCORE
    kind: Kind
    if covered:
        kind = "composite"
        what = (
            f"{agreement.score:.0%} of what can be compared agrees, other content covers the rest"
        )
    elif min(ours, theirs) >= MIN_WHOLE:
        kind = "near"
        what = f"{agreement.score:.0%} of what can be compared agrees, over the whole picture"
    else:
        kind = "crop"
        what = f"{agreement.score:.0%} of what can be compared agrees, {_part(ours, theirs)}"
    share = agreement.shared if covered else agreement.score
    return Judgement(
        kind,
        True,
        f"{what}; {_found_by(alignment, alike)}",
        round(agreement.score, 4),
        None if alignment is None else len(alignment.inliers),
        train.to_full() @ matrix @ np.linalg.inv(evaluation.to_full()),
        round(agreement.train_fraction * share, 4),
        round(agreement.evaluation_fraction * share, 4),
    )


def _part(ours: float, theirs: float) -> str:
    if theirs < ours:
        return f"a part of the evaluation picture ({theirs:.0%})"
    return f"a part of the training picture ({ours:.0%})"


def _found_by(alignment: Alignment | None, alike: Alike | None) -> str:
    if alignment is not None:
        return f"aligned by {len(alignment.inliers)} local features in {alignment.places} places"
    if alike is not None:
        return f"the hashes differ in {alike.distance} of 256 bits"
    return "laid over one another as they are"


def _bare(
    train: View, evaluation: View, agreement: Agreement, matrix: Matrix, alike: Alike
) -> Judgement:
    """Two pictures whose hashes match and whose pixels do not prove it: too bare, or not the same.

    Nothing is concluded from a hash alone, but it is not hidden either.
    """
    bare = agreement.windows < MIN_WINDOWS
    why = (
        f"only {agreement.windows} windows have anything to compare"
        if bare
        else f"only {agreement.score:.0%} of what can be compared agrees"
    )
    # A bare picture, a disc on a plain ground say, has no windows but may agree as a whole.
    confirmed = bare and agreement.whole >= BARE_CORRELATION
    return Judgement(
        "near",
        confirmed,
        f"the hashes differ in {alike.distance} of 256 bits; {why}",
        round(agreement.score, 4),
        None,
        train.to_full() @ matrix @ np.linalg.inv(evaluation.to_full()),
        round(agreement.train_fraction * agreement.score, 4),
        round(agreement.evaluation_fraction * agreement.score, 4),
    )
