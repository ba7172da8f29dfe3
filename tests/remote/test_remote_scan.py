"""A data root behind a URL is the same tree as the folder that was uploaded."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from hqdata import archives
from hqdata.archives import spool_archive
from hqdata.errors import InterruptedBuildError, UserError
from hqdata.remote.retry import Retry
from hqdata.scan import scan
from hqdata.sources.discover import parse_use
from hqdata.storage import DamagedFileError, FileReader, FileRef, Tree
from support.s3 import S3Server
from support.spooled import scan_spooled


def files_of(seed: int = 0) -> dict[str, bytes]:
    sizes = (0, 1, 700, 70_000, 3_000_000)
    return {f"d{i % 2}/f{i}.jpg": bytes([seed + i]) * size for i, size in enumerate(sizes)}


def put_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def put_zip(path: Path, files: dict[str, bytes], *, extra: int = 0) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, data) in enumerate(files.items()):
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED
            info.extra = b"\xfe\xca" + extra.to_bytes(2, "little") + bytes(extra) if extra else b""
            archive.writestr(info, data)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with a folder and an archive of each kind."""
    base = tmp_path / "root"
    for name, data in files_of().items():
        (base / "plain" / name).parent.mkdir(parents=True, exist_ok=True)
        (base / "plain" / name).write_bytes(data)
    put_zip(base / "a.zip", files_of(10))
    put_zip(base / "extra.zip", files_of(15), extra=3000)
    put_tar(base / "b.tar", files_of(20))
    put_tar(base / "c.tar.gz", {**files_of(30), "list.txt": b"a\nb\n"}, "w:gz")
    (base / "plain" / "Thumbs.db").write_bytes(b"")
    (base / ".hidden").mkdir()
    (base / ".hidden" / "x.jpg").write_bytes(b"")
    return base


def uploaded(storage: S3Server, root: Path) -> str:
    """The URL of a copy of the folder."""
    name = root.as_posix().strip("/")
    storage.kill()
    storage.fill(root, name)
    storage.start()
    return storage.url(name)


def contents(tree: Tree) -> dict[str, bytes]:
    with FileReader() as reader:
        return {
            f"{folder.path}/{name}": reader.read(ref)
            for folder in tree.folders
            for name, ref in folder.files.items()
        }


def spooled(root: str, spool: Path) -> Tree:
    from dataclasses import replace

    tree = scan(root)
    targets: dict[str, str] = {}
    for folder in tree.folders:
        for name, ref in folder.files.items():
            if ref.how == "listed":
                if ref.container not in targets:
                    targets[ref.container] = str(spool_archive(ref.container, spool))
                folder.files[name] = replace(ref, how="range", container=targets[ref.container])
    return tree


def test_it_is_the_same_tree(storage: S3Server, root: Path, tmp_path: Path) -> None:
    url = uploaded(storage, root)
    local, remote = scan_spooled(root, tmp_path / "one"), spooled(url, tmp_path / "two")
    assert [(f.parts, f.is_archive, sorted(f.files)) for f in remote.folders] == [
        (f.parts, f.is_archive, sorted(f.files)) for f in local.folders
    ]
    assert contents(remote) == contents(local)
    assert remote.root == url
    assert not remote.unreadable and not remote.bad_members


def test_archives_are_listed_by_what_says_what_is_in_them(
    storage: S3Server, tmp_path: Path
) -> None:
    """Of 40 MB of pictures in a zip and in a tar, next to nothing is downloaded."""
    root = tmp_path / "root"
    root.mkdir()
    big = {f"{number}.jpg": os.urandom(5 * 2**20) for number in range(4)}
    put_zip(root / "a.zip", big)
    url = uploaded(storage, root)
    storage.forget()
    told: list[tuple[str, int]] = []
    tree = scan(url, on_archive=lambda path, size: told.append((path, size)))
    assert sorted(tree.folders[0].files) == sorted(big)
    assert storage.counts()["GET"] <= 4
    assert told == [("a.zip", (root / "a.zip").stat().st_size)]
    with FileReader() as reader:
        storage.forget()
        assert reader.read(tree.folders[0].files["2.jpg"]) == big["2.jpg"]
        assert storage.counts()["GET"] == 1


def test_stamps_change_with_the_bytes(storage: S3Server, root: Path) -> None:
    def stamps(tree: Tree) -> dict[str, str]:
        return {f"{d.path}/{n}": ref.stamp for d in tree.folders for n, ref in d.files.items()}

    url = uploaded(storage, root)
    first = stamps(scan(url))
    assert stamps(scan(url)) == first
    (root / "plain" / "d0" / "f2.jpg").write_bytes(b"\xff" * 700)
    put_tar(root / "b.tar", files_of(21))
    second = stamps(scan(uploaded(storage, root)))
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"plain/d0/f2.jpg", *(f"b.tar/{name}" for name in files_of())}


@pytest.mark.parametrize("name", ["cut.zip", "cut.tar", "cut.tar.gz", "no.zip"])
def test_a_damaged_archive_is_told_and_the_rest_read(
    storage: S3Server, root: Path, name: str
) -> None:
    whole = {"cut.zip": "a.zip", "cut.tar": "b.tar", "cut.tar.gz": "c.tar.gz", "no.zip": "b.tar"}
    data = (root / whole[name]).read_bytes()
    (root / name).write_bytes(data if name == "no.zip" else data[:-20_000])
    tree = scan(uploaded(storage, root))
    assert list(tree.unreadable) == [name]
    assert any(folder.parts[0] == "a.zip" for folder in tree.folders)


