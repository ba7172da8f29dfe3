"""SAM's weights that come with the package: those of the small model alone."""

from __future__ import annotations

from pathlib import Path

import training
from hqdata.errors import UserError
from training.model.backbones import Backbone

SHIPPED = ("vit_micro",)
"""Backbones whose weights the package has."""

_FOLDER = Path(training.__file__).resolve().parent / "weights"


def shipped_weights(backbone: Backbone) -> Path | None:
    """The file of SAM's weights that the package has for a backbone; None if it has none.

    Raises:
        UserError: it should have them, and has not.
    """
    if backbone.name not in SHIPPED:
        return None
    path = _FOLDER / f"{backbone.name}.safetensors"
    if not path.is_file():
        raise UserError(
            f"the weights of {backbone.name} that come with the package are missing",
            where=path,
            do="install the package anew, or train on random ones with --random-sam",
        )
    return path
