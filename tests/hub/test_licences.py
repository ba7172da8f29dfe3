"""What may be published to whom: the strictest terms decide, and a refusal says what else can."""

from __future__ import annotations

import datetime
import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hqdata.build.run import BuildOptions, build
from hqdata.catalogue.licences import (
    find_terms,
    known_licences,
    known_sets,
    licence_of_id,
    set_terms,
)
from hqdata.catalogue.registry import load_manifests
from hqdata.codecs import decode_jpeg, jpeg_header
from hqdata.errors import DatasetError, UserError
from hqdata.hub.licences import (
    NO_ADVICE,
    Audience,
    ForbiddenError,
    Terms,
    decide,
    strictest,
    terms_of,
)
from hqdata.hub.permission import Permission, PermissionFile
from hqdata.mini.mark import HEAD_BYTES, is_marked, marked
from hqdata.recipe import load_recipe
from hqdata.resolve import resolve
from hqdata.shards.dataset import Dataset
from support.builds import build_own, own_recipe, own_sources
from support.pictures import encode, photo, write_pair
from support.published import build_recipe, own, stand_in, terms

AUDIENCES: tuple[Audience, ...] = get_args(Audience)


def granted(source: str = "dis", allows: str = "private") -> Permission:
    return Permission(
        source=source,
        holder="the authors",
        granted_to="us",
        date=datetime.date(2024, 5, 17),
        allows=allows,  # type: ignore[arg-type]
        name="letter",
        evidence="https://example.org/letter",
        sha256="e" * 64,
    )


def build_under(folder: Path, source: str, licence: str, stems: tuple[str, ...] = ()) -> Dataset:
    """A data set of one source of this name and licence id, with files of these stems."""
    for number, stem in enumerate(stems or ("one", "two")):
        write_pair(folder / source / "images", folder / source / "masks", stem, number)
    path = folder / "recipe.yaml"
    path.write_text(
        f"name: own\nsources:\n  - {{source: {source}, images: {source}/images, "
        f"masks: {source}/masks, licence: {licence!r}}}\n"
    )
    build(resolve(load_recipe(path)), folder, folder / "out", BuildOptions(workers=1))
    return Dataset.open(folder / "out")


def the_terms(dataset: Dataset, *permissions: Permission) -> Terms:
    (found,) = terms_of(dataset, list(dataset.info.sources), permissions)
    return found


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    """A folder of drawn sources, and the data set built of them."""
    folder = tmp_path_factory.mktemp("drawn")
    return folder / "mini", stand_in(folder, ["ecssd", "msra"])


class TestTheDataAboutLicences:
    @pytest.mark.parametrize(
        ("name", "push"),
        [
            ("dis", "refuse"),  # its validation split too: terms are of the whole set
            ("sa1b", "refuse"),
            ("SA-1B", "refuse"),
            ("thinobject5k", "private-gated"),
            ("fss", "private"),
            ("duts", "private"),
            ("ecssd", "private"),
            ("msra", "private"),
            ("coift", "private"),
            ("hrsod", "private"),
        ],
    )
    def test_every_set_has_the_terms_that_were_found(self, name: str, push: str) -> None:
        found = find_terms(name)
        assert found is not None and found.licence.push == push

    def test_every_training_and_evaluation_set_has_terms_with_evidence_and_a_link(self) -> None:
        for known in known_sets():
            assert known.licence.evidence and (known.licence.url or "").startswith("http")
            assert "@" in known.citation

    def test_terms_without_a_manifest_are_of_sets_without_a_manifest(self) -> None:
        assert not set_terms().keys() & load_manifests().keys()

    def test_no_two_sets_share_a_name(self) -> None:
        names = [
            name.casefold()
            for known in known_sets()
            for name in {known.short_name, known.full_name, *known.aliases}
        ]
        assert len(names) == len(set(names))

    @pytest.mark.parametrize(
        "name", ["CC0-1.0", "cc-by-4.0", "CC-BY-NC-SA-4.0", "mit", "ODC-By-1.0"]
    )
    def test_well_known_ids_are_found_in_any_case(self, name: str) -> None:
        found = licence_of_id(name)
        assert found.push == "public" and found.id.casefold() == name.casefold() and found.url

    @pytest.mark.parametrize("name", ["CC-BY-ND-4.0", "CC-BY-NC-ND-4.0"])
    def test_what_forbids_changed_copies_stays_private(self, name: str) -> None:
        assert licence_of_id(name).push == "private"

    @pytest.mark.parametrize("name", ["not-stated", "none-stated", "my-own-words", "CC BY 4.0"])
    def test_any_other_id_allows_private_copies_only(self, name: str) -> None:
        assert licence_of_id(name).push == "private"

    def test_the_id_of_a_set_means_its_terms(self) -> None:
        assert licence_of_id("dis5k-terms").push == "refuse"
        assert licence_of_id("SA1B-research-license").push == "refuse"

    def test_a_licence_that_a_set_has_too_means_the_licence(self) -> None:
        # ThinObject-5K is under CC BY-NC 4.0, but its restriction comes from what it is made of.
        assert licence_of_id("CC-BY-NC-4.0").push == "public"

    def test_licences_have_links(self) -> None:
        assert all((found.url or "").startswith("https://") for found in known_licences().values())

    def test_a_slip_in_the_list_is_shown(self, tmp_path: Path) -> None:
        (tmp_path / "known.yaml").write_text(
            "licences: {X: {name: x, url: https://x, pusch: public}}"
        )
        with pytest.raises(UserError, match="not valid") as caught:
            known_licences(tmp_path)
        assert "pusch" in (caught.value.expected or "")


