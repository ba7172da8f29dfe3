"""The cascade: what proposes a pair, and what becomes of it.

Hashes propose pictures that are alike as a whole, local features those that share a part, digests
and names the rest. Every proposal ends before the pixels of the two pictures.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hqdata.overlap.features import LocalFeatures
from hqdata.overlap.geometry import Alignment, align
from hqdata.overlap.hashes import Alike, HashIndex
from hqdata.overlap.judge import Judgement, View, judge, judge_fingerprints
from hqdata.overlap.local import Candidate, LocalIndex

MIN_VOTES_STRETCHED = 8
"""Votes from which on it is worth while to ask whether a copy was squashed."""

MIN_ALIGNED = 4
"""Places in which features have to agree before pixels are looked at for their sake."""


@dataclass(frozen=True, slots=True)
class Known:
    """A picture that is searched for: what is kept of one of an evaluation set.

    Attributes:
        width, height: of the upright picture, in pixels.
        hashes, hashes_trimmed: uint8 (8, 32).
        features: at the picture's full size.
    """

    width: int
    height: int
    hashes: NDArray[np.uint8]
    hashes_trimmed: NDArray[np.uint8]
    features: LocalFeatures

    def digest(self) -> str:
        """SHA-256 of all of it."""
        value = hashlib.sha256(f"{self.width}x{self.height}".encode())
        for array in (self.hashes, self.hashes_trimmed, self.features.codes, self.features.frames):
            value.update(np.ascontiguousarray(array).tobytes())
        return value.hexdigest()


@dataclass(frozen=True, slots=True)
class Query:
    """A picture that is searched with: what is kept of a training picture.

    Attributes:
        width, height: of the upright picture, in pixels.
        hashes: uint8 (2, 32), of the picture as it is and without borders.
        features: at the picture's full size.
    """

    width: int
    height: int
    hashes: NDArray[np.uint8]
    features: LocalFeatures


@dataclass(frozen=True, slots=True)
class Finding:
    """A pair that is more than nothing.

    Attributes:
        query, known: indices of the pictures.
        judgement: what is to be said of it.
        distance: of their hashes in bits, None where they are not near.
    """

    query: int
    known: int
    judgement: Judgement
    distance: int | None


Viewer = Callable[[int], View | None]
"""Gives the view of a picture by its index, None where only its fingerprint is to be had."""


class Searcher:
    """Everything that is known, ready to be searched."""

    def __init__(self, known: Sequence[Known], *, local: LocalIndex | None = None) -> None:
        """Builds the indexes; `local` is that of the same pictures, if there is one already."""
        self._known = known
        self._hashes = HashIndex([k.hashes for k in known], [k.hashes_trimmed for k in known])
        self._local = local or LocalIndex([k.features for k in known])

    def search(
        self,
        queries: Sequence[Query],
        *,
        view_query: Viewer,
        view_known: Viewer,
        asked: Mapping[int, Collection[int]] | None = None,
        skip: NDArray[np.bool_] | None = None,
    ) -> list[Finding]:
        """What the queries share with what is known, by query.

        Args:
            queries: some hundreds at a time keep the memory small.
            view_query, view_known: give the pictures themselves.
            asked: query -> known pictures to compare it with in any case.
            skip: bool (queries, known): pairs that are of no interest.
        """
        alike: dict[tuple[int, int], Alike] = {}
        hashes = (
            np.stack([q.hashes for q in queries]) if queries else np.empty((0, 2, 32), np.uint8)
        )
        for one in self._hashes.search(hashes, skip=skip):
            alike[one.query, one.evaluation] = one
        aligned = self.align(queries, skip=skip)
        pairs = set(alike) | set(aligned)
        for number, others in (asked or {}).items():
            pairs |= {(number, other) for other in others}
        findings = []
        views: dict[int, View | None] = {}
        for query, known in sorted(pairs):
            alignments = sorted(aligned.get((query, known), ()), key=lambda a: -a.places)
            near = alike.get((query, known))
            if query not in views:
                views = {query: view_query(query)}
            ours, theirs = views[query], view_known(known)
            judgement = (
                judge_fingerprints(near, alignments)
                if ours is None or theirs is None
                else judge(ours, theirs, near, alignments)
            )
            if judgement is not None:
                distance = None if near is None else near.distance
                findings.append(Finding(query, known, judgement, distance))
        return findings

    def as_query(self, number: int) -> Query:
        """A picture searched for, as one that is searched with."""
        known = self._known[number]
        hashes = np.stack([known.hashes[0], known.hashes_trimmed[0]])
        return Query(known.width, known.height, hashes, known.features)

    def align(
        self, queries: Sequence[Query], *, skip: NDArray[np.bool_] | None = None
    ) -> dict[tuple[int, int], list[Alignment]]:
        """What local features propose: (query, known) -> transforms that features agree on."""
        aligned: dict[tuple[int, int], list[Alignment]] = defaultdict(list)
        for candidate in self._local.search([q.features for q in queries], skip=skip):
            found = self._align(queries[candidate.train], candidate)
            if found is not None and found.places >= MIN_ALIGNED:
                aligned[candidate.train, candidate.evaluation].append(found)
        return dict(aligned)

    def _align(self, query: Query, candidate: Candidate) -> Alignment | None:
        return align(
            self._local.frames_of(candidate),
            query.features.frames[candidate.train_features],
            is_mirrored=candidate.is_mirrored,
            diagonal=float(np.hypot(query.width, query.height)),
            stretched=candidate.votes >= MIN_VOTES_STRETCHED,
        )
