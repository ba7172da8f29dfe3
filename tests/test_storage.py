"""A data root as one tree: folders, links, files that change, and what is passed over."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqdata import scan as scan_module
from hqdata import storage
from hqdata.errors import UserError
from hqdata.problems import Problem, ProblemKind, read_jsonl, to_jsonl
from hqdata.scan import scan
from hqdata.storage import (
    ARCHIVE_SUFFIXES,
    DamagedFileError,
    FileReader,
    FileRef,
    Tree,
    archive_stem,
    printable,
)


def put(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def paths(tree: Tree) -> list[str]:
    return [f"{folder.path}/{name}" for folder in tree.folders for name in folder.files]


def only(tree: Tree) -> FileRef:
    """The one file of a tree."""
    (folder,) = tree.folders
    (ref,) = folder.files.values()
    return ref


class TestScan:
    def test_lists_every_file_under_its_folder(self, tmp_path: Path) -> None:
        for name in ("a.jpg", "d/b.jpg", "d/e/c.png"):
            put(tmp_path / name)
        tree = scan(tmp_path)
        assert paths(tree) == ["./a.jpg", "d/b.jpg", "d/e/c.png"]
        assert [folder.archive for folder in tree.folders] == ["", "", ""]

    def test_an_archive_is_a_folder_that_knows_it_is_one(self, tmp_path: Path) -> None:
        import zipfile

        (tmp_path / "d").mkdir()
        with zipfile.ZipFile(tmp_path / "d" / "s.zip", "w") as archive:
            archive.writestr("e/a.jpg", "1")
        (folder,) = scan(tmp_path).folders
        assert folder.parts == ("d", "s.zip", "e")
        assert folder.is_archive == (False, True, False)
        assert folder.archive == "d/s.zip"

    def test_each_archive_is_announced_before_it_is_listed(self, tmp_path: Path) -> None:
        put(tmp_path / "d" / "s.zip", b"no zip")
        told: list[tuple[str, int]] = []
        scan(tmp_path, on_archive=lambda path, num_bytes: told.append((path, num_bytes)))
        assert told == [("d/s.zip", 6)]

    @pytest.mark.parametrize(
        "name",
        [
            ".DS_Store",  # macOS
            "._a.jpg",  # macOS on foreign disks
            "Thumbs.db",  # Windows
            "desktop.ini",  # Windows
            "__MACOSX/a.jpg",  # macOS in zips
            "lost+found/a.jpg",  # a disk's root
            ".cache/a.jpg",  # hidden folders
        ],
    )
    def test_droppings_are_passed_over(self, tmp_path: Path, name: str) -> None:
        put(tmp_path / "d" / name)
        put(tmp_path / "d" / "a.jpg")
        assert paths(scan(tmp_path)) == ["d/a.jpg"]

    def test_linked_folders_and_files_are_followed(self, tmp_path: Path) -> None:
        """Data roots on clusters are made of links."""
        root, other = tmp_path / "root", tmp_path / "other"
        put(other / "d" / "a.jpg")
        root.mkdir()
        (root / "linked").symlink_to(other / "d")
        (root / "b.jpg").symlink_to(other / "d" / "a.jpg")
        assert paths(scan(root)) == ["./b.jpg", "linked/a.jpg"]

    def test_the_root_may_be_a_link(self, tmp_path: Path) -> None:
        put(tmp_path / "real" / "a.jpg")
        (tmp_path / "root").symlink_to("real")
        assert paths(scan(tmp_path / "root")) == ["./a.jpg"]

    @pytest.mark.parametrize(
        "target",
        [
            "..",  # the root
            ".",  # the folder itself
            "../d/e",  # a folder below
            "loop",  # the link itself
            "nowhere",  # a dangling link
        ],
    )
    def test_links_in_circles_end(self, tmp_path: Path, target: str) -> None:
        put(tmp_path / "d" / "e" / "a.jpg")
        (tmp_path / "d" / "loop").symlink_to(target)
        assert paths(scan(tmp_path)) == ["d/e/a.jpg"]

    def test_a_folder_that_two_paths_lead_to_counts_once(self, tmp_path: Path) -> None:
        """Else a link beside the folder would make every split ambiguous."""
        put(tmp_path / "d" / "a.jpg")
        (tmp_path / "z").symlink_to("d")
        assert paths(scan(tmp_path)) == ["d/a.jpg"]

    def test_what_is_neither_file_nor_folder_is_passed_over(self, tmp_path: Path) -> None:
        put(tmp_path / "a.jpg")
        os.mkfifo(tmp_path / "pipe.jpg")
        with socket.socket(socket.AF_UNIX) as unix:
            here = Path.cwd()
            os.chdir(tmp_path)  # the path of a socket is short
            try:
                unix.bind("socket.jpg")
            finally:
                os.chdir(here)
            assert paths(scan(tmp_path)) == ["./a.jpg"]

    @pytest.mark.parametrize(
        "marks",
        [
            (".hqdata/lock",),  # being built
            ("dataset.json", "samples.parquet"),  # finished, fetched from elsewhere
        ],
    )
    def test_a_data_set_built_below_the_data_root_is_not_a_source(
        self, tmp_path: Path, marks: tuple[str, ...]
    ) -> None:
        for mark in marks:
            put(tmp_path / "shards" / mark)
        put(tmp_path / "shards" / "dis" / "train-00000-of-00001.tar")
        put(tmp_path / "a.jpg")
        tree = scan(tmp_path)
        assert paths(tree) == ["./a.jpg"]
        assert tree.unreadable == {}

    def test_a_file_that_happens_to_be_called_dataset_json_hides_nothing(
        self, tmp_path: Path
    ) -> None:
        put(tmp_path / "dataset.json")
        put(tmp_path / "a.jpg")
        assert paths(scan(tmp_path)) == ["./a.jpg", "./dataset.json"]

    def test_a_dataset_json_of_somebody_else_hides_nothing(self, tmp_path: Path) -> None:
        put(tmp_path / "d" / "dataset.json")
        put(tmp_path / "d" / "a.jpg")
        assert paths(scan(tmp_path)) == ["d/a.jpg", "d/dataset.json"]

    def test_links_that_lead_nowhere_are_told_of(self, tmp_path: Path) -> None:
        """A git-annex checkout whose pictures were never fetched looks like that."""
        put(tmp_path / "im" / "a.jpg")
        for name in ("b.jpg", "c.jpg"):
            (tmp_path / "im" / name).symlink_to("../.git/annex/objects/x")
        tree = scan(tmp_path)
        assert paths(tree) == ["im/a.jpg"]
        assert tree.unreadable["im"].startswith("2 links lead nowhere, e.g. 'b.jpg'")

    @pytest.mark.parametrize("kind", ["missing", "file"])
    def test_a_root_that_is_no_folder_is_the_users_mistake(self, tmp_path: Path, kind: str) -> None:
        root = tmp_path / "root"
        if kind == "file":
            put(root)
        with pytest.raises(UserError, match=r"is not a folder[\s\S]*--data-root"):
            scan(root)

    def test_a_folder_that_cannot_be_read_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Passing it over would end as a missing source."""
        put(tmp_path / "locked" / "a.jpg")
        real = os.scandir

        def scandir(path: Path) -> object:
            if path.name == "locked":
                raise PermissionError(13, "Permission denied")
            return real(path)

        monkeypatch.setattr(scan_module.os, "scandir", scandir)
        with pytest.raises(UserError, match=r"Permission denied[\s\S]*locked[\s\S]*permissions"):
            scan(tmp_path)

    def test_a_name_that_is_no_utf8_is_spelt_out_and_still_opens(self, tmp_path: Path) -> None:
        put(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9/\xff.jpg")), b"123")
        tree = scan(tmp_path)
        assert paths(tree) == ["caf%E9/%FF.jpg"]
        with FileReader() as reader:
            assert reader.read(only(tree)) == b"123"

    def test_the_order_is_that_of_the_names(self, tmp_path: Path) -> None:
        names = ["b/2.jpg", "a/1.jpg", "b/10.jpg", "B/1.jpg", "a/b/1.jpg"]
        for name in names:
            put(tmp_path / name)
        found = [folder.path for folder in scan(tmp_path).folders]
        assert found == ["B", "a", "a/b", "b"]


class TestFileReader:
    def test_reads_a_file_whole(self, tmp_path: Path) -> None:
        put(tmp_path / "a.jpg", b"12345")
        with FileReader() as reader:
            assert reader.read(only(scan(tmp_path))) == b"12345"

    @pytest.mark.parametrize(
        ("now", "message"),
        [
            (None, "No such file"),  # vanished
            (b"1234", "has 4 bytes where 5 are listed"),  # shorter
            (b"", "has 0 bytes where 5 are listed"),  # emptied
            (b"123456", "where 5 are listed"),  # longer
        ],
    )
    def test_a_file_that_changed_since_it_was_listed_is_damaged(
        self, tmp_path: Path, now: bytes | None, message: str
    ) -> None:
        path = put(tmp_path / "a.jpg", b"12345")
        ref = only(scan(tmp_path))
        path.unlink()
        if now is not None:
            put(path, now)
        with FileReader() as reader, pytest.raises(DamagedFileError, match=message):
            reader.read(ref)

    def test_a_folder_in_the_place_of_a_file_is_damage(self, tmp_path: Path) -> None:
        path = put(tmp_path / "a.jpg")
        ref = only(scan(tmp_path))
        path.unlink()
        path.mkdir()
        with FileReader() as reader, pytest.raises(DamagedFileError, match="directory"):
            reader.read(ref)

    def test_a_file_above_the_limit_is_not_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(tmp_path / "a.jpg", b"12345")
        ref = only(scan(tmp_path))
        with FileReader() as reader:
            monkeypatch.setattr(storage, "MAX_FILE_BYTES", 5)
            assert reader.read(ref) == b"12345"
            monkeypatch.setattr(storage, "MAX_FILE_BYTES", 4)
            with pytest.raises(DamagedFileError, match="5 bytes are more than the limit of 4"):
                reader.read(replace(ref, container="/nowhere"))

    def test_keeps_few_archives_open_and_closes_them_all(self, tmp_path: Path) -> None:
        refs = []
        for number in range(5):
            path = put(tmp_path / f"{number}", b"%d" % number)
            refs.append(FileRef(str(path), "range", 0, 1, 1, -1, ""))
        before = len(os.listdir("/proc/self/fd"))
        with FileReader(max_open=2) as reader:
            for _ in range(2):
                assert [reader.read(ref) for ref in refs] == [b"0", b"1", b"2", b"3", b"4"]
                assert len(os.listdir("/proc/self/fd")) <= before + 2
        assert len(os.listdir("/proc/self/fd")) == before

    def test_the_stamp_changes_with_the_file(self, tmp_path: Path) -> None:
        path = put(tmp_path / "a.jpg", b"12345")
        first = only(scan(tmp_path)).stamp
        assert only(scan(tmp_path)).stamp == first
        os.utime(path, ns=(1, 1))
        second = only(scan(tmp_path)).stamp
        put(path, b"1234")
        os.utime(path, ns=(1, 1))
        assert len({first, second, only(scan(tmp_path)).stamp}) == 3


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("DIS5K.zip", "DIS5K"),
        ("a.TAR.GZ", "a"),  # any case
        ("a.tgz", "a"),
        ("a.b.tar", "a.b"),  # dots in the stem
        (".zip", None),  # nothing before the suffix
        ("a.zip.jpg", None),  # a picture
        ("zip", None),
        ("a.gz", None),  # one compressed file is no archive
    ],
)
def test_archives_are_known_by_their_suffix(name: str, stem: str | None) -> None:
    assert archive_stem(name) == stem


