"""The recipe that a data set is published with builds the same data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hqdata.hub.recipe_file import recipe_bytes
from hqdata.recipe import load_recipe, recipe_names, select
from hqdata.resolve import resolve
from hqdata.shards.dataset import DatasetInfo
from support.builds import build_own, own_sources


def info_of(recipe: dict[str, Any], **changes: Any) -> DatasetInfo:
    facts: dict[str, Any] = {
        "schema_version": 1,
        "name": recipe["name"],
        "recipe": recipe,
        "complete": True,
        "num_samples": 0,
        "num_problems": 0,
        "image_ext": "jpg",
        "sources": {},
        "layouts": {},
        "dropped": (),
        "shards": (),
        "samples_sha256": "0" * 64,
        "problems_sha256": "0" * 64,
        "digest": "d" * 64,
        "tool": {},
    }
    return DatasetInfo.model_validate({**facts, **changes})


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize("subset", [False, True])
def test_it_comes_to_the_same_as_the_recipe_it_was_built_by(
    name: str, subset: bool, tmp_path: Path
) -> None:
    recipe = load_recipe(name)
    built = resolve(recipe, subset=subset).to_dict()
    data = recipe_bytes(info_of(built))
    assert data is not None
    path = tmp_path / "recipe.yaml"
    path.write_bytes(data)
    assert resolve(load_recipe(path)).to_dict() == built


def test_of_a_part_it_is_the_recipe_of_the_part(tmp_path: Path) -> None:
    recipe = select(load_recipe("hqseg-44k"), exclude=["dis", "duts"])
    built = resolve(recipe).to_dict()
    path = tmp_path / "recipe.yaml"
    path.write_bytes(recipe_bytes(info_of(built)) or b"")
    assert resolve(load_recipe(path)).to_dict() == built


def test_it_says_how_to_use_it() -> None:
    built = resolve(load_recipe("mini")).to_dict()
    text = (recipe_bytes(info_of(built)) or b"").decode()
    assert "hqdata build --recipe recipe.yaml --data-root data/ --out shards/\n" in text
    removed = {"report_sha256": "a" * 64, "dataset_digest": "b" * 64, "num_keys": 1, "keys": ["x"]}
    text = (recipe_bytes(info_of(built, removed=removed)) or b"").decode()
    assert "--remove overlap.json" in text


def test_folders_of_ones_own_have_none(tmp_path: Path) -> None:
    own_sources(tmp_path / "data", {"tools": 2})
    info = build_own(tmp_path / "data", tmp_path / "out", ["tools"]).info
    assert recipe_bytes(info) is None
