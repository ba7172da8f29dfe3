"""A recipe says what to build; every slip in one is answered with what was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hqdata.errors import UserError
from hqdata.recipe import Recipe, RecipeSource, load_recipe, recipe_names, select
from hqdata.resolve import ResolvedRecipe, SplitRequest, check_overlap_target, resolve


def write(path: Path, **document: Any) -> Path:
    path.write_text(yaml.safe_dump({"name": path.stem, **document}))
    return path


def recipe(*sources: dict[str, Any], **settings: Any) -> Recipe:
    return Recipe.model_validate({"name": "r", "sources": sources, **settings})


def one(source: dict[str, Any], **settings: Any) -> SplitRequest:
    """The only split of a recipe of one source."""
    (request,) = resolve(recipe(source, **settings)).splits
    return request


def names(found: Recipe | ResolvedRecipe) -> list[str]:
    resolved = found if isinstance(found, ResolvedRecipe) else resolve(found)
    return [f"{request.source}/{request.split}" for request in resolved.splits]


DEFECT = {"source": "fss", "name": "x/1", "action": "drop", "reason": "wrong"}


class TestFinding:
    def test_a_name_means_a_recipe_of_the_package(self) -> None:
        assert load_recipe("hqseg-44k").name == "hqseg-44k"
        assert "hqseg-44k" in recipe_names()

    def test_a_suffix_or_a_slash_means_a_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Even where the package has a recipe of that name."""
        write(tmp_path / "mini.yaml", description="mine", sources=[{"source": "dis"}])
        monkeypatch.chdir(tmp_path)
        assert load_recipe("mini.yaml").description == "mine"
        assert load_recipe("./mini.yaml").description == "mine"
        assert load_recipe(tmp_path / "mini.yaml").description == "mine"
        assert load_recipe("mini").description != "mine"

    def test_an_unknown_name_is_answered_with_the_nearest(self) -> None:
        with pytest.raises(UserError, match=r"did you mean 'hqseg-44k'\?[\s\S]*no-dis"):
            load_recipe("hqseg44k")

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"no such recipe file[\s\S]*nowhere\.yaml"):
            load_recipe(tmp_path / "nowhere.yaml")