@given(st.text(min_size=1), st.sampled_from(ARCHIVE_SUFFIXES))
def test_the_stem_is_all_before_the_suffix(stem: str, suffix: str) -> None:
    assert archive_stem(stem + suffix) == stem


@given(st.binary())
def test_any_file_name_can_be_printed(raw: bytes) -> None:
    """And one that is UTF-8 stays as it is."""
    name = raw.decode("utf-8", "surrogateescape")
    shown = printable(name)
    assert shown.encode().decode() == shown
    assert (shown == name) == (raw.decode("utf-8", "replace").encode() == raw)


class TestProblemFile:
    problems = st.lists(
        st.builds(
            Problem,
            *[st.text(st.characters(), max_size=8)] * 4,
            st.sampled_from(ProblemKind),
            st.text(st.characters()),
        ),
        max_size=4,
    )

    @given(problems)
    def test_problems_survive_their_file_whatever_the_names(
        self, tmp_path_factory: pytest.TempPathFactory, problems: list[Problem]
    ) -> None:
        """Line separators, control characters and lone surrogates included."""
        path = tmp_path_factory.getbasetemp() / "problems.jsonl"
        path.write_bytes(to_jsonl(problems).encode())
        assert read_jsonl(path) == sorted(problems, key=Problem.sort_key)

    @pytest.mark.parametrize(
        "text",
        [
            "{",  # cut short
            "[]",  # not a row
            "1",
            "{}",  # a row without fields
            '{"kind": "no_such_kind"}',
            '{"kind": "stray_file", "unknown": ""}',
        ],
    )
    def test_another_file_is_no_list_of_problems(self, tmp_path: Path, text: str) -> None:
        from hqdata.errors import DatasetError

        path = put(tmp_path / "problems.jsonl", text.encode())
        with pytest.raises(DatasetError, match="cannot be read"):
            read_jsonl(path)
