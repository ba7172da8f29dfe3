"""Archives of the sources: known by digest, fetched once, verified, never over another file."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import shutil
import subprocess
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hqdata.catalogue.registry import load_manifests
from hqdata.errors import BusyError, InterruptedBuildError, UserError
from hqdata.hub.fetch import (
    STATE,
    FetchPlan,
    Release,
    fetch_missing,
    find_release,
    load_release,
    look,
    release_names,
    terms,
)
from hqdata.hub.remote import HubError, HubUnreachableError
from hqdata.resources import manifests_dir
from hqdata.scan import scan
from support.builds import hqdata
from support.hub import FakeHub, cut_body, drop, fake_hub, then, wrong_digest
from support.on_hub import TOKEN, downloads, put, visit

RNG = random.Random(44320)
ARCHIVES = {"DIS5K.zip": RNG.randbytes(300_000), "cascade_psp.zip": RNG.randbytes(100_000)}
HOLDS = {"DIS5K.zip": ["dis"], "cascade_psp.zip": ["duts", "ecssd"]}


class TestReleaseFiles:
    @pytest.mark.parametrize("name", release_names())
    def test_they_say_of_archives_what_the_manifests_say(self, name: str) -> None:
        """One truth: every archive of the release, with its size, digest and page."""
        release = find_release(name)
        in_manifests = {
            (archive.name, archive.num_bytes, archive.sha256, archive.page, source)
            for source, manifest in load_manifests().items()
            for archive in manifest.archives
            if archive.release == release.release
        }
        in_release = {
            (archive.name, archive.num_bytes, archive.sha256, release.page, source)
            for archive in release.archives
            for source in archive.holds
        }
        assert in_release == in_manifests
        assert release.name == name
        assert f"/{release.repo_id}/" in release.page

    def test_the_public_trainers_archives_are_known(self) -> None:
        """All six sources and the four evaluation sets, in three archives."""
        release = find_release("sam-hq-repack")
        assert [archive.name for archive in release.archives] == [
            "DIS5K.zip",
            "cascade_psp.zip",
            "thin_object_detection.zip",
        ]
        assert {s for archive in release.archives for s in archive.holds} == set(load_manifests())

    def test_a_name_that_is_none_shows_the_nearest(self) -> None:
        with pytest.raises(UserError, match="did you mean 'sam-hq-repack'"):
            find_release("samhq-repack")

    @pytest.mark.parametrize(
        "path", ["../DIS5K.zip", "/DIS5K.zip", "a/../b.zip", ".hidden", "a//b.zip", "data/", ""]
    )
    def test_no_path_leads_out_of_the_data_root(self, path: str) -> None:
        with pytest.raises(ValidationError):
            release_of({"x.zip": b"x"}, path=path)

    def test_a_slip_in_the_file_is_shown(self, tmp_path: Path) -> None:
        text = (manifests_dir() / "releases" / "sam-hq-repack.yaml").read_text()
        (tmp_path / "x.yaml").write_text(text.replace("repo_type:", "repo_typ:"))
        with pytest.raises(UserError, match="did you mean 'repo_type'"):
            load_release(tmp_path / "x.yaml")

    def test_terms_are_the_sources_own_a_line_each(self) -> None:
        release = find_release("sam-hq-repack")
        lines = terms(release.archives[0])
        assert len(lines) == 1 and "no redistribution" in lines[0] and "https://" in lines[0]
        assert [line.partition(":")[0] for line in terms(release.archives[1])] == [
            "duts",
            "ecssd",
            "fss",
            "msra",
        ]


def release_of(files: dict[str, bytes], **changes: Any) -> Release:
    """A release of small archives on the Hub of the tests."""
    archives = [
        {
            "path": f"data/{name}",
            "num_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "holds": HOLDS.get(name, ["dis"]),
            **changes,
        }
        for name, data in files.items()
    ]
    facts = {
        "name": "small",
        "title": "small archives",
        "release": "small",
        "repo_id": "packers/archives",
        "repo_type": "model",
        "page": "https://example.org/packers/archives",
        "archives": archives,
    }
    return Release.model_validate(facts)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeHub]:
    with fake_hub(tmp_path / "hub") as server:
        server.add_user("me", TOKEN)
        files = {f"data/{name}": data for name, data in ARCHIVES.items()}
        put(server, "packers/archives", files, kind="model")
        yield server


class Fetcher:
    """Looks and fetches into one data root; keeps what was told."""

    def __init__(self, server: FakeHub, data_root: Path) -> None:
        self.server, self.data_root = server, data_root
        self.release = release_of(ARCHIVES)
        self.told: list[str] = []

    def __call__(self, *only: str) -> FetchPlan:
        plan = look(self.release, self.data_root, only=only)
        hub = visit(self.server, tell=self.told.append)
        fetch_missing(hub, plan, tell=self.told.append)
        return plan

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.data_root).as_posix(): path.read_bytes()
            for path in self.data_root.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def fetcher(server: FakeHub, tmp_path: Path) -> Fetcher:
    return Fetcher(server, tmp_path / "data")


def test_the_archives_arrive_and_nothing_else_stays(fetcher: Fetcher) -> None:
    assert len(fetcher().missing) == 2
    assert fetcher.files() == ARCHIVES
    assert not (fetcher.data_root / STATE).exists()


def test_run_again_it_asks_the_hub_nothing(fetcher: Fetcher) -> None:
    fetcher()
    before = len(fetcher.server.requests)
    plan = fetcher()
    assert (plan.missing, len(fetcher.server.requests)) == ([], before)
    assert [item.found for item in plan.wanted] == [fetcher.data_root / name for name in ARCHIVES]


def test_an_archive_in_a_folder_below_counts(fetcher: Fetcher) -> None:
    """A second copy beside it would be a question to every build."""
    (fetcher.data_root / "repack").mkdir(parents=True)
    (fetcher.data_root / "repack" / "DIS5K.zip").write_bytes(ARCHIVES["DIS5K.zip"])
    assert [job.path for job in fetcher().missing] == ["data/cascade_psp.zip"]
    assert set(fetcher.files()) == {"repack/DIS5K.zip", "cascade_psp.zip"}


def test_only_what_is_asked_for(fetcher: Fetcher) -> None:
    fetcher("cascade_psp.zip")
    assert set(fetcher.files()) == {"cascade_psp.zip"}
    with pytest.raises(UserError, match="did you mean 'DIS5K"):
        fetcher("DIS5k.zip")


@pytest.mark.parametrize("content", [b"x", b"y" * 300_000], ids=["another size", "same size"])
def test_another_file_of_the_name_is_never_written_over(fetcher: Fetcher, content: bytes) -> None:
    fetcher.data_root.mkdir()
    (fetcher.data_root / "DIS5K.zip").write_bytes(content)
    with pytest.raises(UserError, match="lies in the way") as caught:
        fetcher()
    assert "--only cascade_psp.zip" in str(caught.value)
    assert fetcher.files() == {"DIS5K.zip": content}
    assert downloads(fetcher.server) == []


def test_it_goes_on_in_the_middle_of_an_archive(fetcher: Fetcher) -> None:
    fetcher.server.faults.add("GET", "/cdn/", cut_body())
    fetcher.server.faults.add("GET", "/cdn/", drop(), times=None)
    with pytest.raises(HubUnreachableError):
        fetcher("DIS5K.zip")
    plan = look(fetcher.release, fetcher.data_root, only=["DIS5K.zip"])
    assert plan.bytes_to_come == 150_000
    # What has not arrived is hidden: no build takes it for a source.
    assert scan(fetcher.data_root).folders == [] and not scan(fetcher.data_root).unreadable
    fetcher.server.faults.clear()
    before = len(fetcher.server.requests)
    fetcher("DIS5K.zip")
    statuses = [s.status for s in fetcher.server.requests[before:] if "/cdn/" in s.path]
    assert statuses == [206]
    assert fetcher.files() == {"DIS5K.zip": ARCHIVES["DIS5K.zip"]}


def test_what_has_come_of_another_archive_is_kept(fetcher: Fetcher) -> None:
    fetcher.server.faults.add("GET", "/cdn/", cut_body())
    fetcher.server.faults.add("GET", "/cdn/", drop(), times=None)
    with pytest.raises(HubUnreachableError):
        fetcher("DIS5K.zip")
    fetcher.server.faults.clear()
    fetcher("cascade_psp.zip")
    assert look(fetcher.release, fetcher.data_root, only=["DIS5K.zip"]).bytes_to_come == 150_000
    fetcher()
    assert fetcher.server.requests[-1].status == 206
    assert fetcher.files() == ARCHIVES
    assert not (fetcher.data_root / STATE).exists()


def test_what_failed_before_anything_came_leaves_no_folder(fetcher: Fetcher) -> None:
    fetcher.server.faults.add("GET", "/resolve/", drop(), times=None)
    with pytest.raises(HubUnreachableError):
        fetcher("DIS5K.zip")
    assert not (fetcher.data_root / STATE).exists()


def test_a_lock_that_was_just_removed_holds_nobody_out(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process ends between this one's opening of the lock and its locking."""

    def late(handle: object, how: int) -> None:
        (fetcher.data_root / STATE / "lock").unlink()

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(BusyError):
        fetcher()
    assert fetcher.files() == {}


