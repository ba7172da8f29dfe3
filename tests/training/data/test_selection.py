"""Which samples are trained on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hqdata.errors import UserError
from hqdata.recipe import Recipe
from hqdata.resolve import ResolvedRecipe, resolve
from hqdata.shards.dataset import Dataset
from support.tiny_shards import build_sampled
from training.data.order import shuffled_order
from training.data.selection import select


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    from support.builds import build_own, own_sources

    root = tmp_path_factory.mktemp("selected")
    counts = {"dis": 4, "duts": 6, "discs": 3}
    own_sources(root / "data", counts, width=40, height=32)
    build_own(root / "data", root / "shards", list(counts), samples_per_shard=2)
    return with_split(Dataset.open(root / "shards"), "duts", "test", 2)


def with_split(dataset: Dataset, source: str, split: str, number: int) -> Dataset:
    """The same, the last samples of a source in another split."""
    splits = dataset.samples["split"].to_pylist()
    of_source = [
        i for i, name in enumerate(dataset.samples["source"].to_pylist()) if name == source
    ]
    for row in of_source[-number:]:
        splits[row] = split
    place = dataset.samples.schema.get_field_index("split")
    field = dataset.samples.schema.field(place)
    table = dataset.samples.set_column(place, field, pa.array(splits, pa.string()))
    return Dataset(dataset.root, dataset.info, table)


def sources_of(dataset: Dataset, rows: np.ndarray) -> list[str]:
    table = dataset.samples.take(rows)
    pairs = zip(table["source"].to_pylist(), table["split"].to_pylist(), strict=True)
    return sorted({f"{source}/{split}" for source, split in pairs})


def test_all_of_it(dataset: Dataset) -> None:
    selection = select(dataset, only=[], exclude=[])
    assert selection.rows.tolist() == list(range(13))
    assert selection.rows.dtype == np.int64
    assert selection.num_rows == len(selection) == 13
    assert selection.sources == ("dis/all", "discs/all", "duts/all", "duts/test")


@pytest.mark.parametrize(
    ("only", "exclude", "expected"),
    [
        (["dis"], [], ["dis/all"]),  # short name
        (["dis5k"], [], ["dis/all"]),  # full name
        (["DIS5K", "discs"], [], ["dis/all", "discs/all"]),  # in any case; of one's own
        (["duts/test"], [], ["duts/test"]),  # a split
        ([], ["duts"], ["dis/all", "discs/all"]),  # all splits of a source
        ([], ["DUTS/test", "dis"], ["discs/all", "duts/all"]),  # several
        (["duts", "dis"], ["duts/test"], ["dis/all", "duts/all"]),  # a part of what is asked for
        (["dis"], ["duts"], ["dis/all"]),  # was not asked for anyway
    ],
)
def test_names(dataset: Dataset, only: list[str], exclude: list[str], expected: list[str]) -> None:
    selection = select(dataset, only=only, exclude=exclude)
    assert list(selection.sources) == expected == sources_of(dataset, selection.rows)
    of_rows = [sources_of(dataset, np.array([row]))[0] for row in range(13)]
    assert selection.rows.tolist() == [r for r, name in enumerate(of_rows) if name in expected]


def test_the_shards_hold_the_rows_and_nothing_else(dataset: Dataset) -> None:
    selection = select(dataset, only=["duts/all", "dis"])
    shards = dataset.samples["shard"].to_pylist()
    held = [row for shard in selection.shards for row in shard.rows]
    assert sorted(held) == selection.rows.tolist()
    for shard in selection.shards:
        assert {shards[row] for row in shard.rows} == {shard.path}
        assert shard.path.startswith(f"{shard.source}/")


def test_the_digest_is_that_of_the_data_set_and_the_names(dataset: Dataset) -> None:
    selection = select(dataset, exclude=["discs", "duts/all"])
    text = f"{dataset.info.digest}\ndis/all\nduts/test\n"
    assert selection.digest == hashlib.sha256(text.encode()).hexdigest()
    assert selection.digest == select(dataset, only=["duts/test", "dis5k"]).digest
    assert selection.digest != select(dataset).digest


def test_leaving_a_source_out_leaves_the_others_in_their_order(dataset: Dataset) -> None:
    def order(**names: list[str]) -> list[int]:
        rows = select(dataset, **names).rows
        digest = dataset.info.digest
        return shuffled_order(rows, num_rows=13, digest=digest, seed=1, epoch=0).tolist()

    left = select(dataset, exclude=["duts"]).rows.tolist()
    assert order(exclude=["duts"]) == [row for row in order() if row in left]


@pytest.mark.parametrize(
    ("only", "exclude", "message"),
    [
        (["dsi"], [], "there is no source 'dsi' (did you mean 'dis'?)"),
        ([], ["duts/tset"], "source 'duts' has no split 'tset' (did you mean 'test'?)"),
        ([], ["discz"], "(did you mean 'discs'?)"),
        (["fss"], [], "has no source 'fss'"),  # known, but not here
        ([], ["FSS-1000"], "has no source 'FSS-1000'"),
        ([""], [], "there is no source ''"),
        ([], ["dis", "duts", "discs"], "nothing is left of data set"),
        (["dis"], ["dis5k"], "'dis' is both asked for and excluded"),
        (["duts/test", "dis"], ["duts"], "'duts/test' is both asked for and excluded"),
    ],
)
def test_mistakes(dataset: Dataset, only: list[str], exclude: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        select(dataset, only=only, exclude=exclude)
    assert message in str(caught.value)


def test_an_empty_data_set(dataset: Dataset, tmp_path: Path) -> None:
    empty = Dataset(tmp_path, dataset.info, dataset.samples.slice(0, 0))
    with pytest.raises(UserError, match="has no samples"):
        select(empty)


def recipe(*sources: dict[str, object]) -> ResolvedRecipe:
    return resolve(Recipe.model_validate({"name": "wanted", "seed": 44320, "sources": sources}))


DIS = {"source": "dis", "images": "dis/images", "masks": "dis/masks", "expect": 4}
DUTS = {"source": "duts", "images": "duts/images", "masks": "duts/masks"}
DISCS = {"source": "discs", "images": "discs/images", "masks": "discs/masks"}


class TestARecipe:
    """`--recipe` trains on what a recipe asks for, and on nothing less."""

    @pytest.fixture(scope="class")
    @staticmethod
    def whole(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
        from support.builds import build_own, own_sources

        root = tmp_path_factory.mktemp("whole")
        counts = {"dis": 4, "duts": 6, "discs": 3}
        own_sources(root / "data", counts, width=40, height=32)
        build_own(root / "data", root / "shards", list(counts), samples_per_shard=2)
        return Dataset.open(root / "shards")

    @pytest.fixture(scope="class")
    @staticmethod
    def sampled(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
        return build_sampled(tmp_path_factory.mktemp("sampled"), 6, others=2)

    def test_a_part_of_a_data_set_is_the_same_as_leaving_the_rest_out(self, whole: Dataset) -> None:
        one = select(whole, recipe=recipe(DIS, DISCS))
        other = select(whole, exclude=["duts"])
        assert one.sources == other.sources == ("dis/all", "discs/all")
        assert one.rows.tolist() == other.rows.tolist()
        assert one.digest == other.digest
        assert (one.recipe, other.recipe) == ("wanted", None)

    def test_goes_together_with_only_and_exclude(self, whole: Dataset) -> None:
        wanted = recipe(DIS, DISCS)
        assert select(whole, recipe=wanted, only=["dis"]).sources == ("dis/all",)
        assert select(whole, recipe=wanted, exclude=["dis"]).sources == ("discs/all",)
        assert select(whole, recipe=wanted, exclude=["duts"]).sources == ("dis/all", "discs/all")

    def test_what_it_does_not_have_cannot_be_asked_for(self, whole: Dataset) -> None:
        with pytest.raises(UserError, match="recipe 'wanted' is without it") as caught:
            select(whole, recipe=recipe(DIS), only=["duts"])
        assert "expected: one of dis/all" in str(caught.value)

    @pytest.mark.parametrize(
        ("sources", "lacking"),
        [
            ([{"source": "fss"}], "fss/all: 10,000 samples, none there"),
            ([{**DIS, "expect": 5}], "dis/all: 5 samples, 4 there"),
            ([{**DIS, "expect": 3}], "dis/all: 3 samples, 4 there"),
            ([{"source": "dis", "splits": ["train"]}], "dis/train: 3,000 samples, none there"),
            ([DIS, {**DISCS, "source": "rings"}], "rings/all: none there"),
            (
                [{"source": "sa1b", "sample": {"images": 9}}],
                "sa1b/train: 9 samples, none there",
            ),
        ],
    )
    def test_what_is_lacking_is_named_with_what_builds_it(
        self, whole: Dataset, sources: list[dict[str, object]], lacking: str
    ) -> None:
        with pytest.raises(UserError, match="does not have all of recipe 'wanted'") as caught:
            select(whole, recipe=recipe(*sources), recipe_called="mine/wanted.yaml")
        assert lacking in str(caught.value)
        assert "hqdata build --recipe mine/wanted.yaml" in str(caught.value)

    def test_what_is_left_out_anyway_may_be_incomplete(self, whole: Dataset) -> None:
        wanted = recipe({**DIS, "expect": 5}, DISCS)
        assert select(whole, recipe=wanted, exclude=["dis"]).sources == ("discs/all",)

    def test_a_known_defect_is_not_lacking(self, whole: Dataset) -> None:
        counts = whole.info.sources["dis"]["all"].model_copy(update={"dropped": 1})
        sources = {**whole.info.sources, "dis": {"all": counts}}
        info = whole.info.model_copy(update={"sources": sources})
        dropped = Dataset(whole.root, info, whole.samples)
        assert select(dropped, recipe=recipe({**DIS, "expect": 5})).sources == ("dis/all",)

    def test_a_sample_is_selected_like_anything_else(self, sampled: Dataset) -> None:
        found = select(sampled, recipe=recipe({"source": "SA-1B", "sample": {"images": 6}}))
        assert found.sources == ("sa1b/train",) and len(found) == 6
        assert found.digest == select(sampled, only=["sa-1b"]).digest
        assert select(sampled, exclude=["sa_1b"]).sources == ("reds/all",)

    @pytest.mark.parametrize(
        ("sample", "said"),
        [
            ({"images": 6, "seed": 7}, "sa1b/train: seed 7, it was drawn with 44,320"),
            ({"images": 6, "min_stability_score": 0.9}, "min_stability_score 0.9"),
            ({"images": 7}, "7 samples, 6 there"),
        ],
    )
    def test_a_sample_drawn_by_other_rules_is_another_one(
        self, sampled: Dataset, sample: dict[str, object], said: str
    ) -> None:
        with pytest.raises(UserError, match="does not have all of recipe") as caught:
            select(sampled, recipe=recipe({"source": "sa1b", "sample": sample}))
        assert said in str(caught.value)
