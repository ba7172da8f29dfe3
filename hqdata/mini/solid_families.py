"""Solid object families: tools, plants, animals, vessels."""

from __future__ import annotations

import math

import numpy as np

from hqdata.mini.shapes import (
    TAU,
    Drawing,
    Family,
    Rng,
    Stroke,
    arc,
    moved,
    polar,
    seg,
    smooth,
)


def star(kin: Rng, rng: Rng) -> Drawing:
    """A star with rounded points."""
    points, deep = int(kin.integers(5, 9)), kin.uniform(0.4, 0.6) + rng.normal(0, 0.02)
    outline = polar([1.0, deep] * points)
    inner = Stroke(polar([0.55, deep * 0.5] * points), role="paint", tone=60)
    return [Stroke(smooth(outline, int(kin.integers(0, 3)), True)), inner]


def gear(kin: Rng, rng: Rng) -> Drawing:
    """A toothed wheel with holes."""
    teeth, hole = int(kin.integers(9, 19)), kin.uniform(0.16, 0.3)
    out = [Stroke(polar([1.0, 1.0, 0.82, 0.82] * teeth))]
    out.append(Stroke(arc(0, 0, 0.66, count=60), 0.06, True, role="paint", tone=-60))
    for k in range(int(kin.integers(3, 7)) if kin.random() < 0.7 else 0):
        a = k * 1.0472 + rng.uniform(0, 0.1)
        out.append(Stroke(arc(0.52 * math.cos(a), 0.52 * math.sin(a), 0.1), role="cut"))
    return [*out, Stroke(arc(0, 0, hole + 0.1), tone=50), Stroke(arc(0, 0, hole), role="cut")]


def leaf(kin: Rng, rng: Rng) -> Drawing:
    """A leaf with a stalk and veins; lobed, toothed or plain."""
    lobes, deep = int(kin.integers(3, 9)), kin.choice([0.0, 0.1, 0.35])
    t = np.linspace(0, math.pi, 70)
    wide = kin.uniform(0.45, 0.8) * np.sin(t) ** 0.8 * (1 - deep * np.abs(np.sin(lobes * t)))
    sway = rng.normal(0, 0.08) * np.sin(t)
    right = np.stack([wide + sway, -np.cos(t)], 1)
    left = np.stack([-wide + sway, -np.cos(t)], 1)[::-1]
    out = [Stroke(np.concatenate([right, left])), Stroke(seg(0, 0.95, 0.08, 1.45), 0.05, tone=-60)]
    for k in range(6):
        y = -0.6 + 0.25 * k
        out += [
            Stroke(seg(0, y + 0.2, s * 0.5, y - 0.1), 0.02, role="paint", tone=80) for s in (-1, 1)
        ]
    return [*out, Stroke(seg(0, 1, 0, -0.95), 0.04, role="paint", tone=90)]


def mug(kin: Rng, rng: Rng) -> Drawing:
    """A mug with a handle and a band."""
    wide, slope = kin.uniform(0.5, 0.72), kin.uniform(0.75, 1.0)
    body = seg(-wide, -0.7, wide, -0.7, wide * slope, 0.75, -wide * slope, 0.75)
    handle = arc(wide * 0.95, 0.0, 0.36, 0.42, -1.5, 1.6)
    band = Stroke(seg(-wide, -0.1, wide, -0.1), kin.uniform(0.1, 0.4), role="paint", tone=110)
    rim = Stroke(arc(0, -0.7, wide, 0.14), tone=-60)
    inside = Stroke(arc(0, -0.69, wide * 0.86, 0.09), role="paint", tone=-125)
    base = Stroke(arc(0, 0.75, wide * slope, 0.12))
    return [Stroke(handle, 0.13 + rng.normal(0, 0.008)), Stroke(body), base, band, rim, inside]


