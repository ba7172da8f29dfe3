"""Hold a wheel against what it must bring; called with the folder it is installed in."""

from __future__ import annotations

import sys
from pathlib import Path

import hqdata
from hqdata.catalogue.names import load_names
from hqdata.recipe import load_recipe, recipe_names
from hqdata.resolve import resolve


def main(site: Path) -> None:
    """Exit with a message if something is missing."""
    if not Path(hqdata.__file__).resolve().is_relative_to(site.resolve()):
        raise SystemExit(f"not the wheel but {hqdata.__file__} was imported")
    if "torch" in sys.modules:
        raise SystemExit("the package imports torch")
    recipes = recipe_names()
    if "hqseg-44k" not in recipes:
        raise SystemExit(f"the wheel brings no recipe hqseg-44k, only {recipes}")
    for name in recipes:
        resolve(load_recipe(name))
    for part in (
        "train.py",
        "data/order.py",
        "model/hq_sam.py",
        "run.html.j2",
        "overview.html.j2",
        "page.css",
    ):
        if not (site / "training" / part).is_file():
            raise SystemExit(f"the wheel lacks training/{part}")
    names = len(load_names("duts-train"))
    print("installed wheel:", hqdata.__version__, recipes, names, "names")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
