"""Pairing puts images and masks of one stem together and accounts for every other file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqdata.catalogue.names import load_names
from hqdata.errors import UserError
from hqdata.problems import Problem
from hqdata.recipe import Recipe
from hqdata.resolve import SplitRequest, resolve
from hqdata.scan import scan
from hqdata.sources.discover import choose, discover, pair_found
from hqdata.sources.layouts import IMAGE_SUFFIXES, TreeIndex
from hqdata.sources.pairing import Pairing, find_duplicate_keys, pair
from hqdata.storage import FileRef, Folder, Tree, suffix_of


def tree_of(files: Iterable[str]) -> Tree:
    """A tree of files that are not on any disk: pairing opens none of them."""
    folders: dict[tuple[str, ...], Folder] = {}
    for path in files:
        *parts, name = path.split("/")
        where = tuple(parts)
        folder = folders.setdefault(where, Folder(where, (False,) * len(parts)))
        folder.files[name] = FileRef(f"/{path}", "file", 0, 1, 1, -1, "")
    return Tree(Path("/"), sorted(folders.values(), key=lambda folder: folder.parts))


def ask(source: str, split: str, expect: object = "any", **settings: Any) -> SplitRequest:
    item = {"source": source, "splits": [split], "expect": expect}
    recipe = Recipe.model_validate({"name": "r", "sources": [item], **settings})
    return resolve(recipe).splits[0]


def paired(request: SplitRequest, files: Iterable[str]) -> Pairing:
    index = TreeIndex(tree_of(files))
    ((_, match),) = choose(discover(index, [request]), index.tree)
    return pair_found(index, request, match)


def names(pairing: Pairing) -> list[str]:
    return [item.name for item in pairing.pairs]


def problems(pairing: Pairing) -> list[tuple[str, str]]:
    """(kind, image or mask) of each."""
    return [(p.kind.value, p.image or p.mask) for p in pairing.problems]


def dis(*files: str) -> list[str]:
    return [f"DIS-TR/{name}" for name in files]


DIS = ask("dis", "train")


class TestStems:
    @pytest.mark.parametrize(
        ("image", "mask", "name"),
        [
            ("a.jpg", "a.png", "a"),
            ("a.JPG", "a.PNG", "a"),  # suffixes in any case
            ("a.jpeg", "a.png", "a"),  # the other spelling
            ("a.png", "a.png", "a"),  # the same name
            ("a.webp", "a.bmp", "a"),  # other formats
            ("a.jpg.jpg", "a.jpg.png", "a.jpg"),  # a suffix in the stem
            ("a.b.c.jpg", "a.b.c.png", "a.b.c"),  # dots in the stem
            ("2#A#1_o.jpg", "2#A#1_o.png", "2#A#1_o"),  # DIS5K
            ("飞.jpg", "飞.png", "飞"),
        ],
    )
    def test_an_image_and_a_mask_of_one_stem_are_a_pair(
        self, image: str, mask: str, name: str
    ) -> None:
        found = paired(DIS, dis(f"im/{image}", f"gt/{mask}"))
        assert names(found) == [name]
        assert found.pairs[0].image.path == f"DIS-TR/im/{image}"
        assert found.pairs[0].mask.path == f"DIS-TR/gt/{mask}"
        assert found.problems == ()

    @pytest.mark.parametrize(
        ("image", "mask"),
        [
            ("a.jpg", "b.png"),  # other stems
            ("a.jpg", "A.png"),  # another case: two files on most disks
            ("a.jpg", "a.jpg.png"),  # the suffix is in one stem only
        ],
    )
    def test_what_does_not_pair_is_reported_from_both_sides(self, image: str, mask: str) -> None:
        found = paired(DIS, dis(f"im/{image}", f"gt/{mask}"))
        assert found.pairs == ()
        assert sorted(problems(found)) == [
            ("missing_image", f"DIS-TR/gt/{mask}"),
            ("missing_mask", f"DIS-TR/im/{image}"),
        ]

    def test_pairs_come_sorted_by_key(self) -> None:
        files = [
            f"{folder}/{n}.{s}"
            for n in ("b", "C", "a")
            for folder, s in (("im", "jpg"), ("gt", "png"))
        ]
        assert [item.key for item in paired(DIS, dis(*files)).pairs] == ["dis-a", "dis-b", "dis-c"]

    def test_a_class_is_a_part_of_the_name(self) -> None:
        files = [
            f"fewshot_data/{c}/{n}.{s}" for c in ("x", "y") for n in "12" for s in ("jpg", "png")
        ]
        found = paired(ask("fss", "all"), files)
        assert names(found) == ["x/1", "x/2", "y/1", "y/2"]
        assert found.pairs[0].key == "fss-x_1"

    def test_masks_that_were_never_found_are_no_pairing(self) -> None:
        index = TreeIndex(tree_of(dis("im/a.jpg")))
        (item,) = discover(index, [DIS])
        with pytest.raises(ValueError, match="no masks at DIS-TR/im"):
            pair(DIS, item.partial[0], lambda _: None)


class TestStraysAndDuplicates:
    @pytest.mark.parametrize("name", ["a.txt", "README", "a.json", "a.jpg.part"])
    @pytest.mark.parametrize("folder", ["im", "gt"])
    def test_a_file_that_is_no_picture_is_a_stray(self, folder: str, name: str) -> None:
        found = paired(DIS, dis("im/a.jpg", "gt/a.png", f"{folder}/{name}"))
        assert names(found) == ["a"]
        assert problems(found) == [("stray_file", f"DIS-TR/{folder}/{name}")]

    def test_in_a_folder_of_images_and_masks_both_kinds_belong(self) -> None:
        files = ["MSRA_10K/1.jpg", "MSRA_10K/1.png", "MSRA_10K/Thumbs.txt"]
        found = paired(ask("msra", "all"), files)
        assert names(found) == ["1"]
        assert problems(found) == [("stray_file", "MSRA_10K/Thumbs.txt")]

    def test_a_stray_among_masks_that_have_no_images_is_seen_too(self) -> None:
        """A class folder whose images are all gone."""
        files = ["fewshot_data/a/1.jpg", "fewshot_data/a/1.png"]
        files += ["fewshot_data/b/1.png", "fewshot_data/b/1.txt"]
        found = paired(ask("fss", "all"), files)
        assert sorted(problems(found)) == [
            ("missing_image", "fewshot_data/b/1.png"),
            ("stray_file", "fewshot_data/b/1.txt"),
        ]

    @pytest.mark.parametrize(
        ("files", "where"),
        [
            (["im/a.jpg", "im/a.jpeg", "gt/a.png"], "DIS-TR/im/a.jpeg"),  # two images
            (["im/a.jpg", "gt/a.png", "gt/a.bmp"], "DIS-TR/gt/a.bmp"),  # two masks
            (["im/a.JPG", "im/a.jpg", "gt/a.png"], "DIS-TR/im/a.JPG"),  # case alone
        ],
    )
    def test_of_two_files_of_one_stem_none_is_taken(self, files: list[str], where: str) -> None:
        found = paired(DIS, dis(*files, "im/b.jpg", "gt/b.png"))
        assert names(found) == ["b"]
        assert problems(found) == [("duplicate_key", where)]
        both = sorted(f.split("/")[1] for f in files if where.split("/")[1] in f)
        assert ", ".join(both) in found.problems[0].message


class TestPrefer:
    defect = {  # noqa: RUF012
        "source": "dis",
        "name": "a",
        "action": "keep",
        "prefer": "a.jpg",
        "reason": "the other is a left-over",
    }

    def test_says_which_of_several_files_is_meant(self) -> None:
        found = paired(
            ask("dis", "train", defects=[self.defect]), dis("im/a.jpg", "im/a.jpeg", "gt/a.png")
        )
        assert [(p.name, p.image.path, p.action) for p in found.pairs] == [
            ("a", "DIS-TR/im/a.jpg", "keep")
        ]
        assert found.problems == ()
        assert found.dropped == (("DIS-TR/im/a.jpeg", "the other is a left-over"),)
        assert found.lost == 0

    def test_decides_nothing_if_its_file_is_not_there(self) -> None:
        found = paired(
            ask("dis", "train", defects=[self.defect]), dis("im/a.bmp", "im/a.jpeg", "gt/a.png")
        )
        assert [kind for kind, _ in problems(found)] == ["duplicate_key"]


FSS_LAYOUTS = [
    ("fewshot_data/{c}/{n}.jpg", "fewshot_data/{c}/{n}.png"),  # official
    ("fewshot/support/{c}/image/{n}.jpg", "fewshot/support/{c}/label/{n}.png"),  # its code
    ("fss_all/{c}_{n}.jpg", "fss_all/{c}_{n}.png"),  # sam-hq, flat
    ("fss/{c}/{n}.jpg", "fss/{c}/{n}.png"),  # CascadePSP
]


def fss(layout: tuple[str, str], *pairs: str) -> list[str]:
    files = []
    for name in ("good_class/1", *pairs):
        class_name, number = name.split("/")
        files += [pattern.format(c=class_name, n=number) for pattern in layout]
    return files


@pytest.mark.parametrize("layout", FSS_LAYOUTS, ids=["official", "code", "flat", "cascade"])
class TestDefects:
    """Those of FSS-1000 hold in every layout, flat or with class folders."""

    def test_a_dropped_pair_is_listed_with_its_reason(self, layout: tuple[str, str]) -> None:
        found = paired(ask("fss", "all"), fss(layout, "bamboo_slip/7"))
        assert [name.replace("/", "_") for name in names(found)] == ["good_class_1"]
        ((name, reason),) = found.dropped
        assert name.replace("/", "_") == "bamboo_slip_7"
        assert "never labelled" in reason
        assert (found.lost, found.problems) == (1, ())

    def test_a_dropped_file_leaves_its_pair(self, layout: tuple[str, str]) -> None:
        extra = layout[0].format(c="beam_bridge", n="10").replace(".jpg", ".jpeg")
        found = paired(ask("fss", "all"), [*fss(layout, "beam_bridge/10"), extra])
        assert len(found.pairs) == 2
        assert [p.image.path[-4:] for p in found.pairs] == [".jpg", ".jpg"]
        assert [name for name, _ in found.dropped] in (
            ["beam_bridge/10.jpeg"],
            ["beam_bridge_10.jpeg"],
        )
        assert (found.lost, found.problems) == (0, ())

    @pytest.mark.parametrize("action", ["resize_mask", "accept", "keep"])
    def test_another_action_travels_with_the_pair(
        self, layout: tuple[str, str], action: str
    ) -> None:
        defect = {"source": "fss", "name": "x/1", "action": action, "reason": "r"}
        found = paired(ask("fss", "all", defects=[defect]), fss(layout, "x/1"))
        assert [(p.name.replace("/", "_"), p.action) for p in found.pairs] == [
            ("good_class_1", ""),
            ("x_1", action),
        ]
        assert (found.dropped, found.lost) == ((), 0)

    def test_a_recipe_overrules_the_manifest(self, layout: tuple[str, str]) -> None:
        defect = {"source": "fss", "name": "bamboo_slip/7", "action": "accept", "reason": "mended"}
        found = paired(ask("fss", "all", defects=[defect]), fss(layout, "bamboo_slip/7"))
        assert [p.action for p in found.pairs] == ["accept", ""]
        assert found.dropped == ()


def test_a_defect_of_something_that_is_not_there_says_nothing() -> None:
    found = paired(ask("fss", "all"), fss(FSS_LAYOUTS[0]))
    assert (len(found.pairs), found.dropped, found.problems) == (1, (), ())


class TestNameLists:
    """ECSSD's names are known: 0001 to 1000."""

    @staticmethod
    def files(*stems: str) -> list[str]:
        return [f"ecssd/{stem}.{suffix}" for stem in stems for suffix in ("jpg", "png")]

    def test_a_whole_release_fits(self) -> None:
        found = paired(ask("ecssd", "all", None), self.files(*load_names("ecssd")))
        assert (len(found.pairs), found.problems) == (1000, ())

    def test_what_is_not_in_the_list_and_what_is_not_there_is_reported(self) -> None:
        stems = [*load_names("ecssd")[3:], "1001"]
        found = paired(ask("ecssd", "all", None), self.files(*stems))
        assert len(found.pairs) == 997
        assert sorted(problems(found)) == [
            ("missing_name", "0001"),
            ("missing_name", "0002"),
            ("missing_name", "0003"),
            ("unexpected_name", "ecssd/1001.jpg"),
        ]

    def test_half_a_pair_is_reported_once(self) -> None:
        files = self.files(*load_names("ecssd"))
        files.remove("ecssd/0500.png")
        assert problems(paired(ask("ecssd", "all", None), files)) == [
            ("missing_mask", "ecssd/0500.jpg")
        ]

    def test_a_subset_is_not_held_against_the_list(self) -> None:
        assert paired(ask("ecssd", "all", "any"), self.files("1", "2")).problems == ()


