"""The curves of a run as an SVG that takes its colours from the page around it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeGuard

from markupsafe import Markup

SERIES = (("loss", "loss"), ("bce", "BCE"), ("dice", "dice"))
"""(field of a row, name): what is drawn."""

_WIDTH, _HEIGHT = 720, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 62, 12, 34
_MOST_POINTS = 400


@dataclass(frozen=True, slots=True)
class Curve:
    """A series, thinned out to points: the mean of each stretch of steps."""

    field: str
    name: str
    steps: tuple[float, ...]
    values: tuple[float, ...]


def step_rows(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that tell of a step, with a finite loss, in order."""
    kept = [row for row in rows if _is_number(row.get("step")) and _is_number(row.get("loss"))]
    return sorted(kept, key=lambda row: float(row["step"]))


def curves(rows: Sequence[Mapping[str, Any]], most: int = _MOST_POINTS) -> list[Curve]:
    """The series of some rows; a series that no row has is left out.

    Args:
        rows: of `metrics.jsonl`, those without a loss are skipped.
        most: points of a curve.
    """
    found = []
    for field, name in SERIES:
        pairs = [
            (float(row["step"]), float(row[field]))
            for row in step_rows(rows)
            if _is_number(row.get(field))
        ]
        stretch = max(1, math.ceil(len(pairs) / most))
        parts = [pairs[i : i + stretch] for i in range(0, len(pairs), stretch)]
        if parts:
            steps = tuple(sum(step for step, _ in part) / len(part) for part in parts)
            values = tuple(sum(value for _, value in part) / len(part) for part in parts)
            found.append(Curve(field, name, steps, values))
    return found


def draw_curves(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """The loss and its parts over the steps, and changes of the learning rate; "" without rows."""
    drawn = curves(rows)
    if not drawn:
        return Markup("")
    first = min(curve.steps[0] for curve in drawn)
    last = max(curve.steps[-1] for curve in drawn)
    # The first steps of a run may be far above all others: what is higher is cut off.
    ordered = sorted(value for curve in drawn for value in curve.values)
    top = _nice(1.08 * ordered[min(len(ordered) - 1, int(0.995 * len(ordered)))])

    def x(step: float) -> float:
        share = (step - first) / (last - first) if last > first else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        share = min(1.0, max(0.0, value / top))
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v:g}</text>'
        for v in _ticks(0, top, 5)
    ]
    parts += [
        f'<text x="{x(v):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{v:,.0f}</text>'
        for v in _ticks(first, last, 6)
        if v == int(v)
    ]
    parts.append(f'<text x="{_WIDTH - _RIGHT + 6}" y="{_HEIGHT - _BOTTOM + 18}">step</text>')
    for step, rate in _changes(rows):
        parts.append(
            f'<line class="change" x1="{x(step):.1f}" x2="{x(step):.1f}" y1="{_TOP}" '
            f'y2="{_HEIGHT - _BOTTOM}"/>'
            f'<text x="{x(step) - 5:.1f}" y="{_TOP + 10}" text-anchor="end">lr {rate:g}</text>'
        )
    names = _spread([y(curve.values[-1]) for curve in drawn])
    for curve, place in zip(drawn, names, strict=True):
        points = " ".join(
            f"{x(s):.1f},{y(v):.1f}" for s, v in zip(curve.steps, curve.values, strict=True)
        )
        parts.append(
            f'<g class="curve {curve.field}"><polyline points="{points}"/>'
            f'<circle cx="{x(curve.steps[-1]):.1f}" cy="{y(curve.values[-1]):.1f}" r="3"/>'
            f'<text x="{_WIDTH - _RIGHT + 8}" y="{place + 4:.1f}">{curve.name}</text></g>'
        )
    told = ", ".join(f"{c.name} {c.values[0]:.3f} to {c.values[-1]:.3f}" for c in drawn)
    label = f"Curves over {last:,.0f} steps: {told}."
    return Markup(  # numbers and our own words only
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        + "".join(parts)
        + "</svg>"
    )


def _changes(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """(step, new rate) where the learning rate became another; none if it changes all the time."""
    found: list[tuple[float, float]] = []
    before = None
    for row in step_rows(rows):
        rate = row.get("lr")
        if not _is_number(rate):
            continue
        if before is not None and rate != before:
            found.append((float(row["step"]), float(rate)))
        before = rate
    return found if len(found) <= 6 else []


def _ticks(low: float, high: float, number: int) -> list[float]:
    """Round numbers within [low, high], about `number` of them."""
    if high <= low:
        return [low]
    size = _nice((high - low) / number)
    count = math.floor(high / size + 1e-9)
    return [round(i * size, 10) for i in range(math.ceil(low / size - 1e-9), count + 1)]


def _nice(value: float) -> float:
    """The next number of 1, 2 and 5 times a power of ten; 1 of next to nothing."""
    if value < 1e-100:  # smaller ones have no such neighbour among floats
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= value * (1 - 1e-9))


def _spread(places: Sequence[float], least: float = 20.0) -> list[float]:
    """Heights of labels, in the same order, moved apart so that none covers another."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    for above, below in pairwise(order):
        moved[below] = max(moved[below], moved[above] + least)
    lowest = _HEIGHT - _BOTTOM
    for below, above in pairwise(order[::-1]):
        moved[below] = min(moved[below], lowest)
        moved[above] = min(moved[above], moved[below] - least)
    return moved


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)
