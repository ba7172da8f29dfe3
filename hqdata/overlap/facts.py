"""What a proof depends on beside the pictures: every number that decides, every version."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import asdict
from functools import lru_cache

import cv2
import faiss
import numpy as np

import hqdata
from hqdata.fingerprint import fingerprint_versions
from hqdata.overlap import agreement, features, geometry, hashes, judge, local, search
from hqdata.overlap.fingerprints import FORMAT_VERSION

SEARCH_VERSION = 1
"""Counts up when the same pictures would give other pairs."""


def thresholds() -> dict[str, float]:
    """Every number that decides what is a pair, by name."""
    return {
        "hash_candidate_bits": hashes.MAX_BITS,
        "hash_match_bits": hashes.MATCH_BITS,
        "hash_candidates": hashes.MAX_CANDIDATES,
        "train_side_pixels": features.TRAIN_SIDE,
        "train_features": features.TRAIN_NUMBER,
        "evaluation_side_pixels": features.EVALUATION_SIDE,
        "evaluation_features": features.EVALUATION_NUMBER,
        "feature_bits": local.MAX_BITS,
        "feature_neighbours": local.NEIGHBOURS,
        "feature_votes": local.MIN_VOTES,
        "feature_candidates": local.MAX_CANDIDATES,
        "aligned_places": search.MIN_ALIGNED,
        "aligned_tolerance": geometry.TOLERANCE,
        "window_correlation": agreement.AGREES,
        "window_texture": agreement.TEXTURE,
        "windows_of_a_whole": agreement.MIN_WINDOWS,
        "window_differs": agreement.DIFFERS,
        **{f"alone_{name}": value for name, value in asdict(agreement.ALONE).items()},
        **{f"backed_{name}": value for name, value in asdict(agreement.BACKED).items()},
        **{f"framed_{name}": value for name, value in asdict(agreement.FRAMED).items()},
        "backed_places": judge.MANY_PLACES,
        "backed_tilt": judge.MAX_TILT,
        "backed_off_frame": judge.MAX_OFF_FRAME,
        "unbacked_score": judge.UNBACKED_SCORE,
        "unbacked_shared": judge.UNBACKED_SHARED,
        "share_of_a_whole": judge.MIN_WHOLE,
        "hole_of_a_composite": judge.MAX_HOLE,
        "score_of_a_copy": agreement.MIN_SCORE,
        "correlation_of_the_bare": judge.BARE_CORRELATION,
        "places_without_pixels": judge.MIN_PLACES,
    }


def versions() -> dict[str, str]:
    """Versions of this package and of the libraries whose results count."""
    return {
        **fingerprint_versions(),
        "hqdata": hqdata.__version__,
        "search": str(SEARCH_VERSION),
        "features": str(features.FEATURES_VERSION),
        "fingerprint_file": str(FORMAT_VERSION),
        "faiss": faiss.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


@lru_cache(maxsize=1)
def code_digest() -> str:
    """SHA-256 of the source of the search: what another source has found is not taken for ours."""
    value = hashlib.sha256()
    for module in (agreement, features, geometry, hashes, judge, local, search):
        value.update(inspect.getsource(module).encode())
    return value.hexdigest()