class TestChecking:
    @pytest.mark.parametrize(
        ("document", "message"),
        [
            ({"sead": 1}, "sead: unknown key (did you mean 'seed'?)"),
            (
                {"sources": [{"source": "dis", "split": ["train"]}]},
                "sources.0.split: unknown key (did you mean 'splits'?)",
            ),
            (
                {"defects": [{**DEFECT, "reson": "x"}]},
                "defects.0.reson: unknown key (did you mean 'reason'?)",
            ),
        ],
    )
    def test_an_unknown_key_is_answered_with_its_place_and_the_nearest(
        self, tmp_path: Path, document: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(UserError) as caught:
            load_recipe(write(tmp_path / "r.yaml", **document))
        assert message in str(caught.value)

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            ({"name": "My Recipe"}, "name"),
            ({"samples_per_shard": 0}, "samples_per_shard"),
            ({"seed": -1}, "seed"),
            ({"image_field": "webp"}, "image_field"),
            ({"sources": [{"source": "mine", "images": "mine/i"}]}, "need both 'images' and"),
            ({"sources": [{"source": "dis", "list": "a.txt"}]}, "'list' goes with"),
            (
                {"sources": [{"source": "mine", "images": "mine", "masks": "mine"}]},
                "are the same files",
            ),
            (
                {"sources": [{"source": "duts", "splits": ["train", "test"], "expect": 5}]},
                "needs a single split",
            ),
            ({"sources": [{"source": "m", "splits": ["../x"]}]}, "sources.0.splits.0"),  # a path
            ({"defects": [{**DEFECT, "file": "y"}]}, "either a pair"),  # both
            ({"defects": [{**DEFECT, "name": None}]}, "either a pair"),  # neither
            ({"defects": [{**DEFECT, "action": "burn"}]}, "defects.0.action"),
        ],
    )
    def test_a_wrong_value_is_named(
        self, tmp_path: Path, document: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(UserError, match="the recipe is not valid") as caught:
            load_recipe(write(tmp_path / "r.yaml", **document))
        assert message in str(caught.value)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (recipe(), "has no sources"),
            (recipe({"source": "diss"}), "did you mean 'dis'"),  # an unknown set
            (recipe({"source": "dis", "splits": ["trian"]}), "did you mean 'train'"),  # a split
            (recipe({"source": "dis"}, {"source": "dis"}), "asks for dis train twice"),
            (recipe({"source": "dis"}, {"source": "DIS5K"}), "twice"),  # by another name
            (recipe({"source": "dis", "splits": ["train", "train"]}), "dis train twice"),
            (recipe({"source": "dis", "expect": 5}), "needs a single split"),  # it has six
            (
                recipe({"source": "dis", "splits": ["train"], "expect": {"te1": 1}}),
                "names split 'te1', which is not built",
            ),
            (recipe({"source": "dis"}, defects=[{**DEFECT, "source": "dist"}]), "no data set"),
            (
                recipe({"source": "dis"}, defects=[{**DEFECT, "source": "dis", "split": "trian"}]),
                "did you mean 'train'",
            ),
            (recipe({"source": "dis"}, must_not_overlap=["coift/al"]), "did you mean 'all'"),
            (recipe({"source": "dis"}, must_not_overlap=["coif/all"]), "did you mean 'coift'"),
        ],
    )
    def test_what_cannot_be_resolved_is_named(self, given: Recipe, message: str) -> None:
        with pytest.raises(UserError) as caught:
            resolve(given)
        assert message in str(caught.value)

    def test_a_defect_of_a_source_that_is_not_built_is_no_mistake(self) -> None:
        """A recipe that leaves a source out keeps its defects."""
        assert names(recipe({"source": "dis", "splits": ["te1"]}, defects=[DEFECT])) == ["dis/te1"]

    def test_overlap_targets_take_every_name_of_a_set(self) -> None:
        assert check_overlap_target("DIS5K/validation") == ("dis", "validation")


class TestExtending:
    def test_takes_over_what_it_does_not_say(self, tmp_path: Path) -> None:
        found = load_recipe(write(tmp_path / "r.yaml", extends="hqseg-44k", samples_per_shard=7))
        base = load_recipe("hqseg-44k")
        assert (found.name, found.samples_per_shard, found.seed) == ("r", 7, base.seed)
        assert found.sources == base.sources
        assert found.must_not_overlap == base.must_not_overlap

    def test_adds_sources_defects_and_evaluation_sets(self, tmp_path: Path) -> None:
        """A recipe's own defects come before those it takes over: the first that fits counts."""
        write(
            tmp_path / "base.yaml",
            sources=[{"source": "fss"}],
            defects=[DEFECT],
            must_not_overlap=["coift/all"],
        )
        mine = {**DEFECT, "action": "keep"}
        path = write(
            tmp_path / "r.yaml",
            extends="./base.yaml",
            sources=[{"source": "ecssd"}],
            defects=[mine],
            must_not_overlap=["hrsod/all"],
        )
        found = load_recipe(path)
        assert names(found) == ["ecssd/all", "fss/all"]
        assert [d.action for d in found.defects] == ["keep", "drop"]
        assert found.must_not_overlap == ("hrsod/all", "coift/all")

    @pytest.mark.parametrize("name", ["dis", "dis5k", "DIS-5K", "dis5k-v1"])
    def test_excludes_by_any_name(self, tmp_path: Path, name: str) -> None:
        path = write(tmp_path / "r.yaml", extends="hqseg-44k", exclude=[name])
        assert names(load_recipe(path)) == names(load_recipe("no-dis"))

    def test_excludes_from_its_own_sources_too(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "r.yaml", sources=[{"source": "fss"}, {"source": "ecssd"}], exclude=["fss"]
        )
        assert names(load_recipe(path)) == ["ecssd/all"]

    def test_a_file_is_looked_for_beside_the_one_that_extends_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "sub").mkdir()
        monkeypatch.chdir(tmp_path / "sub")
        write(tmp_path / "base.yaml", sources=[{"source": "fss"}])
        write(tmp_path / "r.yaml", extends="base.yaml")
        assert names(load_recipe("../r.yaml")) == ["fss/all"]

    @pytest.mark.parametrize("length", [1, 2, 3])
    def test_a_circle_is_refused(self, tmp_path: Path, length: int) -> None:
        for number in range(length):
            target = f"{(number + 1) % length}.yaml"
            write(tmp_path / f"{number}.yaml", extends=target)
        with pytest.raises(UserError, match=r"in a circle[\s\S]*0\.yaml"):
            load_recipe(tmp_path / "0.yaml")


