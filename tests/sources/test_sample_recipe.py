"""A recipe asks for a sample of a set that nobody builds whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hqdata.errors import UserError
from hqdata.recipe import Recipe, load_recipe, select
from hqdata.resolve import ResolvedRecipe, SampleRequest, is_source, resolve
from hqdata.sampling import Choice

SOURCE = {"source": "sa1b", "sample": {"images": 100}}


def recipe(*sources: dict[str, Any], **settings: Any) -> Recipe:
    return Recipe.model_validate({"name": "r", "seed": 7, "sources": sources, **settings})


def sample(**settings: Any) -> dict[str, Any]:
    return {"source": "sa1b", "sample": {"images": 100, **settings}}


def one(source: dict[str, Any], **options: bool) -> SampleRequest:
    (request,) = resolve(recipe(source), **options).samples
    return request


def refusal(given: Recipe) -> str:
    with pytest.raises(UserError) as caught:
        resolve(given)
    return str(caught.value)


class TestSa1b44k:
    @pytest.fixture
    def resolved(self) -> ResolvedRecipe:
        return resolve(load_recipe("sa1b-44k"))

    def test_is_as_many_images_of_sa_1b_as_hqseg_44k_has(self, resolved: ResolvedRecipe) -> None:
        (request,) = resolved.samples
        assert (request.source, request.split) == ("sa1b", "train")
        counts = [split.expect or 0 for split in resolve(load_recipe("hqseg-44k")).splits]
        assert request.expect == request.settings.images == sum(counts) == 44_320

    def test_takes_one_mask_of_each_without_any_filter(self, resolved: ResolvedRecipe) -> None:
        assert resolved.samples[0].choice == Choice(seed=44320)

    def test_must_not_overlap_what_hqseg_44k_must_not(self, resolved: ResolvedRecipe) -> None:
        other = load_recipe("hqseg-44k")
        assert resolved.recipe.must_not_overlap == other.must_not_overlap
        assert resolved.recipe.samples_per_shard == other.samples_per_shard

    def test_says_in_the_manifest_what_was_asked_for(self, resolved: ResolvedRecipe) -> None:
        document = resolved.to_dict()
        assert document["splits"] == []
        assert document["samples"] == [
            {
                "source": "sa1b",
                "split": "train",
                "expect": 44320,
                "images": 44320,
                "seed": 44320,
                "masks": 1,
                "min_predicted_iou": 0.0,
                "min_stability_score": 0.0,
                "min_area_fraction": 0.0,
                "max_area_fraction": 1.0,
            }
        ]


class TestResolving:
    def test_a_recipe_without_samples_says_nothing_of_them(self) -> None:
        assert "samples" not in resolve(load_recipe("hqseg-44k")).to_dict()

    @pytest.mark.parametrize("name", ["sa1b", "SA-1B", "sa_1b", "segment-anything-1b"])
    def test_any_name_of_the_set_will_do(self, name: str) -> None:
        found = one({**SOURCE, "source": name})
        assert (found.source, found.licence) == ("sa1b", "sa1b-research-license")
        assert is_source(name, "sa1b")

    @pytest.mark.parametrize(
        ("settings", "subset", "expect"),
        [
            ({}, False, 100),
            ({}, True, None),  # as many as there are
            ({"masks": 3}, False, None),  # a picture can have fewer
            ({"masks": "all"}, False, None),
            ({"min_stability_score": 0.95}, False, 100),
        ],
    )
    def test_a_number_is_expected_where_each_image_is_one_sample(
        self, settings: dict[str, Any], subset: bool, expect: int | None
    ) -> None:
        found = one(sample(**settings), subset=subset)
        assert (found.expect, found.subset) == (expect, subset)

    def test_any_number_of_them_will_do_if_the_recipe_says_so(self) -> None:
        found = one({**SOURCE, "expect": "any"})
        assert (found.expect, found.subset) == (None, True)

    @pytest.mark.parametrize(
        ("settings", "choice"),
        [
            ({}, Choice(seed=7)),  # the recipe's seed
            ({"seed": 0}, Choice(seed=0)),
            ({"masks": "all"}, Choice(seed=7, masks=0)),
            ({"masks": 4}, Choice(seed=7, masks=4)),
            (
                {"min_predicted_iou": 0.9, "min_area_fraction": 0.01, "max_area_fraction": 0.5},
                Choice(
                    seed=7, min_predicted_iou=0.9, min_area_fraction=0.01, max_area_fraction=0.5
                ),
            ),
        ],
    )
    def test_settings_become_the_choice(self, settings: dict[str, Any], choice: Choice) -> None:
        assert one(sample(**settings)).choice == choice

    def test_stands_beside_pairs(self) -> None:
        pairs = {"source": "mine", "images": "mine/i", "masks": "mine/m"}
        resolved = resolve(recipe(SOURCE, {"source": "ecssd"}, pairs))
        assert [r.source for r in resolved.splits] == ["ecssd", "mine"]
        assert [r.source for r in resolved.samples] == ["sa1b"]
        assert [r.source for r in resolved.requests] == ["ecssd", "mine", "sa1b"]
        assert [s["source"] for s in resolved.to_dict()["splits"]] == ["ecssd", "mine"]

    def test_can_be_chosen_and_left_out_by_any_name(self) -> None:
        both = recipe(SOURCE, {"source": "ecssd"})
        assert [s.source for s in select(both, include=["SA_1B"]).sources] == ["sa1b"]
        assert select(both, exclude=["sa-1b"]).exclude == ("sa1b",)

    def test_folders_of_ones_own_may_be_called_like_it(self) -> None:
        own = {"source": "sa1b", "images": "sa/images", "masks": "sa/masks"}
        resolved = resolve(recipe(own))
        assert not resolved.samples and resolved.splits[0].manifest is None

    def test_a_recipe_that_extends_another_says_how_many(self, tmp_path: Path) -> None:
        document = {"name": "few", "extends": "sa1b-44k", "sources": [sample(images=12)]}
        (tmp_path / "few.yaml").write_text(yaml.safe_dump(document))
        resolved = resolve(load_recipe(tmp_path / "few.yaml"))
        assert [s.settings.images for s in resolved.samples] == [12]
        assert resolved.samples[0].choice.seed == 44320


class TestMistakes:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"source": "sa1b"}, "not said how many pictures to draw"),
            ({"source": "dis", "sample": {"images": 5}}, "is for a data set that is sampled"),
            ({"source": "sa1bb", "sample": {"images": 5}}, "did you mean 'sa1b'"),
            ({**SOURCE, "splits": ["tran"]}, "has no split 'tran' (did you mean 'train'?)"),
            (sample(images=11_185_363), "are more than there are"),
        ],
    )
    def test_are_named_when_names_are_looked_up(self, given: Any, message: str) -> None:
        assert message in refusal(recipe(given))

    def test_the_same_twice(self) -> None:
        assert "asks for sa1b train twice" in refusal(recipe(SOURCE, {**SOURCE, "source": "sa-1b"}))

    def test_defects_are_not_for_a_sample(self) -> None:
        defect = {"source": "sa1b", "name": "sa_5", "action": "drop", "reason": "blurred"}
        assert "sampled and takes none" in refusal(recipe(SOURCE, defects=[defect]))

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ({**SOURCE, "images": "a", "masks": "b"}, "not for folders of your own"),
            ({**SOURCE, "mask_values": "object_ids"}, "its masks are binary"),
            ({**SOURCE, "expect": 5}, "its 'images' says how many"),
            (sample(images=0), "sources.0.sample.images"),
            (sample(images="many"), "sources.0.sample.images"),
            (sample(masks=0), "sources.0.sample.masks"),
            (sample(masks="some"), "sources.0.sample.masks"),
            (sample(seed=-1), "sources.0.sample.seed"),
            (sample(min_predicted_iou=1.5), "sources.0.sample.min_predicted_iou"),
            (sample(min_stability_score=float("nan")), "sources.0.sample.min_stability_score"),
            (
                sample(min_area_fraction=0.5, max_area_fraction=0.4),
                "'min_area_fraction' is above 'max_area_fraction'",
            ),
            (sample(mask=3), "unknown key (did you mean 'masks'?)"),
        ],
    )
    def test_are_named_with_their_place(
        self, tmp_path: Path, source: dict[str, Any], message: str
    ) -> None:
        path = tmp_path / "r.yaml"
        path.write_text(yaml.safe_dump({"name": "r", "sources": [source]}))
        with pytest.raises(UserError, match="the recipe is not valid") as caught:
            load_recipe(path)
        assert message in str(caught.value)
