"""One file from the Hub: resumed, verified, and only then in its place."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hqdata.errors import DatasetError, UserError
from hqdata.hub.download import CHUNK, Job, Snapshot, fetch, is_there, open_snapshot
from hqdata.hub.remote import HubError, HubUnreachableError
from hqdata.threads import ShouldStop, StoppedError, Tick, in_threads
from support.hub import (
    FakeHub,
    cut_body,
    drop,
    fake_hub,
    rate_limited,
    status,
    then,
    wrong_digest,
)
from support.on_hub import TOKEN, Progress, put, visit

DATA = random.Random(44320).randbytes(3 * CHUNK + 12_345)
SHA256 = hashlib.sha256(DATA).hexdigest()
CDN = r"^/cdn/"
SMALL = b"a small file, which git itself keeps\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeHub]:
    with fake_hub(tmp_path / "hub") as server:
        server.add_user("me", TOKEN)
        put(server, "me/x", {"d/a.bin": DATA, "empty.bin": b"", "small.txt": SMALL}, private=True)
        yield server


class Fetcher:
    """Fetches one file and keeps what was told and ticked."""

    def __init__(self, server: FakeHub, folder: Path) -> None:
        self.server, self.parts = server, folder / "parts"
        self.told: list[str] = []
        self.ticks = 0
        self.job = Job("d/a.bin", len(DATA), SHA256, folder / "out" / "d" / "a.bin")

    def snapshot(self) -> Snapshot:
        hub = visit(self.server, tell=self.told.append)
        return open_snapshot(hub, "me/x", "dataset", None)

    def tick(self, number: int) -> None:
        self.ticks += number

    def __call__(self, job: Job | None = None) -> None:
        self.ticks = 0
        fetch(self.snapshot(), job or self.job, self.parts, tick=self.tick, tell=self.told.append)

    @property
    def part(self) -> Path:
        return self.job.part(self.parts)

    def statuses(self) -> list[int]:
        """Of the requests for the file's bytes."""
        return [seen.status for seen in self.server.requests if seen.path.startswith("/cdn/")]


@pytest.fixture
def fetcher(server: FakeHub, tmp_path: Path) -> Fetcher:
    return Fetcher(server, tmp_path)


def assert_arrived(fetcher: Fetcher) -> None:
    assert fetcher.job.target.read_bytes() == DATA
    assert list(fetcher.parts.iterdir()) == []
    assert fetcher.ticks == len(DATA)
    assert is_there(fetcher.job)


def test_it_arrives(fetcher: Fetcher) -> None:
    fetcher()
    assert_arrived(fetcher)
    assert (fetcher.told, fetcher.statuses()) == ([], [200])


def test_a_file_without_a_byte_arrives_too(fetcher: Fetcher, tmp_path: Path) -> None:
    fetcher(Job("empty.bin", 0, hashlib.sha256().hexdigest(), tmp_path / "empty"))
    assert (tmp_path / "empty").read_bytes() == b""


@pytest.mark.parametrize("num_bytes", [1, CHUNK, len(DATA) - 1])
def test_it_goes_on_where_an_earlier_run_was_killed(fetcher: Fetcher, num_bytes: int) -> None:
    fetcher.parts.mkdir()
    fetcher.part.write_bytes(DATA[:num_bytes])
    fetcher()
    assert_arrived(fetcher)
    assert fetcher.statuses() == [206]


def test_what_an_earlier_run_got_whole_is_not_asked_for(fetcher: Fetcher) -> None:
    fetcher.parts.mkdir()
    fetcher.part.write_bytes(DATA)
    fetcher()
    assert_arrived(fetcher)
    assert fetcher.statuses() == []


@pytest.mark.parametrize(
    "rubbish",
    [DATA[:1000] + b"\0" * CHUNK, DATA + b"more", b"\0" * len(DATA)],
    ids=["damaged", "longer", "other"],
)
def test_rubbish_from_an_earlier_run_does_no_harm(fetcher: Fetcher, rubbish: bytes) -> None:
    fetcher.parts.mkdir()
    fetcher.part.write_bytes(rubbish)
    fetcher()
    assert_arrived(fetcher)