def test_what_we_built_is_not_its_own_source(storage: S3Server, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in (
        "out/.hqdata/x.json",
        "out/dis/a.jpg",
        "done/dataset.json",
        "done/samples.parquet",
        "done/dis/b.jpg",
        "src/c.jpg",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"1")
    expected = {"src/c.jpg"}
    assert set(contents(scan(root))) == expected
    assert set(contents(scan(uploaded(storage, root)))) == expected


def test_sa1b_is_left_alone(
    storage: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is an archive of it opened, nor a folder of it listed."""
    root = tmp_path / "root"
    for name in (
        "sa_000020.tar",
        "SA1B/sa_000021.tar.gz",
        "sa_000022/sa_226692.jpg",
        "all/sa_1.jpg",
        "all/sa_1.json",
        "all/SA_2.JPEG",
        "all/sa_3.png",
        "all/sa_12.tar.jpg",
        "sa_00002.tar.jpg",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"1")
    expected = {"all/sa_3.png", "all/sa_12.tar.jpg", "./sa_00002.tar.jpg"}
    url = uploaded(storage, root)
    monkeypatch.setattr("hqdata.scan.list_archive", lambda *_: pytest.fail("it was opened"))
    for where in (root, url):
        assert set(contents(scan(where))) == expected


def test_nothing_there_is_told(storage: S3Server) -> None:
    with pytest.raises(UserError, match="no files below the data root") as caught:
        scan(storage.url("empty"))
    assert caught.value.where == storage.url("empty")
    with pytest.raises(UserError, match="would be written down"):
        scan("s3://key:hunter2@bucket/a")


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "x.jpg").write_bytes(b"1")
    assert contents(scan((tmp_path / "a b").as_uri())) == {"./x.jpg": b"1"}


# Faults


def test_faults_on_the_way_are_outlived(storage: S3Server, root: Path, tmp_path: Path) -> None:
    url = uploaded(storage, root)
    faults: list[dict[str, Any]] = [
        {"method": "GET", "of": "", "times": 2, "status": 503},
        {"method": "GET", "of": "", "times": 2, "cut": True},
        {"method": "HEAD", "of": "", "times": 2, "status": 500},
    ]
    storage.fail(*faults)
    tree = spooled(url, tmp_path / "spool")
    storage.fail(*faults)
    assert contents(tree) == contents(scan_spooled(root, tmp_path / "local"))


def only(tree: Tree) -> FileRef:
    (folder,) = tree.folders
    (ref,) = folder.files.values()
    return ref


@pytest.fixture
def one_file(storage: S3Server, tmp_path: Path) -> Any:
    """A way to make a data root of one file, and the data root."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.jpg").write_bytes(bytes(1000))
    return uploaded(storage, root)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "no longer where it was listed"),
        (bytes(999), "has 999 bytes where 1000 are listed"),
        (bytes(1001), "has 1001 bytes where 1000 are listed"),
        (b"", "has 0 bytes where 1000 are listed"),
    ],
    ids=["removed", "shorter", "longer", "empty"],
)
def test_another_file_than_was_listed_is_damage(
    one_file: str, data: bytes | None, reason: str
) -> None:
    from hqdata.remote.origin import Origin

    ref = only(scan(one_file))
    origin = Origin(one_file)
    if data is None:
        origin.remove("a.jpg")
    else:
        origin.write("a.jpg", data)
    with FileReader() as reader, pytest.raises(DamagedFileError, match=reason):
        reader.read(ref)


def test_no_network_is_no_damage(
    one_file: str, storage: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a build would go on without the picture."""
    monkeypatch.setattr("hqdata.remote.patience.PATIENCE", Retry(max_tries=2, first_wait=0.01))
    ref = only(scan(one_file))
    storage.refuse(5)
    with FileReader() as reader, pytest.raises(InterruptedBuildError, match="cannot be reached"):
        reader.read(ref)
    storage.refuse(1, status=403, code="AccessDenied")
    with FileReader() as reader, pytest.raises(UserError, match="access is refused"):
        reader.read(ref)


def test_no_network_is_no_damaged_archive(
    storage: S3Server, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = uploaded(storage, root)
    monkeypatch.setattr("hqdata.remote.patience.PATIENCE", Retry(max_tries=2, first_wait=0.01))
    for name in ("a.zip", "b.tar", "c.tar.gz"):
        storage.fail(method="GET", of=name, times=50, status=503)
        with pytest.raises(InterruptedBuildError):
            scan(url)
        with pytest.raises(InterruptedBuildError):
            spool_archive(f"{url}/{name}", tmp_path / "spool")
        assert list((tmp_path / "spool").iterdir()) == []


def test_an_archive_that_vanishes_is_told(storage: S3Server) -> None:
    tree = Tree(storage.url("x"))
    archives.list_archive(tree, (), storage.url("x/gone.zip"))
    assert tree.unreadable == {"gone.zip": "cannot be read: No such file or directory"}


# --use


@pytest.mark.parametrize("path", ["DIS5K.zip/DIS5K", "s3://bucket/all/DIS5K.zip/DIS5K/"])
def test_a_place_below_a_url_is_taken_as_it_is(path: str) -> None:
    assert parse_use([f"dis={path}"], ["dis"], "s3://bucket/all/") == {"dis": "DIS5K.zip/DIS5K"}


@pytest.mark.parametrize("path", ["/abs", "../up", "a/../../b", "s3://k:hunter2@other/a"])
def test_a_place_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(UserError, match="not below the data root") as caught:
        parse_use([f"dis={path}"], ["dis"], "s3://bucket/root")
    assert "hunter2" not in str(caught.value)
