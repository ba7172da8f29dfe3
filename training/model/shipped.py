"""SAM's weights that come with the package: those of the small model alone."""

from __future__ import annotations

from pathlib import Path

import training
from training.model.backbones import Backbone

_FOLDER = Path(training.__file__).resolve().parent / "weights"


def shipped_weights(backbone: Backbone) -> Path | None:
    """The file of SAM's weights that the package has for a backbone; None if it has none."""
    path = _FOLDER / f"{backbone.name}.safetensors"
    return path if path.is_file() else None
