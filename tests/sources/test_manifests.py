"""What the package knows of the data sets is complete, consistent and strictly checked."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from hqdata.catalogue.manifest import SetManifest, SplitLayout
from hqdata.catalogue.names import load_names
from hqdata.catalogue.registry import find_set, load_manifest, load_manifests, set_name
from hqdata.errors import UserError
from hqdata.overview import EVALUATION_SPLITS, TRAINING_SPLITS
from hqdata.recipe import load_recipe, recipe_names
from hqdata.resolve import resolve
from hqdata.resources import manifests_dir
from hqdata.sources.layouts import accepts

FILES = sorted(manifests_dir().glob("*.yaml"))
SETS = load_manifests()

TABLE_5 = {
    "dis": 3000,
    "thinobject": 4748,
    "fss": 10000,
    "duts": 15572,
    "ecssd": 1000,
    "msra": 10000,
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_manifest_is_valid_and_named_after_its_set(path: Path) -> None:
    manifest = load_manifest(path)
    assert path.stem == manifest.full_name
    assert SETS[manifest.short_name] == manifest


def test_training_sets_come_first() -> None:
    roles = [manifest.role for manifest in SETS.values()]
    assert roles == sorted(roles, reverse=True)
    assert set(roles) == {"training", "evaluation"}


@pytest.mark.parametrize("source", TABLE_5)
def test_hqseg_44k_takes_from_each_source_what_table_5_says(source: str) -> None:
    requests = resolve(load_recipe("hqseg-44k")).splits
    assert sum(r.expect or 0 for r in requests if r.source == source) == TABLE_5[source]


def test_hqseg_44k_has_44320_images_of_those_six_sources() -> None:
    requests = resolve(load_recipe("hqseg-44k")).splits
    assert {r.source for r in requests} == set(TABLE_5)
    assert sum(r.expect or 0 for r in requests) == sum(TABLE_5.values()) == 44_320


def test_the_evaluation_sets_have_1537_images() -> None:
    expected = {"dis": 470, "thinobject": 500, "coift": 280, "hrsod": 287}
    requests = resolve(load_recipe("evaluation")).splits
    assert {r.source: r.expect for r in requests} == expected


@pytest.mark.parametrize(
    ("recipe", "count"),
    [("no-dis", 41_320), ("no-thinobject", 39_572), ("no-dis-no-thinobject", 36_572)],
)
def test_the_leave_one_out_recipes_have_the_counts_they_claim(recipe: str, count: int) -> None:
    assert sum(r.expect or 0 for r in resolve(load_recipe(recipe)).splits) == count


def test_no_split_is_both_trained_and_evaluated_on() -> None:
    def splits(recipe: str) -> set[tuple[str, str]]:
        return {(r.source, r.split) for r in resolve(load_recipe(recipe)).splits}

    assert splits("hqseg-44k") == TRAINING_SPLITS
    assert splits("evaluation") == EVALUATION_SPLITS
    assert not TRAINING_SPLITS & EVALUATION_SPLITS


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_resolves(name: str) -> None:
    resolved = resolve(load_recipe(name))
    assert resolved.name == name
    assert resolved.requests


class TestNames:
    @pytest.mark.parametrize(
        ("name", "short"),
        [
            ("dis5k_v1", "dis"),
            ("DIS_5K", "dis"),
            ("fss_1000", "fss"),
            ("Thin_Object_5k", "thinobject"),
        ],
    )
    def test_an_underscore_is_as_good_as_a_hyphen(self, name: str, short: str) -> None:
        assert find_set(name).short_name == set_name(name) == short

    def test_every_name_means_one_set(self) -> None:
        """Short names, full names and aliases, ignoring case."""
        owners: dict[str, str] = {}
        for short, manifest in SETS.items():
            for name in {short, manifest.full_name, *manifest.aliases}:
                assert owners.setdefault(name.casefold(), short) == short
                assert find_set(name.upper()) is manifest

    def test_aliases_repeat_nothing(self) -> None:
        for manifest in SETS.values():
            names = [a.casefold() for a in manifest.aliases]
            assert len(set(names) - {manifest.short_name, manifest.full_name}) == len(names)

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("dis5", "dis5k"),  # a letter short
            ("DUTZ", "duts"),  # another case
            ("thin-object", "thinobject"),  # near an alias
        ],
    )
    def test_an_unknown_set_is_answered_with_the_nearest_name(self, name: str, meant: str) -> None:
        with pytest.raises(UserError, match=f"did you mean '{meant}'"):
            find_set(name)

    def test_a_name_near_nothing_is_answered_with_all(self) -> None:
        with pytest.raises(UserError) as caught:
            find_set("qqqqqqqq")
        assert "did you mean" not in str(caught.value)
        assert all(short in str(caught.value) for short in SETS)

    @pytest.mark.parametrize(
        ("name", "count"), [("duts-train", 10_553), ("duts-test", 5_019), ("ecssd", 1_000)]
    )
    def test_name_lists_are_whole(self, name: str, count: int) -> None:
        assert len(set(load_names(name))) == count

    def test_every_name_list_belongs_to_a_split_of_its_length(self) -> None:
        used = {
            facts.names: facts.expect
            for manifest in SETS.values()
            for facts in manifest.splits.values()
            if facts.names is not None
        }
        assert {name: len(load_names(name)) for name in used} == used
        files = {path.name.split(".")[0] for path in (manifests_dir() / "names").glob("*.txt.xz")}
        assert files == set(used)

    def test_duts_shares_no_name_between_its_splits(self) -> None:
        assert not set(load_names("duts-train")) & set(load_names("duts-test"))

    def test_the_name_lists_are_those_of_the_real_data(self, real_data: Path) -> None:
        for name in ("duts-train", "duts-test", "ecssd"):
            fitting = [
                path
                for path in (real_data / "name_lists").rglob("*")
                if path.is_file() and tuple(sorted(path.read_text().split())) == load_names(name)
            ]
            assert fitting, name

    def test_an_unknown_list_is_answered_with_the_nearest(self) -> None:
        with pytest.raises(UserError, match="did you mean 'duts-train'"):
            load_names("duts-trian")

    def test_known_defects_name_what_is_in_the_list(self) -> None:
        for manifest in SETS.values():
            for defect in manifest.defects:
                facts = manifest.splits[defect.split] if defect.split else None
                if facts is not None and facts.names is not None and defect.name is not None:
                    assert defect.name in load_names(facts.names)


Spec = tuple[str, str, str, SplitLayout]
SPECS: list[Spec] = [
    (manifest.short_name, layout.name, split, spec)
    for manifest in SETS.values()
    for layout in manifest.layouts
    for split, spec in layout.splits.items()
]


def can_match_the_same_file(one: str, other: str) -> bool:
    """Whether one file could be below folders that both patterns match.

    Patterns match the end of a path, so the shorter one is held against the other's end.
    """
    *a, wanted_a = one.casefold().split("/")
    *b, wanted_b = other.casefold().split("/")
    levels = list(zip(reversed(a), reversed(b), strict=False))
    folders = all(x == y or "{class}" in (x, y) for x, y in levels)
    # Any name is a class, so a whole set that lies as a folder inside of another is left out here.
    folders = folders and "{class}" not in levels[-1]
    files = any(accepts(wanted_a, f) and accepts(wanted_b, f) for f in ("x.jpg", "x.png", "x.bmp"))
    return folders and files


class TestPatterns:
    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("a/*", "a/*", True),  # equal
            ("A/*", "a/*", True),  # case does not count
            ("a/b/*", "b/*", True),  # the end of the other
            ("a/b/*", "a/*", False),  # the beginning of the other
            ("a/{class}/*", "a/b/*", True),  # a class is any name
            ("a/{class}/*", "c/b/*", False),  # but not any folder above it
            ("a/{class}/*", "b/*", False),  # one set inside of the other
            ("a/*.jpg", "a/*.png", False),  # pictures apart from masks
            ("a/*.jpg", "a/*", True),  # all pictures
        ],
    )
    def test_the_check_below_tells_patterns_apart(self, one: str, other: str, same: bool) -> None:
        assert can_match_the_same_file(one, other) is same
        assert can_match_the_same_file(other, one) is same

    @pytest.mark.parametrize(
        ("a", "b"),
        [(a, b) for a, b in itertools.combinations(SPECS, 2) if a[0] != b[0]],
        ids=lambda spec: "-".join(spec[:3]).replace(" ", "_"),
    )
    def test_no_folders_could_be_two_different_sets(self, a: Spec, b: Spec) -> None:
        """Images alone may be called alike (`images/`): only both folders make a match."""
        images = can_match_the_same_file(a[3].images, b[3].images)
        masks = can_match_the_same_file(a[3].masks, b[3].masks)
        assert not (images and masks)

    @pytest.mark.parametrize(
        ("a", "b"),
        [
            (a, b)
            for a, b in itertools.combinations(SPECS, 2)
            if a[0] == b[0] and a[2] != b[2] and a[3].list is None and b[3].list is None
        ],
        ids=lambda spec: "-".join(spec[:3]).replace(" ", "_"),
    )
    def test_no_folders_could_be_two_splits_of_a_set(self, a: Spec, b: Spec) -> None:
        """But for splits that lists tell apart."""
        images = can_match_the_same_file(a[3].images, b[3].images)
        assert not (images and can_match_the_same_file(a[3].masks, b[3].masks))

    def test_every_split_has_a_layout(self) -> None:
        for manifest in SETS.values():
            assert all(manifest.layouts_of(split) for split in manifest.splits)

    def test_layouts_have_names_of_their_own(self) -> None:
        for manifest in SETS.values():
            names = [layout.name for layout in manifest.layouts]
            assert len(set(names)) == len(names)

    def test_no_pattern_takes_an_image_for_its_own_mask(self) -> None:
        for _, _, _, spec in SPECS:
            assert not can_match_the_same_file(spec.images, spec.masks)


class TestFacts:
    @pytest.mark.parametrize("source", SETS)
    def test_every_set_says_where_it_is_to_be_had_and_under_what_terms(self, source: str) -> None:
        manifest = SETS[source]
        assert manifest.home.startswith("http")
        assert manifest.archives
        assert "@" in manifest.citation and manifest.licence.evidence

    def test_an_archive_of_several_sets_is_described_alike_in_each(self) -> None:
        known: dict[tuple[str, str], tuple[int | None, str | None, str | None]] = {}
        for manifest in SETS.values():
            for archive in manifest.archives:
                facts = (archive.num_bytes, archive.sha256, archive.page)
                if archive.release == "sam-hq repack":
                    assert known.setdefault((archive.release, archive.name), facts) == facts
        assert len(known) == 3

    @pytest.mark.parametrize(
        ("source", "push"),
        [
            ("dis", "refuse"),  # terms of use prohibit distribution
            ("thinobject", "private-gated"),  # CC BY-NC 4.0
            ("fss", "private"),  # none stated
            ("duts", "private"),
            ("ecssd", "private"),
            ("msra", "private"),
        ],
    )
    def test_pushing_is_as_careful_as_the_licence_asks(self, source: str, push: str) -> None:
        assert SETS[source].licence.push == push

    def test_sets_of_object_ids_say_so(self) -> None:
        assert {s for s, m in SETS.items() if m.masks == "object_ids"} == {"coift", "hrsod"}


def changed(**changes: Any) -> dict[str, Any]:
    """The smallest valid manifest, with changes."""
    base: dict[str, Any] = {
        "short_name": "mine",
        "full_name": "mine",
        "title": "Mine",
        "role": "training",
        "home": "https://example.org",
        "citation": "@misc{mine}",
        "licence": {"id": "CC0-1.0", "name": "CC0", "evidence": "the page", "push": "public"},
        "splits": {"all": {"expect": 1}},
        "layouts": [{"name": "o", "splits": {"all": {"images": "m/i/*", "masks": "m/m/*"}}}],
    }
    return {**base, **changes}


def layout(**changes: str) -> dict[str, Any]:
    spec = {"images": "m/i/*", "masks": "m/m/*", **changes}
    return changed(layouts=[{"name": "o", "splits": {"all": spec}}])


def load(tmp_path: Path, document: object) -> SetManifest:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    return load_manifest(path)


class TestChecking:
    def test_the_smallest_manifest_is_valid(self, tmp_path: Path) -> None:
        assert load(tmp_path, changed()).splits["all"].expect == 1

    @pytest.mark.parametrize(
        ("document", "where", "meant"),
        [
            (changed(licens={}), "licens", "licence"),  # at the top
            (changed(licence={"ulr": "x"}), "licence.ulr", "url"),  # in a part
            (changed(archives=[{"nam": "x"}]), "archives.0.nam", "name"),  # in a list
            (changed(splits={"all": {"expects": 1}}), "splits.all.expects", "expect"),  # a table
            (layout(mask="x/*"), "layouts.0.splits.all.mask", "masks"),  # a table in a list
        ],
    )
    def test_an_unknown_key_is_answered_with_its_place_and_the_nearest(
        self, tmp_path: Path, document: object, where: str, meant: str
    ) -> None:
        with pytest.raises(UserError) as caught:
            load(tmp_path, document)
        assert f"{where}: unknown key (did you mean '{meant}'?)" in str(caught.value)
        assert "mine.yaml" in str(caught.value)

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            (None, "the document"),  # an empty file
            ([1], "the document"),  # a list
            (changed(short_name="Mine"), "short_name"),  # upper case
            (changed(short_name="a-b"), "short_name"),  # a dash would blur keys
            (changed(short_name="m" * 25), "short_name"),  # longer than keys have room for
            (changed(role="testing"), "role"),
            (changed(splits={}), "splits"),
            (changed(splits={"all": {"expect": 0}}), "splits.all.expect"),
            (changed(splits={"../x": {"expect": 1}}), "splits.../x"),  # splits name shards
            (changed(splits={"other": {"expect": 1}}), "splits not in 'splits'"),
            (changed(layouts=[]), "layouts"),
            (layout(images="i/x.jpg"), "a pattern ends in"),  # no wildcard
            (layout(images="*"), "below at least one folder"),  # anything anywhere
            (layout(images="/i/*"), "bad component ''"),  # absolute
            (layout(images="../i/*"), "no '.', '..'"),
            (layout(images="i*/*"), "bad component"),  # a wildcard in a folder
            (layout(images="{class}/*"), "begins with a folder name"),
            (
                changed(defects=[{"action": "drop", "reason": "r", "reported": "x"}]),
                "either a pair",
            ),
            (
                changed(defects=[{"file": "a", "action": "keep", "reason": "r", "reported": "x"}]),
                "can only be dropped",
            ),
            (
                changed(
                    defects=[
                        {
                            "name": "a",
                            "split": "t",
                            "action": "keep",
                            "reason": "r",
                            "reported": "x",
                        }
                    ]
                ),
                "no split 't'",
            ),
        ],
    )
    def test_a_wrong_value_is_named(self, tmp_path: Path, document: object, message: str) -> None:
        with pytest.raises(UserError, match="the manifest is not valid") as caught:
            load(tmp_path, document)
        assert message in str(caught.value)

    def test_two_sets_of_one_short_name_are_refused(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(changed()))
        with pytest.raises(UserError, match="two manifests have the short name 'mine'"):
            load_manifests(tmp_path)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"a: [1", "line 1"),  # an open bracket
            (b"a: 1\n b: 2", "line 2"),  # a wrong indent
            (b"\xff\xfe", "not UTF-8"),
            (b"a: !!python/object:os.system x", "not valid YAML"),  # code is never run
            (b"a: 2024-13-45", "not valid YAML"),  # an impossible date
            (b"[" * 5000, "not valid YAML"),  # nested without end
            (b"#" * (4 * 2**20 + 1), "too many"),  # larger than anybody writes
        ],
    )
    def test_what_is_no_yaml_is_the_users_mistake(
        self, tmp_path: Path, text: bytes, message: str
    ) -> None:
        path = tmp_path / "mine.yaml"
        path.write_bytes(text)
        with pytest.raises(UserError, match=message):
            load_manifest(path)
