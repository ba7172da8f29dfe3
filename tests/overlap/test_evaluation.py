"""Finding evaluation sets: what users have on disk, and what is said of what they lack."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from hqdata.errors import AmbiguousSourceError, UserError
from hqdata.overlap.evaluation import EvaluationSource, Missing, find_evaluation
from hqdata.overlap.targets import find_target
from hqdata.progress import Silent
from support.pictures import encode, photo

JPEG = encode(photo(0, 32, 24))


def find(
    root: Path, *targets: str, folders: Sequence[Path] = (), **options: object
) -> tuple[list[EvaluationSource], list[Missing]]:
    return find_evaluation(
        targets,
        root,
        fingerprint_folders=folders,
        reporter=Silent(),
        **options,  # type: ignore[arg-type]
    )


def find_one(root: Path, target: str, **options: object) -> EvaluationSource:
    sources, missing = find(root, target, **options)
    assert not missing, str(missing[0])
    (source,) = sources
    return source


def put(root: Path, *names: str, data: bytes = JPEG) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def names(source: EvaluationSource) -> list[str]:
    return [picture.name for picture in source.pictures]


class TestImageOnlySets:
    def test_real_coco_in_its_official_layout(self, real_data: Path) -> None:
        source = find_one(real_data, "coco-val2017")
        assert len(source.pictures) == 100
        assert names(source)[0] == "val2017/000000010092.jpg"
        assert source.problems == ("100 pictures are there, 5,000 belong to it",)

    def test_real_davis_has_all_sequences_of_2016(self, real_data: Path) -> None:
        source = find_one(real_data, "davis2016", subset=True)
        assert (len(source.pictures), source.problems) == (186, ())
        assert names(source)[0] == "JPEGImages/480p/blackswan/00000.jpg"

    def test_real_davis_lacks_sequences_of_2017(self, real_data: Path) -> None:
        (problem,) = find_one(real_data, "davis2017", subset=True).problems
        assert problem.startswith("10 of its 30 folders are not there: bike-packing, ")

    def test_only_sequences_of_the_split_are_taken(self, tmp_path: Path) -> None:
        put(tmp_path, "DAVIS/JPEGImages/480p/bear/00000.jpg")
        put(tmp_path, "DAVIS/JPEGImages/480p/camel/00000.jpg")
        assert names(find_one(tmp_path, "davis2016")) == ["JPEGImages/480p/camel/00000.jpg"]

    @pytest.mark.parametrize("how", ["folder", "zip", "tar.gz"])
    def test_a_set_is_found_in_the_archive_it_comes_in(self, tmp_path: Path, how: str) -> None:
        put(tmp_path / "made", "val2017/000000000139.jpg", "val2017/000000000285.jpg")
        root = tmp_path / "data"
        root.mkdir()
        if how == "folder":
            shutil.copytree(tmp_path / "made", root / "coco" / "images")
        elif how == "zip":
            with zipfile.ZipFile(root / "val2017.zip", "w") as archive:
                for path in (tmp_path / "made").rglob("*.jpg"):
                    archive.write(path, path.relative_to(tmp_path / "made"))
        else:
            with tarfile.open(root / "val2017.tar.gz", "w:gz") as archive:
                archive.add(tmp_path / "made" / "val2017", "val2017")
        assert names(find_one(root, "coco")) == [
            "val2017/000000000139.jpg",
            "val2017/000000000285.jpg",
        ]

    def test_all_the_small_sets_of_sginw_count(self, tmp_path: Path) -> None:
        put(tmp_path, "seginw/Cows/valid/a.jpg", "seginw/Cows/train/b.jpg")
        put(tmp_path, "seginw/Rail/valid/a.jpg", "seginw/mine/valid/a.jpg")
        source = find_one(tmp_path, "sginw")
        assert names(source) == ["seginw/Cows/valid/a.jpg", "seginw/Rail/valid/a.jpg"]
        assert source.problems[0].startswith("23 of its 25 folders are not there")

    def test_a_layout_of_two_folders_is_not_whole_with_one(self, tmp_path: Path) -> None:
        put(tmp_path, "NDD20/ABOVE/1.jpg")
        source = find_one(tmp_path, "ndd20", subset=True)
        assert source.problems == ("nothing lies where NDD20/BELOW/* is looked for",)
        put(tmp_path, "NDD20/BELOW/1.jpg")
        assert find_one(tmp_path, "ndd20", subset=True).problems == ()

    def test_videos_are_counted_by_their_folders(self, tmp_path: Path) -> None:
        put(tmp_path, "ytvis_2019/valid/JPEGImages/0a0b/00000.jpg")
        source = find_one(tmp_path, "youtube-vis-2019")
        assert source.problems == ("1 of its 302 folders are there",)
        assert find(tmp_path, "youtube-vis-2021")[1], "of another year"

    def test_a_missing_set_says_where_it_is_to_be_had(self, tmp_path: Path) -> None:
        (missing,) = find(tmp_path, "coco-val2017")[1]
        assert "http://images.cocodataset.org/zips/val2017.zip" in str(missing)
        assert "val2017/*.jpg" in str(missing)


class TestLists:
    LIST = json.dumps(
        {
            "images": [
                {"coco_url": "http://images.cocodataset.org/val2017/000000000139.jpg"},
                {"coco_url": "http://images.cocodataset.org/train2017/000000000009.jpg"},
            ]
        }
    ).encode()

    def test_lvis_is_what_its_list_says_of_the_folders_of_coco(self, tmp_path: Path) -> None:
        put(tmp_path, "coco/val2017/000000000139.jpg", "coco/val2017/000000000285.jpg")
        put(tmp_path, "coco/train2017/000000000009.jpg", "coco/train2017/000000000025.jpg")
        put(tmp_path, "lvis/lvis_v1_val.json", data=self.LIST)
        source = find_one(tmp_path, "lvis", expect={"lvis": 2})
        assert names(source) == ["train2017/000000000009.jpg", "val2017/000000000139.jpg"]
        assert source.problems == ()

    def test_listed_pictures_that_are_not_there_are_counted(self, tmp_path: Path) -> None:
        put(tmp_path, "coco/val2017/000000000139.jpg")
        with zipfile.ZipFile(tmp_path / "lvis_v1_val.json.zip", "w") as archive:
            archive.writestr("lvis_v1_val.json", self.LIST)
        source = find_one(tmp_path, "lvis", subset=True)
        assert names(source) == ["val2017/000000000139.jpg"]
        assert source.problems == ("1 of the 2 pictures it lists are not there",)

    @pytest.mark.parametrize(
        ("text", "said"), [(None, "is not there"), (b"{}", "names no pictures")]
    )
    def test_without_its_list_the_set_is_missing(
        self, tmp_path: Path, text: bytes | None, said: str
    ) -> None:
        put(tmp_path, "coco/val2017/000000000139.jpg", "coco/train2017/000000000009.jpg")
        if text is not None:
            put(tmp_path, "lvis_v1_val.json", data=text)
        (missing,) = find(tmp_path, "lvis")[1]
        assert "pictures are at" in missing.why
        assert said in missing.why

    def test_frames_of_hq_ytvis_are_found_among_those_of_youtube_vis(self, tmp_path: Path) -> None:
        put(tmp_path, "ytvis_2019/train/JPEGImages/0a0b/00000.jpg")
        put(tmp_path, "ytvis_2019/train/JPEGImages/0a0c/00000.jpg")
        text = json.dumps({"videos": [{"file_names": ["0a0c/00000.jpg"]}]}).encode()
        put(tmp_path, "annotations/ytvis_hq-test.json", data=text)
        source = find_one(tmp_path, "hq-ytvis")
        assert names(source) == ["ytvis_2019/train/JPEGImages/0a0c/00000.jpg"]


class TestSplitsOfDataSets:
    FOUR = ("dis/validation", "thinobject/test", "coift/all", "hrsod/all")

    @pytest.mark.parametrize("layout", ["official", "repack"])
    def test_the_four_sets_are_found(self, arranged: dict[str, Path], layout: str) -> None:
        sources, missing = find(arranged[layout], *self.FOUR, subset=True)
        assert not missing
        assert [s.set for s in sources] == list(self.FOUR)
        assert all(s.pictures and not s.problems for s in sources)

    def test_counts_are_held_against_the_manifest(self, arranged: dict[str, Path]) -> None:
        source = find_one(arranged["official"], "dis/validation")
        assert source.problems == (f"{len(source.pictures)} pictures are there, 470 belong to it",)
        told = {"dis/validation": len(source.pictures)}
        assert find_one(arranged["official"], "dis/validation", expect=told).problems == ()

    @pytest.mark.parametrize("layout", ["official", "repack"])
    def test_masks_need_not_be_there(
        self, arranged: dict[str, Path], layout: str, tmp_path: Path
    ) -> None:
        with_masks, _ = find(arranged[layout], *self.FOUR)
        root = tmp_path / "data"
        ignore = shutil.ignore_patterns("*.png")
        shutil.copytree(arranged[layout], root, ignore=ignore)
        without, missing = find(root, *self.FOUR)
        assert not missing
        assert [names(s) for s in without] == [names(s) for s in with_masks]

    def test_names_are_those_of_the_release(self, arranged: dict[str, Path]) -> None:
        source = find_one(arranged["repack"], "hrsod")
        assert names(source)[0].startswith("HRSOD/images/2")

    def test_the_list_of_a_split_decides(self, tmp_path: Path) -> None:
        put(tmp_path, "ThinObject5K/images/a.jpg", "ThinObject5K/images/b.jpg")
        (missing,) = find(tmp_path, "thinobject")[1]
        assert "the list ThinObject5K/list/test.txt is not there" in missing.why
        put(tmp_path, "ThinObject5K/list/test.txt", data=b"b.png\n")
        assert names(find_one(tmp_path, "thinobject")) == ["ThinObject5K/images/b.jpg"]

    def test_identical_copies_in_both_layouts_are_one(
        self, arranged: dict[str, Path], tmp_path: Path
    ) -> None:
        for layout, root in arranged.items():
            shutil.copytree(root, tmp_path / layout)
        sources, missing = find(tmp_path, *self.FOUR)
        assert not missing
        alone, _ = find(arranged["official"], *self.FOUR)
        assert [len(s.pictures) for s in sources] == [len(s.pictures) for s in alone]

    def test_of_a_copy_and_a_part_of_it_the_whole_is_read(self, tmp_path: Path) -> None:
        put(tmp_path, "a/COIFT/images/1.jpg", "b/COIFT/images/1.jpg", "b/COIFT/images/2.jpg")
        assert find_one(tmp_path, "coift").where == "b/COIFT/images"

    def test_copies_with_other_pictures_are_a_question(self, tmp_path: Path) -> None:
        put(tmp_path, "a/COIFT/images/1.jpg", "a/COIFT/images/2.jpg")
        put(tmp_path, "b/COIFT/images/1.jpg", data=JPEG + b"\0")
        with pytest.raises(AmbiguousSourceError) as caught:
            find(tmp_path, "coift")
        assert "--use coift/all=a" in str(caught.value)
        source = find_one(tmp_path, "coift", use=["coift/all=a"])
        assert source.where == "a/COIFT/images"
        assert find_one(tmp_path, "coift", use=["coift=b"]).where == "b/COIFT/images"

    def test_the_same_is_asked_of_image_only_sets(self, tmp_path: Path) -> None:
        put(tmp_path, "a/val2017/1.jpg", "a/val2017/2.jpg")
        put(tmp_path, "b/val2017/3.jpg")
        with pytest.raises(AmbiguousSourceError, match="--use coco-val2017=a"):
            find(tmp_path, "coco")
        assert len(find_one(tmp_path, "coco", use=["coco=b"]).pictures) == 1


class TestFolders:
    def test_every_picture_below_a_folder_counts(self, tmp_path: Path) -> None:
        put(tmp_path / "mine", "a.jpg", "deep/er/b.PNG", "notes.txt", ".hidden.jpg")
        with zipfile.ZipFile(tmp_path / "mine" / "more.zip", "w") as archive:
            archive.writestr("c.webp", JPEG)
        source = find_one(tmp_path / "nowhere", str(tmp_path / "mine"))
        assert names(source) == ["a.jpg", "deep/er/b.PNG", "more.zip/c.webp"]
        assert source.set == f"folder:{tmp_path / 'mine'}"
        assert source.problems == ()

    def test_an_archive_can_be_named(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
            archive.writestr("x/c.jpg", JPEG)
        assert names(find_one(tmp_path, str(tmp_path / "mine.zip"))) == ["mine.zip/x/c.jpg"]

    def test_below_the_data_root(self, tmp_path: Path) -> None:
        put(tmp_path, "mine/test/a.jpg")
        source = find_one(tmp_path, "folder:mine/test")
        assert (source.set, names(source)) == ("folder:mine/test", ["a.jpg"])

    def test_a_name_comes_before_a_path(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(tmp_path, "coco/a.jpg")
        monkeypatch.chdir(tmp_path)
        assert find_target("coco", tmp_path).name == "coco-val2017"
        assert find_target("./coco", tmp_path).name == "folder:./coco"

    def test_an_empty_folder_is_told_loudly(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        source = find_one(tmp_path, str(tmp_path / "mine"))
        assert source.problems == ("there is not a single picture in it",)

    def test_links_to_nowhere_are_told(self, tmp_path: Path) -> None:
        put(tmp_path, "mine/a.jpg")
        (tmp_path / "mine" / "b.jpg").symlink_to("gone")
        (problem,) = find_one(tmp_path, str(tmp_path / "mine")).problems
        assert "links lead nowhere" in problem

    def test_links_to_nowhere_in_a_known_set_are_told_too(self, tmp_path: Path) -> None:
        put(tmp_path, "coco/val2017/a.jpg")
        (tmp_path / "coco" / "val2017" / "b.jpg").symlink_to("gone")
        (problem,) = find_one(tmp_path, "coco", subset=True).problems
        assert "links lead nowhere" in problem

    def test_an_unreadable_archive_is_told(self, tmp_path: Path) -> None:
        put(tmp_path, "mine/a.jpg")
        put(tmp_path, "mine/b.zip", data=b"PK no zip")
        (problem,) = find_one(tmp_path, str(tmp_path / "mine")).problems
        assert problem.startswith("b.zip is left alone")

    @pytest.mark.parametrize("name", ["./gone", "folder:gone", "/gone"])
    def test_a_path_that_is_not_there(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UserError, match="no such folder"):
            find(tmp_path, name)

    def test_a_file_that_is_no_folder(self, tmp_path: Path) -> None:
        put(tmp_path, "a.jpg")
        with pytest.raises(UserError, match="this is no folder"):
            find(tmp_path, str(tmp_path / "a.jpg"))


def test_one_set_named_twice_is_one(tmp_path: Path) -> None:
    put(tmp_path, "val2017/a.jpg")
    assert len(find(tmp_path, "coco", "coco-val2017", "COCO")[0]) == 1


def test_a_bare_name_means_the_split_for_evaluation(tmp_path: Path) -> None:
    assert find_target("dis", tmp_path).name == "dis/validation"
    assert find_target("ThinObject5K", tmp_path).name == "thinobject/test"
    with pytest.raises(UserError, match="which split"):
        find_target("duts", tmp_path)


def test_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'coco-val2017'"):
        find(tmp_path, "coco-val2071")
