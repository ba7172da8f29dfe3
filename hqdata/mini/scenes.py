"""Compose a ground, an object and its shadow into a picture with an exact mask.

The coverage that is saved as the mask is the same 8-bit array that blends the object over its
ground, so picture and mask agree to a fraction of a pixel. Shadows darken the ground before that
and are therefore never part of the mask; sensor noise lies over everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from hqdata.mini import texture
from hqdata.mini.shapes import LACY, Drawing, Family, Rng, place, rasterise, shifted, tones
from hqdata.mini.solid_families import SOLID
from hqdata.mini.texture import U8, Colour, f32, hsv, u8
from hqdata.mini.thin_families import THIN

FAMILIES: dict[str, Family] = {**LACY, **THIN, **SOLID}
MIN_COVER = 0.012
"""The least part of a picture that its object covers; thin objects are thickened up to it."""


@dataclass(frozen=True)
class Scene:
    """A rendered picture.

    ``image`` (H, W, 3) uint8 RGB; ``mask`` (H, W) uint8 coverage, 0 ground, 255 object;
    ``ids`` (H, W) uint8, 0 ground, k the k-th object, for looks whose official masks hold
    object numbers instead of coverage, else None.
    """

    image: U8
    mask: U8
    ids: U8 | None = None


@dataclass(frozen=True)
class _Skin:
    colours: list[Colour]
    material: str
    contrast: float


def blend(ground: U8, front: U8, coverage: U8) -> U8:
    """Return front over ground; (H, W, 3) uint8 twice, coverage (H, W) uint8, 255 all front."""
    rest = cv2.cvtColor(cv2.bitwise_not(coverage), cv2.COLOR_GRAY2RGB)
    part = cv2.cvtColor(coverage, cv2.COLOR_GRAY2RGB)
    over = cv2.multiply(front, part, scale=1 / 255)
    return u8(cv2.add(over, cv2.multiply(ground, rest, scale=1 / 255)))


def _bounds(coverage: U8, margin: int) -> tuple[slice, slice]:
    x, y, w, h = cv2.boundingRect(coverage)
    height, width = coverage.shape
    rows = slice(max(0, y - margin), min(height, y + h + margin))
    return rows, slice(max(0, x - margin), min(width, x + w + margin))


def _skin(rng: Rng, kin: Rng, around: Colour) -> _Skin:
    """Choose object colours that stand off from the ground's mean RGB colour, ``around``."""
    level = (0.3 * around[0] + 0.59 * around[1] + 0.11 * around[2]) / 255
    hue = kin.random() + rng.normal(0, 0.015)
    rich = kin.uniform(0.2, 0.75) * rng.uniform(0.9, 1.1)
    value = kin.uniform(0.75, 1.0) if level < 0.5 else kin.uniform(0.3, 0.6)
    if kin.random() < 0.25:
        rich *= 0.2
    other = hue + kin.choice([0.08, 0.33, 0.5, -0.12])
    colours = [
        hsv(other, rich * 0.9, value * 0.45),
        hsv(hue, rich * 1.1, value * 0.6),
        hsv(hue, rich, value),
        hsv(hue + 0.03, rich * 0.85, min(1.0, value * 1.25)),
        hsv(other, kin.uniform(0.1, 0.9), 0.97 if level < 0.6 else 0.85),
    ]
    material = str(kin.choice(["stone", "fibre", "sand", "grit", "cloud"]))
    return _Skin(colours, material, float(kin.uniform(0.25, 0.6)))


