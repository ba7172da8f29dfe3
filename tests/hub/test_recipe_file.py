"""The recipe that a data set is published with builds the same data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hqdata.hub.recipe_file import own_folders, recipe_bytes, removes_the_same
from hqdata.recipe import Recipe, load_recipe, recipe_names, select
from hqdata.resolve import resolve
from hqdata.shards.dataset import DatasetInfo
from support.builds import build_own, own_sources
from support.reports import pair, report


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
    assert "removed" not in text


class TestWhatASearchForOverlapKeptOut:
    built = resolve(load_recipe("mini")).to_dict()

    def text(self, keys: list[str], **options: Any) -> str:
        info = info_of(self.built, removed=removed(*keys))
        return (recipe_bytes(info, **options) or b"").decode()

    def test_stays_out_by_the_report_that_lies_beside_it(self) -> None:
        assert "--out shards/ --remove overlap.json\n" in self.text(["dis-x"])

    def test_is_named_where_no_report_goes_along(self) -> None:
        text = self.text(["dis-x", "duts-y"], with_certificate=False)
        assert "--remove" not in text and "--out shards/\n" in text
        assert "2 images more" in text and "`removed.keys` in dataset.json" in text

    def test_of_an_old_manifest_is_named_by_what_was_dropped(self) -> None:
        assert "`dropped` in dataset.json" in self.text([], with_certificate=False)

    def test_the_file_stays_a_recipe(self, tmp_path: Path) -> None:
        path = tmp_path / "recipe.yaml"
        path.write_text(self.text(["dis-x"], with_certificate=False))
        assert resolve(load_recipe(path)).to_dict() == self.built

    def test_is_just_what_a_report_asks_for_unless_it_found_more(self) -> None:
        counts = {"all": {"built": 1, "rejected": 0, "dropped": 1}}
        info = info_of(self.built, removed=removed("a-x"), sources={"a": counts})
        before = {"removed": ("a-x", "b-y")}  # b is no source of it
        assert removes_the_same(report().model_copy(update=before), info)
        assert not removes_the_same(report(pair("a-z")).model_copy(update=before), info)
        assert not removes_the_same(report(), info) and not removes_the_same(None, info)


def removed(*keys: str) -> dict[str, Any]:
    """What `dataset.json` says of keys that were left out."""
    facts = {"report_sha256": "a" * 64, "dataset_digest": "b" * 64}
    return {**facts, "num_keys": len(keys), "keys": keys}


def test_a_split_of_any_number_stays_one(tmp_path: Path) -> None:
    sources = [
        {"source": "duts", "splits": ["train"]},
        {"source": "duts", "splits": ["test"], "expect": "any"},
    ]
    built = resolve(Recipe.model_validate({"name": "some", "sources": sources})).to_dict()
    path = tmp_path / "recipe.yaml"
    path.write_bytes(recipe_bytes(info_of(built)) or b"")
    assert resolve(load_recipe(path)).to_dict() == built


def test_folders_of_ones_own_have_none(tmp_path: Path) -> None:
    own_sources(tmp_path / "data", {"tools": 2, "ecssd": 1, "dis_5k": 1})
    for name in ("tools", "ecssd", "dis_5k"):  # two are called like sets of the catalogue
        info = build_own(tmp_path / "data", tmp_path / name, [name]).info
        assert recipe_bytes(info) is None and own_folders(info) == [name]


@pytest.mark.parametrize(
    "sample",
    [
        {"images": 5},
        {"images": 5, "masks": "all", "seed": 3},
        {"images": 5, "masks": 4, "min_predicted_iou": 0.5, "max_area_fraction": 0.25},
    ],
)
@pytest.mark.parametrize("subset", [False, True])
def test_a_sample_is_asked_for_as_it_was(
    sample: dict[str, Any], subset: bool, tmp_path: Path
) -> None:
    recipe = Recipe.model_validate(
        {"name": "r", "seed": 9, "sources": [{"source": "sa1b", "sample": sample}]}
    )
    built = resolve(recipe, subset=subset).to_dict()
    path = tmp_path / "recipe.yaml"
    path.write_bytes(recipe_bytes(info_of(built)) or b"")
    assert resolve(load_recipe(path)).to_dict() == built
