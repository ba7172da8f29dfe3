"""Noise, colours and grounds for the procedural pictures.

Every function is pure: it takes a numpy ``Generator`` and a size in pixels and returns an array.
Grounds are built at a reduced working size and enlarged, because their large forms are smooth;
what makes a photograph expensive to store and to decode (grain, grit, fibres) is multiplied in
at full size from fixed noise tiles, which costs a few milliseconds even for ten megapixels.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
Colour = tuple[float, float, float]

TILE = 1024
"""Side of a noise tile in pixels."""

WORK_PIXELS = 500_000
"""Grounds larger than this many pixels are built smaller and enlarged."""


def u8(array: object) -> U8:
    """Return ``array`` typed as uint8, without a copy when it already is."""
    return np.asarray(array, dtype=np.uint8)


def f32(array: object) -> F32:
    """Return ``array`` typed as float32, without a copy when it already is."""
    return np.asarray(array, dtype=np.float32)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Convert HSV, each in 0..1 (hue wraps), to RGB in 0..255."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(saturation, 1.0), min(value, 1.0))
    return red * 255, green * 255, blue * 255


def _spectrum(white: F32, low: float, high: float, slope: float, stretch: float = 1.0) -> F32:
    """Filter white noise (TILE, TILE) to wavelengths ``low``..``high`` px, amplitude f**slope."""
    fy = np.fft.fftfreq(TILE)[:, None]
    fx = np.fft.rfftfreq(TILE)[None, :] * stretch
    freq = np.hypot(fy, fx) + 1e-9
    gain = freq**slope * np.exp(-((freq * low) ** 2)) * (1 - np.exp(-((freq * high) ** 2)))
    return f32(np.fft.irfft2(np.fft.rfft2(white) * gain, s=(TILE, TILE)))


@lru_cache(maxsize=16)
def noise_tile(kind: str) -> U8:
    """Return the fixed wrapping noise tile of a kind: (1024, 1024) uint8, mean 128, std 32.

    Kinds: ``grain`` (sensor), ``sand`` (fine band-pass), ``stone`` (all scales), ``fibre``
    (horizontal streaks), ``cloud`` (large scales), ``grit`` (stone with dark pits).
    """
    codes = {"grain": 1, "sand": 2, "stone": 3, "fibre": 4, "cloud": 5, "grit": 6}
    white = f32(np.random.default_rng(codes[kind]).standard_normal((TILE, TILE), np.float32))
    if kind == "grain":
        out = _spectrum(white, 0.7, 1e4, 0.0)
    elif kind == "sand":
        out = _spectrum(white, 1.3, 9.0, 0.0)
    elif kind == "stone":
        out = _spectrum(white, 0.9, 300.0, -0.85)
    elif kind == "fibre":
        out = _spectrum(white, 1.2, 200.0, -0.6, stretch=22.0)
    elif kind == "cloud":
        out = _spectrum(white, 6.0, 700.0, -1.5)
    else:
        rough = _spectrum(white, 1.0, 60.0, -0.5)
        rough /= rough.std()
        out = f32(-(np.abs(rough) ** 0.7) - 0.5 * np.maximum(rough - 1.2, 0))
    out = (out - out.mean()) / out.std()
    return u8(np.clip(128 + 32 * out, 0, 255))


def tiled(rng: np.random.Generator, kind: str, width: int, height: int, zoom: float = 1.0) -> U8:
    """Return (height, width) uint8 noise laid together from two cuts of a tile, enlarged by zoom.

    One cut alone would be found again in other pictures: they would overlap.
    """
    wide, high = math.ceil(width / zoom) + 1, math.ceil(height / zoom) + 1
    one, other = _cut(rng, kind, wide, high), _cut(rng, kind, wide, high)
    share = math.sqrt(0.5)  # of independent noise, so that the spread stays the same
    cut = u8(cv2.addWeighted(one, share, other, share, 128 * (1 - 2 * share)))
    if zoom == 1.0:
        return cut[:height, :width]
    return u8(cv2.resize(cut, (width, height), interpolation=cv2.INTER_LINEAR))


def _cut(rng: np.random.Generator, kind: str, wide: int, high: int) -> U8:
    """Return (high, wide) uint8 cut from a tile at a random place, which wraps around."""
    tile = noise_tile(kind)
    # A cut that fits into the tile need not wrap, which spares small pictures a large copy.
    x = int(rng.integers(TILE - wide + 1 if wide <= TILE else TILE))
    y = int(rng.integers(TILE - high + 1 if high <= TILE else TILE))
    if kind != "fibre" and rng.random() < 0.5:
        tile = u8(tile.T)
    if x + wide <= TILE and y + high <= TILE:
        return tile[y : y + high, x : x + wide]
    many = cv2.repeat(tile, (y + high - 1) // TILE + 1, (x + wide - 1) // TILE + 1)
    return u8(many)[y : y + high, x : x + wide]


def fractal(
    rng: np.random.Generator, width: int, height: int, cell: float, octaves: int = 4
) -> F32:
    """Return smooth noise (height, width) float32 in 0..1; ``cell`` is its largest form in px."""
    total: F32 | None = None
    for octave in range(octaves):
        step = cell / 2**octave
        size = (max(2, round(width / step) + 2), max(2, round(height / step) + 2))
        noise = rng.random((size[1], size[0]), np.float32) * np.float32(0.55**octave)
        if total is not None:
            noise += f32(cv2.resize(total, size, interpolation=cv2.INTER_CUBIC))
        total = noise
    assert total is not None
    out = f32(cv2.resize(total, (width, height), interpolation=cv2.INTER_CUBIC))
    low, high = float(out.min()), float(out.max())
    return f32((out - np.float32(low)) / np.float32(max(high - low, 1e-6)))


def colourise(field: NDArray[np.float32] | U8, colours: Sequence[Colour]) -> U8:
    """Map a (H, W) field, 0..1 float or 0..255 uint8, through evenly spaced colours: RGB uint8."""
    stops = np.linspace(0, 255, len(colours))
    table = np.stack([np.interp(np.arange(256), stops, [c[k] for c in colours]) for k in range(3)])
    lut = u8(np.clip(table.T + 0.5, 0, 255)).reshape(256, 1, 3)
    index = field if field.dtype == np.uint8 else np.clip(field * 255, 0, 255).astype(np.uint8)
    return u8(cv2.applyColorMap(u8(index), lut))


def shade(image: U8, light: U8) -> U8:
    """Multiply an RGB image by a (H, W) uint8 light map in which 128 leaves it as it is."""
    return u8(cv2.multiply(image, cv2.cvtColor(light, cv2.COLOR_GRAY2RGB), scale=1 / 128))


def soften(tile: U8, strength: float | U8) -> U8:
    """Pull a light map towards 128: by a factor, or by a (H, W) uint8 map (255 keeps it whole)."""
    if isinstance(strength, float | int):
        return u8(cv2.addWeighted(tile, strength, tile, 0, 128 * (1 - strength)))
    scaled = cv2.multiply(tile, strength, scale=1 / 255)
    return u8(cv2.addWeighted(scaled, 1, strength, -128 / 255, 128))


def sensor_noise(rng: np.random.Generator, image: U8, amount: float) -> U8:
    """Add camera grain; ``amount`` is its standard deviation in grey levels. RGB uint8."""
    height, width = image.shape[:2]
    gain = amount / 32
    grain = cv2.cvtColor(tiled(rng, "grain", width, height), cv2.COLOR_GRAY2RGB)
    return u8(cv2.addWeighted(image, 1, grain, gain, -128 * gain))


def _work(width: int, height: int) -> tuple[int, int]:
    shrink = max(1.0, math.sqrt(width * height / WORK_PIXELS))
    return max(8, round(width / shrink)), max(8, round(height / shrink))


def _enlarge(image: U8, width: int, height: int) -> U8:
    if image.shape[:2] == (height, width):
        return image
    return u8(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))


def _grid(width: int, height: int) -> tuple[F32, F32]:
    xs = np.arange(width, dtype=np.float32)[None, :].repeat(height, 0)
    ys = np.arange(height, dtype=np.float32)[:, None].repeat(width, 1)
    return xs, ys


def earthy(rng: np.random.Generator) -> list[Colour]:
    """Return four muted colours from dark to light, as of stone, soil, cloth or plaster."""
    hue = float(rng.choice([0.06, 0.09, 0.12, 0.25, 0.33, 0.55, 0.6, 0.68, 0.95]))
    hue += float(rng.normal(0, 0.02))
    grey, top = rng.uniform(0.08, 0.5), rng.uniform(0.55, 0.92)
    steps = ((0.42, 1.2), (0.62, 1.0), (0.8, 0.85), (1.0, 0.6))
    return [hsv(hue + rng.normal(0, 0.025), grey * s, top * v) for v, s in steps]


def ground(rng: np.random.Generator, width: int, height: int) -> U8:
    """Return a textured wall or floor: plaster, planks, gravel, cloth or turf. RGB uint8."""
    kind = str(rng.choice(["plaster", "planks", "gravel", "cloth", "turf"]))
    w, h = _work(width, height)
    colours = earthy(rng)
    field = fractal(rng, w, h, max(w, h) / rng.uniform(1.5, 4), 5)
    zoom = max(w, h) / 500
    if kind == "planks":
        ys = _grid(w, h)[1]
        wide = h / rng.uniform(4, 9)
        row = np.floor(ys / wide).astype(np.int32)
        tone = rng.random(64, np.float32)[row % 64]
        streak = tiled(rng, "fibre", w, h, zoom).astype(np.float32) / 255
        joint = np.minimum(ys % wide, wide - ys % wide) < max(1.0, wide * 0.012)
        field = 0.45 * streak + 0.4 * tone + 0.15 * field
        field[joint] = 0.0
        if rng.random() < 0.5:
            field = f32(np.ascontiguousarray(cv2.resize(field.T, (w, h))))
    elif kind == "turf":
        hue = rng.uniform(0.18, 0.32)
        colours = [hsv(hue, 0.75, 0.16), hsv(hue, 0.65, 0.4), hsv(hue - 0.05, 0.5, 0.66)]
        field = f32(0.5 * field + tiled(rng, "stone", w, h, 1.0).astype(np.float32) / 500)
    else:
        field = f32(0.7 * field + tiled(rng, "stone", w, h, zoom).astype(np.float32) / 850)
    image = _enlarge(colourise(field, colours), width, height)
    scale = max(1.0, max(width, height) / 1400)
    name = {"plaster": "stone", "planks": "fibre", "gravel": "grit", "cloth": "sand"}
    coarse = tiled(rng, name.get(kind, "grit"), width, height, scale * 2.0)
    fine = tiled(rng, "sand" if kind != "gravel" else "grit", width, height, 1.0)
    image = shade(image, soften(coarse, 0.75 if kind in ("gravel", "turf") else 0.45))
    return shade(image, soften(fine, 0.3))


def _ridge(rng: np.random.Generator, width: int, rough: float) -> F32:
    line = np.zeros(width, np.float32)
    for octave in range(7):
        points = rng.standard_normal((1, 3 + 2 ** (octave + 1)), np.float32)
        curve = cv2.resize(points, (width, 1), interpolation=cv2.INTER_CUBIC)
        line += f32(curve)[0] * np.float32(rough**octave)
    return line


def landscape(rng: np.random.Generator, width: int, height: int) -> U8:
    """Return a layered scene: sky with clouds, hazy hills, a textured foreground. RGB uint8."""
    w, h = _work(width, height)
    hue, warm = rng.uniform(0.53, 0.63), rng.uniform(0.02, 0.12)
    dusk = rng.random() < 0.35
    top = hsv(hue, rng.uniform(0.35, 0.7), rng.uniform(0.5, 0.9))
    haze = hsv(warm, 0.4, 0.95) if dusk else hsv(hue, 0.1, 0.96)
    horizon = rng.uniform(0.35, 0.7)
    rows = np.linspace(0, 1 / horizon, h, dtype=np.float32)[:, None].repeat(w, 1)
    image = colourise(rows, [top, haze])
    cloud = np.clip(fractal(rng, w, h, w / 2.5, 5) * 2.4 - 1.1, 0, 1) * np.float32(0.75)
    white = np.full_like(image, 248)
    image = u8(cv2.blendLinear(image, white, 1 - cloud, cloud))
    weight = np.full((h, w), 14, np.uint8)
    ys = np.arange(h, dtype=np.float32)[:, None]
    count = int(rng.integers(3, 6))
    land = rng.choice([0.1, 0.22, 0.27, 0.33, 0.58])
    for layer in range(count):
        near = (layer + 1) / count
        base = (horizon + (1 - horizon) * 0.85 * layer / count) * h
        edge = base + _ridge(rng, w, 0.5 + 0.12 * near) * h * 0.05 * (1.3 - 0.5 * near)
        cover = np.clip(ys - edge[None, :], 0, 1)
        tone = hsv(land + rng.normal(0, 0.02), 0.2 + 0.45 * near, 0.72 - 0.38 * near)
        mixed = tuple(a * near + b * (1 - near) for a, b in zip(tone, haze, strict=True))
        dark = tuple(v * (1 - 0.55 * near) for v in mixed)
        body = fractal(rng, w, h, w / (4 + 3 * layer), 5)
        lit = colourise(body, [(dark[0], dark[1], dark[2]), (mixed[0], mixed[1], mixed[2])])
        image = u8(cv2.blendLinear(image, lit, f32(1 - cover), f32(cover)))
        weight = np.where(cover > 0.5, np.uint8(20 + 170 * near**2), weight)
    image = _enlarge(image, width, height)
    strength = _enlarge(weight, width, height)
    scale = max(1.0, max(width, height) / 1400)
    image = shade(image, soften(tiled(rng, "grit", width, height, 1.5 * scale), strength))
    return shade(image, soften(tiled(rng, "sand", width, height), u8(strength // 2)))


def bokeh(rng: np.random.Generator, width: int, height: int) -> U8:
    """Return an out-of-focus ground: a smooth gradient with soft discs of light. RGB uint8."""
    w, h = _work(width, height)
    w, h = max(8, w // 2), max(8, h // 2)
    hue, spread = rng.random(), rng.uniform(0.04, 0.16)
    value = rng.uniform(0.25, 0.7)
    colours = [
        hsv(hue + spread * k, rng.uniform(0.25, 0.7), value * f)
        for k, f in ((-1, 0.5), (0, 0.8), (1, 1.1), (2, 1.35))
    ]
    xs, ys = _grid(w, h)
    angle = rng.uniform(0, 2 * math.pi)
    ramp = (xs / w - 0.5) * math.cos(angle) + (ys / h - 0.5) * math.sin(angle)
    field = 0.6 * fractal(rng, w, h, w / rng.uniform(1.2, 3), 3) + 0.35 * ramp + 0.2
    image = colourise(f32(field), colours)
    for _ in range(int(rng.integers(2, 5))):
        layer = image.copy()
        for _ in range(int(rng.integers(3, 10))):
            tint = hsv(hue + rng.normal(0, spread), rng.uniform(0.1, 0.6), rng.uniform(0.6, 1.0))
            radius = int(max(w, h) * rng.uniform(0.02, 0.09))
            place = (int(rng.integers(0, w)), int(rng.integers(0, h)))
            cv2.circle(layer, place, radius, tint, -1, cv2.LINE_AA)
        opacity = rng.uniform(0.12, 0.4)
        image = u8(cv2.addWeighted(image, 1 - opacity, layer, opacity, 0))
        image = u8(cv2.GaussianBlur(image, (0, 0), max(w, h) / rng.uniform(90, 250)))
    image = _enlarge(image, width, height)
    grain = tiled(rng, "stone", width, height, max(1.0, max(width, height) / 1200))
    image = shade(image, soften(grain, 0.12))
    return shade(image, soften(tiled(rng, "sand", width, height), 0.16))


def structured(rng: np.random.Generator, width: int, height: int) -> U8:
    """Return a regular pattern, warped a little: stripes, bricks, tiles or waves. RGB uint8."""
    w, h = _work(width, height)
    kind = str(rng.choice(["stripes", "bricks", "tiles", "waves", "weave"]))
    xs, ys = _grid(w, h)
    turn = rng.normal(0, 0.25) if kind in ("bricks", "tiles") else rng.uniform(0, math.pi)
    bend = (fractal(rng, w, h, w / 1.5, 2) - 0.5) * np.float32(w * rng.uniform(0, 0.08))
    c, s = math.cos(turn), math.sin(turn)
    u, v = f32(xs * c + ys * s + bend), f32(ys * c - xs * s + bend)
    pitch = max(w, h) / rng.uniform(7, 18)
    table = rng.random(997, np.float32)
    dirt = fractal(rng, w, h, w / 3, 4)
    joint = None
    if kind in ("bricks", "tiles"):
        aspect = 2.3 if kind == "bricks" else 1.0
        row = np.floor(v / pitch)
        shift = (row % 2) * (0.5 * aspect * pitch) if kind == "bricks" else np.float32(0)
        across = (u + shift) / np.float32(aspect * pitch)
        column = np.floor(across)
        cell = table[(row * 57 + column * 131).astype(np.int64) % 997]
        edge_v = np.abs(v / pitch - row - 0.5)
        edge_u = np.abs(across - column - 0.5) * aspect + (0.5 - 0.5 * aspect)
        joint = np.clip((np.maximum(edge_u, edge_v) - 0.44) * pitch * 0.8, 0, 1)
        field = 0.3 + 0.4 * cell if kind == "bricks" else 0.25 + 0.5 * ((row + column) % 2)
    elif kind == "stripes":
        wave = u / np.float32(pitch)
        band = np.floor(wave)
        gap = np.clip((np.abs(wave - band - 0.5) - 0.5 + 1.5 / pitch) * pitch, 0, 1)
        pick = table[(band * 71).astype(np.int64) % 997]
        field = pick * (1 - gap) + 0.5 * gap
    elif kind == "waves":
        sway = np.sin(u / np.float32(pitch * 0.9)) * np.float32(pitch * 0.45)
        field = 0.5 + 0.45 * np.sin((v + sway) / np.float32(pitch * 0.22))
    else:
        over = np.sin(u * np.float32(math.pi / pitch)) * np.sin(v * np.float32(math.pi / pitch))
        field = 0.5 + 0.4 * np.sign(over) * np.sqrt(np.abs(over))
    hue = rng.random()
    colours = [hsv(hue, rng.uniform(0.2, 0.6), 0.3), hsv(hue + rng.normal(0, 0.1), 0.4, 0.6)]
    colours.append(hsv(hue + rng.normal(0, 0.15), rng.uniform(0.1, 0.5), 0.88))
    image = colourise(f32(field * 0.8 + dirt * 0.2), colours)
    if joint is not None:
        mortar = colourise(dirt, [hsv(0.09, 0.12, 0.45), hsv(0.1, 0.1, 0.75)])
        image = u8(cv2.blendLinear(image, mortar, f32(1 - joint), f32(joint)))
    image = _enlarge(image, width, height)
    image = shade(image, soften(tiled(rng, "stone", width, height, 2.0), 0.25))
    return shade(image, soften(tiled(rng, "sand", width, height), 0.18))


def studio(rng: np.random.Generator, width: int, height: int) -> U8:
    """Return a clean backdrop: a gradient, at times a table edge, light falling off. RGB uint8."""
    w, h = _work(width, height)
    hue, grey = rng.random(), rng.uniform(0.03, 0.45)
    top = rng.uniform(0.6, 0.97)
    rows = np.linspace(0, 1, h, dtype=np.float32)[:, None].repeat(w, 1)
    colours = [hsv(hue, grey, top), hsv(hue + rng.normal(0, 0.03), grey, top * 0.78)]
    if rng.random() < 0.5:
        table = rng.uniform(0.55, 0.75)
        edge = np.clip((rows - table) * h / rng.uniform(2, 14), 0, 1)
        rows = rows * 0.5 + edge * 0.5
        colours.append(hsv(hue + rng.normal(0, 0.08), grey * 1.2, top * rng.uniform(0.6, 0.95)))
    image = colourise(f32(rows), colours)
    xs, ys = _grid(w, h)
    cx, cy = rng.uniform(0.3, 0.7) * w, rng.uniform(0.2, 0.6) * h
    away = np.hypot(xs - np.float32(cx), ys - np.float32(cy)) / math.hypot(w, h)
    fall = 138 - 60 * away * rng.uniform(0.4, 1.0) + 10 * fractal(rng, w, h, w / 2, 3)
    image = _enlarge(shade(image, u8(np.clip(fall, 0, 255))), width, height)
    return shade(image, soften(tiled(rng, "sand", width, height), 0.22))
