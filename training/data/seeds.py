"""Randomness that belongs to a sample: from (seed, epoch, key), whoever loads it."""

from __future__ import annotations

import hashlib

import numpy as np


def sample_generator(seed: int, epoch: int, key: str) -> np.random.Generator:
    """The generator that a sample's augmentation and prompt are drawn from in an epoch."""
    digest = hashlib.sha256(f"sample/{seed}/{epoch}/{key}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], np.uint64)))


def sample_seed(seed: int, epoch: int, key: str) -> int:
    """A number from -2⁶³ to 2⁶³-1, from which the loss draws the sample's points on the device."""
    digest = hashlib.sha256(f"points/{seed}/{epoch}/{key}".encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)
