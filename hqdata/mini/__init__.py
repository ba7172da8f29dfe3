"""A procedural stand-in for the six source sets and four evaluation sets, in official layouts."""

from __future__ import annotations

from hqdata.mini.layout import SETS, Scale, parse_scale
from hqdata.mini.make import MiniReport, make_mini

__all__ = ["SETS", "MiniReport", "Scale", "make_mini", "parse_scale"]