def fish(kin: Rng, rng: Rng) -> Drawing:
    """A fish in profile with fins, stripes and an eye."""
    deep, tail = kin.uniform(0.32, 0.6), kin.uniform(0.3, 0.5)
    body = smooth(
        seg(
            -1,
            0,
            -0.6,
            -deep,
            0.2,
            -deep * 0.9,
            0.75,
            -0.06,
            0.75,
            0.06,
            0.2,
            deep * 0.9,
            -0.6,
            deep,
        ),
        3,
        True,
    )
    flick = rng.normal(0, 0.08)
    fin = seg(0.65, 0, 1.15, -tail + flick, 1.0, flick, 1.15, tail + flick)
    back = smooth(seg(-0.4, -deep * 0.7, 0.0, -deep * 1.35, 0.35, -deep * 1.15, 0.3, -0.2), 2, True)
    out = [Stroke(fin, tone=80), Stroke(back, tone=80), Stroke(body)]
    stripes = np.linspace(-0.25, 0.5, int(kin.integers(2, 6)))
    out += [
        Stroke(arc(x - 0.3, 0, 0.3, deep * 0.8, -1.2, 1.2, 20), 0.06, role="paint", tone=-90)
        for x in stripes
    ]
    return [
        *out,
        Stroke(arc(-0.68, -0.1, 0.075), role="paint", tone=125),
        Stroke(arc(-0.68, -0.1, 0.04), role="paint", tone=-127),
    ]


def flower(kin: Rng, rng: Rng) -> Drawing:
    """Petals about a disc, on a stalk with leaves."""
    count, slim = int(kin.integers(5, 14)), kin.uniform(0.6, 1.1)
    petal = smooth(seg(0, -0.1, 0.3 * slim, -0.5, 0, -1, -0.3 * slim, -0.5), 3, True)
    out = [
        Stroke(smooth(seg(0, 0, rng.normal(0, 0.1), 0.9, rng.normal(0, 0.1), 1.8)), 0.07, tone=-110)
    ]
    blade = [Stroke(smooth(seg(0, 0, 0.14, -0.3, 0, -0.75, -0.14, -0.3), 3, True), tone=-90)]
    out += moved(blade, 0, 1.5, 1, -0.9) + moved(blade, 0, 1.4, 1, 0.9)
    for k in range(count):
        piece = [Stroke(petal, tone=(30, 0)[k % 2])]
        out += moved(piece, 0, 0, 1, TAU * k / count + rng.normal(0, 0.03))
    return [*out, Stroke(arc(0, 0, 0.27), tone=120)]


def key(kin: Rng, rng: Rng) -> Drawing:
    """A key: bow, shaft and bits."""
    bow, cuts = kin.uniform(0.26, 0.4), int(kin.integers(2, 5))
    out = [Stroke(seg(-0.4, 0, 1.1, 0), 0.13), Stroke(arc(-0.65, 0, bow), tone=30)]
    for k in range(cuts):
        tall = 0.16 + 0.14 * kin.random() + rng.normal(0, 0.01)
        x = 1.0 - 0.15 * k
        out.append(Stroke(seg(x - 0.045, 0, x + 0.045, 0, x + 0.045, tall, x - 0.045, tall)))
    out.append(Stroke(arc(-0.25, 0, 0.1), tone=80))
    return [*out, Stroke(arc(-0.65, 0, bow * kin.uniform(0.45, 0.65)), role="cut")]


def mushroom(kin: Rng, rng: Rng) -> Drawing:
    """A capped mushroom with spots."""
    wide, tall = kin.uniform(0.7, 1.0), kin.uniform(0.6, 0.95)
    stem = smooth(seg(-0.2, -0.1, 0.2, -0.1, 0.26, 1, -0.26, 1), 2, True)
    cap = smooth(
        seg(
            -wide,
            0.08,
            -wide * 0.8,
            -tall * 0.7,
            0,
            -tall * 1.2,
            wide * 0.8,
            -tall * 0.7,
            wide,
            0.08,
            0,
            0.2,
        ),
        3,
        True,
    )
    out = [Stroke(stem, tone=115), Stroke(cap, tone=-20)]
    for _ in range(int(kin.integers(4, 9))):
        x, y = rng.uniform(-0.6, 0.6) * wide, rng.uniform(-0.75, -0.1) * tall
        out.append(Stroke(arc(x, y, rng.uniform(0.05, 0.12)), role="paint", tone=120))
    return out