class TestTermsOfASource:
    def test_of_ones_own_the_id_in_the_recipe_decides(self, tmp_path: Path) -> None:
        found = the_terms(build_under(tmp_path, "wires", "cc-by-4.0"))
        assert (found.audience, found.licence.id, found.title) == ("public", "CC-BY-4.0", "wires")
        assert found.num_samples == 2 and found.num_bytes > 2 * 512

    def test_of_ones_own_without_a_licence_is_private(self, tmp_path: Path) -> None:
        assert the_terms(build_under(tmp_path, "wires", "not-stated")).audience == "private"

    @pytest.mark.parametrize("name", ["dis", "dis5k", "sa1b", "sa_1b"])
    def test_a_name_of_a_set_brings_its_terms_whatever_the_recipe_says(
        self, tmp_path: Path, name: str
    ) -> None:
        found = the_terms(build_under(tmp_path, name, "CC0-1.0"))
        assert found.audience == "refuse" and not found.stand_in

    def test_the_strictest_of_name_and_id_holds(self, tmp_path: Path) -> None:
        assert the_terms(build_under(tmp_path, "ecssd", "dis5k-terms")).audience == "refuse"

    @pytest.mark.parametrize(
        ("stem", "title"),
        [("2#Aircraft#4#Helicopter#86789665_650b94b2ee_o", "DIS5K"), ("sa_223750", "SA-1B")],
    )
    def test_pictures_of_a_refused_set_are_known_by_their_names(
        self, tmp_path: Path, stem: str, title: str
    ) -> None:
        found = the_terms(build_under(tmp_path, "mine", "CC0-1.0", ("one", stem)))
        assert found.audience == "refuse"
        assert "1 of 2 files" in found.licence.evidence and title in found.licence.evidence

    def test_ordinary_names_are_not_taken_for_such(self, tmp_path: Path) -> None:
        stems = ("sa_1", "sa_007", "visa_1234", "a#b", "12_34_o")
        assert the_terms(build_under(tmp_path, "mine", "CC0-1.0", stems)).audience == "public"

    def test_only_the_chosen_sources_in_the_order_of_the_data_set(self, tmp_path: Path) -> None:
        dataset = own(tmp_path, {"a": 1, "b": 1, "c": 1})
        assert [t.source for t in terms_of(dataset, ["c", "a"], [])] == ["a", "c"]


class TestNothingToPublish:
    def test_without_a_sample_it_says_so(self, tmp_path: Path) -> None:
        dataset = own(tmp_path, {"a": 1})
        empty = replace(dataset, samples=dataset.samples.slice(0, 0))
        with pytest.raises(UserError) as caught:
            terms_of(empty, ["a"], [granted("slip")])
        assert caught.value.what == "there is nothing to publish: the data set has no samples"
        assert "problems.jsonl" in (caught.value.do or "")

    def test_nor_of_the_sources_that_are_left(self, tmp_path: Path) -> None:
        dataset = own(tmp_path, {"a": 1, "b": 1})
        part = replace(dataset, samples=dataset.samples.slice(0, 1))
        assert [t.source for t in terms_of(part, ["a", "b"], [])] == ["a", "b"]
        with pytest.raises(UserError, match="nothing to publish: no samples are of b"):
            terms_of(part, ["b"], [])