def test_a_connection_that_breaks_is_taken_up_again(server: FakeHub, fetcher: Fetcher) -> None:
    server.faults.add("GET", CDN, cut_body(), times=3)
    fetcher()
    assert_arrived(fetcher)
    # What came before each break was kept, and a break after some bytes is no failed try.
    assert fetcher.statuses() == [200, 206, 206, 206]
    assert fetcher.told == []


def test_a_server_that_cannot_begin_in_the_middle_sends_all_of_it(
    server: FakeHub, fetcher: Fetcher
) -> None:
    fetcher.parts.mkdir()
    fetcher.part.write_bytes(DATA[:CHUNK])
    server.faults.add("GET", CDN, status(200, {}, DATA))
    fetcher()
    assert_arrived(fetcher)


def test_it_waits_as_long_as_the_hub_asks(server: FakeHub, fetcher: Fetcher) -> None:
    server.faults.add("GET", "resolve", rate_limited(17))
    server.faults.add("GET", CDN, status(429, {"Retry-After": "3"}))
    server.faults.add("GET", CDN, status(503))
    server.faults.add("GET", CDN, drop())
    fetcher()
    assert_arrived(fetcher)
    waits = [line.rpartition("again in ")[2] for line in fetcher.told]
    assert waits[:2] == ["18 s", "3 s"] and len(waits) == 4


def test_a_hub_that_is_away_is_said_to_be_and_nothing_is_lost(
    server: FakeHub, fetcher: Fetcher
) -> None:
    server.faults.add("GET", CDN, cut_body())
    server.faults.add("GET", CDN, drop(), times=None)
    with pytest.raises(HubUnreachableError, match="run the same command again") as caught:
        fetcher()
    assert caught.value.exit_status == 1
    assert not fetcher.job.target.exists()
    there = fetcher.part.stat().st_size
    assert 0 < there < len(DATA)
    server.faults.clear()
    fetcher()
    assert_arrived(fetcher)


def test_other_bytes_once_are_fetched_again(server: FakeHub, fetcher: Fetcher) -> None:
    server.faults.add("GET", CDN, wrong_digest())
    fetcher()
    assert_arrived(fetcher)
    assert len(fetcher.told) == 1 and "once more" in fetcher.told[0]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (DATA[:-1] + b"x", hashlib.sha256(DATA[:-1] + b"x").hexdigest()),  # of the same size
        (DATA[:-1], f"{len(DATA) - 1:,} bytes"),  # shorter
        (DATA + b"x", f"more than {len(DATA):,} bytes"),  # longer
    ],
    ids=["other", "shorter", "longer"],
)
def test_other_bytes_twice_are_an_error_that_names_them(
    server: FakeHub, fetcher: Fetcher, data: bytes, found: str
) -> None:
    put(server, "me/x", {"d/a.bin": data})
    with pytest.raises(HubError) as caught:
        fetcher()
    for words in ("d/a.bin", SHA256, found):
        assert words in str(caught.value)
    assert not fetcher.job.target.exists() and not fetcher.part.exists()
    assert fetcher.ticks == 0


def test_a_file_that_has_become_shorter_than_what_is_there(
    server: FakeHub, fetcher: Fetcher
) -> None:
    fetcher.parts.mkdir()
    fetcher.part.write_bytes(DATA[: 2 * CHUNK])
    put(server, "me/x", {"d/a.bin": DATA[:CHUNK]})
    with pytest.raises(HubError, match="twice"):
        fetcher()


def test_a_file_that_is_not_there_is_no_mystery(server: FakeHub, fetcher: Fetcher) -> None:
    with pytest.raises(HubError, match="404"):
        fetcher(Job("d/b.bin", 1, SHA256, fetcher.job.target))


def test_the_token_goes_to_the_hub_and_nowhere_else(server: FakeHub, fetcher: Fetcher) -> None:
    """The store answers 400 to whoever shows a token; and without one the repository is hidden."""
    fetcher()
    snapshot = Snapshot(visit(server, token="hf_wrong"), "me/x", "dataset", "main")
    with pytest.raises(HubError, match="401"):
        fetch(snapshot, fetcher.job, fetcher.parts)


def test_asked_to_stop_it_keeps_what_it_has(server: FakeHub, fetcher: Fetcher) -> None:
    server.faults.add("GET", CDN, cut_body())
    stop = threading.Event()
    server.faults.add("GET", CDN, then(stop.set))
    with pytest.raises(StoppedError):
        fetch(fetcher.snapshot(), fetcher.job, fetcher.parts, should_stop=stop.is_set)
    kept = fetcher.part.read_bytes()
    assert kept and DATA.startswith(kept)


