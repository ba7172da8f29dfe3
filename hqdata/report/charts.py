"""Histograms as inline SVG: one row a source over a common axis.

Rows instead of stacked bars, because a source of 10,000 pictures would hide one of 1,000.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup, escape

from hqdata.report import words
from hqdata.report.histograms import Figure, Histogram
from hqdata.report.stats import Figures, Group

_LEFT, _RIGHT, _TOP, _ROW, _GAP, _BOTTOM = 82, 62, 4, 32, 6, 42
_WIDTH = 384
_PLOT = _WIDTH - _LEFT - _RIGHT


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn histogram.

    Attributes:
        title: what it shows.
        note: how to read it, with units.
        svg: the drawing, ready for the page.
    """

    title: str
    note: str
    svg: Markup


_TITLES: dict[Figure, tuple[str, str, str]] = {
    "longest_side": (
        "Picture size",
        "longest side, pixels (log scale)",
        "The longer of width and height.",
    ),
    "area_fraction": (
        "Object size",
        "object’s share of the picture, %",
        "Pixels of the mask above 128, as a share of all.",
    ),
    "thinness": (
        "Thinness",
        "perimeter² / (4π · area), log scale",
        "1 is a disc; a bicycle or a fence has hundreds.",
    ),
}


def draw(histogram: Histogram, sources: tuple[Group, ...], hues: Mapping[str, int]) -> Chart:
    """Draws one histogram.

    Args:
        histogram: the counts.
        sources: the sources, in the order of their rows.
        hues: source -> number of its colour (class `hue-<number>` of the page's style sheet).
    """
    title, axis, note = _TITLES[histogram.figure]
    bottom = _TOP + len(sources) * (_ROW + _GAP)
    height = bottom + _BOTTOM
    spoken = [
        f"{group.source}: median {_median(histogram.figure, group.figures)}"
        for group in sources
        if group.figures
    ]
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(f"{title} by source. " + "; ".join(spoken))}">',
        *_grid(histogram, bottom),
        f'<text class="axis" x="{_LEFT + _PLOT / 2:.0f}" y="{height - 5}" '
        f'text-anchor="middle">{escape(axis)}</text>',
    ]
    for number, group in enumerate(sources):
        base = _TOP + (number + 1) * (_ROW + _GAP)
        parts += _row(histogram, group, base, hues[group.source])
    return Chart(title, note, Markup("".join([*parts, "</svg>"])))


def _row(histogram: Histogram, group: Group, base: int, hue: int) -> list[str]:
    counts = histogram.counts[group.source]
    peak = max(counts, default=0)
    parts = [
        f'<text class="name" x="{_LEFT - 8}" y="{base - 8}" text-anchor="end">'
        f"{escape(_shortened(group.source))}</text>",
        f'<line class="base" x1="{_LEFT}" x2="{_LEFT + _PLOT}" y1="{base}" y2="{base}"/>',
    ]
    if group.figures is None or not peak:
        parts.append(f'<text class="none" x="{_LEFT + 6}" y="{base - 8}">no samples</text>')
        return parts
    xs = [_x(histogram, edge) for edge in histogram.edges]
    path = f"M{xs[0]:.1f} {base}"
    for count, left, right in zip(counts, xs[:-1], xs[1:], strict=True):
        # A single picture in a bin of thousands still gets a visible sliver.
        tall = max(1.2, _ROW * count / peak) if count else 0.0
        path += f"L{left:.1f} {base - tall:.1f}L{right:.1f} {base - tall:.1f}"
    parts.append(f'<path class="bars hue-{hue}" d="{path}L{xs[-1]:.1f} {base}Z"/>')
    median = _median_value(histogram.figure, group.figures)
    x = _x(histogram, min(max(median, histogram.edges[0]), histogram.edges[-1]))
    parts.append(
        f'<line class="median" x1="{x:.1f}" x2="{x:.1f}" y1="{base - _ROW}" y2="{base + 3}"/>'
        f'<text class="value" x="{_LEFT + _PLOT + 7}" y="{base - 8}">'
        f"{escape(_median(histogram.figure, group.figures))}</text>"
    )
    return parts


def _grid(histogram: Histogram, bottom: int) -> list[str]:
    parts = []
    for tick, label in _ticks(histogram):
        x = _x(histogram, tick)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom + 4}"/>'
            f'<text class="tick" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{label}</text>'
        )
    return parts


def _ticks(histogram: Histogram) -> list[tuple[float, str]]:
    if not histogram.log:
        return [(tick / 100, str(tick)) for tick in (0, 25, 50, 75, 100)]
    base = 2 if histogram.figure == "longest_side" else 10
    first = round(math.log(histogram.edges[0], base))
    last = round(math.log(histogram.edges[-1], base))
    step = max(1, math.ceil((last - first) / 6))
    exponents = range(first, last + 1, step)
    return [(float(base**exponent), f"{base**exponent:,}") for exponent in exponents]


def _x(histogram: Histogram, value: float) -> float:
    low, high = histogram.edges[0], histogram.edges[-1]
    if histogram.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return _LEFT + _PLOT * (value - low) / (high - low)


def _median_value(figure: Figure, figures: Figures) -> float:
    if figure == "longest_side":
        return figures.longest_side.median
    if figure == "area_fraction":
        return figures.area_fraction.median
    return figures.thinness.median


def _median(figure: Figure, figures: Figures) -> str:
    value = _median_value(figure, figures)
    if figure == "longest_side":
        return f"{words.pixels(value)} px"
    return words.percent(value) if figure == "area_fraction" else words.short(value)


def _shortened(name: str) -> str:
    return name if len(name) <= 10 else f"{name[:9]}…"
