"""Where the package's data files lie: manifests and recipes.

In a checkout they are the folders `manifests/` and `recipes/` beside the package; in an installed
wheel they travel inside it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def manifests_dir() -> Path:
    """Folder of the data set manifests (`*.yaml`) and the name lists (`names/`)."""
    return _find("manifests")


def recipes_dir() -> Path:
    """Folder of the recipes that come with the package (`*.yaml`)."""
    return _find("recipes")


@cache
def _find(name: str) -> Path:
    for candidate in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"hqdata was installed without its folder {name!r}")