class TestSmallFiles:
    def test_they_are_held_against_the_repository(self, server: FakeHub, fetcher: Fetcher) -> None:
        snapshot = fetcher.snapshot()
        listed = snapshot.files(["d/a.bin", "small.txt", "d", "nothing"])
        assert list(listed) == ["d/a.bin", "small.txt"]  # neither a folder nor what is not there
        assert snapshot.read(listed["small.txt"], 100) == SMALL
        assert snapshot.read(listed["d/a.bin"], len(DATA)) == DATA

    @pytest.mark.parametrize("path", ["small.txt", "d/a.bin"])
    def test_and_fetched_once_more(self, server: FakeHub, fetcher: Fetcher, path: str) -> None:
        snapshot = fetcher.snapshot()
        file = snapshot.files([path])[path]
        server.faults.add("GET", "resolve|cdn", status(200, {}, b"x" * file.size))
        assert len(snapshot.read(file, file.size)) == file.size
        server.faults.add("GET", "resolve|cdn", status(200, {}, b"x" * file.size), times=2)
        with pytest.raises(HubError, match="other bytes"):
            snapshot.read(file, file.size)

    def test_and_no_larger_than_allowed(self, fetcher: Fetcher) -> None:
        snapshot = fetcher.snapshot()
        file = snapshot.files(["small.txt"])["small.txt"]
        with pytest.raises(DatasetError, match=f"{len(SMALL)} bytes"):
            snapshot.read(file, len(SMALL) - 1)


def test_a_revision_that_is_not_there_is_named(server: FakeHub) -> None:
    with pytest.raises(UserError, match="no revision 'v9'"):
        open_snapshot(visit(server), "me/x", "dataset", "v9")


def test_what_was_read_at_a_commit_stays_though_the_branch_moves(
    server: FakeHub, fetcher: Fetcher
) -> None:
    snapshot = fetcher.snapshot()
    put(server, "me/x", {"other.txt": b"x"})
    fetch(snapshot, fetcher.job, fetcher.parts)
    assert is_there(fetcher.job)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing(server: FakeHub, small_disk: Path) -> None:
    fetcher = Fetcher(server, small_disk)
    with pytest.raises(OSError, match="No space left"):
        fetcher()
    assert DATA.startswith(fetcher.part.read_bytes())
    subprocess.run(["mount", "-o", "remount,size=32m", str(small_disk)], check=True)
    fetcher()
    assert_arrived(fetcher)
    assert fetcher.statuses() == [200, 206]


class TestThreads:
    def test_results_come_in_the_order_of_the_items(self) -> None:
        def work(item: int, tick: Tick, should_stop: ShouldStop) -> int:
            time.sleep(0.02 / (item + 1))
            tick(item)
            return item * item

        progress = Progress()
        assert in_threads(work, range(8), workers=4, reporter=progress) == [i * i for i in range(8)]
        assert progress.done[-1] == sum(range(8)) and progress.done == sorted(progress.done)

    def test_nothing_is_to_be_done(self) -> None:
        def work(item: int, tick: Tick, should_stop: ShouldStop) -> int:
            raise AssertionError

        assert in_threads(work, [], workers=4, reporter=Progress()) == []

    def test_the_first_failure_stops_the_others(self) -> None:
        begun = []

        def work(item: int, tick: Tick, should_stop: ShouldStop) -> None:
            begun.append(item)
            if item == 1:
                raise HubError("one")
            while not should_stop():
                time.sleep(0.001)
            raise StoppedError

        with pytest.raises(HubError, match="one"):
            in_threads(work, range(100), workers=3, reporter=Progress())
        assert len(begun) <= 4

    def test_ctrl_c_waits_for_nobody_who_does_not_listen(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hqdata.threads.SECONDS_TO_STOP", 0.1)
        deaf = threading.Event()

        class Pressed(Progress):
            def update(self, done: int) -> None:
                raise KeyboardInterrupt

        def work(item: int, tick: Tick, should_stop: ShouldStop) -> None:
            deaf.wait(10)

        begin = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            in_threads(work, range(3), workers=3, reporter=Pressed())
        assert time.monotonic() - begin < 5
        deaf.set()