class TestPermissions:
    def test_a_permission_widens(self) -> None:
        found = terms("dis", "refuse", permission=granted(allows="private"))
        assert found.audience == "private" and found.push == "refuse"

    def test_a_permission_never_narrows(self) -> None:
        assert terms("a", "public", permission=granted("a", "private")).audience == "public"

    def test_it_is_found_by_any_name_of_the_set(self, tmp_path: Path) -> None:
        dataset = build_under(tmp_path, "dis", "not-stated")
        found = the_terms(dataset, granted("DIS5K", "private-gated"))
        assert found.audience == "private-gated" and found.permission is not None

    @pytest.mark.parametrize(
        ("source", "name"),
        [("sa1b_44k", "sa1b"), ("sa1b_44k", "SA-1B"), ("sa1b", "sa1b_44k"), ("dis_5k", "dis")],
    )
    def test_a_source_may_have_any_name_of_the_set_too(
        self, tmp_path: Path, source: str, name: str
    ) -> None:
        dataset = build_under(tmp_path, source, "not-stated")
        assert the_terms(dataset).audience == "refuse"
        assert the_terms(dataset, granted(name)).audience == "private"

    def test_it_is_for_every_source_of_its_set_and_no_other(self, tmp_path: Path) -> None:
        dataset = own(tmp_path, {"sa1b": 1, "sa_1b": 1, "wires": 1, "dis": 1})
        found = terms_of(dataset, ["sa1b", "sa_1b", "wires", "dis"], [granted("sa1b_44k")])
        assert [t.source for t in found if t.permission is not None] == ["sa1b", "sa_1b"]

    def test_of_a_source_that_is_left_out_it_does_no_harm(self, tmp_path: Path) -> None:
        dataset = own(tmp_path, {"dis": 1, "wires": 1})
        (found,) = terms_of(dataset, ["wires"], [granted("dis5k")])
        assert found.permission is None

    @pytest.mark.parametrize("name", ["dis", "sa1b", "somebody", "Wires"])
    def test_of_no_source_of_the_data_set_it_is_a_slip(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UserError, match=f"'{name}', which is no source of this data") as caught:
            the_terms(build_under(tmp_path, "wires", "MIT"), granted(name))
        assert "'letter'" in str(caught.value) and "one of wires" in str(caught.value)

    def test_a_name_that_is_nearly_one_is_shown(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"'wire'.*did you mean 'wires'"):
            the_terms(build_under(tmp_path, "wires", "MIT"), granted("wire"))

    def test_two_of_one_source_are_a_question(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="two permissions for 'dis'"):
            the_terms(build_under(tmp_path, "dis", "MIT"), granted("dis"), granted("dis5k"))

    def test_the_decision_names_who_gave_it(self) -> None:
        made = decide([terms("dis", "refuse", permission=granted())], what="all", public=False)
        assert made.audience == "private"
        assert "the authors, 2024-05-17 (letter)" in made.warnings[0]

    def test_evidence_is_part_of_the_file_only(self) -> None:
        assert "sha256" not in PermissionFile.model_fields


class TestDrawnPictures:
    def test_they_are_free_whatever_set_they_stand_for(self, drawn: tuple[Path, Dataset]) -> None:
        for found in terms_of(drawn[1], ["ecssd", "msra"], []):
            assert found.stand_in and found.audience == "public"
            assert found.licence.name == "drawn by program, no rights reserved (CC0-1.0)"

    @pytest.mark.parametrize("suffix", ["jpg", "png"])
    def test_one_real_picture_among_them_makes_the_source_a_real_one(
        self, drawn: tuple[Path, Dataset], tmp_path: Path, suffix: str
    ) -> None:
        root = tmp_path / "mini"
        shutil.copytree(drawn[0], root)
        image = root / "ECSSD" / "images" / "0007.jpg"
        with Image.open(image) as picture:
            width, height = picture.size
        image.unlink()
        kind = "JPEG" if suffix == "jpg" else "PNG"
        image.with_suffix(f".{suffix}").write_bytes(encode(photo(1, width, height), kind))
        dataset = build_recipe(root, tmp_path / "out", ["ecssd", "msra"])
        assert dataset.info.num_problems == 0
        found = {t.source: t for t in terms_of(dataset, ["ecssd", "msra"], [])}
        assert not found["ecssd"].stand_in and found["ecssd"].audience == "private"
        assert found["msra"].stand_in

    def test_real_pictures_under_the_name_of_the_stand_in_are_real(self, tmp_path: Path) -> None:
        own_sources(tmp_path / "data", {"dis": 3})
        build_own(tmp_path / "data", tmp_path / "out", ["dis"], name="mini")
        assert own_recipe(["dis"]).splits[0].licence == "CC0-1.0"
        assert the_terms(Dataset.open(tmp_path / "out")).audience == "refuse"

    def test_a_shard_that_is_gone_is_named(
        self, drawn: tuple[Path, Dataset], tmp_path: Path
    ) -> None:
        shutil.copytree(drawn[1].root, tmp_path / "shards")
        gone = tmp_path / "shards" / "msra" / "all-00000-of-00002.tar"
        gone.unlink()
        with pytest.raises(DatasetError, match="cannot open the shard") as caught:
            terms_of(Dataset.open(tmp_path / "shards"), ["msra"], [])
        assert caught.value.where == str(gone)

    @pytest.mark.parametrize("gray", [False, True])
    def test_the_mark_changes_no_pixel_and_no_header(self, gray: bool) -> None:
        pixels = photo()[..., 0] if gray else photo()
        plain = encode(pixels)
        with_mark = marked(plain)
        assert jpeg_header(with_mark) == jpeg_header(plain)
        assert np.array_equal(decode_jpeg(with_mark, gray=gray), decode_jpeg(plain, gray=gray))
        assert Image.open(io.BytesIO(with_mark)).info["comment"] == b"drawn by hqdata mini"
        assert is_marked(with_mark[:HEAD_BYTES]) and not is_marked(plain[:HEAD_BYTES])

    def test_a_jpeg_without_jfif_segment_can_be_marked(self) -> None:
        plain = encode(photo())
        length = int.from_bytes(plain[4:6], "big")
        bare = plain[:2] + plain[4 + length :]
        assert np.array_equal(decode_jpeg(marked(bare)), decode_jpeg(bare))
        assert is_marked(marked(bare)[:HEAD_BYTES])

    @given(st.binary(max_size=200))
    def test_no_other_bytes_carry_the_mark(self, data: bytes) -> None:
        assert not is_marked(data) and not is_marked(b"\xff\xd8" + data)

    def test_what_is_no_jpeg_cannot_be_marked(self) -> None:
        with pytest.raises(ValueError, match="JPEG"):
            marked(encode(photo(), "PNG"))