class TestSelecting:
    base = load_recipe("hqseg-44k")

    @pytest.mark.parametrize("name", ["msra", "msra10k", "MSRA-10K", "thus10000"])
    def test_includes_by_any_name(self, name: str) -> None:
        assert names(select(self.base, include=[name])) == ["msra/all"]

    def test_keeps_the_recipes_order(self) -> None:
        assert names(select(self.base, include=["ecssd", "dis"])) == ["dis/train", "ecssd/all"]

    def test_excludes_all_splits_of_a_source(self) -> None:
        assert "duts/train" not in names(select(self.base, exclude=["duts"]))
        assert "duts/test" not in names(select(self.base, exclude=["duts"]))

    def test_exclude_wins_over_include(self) -> None:
        found = select(self.base, include=["dis", "fss"], exclude=["dis5k"])
        assert names(found) == ["fss/all"]

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("dsi", "did you mean 'dis'"),  # a slip
            ("coift", "has no source 'coift'"),  # a set, but none of this recipe
            ("", "has no source ''"),
        ],
    )
    @pytest.mark.parametrize("option", ["include", "exclude"])
    def test_a_name_that_is_no_source_is_answered_with_those_there_are(
        self, option: str, name: str, message: str
    ) -> None:
        with pytest.raises(UserError, match=message) as caught:
            select(self.base, **{option: [name]})  # type: ignore[arg-type]
        assert "one of dis, duts, ecssd, fss, msra, thinobject" in str(caught.value)

    def test_leaving_nothing_is_a_mistake(self) -> None:
        with pytest.raises(UserError, match="nothing is left"):
            select(self.base, include=["dis"], exclude=["dis"])


class TestExpecting:
    @pytest.mark.parametrize(
        ("source", "expect"),
        [
            ({}, {"train": 10553, "test": 5019}),  # the manifest's counts
            ({"expect": "any"}, {"train": None, "test": None}),
            ({"expect": {"train": 7}}, {"train": 7, "test": 5019}),  # one of two
            ({"splits": ["train"], "expect": 7}, {"train": 7}),  # a single split
            ({"splits": ["test"], "expect": None}, {"test": 5019}),
        ],
    )
    def test_counts_come_from_the_recipe_then_the_manifest(
        self, source: dict[str, Any], expect: dict[str, int | None]
    ) -> None:
        found = resolve(recipe({"source": "duts", **source})).splits
        assert {request.split: request.expect for request in found} == expect

    @pytest.mark.parametrize(
        ("expect", "name_list"),
        [(None, "ecssd"), (1000, "ecssd"), (999, None), ("any", None)],
    )
    def test_names_are_held_against_the_list_only_where_the_whole_release_is_expected(
        self, expect: object, name_list: str | None
    ) -> None:
        assert one({"source": "ecssd", "expect": expect}).name_list == name_list

    def test_a_subset_expects_neither_counts_nor_names(self) -> None:
        for request in resolve(load_recipe("hqseg-44k"), subset=True).splits:
            assert (request.expect, request.name_list) == (None, None)

    def test_without_splits_all_of_them_are_meant(self) -> None:
        assert names(recipe({"source": "duts"})) == ["duts/train", "duts/test"]


