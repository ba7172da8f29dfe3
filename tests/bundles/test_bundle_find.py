"""Finding SA-1B below a data root: by names alone, nothing opened, nothing twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hqdata.bundles.find import find_bundles
from hqdata.errors import UserError
from support.sa1b import make_bundle


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"never looked at")
    return path


def test_archives_and_folders_are_found_by_name_at_any_depth(tmp_path: Path) -> None:
    touch(tmp_path / "deep/down/sa_000002.tar")
    touch(tmp_path / "SA_000001.TGZ")
    touch(tmp_path / "sa_000003.tar.gz")
    make_bundle(tmp_path / "unpacked/sa_000000", [5, 6], kind="folder", num_masks=1)
    found = find_bundles(tmp_path)
    assert [(bundle.name, bundle.where, bundle.kind) for bundle in found] == [
        ("sa_000000", "unpacked/sa_000000", "folder"),
        ("sa_000001", "SA_000001.TGZ", "archive"),
        ("sa_000002", "deep/down/sa_000002.tar", "archive"),
        ("sa_000003", "sa_000003.tar.gz", "archive"),
    ]
    assert found[2].containers == (str(tmp_path / "deep/down/sa_000002.tar"),)
    assert found[2].size == len(b"never looked at")
    files = (tmp_path / "unpacked/sa_000000").iterdir()
    assert found[0].size == sum(file.stat().st_size for file in files)


def test_a_folder_of_another_name_is_called_by_its_path(tmp_path: Path) -> None:
    make_bundle(tmp_path / "root/my/part", [1], kind="folder", num_masks=1)
    assert [bundle.name for bundle in find_bundles(tmp_path / "root")] == ["my_part"]
    assert [(b.name, b.where) for b in find_bundles(tmp_path / "root/my/part")] == [("part", ".")]


@pytest.mark.parametrize(
    "name",
    [
        "sa_00001.tar",  # five digits
        "sa_0000001.tar",  # seven
        "xsa_000001.tar",
        "sa_000001.zip",  # upstream has none
        "sa_000001.tar.part",  # a download under way
        "._sa_000001.tar",  # what macOS leaves behind
        ".hidden/sa_000001.tar",
        "__MACOSX/sa_000001.tar",
        "sa_000001.tar/inside",  # a folder of that name, with no pictures
        "pictures/sa_1.jpg",  # no json beside it
        "sa_٣٣٣٣٣٣.tar",  # digits, but not ours
    ],
)
def test_what_only_looks_like_it_is_left_alone(tmp_path: Path, name: str) -> None:
    touch(tmp_path / name)
    assert find_bundles(tmp_path) == []


def test_finished_data_sets_are_no_sources(tmp_path: Path) -> None:
    touch(tmp_path / "built/.hqdata/kept/sa_000001.tar")
    touch(tmp_path / "built/sa_000002.tar")
    touch(tmp_path / "copied/dataset.json")
    touch(tmp_path / "copied/samples.parquet")
    touch(tmp_path / "copied/sa_000003.tar")
    assert find_bundles(tmp_path) == []


def test_links_are_followed_and_each_real_folder_is_seen_once(tmp_path: Path) -> None:
    touch(tmp_path / "store/sa_000001.tar")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").symlink_to(tmp_path / "store")
    (root / "b").symlink_to(tmp_path / "store")
    (root / "round").symlink_to(root)
    (root / "circle").symlink_to("circle")
    (root / "sa_000009.tar").symlink_to("nowhere")
    assert [bundle.where for bundle in find_bundles(root)] == ["a/sa_000001.tar"]


def test_the_same_name_twice_is_a_question(tmp_path: Path) -> None:
    touch(tmp_path / "a/sa_000001.tar")
    make_bundle(tmp_path / "b/sa_000001", [1], kind="folder", num_masks=1)
    with pytest.raises(UserError) as caught:
        find_bundles(tmp_path)
    assert "a/sa_000001.tar and b/sa_000001 are both sa_000001" in str(caught.value)
    assert "move one away" in str(caught.value)


def test_nothing_there_is_nothing_found(tmp_path: Path) -> None:
    assert find_bundles(tmp_path) == []
    assert find_bundles(tmp_path / "none") == []


def test_the_stamp_changes_with_the_bytes(tmp_path: Path) -> None:
    archive = touch(tmp_path / "sa_000001.tar")
    folder = make_bundle(tmp_path / "sa_000002", [1, 2], kind="folder", num_masks=1)
    before = find_bundles(tmp_path)
    assert find_bundles(tmp_path) == before
    os.utime(archive, ns=(1, 1))
    (folder / "sa_2.json").write_bytes(b"{}")
    after = find_bundles(tmp_path)
    assert [a.stamp != b.stamp for a, b in zip(after, before, strict=True)] == [True, True]


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can read every folder")
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(UserError, match="cannot look through"):
        find_bundles(tmp_path)


def test_the_real_pictures_are_no_bundle_under_their_other_names(real_data: Path) -> None:
    assert find_bundles(real_data / "sa1b") == []
