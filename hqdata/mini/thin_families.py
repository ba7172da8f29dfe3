"""Thin object families: ropes, wires, branches, antennas, insects, ferns."""

from __future__ import annotations

import math

import numpy as np

from hqdata.mini.shapes import (
    TAU,
    Drawing,
    Family,
    Points,
    Rng,
    Stroke,
    arc,
    moved,
    seg,
    smooth,
)


def _wander(rng: Rng, count: int, bend: float) -> Points:
    """Return a line (count, 2) from left to right that swings about by ``bend``."""
    t = np.linspace(0, 1, count)
    x, y = 2 * t - 1, np.zeros(count)
    for k in range(1, 5):
        x = x + bend / k * 0.5 * rng.normal() * np.sin(TAU * k * t * 0.6 + rng.uniform(0, TAU))
        y = y + bend / k * rng.normal() * np.sin(TAU * k * t * 0.6 + rng.uniform(0, TAU))
    return np.stack([x, y], 1)


def rope(kin: Rng, rng: Rng) -> Drawing:
    """A twisted rope with a loop or a knot and frayed ends."""
    thick = kin.uniform(0.035, 0.06)
    path = _wander(rng, 90, 0.55)
    if rng.random() < 0.6:
        t = np.linspace(0, 1, 90)
        bump = np.exp(-(((t - rng.uniform(0.3, 0.7)) / 0.16) ** 2))
        turn = TAU * np.cumsum(bump) / bump.sum()
        path = path + 0.35 * bump[:, None] * np.stack([np.sin(turn), np.cos(turn)], 1)
    out = [Stroke(path, thick)]
    step = np.gradient(path, axis=0)
    step /= np.maximum(np.hypot(step[:, :1], step[:, 1:]), 1e-9)
    length = np.cumsum(np.hypot(*np.diff(path, axis=0, prepend=path[:1]).T))
    for at in np.arange(0.02, length[-1], thick * 0.75):
        k = int(np.searchsorted(length, at))
        p, d = path[min(k, 89)], step[min(k, 89)]
        n = np.array([-d[1], d[0]])
        ends = np.array([p - 0.42 * thick * n - 0.4 * thick * d, p + 0.42 * thick * n])
        out.append(Stroke(ends, thick * 0.22, role="paint", tone=-105))
    for end, way in ((path[0], -step[0]), (path[-1], step[-1])):
        for _ in range(6):
            a = math.atan2(way[1], way[0]) + rng.normal(0, 0.4)
            tip = end + rng.uniform(1, 2.6) * thick * np.array([math.cos(a), math.sin(a)])
            out.append(Stroke(np.array([end, tip]), thick * 0.2, tone=70))
    return out


def wire(kin: Rng, rng: Rng) -> Drawing:
    """Loops of cable ending in a plug."""
    gauge, loops = kin.uniform(0.014, 0.03), int(kin.integers(2, 6))
    t = np.linspace(0, 1, 60 * loops)
    radius = 0.45 + 0.06 * np.sin(TAU * t * rng.uniform(1, 4)) + rng.normal(0, 0.02)
    x = radius * np.cos(TAU * loops * t) * rng.uniform(0.9, 1.4) + (t - 0.5) * rng.uniform(0.2, 1)
    y = radius * np.sin(TAU * loops * t) + 0.12 * np.sin(TAU * t)
    coil = np.stack([x, y], 1)
    a, b = coil[0], coil[-1]
    lead = smooth(seg(0, 0, 0.05, -0.35, 0.4, -0.5, 0.75, -0.35)) + a
    tail = smooth(seg(0, 0, 0.1, 0.4, -0.4, 0.55, -0.9, 0.4)) + b
    out = [Stroke(p, gauge) for p in (coil, lead, tail)]
    plug = [Stroke(seg(-0.02, -0.05, 0.14, -0.07, 0.2, 0, 0.14, 0.07, -0.02, 0.05), tone=-110)]
    plug += [Stroke(seg(0.12, y, 0.32, y), 0.022, tone=115) for y in (-0.035, 0.035)]
    out += moved(plug, float(lead[-1, 0]), float(lead[-1, 1]), 1.0, -0.4)
    return out + moved(plug, float(tail[-1, 0]), float(tail[-1, 1]), 1.0, math.pi + 0.2)


def branch(kin: Rng, rng: Rng) -> Drawing:
    """A bare or budding branch, forking again and again."""
    spread, leafy = kin.uniform(0.35, 0.75), kin.random() < 0.45
    out: Drawing = []

    def grow(x: float, y: float, angle: float, length: float, width: float, depth: int) -> None:
        turns = angle + np.cumsum(rng.normal(0, 0.12, 6))
        xs = x + np.cumsum(np.cos(turns)) * length / 6
        ys = y + np.cumsum(np.sin(turns)) * length / 6
        path = np.stack([np.r_[x, xs], np.r_[y, ys]], 1)
        out.append(Stroke(path, tuple(np.linspace(width, width * 0.66, 7)), tone=-20 * depth))
        if depth == 0:
            if leafy:
                leaf_ = smooth(seg(0, 0, 0.035, -0.06, 0, -0.15, -0.035, -0.06), 2, True)
                out.extend(
                    moved(
                        [Stroke(leaf_, tone=115)],
                        xs[-1],
                        ys[-1],
                        rng.uniform(0.7, 1.3),
                        float(turns[-1]) + math.pi / 2,
                    )
                )
            return
        for side in (-1, 1) if depth > 1 or rng.random() < 0.8 else (rng.choice([-1, 1]),):
            k = 5 if side > 0 else int(rng.integers(2, 6))
            fork = float(turns[k]) + side * spread * rng.uniform(0.5, 1.2)
            grow(xs[k], ys[k], fork, length * rng.uniform(0.62, 0.85), width * 0.66, depth - 1)

    grow(0, 1, -math.pi / 2 + rng.normal(0, 0.3), 0.6, kin.uniform(0.06, 0.09), 5)
    return out


