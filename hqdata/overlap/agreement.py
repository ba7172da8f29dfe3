"""Do the pixels agree? The last word on whether two pictures share something.

The evaluation picture is laid over the training picture by the transform, and small windows all
over the common region are compared by normalised cross-correlation, which neither brightness nor
contrast changes. A copy agrees nearly everywhere; a composite agrees around what covers it; two
photographs of similar things agree nowhere in particular, and agree as well when they are shifted.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hqdata.overlap.geometry import Matrix

Gray = NDArray[np.uint8]

SIDE = 256
"""Longer side in pixels of the frame in which windows are compared."""

WINDOW = 15
STRIDE = 5
SLACK = 2
"""Windows may be off by so many pixels: transforms are fitted to features, not to pixels."""

TEXTURE = 4.0
"""Standard deviation in grey levels below which a window shows nothing to compare."""

AGREES = 0.85
"""Correlation from which on two windows show the same. Of windows of copies at JPEG quality 10 nine
in ten reach it, of windows of unrelated pictures one in fifty.
"""

DIFFERS = 0.5
"""Correlation below which two windows show different things, not one thing in bad quality."""

MIN_WINDOWS = 16
"""Windows that have to be compared before nearly all of them agreeing says something."""

MIN_PATCH = 40
"""Windows of a connected patch that agrees: some 45 by 45 pixels of 256, as the windows overlap."""

MIN_GAINED = 30
"""Windows of those that agree that have to disagree when shifted."""

MIN_RATIO = 6
"""Windows that agree only as the pictures lie, for each one that agrees only when they are shifted.
Copies with half of them covered have more than twenty, two photographs of one wall have four.
"""

MIN_PART = 0.06
"""Share of the compared windows that has to agree."""

MIN_SHARED = 0.03
"""Share of the common region that has to agree: less is a logo that two pictures carry."""

_NOISE = 1.5
_CONTROL = 9
"""Shift in pixels of the control: what agrees there too is pattern, not proof."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two aligned pictures agree.

    Attributes:
        windows: number of windows in the common region with something to compare.
        agreeing: how many of them agree.
        patch: how many windows the largest connected patch of agreeing windows has.
        gained: windows that agree as the pictures lie and do not when they are shifted against each
            other, in the least favourable of four directions.
        lost: windows that agree only when shifted in that direction.
        train_fraction, evaluation_fraction: share of each picture that the common region takes.
        hole: share of the compared windows in the largest patch that shows something else.
        shared: share of the common region, bare or not, whose windows agree.
        whole: correlation of the common region as one window, -1 to 1.
    """

    windows: int
    agreeing: int
    patch: int
    gained: int
    lost: int
    train_fraction: float
    evaluation_fraction: float
    hole: float
    shared: float
    whole: float

    @property
    def score(self) -> float:
        """Share of what can be compared that agrees, 0 to 1."""
        return self.agreeing / self.windows if self.windows else 0.0

    @property
    def is_proof(self) -> bool:
        """Whether the two pictures show the same pixels, by chance next to never.

        Either nearly everything agrees, or a connected patch does that is large and more than a
        watermark. And the pictures agree where they lie, not when they are shifted: what agrees
        either way, a plain sky or the edge of a wall, counts for nothing.
        """
        whole = (
            self.windows >= MIN_WINDOWS and self.score >= 0.75 and self.gained >= 0.1 * self.windows
        )
        part = (
            self.patch >= MIN_PATCH
            and self.gained >= MIN_GAINED
            and self.score >= MIN_PART
            and self.shared >= MIN_SHARED
        )
        return (whole or part) and self.gained >= MIN_RATIO * self.lost


def compare(train: Gray, evaluation: Gray, matrix: Matrix) -> Agreement | None:
    """Compares two gray pictures; None where they have next to nothing in common.

    Args:
        train, evaluation: uint8 (h, w), upright.
        matrix: (3, 3), takes pixels of `evaluation` to pixels of `train`.
    """
    height, width = train.shape
    corners = _corners(evaluation.shape[1], evaluation.shape[0], matrix)
    area, region = cv2.intersectConvexConvex(
        corners.astype(np.float32), _corners(width, height, np.eye(3)).astype(np.float32)
    )
    if region is None or area < 64:
        return None
    stretch = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    x0, y0 = region.reshape(-1, 2).min(axis=0)
    x1, y1 = region.reshape(-1, 2).max(axis=0)
    scale = min(SIDE / max(x1 - x0, y1 - y0), 1.0, 1.0 / stretch)
    size = (max(1, int(np.ceil((x1 - x0) * scale))), max(1, int(np.ceil((y1 - y0) * scale))))
    if min(size) < WINDOW:
        return None
    to_frame = np.array([[scale, 0, -x0 * scale], [0, scale, -y0 * scale], [0, 0, 1.0]])
    ours = _warp(train, to_frame, size)
    theirs = _warp(evaluation, to_frame @ matrix, size)
    common = _inside(evaluation.shape, to_frame @ matrix, size) & _inside(
        train.shape, to_frame, size
    )
    correlation, textured = _correlate(_detail(ours), _detail(theirs))
    radius = WINDOW // 2
    whole = cv2.erode(common.astype(np.uint8), np.ones((WINDOW, WINDOW), np.uint8), borderValue=0)[
        radius::STRIDE, radius::STRIDE
    ].astype(bool)
    compared = whole & textured
    agrees = compared & (correlation[0] >= AGREES)
    controls = [compared & (value >= AGREES) for value in correlation[1:]]
    gained, lost = min(
        ((int((agrees & ~c).sum()), int((c & ~agrees).sum())) for c in controls),
        key=lambda counts: counts[0] - MIN_RATIO * counts[1],
    )
    return Agreement(
        windows=int(compared.sum()),
        agreeing=int(agrees.sum()),
        patch=_largest_patch(agrees),
        gained=gained,
        lost=lost,
        train_fraction=min(1.0, area / (width * height)),
        evaluation_fraction=min(1.0, area / stretch**2 / evaluation.size),
        hole=_largest_patch(compared & (correlation[0] < DIFFERS)) / max(1, int(compared.sum())),
        shared=float(agrees.sum() / max(1, whole.sum())),
        whole=_as_one(ours[common], theirs[common]),
    )


def _corners(width: int, height: int, matrix: Matrix) -> Matrix:
    box = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1.0]])
    box[:, :2] -= 0.5
    mapped = (box @ matrix.T)[:, :2]
    # cv2 wants them in one sense of rotation, whichever way the transform turns them.
    return np.asarray(mapped[::-1] if np.linalg.det(matrix[:2, :2]) < 0 else mapped, np.float64)


def _warp(picture: Gray, matrix: Matrix, size: tuple[int, int]) -> NDArray[np.float32]:
    """The picture in the frame, averaged where it shrinks."""
    shrink = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    if shrink < 0.75:
        height, width = picture.shape
        smaller = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        grown = np.diag([width / smaller[0], height / smaller[1], 1.0])
        grown[:2, 2] = (np.diag(grown)[:2] - 1) / 2
        picture = np.asarray(cv2.resize(picture, smaller, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = matrix @ grown
    warped = cv2.warpAffine(
        picture, matrix[:2], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, np.float32)


def _detail(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is neither noise nor a slow change of brightness: skies agree with skies, shadows with
    shadows.
    """
    return np.asarray(cv2.GaussianBlur(values, (0, 0), 0.9) - cv2.GaussianBlur(values, (0, 0), 6.0))


