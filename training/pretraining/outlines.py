"""What things look like in outline: compact, jagged, jointed, holed and thin ones.

A drawing has parts, which may be painted differently; a part has strokes. Coordinates are the
drawing's own, about -1 to 1, y downwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.pretraining.textures import U8, Rng

Points = NDArray[np.float64]
TAU = 2 * np.pi
_SHIFT = 4


@dataclass(frozen=True, slots=True)
class Stroke:
    """A filled outline, or a line.

    Attributes:
        points: float64 (n, 2), x and y.
        width: of the line, in units of the drawing; 0 fills the outline.
        is_hole: cuts out of its part instead of adding to it.
    """

    points: Points
    width: float = 0.0
    is_hole: bool = False


Part = list[Stroke]
Drawing = list[Part]


def _ring(radii: Points, squash: float = 1.0) -> Points:
    angles = np.arange(len(radii)) * (TAU / len(radii))
    return np.stack([np.cos(angles) * radii, np.sin(angles) * radii * squash], axis=1)


def blob(rng: Rng, rough: float = 0.25, number: int = 64) -> Points:
    """A closed curve about the origin, (number, 2), of radius about 1."""
    angles = np.arange(number) * (TAU / number)
    radii = np.ones(number)
    for order in range(2, 9):
        swing = rng.normal(0, rough / order**0.8)
        radii += swing * np.cos(order * angles + rng.uniform(0, TAU))
    return _ring(np.maximum(radii, 0.15), rng.uniform(0.5, 1.0))


def curve(rng: Rng, start: Points, heading: float, length: float, bend: float) -> Points:
    """A wandering line, (12, 2), from `start`."""
    turns = heading + np.cumsum(rng.normal(0, bend, 11))
    steps = np.stack([np.cos(turns), np.sin(turns)], axis=1) * (length / 11)
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    return np.asarray(start + path, np.float64)


def _compact(rng: Rng) -> Drawing:
    return [[Stroke(blob(rng, rng.uniform(0.02, 0.35)))]]


def _polygon(rng: Rng) -> Drawing:
    number = int(rng.integers(3, 9))
    radii = rng.uniform(0.55, 1.1, number) if rng.random() < 0.6 else np.ones(number)
    if rng.random() < 0.3:  # a star
        radii = np.tile([1.0, rng.uniform(0.35, 0.8)], number)
    return [[Stroke(_ring(radii, rng.uniform(0.5, 1.0)))]]


def _slab(rng: Rng) -> Drawing:
    power = rng.uniform(1.5, 8)  # from an ellipse to a rectangle
    angles = np.arange(48) * (TAU / 48)
    c, s = np.cos(angles), np.sin(angles)
    x = np.sign(c) * np.abs(c) ** (2 / power)
    y = np.sign(s) * np.abs(s) ** (2 / power) * rng.uniform(0.25, 1.0)
    return [[Stroke(np.stack([x, y], axis=1))]]


def _turned(rng: Rng) -> Drawing:
    """A vessel: an outline mirrored at its axis."""
    knots = rng.uniform(0.15, 0.6, 7)
    y = np.linspace(-1, 1, 40)
    half = np.interp(y, np.linspace(-1, 1, 7), knots)
    half = np.convolve(np.pad(half, 3, mode="edge"), np.ones(7) / 7, "valid")
    left, right = np.stack([-half, y], axis=1), np.stack([half, y], axis=1)[::-1]
    parts: Drawing = [[Stroke(np.concatenate([left, right]))]]
    if rng.random() < 0.5:  # a band of another colour
        a, b = sorted(rng.integers(0, 40, 2))
        band = np.concatenate([left[a : b + 1], right[39 - b : 40 - a]])
        parts.append([Stroke(band)])
    if rng.random() < 0.35:  # a handle
        loop = _ring(np.full(24, rng.uniform(0.2, 0.4)))
        loop = loop + np.array([half[20], rng.uniform(-0.3, 0.3)])
        parts[0].append(Stroke(loop[np.r_[:24, 0]], rng.uniform(0.06, 0.14)))
    return parts


def _creature(rng: Rng) -> Drawing:
    """A body with limbs, a head and perhaps a tail, in one colour or several."""
    body = blob(rng, 0.12) * [rng.uniform(0.5, 0.8), rng.uniform(0.4, 0.6)]
    limbs: Part = []
    number, spread = int(rng.integers(2, 6)), rng.uniform(0.2, 0.5)
    for k in range(number):
        x = (k / max(number - 1, 1) - 0.5) * 2 * spread
        start = np.array([x, rng.uniform(0.0, 0.2)])
        path = curve(rng, start, np.pi / 2 + rng.normal(0, 0.25), rng.uniform(0.6, 1.0), 0.12)
        limbs.append(Stroke(path, rng.uniform(0.06, 0.2)))
    neck = np.array([rng.choice([-1, 1]) * rng.uniform(0.4, 0.7), -rng.uniform(0.3, 0.8)])
    head = blob(rng, 0.12) * rng.uniform(0.15, 0.32) + neck
    extra: Part = [Stroke(head), Stroke(np.stack([neck, np.zeros(2)]), rng.uniform(0.12, 0.3))]
    if rng.random() < 0.5:
        tail = curve(rng, np.array([-np.sign(neck[0]) * 0.5, -0.1]), rng.uniform(0, TAU), 0.8, 0.3)
        extra.append(Stroke(tail, rng.uniform(0.03, 0.1)))
    if rng.random() < 0.4:
        return [[Stroke(body), *limbs, *extra]]
    return [limbs, [Stroke(body)], extra]


def _joined(rng: Rng) -> Drawing:
    """Two to five shapes that overlap, each perhaps of its own colour."""
    parts: Drawing = []
    at = np.zeros(2)
    for _ in range(int(rng.integers(2, 6))):
        shape = blob(rng, 0.15) if rng.random() < 0.6 else _slab(rng)[0][0].points
        parts.append([Stroke(shape * rng.uniform(0.25, 0.6) + at)])
        at = at + rng.normal(0, 0.45, 2)
    return parts if rng.random() < 0.6 else [[stroke for part in parts for stroke in part]]


def _branching(rng: Rng) -> Drawing:
    """A tree, an antler, a plant: lines that fork and grow thinner."""
    strokes: Part = []
    fork, width = rng.uniform(0.3, 0.8), rng.uniform(0.05, 0.16)
    stack = [(np.array([0.0, 1.0]), -np.pi / 2, 0.75, width, 0)]
    leafy = rng.random() < 0.4
    while stack:
        start, heading, length, thick, level = stack.pop()
        path = curve(rng, start, heading, length, 0.1)
        strokes.append(Stroke(path, thick))
        if level < 3:
            for side in (-1, 1):
                turn = heading + side * fork * rng.uniform(0.5, 1.3)
                at = path[int(rng.integers(6, 12))]
                stack.append((at, turn, length * rng.uniform(0.5, 0.8), thick * 0.65, level + 1))
        elif leafy:
            strokes.append(Stroke(blob(rng, 0.15, 16) * 0.13 + path[-1]))
    return [strokes]


def _wire(rng: Rng) -> Drawing:
    """One to three long lines: a rope, a cable, a frame."""
    width = rng.uniform(0.03, 0.15)
    strokes = [
        Stroke(curve(rng, rng.uniform(-1, 1, 2), rng.uniform(0, TAU), 3.0, 0.35), width)
        for _ in range(int(rng.integers(1, 4)))
    ]
    return [strokes]


def _rim(rng: Rng) -> Drawing:
    """A ring or a wheel."""
    ring = _ring(np.ones(48), rng.uniform(0.5, 1.0))
    strokes = [Stroke(ring[np.r_[:48, 0]], rng.uniform(0.08, 0.4))]
    if rng.random() < 0.5:
        spoke = rng.uniform(0.03, 0.1)
        step = int(rng.choice([3, 4, 6, 8]))
        strokes += [Stroke(np.stack([np.zeros(2), ring[k]]), spoke) for k in range(0, 48, step)]
        strokes.append(Stroke(_ring(np.full(16, rng.uniform(0.08, 0.3)))))
    return [strokes]


def _grate(rng: Rng) -> Drawing:
    """A fence, a rack, a lattice: bars in one direction or two, in a frame or without."""
    wide, high = rng.uniform(0.5, 1.0, 2)
    bar = rng.uniform(0.03, 0.1)
    strokes: Part = []
    for x in np.linspace(-wide, wide, int(rng.integers(3, 9))):
        strokes.append(Stroke(np.array([[x, -high], [x, high]]), bar))
    for y in np.linspace(-high, high, int(rng.integers(2, 7))):
        strokes.append(Stroke(np.array([[-wide, y], [wide, y]]), bar))
    if rng.random() < 0.5:
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]) * [wide, high]
        strokes.append(Stroke(corners, bar * 2))
    return [strokes]


def _furniture(rng: Rng) -> Drawing:
    """A board on legs, with a back or without."""
    wide, at = rng.uniform(0.5, 1.0), rng.uniform(-0.4, 0.3)
    leg = rng.uniform(0.04, 0.14)
    board = np.array([[-wide, at], [wide, at], [wide, at + 0.2], [-wide, at + 0.2]])
    legs = [
        Stroke(np.array([[x * wide, at + 0.1], [x * wide * rng.uniform(0.8, 1.1), 1.0]]), leg)
        for x in (-0.9, 0.9, -0.5, 0.6)[: int(rng.integers(2, 5))]
    ]
    parts: Drawing = [legs, [Stroke(board)]]
    if rng.random() < 0.5:
        back = np.array([[-wide, at], [-wide * 0.9, -1], [-wide * 0.9 + 0.25, -1], [-0.7, at]])
        parts.append([Stroke(back)])
    return parts


_COMPACT: tuple[Callable[[Rng], Drawing], ...] = (
    _compact, _compact, _polygon, _slab, _turned, _creature, _creature, _joined, _joined,
    _furniture,
)  # fmt: skip
_OPEN: tuple[Callable[[Rng], Drawing], ...] = (_branching, _wire, _rim, _grate, _branching)


def draw(rng: Rng, open_share: float) -> Drawing:
    """A thing.

    Args:
        rng: what it is drawn from.
        open_share: how often it is one that is mostly gaps.
    """
    families = _OPEN if rng.random() < open_share else _COMPACT
    drawing = families[int(rng.integers(len(families)))](rng)
    if families is _COMPACT and rng.random() < 0.12:
        hole = blob(rng, 0.2, 24) * rng.uniform(0.1, 0.35) + rng.uniform(-0.3, 0.3, 2)
        drawing = [[*part, Stroke(hole, is_hole=True)] for part in drawing]
    return drawing


def fit(rng: Rng, drawing: Drawing, box: tuple[float, float, float, float], turn: float) -> Drawing:
    """Turned, and brought into a box (x0, y0, x1, y1) in pixels, proportions mostly kept."""
    c, s = np.cos(turn), np.sin(turn)
    matrix = np.array([[c, s], [-s, c]])
    strokes = [stroke for part in drawing for stroke in part if not stroke.is_hole]
    turned = [stroke.points @ matrix for stroke in strokes]
    reach = np.array([stroke.width / 2 for stroke in strokes])
    low = np.min([p.min(0) - r for p, r in zip(turned, reach, strict=True)], axis=0)
    high = np.max([p.max(0) + r for p, r in zip(turned, reach, strict=True)], axis=0)
    room = np.array([box[2] - box[0], box[3] - box[1]])
    scale = room / np.maximum(high - low, 1e-6)
    # Mostly as it is, a little as the box is: things come in all proportions.
    scale = scale.min() * (scale / scale.min()) ** rng.uniform(0, 0.5)
    centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2 - (low + high) / 2 * scale
    size = float(np.sqrt(scale.prod()))
    return [
        [Stroke(s.points @ matrix * scale + centre, s.width * size, s.is_hole) for s in part]
        for part in drawing
    ]


def coverage(part: Part, side: int) -> U8:
    """How far each pixel of a square picture is covered, uint8 (side, side), 255 in full."""
    canvas = np.zeros((side, side), np.uint8)
    for stroke in part:
        points = np.rint((stroke.points - 0.5) * (1 << _SHIFT)).astype(np.int32)
        value = 0 if stroke.is_hole else 255
        if not stroke.width:
            cv2.fillPoly(canvas, [points], value, cv2.LINE_AA, _SHIFT)
        else:
            thick = max(1, round(stroke.width))
            cv2.polylines(canvas, [points], False, value, thick, cv2.LINE_AA, _SHIFT)
    return canvas
