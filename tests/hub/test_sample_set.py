"""A sample of SA-1B: its pictures go nowhere, its list of names may; the card says what it is."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow.parquet as pq
import pytest

from hqdata.hub.card import render_card
from hqdata.hub.configs import configs_of
from hqdata.hub.croissant import croissant
from hqdata.hub.facts import title_of
from hqdata.hub.licences import ForbiddenError, decide, terms_of
from hqdata.hub.remote_manifest import _fault
from hqdata.shards.dataset import Dataset, DatasetInfo
from support.hub.cards import check_card
from support.published import facts
from support.tiny_shards import build_sampled


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """As of all archives; the other source may be published."""
    root = tmp_path_factory.mktemp("sampled")
    return build_sampled(root, 4, others=2, archives=1000, cluster=False)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return build_sampled(tmp_path_factory.mktemp("cluster"), 4)


class TestWhatMayBePublished:
    @pytest.mark.parametrize("public", [False, True])
    def test_no_pictures(self, sampled: Dataset, public: bool) -> None:
        found = terms_of(sampled, ["sa1b", "reds"], [])
        with pytest.raises(ForbiddenError, match=r"pictures of (reds, )?sa1b may not") as caught:
            decide(found, what="all", public=public)
        said = str(caught.value)
        assert "SA-1B Dataset Research License" in said
        assert "--what manifest" in said and "--exclude sa1b" in said

    def test_names_of_archives_and_pictures(self, cluster: Dataset) -> None:
        found = decide(terms_of(cluster, ["sa1b"], []), what="manifest", public=True)
        assert (found.audience, found.private) == ("public", False)
        manifest = facts(cluster, what="manifest", public=True).manifest
        rows = pq.read_table(io.BytesIO(manifest.samples)).to_pylist()
        assert len(rows) == 4
        assert all(row["upstream_image"].startswith("sa_000020/sa_226") for row in rows)

    def test_the_other_sources_with_their_pictures(self, sampled: Dataset) -> None:
        assert decide(terms_of(sampled, ["reds"], []), what="all", public=False).private
        made = facts(sampled, exclude=["SA-1B"])
        assert made.info.sampled is None
        card = render_card(made)
        assert "sa1b/train" not in card and "SA-1B-44K without SA-1B" in card


class TestTheCard:
    @pytest.fixture
    def card(self, sampled: Dataset) -> str:
        return render_card(facts(sampled, what="manifest"))

    def test_the_hub_finds_nothing_wrong_with_it(self, card: str) -> None:
        assert check_card(card) == ([], [])

    def test_says_what_the_sample_is(self, card: str) -> None:
        assert "# SA-1B-44K" in card
        assert "- `sa1b/train`: 4 of the 8 images in 1,000 of 1,000 archives, one mask" in card
        assert "(seed 44320, the last of them " in card
        assert "A sample of some archives" not in card

    def test_warns_of_a_sample_of_some_archives(self, cluster: Dataset) -> None:
        card = render_card(facts(cluster, what="manifest"))
        assert "**A sample of some archives.** `sa1b/train` was drawn from 1 of 1,000" in card

    def test_says_how_to_draw_it_again(self, card: str, sampled: Dataset, cluster: Dataset) -> None:
        """Folders of one's own are beside it, and nobody else has them; the sample is no such."""
        assert "folders of the publisher's own" in card and "`reds`" in card
        alone = render_card(facts(cluster, what="manifest"))
        assert "hqdata build --recipe ./recipe.yaml --data-root data/" in alone

    def test_names_it_as_people_do(self, card: str) -> None:
        assert title_of("sa1b") == "SA-1B"
        assert "extended|other-sa-1b" in card and "kirillov2023segment" in card

    def test_a_machine_reads_it_too(self, sampled: Dataset) -> None:
        document = json.loads(croissant(facts(sampled, what="manifest"), {}))
        assert document["name"] == "SA-1B-44K"
        assert "https://ai.meta.com/datasets/segment-anything/" in document["license"]

    def test_all_of_it_is_one_split_to_train_on(self, sampled: Dataset) -> None:
        found = {config.name: config.splits for config in configs_of(sampled.info)}
        assert [split for split, _ in found["sa1b"]] == ["train"]
        assert set(found) == {"default", "no-sa1b", "no-reds", "sa1b", "reds"}


class TestAManifestOnTheHub:
    def test_of_a_sample_is_believed(self, sampled: Dataset, cluster: Dataset) -> None:
        assert _fault(sampled.info) == _fault(cluster.info) == ""

    @pytest.mark.parametrize(
        "samples",
        [
            "sa1b",
            [{}],
            [{"source": "sa1b"}],
            [{"source": "other", "split": "train", "expect": None, "images": 1}],
            [{"source": "sa1b", "split": "train", "expect": None, "images": "$(reboot)"}],
            [{"source": "sa1b", "split": "train", "expect": None, "images": 1, "seed": 0}],
        ],
    )
    def test_that_says_anything_else_of_samples_is_not(
        self, cluster: Dataset, samples: Any
    ) -> None:
        info = _changed(cluster.info, recipe={**cluster.info.recipe, "samples": samples})
        assert "does not say what it is a sample of" in _fault(info)

    def test_that_tells_of_a_sample_it_does_not_have_is_not(self, cluster: Dataset) -> None:
        drawn = {"sa1b/../x": next(iter((cluster.info.sampled or {}).values()))}
        assert "a sample that it does not have" in _fault(_changed(cluster.info, sampled=drawn))


def _changed(info: DatasetInfo, **changes: Any) -> DatasetInfo:
    return info.model_copy(update=changes).sealed()
