"""The pictures searched for, in files that the processes of one run share.

They live as long as the run, in a folder of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import faiss
import numpy as np

from hqdata.overlap.features import PACKED_BYTES, LocalFeatures
from hqdata.overlap.local import LocalIndex
from hqdata.overlap.search import Known, Searcher

_PICTURES, _INDEX = "pictures.npz", "features.index"


def write_known(known: Sequence[Known], folder: Path, *, threads: int) -> None:
    """Writes the pictures and the index of their features, built with some threads."""
    folder.mkdir(parents=True, exist_ok=True)
    packed = [k.features.packed(k.width, k.height) for k in known]
    np.savez(
        folder / _PICTURES,
        sizes=np.array([(k.width, k.height) for k in known], np.int32).reshape(-1, 2),
        hashes=np.array([k.hashes for k in known], np.uint8),
        trimmed=np.array([k.hashes_trimmed for k in known], np.uint8),
        counts=np.array([len(p) for p in packed], np.int64),
        packed=np.concatenate([*packed, np.empty((0, PACKED_BYTES), np.uint8)]),
    )
    faiss.omp_set_num_threads(threads)
    # From what is read back, not from what was given: frames are rounded when they are packed.
    LocalIndex([k.features for k in _read_known(folder)]).save(folder / _INDEX)


@lru_cache(maxsize=1)
def open_searcher(folder: Path) -> Searcher:
    """What `write_known` wrote, ready to be searched by this process, on one thread."""
    faiss.omp_set_num_threads(1)
    known = _read_known(folder)
    return Searcher(known, local=LocalIndex.load(folder / _INDEX, [k.features for k in known]))


def _read_known(folder: Path) -> list[Known]:
    with np.load(folder / _PICTURES, allow_pickle=False) as file:
        sizes, counts, packed = file["sizes"], file["counts"], file["packed"]
        hashes, trimmed = file["hashes"], file["trimmed"]
    ends = np.cumsum(counts)
    return [
        Known(
            int(width),
            int(height),
            hashes[number],
            trimmed[number],
            LocalFeatures.unpack(packed[end - count : end], int(width), int(height)),
        )
        for number, ((width, height), end, count) in enumerate(
            zip(sizes, ends, counts, strict=True)
        )
    ]
