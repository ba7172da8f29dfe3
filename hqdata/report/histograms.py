"""Histograms of a data set's figures by source, all sources over the same bins."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Figure = Literal["longest_side", "area_fraction", "thinness"]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of one figure by source.

    Attributes:
        figure: `longest_side` in pixels, `area_fraction` 0…1, `thinness` without unit.
        log: whether the bins are equally wide on a logarithmic scale.
        edges: the bins' borders, ascending, one more than there are bins. A value on a border
            belongs to the bin above; values beyond the ends to the first and the last bin.
        counts: source -> samples in each bin.
    """

    figure: Figure
    log: bool
    edges: tuple[float, ...]
    counts: Mapping[str, tuple[int, ...]]


def histograms(
    by_source: Mapping[str, tuple[NDArray[Any], NDArray[Any], NDArray[Any]]],
) -> tuple[Histogram, ...]:
    """The three histograms of a data set.

    Args:
        by_source: source -> (longest sides in pixels, area fractions, thinness figures).
    """
    sides = {name: columns[0] for name, columns in by_source.items()}
    areas = {name: columns[1] for name, columns in by_source.items()}
    thinness = {name: columns[2] for name, columns in by_source.items()}
    area_edges = tuple(index / 25 for index in range(26))
    return (
        _histogram("longest_side", True, _log_edges(sides, math.log2, 2, 4), sides),
        _histogram("area_fraction", False, area_edges, areas),
        _histogram("thinness", True, _log_edges(thinness, math.log10, 10, 8), thinness),
    )


def _histogram(
    figure: Figure, log: bool, edges: tuple[float, ...], by_source: Mapping[str, NDArray[Any]]
) -> Histogram:
    inner = np.asarray(edges[1:-1])
    counts = {
        name: tuple(
            np.bincount(np.searchsorted(inner, values, "right"), minlength=len(edges) - 1).tolist()
        )
        for name, values in by_source.items()
    }
    return Histogram(figure, log, edges, counts)


def _log_edges(
    by_source: Mapping[str, NDArray[Any]],
    log: Callable[[float], float],
    base: int,
    per_step: int,
) -> tuple[float, ...]:
    """Edges from whole step to whole step of a logarithm that hold all values.

    A thinness below a disc's (a few pixels) goes to the first bin: it would stretch the axis for
    nothing.
    """
    highest = max((float(v.max()) for v in by_source.values() if len(v)), default=1.0)
    lowest = min((float(v.min()) for v in by_source.values() if len(v)), default=1.0)
    first = math.floor(log(max(lowest, 1.0)))
    last = max(first + 1, math.floor(log(max(highest, 1.0))) + 1)
    steps = range((last - first) * per_step + 1)
    return tuple(base ** (first + step / per_step) for step in steps)