def bottle(kin: Rng, rng: Rng) -> Drawing:
    """A bottle with a cap and a label."""
    wide, neck = kin.uniform(0.3, 0.48), kin.uniform(0.1, 0.17)
    side = smooth(seg(wide, 1, wide, -0.2, neck, -0.55, neck, -1.05), 2)
    body = np.concatenate([side, side[::-1] * (-1, 1)])
    label = seg(-wide, 0.0, wide, 0.0, wide, 0.6, -wide, 0.6)
    cap = seg(-neck * 1.25, -1.2, neck * 1.25, -1.2, neck * 1.25, -1, -neck * 1.25, -1)
    mark = Stroke(arc(0, 0.3, wide * rng.uniform(0.4, 0.5)), role="paint", tone=-70)
    return [Stroke(body), Stroke(label, role="paint", tone=115), mark, Stroke(cap, tone=-110)]


def butterfly(kin: Rng, rng: Rng) -> Drawing:
    """Two pairs of spotted wings, a body and feelers."""
    upper, lower = kin.uniform(0.7, 1.0), kin.uniform(0.45, 0.75)
    fold = rng.uniform(0.75, 1.0)
    out: Drawing = []
    for s in (-fold, fold):
        low = smooth(seg(0, 0, s * lower, 0.2, s * lower * 0.8, 0.8, s * 0.15, 0.6), 3, True)
        top = smooth(seg(0, 0.1, s * 0.2, -0.6, s * upper, -0.85, s * upper * 1.1, -0.2), 3, True)
        out += [Stroke(low, tone=50), Stroke(top)]
        out += [Stroke(top * 0.75 + (s * 0.08, -0.06), 0.03, True, "paint", -110)]
        out += [
            Stroke(arc(s * upper * 0.72, -0.45, 0.11), role="paint", tone=125),
            Stroke(arc(s * lower * 0.6, 0.42, 0.09), role="paint", tone=-120),
        ]
        out.append(Stroke(smooth(seg(0, -0.4, s * 0.1, -0.7, s * 0.3, -0.95)), 0.025, tone=-120))
    return [*out, Stroke(arc(0, 0.05, 0.075, 0.5), tone=-120)]


def nugget(kin: Rng, rng: Rng) -> Drawing:
    """A faceted lump of ore or a pebble."""
    count = int(kin.integers(7, 13))
    outline = polar(rng.uniform(0.7, 1.0, count)) * (kin.uniform(1.0, 1.4), 1)
    out = [Stroke(smooth(outline, int(kin.integers(0, 3)), True))]
    inner = outline * 0.45 + rng.normal(0, 0.06, 2)
    for k in range(count):
        j = (k + 1) % count
        facet = np.array([outline[k], outline[j], inner[j], inner[k]]) * 0.97
        out.append(Stroke(facet, role="paint", tone=int(rng.integers(-90, 100))))
    return out


def pear(kin: Rng, rng: Rng) -> Drawing:
    """A fruit, from apple to pear, with a stalk and a leaf."""
    long = kin.uniform(0.0, 0.55)
    t = np.linspace(0, TAU, 60, endpoint=False)
    width = 0.75 - 0.3 * long * (1 + np.cos(t)) + 0.05 * np.sin(2 * t) * rng.normal()
    body = np.stack([width * np.sin(t), -np.cos(t) * (0.72 + 0.35 * long)], 1)
    top = -0.72 - 0.35 * long
    blade = [Stroke(smooth(seg(0, 0, 0.16, -0.25, 0, -0.6, -0.16, -0.25), 3, True), tone=-100)]
    stalk = Stroke(smooth(seg(0, top + 0.1, 0.04, top - 0.1, 0.12, top - 0.3)), 0.06, tone=-120)
    blush = Stroke(arc(-0.25, 0.2, 0.3, 0.4), role="paint", tone=16)
    leafy = moved(blade, 0.06, top - 0.1, 1, -rng.uniform(0.8, 1.3))
    return [stalk, *leafy, Stroke(body), blush]


