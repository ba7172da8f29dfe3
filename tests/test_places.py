"""The folder that a data set is built in: the same of this machine and behind a URL."""

from __future__ import annotations

import fcntl
import hashlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hqdata.errors import BusyError, InterruptedBuildError, UserError
from hqdata.files import temporary_name, write_whole
from hqdata.places import LocalPlace, Place, RemotePlace
from hqdata.remote import lease, uploads
from hqdata.remote.origin import Origin
from hqdata.remote.retry import Retry
from hqdata.storage import FileReader, FileRef
from support.s3 import S3Server, s3_server


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def storage(process: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name, value in process.env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    retry = Retry(max_tries=8, first_wait=0.05, longest_wait=0.5)
    monkeypatch.setattr("hqdata.remote.patience.PATIENCE", retry)
    process.fail()
    process.forget()
    return process


def in_storage(storage: S3Server, path: Path) -> Place:
    return Place.of(storage.url(path.as_posix().strip("/")))


@pytest.fixture
def remote(storage: S3Server, tmp_path: Path) -> Place:
    return in_storage(storage, tmp_path)


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Place.of(tmp_path / "out")
    remote: Place = request.getfixturevalue("remote")
    return remote


# Which place


def test_a_path_is_a_folder_and_a_url_is_not(tmp_path: Path) -> None:
    assert Place.of(tmp_path).local == tmp_path
    assert Place.of(str(tmp_path)).shown == str(tmp_path)
    assert Place.of(tmp_path.as_uri() + "/a%20b").local == tmp_path / "a b"
    remote = Place.of("s3://bucket/a")
    assert isinstance(remote, RemotePlace)
    assert (remote.local, remote.shown) == (None, "s3://bucket/a")
    assert Place.of(remote) is remote


@pytest.mark.parametrize("url", ["https://host/out", "hf://datasets/me/out"])
def test_where_nothing_can_be_built_is_told_at_once(url: str) -> None:
    with pytest.raises(UserError, match="nothing can be written to URLs of the kind"):
        Place.of(url).check_writable()


def test_a_url_with_secrets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="would be written down") as caught:
        Place.of("s3://key:hunter2@bucket/out").check_writable()
    assert "hunter2" not in str(caught.value)


# Files


def test_what_is_written_is_read(place: Place) -> None:
    assert place.read("a/b.json") is None
    place.write("a/b.json", b"1")
    place.write("a/b.json", b"23")
    assert place.read("a/b.json") == b"23"
    stat = place.stat("a/b.json")
    assert stat is not None and stat.size == 2
    assert place.stat("a") is None or place.local is not None
    assert place.stat("a/c.json") is None


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,3}(/[a-z0-9_-]{1,3}\.json){0,1}", fullmatch=True).filter(
            lambda n: "/" in n
        ),
        st.binary(max_size=50),
        max_size=5,
    )
)
def test_any_files_are_kept_and_listed(place: Place, files: dict[str, bytes]) -> None:
    for name in place.names():
        place.remove(name)
    for name, data in files.items():
        place.write(name, data)
    assert place.names() == sorted(files)
    for name in {name.partition("/")[0] for name in files}:
        assert place.names(name) == sorted(n for n in files if n.startswith(f"{name}/"))
    assert {name: place.read(name) for name in files} == files


def test_unfinished_files_and_the_lock_are_not_listed(place: Place) -> None:
    with place.claim():
        place.write(".hqdata/shards/a.json", b"1")
        place.write("dis/.train-0.tar.123.abc.tmp", b"1")
        assert place.names() == [".hqdata/shards/a.json"]
        assert place.names(".hqdata") == place.names(".hqdata/shards") == place.names()
    assert place.names("nowhere") == []