class TestDefects:
    def test_the_recipes_come_before_the_manifests(self) -> None:
        """bamboo_slip/7 is dropped by the manifest."""
        mine = {**DEFECT, "name": "bamboo_slip/7", "action": "keep"}
        found = [
            d.action
            for d in one({"source": "fss"}, defects=[mine]).defects
            if d.name == "bamboo_slip/7"
        ]
        assert found == ["keep", "drop"]

    def test_apply_to_their_split_or_to_all(self) -> None:
        given = recipe(
            {"source": "dis", "splits": ["te1", "te2"]},
            defects=[
                {**DEFECT, "source": "DIS5K", "name": "a", "split": "te1"},
                {**DEFECT, "source": "dis", "name": "b"},
            ],
        )
        found = {r.split: [d.name for d in r.defects] for r in resolve(given).splits}
        assert found == {"te1": ["a", "b"], "te2": ["b"]}

    def test_of_a_pair_of_folders_go_by_its_name(self) -> None:
        mine = {"source": "mine", "images": "m/i", "masks": "m/m"}
        (defect,) = one(mine, defects=[{**DEFECT, "source": "mine"}]).defects
        assert (defect.name, defect.reported) == ("x/1", "the recipe")


class TestOwnFolders:
    @pytest.mark.parametrize(
        ("images", "pattern"),
        [
            ("mine/images", "mine/images/*"),
            ("/mine/images/", "mine/images/*"),  # slashes at the ends
            ("mine.zip/images", "mine/images/*"),  # inside an archive
            ("mine.tar.gz/images", "mine/images/*"),
            ("mine/*.jpg", "mine/*.jpg"),  # a kind of file
        ],
    )
    def test_paths_become_patterns(self, images: str, pattern: str) -> None:
        request = one({"source": "mine", "images": images, "masks": "mine/masks"})
        assert request.layouts[0][1].images == pattern
        assert (request.split, request.expect, request.manifest) == ("all", None, None)

    def test_say_their_split_count_levels_and_licence(self) -> None:
        request = one(
            {
                "source": "mine",
                "splits": ["train"],
                "expect": 5,
                "images": "m/i",
                "masks": "m/m",
                "mask_values": "object_ids",
                "licence": "CC0-1.0",
            }
        )
        assert (request.split, request.expect) == ("train", 5)
        assert (request.mask_values, request.licence) == ("object_ids", "CC0-1.0")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"source": "Mine"}, "cannot name a source"),
            ({"source": "my-own"}, "cannot name a source"),  # a dash would blur keys
            ({"source": "m" * 25}, "cannot name a source"),  # keys have no room for it
            ({"splits": ["a", "b"]}, "one split, not 2"),
            ({"images": "../other"}, "no folder below the data root"),
            ({"images": ""}, "no folder below the data root"),
            ({"images": "a/**/b"}, "no folder below the data root"),
            ({"images": "{class}/x"}, "no folder below the data root"),
        ],
    )
    def test_what_they_cannot_be_is_the_users_mistake(
        self, change: dict[str, Any], message: str
    ) -> None:
        mine = {"source": "mine", "images": "m/i", "masks": "m/m", **change}
        with pytest.raises(UserError, match=message):
            resolve(recipe(mine))

    def test_stand_beside_known_sets(self) -> None:
        mine = {"source": "mine", "images": "m/i", "masks": "m/m"}
        given = recipe({"source": "ecssd"}, mine)
        assert names(given) == ["ecssd/all", "mine/all"]
        assert names(select(given, exclude=["mine"])) == ["ecssd/all"]


def test_a_data_set_keeps_what_it_was_built_from() -> None:
    """Settings and splits with their counts; names are looked up, `extends` is merged."""
    kept = resolve(load_recipe("no-dis")).to_dict()
    assert kept["name"] == "no-dis"
    assert {"source": "fss", "split": "all", "expect": 10000} in kept["splits"]  # type: ignore[operator]
    assert not {"extends", "exclude", "sources"} & set(kept)


def test_a_source_without_a_name_is_no_source() -> None:
    with pytest.raises(ValueError, match="source"):
        RecipeSource(source="")
