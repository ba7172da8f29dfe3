"""Which pictures share local features: an index of one side, votes from the other.

The evaluation side is indexed, each feature as it is and mirrored; every training feature asks for
its nearest few, and each answer is a vote for a pair of pictures. Chance votes point every way;
those of a copy agree on one rotation and one scale, so they are counted in such bins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from hqdata.overlap.features import CODE_BYTES, Bytes, Frames, LocalFeatures, mirrored

NEIGHBOURS = 4
MAX_BITS = 62
"""Bits of 256 in which two codes of the same thing differ at most. Nine in ten of the features that
survive JPEG at quality 10 are closer; of two features taken at random one pair in a thousand is.
"""

MIN_VOTES = 4
"""Votes in one bin of rotation and scale from which on a pair is looked at."""

MAX_CANDIDATES = 24
"""Pairs looked at for one training picture, those with the most votes."""

_TURNS = 12
_OCTAVES = 12
_BIN_OCTAVES = 4 * _OCTAVES + 2
_NUM_BINS = 2 * _TURNS * _BIN_OCTAVES
_CELLS_PROBED = 4
_ROWS_PER_CELL = 512
_MIN_CELLS, _MAX_CELLS = 1, 8192

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Two pictures whose features vote for one another.

    Attributes:
        train, evaluation: indices of the pictures.
        is_mirrored: whether the evaluation picture's mirror image matches.
        votes: in the best bin.
        train_features, evaluation_features: int64 (n,), the matched features, row by row.
    """

    train: int
    evaluation: int
    is_mirrored: bool
    votes: int
    train_features: Ints
    evaluation_features: Ints