def _inside(shape: tuple[int, ...], matrix: Matrix, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Where in the frame the picture is."""
    mask = np.full(shape[:2], 255, np.uint8)
    return np.asarray(cv2.warpAffine(mask, matrix[:2], size, flags=cv2.INTER_NEAREST) > 0)


def _correlate(
    ours: NDArray[np.float32], theirs: NDArray[np.float32]
) -> tuple[list[NDArray[np.float32]], NDArray[np.bool_]]:
    """Best correlation of each window over the slack, aligned and at the control shifts; and which
    windows have texture in either picture.
    """
    mean_a, var_a = _moments(ours)
    deviation_a = np.sqrt(var_a + _NOISE**2)
    pad = SLACK + _CONTROL
    wide = cv2.copyMakeBorder(theirs, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    mean_b, var_b = _moments(wide)
    deviation_b = np.sqrt(var_b + _NOISE**2)
    height, width = ours.shape
    radius = WINDOW // 2

    def best(dy: int, dx: int, slack: int) -> NDArray[np.float32]:
        result: NDArray[np.float32] | None = None
        for sy in range(dy - slack, dy + slack + 1):
            for sx in range(dx - slack, dx + slack + 1):
                ys, xs = slice(pad + sy, pad + sy + height), slice(pad + sx, pad + sx + width)
                cross = cv2.boxFilter(ours * wide[ys, xs], cv2.CV_32F, (WINDOW, WINDOW))
                value = (cross - mean_a * mean_b[ys, xs]) / (deviation_a * deviation_b[ys, xs])
                value = value[radius::STRIDE, radius::STRIDE]
                result = value if result is None else np.maximum(result, value)
        assert result is not None
        return result

    aligned = best(0, 0, SLACK)
    shifts = ((0, _CONTROL), (_CONTROL, 0), (0, -_CONTROL), (-_CONTROL, 0))
    controls = [best(dy, dx, SLACK) for dy, dx in shifts]
    inner = slice(pad, pad + height), slice(pad, pad + width)
    spread = np.sqrt(np.maximum(var_a, var_b[inner]))[radius::STRIDE, radius::STRIDE]
    return [aligned, *controls], np.asarray(spread >= TEXTURE)


def _as_one(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Correlation of two pictures as a whole, 0 where one of them is of one colour."""
    if ours.size < 2:
        return 0.0
    a, b = ours - ours.mean(dtype=np.float64), theirs - theirs.mean(dtype=np.float64)
    norm = float(np.sqrt((a * a).mean() * (b * b).mean()))
    return float((a * b).mean()) / norm if norm > 1.0 else 0.0


def _moments(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and variance of every window."""
    mean = cv2.boxFilter(values, cv2.CV_32F, (WINDOW, WINDOW))
    square = cv2.boxFilter(values * values, cv2.CV_32F, (WINDOW, WINDOW))
    return np.asarray(mean, np.float32), np.maximum(np.asarray(square - mean * mean), 0)


def _largest_patch(windows: NDArray[np.bool_]) -> int:
    """Windows in the largest connected patch; single ones and thin seams are left out of it."""
    opened = cv2.morphologyEx(windows.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    _, _, figures, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    return int(figures[1:, cv2.CC_STAT_AREA].max(initial=0))