class TestListFiles:
    """ThinObject-5K's splits share folders; a list file tells them apart."""

    @staticmethod
    def paired(
        root: Path, lists: Mapping[str, bytes], stems: Iterable[str], split: str = "train"
    ) -> Pairing:
        top = root / "ThinObject5K"
        for name, data in lists.items():
            path = top / "list" / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        for folder, suffix in (("images", "jpg"), ("masks", "png")):
            (top / folder).mkdir(parents=True, exist_ok=True)
            for stem in stems:
                (top / folder / f"{stem}.{suffix}").write_bytes(b"x")
        index = TreeIndex(scan(root))
        request = ask("thinobject", split)
        ((_, match),) = choose(discover(index, [request]), index.tree)
        return pair_found(index, request, match)

    @pytest.mark.parametrize(
        "text",
        [
            b"a.png\nb.png\n",  # as released
            b"a.png\nb.png",  # no end of line at the end
            b"a.png\r\nb.png\r\n",  # Windows
            b"\xef\xbb\xbfa.png\nb.png\n",  # a byte order mark
            b"\n\na.png\n\n  \nb.png\n\n",  # blank lines
            b"  a.png \n\tb.png\n",  # blanks around
            b"a.jpg\nb.jpg\n",  # images instead of masks
            b"a\nb\n",  # stems
            b"b.png\na.png\n",  # another order
        ],
    )
    def test_a_list_names_the_pairs_of_its_split(self, tmp_path: Path, text: bytes) -> None:
        found = self.paired(tmp_path, {"train": text, "val": b"c.png\n"}, "abc")
        assert names(found) == ["a", "b"]
        assert found.problems == ()

    @pytest.mark.parametrize("line", [b"a.b.png", b"a.b"])
    def test_a_dot_in_a_stem_is_no_suffix(self, tmp_path: Path, line: bytes) -> None:
        found = self.paired(tmp_path, {"train": line}, ["a.b"])
        assert (names(found), found.problems) == (["a.b"], ())

    def test_a_line_given_twice_is_reported_and_counts_once(self, tmp_path: Path) -> None:
        found = self.paired(tmp_path, {"train": b"a.png\nb.png\na.png\n"}, "ab")
        assert names(found) == ["a", "b"]
        assert problems(found) == [("duplicate_key", "a.png")]

    def test_a_line_without_files_is_reported(self, tmp_path: Path) -> None:
        found = self.paired(tmp_path, {"train": b"a.png\nb.png\n"}, "a")
        assert names(found) == ["a"]
        assert problems(found) == [("missing_image", "b.png")]

    def test_files_in_no_list_are_strays(self, tmp_path: Path) -> None:
        lists = {"train": b"a.png\n", "val": b"b.png\n", "test": b"c.png\n"}
        found = self.paired(tmp_path, lists, "abcd")
        assert names(found) == ["a"]
        assert problems(found) == [
            ("stray_file", "ThinObject5K/images/d.jpg"),
            ("stray_file", "ThinObject5K/masks/d.png"),
        ]

    def test_each_split_has_its_own_list(self, tmp_path: Path) -> None:
        lists = {"train": b"a.png\n", "test": b"c.png\n"}
        assert names(self.paired(tmp_path, lists, "ac", "test")) == ["c"]

    @pytest.mark.parametrize("data", [b"\xff\xfea\x00", b"\x80"])
    def test_a_list_that_is_no_text_is_the_users_to_mend(self, tmp_path: Path, data: bytes) -> None:
        with pytest.raises(UserError, match=r"list cannot be read[\s\S]*list/train\.txt"):
            self.paired(tmp_path, {"train": data}, "a")

    def test_a_list_larger_than_any_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from hqdata.sources import discover as module

        monkeypatch.setattr(module, "MAX_LIST_BYTES", 10)
        with pytest.raises(UserError, match="11 bytes are too many"):
            self.paired(tmp_path, {"train": b"a" * 11}, "a")