class LocalIndex:
    """The local features of many pictures, searchable by those of others.

    An inverted file of binary codes. Its cells are centred on codes drawn from the index by a fixed
    seed, not trained, so that it is built in seconds and the same pictures give the same answers.
    """

    def __init__(
        self,
        pictures: Sequence[LocalFeatures],
        *,
        seed: int = 0,
        saved: Any = None,
    ) -> None:
        self._begin = np.concatenate([[0], np.cumsum([len(p) for p in pictures])]).astype(np.int64)
        self._owner = np.repeat(np.arange(len(pictures)), np.diff(self._begin))
        self._frames = join_frames(pictures)
        self._number = len(self._owner)
        cells = int(np.clip(2 * self._number // _ROWS_PER_CELL, _MIN_CELLS, _MAX_CELLS))
        if saved is None:
            codes = join_codes(pictures)
            saved = _build(np.concatenate([codes, mirrored(codes)]), cells, seed)
        self._index: Any = saved
        self._index.nprobe = min(cells, _CELLS_PROBED)

    def save(self, path: Path) -> None:
        """Writes what takes long to build, for other processes to read with `load`."""
        faiss.write_index_binary(self._index, str(path))

    @classmethod
    def load(cls, path: Path, pictures: Sequence[LocalFeatures]) -> LocalIndex:
        """The index of the same pictures that `save` wrote in this run."""
        return cls(pictures, saved=faiss.read_index_binary(str(path)))

    def search(
        self, pictures: Sequence[LocalFeatures], *, skip: NDArray[np.bool_] | None = None
    ) -> Iterator[Candidate]:
        """The pairs worth a closer look, by training picture, those with the most votes first.

        Args:
            pictures: training pictures; some hundreds at a time keep the memory small.
            skip: bool (training pictures, indexed pictures): pairs to leave out, or None.
        """
        codes = join_codes(pictures)
        if not len(codes) or not self._number:
            return
        begin = np.concatenate([[0], np.cumsum([len(p) for p in pictures])]).astype(np.int64)
        owner = np.repeat(np.arange(len(pictures)), np.diff(begin))
        frames = join_frames(pictures)
        # Cell by cell instead of query by query is a fifth faster, with the same answers, and wants
        # more queries than cells.
        self._index.per_invlist_search = len(codes) > self._index.nlist
        distances, rows = self._index.search(codes, NEIGHBOURS)
        close = (rows >= 0) & (distances <= MAX_BITS)
        query = np.broadcast_to(np.arange(len(codes))[:, None], rows.shape)[close]
        flipped = rows[close] >= self._number
        answer = rows[close] % self._number
        pair = (owner[query] * len(self._begin) + self._owner[answer]) * 2 + flipped
        if skip is not None:
            kept = ~skip[owner[query], self._owner[answer]]
            query, answer, flipped, pair = query[kept], answer[kept], flipped[kept], pair[kept]
        yield from self._candidates(query, answer, flipped, pair, begin, frames)

    def frames_of(self, candidate: Candidate) -> Frames:
        """Frames of the evaluation side's matched features, float32 (n, 4)."""
        rows = self._begin[candidate.evaluation] + candidate.evaluation_features
        return np.asarray(self._frames[rows], np.float32)

    def _candidates(
        self,
        query: Ints,
        answer: Ints,
        flipped: NDArray[np.bool_],
        pair: Ints,
        begin: Ints,
        frames: Frames,
    ) -> Iterator[Candidate]:
        order = np.argsort(pair, kind="stable")
        query, answer, pair = query[order], answer[order], pair[order]
        flipped = flipped[order]
        first = np.flatnonzero(np.r_[True, np.diff(pair) != 0]) if len(pair) else np.empty(0, int)
        last = np.r_[first[1:], len(pair)]
        enough = last - first >= MIN_VOTES
        group = np.repeat(np.arange(len(first)), last - first)
        chosen = enough[group]
        bins = _bins(self._frames[answer[chosen]], frames[query[chosen]], flipped[chosen])
        votes = _votes(group[chosen], bins, query[chosen], len(first))
        found: dict[int, list[Candidate]] = {}
        for number in np.flatnonzero(votes >= MIN_VOTES):
            low, high = first[number], last[number]
            code, is_mirrored = divmod(int(pair[low]), 2)
            train, evaluation = divmod(code, len(self._begin))
            found.setdefault(train, []).append(
                Candidate(
                    train,
                    evaluation,
                    bool(is_mirrored),
                    int(votes[number]),
                    query[low:high] - begin[train],
                    answer[low:high] - self._begin[evaluation],
                )
            )
        for train in sorted(found):
            ranked = sorted(found[train], key=lambda c: (-c.votes, c.evaluation, c.is_mirrored))
            yield from ranked[:MAX_CANDIDATES]


def _bins(evaluation: Frames, train: Frames, flipped: NDArray[np.bool_]) -> Ints:
    """int64 (n, 4): the four bins of rotation and scale that each match falls into.

    Bins are twice as wide as their distance, so that a vote near an edge is not lost.
    """
    before = np.where(flipped, np.pi - evaluation[:, 3], evaluation[:, 3])
    turn = (train[:, 3] - before) / (2 * np.pi) % 1.0 * _TURNS
    octave = np.log2(train[:, 2] / evaluation[:, 2]) * 2 + _OCTAVES
    turns = np.stack([np.floor(turn), np.floor(turn + 0.5) + _TURNS]).astype(np.int64)
    turns = turns % _TURNS + np.array([[0], [_TURNS]])
    octaves = np.clip(np.floor(octave), 0, 2 * _OCTAVES).astype(np.int64)
    shifted = np.clip(np.floor(octave + 0.5), 0, 2 * _OCTAVES).astype(np.int64) + 2 * _OCTAVES + 1
    return np.stack([t * _BIN_OCTAVES + o for t in turns for o in (octaves, shifted)], axis=1)


def _votes(group: Ints, bins: Ints, query: Ints, number: int) -> Ints:
    """int64 (number,): the most features of the training picture that one bin of a group has.

    Args:
        group: int64 (n,), the pair of pictures that each match is of.
        bins: int64 (n, 4).
        query: int64 (n,), the training feature of each match; it counts once in a bin.
        number: of groups.
    """
    most = np.zeros(number, np.int64)
    if not len(group):
        return most
    where = group[:, None] * _NUM_BINS + bins
    span = int(query.max()) + 1
    once = np.unique(where * span + query[:, None]) // span
    places, counts = np.unique(once, return_counts=True)
    np.maximum.at(most, places // _NUM_BINS, counts)
    return most


def _build(rows: Bytes, cells: int, seed: int) -> Any:
    """An inverted file over the rows, its cells centred on some of them."""
    centres: Any = faiss.IndexBinaryFlat(8 * CODE_BYTES)
    index: Any = faiss.IndexBinaryIVF(centres, 8 * CODE_BYTES, cells)
    # The two go together: whoever frees the one frees the other.
    index.own_fields = True
    centres.this.disown()
    if len(rows):
        drawn = np.random.default_rng(seed).choice(len(rows), cells, replace=False)
        centres.add(np.ascontiguousarray(rows[np.sort(drawn)]))
        index.is_trained = True
        index.add(rows)
    return index


def join_codes(pictures: Sequence[LocalFeatures]) -> Bytes:
    """The codes of all pictures, uint8 (n, 32)."""
    return np.concatenate([p.codes for p in pictures] or [np.empty((0, CODE_BYTES), np.uint8)])


def join_frames(pictures: Sequence[LocalFeatures]) -> Frames:
    """The frames of all pictures, float32 (n, 4)."""
    return np.concatenate([p.frames for p in pictures] or [np.empty((0, 4), np.float32)])
