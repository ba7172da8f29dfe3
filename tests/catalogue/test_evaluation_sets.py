"""Image-only evaluation sets: their descriptions, and finding one by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from hqdata.catalogue.evaluation import ImageSet, find_image_set, load_image_set, load_image_sets
from hqdata.catalogue.registry import load_manifests
from hqdata.errors import UserError
from hqdata.recipe import Recipe
from hqdata.resolve import check_overlap_target, resolve

VALID = """
name: kites
title: Kites
home: https://example.org
get: kites.zip
licence: none stated
layouts:
  - {name: flat, images: ["kites/*.jpg"]}
"""


def write(folder: Path, text: str, name: str = "kites") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_sets_of_the_paper_and_of_its_readers_are_there() -> None:
    assert set(load_image_sets()) == {
        "coco-val2017",
        "davis2016",
        "davis2017",
        "hq-ytvis",
        "lvis",
        "ndd20",
        "sginw",
        "uvo",
        "youtube-vis-2019",
        "youtube-vis-2021",
    }


def test_what_is_known_for_certain() -> None:
    sets = load_image_sets()
    counts = {name: s.expect.images for name, s in sets.items() if s.expect}
    assert counts["coco-val2017"] == 5000
    assert counts["lvis"] == 19809
    assert len(sets["davis2016"].classes) == 20
    assert len(sets["davis2017"].classes) == 30
    assert set(sets["davis2016"].classes) < set(sets["davis2017"].classes)
    assert len(sets["sginw"].classes) == 25


def test_their_names_are_no_names_of_data_sets() -> None:
    ours = {n.casefold() for s in load_image_sets().values() for n in (s.name, *s.aliases)}
    theirs = {
        n.casefold()
        for m in load_manifests().values()
        for n in (m.short_name, m.full_name, *m.aliases)
    }
    assert not ours & theirs


@pytest.mark.parametrize("name", ["coco-val2017", "COCO", "coco_val2017", "Coco-Val2017"])
def test_a_set_is_found_by_name_and_alias(name: str) -> None:
    assert find_image_set(name).name == "coco-val2017"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("coco-val2071", "coco-val2017"), ("davis2106", "davis2016"), ("coift/al", "coift/all")],
)
def test_an_unknown_name_is_told_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UserError, match=f"did you mean '{hint}'"):
        find_image_set(name)


def test_a_valid_description_loads(tmp_path: Path) -> None:
    found = load_image_set(write(tmp_path, VALID))
    assert (found.name, found.layouts[0].images) == ("kites", ("kites/*.jpg",))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("kites/*.jpg", "*.jpg"), "at least one folder"),
        (("kites/*.jpg", "{class}/*.jpg"), "begins with a folder name"),
        (("kites/*.jpg", "../kites/*.jpg"), "no '.', '..'"),
        (("title:", "titel:"), "did you mean 'title'"),
        (("name: kites\n", "name: Kites!\n"), "name"),
        (("licence: none stated", "licence: x\nnum_classes: 3"), "need '{class}'"),
        (
            ("licence: none stated", "licence: x\nlisted: {file: a.json, pattern: x, page: y}"),
            "exactly one group",
        ),
        (
            ("licence: none stated", "licence: x\nlisted: {file: a, pattern: '(', page: y}"),
            "no regular expression",
        ),
        (
            ("licence: none stated", "licence: x\nexpect: {images: 0, certainty: published}"),
            "images",
        ),
    ],
)
def test_a_wrong_description_is_told_by_field(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    with pytest.raises(UserError) as caught:
        load_image_set(write(tmp_path, VALID.replace(*change)))
    assert said in str(caught.value)
    assert "kites.yaml" in str(caught.value)


def test_two_sets_cannot_share_a_name(tmp_path: Path) -> None:
    write(tmp_path, VALID)
    write(tmp_path, VALID.replace("name: kites", "name: birds\naliases: [Kites]", 1), "birds")
    with pytest.raises(UserError, match="two evaluation sets are called"):
        load_image_sets(tmp_path)


def test_a_file_bears_the_name_of_its_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has another name"):
        load_image_set(write(tmp_path, VALID, "birds"))


def test_the_manifests_of_data_sets_are_not_disturbed() -> None:
    assert "coco-val2017" not in load_manifests()


class TestRecipes:
    @pytest.mark.parametrize(
        ("target", "means"),
        [
            ("coco-val2017", ("coco-val2017", "")),
            ("DAVIS-2016", ("davis2016", "")),
            ("dis5k/validation", ("dis", "validation")),
            ("folder:mine/test", ("folder:mine/test", "")),
            ("folder:mine/test/", ("folder:mine/test", "")),
        ],
    )
    def test_a_recipe_may_name_it(self, target: str, means: tuple[str, str]) -> None:
        assert check_overlap_target(target) == means
        recipe = Recipe.model_validate(
            {"name": "x", "sources": [{"source": "ecssd"}], "must_not_overlap": [target]}
        )
        assert resolve(recipe).recipe.must_not_overlap == (target,)

    @pytest.mark.parametrize(
        "target", ["folder:", "folder:/etc", "folder:../x", "folder:a/./b", "folder:a//b"]
    )
    def test_a_folder_lies_below_the_data_root(self, target: str) -> None:
        with pytest.raises(UserError, match="no folder below the data root"):
            check_overlap_target(target)

    def test_a_data_set_needs_its_split(self) -> None:
        with pytest.raises(UserError, match="has no split"):
            check_overlap_target("dis")


def test_fields_are_all_described() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "evaluation-sets.md").read_text(
        encoding="utf-8"
    )
    assert all(f"`{field}`" in page for field in ImageSet.model_fields)
    assert all(f"`{name}`" in page for name in load_image_sets())
