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

MIN_SCORE = 0.75
"""Share of the compared windows that agrees in a copy that nothing covers."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a part of a picture has to show to be proof.

    Attributes:
        patch: windows of the largest connected patch that agrees. They overlap: 40 are some 45 by
            45 pixels of a frame of 256.
        gained: windows that agree as the pictures lie and not when they are shifted.
        ratio: of these, for each window that agrees only when shifted. Copies with half of them
            covered have more than twenty, two photographs of one wall have four.
        score: share of the compared windows that agrees.
        shared: share of the common region that agrees: less is a logo that two pictures carry.
        extent: share of the common region's width and height that the agreeing patches span: a
            footer that two pictures carry is a strip.
        likeness: correlation that half of the agreeing windows exceed. Two drawings after one
            pattern, two bicycles of one make agree in outline and so come to 0.92; copies at JPEG
            quality 40 and half the size come to 0.97.
    """

    patch: int
    gained: int
    ratio: float
    score: float
    shared: float
    extent: float
    likeness: float


ALONE = Limits(40, 30, ratio=6, score=0.06, shared=0.03, extent=0.25, likeness=0.94)
"""Where nothing backs a transform but the features that proposed it."""

BACKED = Limits(24, 20, ratio=3, score=0.035, shared=0.03, extent=0.17, likeness=0.94)
"""Where local features agree on it in many places."""

FRAMED = Limits(16, 16, ratio=3, score=0.035, shared=0.025, extent=0.17, likeness=0.9)
"""Where it lays one frame exactly over the other."""

_NOISE = 1.5
_FIXED = ((0, 9), (9, 0), (0, -9), (-9, 0))
"""Shifts in pixels that serve as controls: what agrees there too is pattern, not proof."""

