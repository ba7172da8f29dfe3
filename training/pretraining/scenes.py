"""Scenes to pretrain on: several things on a ground, lit, overlapping, photographed badly.

A scene is a function of (seed, index): whoever draws it, and in whatever order, gets the same one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.pretraining.outlines import Drawing, coverage, draw, fit
from training.pretraining.textures import F32, U8, Rng, clouds, colour, places, surface

SCENES_VERSION = 1
"""Goes up whenever the same seed and index would give another scene than before."""

_LEAST_PIXELS = 60
"""Things of which fewer pixels are seen, in a picture of 256, are part of the ground."""

_MOST_THINGS = 7


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture and the things in it.

    Attributes:
        image: uint8 (s, s, 3), RGB.
        masks: uint8 (n, s, s), what is seen of each thing, 255 in full; n is at least 1.
    """

    image: U8
    masks: U8


def scene_generator(seed: int, index: int) -> Rng:
    """The generator that all of a scene, and of its prompts, is drawn from."""
    key = np.array([seed & (2**64 - 1), index], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def draw_scene(rng: Rng, side: int) -> Scene:
    """Draws a scene.

    Args:
        rng: what all of it is drawn from.
        side: of the picture, in pixels.
    """
    while True:
        scene = _attempt(rng, side)
        if scene is not None:
            return scene


def _attempt(rng: Rng, side: int) -> Scene | None:
    image = _ground(rng, side)
    light = rng.uniform(0, 2 * np.pi)
    focus = float(rng.uniform(0, 2.5)) if rng.random() < 0.4 else 0.0
    for _ in range(int(rng.integers(0, 4)) if rng.random() < 0.5 else 0):
        _lay(rng, image, draw(rng, 0.3), rng.uniform(0.05, 0.5), light)  # clutter, never asked for
    if focus:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), focus * side / 256), np.float32)
    seen: list[F32] = []
    number = 1 + int(rng.integers(0, _MOST_THINGS)) if rng.random() < 0.65 else 1
    for k in range(number):
        size = rng.uniform(0.45, 0.96) if k == 0 and rng.random() < 0.7 else rng.uniform(0.12, 0.6)
        cover = _lay(rng, image, draw(rng, 0.22), size, light)
        seen = [mask * (1 - cover) for mask in seen]
        seen.append(cover)
        if rng.random() < 0.25:
            _mark(rng, image, cover)
    least = _LEAST_PIXELS * (side / 256) ** 2
    masks = [np.rint(mask * 255).astype(np.uint8) for mask in seen]
    masks = [mask for mask in masks if cv2.countNonZero((mask > 128).view(np.uint8)) >= least]
    if not masks:
        return None
    return Scene(_photographed(rng, image), np.stack(masks))


def _ground(rng: Rng, side: int) -> F32:
    """float32 (s, s, 3): one surface, or several with a border between them."""
    image = surface(rng, side, side, colour(rng), size=side * rng.uniform(0.3, 1.5))
    for _ in range(int(rng.choice([0, 0, 0, 1, 1, 2, 3]))):
        along = places(side, side, rng.uniform(0, 2 * np.pi))
        rough = clouds(rng, side, side, cell=side * rng.uniform(0.1, 0.5), octaves=4, fall=0.5)
        edge = along - along.mean() + rough * np.float32(side * rng.uniform(0, 0.1))
        beyond = (edge > rng.uniform(-0.35, 0.35) * side)[..., None]
        other = surface(rng, side, side, colour(rng), size=side * rng.uniform(0.2, 1.0))
        image = np.where(beyond, other, image)
    return np.ascontiguousarray(image)


def _window(alpha: U8, margin: int) -> tuple[slice, slice]:
    x, y, width, height = cv2.boundingRect(alpha)
    return (
        slice(max(0, y - margin), y + height + margin),
        slice(max(0, x - margin), x + width + margin),
    )


def _lay(rng: Rng, image: F32, drawing: Drawing, size: float, light: float) -> F32:
    """Lays a thing into the picture, in place; how far it covers each pixel, 0 to 1."""
    side = len(image)
    aspect = np.exp(rng.uniform(-0.6, 0.6))
    wide, high = (min(size * a, 0.98) * side for a in (aspect**0.5, aspect**-0.5))
    slack = 0.1 * side  # a few things leave the picture
    x0 = rng.uniform(-slack, max(side - wide + slack, -slack + 1))
    y0 = rng.uniform(-slack, max(side - high + slack, -slack + 1))
    if rng.random() < 0.75:
        x0, y0 = np.clip(x0, 1, max(side - wide - 1, 1)), np.clip(y0, 1, max(side - high - 1, 1))
    placed = fit(rng, drawing, (x0, y0, x0 + wide, y0 + high), rng.normal(0, 0.5))
    alphas = [coverage(part, side) for part in placed]
    whole = alphas[0]
    for alpha in alphas[1:]:
        whole = np.asarray(cv2.max(whole, alpha), np.uint8)
    if not whole.any():
        return np.zeros((side, side), np.float32)
    reach = side * rng.uniform(0.01, 0.06)
    if rng.random() < 0.6:
        _shade_ground(rng, image, whole, light, reach)
    base = _standing_off(rng, image, whole)
    relief = _relief(rng, whole, light)
    for number, alpha in enumerate(alphas):
        if number and rng.random() < 0.6:
            base = np.clip(base + rng.normal(0, 45), 0, 255).astype(np.float32)
            base = colour(rng) if rng.random() < 0.4 else base
        if not alpha.any():
            continue
        rows, columns = _window(alpha, 0)
        part = image[rows, columns]
        height, width = part.shape[:2]
        front = surface(rng, height, width, base, size=float(max(height, width)))
        front = front[:height, :width] * relief[rows, columns, None]
        share = (alpha[rows, columns, None] * np.float32(1 / 255)).astype(np.float32)
        part += (front - part) * share
    return np.asarray(whole * np.float32(1 / 255), np.float32)


