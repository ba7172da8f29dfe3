"""What `hqdata sources` shows: every set found or missing, and what to do about it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from rich.console import Console

from hqdata.catalogue.registry import load_manifests
from hqdata.errors import UserError
from hqdata.overview import EVALUATION_SPLITS, TRAINING_SPLITS, Line, Overview, overview
from hqdata.progress import Silent


def put(root: Path, *files: str, data: bytes = b"x") -> None:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def see(root: Path, *use: str) -> Overview:
    return overview(root, list(use), Silent())


def line(view: Overview, source: str, split: str = "all") -> Line:
    (found,) = [item for item in view.lines if (item.source, item.split) == (source, split)]
    return found


def notes(view: Overview) -> str:
    return "\n".join(view.notes)


def shown(view: Overview) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(view.table())
    return console.export_text()


def test_every_split_of_every_set_has_a_line(tmp_path: Path) -> None:
    """Training sets first, then evaluation sets, then what neither needs."""
    view = see(tmp_path)
    expected = {(s, split) for s, m in load_manifests().items() for split in m.splits}
    assert {(item.source, item.split) for item in view.lines} == expected
    assert len(view.lines) == len(expected)
    uses = [item.use for item in view.lines]
    assert uses == sorted(uses, key=["training", "evaluation", ""].index)
    assert (uses.count("training"), uses.count("evaluation")) == (
        len(TRAINING_SPLITS),
        len(EVALUATION_SPLITS),
    )


class TestNothingThere:
    def test_says_where_each_set_is_to_be_had(self, tmp_path: Path) -> None:
        view = see(tmp_path)
        assert {item.status for item in view.lines} == {"missing"}
        assert not view.all_found
        for name, manifest in load_manifests().items():
            assert f"{name}: {manifest.title}, {manifest.home}" in notes(view)
            assert all(archive.name in notes(view) for archive in manifest.archives)

    def test_offers_a_try_out_without_data(self, tmp_path: Path) -> None:
        assert "hqdata mini" in notes(see(tmp_path))

    def test_the_default_data_root_need_not_exist(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert {item.status for item in see(Path("data")).lines} == {"missing"}

    def test_any_other_has_to(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"is not a folder[\s\S]*HQDATA_ROOT"):
            see(tmp_path / "nowhere")


class TestFound:
    def test_says_layout_place_and_pairs_against_the_expected(self, tmp_path: Path) -> None:
        put(tmp_path, "D/DIS-TR/im/a.jpg", "D/DIS-TR/gt/a.png", "D/DIS-TR/im/b.jpg")
        found = line(see(tmp_path), "dis", "train")
        assert (found.status, found.layout, found.where) == (
            "found",
            "official",
            "D/DIS-TR/{im,gt}",
        )
        assert (found.pairs, found.expected, found.odd_files) == (1, 3000, 1)

    def test_names_that_a_small_copy_lacks_are_not_counted_as_odd(self, tmp_path: Path) -> None:
        put(tmp_path, "ecssd/0001.jpg", "ecssd/0001.png")
        found = line(see(tmp_path), "ecssd")
        assert (found.pairs, found.odd_files) == (1, 0)

    def test_what_is_found_needs_no_advice(self, tmp_path: Path) -> None:
        put(tmp_path, "ecssd/0001.jpg", "ecssd/0001.png")
        assert "ecssd:" not in notes(see(tmp_path))
        assert "hqdata mini" not in notes(see(tmp_path))

    def test_splits_that_nobody_needs_are_not_advised(self, tmp_path: Path) -> None:
        put(tmp_path, *(f"DIS-{s}/{f}" for s in ("TR", "VD") for f in ("im/a.jpg", "gt/a.png")))
        view = see(tmp_path)
        assert line(view, "dis", "te1").status == "missing"
        assert "dis:" not in notes(view)

    def test_real_pictures_in_the_official_layouts_are_all_found(
        self, arranged: dict[str, Path]
    ) -> None:
        view = see(arranged["official"])
        training = [item for item in view.lines if item.use == "training"]
        assert {item.status for item in training} == {"found"}
        assert all(item.pairs for item in training)

    @pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
    def test_a_list_in_a_compressed_archive_is_read_while_it_is_listed(
        self, tmp_path: Path, suffix: str
    ) -> None:
        """Without it every file would be a stray."""
        path = tmp_path / f"ThinObject5K.{suffix}"
        with tarfile.open(path, "w:gz" if suffix == "tar.gz" else "w") as tar:
            for name, data in {
                "images/a.jpg": b"x",
                "masks/a.png": b"x",
                "list/train.txt": b"a.png\n",
            }.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        view = see(tmp_path)
        found = line(view, "thinobject", "train")
        assert (found.status, found.odd_files) == ("found", 0)
        assert found.pairs == 1


class TestNotSimplyFound:
    def test_several_places_are_shown_with_a_way_to_choose(self, tmp_path: Path) -> None:
        put(tmp_path, *(f"{d}/fss/x/1.{s}" for d in "ab" for s in ("jpg", "png")))
        put(tmp_path, *(f"{d}/fss/y/1.{s}" for d in "ab" for s in ("jpg", "png")))
        view = see(tmp_path)
        found = line(view, "fss")
        assert (found.status, found.where) == (
            "several",
            "a/fss (2 folders) · b/fss (2 folders)",
        )
        assert "fss (all) lies in several places; choose with, e.g., --use fss=a" in notes(view)
        chosen = line(see(tmp_path, "fss=a"), "fss")
        assert (chosen.status, chosen.pairs) == ("found", 2)

    def test_images_without_masks_are_said_to_be_there(self, tmp_path: Path) -> None:
        put(tmp_path, "x/ecssd/0001.jpg")
        view = see(tmp_path)
        found = line(view, "ecssd")
        assert (found.status, found.where) == ("no masks", "x/ecssd")
        assert "ecssd: ECSSD" in notes(view)

    def test_archives_that_cannot_be_read_are_named_with_the_reason(self, tmp_path: Path) -> None:
        put(tmp_path, "d/DIS5K.zip", data=b"PK\x03\x04 and no more")
        assert "d/DIS5K.zip is left alone: it is no complete zip file" in notes(see(tmp_path))

    def test_an_unknown_source_to_use_is_answered(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="did you mean 'dis'"):
            see(tmp_path, "dsi=a")


def test_all_found_asks_for_training_and_evaluation_splits_only() -> None:
    def view(status: str, use: str) -> Overview:
        one = Line("dis", "te1", use, status, "", "", 0, 1, 0)
        return Overview((Line("dis", "train", "training", "found", "", "", 1, 1, 0), one), ())

    assert view("missing", "").all_found
    assert not view("missing", "training").all_found
    assert not view("several", "evaluation").all_found
    assert not view("no masks", "evaluation").all_found


def test_the_table_has_a_row_a_split(tmp_path: Path) -> None:
    put(tmp_path, "ecssd/0001.jpg", "ecssd/0001.png", "ecssd/2.txt")
    view = see(tmp_path)
    text = shown(view)
    rows = [row for row in text.splitlines() if " missing " in row or " found " in row]
    assert len(rows) == len(view.lines) + len(view.archives)
    (row,) = [row for row in rows if " found " in row]
    assert "1 (+1 odd)" in row and "1,000" in row and "sam-hq repack" in row


class TestArchivesToDrawFrom:
    """SA-1B is counted by the names of its archives, none of which is opened."""

    def test_none_are_needed(self, tmp_path: Path) -> None:
        (found,) = see(tmp_path).archives
        assert (found.source, found.split, found.status) == ("sa1b", "train", "missing")
        assert (found.archives, found.expected) == (0, 1000)
        assert "sa1b: SA-1B" in notes(see(tmp_path)) and "11.3 TB" in notes(see(tmp_path))
        assert "1,000 tars" in shown(see(tmp_path))

    def test_some_are_a_sample_of_some(self, tmp_path: Path) -> None:
        """What is in them is no tar at all: nobody looks."""
        put(tmp_path, "sa-1b/sa_000020.tar", "sa-1b/sa_000021.tar", data=b"no tar" * 100)
        put(tmp_path, "sa-1b/sa_000022/sa_5.jpg", "sa-1b/sa_000022/sa_5.json")
        view = see(tmp_path)
        (found,) = view.archives
        assert (found.status, found.archives, found.where) == ("some", 3, "sa-1b")
        assert found.num_bytes == 1202
        assert "drawn of the 3 archives that are there, not of all 1,000" in notes(view)
        assert "left alone" not in notes(view)  # the pairs' own scan passes them by
        assert "3 tars" in shown(view)

    def test_one_that_lies_there_twice_is_a_question(self, tmp_path: Path) -> None:
        put(tmp_path, "a/sa_000020.tar", "b/sa_000020.tar")
        view = see(tmp_path)
        assert view.archives[0].status == "several"
        assert "a/sa_000020.tar and b/sa_000020.tar" in notes(view)

    def test_all_are_found(self, tmp_path: Path) -> None:
        put(tmp_path, *(f"sa_{number:06d}.tar" for number in range(1000)))
        (found,) = see(tmp_path).archives
        assert (found.status, found.archives, found.where) == ("found", 1000, ".")
        assert "sa1b" not in notes(see(tmp_path))
