"""Random numbers that are a function of (seed, position) alone, on any device.

A generator of the library gives a sample other numbers for each place in the batch, and other ones
on another kind of device. Here each number is a hash of its own counter, so a sample meets the same
ones whoever is in its batch, wherever it is computed, and after any interruption.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB

_BITS = 24
"""Bits of a number: as many as float32 holds without rounding."""


def uniforms(seeds: Tensor, count: int, *, stream: int = 0) -> Tensor:
    """`count` numbers for each seed, uniform in [0, 1).

    Number i of a seed s is the upper 24 bits of `mix(mix(s + (stream + 1)·g) + (i + 1)·g)`, where
    `mix` is the finalizer of splitmix64 (Steele, Lea and Flood 2014), g its increment, and all
    arithmetic is modulo 2⁶⁴: the sequence of splitmix64 that starts at a hash of seed and stream.

    Args:
        seeds: int64 (b,), any values.
        count: numbers a seed.
        stream: sequences of one seed that have nothing to do with each other.

    Returns:
        float32 (b, count), on the device of the seeds.
    """
    start = _mix(seeds.to(torch.int64) + _signed((stream + 1) * _GOLDEN))
    steps = torch.arange(1, count + 1, dtype=torch.int64, device=seeds.device)
    hashed = _mix(start[:, None] + steps * _signed(_GOLDEN))
    return _shifted(hashed, 64 - _BITS).to(torch.float32).mul_(2.0**-_BITS)


def _mix(state: Tensor) -> Tensor:
    """The finalizer of splitmix64, int64 in and out; overflow wraps."""
    state = (state ^ _shifted(state, 30)) * _signed(_MIX_1)
    state = (state ^ _shifted(state, 27)) * _signed(_MIX_2)
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, bits: int) -> Tensor:
    """Shifted right with zeros from the left; the library's own shift copies the sign."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """The int64 that has the bits of a number modulo 2⁶⁴."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