def test_what_stays_wrong_is_not_put_in_place(fetcher: Fetcher) -> None:
    fetcher.server.faults.add("GET", "/cdn/", wrong_digest(), times=2)
    with pytest.raises(HubError, match="is not the file that it should be"):
        fetcher("DIS5K.zip")
    assert "DIS5K.zip" not in fetcher.files()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "is no longer there"),
        ({"data/DIS5K.zip": b"x" * 300_000}, "is another file, 300,000 bytes"),
    ],
)
def test_a_repository_that_has_changed_is_noticed_before(
    fetcher: Fetcher, files: dict[str, bytes], words: str
) -> None:
    put(fetcher.server, "packers/archives", files, kind="model")
    with pytest.raises(UserError, match=words) as caught:
        fetcher("DIS5K.zip")
    assert fetcher.release.page in str(caught.value)
    assert downloads(fetcher.server) == []


def test_two_at_once_the_second_is_refused(fetcher: Fetcher) -> None:
    refused: list[BusyError] = []

    def second() -> None:
        try:
            fetch_missing(visit(fetcher.server), look(fetcher.release, fetcher.data_root))
        except BusyError as error:
            refused.append(error)

    fetcher.server.faults.add("GET", "/cdn/", then(second))
    fetcher()
    assert len(refused) == 1
    assert fetcher.files() == ARCHIVES


