"""Reading, writing and listing a folder behind a URL: from S3, from web servers, from disks."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqdata.errors import DatasetError, HqdataError, UserError
from hqdata.remote.origin import Origin, Stat, is_url, reader_of
from hqdata.remote.retry import PassingError, ShortReadError
from support.http_server import Server, serving, status
from support.s3 import S3Server


@pytest.fixture
def origin(storage: S3Server, tmp_path: Path) -> Origin:
    """A folder of this test alone."""
    return Origin(storage.url(tmp_path.as_posix().strip("/")))


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("s3://bucket/a", True),
        (" https://host/a ", True),
        ("data/a", False),
        ("/a://b", False),
        ("C:\\a", False),
        ("", False),
    ],
)
def test_a_url_is_told_from_a_path(text: str, is_one: bool) -> None:
    assert is_url(text) == is_one


# Reading


def test_what_is_written_is_read(origin: Origin) -> None:
    assert origin.write("a/b.bin", b"12345")
    assert origin.read("a/b.bin", 5) == b"12345"
    assert list(origin.chunks("a/b.bin", 3)) == [b"45"]
    assert list(origin.chunks("a/b.bin", 5)) == []
    with pytest.raises(DatasetError, match="more than 4 bytes"):
        origin.read("a/b.bin", 4)


@pytest.mark.parametrize("name", ["a b.jpg", "é.jpg", "a#1.jpg", "a%20b.jpg", "a+b&c=d;e.jpg"])
def test_a_name_means_itself(origin: Origin, name: str) -> None:
    origin.write(name, b"x")
    assert [found for found, _ in origin.walk()] == [name]
    assert origin.range(name, 0, 1) == b"x"
    kept, inside = reader_of(origin.reference(name))
    assert kept.read(inside, 9) == b"x"


def test_a_range_is_one_request(origin: Origin, storage: S3Server) -> None:
    origin.write("a", bytes(range(100)))
    storage.forget()
    assert origin.range("a", 10, 3) == b"\x0a\x0b\x0c"
    assert storage.counts()["GET"] == 1
    assert sum(storage.counts()[method] for method in ("HEAD", "PUT", "POST")) == 0
    assert origin.range("a", 5, 0) == b""
    assert storage.counts()["GET"] == 1


@pytest.mark.parametrize("offset", [98, 100, 1000])
def test_a_range_behind_the_end_is_short(origin: Origin, offset: int) -> None:
    origin.write("a", bytes(100))
    with pytest.raises(ShortReadError, match="where 5 were asked for"):
        origin.range("a", offset, 5)
    assert origin.part("a", offset, 5) == bytes(max(0, 100 - offset))


def test_an_object_is_read_in_one_request(origin: Origin, storage: S3Server) -> None:
    """However large: all of it is of one version."""
    data = os.urandom(20 * 2**20)
    origin.write("a", data)
    storage.forget()
    assert b"".join(origin.chunks("a")) == data
    assert storage.counts()["GET"] == 1 and storage.counts()["HEAD"] == 0


# What is there


def test_the_token_changes_with_the_bytes(origin: Origin) -> None:
    assert origin.stat("a") is None
    origin.write("a", b"1")
    first = origin.stat("a")
    origin.write("a", b"2")
    second = origin.stat("a")
    assert first is not None and second is not None
    assert first.size == second.size == 1
    assert first.token != second.token
    assert second.modified >= first.modified > 1.7e9
    origin.write("a", b"1")
    assert origin.stat("a") == first


def test_a_folder_is_no_file(origin: Origin) -> None:
    origin.write("d/a", b"1")
    assert origin.stat("d") is None
    assert origin.stat("") is None


def test_all_files_below_are_listed_in_order(origin: Origin, storage: S3Server) -> None:
    """Of this folder and of none whose name begins in the same way."""
    names = [f"d{number % 7}/x{number:04}" for number in range(1100)]  # more than a page of S3
    source = Origin(origin.reference("deep"))
    for name in names[:5]:
        source.write(name, b"ab")
    Origin(origin.reference("deeper")).write("a", b"1")
    found = list(source.walk())
    assert [name for name, _ in found] == sorted(names[:5])
    assert {stat.size for _, stat in found} == {2}
    assert found[0][1] == source.stat(found[0][0])


def test_more_files_than_a_page_holds_are_listed(tmp_path: Path, storage: S3Server) -> None:
    names = sorted(f"many/{number:05}.jpg" for number in range(1234))
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    storage.kill()
    storage.fill(tmp_path)
    storage.start()
    assert [f"many/{name}" for name, _ in Origin(storage.url("many")).walk()] == names


def test_names_that_are_no_paths_are_left_out(storage: S3Server) -> None:
    base = Origin(storage.url("odd"))
    base.write("a", b"1")
    raw = base._file_system()
    for key in ("../b", "a//b", "./c", "tab\tname", "folder/"):
        raw.call_s3("put_object", Bucket=storage.bucket, Key=f"odd/{key}", Body=b"")
    assert [name for name, _ in base.walk()] == ["a"]


# Writing


def test_only_new_leaves_alone_what_is_there(origin: Origin) -> None:
    assert origin.write("a", b"1", only_new=True)
    assert not origin.write("a", b"2", only_new=True)
    assert origin.read("a", 9) == b"1"
    assert origin.write("a", b"2")


def _race(url: str, barrier: Any, number: int, wins: Any) -> None:
    origin = Origin(url)
    origin.stat("x")  # connected
    barrier.wait(60)
    if origin.write("prize", str(number).encode(), only_new=True):
        wins.put(number)


def test_of_many_that_write_only_new_one_does(origin: Origin) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, wins = context.Barrier(3), context.Queue()
    racers = [
        context.Process(target=_race, args=(origin.reference(""), barrier, number, wins))
        for number in range(3)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0, 0, 0]
    winner = wins.get(timeout=10)
    assert origin.read("prize", 9) == str(winner).encode()
    assert wins.empty()


@pytest.mark.parametrize("num_bytes", [0, 1000, 40 * 2**20])
def test_a_file_is_uploaded_whole(origin: Origin, tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(os.urandom(1) * num_bytes)
    stat = origin.put("up/x", path)
    assert stat == origin.stat("up/x")
    assert stat.size == num_bytes
    assert b"".join(origin.chunks("up/x")) == path.read_bytes()


def test_an_upload_in_parts_that_fails_leaves_nothing(
    origin: Origin, storage: S3Server, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(40 * 2**20))
    storage.refuse(1, status=500, code="InternalError", method="PUT", of="up/x")
    with pytest.raises(PassingError):
        origin.put("up/x", path)
    assert origin.stat("up/x") is None
    assert list(origin.walk()) == []


def test_what_is_not_there_can_be_removed(origin: Origin) -> None:
    origin.write("a", b"1")
    origin.remove("a")
    origin.remove("a")
    assert origin.stat("a") is None


# Faults

CALLS: dict[str, Callable[[Origin, Path], object]] = {
    "stat": lambda o, p: o.stat("a"),
    "read": lambda o, p: o.read("a", 100),
    "range": lambda o, p: o.range("a", 0, 2),
    "walk": lambda o, p: list(o.walk()),
    "write": lambda o, p: o.write("a", b"12"),
    "write only new": lambda o, p: o.write("b", b"12", only_new=True),
    "put": lambda o, p: o.put("a", p),
    "remove": lambda o, p: o.remove("b"),
}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small"
    path.write_bytes(b"12")
    return path


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("code", "name"),
    [(503, "SlowDown"), (500, "InternalError"), (429, "Slow")],
)
def test_a_passing_fault_is_told_as_such(
    origin: Origin, storage: S3Server, small: Path, call: str, code: int, name: str
) -> None:
    origin.write("a", b"12")
    storage.refuse(1, status=code, code=name)
    with pytest.raises(PassingError):
        CALLS[call](origin, small)
    CALLS[call](origin, small)


@pytest.mark.parametrize("call", CALLS)
def test_a_request_is_made_once(origin: Origin, storage: S3Server, small: Path, call: str) -> None:
    """The libraries below would make up to 25 of one, and wait for minutes."""
    origin.write("a", b"12")
    storage.forget()
    storage.refuse(100, status=503)
    with pytest.raises(PassingError):
        CALLS[call](origin, small)
    counts = storage.counts()
    assert sum(counts[method] for method in ("GET", "HEAD", "PUT", "POST", "DELETE")) <= 2


@pytest.mark.parametrize("call", CALLS)
def test_refused_access_is_a_question_of_credentials(
    origin: Origin, storage: S3Server, small: Path, call: str
) -> None:
    origin.write("a", b"12")
    storage.refuse(1, status=403, code="AccessDenied")
    with pytest.raises(UserError, match=r"access is refused \(HTTP 403\)") as caught:
        CALLS[call](origin, small)
    assert "testing" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_credentials_that_ran_out_are_told_as_refused_access(
    origin: Origin, storage: S3Server
) -> None:
    storage.refuse(1, status=400, code="ExpiredToken")
    with pytest.raises(UserError, match="access is refused"):
        origin.write("a", b"")


@pytest.mark.parametrize("call", ["read", "range", "walk", "write", "put", "remove"])
def test_a_fault_that_passes_may_have_a_status_that_says_otherwise(
    origin: Origin, storage: S3Server, small: Path, call: str
) -> None:
    origin.write("a", b"12")
    storage.refuse(1, status=400, code="RequestTimeout")
    with pytest.raises(PassingError):
        CALLS[call](origin, small)


def test_without_credentials_it_says_so(storage: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match="access is refused") as caught:
        Origin(storage.url("a")).stat("b")
    assert caught.value.do is not None and "AWS_PROFILE" in caught.value.do


def test_an_answer_that_breaks_off_is_not_taken_for_whole(
    origin: Origin, storage: S3Server
) -> None:
    origin.write("a", bytes(10_000))
    for read in (lambda: origin.read("a", 10_000), lambda: origin.range("a", 0, 5000)):
        storage.cut(1)
        with pytest.raises(PassingError):
            read()
        assert set(read()) == {0}


def test_a_write_whose_answer_is_lost_may_have_been_done(origin: Origin, storage: S3Server) -> None:
    """Whether the library below tries a broken connection again or not: nobody hears True."""
    storage.lose_answers(1)
    try:
        heard = origin.write("a", b"1", only_new=True)
    except PassingError:
        heard = False
    assert not heard
    assert not origin.write("a", b"1", only_new=True)
    assert origin.read("a", 9) == b"1"


def test_no_bucket_is_told(storage: S3Server) -> None:
    missing = Origin("s3://no-such-bucket/a")
    for call in (lambda: list(missing.walk()), lambda: missing.write("a", b"")):
        with pytest.raises(HqdataError, match=r"no such (bucket|file)"):
            call()


@pytest.mark.parametrize("call", CALLS)
def test_a_killed_storage_is_missed_and_found_again(
    storage: S3Server, small: Path, call: str
) -> None:
    origin = Origin(storage.url(f"killed/{call}"))
    origin.write("a", b"12")
    storage.kill()
    with pytest.raises(PassingError):
        CALLS[call](origin, small)
    storage.start()
    CALLS[call](origin, small)
    assert origin.read("a", 9) == b"12"


# Processes


def test_an_origin_can_be_pickled_and_used_after_a_fork(origin: Origin) -> None:
    origin.write("a", b"1")
    assert pickle.loads(pickle.dumps(origin)).read("a", 9) == b"1"
    context = multiprocessing.get_context("fork")
    child = context.Process(target=origin.write, args=("b", b"2"))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert origin.read("b", 9) == b"2"


# Other storages


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_what_fsspec_knows_can_be_written(scheme: str, tmp_path: Path, small: Path) -> None:
    url = f"memory://{tmp_path}" if scheme == "memory" else tmp_path.as_uri() + "/new"
    origin = Origin(url)
    assert origin.write("d/a", b"123")
    assert not origin.write("d/a", b"4", only_new=True)
    assert origin.put("d/e/b", small).size == 2
    assert [name for name, _ in origin.walk()] == ["d/a", "d/e/b"]
    assert origin.range("d/a", 1, 2) == b"23"
    assert list(origin.chunks("d/a", 1)) == [b"23"]
    kept, name = reader_of(origin.reference("d/a"))
    assert kept.read(name, 9) == b"123"
    origin.remove("d/a")
    assert origin.stat("d/a") is None


@pytest.mark.parametrize("url", ["https://host/a", "hf://datasets/me/a"])
def test_what_cannot_be_written_says_so_before_it_asks(url: str, small: Path) -> None:
    for call in (
        lambda: Origin(url).write("a", b""),
        lambda: Origin(url).put("a", small),
        lambda: Origin(url).remove("a"),
        lambda: Origin(url).check_writable(),
    ):
        with pytest.raises(UserError, match="nothing can be written"):
            call()


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(tmp_path) as running:
        yield running


def test_a_web_server_that_sends_only_whole_files_is_read_past(web: Server, tmp_path: Path) -> None:
    (tmp_path / "ab").write_bytes(bytes(range(200)))
    origin = Origin(web.url)
    assert origin.range("ab", 100, 3) == bytes([100, 101, 102])
    assert b"".join(origin.chunks("ab", 198)) == bytes([198, 199])
    with pytest.raises(ShortReadError):
        origin.range("ab", 199, 3)


def test_a_web_server_in_trouble_is_not_one_without_the_file(web: Server, tmp_path: Path) -> None:
    """Else a file would be left out of a listing for it."""
    (tmp_path / "a").write_bytes(b"123")
    origin = Origin(web.url)
    assert origin.stat("none") is None
    web.always["a"] = status(503)
    with pytest.raises(PassingError):
        origin.stat("a")
    web.always["a"] = status(403)
    with pytest.raises(UserError, match="access is refused"):
        origin.stat("a")
    del web.always["a"]
    found = origin.stat("a")
    assert found is not None and found.size == 3
    gone = Origin("http://127.0.0.1:9")
    with pytest.raises(PassingError):
        gone.stat("a")


def test_a_web_server_that_cannot_list_is_told(web: Server) -> None:
    with pytest.raises(HqdataError):
        list(Origin(web.url).walk())


def test_pages_that_list_are_followed(web: Server, tmp_path: Path) -> None:
    """And nothing that they link to elsewhere."""
    (tmp_path / "d e").mkdir()
    (tmp_path / "d e" / "x.jpg").write_bytes(b"123")
    (tmp_path / "y.jpg").write_bytes(b"1")
    pages = {
        "base/": b'<a href="../">up</a><a href="/base/d%20e/">d</a><a href="https://else/z">z</a>'
        b'<a href="y.jpg">y</a><a href="?C=N">sort</a>',
        "base/d%20e/": b'<a href="../">up</a><a href="x.jpg">x</a>',
    }
    with _pages(pages, {"base/y.jpg": b"1", "base/d%20e/x.jpg": b"123"}) as url:
        found = list(Origin(f"{url}/base").walk())
    assert [(name, stat.size) for name, stat in found] == [("d e/x.jpg", 3), ("y.jpg", 1)]


def _pages(pages: dict[str, bytes], files: dict[str, bytes]) -> Any:
    import threading
    from contextlib import contextmanager
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/").partition("?")[0]
            data = pages.get(path, files.get(path))
            if data is None:
                self.send_error(404)
                return
            self.send_response(200)
            kind = "text/html" if path in pages else "image/jpeg"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    @contextmanager
    def running() -> Any:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        server.server_close()
        thread.join()

    return running()


# Secrets


def test_a_url_with_secrets_is_not_written_down(web: Server) -> None:
    for url in ("https://ann:hunter2@host/a", "https://host/a?sig=hunter2", "s3://k:hunter2@b/a"):
        with pytest.raises(UserError, match="would be written down") as caught:
            Origin(url).reference("x.jpg")
        assert "hunter" not in str(caught.value)
    signed = Origin(web.url + "/?sig=hunter2")
    for code in (403, 404, 500, 418):
        web.always["a"] = status(code)
        with pytest.raises((HqdataError, PassingError)) as failed:
            signed.range("a", 0, 5)
        assert "hunter" not in str(failed.value) + repr(failed.value)


@given(st.builds(Stat, st.integers(0), st.text(), st.floats(allow_nan=False)))
def test_when_it_was_written_does_not_tell_files_apart(stat: Stat) -> None:
    assert stat == Stat(stat.size, stat.token)


def test_a_storage_without_tokens_has_one_of_size_and_time(tmp_path: Path) -> None:
    origin = Origin(tmp_path.as_uri())
    (tmp_path / "a").write_bytes(b"1")
    first = origin.stat("a")
    os.utime(tmp_path / "a", (1, 1))
    assert first is not None and first != origin.stat("a")
    assert fsspec.filesystem("file").info(str(tmp_path / "a")).get("ETag") is None