def umbrella(kin: Rng, rng: Rng) -> Drawing:
    """An open umbrella with a crook."""
    ribs = int(kin.integers(4, 8))
    dome = arc(0, 0, 1, kin.uniform(0.7, 1.0), math.pi, TAU, 50)
    out = [Stroke(dome)]
    for k in range(ribs):
        x = -1 + (2 * k + 1) / ribs
        out.append(Stroke(arc(x, 0.01, 1 / ribs, 0.13, count=24), role="cut"))
        panel = np.concatenate([arc(x, 0, 1 / ribs, 0.0, 0, math.pi, 4), seg(0, -0.9)])
        out.append(Stroke(panel, role="paint", tone=(90, -40)[k % 2]))
    hook = smooth(seg(0, -1, 0, 0.7, 0, 1.0, 0.25, 1.05, 0.28 + rng.normal(0, 0.02), 0.8))
    return [*out, Stroke(hook, 0.06, tone=-115)]


def quadruped(kin: Rng, rng: Rng) -> Drawing:
    """A four-legged animal in profile."""
    tall, neck = kin.uniform(0.5, 0.85), kin.uniform(0.2, 0.6)
    leg, stout = kin.uniform(0.11, 0.17), kin.uniform(0.28, 0.4)
    out: Drawing = []
    for k, x in enumerate((-0.5, -0.36, 0.4, 0.55)):
        sway = rng.normal(0, 0.12)
        path = smooth(
            seg(
                x,
                0.1,
                x + sway,
                tall * 0.6,
                x + sway * 0.6,
                tall,
                x + sway * 0.6 - 0.08,
                tall + 0.02,
            ),
            2,
        )
        tone = -60 if k % 2 else -10
        out.append(Stroke(path, tuple(np.linspace(leg * 1.7, leg * 0.8, len(path))), tone=tone))
    tail = smooth(seg(0.65, -0.12, 0.95, -0.2, 1.0 + rng.normal(0, 0.1), rng.uniform(-0.6, 0.3)))
    out.append(Stroke(tail, tuple(np.linspace(0.11, 0.04, len(tail))), tone=-20))
    head = (-0.85 - neck * 0.25, -0.25 - neck + rng.normal(0, 0.06))
    out.append(Stroke(np.array([(-0.5, -0.05), head]), (stout * 1.1, 0.24)))
    out.append(Stroke(arc(0, 0, 0.75, stout)))
    face = seg(0.16, -0.1, 0.05, -0.2, -0.34, -0.02, -0.36, 0.12, 0.1, 0.16)
    out.append(Stroke(smooth(face, 2, True) + head, tone=10))
    for x in (0.02, 0.12):
        ear = seg(0, 0, 0.07, -0.24, 0.12, 0.02)
        out.append(Stroke(smooth(ear, 1, True) + head + (x, -0.12), tone=-40))
    for _ in range(int(kin.integers(0, 6))):
        x, y = rng.uniform(-0.5, 0.5), rng.uniform(-0.15, 0.15)
        blotch = polar(rng.uniform(0.08, 0.2, 9), x, y)
        out.append(Stroke(smooth(blotch, 2, True), role="paint", tone=105))
    return [*out, Stroke(arc(head[0] - 0.07, head[1] - 0.05, 0.028), role="paint", tone=-127)]


SOLID: dict[str, Family] = {
    "nugget": nugget,
    "star": star,
    "gear": gear,
    "leaf": leaf,
    "mug": mug,
    "fish": fish,
    "flower": flower,
    "key": key,
    "mushroom": mushroom,
    "bottle": bottle,
    "butterfly": butterfly,
    "pear": pear,
    "umbrella": umbrella,
    "quadruped": quadruped,
}
"""Compact families, in the manner of FSS-1000 and of the saliency sets."""