def test_what_is_removed_leaves_its_folder_to_others(tmp_path: Path) -> None:
    """Who was told that the folder is there may be about to write into it."""
    place = LocalPlace(tmp_path)
    place.write("a/b", b"1")
    place.remove("a/b")
    place.remove("a/b")
    place.remove("d/e")
    assert place.names() == []
    assert (tmp_path / "a").is_dir()


def test_removing_beside_others_that_write_disturbs_nobody(tmp_path: Path) -> None:
    errors: list[BaseException] = []
    until = time.monotonic() + 1.0

    def work(name: str) -> None:
        place = LocalPlace(tmp_path)
        try:
            while time.monotonic() < until:
                place.write(f"a/{name}", b"1")
                place.remove(f"a/{name}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_a_new_file_is_there_when_its_block_ends(place: Place, tmp_path: Path) -> None:
    with place.new_file("d/x.tar") as path:
        write_whole(path, b"12345")
        assert (place.stat("d/x.tar") is None) == (place.local is None)
    assert place.read("d/x.tar") == b"12345"
    assert path.exists() == (place.local is not None)


def test_a_block_that_fails_leaves_nothing(remote: Place) -> None:
    with pytest.raises(ZeroDivisionError), remote.new_file("x.tar") as path:
        path.write_bytes(b"1")
        raise ZeroDivisionError
    assert remote.names() == []
    assert not path.parent.exists()


def test_a_reference_is_what_readers_need(place: Place) -> None:
    place.write("d/a.bin", b"0123456789")
    container = place.reference("d/a.bin")
    assert container.startswith(("/", "s3://"))
    ref = FileRef(container, "range", 3, 4, 4, -1, "")
    with FileReader() as reader:
        assert reader.read(ref) == b"3456"


def test_a_file_is_the_same_until_it_is_not(place: Place) -> None:
    place.write("a", b"12")
    stat = place.stat("a")
    assert stat is not None
    known = {"sha256": hashlib.sha256(b"12").hexdigest(), "num_bytes": 2, "token": stat.token}
    assert place.is_same("a", **known)  # type: ignore[arg-type]
    place.write("a", b"21")
    assert not place.is_same("a", **known)  # type: ignore[arg-type]
    place.remove("a")
    assert not place.is_same("a", **known)  # type: ignore[arg-type]


def test_the_same_file_behind_a_url_is_not_read(remote: Place, storage: S3Server) -> None:
    remote.write("a", b"12")
    stat = remote.stat("a")
    storage.forget()
    assert stat is not None
    assert remote.is_same("a", sha256="", num_bytes=2, token=stat.token)
    assert storage.counts()["GET"] == 0


def test_a_place_can_be_pickled(place: Place) -> None:
    with place.claim():
        pickle.loads(pickle.dumps(place)).write("a", b"1")
    assert place.read("a") == b"1"


def test_a_folder_that_cannot_be_written_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be written"):
        LocalPlace(tmp_path / "file").write("a/b", b"")


# Faults


def _exercise(place: Place) -> None:
    for number in range(5):
        place.write(f"d/{number}.json", str(number).encode())
        with place.new_file(f"t/{number}.tar") as path:
            path.write_bytes(bytes([number]) * 1000)
    place.remove("d/0.json")
    assert place.names() == [
        *(f"d/{number}.json" for number in range(1, 5)),
        *(f"t/{number}.tar" for number in range(5)),
    ]
    for number in range(5):
        assert place.read(f"t/{number}.tar") == bytes([number]) * 1000


@pytest.mark.parametrize(
    "fault",
    [{"status": 503}, {"status": 500, "code": "InternalError"}, {"lost": True}],
    ids=["503", "500", "answer lost"],
)
def test_faults_that_pass_are_outlived(
    remote: Place, storage: S3Server, fault: dict[str, Any]
) -> None:
    storage.fail(
        *({"method": m, "of": "", "times": 3, **fault} for m in ("PUT", "GET", "HEAD", "DELETE"))
    )
    _exercise(remote)


def test_answers_that_break_off_are_asked_for_again(remote: Place, storage: S3Server) -> None:
    remote.write("a", bytes(50_000))
    storage.cut(3, of="/a")
    assert remote.read("a") == bytes(50_000)


def _write_for_long(place: Place, barrier: Any) -> None:
    barrier.wait(60)
    for number in range(60):
        place.write(f"n/{number:03}", bytes([number]) * 10_000)


def test_a_storage_that_is_killed_and_comes_back_is_written_on(
    remote: Place, storage: S3Server
) -> None:
    context = multiprocessing.get_context("spawn")
    patient = Retry(max_tries=12, first_wait=0.1, longest_wait=1.0)
    place = RemotePlace(remote.shown, patient)
    barrier = context.Barrier(2)
    writer = context.Process(target=_write_for_long, args=(place, barrier))
    writer.start()
    barrier.wait(60)
    for _ in range(3):
        time.sleep(0.3)
        storage.kill()
        time.sleep(0.3)
        storage.start()
    writer.join(120)
    assert writer.exitcode == 0
    assert {name: remote.read(name) for name in remote.names()} == {
        f"n/{number:03}": bytes([number]) * 10_000 for number in range(60)
    }


def test_a_storage_that_stays_away_interrupts_the_build(
    remote: Place, storage: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hqdata.remote.patience.PATIENCE", Retry(max_tries=2, first_wait=0.01))
    storage.refuse(10)
    with pytest.raises(InterruptedBuildError, match="cannot be reached") as caught:
        remote.read("a")
    assert caught.value.exit_status == 1
    assert caught.value.do is not None and "run the same command again" in caught.value.do


def _upload_and_wait(place: Place, path: str) -> None:
    with place.new_file("big.tar") as target:
        target.write_bytes(bytes(40 * 2**20))
        Path(path).touch()


def test_a_process_killed_in_an_upload_leaves_nothing(
    remote: Place, storage: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # of the other process
    storage.slow(0.5, times=50, method="PUT", of="big.tar")
    process = multiprocessing.get_context("spawn").Process(
        target=_upload_and_wait, args=(remote, str(tmp_path / "begun"))
    )
    process.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists() or not storage.counts()["PUT big.tar"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert remote.stat("big.tar") is None
    assert remote.names() == []


def test_what_killed_uploads_left_on_this_machine_is_removed(
    remote: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name, age in (("hqdata-upload-old", 1000), ("hqdata-upload-new", 0), ("other", 1000)):
        (tmp_path / name / "files").mkdir(parents=True)
        (tmp_path / name / "in-use").write_bytes(b"")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    held = tmp_path / "hqdata-upload-held"
    held.mkdir()
    with open(held / "in-use", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.utime(held, (0, 0))
        uploads._remove_left.cache_clear()
        with remote.new_file("a") as path:
            path.write_bytes(b"1")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["hqdata-upload-held", "hqdata-upload-new", "other"]


# Who writes


def test_one_process_at_a_time(place: Place) -> None:
    with (
        place.claim(),
        pytest.raises(BusyError, match="is writing to this folder"),
        Place.of(place.local or place.shown).claim(),
    ):
        pass
    with Place.of(place.local or place.shown).claim():
        place.write("a", b"1")
    assert place.names() == ["a"]


def test_who_shares_is_kept_out_by_who_does_not(place: Place) -> None:
    with place.claim(), pytest.raises(BusyError), place.claim(shared=True):
        pass
    with place.claim(shared=True), place.claim(shared=True):
        place.write("a", b"1")


def test_who_shares_a_folder_keeps_out_who_does_not(tmp_path: Path) -> None:
    place = Place.of(tmp_path / "out")
    with place.claim(shared=True), pytest.raises(BusyError), place.claim():
        pass


def test_a_claim_that_wrote_nothing_leaves_nothing(place: Place) -> None:
    with place.claim():
        pass
    assert place.names() == []
    assert place.local is None or not place.local.exists()


def _hold(place: Place, pipe: Any) -> None:
    with place.claim():
        pipe.send("held")
        time.sleep(600)


def test_what_a_dead_process_held_is_free_at_once_on_its_machine(place: Place) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_hold, args=(place, theirs))
    process.start()
    assert ours.poll(60) and ours.recv() == "held"
    with pytest.raises(BusyError, match=f"process {process.pid}"), place.claim():
        pass
    process.kill()
    process.join(30)
    with place.claim():
        place.write("a", b"1")


def test_what_another_machine_held_is_free_when_it_is_silent_for_long(
    remote: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the storage's clock: those of the two machines may be wrong."""
    remote.write(".hqdata/lock.json", b'{"id": "x", "host": "far", "pid": 7, "machine": "m"}')
    with pytest.raises(BusyError, match="process 7 on far"), remote.claim():
        pass
    monkeypatch.setattr(lease, "DEAD_SECONDS", 1.0)
    time.sleep(2.1)
    with remote.claim():
        lock = remote.read(".hqdata/lock.json")
        assert lock is not None and b'"far"' not in lock
    assert remote.read(".hqdata/lock.json") is None


def test_who_holds_it_is_not_silent(remote: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long ago it began."""
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(lease, "DEAD_SECONDS", 1.5)
    monkeypatch.setattr(lease, "_is_dead_here", lambda holder: False)
    with remote.claim():
        time.sleep(3)
        with pytest.raises(BusyError), Place.of(remote.shown).claim():
            pass
        remote.write("a", b"1")
    assert [name for name, _ in Origin(remote.shown).walk()] == ["a"]


def test_who_was_held_for_dead_writes_no_more(
    remote: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.1)
    with remote.claim():
        Place.of(remote.shown).write(".hqdata/lock.json", b'{"id": "heir"}')
        deadline = time.monotonic() + 20
        with pytest.raises(BusyError, match="has taken over"):
            while time.monotonic() < deadline:
                remote.write("a", b"1")
                time.sleep(0.05)
    assert remote.read(".hqdata/lock.json") == b'{"id": "heir"}'


def test_a_claim_whose_answer_is_lost_is_had(remote: Place, storage: S3Server) -> None:
    storage.lose_answers(2, of="lock.json")
    with remote.claim():
        remote.write("a", b"1")


def _race(place: Place, barrier: Any, winners: Any) -> None:
    place.stat("x")
    barrier.wait(60)
    try:
        with place.claim():
            winners.put(os.getpid())
            time.sleep(3)
    except BusyError:
        pass


@pytest.mark.parametrize("stale", [False, True], ids=["free", "left by a dead process"])
def test_of_many_that_claim_at_once_one_does(remote: Place, stale: bool) -> None:
    context = multiprocessing.get_context("spawn")
    if stale:
        ours, theirs = context.Pipe()
        dead = context.Process(target=_hold, args=(remote, theirs))
        dead.start()
        assert ours.poll(60)
        dead.kill()
        dead.join(30)
    barrier, winners = context.Barrier(3), context.Queue()
    racers = [context.Process(target=_race, args=(remote, barrier, winners)) for _ in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0, 0, 0]
    winners.get(timeout=10)
    assert winners.empty()


# Temporary names


def _name_of_child(path: Path, pipe: Any) -> None:
    pipe.send(temporary_name(path).name)


def test_an_unfinished_file_has_a_name_of_its_process_alone(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    path = tmp_path / "a.tar"
    ours, theirs = context.Pipe()
    child = context.Process(target=_name_of_child, args=(path, theirs))
    child.start()
    other = ours.recv()
    child.join(30)
    mine = temporary_name(path).name
    assert mine == temporary_name(path).name
    assert mine.rpartition(".")[0].rpartition(".")[2] != other.split(".")[-2]
    for name in (mine, other):
        assert name.startswith(".a.tar.") and name.endswith(".tmp")
