"""Surfaces of scenes: noise with a photograph's spectrum, and patterns bent by it.

Everything is drawn from a generator that is handed in, at the size that is asked for.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
Rng = np.random.Generator

_LEAST_PATCH = 4


def clouds(rng: Rng, height: int, width: int, *, cell: float, octaves: int, fall: float) -> F32:
    """Smooth noise in octaves, float32 (height, width), mean about 0, deviation about 1.

    Args:
        rng: what it is drawn from.
        height, width: in pixels.
        cell: of the coarsest octave, in pixels; each further octave halves it.
        octaves: at most this many; those with cells below a pixel are left out.
        fall: amplitude of an octave over that of the one before: 0.5 is 1/f, as in photographs.
    """
    total = np.zeros((height, width), np.float32)
    power, amplitude = 0.0, 1.0
    for _ in range(octaves):
        rows, columns = (int(np.ceil(side / cell)) + 2 for side in (height, width))
        grid = rng.standard_normal((rows, columns), np.float32)
        # A larger patch is cut at a random place: knots of the grid are at no fixed pixels.
        shift = rng.random(2)
        scale = np.array([[1 / cell, 0, shift[0]], [0, 1 / cell, shift[1]]], np.float32)
        total += np.float32(amplitude) * cv2.warpAffine(
            grid,
            scale,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
        power += amplitude**2
        amplitude *= fall
        cell /= 2
        if cell < 1:
            break
    # Bilinear interpolation between knots keeps about 4/9 of their variance.
    total *= np.float32(1.5 / np.sqrt(power))
    return total


def places(height: int, width: int, angle: float) -> F32:
    """How far along a direction each pixel lies, float32 (height, width), in pixels."""
    x = np.arange(width, dtype=np.float32) * np.float32(np.cos(angle))
    y = np.arange(height, dtype=np.float32) * np.float32(np.sin(angle))
    return cast(F32, y[:, None] + x)


def _f32(values: object) -> F32:
    """The same array, with its type told."""
    return np.asarray(values, np.float32)


def _pattern(rng: Rng, height: int, width: int, size: float) -> F32:
    """What the colours follow, float32 (height, width), about -1 to 1."""
    kind = rng.random()
    if kind < 0.4:
        cell = size * float(np.exp(rng.uniform(np.log(0.05), np.log(0.6))))
        return clouds(rng, height, width, cell=max(cell, 2), octaves=5, fall=rng.uniform(0.4, 0.8))
    if kind < 0.55:
        return np.zeros((height, width), np.float32)
    bend = clouds(rng, height, width, cell=max(size * 0.4, 4), octaves=3, fall=0.5)
    period = max(size * float(np.exp(rng.uniform(np.log(0.04), np.log(0.4)))), 3)
    angle = rng.uniform(0, np.pi)
    warp = np.float32(rng.uniform(0, 1.5))
    along = places(height, width, angle) * np.float32(2 * np.pi / period) + warp * bend
    if kind < 0.7:  # stripes
        return _f32(np.tanh(np.sin(along) * np.float32(rng.uniform(0.7, 4))))
    if kind < 0.8:  # checks
        across = places(height, width, angle + np.pi / 2) * np.float32(2 * np.pi / period)
        return _f32(np.tanh(np.sin(along) * np.sin(across + warp * bend) * np.float32(4)))
    if kind < 0.9:  # spots
        fine = clouds(rng, height, width, cell=period, octaves=2, fall=0.4)
        return _f32(np.tanh((fine - np.float32(rng.uniform(0.2, 1.2))) * np.float32(5)))
    veins = clouds(rng, height, width, cell=max(size * 0.3, 4), octaves=4, fall=0.55)
    return _f32(np.sin(veins * np.float32(rng.uniform(2, 7))))


def colour(rng: Rng) -> F32:
    """A colour, float32 (3,), 0 to 255 RGB, with the muted distribution that things have."""
    level = rng.uniform(20, 235)
    if rng.random() < 0.25:
        return np.full(3, level, np.float32) + rng.normal(0, 4, 3).astype(np.float32)
    hue = rng.random() * 2 * np.pi
    chroma = abs(rng.normal(0, 38))
    # A plane of equal luma, roughly: red up and blue down, and green against both.
    warm, green = np.cos(hue) * chroma, np.sin(hue) * chroma
    offset = np.array([warm - 0.4 * green, 0.5 * green, -1.3 * warm - 0.4 * green])
    return np.clip(level + offset, 0, 255).astype(np.float32)


def surface(rng: Rng, height: int, width: int, base: F32, *, size: float) -> F32:
    """A painted surface, float32 (height, width, 3), about 0 to 255, not cut off.

    Args:
        rng: what it is drawn from.
        height, width: in pixels.
        base: its main colour, float32 (3,).
        size: of the thing it covers, in pixels; patterns are of its order.
    """
    height, width = max(height, _LEAST_PATCH), max(width, _LEAST_PATCH)
    other = colour(rng)
    strength = np.float32(rng.beta(1.2, 2.5))
    mixed = (other - base) * strength * np.float32(0.6)
    pattern = _pattern(rng, height, width, size)
    image = base + pattern[..., None] * mixed
    grain = clouds(rng, height, width, cell=rng.uniform(2, 14), octaves=3, fall=0.8)
    image += (grain * np.float32(abs(rng.normal(0, 9))))[..., None]
    if rng.random() < 0.5:
        slope = places(height, width, rng.uniform(0, 2 * np.pi)) / np.float32(max(size, 1))
        image += (slope * np.float32(rng.normal(0, 25)))[..., None]
    return _f32(image)
