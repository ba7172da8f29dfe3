"""Sets that are sampled from archives are known as well as those that are paired from folders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hqdata.catalogue.licences import find_terms, set_terms
from hqdata.catalogue.registry import find_set, load_manifests, set_name
from hqdata.catalogue.sampled import find_sampled, fold, load_sampled, load_sampled_set
from hqdata.errors import UserError
from hqdata.resources import manifests_dir

FILES = sorted((manifests_dir() / "sampled").glob("*.yaml"))
SA1B = load_sampled()["sa1b"]


def written(path: Path, **changes: Any) -> Path:
    document = yaml.safe_load(FILES[0].read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**document, **changes}), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_is_valid_and_named_after_its_set(path: Path) -> None:
    assert load_sampled_set(path).short_name == path.stem


class TestSa1b:
    def test_has_a_thousand_archives_of_eleven_gigabytes(self) -> None:
        assert SA1B.num_archives == 1000 and SA1B.num_images == 11_185_362
        assert 11.2e9 < SA1B.num_bytes / SA1B.num_archives < 11.4e9

    def test_says_of_each_figure_where_it_is_from(self) -> None:
        assert set(SA1B.evidence) == {"num_archives", "num_images", "num_bytes"}
        assert all("https://" in text or "catalogue" in text for text in SA1B.evidence.values())

    @pytest.mark.parametrize(
        ("name", "is_one"), [("sa_000000", True), ("sa_000999", True), ("sa_0000001", False)]
    )
    def test_its_archives_are_known_by_their_names(self, name: str, is_one: bool) -> None:
        assert bool(re.fullmatch(SA1B.archive, name)) is is_one

    def test_its_pictures_may_not_be_published_and_are_known_by_their_names(self) -> None:
        assert SA1B.licence.push == "refuse"
        assert re.fullmatch(SA1B.licence.stem or "", "sa_226692")


class TestNames:
    @pytest.mark.parametrize(
        "name", ["sa1b", "SA1B", "sa-1b", "SA_1B", "segment-anything-1b", "sa1b_44k", "SA-1B-44K"]
    )
    def test_every_name_is_found(self, name: str) -> None:
        assert find_sampled(name) is SA1B
        assert set_name(name) == "sa1b"

    def test_sets_of_pairs_are_named_by_the_same_function(self) -> None:
        for short, manifest in load_manifests().items():
            for name in (short, manifest.full_name.upper(), *manifest.aliases):
                assert set_name(name) == short
                assert find_sampled(name) is None

    def test_no_name_means_two_sets(self) -> None:
        owners: dict[str, str] = {}
        for known in (*load_manifests().values(), *load_sampled().values()):
            for name in (known.short_name, known.full_name, *known.aliases):
                assert owners.setdefault(fold(name), known.short_name) == known.short_name

    @pytest.mark.parametrize(("name", "meant"), [("sa1bb", "sa1b"), ("dis5", "dis5k")])
    def test_a_slip_is_answered_with_the_nearest_of_either_kind(
        self, name: str, meant: str
    ) -> None:
        with pytest.raises(UserError, match=f"did you mean '{meant}'") as caught:
            set_name(name)
        assert "dis, " in str(caught.value) and "sa1b" in str(caught.value)

    def test_it_is_no_set_of_pairs(self) -> None:
        assert "sa1b" not in load_manifests()
        with pytest.raises(UserError, match="sampled from archives and has no pairs"):
            find_set("SA-1B")


class TestTerms:
    def test_are_those_of_the_file(self) -> None:
        terms = set_terms()["sa1b"]
        assert terms.licence == SA1B.licence and terms.citation == SA1B.citation
        assert find_terms("sa_1b") == terms

    def test_of_another_folder_are_only_what_is_in_it(self, tmp_path: Path) -> None:
        assert set_terms(tmp_path) == {}


class TestSlips:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"num_archive": 5}, "did you mean 'num_archives'"),
            ({"num_images": 0}, "num_images"),
            ({"archive": "sa_["}, "no regular expression"),
            ({"evidence": {"num_images": "a page"}}, "num_archives, num_bytes"),
            ({"short_name": "sa-1b"}, "short_name"),
            ({"split": "../x"}, "split"),
        ],
    )
    def test_are_named(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(UserError) as caught:
            load_sampled_set(written(tmp_path / "sa1b.yaml", **changes))
        assert message in str(caught.value)

    def test_the_file_bears_the_name_of_the_set(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="has another name"):
            load_sampled_set(written(tmp_path / "sa2b.yaml"))

    def test_a_folder_without_any_has_none(self, tmp_path: Path) -> None:
        assert load_sampled(tmp_path) == {}