def test_too_little_room_is_said_before_anything_comes(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 7 * 10**5, 3 * 10**5))
    with pytest.raises(UserError, match="to be fetched") as caught:
        fetcher()
    assert "--only" in str(caught.value)
    assert fetcher.server.requests == []
    fetcher("DIS5K.zip")  # there is room for one
    assert set(fetcher.files()) == {"DIS5K.zip"}


def test_a_disk_that_fills_up_on_the_way(
    fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    fetcher.data_root = disk
    try:
        with monkeypatch.context() as context:
            usage = namedtuple("usage", "total used free")
            context.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, 10**9))
            with pytest.raises(InterruptedBuildError, match="no room left"):
                fetcher("DIS5K.zip")
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        fetcher("DIS5K.zip")
        assert fetcher.files() == {"DIS5K.zip": ARCHIVES["DIS5K.zip"]}
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_data_root_may_be_no_file(server: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="not a folder"):
        Fetcher(server, tmp_path / "file")()


class TestCommandLine:
    def test_a_dry_run_tells_sizes_and_terms_and_asks_nobody(self, tmp_path: Path) -> None:
        nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
        words = ["fetch", "sam-hq-repack", "--data-root", tmp_path / "data", "--dry-run"]
        done = hqdata(*words, **nowhere)
        assert done.returncode == 0, done.stderr
        assert "DIS5K.zip, 3,366 MiB, to be fetched" in done.stdout
        assert "no redistribution" in done.stdout and "not legal advice" in done.stdout
        assert not (tmp_path / "data").exists()

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["sam-hq"], "did you mean 'sam-hq-repack'"),
            (["sam-hq-repack", "--only", "DIS5k.zip"], "did you mean 'DIS5K.zip'"),
        ],
    )
    def test_a_slip_is_one_message(self, words: list[str], message: str) -> None:
        done = hqdata("fetch", *words)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