class TestDecision:
    @given(st.lists(st.sampled_from(AUDIENCES), min_size=1, max_size=5), st.booleans())
    def test_pictures_go_nowhere_that_one_source_forbids(
        self, pushes: list[Audience], public: bool
    ) -> None:
        made = [terms(f"s{number}", push) for number, push in enumerate(pushes)]
        forbidden = "refuse" in pushes or (public and set(pushes) != {"public"})
        if forbidden:
            with pytest.raises(ForbiddenError):
                decide(made, what="all", public=public)
        else:
            decision = decide(made, what="all", public=public)
            assert decision.private == decision.gated == (not public)
            assert decision.audience == strictest(pushes) != "refuse"

    @given(st.lists(st.sampled_from(AUDIENCES), min_size=1, max_size=5), st.booleans())
    def test_the_manifest_may_always_go(self, pushes: list[Audience], public: bool) -> None:
        made = [terms(f"s{number}", push) for number, push in enumerate(pushes)]
        decision = decide(made, what="manifest", public=public)
        assert (decision.audience, decision.private, decision.gated) == (
            "public",
            not public,
            False,
        )

    def test_pasted_pictures_go_private_and_gated_with_a_warning(self) -> None:
        decision = decide([terms("thinobject", "private-gated")], what="all", public=False)
        assert decision.private and decision.gated
        assert "terms of thinobject" in decision.warnings[0]

    def test_strictness(self) -> None:
        assert AUDIENCES == ("public", "private-gated", "private", "refuse")
        assert strictest(["private-gated", "private"]) == "private" and strictest([]) == "public"


class TestRefusal:
    def test_it_says_who_why_and_what_can_be_done(self) -> None:
        made = [terms("dis", "refuse"), terms("sa1b", "refuse"), terms("wires", num_samples=1)]
        with pytest.raises(ForbiddenError) as caught:
            decide(made, what="all", public=False)
        said = str(caught.value)
        assert said.startswith(
            "the pictures of dis, sa1b may not go to the Hub, not even to a private repository"
        )
        for part in (
            "dis: Set dis, 10 images, 2.0 KiB",
            "terms: terms of sa1b <https://example.org/x>",
            "evidence: seen",
            "--what manifest:",
            "--exclude dis,sa1b: the other 1 image, of wires",
            "--permission FILE:",
            NO_ADVICE,
        ):
            assert part in said
        assert "wires: Set" not in said and "--public" not in said
        assert caught.value.exit_status == 2

    def test_in_public_it_names_all_that_is_not_public(self) -> None:
        made = [terms("dis", "refuse"), terms("fss", "private"), terms("wires")]
        with pytest.raises(ForbiddenError) as caught:
            decide(made, what="all", public=True)
        said = str(caught.value)
        assert said.startswith("the pictures of dis, fss may not be public")
        assert "without --public, and --exclude dis: the other 20 images, of fss, wires" in said
        assert "--exclude dis,fss: the other 10 images, of wires" in said

    def test_where_nothing_would_be_left_it_offers_no_leaving_out(self) -> None:
        with pytest.raises(ForbiddenError) as caught:
            decide([terms("dis", "refuse")], what="all", public=False)
        assert "--exclude" not in str(caught.value)
        with pytest.raises(ForbiddenError) as caught:
            decide([terms("fss", "private")], what="all", public=True)
        assert "--exclude" not in str(caught.value)
        assert "without --public: all of it, private and gated" in str(caught.value)
