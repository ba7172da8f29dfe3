"""Outlines of the object families, and their rasterisation to coverage masks.

A family is a function ``(kin, rng) -> Drawing`` in its own units (about -1..1, y downwards):
``kin`` draws what all members of one class share, ``rng`` what tells one member from another.
``place`` moves a drawing into a picture, ``rasterise`` turns it into coverage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from hqdata.mini.texture import U8, u8

Points = NDArray[np.float64]
Rng = np.random.Generator
TAU = 2 * math.pi
_SHIFT = 4


class Stroke(NamedTuple):
    """One mark: a line of some width, or a filled outline.

    ``points`` (N, 2) float64 x, y; ``width`` in the same unit, one or one per point, 0 for a
    filled outline; ``role`` is "add" (part of the object), "cut" (a hole) or "paint" (colour
    only, no coverage); ``tone`` -127..127 moves the surface colour towards an accent.
    """

    points: Points
    width: float | tuple[float, ...] = 0.0
    closed: bool = False
    role: str = "add"
    tone: int = 0


Drawing = list[Stroke]
Family = Callable[[Rng, Rng], Drawing]


def _scale_width(width: float | tuple[float, ...], factor: float) -> float | tuple[float, ...]:
    return tuple(v * factor for v in width) if isinstance(width, tuple) else width * factor


def place(
    drawing: Drawing,
    box: tuple[float, float, float, float],
    turn: float = 0.0,
    tilt: tuple[float, float] = (0.0, 0.0),
    mirror: bool = False,
    thicken: float = 1.0,
) -> Drawing:
    """Fit a drawing into ``box`` (x0, y0, x1, y1 in pixels), keeping its proportions.

    ``turn`` in radians; ``tilt`` is a mild perspective (0 is none, 0.4 strong); ``thicken``
    multiplies the width of lines.
    """
    c, s = math.cos(turn), math.sin(turn)
    matrix = np.array([[-c, -s] if mirror else [c, s], [-s, c]])
    sizes = [len(stroke.points) for stroke in drawing]
    starts = np.r_[0, np.cumsum(sizes)[:-1]]
    points = np.concatenate([stroke.points for stroke in drawing]) @ matrix
    near = 1 / np.maximum(1 + points @ np.asarray(tilt), 0.35)
    points *= near[:, None]
    nearness = np.add.reduceat(near, starts) / sizes * thicken
    widths = [_scale_width(p.width, float(f)) for p, f in zip(drawing, nearness, strict=True)]
    half = np.repeat([max(w) / 2 if isinstance(w, tuple) else w / 2 for w in widths], sizes)
    solid = np.repeat([stroke.role == "add" for stroke in drawing], sizes)
    low = (points - half[:, None])[solid].min(0)
    high = (points + half[:, None])[solid].max(0)
    span = np.maximum(high - low, 1e-6)
    factor = float(min((box[2] - box[0]) / span[0], (box[3] - box[1]) / span[1]))
    centre = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]) - factor * (low + high) / 2
    points = points * factor + centre
    return [
        Stroke(points[at : at + n], _scale_width(w, factor), p.closed, p.role, p.tone)
        for p, w, at, n in zip(drawing, widths, starts.tolist(), sizes, strict=True)
    ]


def shifted(drawing: Drawing, x: float, y: float) -> Drawing:
    """Move a drawing by (x, y)."""
    return [p._replace(points=p.points + np.array([x, y])) for p in drawing]


def _draw(canvas: U8, stroke: Stroke, value: int, scale: int, line: int) -> None:
    points = (stroke.points * scale - 0.5) * (1 << _SHIFT)
    fixed = np.rint(points).astype(np.int32)
    if isinstance(stroke.width, tuple):
        # Even-odd filling would punch holes where one long outline overlaps itself, so a
        # tapering line is drawn piece by piece.
        half = np.asarray(stroke.width) * scale * (1 << _SHIFT) / 2
        for k in range(len(points) - 1):
            step = points[k + 1] - points[k]
            norm = np.array([-step[1], step[0]]) / max(float(np.hypot(*step)), 1e-6)
            a, b = norm * half[k], norm * half[k + 1]
            quad = np.array([points[k] + a, points[k + 1] + b, points[k + 1] - b, points[k] - a])
            cv2.fillConvexPoly(canvas, np.rint(quad).astype(np.int32), value, line, _SHIFT)
        for point, radius in zip(fixed.tolist(), half, strict=True):
            cv2.circle(canvas, tuple(point), max(int(radius), 1), value, -1, line, _SHIFT)
    elif stroke.width > 0:
        thick = max(1, round(stroke.width * scale))
        cv2.polylines(canvas, [fixed], stroke.closed, value, thick, line, _SHIFT)
    else:
        cv2.fillPoly(canvas, [fixed], value, line, _SHIFT)


def rasterise(drawing: Drawing, width: int, height: int) -> U8:
    """Return the drawing's coverage, (height, width) uint8, 0 outside and 255 inside.

    Small pictures are drawn four or three times as large and averaged. Above three megapixels
    that costs more than the rest of the picture, so OpenCV's own anti-aliased drawing is used.
    """
    area = width * height
    scale = 4 if area <= 1_000_000 else 3 if area <= 3_000_000 else 1
    line = cv2.LINE_AA if scale == 1 else cv2.LINE_8
    canvas = np.zeros((height * scale, width * scale), np.uint8)
    for stroke in drawing:
        if stroke.role != "paint":
            _draw(canvas, stroke, 0 if stroke.role == "cut" else 255, scale, line)
    if scale == 1:
        return canvas
    return u8(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA))


def tones(drawing: Drawing, width: int, height: int) -> U8 | None:
    """Return the surface-colour map (height, width) uint8, 128 neutral; None if all is neutral."""
    if not any(stroke.tone for stroke in drawing):
        return None
    canvas = np.full((height, width), 128, np.uint8)
    for stroke in drawing:
        if stroke.role != "cut":
            _draw(canvas, stroke, 128 + stroke.tone, 1, cv2.LINE_AA)
    return canvas


def arc(
    x: float,
    y: float,
    rx: float,
    ry: float | None = None,
    start: float = 0.0,
    end: float = TAU,
    count: int = 72,
) -> Points:
    """Return points (count, 2) along an elliptic arc about (x, y)."""
    angle = np.linspace(start, end, count)
    return np.stack([x + rx * np.cos(angle), y + (rx if ry is None else ry) * np.sin(angle)], 1)


def seg(*numbers: float) -> Points:
    """Return (N, 2) points from x0, y0, x1, y1, ..."""
    return np.asarray(numbers, np.float64).reshape(-1, 2)


def smooth(points: Points, rounds: int = 3, closed: bool = False) -> Points:
    """Round the corners of a line or outline (Chaikin's corner cutting)."""
    for _ in range(rounds):
        after = np.roll(points, -1, 0) if closed else points[1:]
        before = points if closed else points[:-1]
        cut = np.stack([0.75 * before + 0.25 * after, 0.25 * before + 0.75 * after], 1)
        cut = cut.reshape(-1, 2)
        points = cut if closed else np.concatenate([points[:1], cut, points[-1:]])
    return points


def polar(radius: Sequence[float] | Points, x: float = 0.0, y: float = 0.0) -> Points:
    """Return the closed outline with these radii at evenly spaced angles, the first upwards."""
    values = np.asarray(radius, np.float64)
    angle = np.arange(len(values)) * TAU / len(values) - math.pi / 2
    return np.stack([x + values * np.cos(angle), y + values * np.sin(angle)], 1)


def moved(drawing: Drawing, x: float, y: float, size: float, turn: float) -> Drawing:
    """Scale a drawing, turn it (radians) and move its origin to (x, y)."""
    c, s = math.cos(turn), math.sin(turn)
    matrix = np.array([[c, s], [-s, c]]) * size
    return [
        p._replace(points=p.points @ matrix + (x, y), width=_scale_width(p.width, size))
        for p in drawing
    ]


def lattice(kin: Rng, rng: Rng) -> Drawing:
    """Crossing bars in a frame, at times with diagonals."""
    nx, ny = int(kin.integers(4, 10)), int(kin.integers(4, 10))
    tall = kin.uniform(0.7, 1.4)
    bar = kin.uniform(0.16, 0.34) * 2 / max(nx, ny)
    xs = np.linspace(-1, 1, nx + 1) + np.r_[0, rng.normal(0, 0.02, nx - 1), 0]
    ys = np.linspace(-tall, tall, ny + 1) + np.r_[0, rng.normal(0, 0.02, ny - 1), 0]
    out = [Stroke(seg(x, -tall, x, tall), bar * rng.uniform(0.7, 1.1)) for x in xs]
    out += [Stroke(seg(-1, y, 1, y), bar * rng.uniform(0.7, 1.1), tone=40) for y in ys]
    if kin.random() < 0.6:
        for i in range(nx):
            for j in range(ny):
                a, b = (xs[i], xs[i + 1]) if (i + j) % 2 else (xs[i + 1], xs[i])
                out.append(Stroke(seg(a, ys[j], b, ys[j + 1]), bar * 0.5, tone=-40))
    return [*out, Stroke(seg(-1, -tall, 1, -tall, 1, tall, -1, tall), bar * 1.7, closed=True)]


def wheel(kin: Rng, rng: Rng) -> Drawing:
    """A spoked wheel: rims, hub, straight or crossed spokes, at times cabins and a stand."""
    count, inner = int(kin.integers(10, 33)), kin.uniform(0.72, 0.88)
    thin, hub = kin.uniform(0.012, 0.026), kin.uniform(0.08, 0.2)
    lean, turn = kin.choice([0.0, 0.35, 0.8]), rng.uniform(0, TAU)
    out = [Stroke(arc(0, 0, 0.97, count=160), 0.055, True, tone=-60)]
    out += [Stroke(arc(0, 0, inner, count=120), thin * 1.6, True)]
    for k in range(count):
        a = turn + TAU * k / count
        b = a + lean * (1 if k % 2 else -1)
        ends = (hub * math.cos(b), hub * math.sin(b), 0.97 * math.cos(a), 0.97 * math.sin(a))
        out.append(Stroke(seg(*ends), thin, tone=70))
    out += [Stroke(arc(0, 0, hub), tone=-40), Stroke(arc(0, 0, hub * 0.45), role="cut")]
    if kin.random() < 0.45:
        for k in range(count):
            a = turn + TAU * k / count
            x, y = math.cos(a) * 1.02, math.sin(a) * 1.02
            out.append(Stroke(arc(x, y + 0.05, 0.045, 0.055, count=20), tone=110))
        out += [Stroke(seg(s * 0.55, 1.35, 0, 0), 0.05, tone=-20) for s in (-1, 1)]
        out += [Stroke(seg(-0.7, 1.35, 0.7, 1.35), 0.07), Stroke(arc(0, 0, hub * 0.7), tone=90)]
    return out


def net(kin: Rng, rng: Rng) -> Drawing:
    """A sagging net with knots between two poles."""
    n, m = int(kin.integers(8, 17)), int(kin.integers(5, 12))
    sag, cord = rng.uniform(0.1, 0.4), kin.uniform(0.012, 0.022)
    u, v = np.meshgrid(np.linspace(-1, 1, n + 1), np.linspace(0, 1, m + 1))
    x = u + rng.normal(0, 0.012, u.shape)
    y = v * kin.uniform(0.8, 1.3) + sag * (1 - u**2) * (0.4 + 0.6 * v)
    y += rng.normal(0, 0.012, u.shape)
    grid = np.stack([x, y], -1)
    out = [Stroke(smooth(grid[j], 2), cord * (2.2 if j in (0, m) else 1.0)) for j in range(m + 1)]
    out += [Stroke(smooth(grid[:, i], 2), cord) for i in range(n + 1)]
    knots = grid.reshape(-1, 2).tolist()
    out += [Stroke(arc(px, py, cord * 1.3, count=24), tone=50) for px, py in knots]
    deep = float(y.max()) + 0.2
    out += [Stroke(seg(s * 1.03, -0.15, s * 1.03, deep), 0.07, tone=-90) for s in (-1, 1)]
    return out


def fence(kin: Rng, rng: Rng) -> Drawing:
    """A picket fence, or wire mesh between posts."""
    out: Drawing = []
    if kin.random() < 0.5:
        n, tip = int(kin.integers(8, 18)), kin.uniform(0.05, 0.2)
        half = kin.uniform(0.25, 0.36) * 2 / n
        for k in range(n):
            x, top = -1 + (k + 0.5) * 2 / n, -0.5 + rng.normal(0, 0.015)
            outline = seg(x - half, 0.6, x - half, top, x, top - tip, x + half, top, x + half, 0.6)
            out.append(Stroke(outline, tone=int(rng.integers(-40, 60))))
            out.append(Stroke(arc(x, top + 0.06, half * 0.4, count=24), role="cut"))
        return out + [Stroke(seg(-1.02, y, 1.02, y), 0.07, tone=-70) for y in (-0.25, 0.32)]
    n, wire = int(kin.integers(9, 20)), kin.uniform(0.011, 0.018)
    step, tall = 2 / n, kin.uniform(0.5, 0.75)
    for k in range(-n, n + 1):
        x0 = -1 + k * step
        for way in (1, -1):
            t0, t1 = max(0.0, (-1 - x0) if way > 0 else x0 + 2 * tall - 1), 2 * tall
            if way > 0:
                t1 = min(t1, 1 - x0)
                ends = (x0 + t0, -tall + t0, x0 + t1, -tall + t1)
            else:
                t0, t1 = max(0.0, x0 + 2 * tall - 1), min(t1, x0 + 2 * tall + 1)
                ends = (x0 + 2 * tall - t0, -tall + t0, x0 + 2 * tall - t1, -tall + t1)
            if t1 > t0:
                out.append(Stroke(seg(*ends), wire))
    out += [Stroke(seg(-1, y, 1, y), 0.05, tone=-40) for y in (-tall, tall)]
    posts = (Stroke(seg(x, -tall - 0.1, x, tall + 0.2), 0.08, tone=-60) for x in (-1, 0, 1))
    return out + list(posts)


def filigree(kin: Rng, rng: Rng) -> Drawing:
    """Mirrored scrolls, rings and petals in rotational symmetry."""
    fold, line = int(kin.integers(4, 10)), kin.uniform(0.018, 0.034)
    wind, curl = kin.uniform(1.6, 2.8), kin.uniform(0.16, 0.24)
    t = np.linspace(0, 1, 60)
    radius, angle = curl * (1 - 0.86 * t), TAU * wind * t
    scroll = np.stack([curl + 0.02 - radius * np.cos(angle), -0.62 + radius * np.sin(angle)], 1)
    taper = tuple(line * (1.5 - t * 0.9))
    petal = smooth(seg(0, -0.2, 0.13, -0.5, 0, -0.95, -0.13, -0.5), 3, True)
    unit = [Stroke(petal, line, True, tone=60)]
    for side in (1.0, -1.0):
        unit += [
            Stroke(scroll * (side, 1), taper),
            Stroke(arc(side * (curl + 0.02), -0.62, line * 1.7, count=16), tone=100),
        ]
        vein = smooth(seg(0, -0.2, side * 0.12, -0.3, side * 0.2, -0.2), 2)
        unit.append(Stroke(vein, line * 0.8))
    unit.append(Stroke(arc(0, -0.97, line * 1.8, count=20), tone=100))
    out: Drawing = []
    for k in range(fold):
        out += moved(unit, 0, 0, 1, TAU * k / fold)
    rings = [0.2, kin.uniform(0.35, 0.5), 0.97]
    out += [Stroke(arc(0, 0, r, count=120), line * rng.uniform(1, 1.5), True) for r in rings]
    return [*out, Stroke(arc(0, 0, 0.2), tone=-60), Stroke(arc(0, 0, 0.13), role="cut")]


def tower(kin: Rng, rng: Rng) -> Drawing:
    """A braced mast with cross arms, as of a power line."""
    levels, base, top = int(kin.integers(6, 12)), kin.uniform(0.3, 0.5), kin.uniform(0.05, 0.12)
    bar = kin.uniform(0.018, 0.03)
    t = np.linspace(0, 1, levels + 1) ** 0.85
    half, y = base + (top - base) * t, 1.2 - 2.4 * t
    out = [Stroke(seg(s * base, 1.2, s * top, -1.2), bar * 1.6) for s in (-1, 1)]
    for a, b, p, q in zip(half[:-1], half[1:], y[:-1], y[1:], strict=True):
        out += [Stroke(seg(-a, p, b, q), bar), Stroke(seg(a, p, -b, q), bar)]
        out.append(Stroke(seg(-b, q, b, q), bar, tone=40))
    for k in range(int(kin.integers(2, 4))):
        level, reach = -1.1 + 0.33 * k, kin.uniform(0.5, 0.85)
        for s in (-1, 1):
            out += [Stroke(seg(0, level - 0.1, s * reach, level), bar * 1.2)]
            out += [Stroke(seg(0, level + 0.02, s * reach, level), bar)]
            out += [
                Stroke(seg(s * u * reach, level - 0.1 * (1 - u), s * u * reach, level), bar)
                for u in (0.35, 0.55, 0.75)
            ]
            drop = rng.uniform(0.1, 0.16)
            out.append(Stroke(seg(s * reach, level, s * reach, level + drop), bar, tone=100))
    return out


def bicycle(kin: Rng, rng: Rng) -> Drawing:
    """Two spoked wheels, a tube frame, saddle and handlebar."""
    radius, tube = kin.uniform(0.5, 0.58), kin.uniform(0.035, 0.055)
    count, turn = int(kin.integers(14, 28)), rng.uniform(0, 1)
    out: Drawing = []
    for x in (-0.85, 0.85):
        out.append(Stroke(arc(x, 0.5, radius, count=120), 0.05, True, tone=-110))
        for k in range(count):
            a = turn + TAU * k / count
            b = a + (0.9 if k % 2 else -0.9)
            hub = (x + 0.05 * math.cos(b), 0.5 + 0.05 * math.sin(b))
            rim = (x + radius * math.cos(a), 0.5 + radius * math.sin(a))
            out.append(Stroke(seg(*hub, *rim), 0.009, tone=90))
    seat, crank, head = (-0.32, -0.35), (-0.12, 0.52), (0.58, -0.3)
    rear = (-0.85, 0.5)
    tubes = (seat, crank), (seat, head), (crank, head), (rear, seat), (rear, crank)
    out += [Stroke(seg(*start, *end), tube) for start, end in tubes]
    out.append(Stroke(seg(0.85, 0.5, 0.52, -0.5), tube))
    saddle = smooth(seg(-0.56, -0.5, -0.3, -0.52, -0.1, -0.47, -0.3, -0.42, -0.5, -0.4), 2, True)
    out += [Stroke(seg(*seat, -0.36, -0.46), tube), Stroke(saddle, tone=-120)]
    bar = seg(0.38, -0.62, 0.52, -0.55, 0.7, -0.62, 0.8, -0.5, 0.7, -0.38)
    out.append(Stroke(smooth(bar), tube * 0.9, tone=-100))
    out += [Stroke(arc(*crank, 0.14), 0.025, True, tone=60), Stroke(arc(*crank, 0.05))]
    return [*out, Stroke(seg(-0.12, 0.52, -0.02, 0.72, 0.06, 0.72), 0.03, tone=-60)]


def cage(kin: Rng, rng: Rng) -> Drawing:
    """A domed bird cage with hoops, a perch and a hook."""
    count, wide = int(kin.integers(7, 14)), kin.uniform(0.6, 0.85)
    wire, dome = kin.uniform(0.016, 0.026), kin.uniform(0.5, 0.8)
    out: Drawing = []
    for k in range(count + 1):
        x = wide * math.cos(math.pi * k / count)
        curve = seg(x, 1, x, 0, x, -0.1 - dome * 0.5, x * 0.5, -0.1 - dome * 0.95, 0, -0.1 - dome)
        out.append(Stroke(smooth(curve), wire))
    for y, shrink in ((1.0, 1.0), (0.45, 1.0), (0.0, 1.0), (-0.1 - dome * 0.55, 0.88)):
        width = wire * (3.2 if y == 1.0 else 1.6)
        out.append(Stroke(arc(0, y, wide * shrink, 0.09), width, True, tone=60))
    out.append(Stroke(arc(0, -0.2 - dome, 0.1), wire * 1.5, True, tone=100))
    swing = rng.uniform(-0.12, 0.12)
    perch = seg(swing - 0.25, 0.2, swing + 0.25, 0.2)
    out += [Stroke(perch, 0.04, tone=-100)]
    out += [Stroke(seg(swing + s * 0.2, 0.2, 0, -0.1 - dome), wire * 0.7) for s in (-1, 1)]
    return out


LACY: dict[str, Family] = {
    "lattice": lattice,
    "wheel": wheel,
    "net": net,
    "fence": fence,
    "filigree": filigree,
    "tower": tower,
    "bicycle": bicycle,
    "cage": cage,
}
"""Families with many holes and fine parts, in the manner of DIS5K."""
