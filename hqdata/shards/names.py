"""Names of the files of a data set."""

from __future__ import annotations

from typing import Any

DATASET_FILE = "dataset.json"
SAMPLES_FILE = "samples.parquet"
PROBLEMS_FILE = "problems.jsonl"
TIMM_FILE = "_info.json"

STATE_DIR = ".hqdata"
"""Folder of a build's own state: its lock, and a sidecar for each shard."""

Row = dict[str, Any]
"""One row of `samples.parquet`, by column."""