def _standing_off(rng: Rng, image: F32, alpha: U8) -> F32:
    """A colour that mostly differs from what lies around the thing."""
    rows, columns = _window(alpha, 6)
    around = image[rows, columns].reshape(-1, 3).mean(0)
    wanted = rng.uniform(15, 60) if rng.random() < 0.9 else 0.0
    base = colour(rng)
    for _ in range(8):
        if np.abs(base - around).max() >= wanted:
            break
        base = colour(rng)
    return base


def _shade_ground(rng: Rng, image: F32, alpha: U8, light: float, reach: float) -> None:
    rows, columns = _window(alpha, int(3 * reach) + 2)
    piece = np.ascontiguousarray(alpha[rows, columns])
    move = np.array([[1, 0, -reach * np.cos(light)], [0, 1, -reach * np.sin(light)]], np.float32)
    moved = cv2.warpAffine(piece, move, piece.shape[::-1])
    soft = cv2.GaussianBlur(moved, (0, 0), max(0.7, reach * rng.uniform(0.2, 0.8)))
    image[rows, columns] *= (1 - soft * np.float32(rng.uniform(0.15, 0.7) / 255))[..., None]


def _relief(rng: Rng, alpha: U8, light: float) -> F32:
    """How light or dark a rounded thing is where, float32 (s, s), 1 is neutral."""
    strength = rng.uniform(0, 0.45)
    rows, columns = _window(alpha, 8)
    piece = alpha[rows, columns].astype(np.float32) * np.float32(1 / 255)
    size = max(piece.shape)
    dome = np.asarray(cv2.GaussianBlur(piece, (0, 0), max(1.0, size * rng.uniform(0.03, 0.12))))
    slope = cv2.Sobel(dome, cv2.CV_32F, 1, 0) * np.float32(np.cos(light))
    slope += cv2.Sobel(dome, cv2.CV_32F, 0, 1) * np.float32(np.sin(light))
    most = float(np.abs(slope).max()) or 1.0
    relief = np.ones(alpha.shape, np.float32)
    relief[rows, columns] -= slope * np.float32(strength / most)
    return relief


def _mark(rng: Rng, image: F32, cover: F32) -> None:
    """Paints a patch on a thing that belongs to it: colour is not what makes an object."""
    x, y, width, height = cv2.boundingRect((cover > 0.5).view(np.uint8))
    if min(width, height) < 12:
        return
    size = max(width, height) * rng.uniform(0.15, 0.5) / len(image)
    patch = draw(rng, 0.3)
    wide = size * len(image)
    at = np.array([x, y]) + rng.uniform(-0.1, 0.9, 2) * [width, height]
    placed = fit(rng, patch, (at[0], at[1], at[0] + wide, at[1] + wide), rng.uniform(0, 6))
    alpha = coverage([stroke for part in placed for stroke in part], len(image))
    share = alpha * cover * np.float32(1 / 255)
    image += (colour(rng) - image) * (share * np.float32(rng.uniform(0.4, 1.0)))[..., None]


def _photographed(rng: Rng, image: F32) -> U8:
    """Uneven light, a lens, a sensor and a file: uint8 (s, s, 3)."""
    side = len(image)
    if rng.random() < 0.5:
        glow = clouds(rng, side, side, cell=side * rng.uniform(0.5, 1.2), octaves=2, fall=0.5)
        image = image * (1 + glow * np.float32(rng.uniform(0, 0.18)))[..., None]
    if rng.random() < 0.5:
        blur = rng.uniform(0.4, 1.3) * side / 256
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), blur), np.float32)
    gain, gamma = rng.uniform(0.7, 1.15), rng.uniform(0.75, 1.35)
    image = np.clip(image * np.float32(gain / 255), 0, 1) ** np.float32(gamma)
    if rng.random() < 0.08:
        image = np.repeat(image.mean(2, keepdims=True), 3, axis=2)
    image = image * 255 + rng.standard_normal(image.shape, np.float32) * np.float32(
        rng.gamma(1.5, 2.5)
    )
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))]
        done, data = cv2.imencode(".jpg", pixels, quality)
        if done:
            pixels = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return pixels