class TestKeyCollisions:
    @staticmethod
    def pairings(**stems: list[str]) -> dict[tuple[str, str], Pairing]:
        folders = {"train": "DIS-TR", "te1": "DIS-TE1"}
        return {
            ("dis", split): paired(
                ask("dis", split),
                [
                    f"{folders[split]}/{d}/{n}.{s}"
                    for n in of
                    for d, s in (("im", "jpg"), ("gt", "png"))
                ],
            )
            for split, of in stems.items()
        }

    def test_different_keys_are_left_as_they_are(self) -> None:
        given = self.pairings(train=["a", "b"], te1=["c"])
        assert find_duplicate_keys(given) is given

    def test_names_that_differ_in_case_alone_collide(self) -> None:
        found = find_duplicate_keys(self.pairings(train=["a", "A", "b"]))[("dis", "train")]
        assert names(found) == ["b"]
        assert sorted(problems(found)) == [
            ("duplicate_key", "DIS-TR/im/A.jpg"),
            ("duplicate_key", "DIS-TR/im/a.jpg"),
        ]

    def test_a_name_in_two_splits_collides(self) -> None:
        """A key is unique in the whole data set; each side names the other."""
        found = find_duplicate_keys(self.pairings(train=["a", "b"], te1=["a"]))
        assert names(found["dis", "train"]) == ["b"]
        assert names(found["dis", "te1"]) == []
        (problem,) = found["dis", "te1"].problems
        assert (problem.split, problem.image) == ("te1", "DIS-TE1/im/a.jpg")
        assert "DIS-TR/im/a.jpg" in problem.message


