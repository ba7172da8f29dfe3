"""Pictures that are alike as a whole: exhaustive search among 256-bit hashes, and what transform
two alike hashes imply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from hqdata.fingerprint import HASH_BYTES, Box
from hqdata.overlap.geometry import Matrix

MAX_BITS = 64
"""Distance in bits of 256 up to which two pictures are looked at. PDQ itself calls 31 a match; what
lies between is decided by pixels.
"""

MATCH_BITS = 31
"""Distance that PDQ's makers recommend for a match."""

MAX_CANDIDATES = 32
"""Evaluation pictures looked at for one training picture, the nearest."""

_UNIT = np.array(
    [
        [[1, 0, 0], [0, 1, 0]],
        [[0, 1, 0], [-1, 0, 1]],
        [[-1, 0, 1], [0, -1, 1]],
        [[0, -1, 1], [1, 0, 0]],
        [[1, 0, 0], [0, -1, 1]],
        [[-1, 0, 1], [0, 1, 0]],
        [[0, 1, 0], [1, 0, 0]],
        [[0, -1, 1], [-1, 0, 1]],
    ],
    np.float64,
)
"""Where each of `hqdata.fingerprint.ORIENTATIONS` takes the points of the unit square."""


@dataclass(frozen=True, slots=True)
class Alike:
    """Two pictures with hashes near one another.

    Attributes:
        query, evaluation: indices of the pictures.
        distance: in bits.
        orientation: what was done to the evaluation picture, an index of
            `hqdata.fingerprint.ORIENTATIONS`.
        query_trimmed, evaluation_trimmed: whether the hash is that of the picture without borders.
    """

    query: int
    evaluation: int
    distance: int
    orientation: int
    query_trimmed: bool
    evaluation_trimmed: bool


class HashIndex:
    """All hashes of the pictures searched for, in every orientation, with and without borders."""

    def __init__(self, plain: Sequence[NDArray[np.uint8]], trimmed: Sequence[NDArray[np.uint8]]):
        """Takes uint8 (k, 32) arrays, one of each a picture: its first k orientations."""
        self._index = faiss.IndexBinaryFlat(8 * HASH_BYTES)
        self._orientations = len(plain[0]) if plain else 1
        if plain:
            rows = np.stack([np.stack(plain), np.stack(trimmed)], axis=1)
            self._index.add(np.ascontiguousarray(rows.reshape(-1, HASH_BYTES)))

    def search(
        self, hashes: NDArray[np.uint8], *, skip: NDArray[np.bool_] | None = None
    ) -> list[Alike]:
        """Everything near, by query, the nearest first.

        Args:
            hashes: uint8 (n, 2, 32), of each picture as it is and without borders.
            skip: bool (n, pictures searched for): pairs that are of no interest, or None.
        """
        if not self._index.ntotal or not len(hashes):
            return []
        queries = np.ascontiguousarray(hashes.reshape(-1, HASH_BYTES))
        limits, distances, rows = self._index.range_search(queries, MAX_BITS + 1)
        number = np.repeat(np.arange(len(queries)), np.diff(limits).astype(np.int64))
        query, query_trimmed = np.divmod(number, 2)
        evaluation, form = np.divmod(rows.astype(np.int64), 2 * self._orientations)
        trimmed, orientation = np.divmod(form, self._orientations)
        if skip is not None and len(query):
            kept = ~skip[query, evaluation]
            query, query_trimmed, evaluation = query[kept], query_trimmed[kept], evaluation[kept]
            trimmed, orientation, distances = trimmed[kept], orientation[kept], distances[kept]
        # The nearest form of each pair; of equals the one without trimming, then the least turned.
        order = np.lexsort((orientation, trimmed, query_trimmed, distances, evaluation, query))
        pair = query[order] * (self._index.ntotal + 1) + evaluation[order]
        best = order[np.r_[True, np.diff(pair) != 0]] if len(order) else order
        best = best[np.lexsort((evaluation[best], distances[best], query[best]))]
        first = np.r_[True, np.diff(query[best]) != 0] if len(best) else np.empty(0, bool)
        begin = np.maximum.accumulate(np.where(first, np.arange(len(best)), 0))
        return [
            Alike(
                int(query[n]),
                int(evaluation[n]),
                int(distances[n]),
                int(orientation[n]),
                bool(query_trimmed[n]),
                bool(trimmed[n]),
            )
            for n in best[np.arange(len(best)) - begin < MAX_CANDIDATES]
        ]


def implied_transform(orientation: int, evaluation: Box, train: Box) -> Matrix:
    """The transform that lays the evaluation picture's box over the training picture's.

    Args:
        orientation: index of `hqdata.fingerprint.ORIENTATIONS`.
        evaluation, train: x0, y0, x1, y1 in pixels, half-open.

    Returns:
        float64 (3, 3), taking pixel coordinates, whose whole numbers are centres of pixels.
    """
    x0, y0, x1, y1 = evaluation
    into = np.array([[1 / (x1 - x0), 0, -x0 / (x1 - x0)], [0, 1 / (y1 - y0), -y0 / (y1 - y0)]])
    u0, v0, u1, v1 = train
    out = np.array([[u1 - u0, 0, u0], [0, v1 - v0, v0], [0, 0, 1.0]])
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    unit = np.vstack([_UNIT[orientation], [0, 0, 1]])
    whole = out @ unit @ np.vstack([into, [0, 0, 1]])
    return np.asarray(np.linalg.inv(half) @ whole @ half, np.float64)