def antenna(kin: Rng, rng: Rng) -> Drawing:
    """A roof aerial: a mast with booms of rods, at times a dish."""
    rod, count = kin.uniform(0.014, 0.024), int(kin.integers(7, 14))
    out = [Stroke(seg(0, 1.1, 0, -1.0), 0.05, tone=-30)]
    for level in (-0.75, -0.15)[: int(kin.integers(1, 3))]:
        lean = rng.normal(0, 0.05)
        out.append(Stroke(seg(-0.85, level + lean, 0.85, level - lean), 0.032))
        for k in range(count):
            x = -0.8 + 1.6 * k / (count - 1)
            reach, y = 0.34 - 0.2 * k / count, level - lean * x / 0.85
            out.append(Stroke(seg(x - 0.06, y - reach, x + 0.06, y + reach), rod, tone=70))
    if kin.random() < 0.5:
        dish = arc(0.1, 0.5, 0.3, 0.34, 1.6, 4.6)
        out += [Stroke(dish, tone=60), Stroke(seg(-0.1, 0.5, 0.32, 0.42), rod * 1.5)]
        out.append(Stroke(arc(0.32, 0.42, 0.04), tone=-100))
    return [*out, *(Stroke(seg(0, 0.1, s * 0.55, 1.1), rod * 0.8) for s in (-1, 1))]


def insect(kin: Rng, rng: Rng) -> Drawing:
    """A body in parts with long jointed legs and feelers, seen from above."""
    leg, slim = kin.uniform(0.016, 0.032), kin.uniform(0.09, 0.17)
    parts = ((-0.42, 0.11, 0.1), (-0.16, 0.17, slim), (0.32, kin.uniform(0.28, 0.45), slim * 1.35))
    out: Drawing = []
    for side in (-1, 1):
        for k in range(3):
            a = (-0.75, 0.05, 0.75)[k] + rng.normal(0, 0.12)
            hip = (-0.26 + 0.12 * k, 0.0)
            knee = (hip[0] + 0.45 * math.sin(a), side * (0.38 + 0.08 * rng.random()))
            reach, out_y = 0.5 * math.sin(a) + rng.normal(0, 0.06), rng.uniform(0.7, 0.95)
            foot = (knee[0] + reach, side * out_y)
            toe = (foot[0] + 0.12 * math.sin(a) + 0.03, foot[1] + side * 0.09)
            path = smooth(np.array([hip, knee, foot, toe]), 2)
            out.append(Stroke(path, tuple(np.linspace(leg * 2, leg * 0.7, len(path))), tone=-50))
        tip = side * rng.uniform(0, 0.5)
        feeler = smooth(seg(-0.48, side * 0.04, -0.75, side * 0.2, -1.05, tip))
        out.append(Stroke(feeler, tuple(np.linspace(leg * 1.2, leg * 0.4, len(feeler)))))
    if kin.random() < 0.4:
        for side in (-1, 1):
            edge = seg(-0.2, 0, 0.1, side * 0.5, 0.75, side * 0.62, 0.6, side * 0.2)
            wing = smooth(edge, 3, True)
            out += [
                Stroke(wing, 0.014, True, tone=90),
                Stroke(smooth(seg(-0.2, 0, 0.2, side * 0.28, 0.66, side * 0.4), 2), 0.012, tone=90),
            ]
    for k, (x, rx, ry) in enumerate(parts):
        out.append(Stroke(arc(x, 0, rx, ry), tone=(40, -30, 0)[k]))
    bands = np.linspace(0.12, 0.32 + parts[2][1] * 0.7, 5)
    out += [Stroke(seg(x, -0.1, x, 0.1), 0.035, role="paint", tone=100) for x in bands]
    eyes = (Stroke(arc(-0.49, s * 0.06, 0.035), tone=-125) for s in (-1, 1))
    return [*out, *eyes]


def fern(kin: Rng, rng: Rng) -> Drawing:
    """A curved frond with paired leaflets."""
    count, bend = int(kin.integers(14, 26)), rng.uniform(-0.5, 0.5)
    t = np.linspace(0, 1, count + 2)
    stem = np.stack([bend * t**2, 1.1 - 2.1 * t], 1)
    out = [Stroke(stem, tuple(np.linspace(0.045, 0.012, count + 2)), tone=-70)]
    for k in range(2, count + 1):
        size = kin.uniform(0.5, 0.6) * math.sin(math.pi * (0.1 + 0.9 * t[k])) ** 0.8 + 0.06
        for side in (-1, 1):
            blade = smooth(seg(0, 0, 0.05, -0.4, 0, -1, -0.05, -0.4), 2, True)
            turn = side * (1.15 - 0.4 * t[k]) + math.atan(bend * t[k]) + rng.normal(0, 0.06)
            piece = [Stroke(blade, tone=int(rng.integers(-30, 60)))]
            out += moved(piece, float(stem[k, 0]), float(stem[k, 1]), size, -turn)
    return out


THIN: dict[str, Family] = {
    "rope": rope,
    "wire": wire,
    "branch": branch,
    "antenna": antenna,
    "insect": insect,
    "fern": fern,
}
"""Families of long thin parts, in the manner of ThinObject-5K and COIFT."""