def _relief(coverage: U8, light: float, shine: float) -> U8:
    """Return a light map as of a rounded body lit from angle ``light``; 128 is neutral."""
    height, width = coverage.shape
    shrink = 1 if height * width <= 700_000 else 2
    size = (max(4, width // shrink), max(4, height // shrink))
    small = u8(cv2.resize(coverage, size, interpolation=cv2.INTER_AREA))
    padded = cv2.copyMakeBorder(small, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inside = u8(cv2.threshold(padded, 100, 255, cv2.THRESH_BINARY)[1])
    away = f32(cv2.distanceTransform(inside, cv2.DIST_L2, 3))[1:-1, 1:-1]
    radius = float(min(max(float(away.max()), 2.0), 0.09 * min(size) + 2))
    ramp = np.minimum(away / np.float32(radius), np.float32(1))
    dome = f32(cv2.sqrt(ramp * (np.float32(2) - ramp)))
    dome = f32(cv2.GaussianBlur(dome, (0, 0), max(0.8, radius / 7)))
    gx = f32(cv2.Sobel(dome, cv2.CV_32F, 1, 0, ksize=3))
    gy = f32(cv2.Sobel(dome, cv2.CV_32F, 0, 1, ksize=3))
    gain = -radius * 12.0
    slope = f32(cv2.addWeighted(gx, math.cos(light) * gain, gy, math.sin(light) * gain, 0))
    lit = f32(cv2.addWeighted(slope, 1.0, dome, 34.0, 104.0))
    glint = np.maximum(slope - np.float32(38), 0) * np.float32(shine)
    out = u8(cv2.convertScaleAbs(np.clip(lit + glint, 30, 255)))
    return u8(cv2.resize(out, (width, height))) if shrink > 1 else out


def _front(rng: Rng, coverage: U8, tone: U8 | None, skin: _Skin, light: float) -> U8:
    """Paint the object's surface over its whole box: colour, texture, then light."""
    height, width = coverage.shape
    scale = max(1.0, max(width, height) / 700)
    field = texture.soften(texture.tiled(rng, "cloud", width, height, scale), skin.contrast)
    if tone is not None:
        field = u8(cv2.addWeighted(field, 1, tone, 1, -128))
    image = texture.colourise(field, skin.colours)
    coarse = texture.tiled(rng, skin.material, width, height, 1 + 0.6 * (scale - 1))
    image = texture.shade(image, texture.soften(coarse, skin.contrast * 0.7))
    if scale > 1.3:
        fine = texture.tiled(rng, "sand", width, height)
        image = texture.shade(image, texture.soften(fine, 0.3))
    return texture.shade(image, _relief(coverage, light, float(rng.uniform(0.2, 1.6))))


def _shadow(ground: U8, coverage: U8, shift: tuple[float, float], blur: float, depth: float) -> U8:
    height, width = coverage.shape
    shrink = max(1.0, math.sqrt(width * height / 60_000))
    size = (max(4, round(width / shrink)), max(4, round(height / shrink)))
    small = cv2.resize(coverage, size, interpolation=cv2.INTER_AREA)
    move = np.array([[1, 0, shift[0] / shrink], [0, 1, shift[1] / shrink]], np.float32)
    small = cv2.warpAffine(small, move, size)
    small = cv2.GaussianBlur(small, (0, 0), max(0.6, blur / shrink))
    dark = cv2.addWeighted(small, -0.5 * depth, small, 0, 128)
    return texture.shade(ground, u8(cv2.resize(dark, (width, height))))


def _paste(
    rng: Rng, image: U8, drawing: Drawing, coverage: U8, skin: _Skin, light: float, depth: float
) -> None:
    """Lay one object with its shadow into ``image``, in place."""
    height, width = coverage.shape
    reach = min(width, height) * float(rng.uniform(0.012, 0.05))
    blur = max(1.0, reach * float(rng.uniform(0.35, 0.8)))
    rows, columns = _bounds(coverage, int(reach + 2.5 * blur) + 2)
    local = shifted(drawing, -columns.start, -rows.start)
    piece = np.ascontiguousarray(coverage[rows, columns])
    shift = (-reach * math.cos(light), -reach * math.sin(light))
    ground = _shadow(np.ascontiguousarray(image[rows, columns]), piece, shift, blur, depth)
    tone = tones(local, piece.shape[1], piece.shape[0])
    image[rows, columns] = blend(ground, _front(rng, piece, tone, skin, light), piece)


def _mean(image: U8) -> Colour:
    red, green, blue, _ = cv2.mean(cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA))
    return red, green, blue


def _fitted(
    rng: Rng,
    drawing: Drawing,
    width: int,
    height: int,
    box: tuple[float, float, float, float],
    turn: float,
    tilt: float,
    least: float = MIN_COVER,
) -> tuple[Drawing, U8]:
    """Place and rasterise a drawing, thickening it until it covers enough to be found."""
    lean = (float(rng.normal(0, tilt)), float(rng.normal(0, tilt)))
    mirror = bool(rng.random() < 0.5)
    thicken = 1.0
    while True:
        placed = place(drawing, box, turn, lean, mirror, thicken)
        coverage = rasterise(placed, width, height)
        part = float(np.count_nonzero(coverage > 128)) / coverage.size
        if part >= least or thicken > 30:
            return placed, coverage
        thicken *= 1.35


def _box(
    rng: Rng, width: int, height: int, low: float, high: float, wander: float
) -> tuple[float, float, float, float]:
    """Return a box that fills ``low``..``high`` of each side, off centre by up to ``wander``."""
    part = rng.uniform(low, high)
    spare = (1 - part) / 2
    dx, dy = rng.uniform(-1, 1, 2) * wander * spare
    return (
        (spare + dx) * width,
        (spare + dy) * height,
        (1 - spare + dx) * width,
        (1 - spare + dy) * height,
    )


def _light(rng: Rng) -> float:
    # From above, left or right, as in most photographs.
    return float(-math.pi / 2 + rng.uniform(-1.1, 1.1))


@dataclass(frozen=True)
class _Look:
    """What sets one data set's pictures apart."""

    families: tuple[str, ...]
    grounds: tuple[Callable[[Rng, int, int], U8], ...]
    fill: tuple[float, float]
    wander: float
    turn: float
    tilt: float
    shadow: tuple[float, float]
    noise: tuple[float, float]
    distractors: tuple[int, int] = (0, 0)


_SOLID = tuple(SOLID)
LOOKS: dict[str, _Look] = {
    "dis": _Look(
        tuple(LACY),
        (texture.ground, texture.ground, texture.landscape, texture.structured),
        (0.72, 0.96),
        0.8,
        0.12,
        0.12,
        (0.5, 0.9),
        (1.5, 3.5),
    ),
    "thin": _Look(
        tuple(THIN),
        (texture.bokeh, texture.landscape, texture.bokeh, texture.ground),
        (0.72, 0.96),
        0.8,
        0.3,
        0.1,
        (0.25, 0.7),
        (1.5, 3.5),
    ),
    "coift": _Look(
        ("insect", "branch", "insect", "fern"),
        (texture.bokeh, texture.ground, texture.bokeh),
        (0.65, 0.92),
        0.8,
        1.5,
        0.08,
        (0.3, 0.7),
        (1.5, 3.5),
    ),
    "fss": _Look(
        _SOLID,
        (texture.studio, texture.bokeh, texture.ground),
        (0.55, 0.86),
        0.4,
        0.3,
        0.1,
        (0.3, 0.7),
        (1.5, 3.5),
    ),
    "duts": _Look(
        (*_SOLID, *_SOLID, "wheel", "cage", "fern", "insect"),
        (texture.landscape, texture.ground, texture.structured, texture.bokeh),
        (0.5, 0.85),
        0.6,
        0.25,
        0.1,
        (0.4, 0.8),
        (1.5, 3.5),
        (3, 8),
    ),
    "ecssd": _Look(
        (*_SOLID, "wheel", "filigree"),
        (texture.structured,),
        (0.55, 0.88),
        0.5,
        0.25,
        0.1,
        (0.4, 0.8),
        (1.5, 3.5),
    ),
    "msra": _Look(_SOLID, (texture.studio,), (0.5, 0.85), 0.5, 0.2, 0.08, (0.3, 0.7), (1.5, 3.5)),
    "hrsod": _Look(
        ("quadruped", "bottle", "mug", "umbrella", "flower", "fish", "pear", "mushroom"),
        (texture.landscape, texture.landscape, texture.ground),
        (0.8, 0.95),
        0.2,
        0.06,
        0.06,
        (0.5, 0.9),
        (3.0, 5.0),
        (0, 3),
    ),
}
"""The looks that ``render`` knows, one to a data set."""


def choose_family(look: str, rng: Rng) -> str:
    """Draw one of a look's object families; returns its name."""
    return str(rng.choice(LOOKS[look].families))


def _distract(rng: Rng, image: U8, count: int, around: Colour, light: float) -> None:
    """Strew small, duller objects over the ground, in place; they never reach the mask."""
    height, width = image.shape[:2]
    for _ in range(count):
        family = SOLID[_SOLID[int(rng.integers(len(_SOLID)))]]
        side = max(12, int(min(width, height) * rng.uniform(0.12, 0.3)))
        x, y = int(rng.uniform(-0.2, 1) * width), int(rng.uniform(0.2, 1) * height - side / 2)
        placed = place(family(rng, rng), (2, 2, side - 2, side - 2), float(rng.normal(0, 0.5)))
        piece = rasterise(placed, side, side)
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
        if x1 - x0 < 8 or y1 - y0 < 8:
            continue
        skin = _skin(rng, rng, around)
        dull = [
            (
                0.6 * c[0] + 0.4 * around[0],
                0.6 * c[1] + 0.4 * around[1],
                0.6 * c[2] + 0.4 * around[2],
            )
            for c in skin.colours
        ]
        front = _front(rng, piece, tones(placed, side, side), replace(skin, colours=dull), light)
        part = (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
        ground = np.ascontiguousarray(image[y0:y1, x0:x1])
        cut = np.ascontiguousarray(piece[part])
        reach = side * 0.05
        shift = (-reach * math.cos(light), -reach * math.sin(light))
        ground = _shadow(ground, cut, shift, reach, 0.6)
        image[y0:y1, x0:x1] = blend(ground, np.ascontiguousarray(front[part]), cut)


def _several(rng: Rng, image: U8, look: _Look, family: str | None, light: float) -> Scene:
    """Put one to three objects side by side; the mask is numbered from 1, left to right."""
    height, width = image.shape[:2]
    ids, mask = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    count = int(rng.integers(1, 4))
    around = _mean(image)
    for k in range(count):
        wide = width / count
        x0 = k * wide + (0.04 + 0.2 * rng.random()) * wide * (0.5 if count > 1 else 1)
        x1 = (k + 1) * wide - 0.04 * wide
        y1 = height * rng.uniform(0.85, 0.97)
        y0 = y1 - height * rng.uniform(0.45, 0.8)
        name = family if family and k == 0 else str(rng.choice(look.families))
        drawing = FAMILIES[name](rng, rng)
        turn = float(rng.normal(0, look.turn))
        # Rasterising strictly inside its own column keeps one object from hiding another.
        placed, coverage = _fitted(
            rng, drawing, width, height, (x0, y0, x1, y1), turn, look.tilt, 0.01
        )
        skin = _skin(rng, rng, around)
        _paste(rng, image, placed, coverage, skin, light, float(rng.uniform(*look.shadow)))
        ids[coverage > 127] = k + 1
        mask = u8(cv2.max(mask, coverage))
    return Scene(image, mask, ids)


def render(
    look: str,
    rng: Rng,
    width: int,
    height: int,
    *,
    family: str | None = None,
    kin: Rng | None = None,
) -> Scene:
    """Render one picture.

    Args:
        look: a key of ``LOOKS``.
        rng: the source of everything that is this picture's own.
        width, height: size in pixels, at least 32 each.
        family: the object's family, a key of ``FAMILIES``; drawn from the look's if None.
        kin: the source of what a class shares (outline, colours, material); ``rng`` if None.

    Returns:
        The scene; coverage above 128 is neither empty nor nearly the whole picture.
    """
    style = LOOKS[look]
    ground = style.grounds[int(rng.integers(len(style.grounds)))]
    image = np.ascontiguousarray(ground(rng, width, height))
    light = _light(rng)
    around = _mean(image)
    if style.distractors[1]:
        _distract(rng, image, int(rng.integers(*style.distractors)), around, light)
    if look == "hrsod":
        scene = _several(rng, image, style, family, light)
    else:
        scene = _single(rng, image, look, family, kin or rng, light)
    noisy = texture.sensor_noise(rng, scene.image, float(rng.uniform(*style.noise)))
    return replace(scene, image=noisy)


def _single(rng: Rng, image: U8, look: str, family: str | None, kin: Rng, light: float) -> Scene:
    style = LOOKS[look]
    height, width = image.shape[:2]
    skin = _skin(rng, kin, _mean(image))
    drawing = FAMILIES[family or choose_family(look, rng)](kin, rng)
    box = _box(rng, width, height, *style.fill, style.wander)
    turn = float(rng.normal(0, style.turn))
    placed, coverage = _fitted(rng, drawing, width, height, box, turn, style.tilt)
    _paste(rng, image, placed, coverage, skin, light, float(rng.uniform(*style.shadow)))
    ids = (coverage > 127).astype(np.uint8) if look == "coift" else None
    return Scene(image, coverage, ids)