FILE_NAMES = st.builds(
    "{}.{}".format,
    st.sampled_from(["a", "b", "A", "a.jpg", "c d", "é", "x#1"]),
    st.sampled_from(["jpg", "JPG", "jpeg", "png", "PNG", "txt", "json", "bmp", "jpg.part"]),
)


def of_stem(paths: Iterable[str]) -> set[str]:
    return {path.rsplit(".", 1)[0] for path in paths}


class TestNothingIsLost:
    """Every file of a random folder ends up in exactly one of pairs, problems and dropped."""

    defects = (
        {"source": "dis", "file": "a.bmp", "action": "drop", "reason": "r"},
        {"source": "dis", "name": "b", "action": "drop", "reason": "r"},
        {"source": "msra", "file": "a.bmp", "action": "drop", "reason": "r"},
        {"source": "msra", "name": "b", "action": "drop", "reason": "r"},
    )

    @given(st.sets(FILE_NAMES), st.sets(FILE_NAMES))
    def test_of_two_folders(self, images: set[str], masks: set[str]) -> None:
        images, masks = images | {"z.jpg"}, masks | {"z.png"}
        request = ask("dis", "train", defects=self.defects)
        found = paired(request, dis(*(f"im/{n}" for n in images), *(f"gt/{n}" for n in masks)))
        self.check(found, images, masks)

    @given(st.sets(FILE_NAMES.filter(lambda name: not name.endswith(("bmp",)))))
    def test_of_one_folder_of_both(self, files: set[str]) -> None:
        files |= {"z.jpg", "z.png"}
        request = ask("msra", "all", defects=self.defects)
        found = paired(request, [f"MSRA_10K/{name}" for name in files])
        images = {n for n in files if suffix_of(n) in (".jpg", ".jpeg")}
        masks = {n for n in files if suffix_of(n) == ".png"}
        self.check(found, images, masks, strays=files - images - masks)

    @staticmethod
    def check(
        found: Pairing, images: set[str], masks: set[str], strays: set[str] | None = None
    ) -> None:
        def base(path: str) -> str:
            return path.rsplit("/", 1)[-1]

        if strays is None:
            strays = {n for n in images if suffix_of(n) not in IMAGE_SUFFIXES}
            expected = sorted(strays) + sorted(
                n for n in masks if suffix_of(n) not in IMAGE_SUFFIXES
            )
        else:
            expected = sorted(strays)
        reported = [p for p in found.problems if p.kind.value == "stray_file"]
        assert sorted(base(p.image) for p in reported) == sorted(expected)

        dropped_files = {name for name, _ in found.dropped if name == "a.bmp"}
        assert dropped_files == ({"a.bmp"} & (images | masks))
        pictures = {n for n in images | masks if suffix_of(n) in IMAGE_SUFFIXES} - dropped_files
        outcomes = [
            *(p.name for p in found.pairs),
            *(
                base(p.image or p.mask).rsplit(".", 1)[0]
                for p in found.problems
                if p not in reported
            ),
            *(name for name, _ in found.dropped if name not in dropped_files),
        ]
        assert sorted(outcomes) == sorted(of_stem(pictures))
        assert found.lost == sum(name == "b" for name, _ in found.dropped)
        assert all(isinstance(p, Problem) for p in found.problems)
        for item in found.pairs:
            assert base(item.image.path) in images and base(item.mask.path) in masks


def test_refused_members_of_an_archive_are_problems_of_the_splits_read_from_it(
    tmp_path: Path,
) -> None:
    import zipfile

    for name in ("DIS5K.zip", "other.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("../out.jpg", "x")
            if name == "DIS5K.zip":
                archive.writestr("DIS-TR/im/a.jpg", "x")
                archive.writestr("DIS-TR/gt/a.png", "x")
    index = TreeIndex(scan(tmp_path))
    ((_, match),) = choose(discover(index, [DIS]), index.tree)
    found = pair_found(index, DIS, match)
    assert names(found) == ["a"]
    assert problems(found) == [("bad_member", "DIS5K.zip: ../out.jpg")]