_CENTRES = slice(WINDOW // 2, None, STRIDE)
_PEAKS = 3
"""Shifts at which a picture is most like itself that are controls, too: tiles, fences, type."""

_MIN_PEAK = 0.3


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two aligned pictures agree.

    Attributes:
        windows: number of windows in the common region with something to compare.
        agreeing: how many of them agree.
        patch: how many windows the largest connected patch of agreeing windows has.
        extent: of the box around all agreeing patches, the share of the common region's width or
            height, whichever is less.
        likeness: correlation that half of the agreeing windows exceed.
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
    extent: float
    likeness: float
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

    def proves(self, limits: Limits | None = None) -> bool:
        """Whether the two pictures show the same pixels, by chance next to never.

        Either nearly everything agrees, or a connected patch does that is large, spread out, and
        more than a watermark or a footer. And the pictures agree where they lie, not when they are
        shifted: what agrees either way, a plain sky or the edge of a wall, counts for nothing.

        Args:
            limits: what a part has to show: the less, the more backs the transform. `ALONE` if
                nothing does.
        """
        limits = limits or ALONE
        whole = self.windows >= MIN_WINDOWS and self.score >= MIN_SCORE
        if whole and self.gained >= max(self.windows / 10, ALONE.ratio * self.lost):
            return True
        return (
            self.patch >= limits.patch
            and self.gained >= max(limits.gained, limits.ratio * self.lost)
            and self.score >= limits.score
            and self.shared >= limits.shared
            and self.extent >= limits.extent
            and self.likeness >= limits.likeness
        )


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
    windows = _Windows(_detail(ours), _detail(theirs), common)
    compared = windows.whole & windows.textured
    correlation = windows.correlate(0, 0)
    agrees = compared & (correlation >= AGREES)
    patches = _opened(agrees)
    patch, score = _largest_patch(patches), agrees.sum() / max(1, compared.sum())
    # The controls take longest: only what could be a proof is put to them.
    doubtful = score < MIN_SCORE and (patch < FRAMED.patch or score < FRAMED.score)
    gained, lost = (0, 0) if doubtful else _gained_and_lost(windows, agrees)
    return Agreement(
        windows=int(compared.sum()),
        agreeing=int(agrees.sum()),
        patch=patch,
        extent=_extent(patches, windows.whole),
        likeness=float(np.median(correlation[agrees])) if agrees.any() else 0.0,
        gained=gained,
        lost=lost,
        train_fraction=min(1.0, area / (width * height)),
        evaluation_fraction=min(1.0, area / stretch**2 / evaluation.size),
        hole=_largest_patch(_opened(compared & (correlation < DIFFERS)))
        / max(1, int(compared.sum())),
        shared=float(agrees.sum() / max(1, windows.whole.sum())),
        whole=_as_one(ours[common], theirs[common]),
    )


def _gained_and_lost(windows: _Windows, agrees: NDArray[np.bool_]) -> tuple[int, int]:
    """See `Agreement`; only windows count that have a counterpart when shifted, too."""
    worst: tuple[int, int] | None = None
    compared = windows.whole & windows.textured
    for dy, dx in (*_FIXED, *windows.peaks()):
        valid = compared & windows.counterpart(dy, dx)
        if valid.sum() < 0.25 * compared.sum():
            continue
        shifted = valid & (windows.correlate(dy, dx) >= AGREES)
        counts = int((valid & agrees & ~shifted).sum()), int((shifted & ~agrees).sum())
        if worst is None or counts[0] - ALONE.ratio * counts[1] < worst[0] - ALONE.ratio * worst[1]:
            worst = counts
    return worst or (0, 0)


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
    fine, coarse = (cv2.GaussianBlur(values, (0, 0), sigma) for sigma in (0.9, 6.0))
    return np.asarray(fine - coarse, np.float32)


def _inside(shape: tuple[int, ...], matrix: Matrix, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Where in the frame the picture is."""
    mask = np.full(shape[:2], 255, np.uint8)
    return np.asarray(cv2.warpAffine(mask, matrix[:2], size, flags=cv2.INTER_NEAREST) > 0)


class _Windows:
    """Two pictures of one size, cut into windows that can be held against one another."""

    def __init__(
        self, ours: NDArray[np.float32], theirs: NDArray[np.float32], common: NDArray[np.bool_]
    ) -> None:
        self._ours = ours
        self._mean_a, variance_a = _moments(ours)
        mean_b, variance_b = _moments(theirs)
        self._deviation_a = np.sqrt(variance_a + _NOISE**2)[_CENTRES, _CENTRES]
        square = np.ones((WINDOW, WINDOW), np.uint8)
        self._inside = cv2.erode(common.astype(np.uint8), square, borderValue=0) > 0
        self.whole = self._inside[_CENTRES, _CENTRES]
        spread = np.sqrt(np.maximum(variance_a, variance_b))[_CENTRES, _CENTRES]
        self.textured = np.asarray(spread >= TEXTURE)
        # Room on all sides, so that a shifted picture is a slice and no copy.
        self._pad = max(ours.shape) // 2 + SLACK + 1
        self._theirs, self._mean_b, self._deviation_b = (
            np.pad(values, self._pad, mode="edge")
            for values in (theirs, mean_b, np.sqrt(variance_b + _NOISE**2))
        )
        self._mean_a = self._mean_a[_CENTRES, _CENTRES]

    def correlate(self, dy: int, dx: int) -> NDArray[np.float32]:
        """Best correlation over the slack of each window with the one at a distance."""
        height, width = self._ours.shape
        best = np.full(self.whole.shape, -1.0, np.float32)
        for y in range(self._pad + dy - SLACK, self._pad + dy + SLACK + 1):
            for x in range(self._pad + dx - SLACK, self._pad + dx + SLACK + 1):
                ys, xs = slice(y, y + height), slice(x, x + width)
                product = cv2.multiply(self._ours, self._theirs[ys, xs])
                cross = cv2.boxFilter(product, cv2.CV_32F, (WINDOW, WINDOW))[_CENTRES, _CENTRES]
                mean = self._mean_b[ys, xs][_CENTRES, _CENTRES]
                deviation = self._deviation_b[ys, xs][_CENTRES, _CENTRES]
                value = (cross - self._mean_a * mean) / (self._deviation_a * deviation)
                np.maximum(best, value, out=best)
        return best

    def counterpart(self, dy: int, dx: int) -> NDArray[np.bool_]:
        """Which windows are still inside the common region when shifted."""
        height, width = self._inside.shape
        there = np.zeros((height, width), bool)
        ys, xs = slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx))
        from_y, from_x = (
            slice(max(0, dy), height - max(0, -dy)),
            slice(max(0, dx), width - max(0, -dx)),
        )
        there[ys, xs] = self._inside[from_y, from_x]
        return there[_CENTRES, _CENTRES]

    def peaks(self) -> list[tuple[int, int]]:
        """(dy, dx) at which the picture is most like itself, if it repeats at all."""
        height, width = self._ours.shape
        spectrum = np.fft.rfft2(self._ours, (2 * height, 2 * width))
        similar = np.fft.irfft2(spectrum * spectrum.conj(), (2 * height, 2 * width))
        # As far as half the picture; one half of the plane mirrors the other.
        reach_y, reach_x = height // 2, width // 2
        plane = np.concatenate([similar[:reach_y, -reach_x:], similar[:reach_y, :reach_x]], axis=1)
        plane = (plane / max(float(similar[0, 0]), 1e-6)).astype(np.float32)
        # A repetition is a peak of its own, not the slope of the one in the middle.
        plane[plane < cv2.dilate(plane, np.ones((3, 3), np.uint8))] = 0
        found: list[tuple[int, int]] = []
        near = 2 * SLACK + 2
        plane[: near + 1, max(0, reach_x - near) : reach_x + near + 1] = 0
        for _ in range(_PEAKS):
            if not plane.size or plane.max() < _MIN_PEAK:
                break
            y, x = np.unravel_index(int(plane.argmax()), plane.shape)
            found.append((int(y), int(x) - reach_x))
            plane[max(0, y - near) : y + near + 1, max(0, x - near) : x + near + 1] = 0
        return found


def _as_one(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Correlation of two pictures as a whole, 0 where one of them is of one colour."""
    if ours.size < 2:
        return 0.0
    a, b = ours - ours.mean(dtype=np.float64), theirs - theirs.mean(dtype=np.float64)
    norm = float(np.sqrt((a * a).mean() * (b * b).mean()))
    return float((a * b).mean()) / norm if norm > 1.0 else 0.0


def _moments(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and variance of every window."""
    mean = np.asarray(cv2.boxFilter(values, cv2.CV_32F, (WINDOW, WINDOW)), np.float32)
    square = cv2.boxFilter(values * values, cv2.CV_32F, (WINDOW, WINDOW))
    return mean, np.maximum(np.asarray(square - mean * mean, np.float32), 0)


def _opened(windows: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The windows without single ones and thin seams."""
    square = np.ones((2, 2), np.uint8)
    return np.asarray(cv2.morphologyEx(windows.astype(np.uint8), cv2.MORPH_OPEN, square), np.uint8)


def _largest_patch(opened: NDArray[np.uint8]) -> int:
    """Windows in the largest connected patch."""
    _, _, figures, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    return int(np.max(figures[1:, cv2.CC_STAT_AREA], initial=0))


def _extent(opened: NDArray[np.uint8], whole: NDArray[np.bool_]) -> float:
    """See `Agreement.extent`."""
    if not opened.any():
        return 0.0
    shares = []
    for axis in (0, 1):
        agreeing = np.flatnonzero(opened.any(axis=axis))
        region = np.flatnonzero(whole.any(axis=axis))
        shares.append((agreeing[-1] - agreeing[0] + 1) / (region[-1] - region[0] + 1))
    return float(min(shares))
