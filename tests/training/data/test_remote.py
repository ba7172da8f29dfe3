"""Reading samples from shards behind a URL, from servers that fail."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from hqdata.errors import DatasetError, HqdataError, UserError
from hqdata.remote.failures import redact
from hqdata.remote.retry import Retry
from hqdata.shards.dataset import Dataset, DatasetInfo
from support.http_server import (
    Server,
    after,
    altered,
    cut_off,
    held_by,
    longer,
    serving,
    short,
    status,
)
from support.tiny_shards import build_tiny
from training.data.mirror import open_remote
from training.data.order import Rows, ShardRows, sequential_order
from training.data.plan import plan_shards, workable_bytes
from training.data.remote import RemoteShards
from training.data.shards import LocalShards, OpenedShards, open_shards

PLENTY = 2**30


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return build_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def server(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(dataset.root) as running:
        yield running


class Pauses(list[float]):
    """Notes how long it should have waited."""

    def retry(self, max_tries: int = 4) -> Retry:
        return Retry(max_tries=max_tries, sleep=self.append, jitter=lambda: 0.0)


def opened(url: str, cache: Path, pauses: Pauses | None = None) -> RemoteShards:
    retry = (Pauses() if pauses is None else pauses).retry()
    return open_remote(url, cache_dir=cache, cache_bytes=PLENTY, opening=retry, reading=retry)[1]


def order_of(dataset: Dataset, epoch: int = 0) -> Rows:
    shards = []
    names = dataset.samples["shard"].to_pylist()
    for path in sorted(set(names)):
        rows = tuple(row for row, name in enumerate(names) if name == path)
        shards.append(ShardRows(path, path.partition("/")[0], rows))
    return sequential_order(shards, digest=dataset.info.digest, seed=3, epoch=epoch)


def shards_in(cache: Path) -> dict[str, int]:
    """Sizes of all whole shards of a cache."""
    return {path.name: path.stat().st_size for path in cache.rglob("*.tar")}


def leftovers(cache: Path) -> list[Path]:
    return list(cache.rglob("*.tmp"))


FIRST = "blues/all-00000-of-00002.tar"
"""Shard of row 0."""


# Whole epochs


def test_an_epoch_comes_whole_through_a_cache_that_is_smaller_than_the_data_set(
    dataset: Dataset, server: Server, tmp_path: Path
) -> None:
    total = sum(shard.num_bytes for shard in dataset.info.shards)
    room = workable_bytes(dataset.info.shards)
    assert room < total
    shards = open_shards(server.url, cache_dir=tmp_path, cache_bytes=room)
    assert shards.is_remote
    assert shards.dataset.info == dataset.info
    local = LocalShards(dataset)
    for epoch in range(2):
        order = order_of(shards.dataset, epoch)
        shards.reader.follow(order, order_of(shards.dataset, epoch + 1))
        seen = []
        for row in order.tolist():
            sample = shards.reader.read(row)
            assert sample == local.read(row)
            seen.append(sample.key)
            assert sum(shards_in(tmp_path).values()) <= room
        assert len(seen) == len(set(seen)) == len(dataset)
    shards.reader.close()
    assert leftovers(tmp_path) == []


def test_a_shard_is_downloaded_once_an_epoch(
    dataset: Dataset, server: Server, tmp_path: Path
) -> None:
    """However small the cache, as long as all that is needed at once has room."""
    room = workable_bytes(dataset.info.shards)
    shards = open_shards(server.url, cache_dir=tmp_path, cache_bytes=room)
    order = order_of(dataset)
    shards.reader.follow(order)
    for row in order.tolist():
        shards.reader.read(row)
    shards.reader.close()
    assert {name: n for name, n in server.requests.items() if name.endswith(".tar")} == {
        shard.path: 1 for shard in dataset.info.shards
    }


def test_what_was_downloaded_serves_the_next_run(
    dataset: Dataset, server: Server, tmp_path: Path
) -> None:
    for _ in range(2):
        reader = opened(server.url, tmp_path)
        reader.read(0)
        reader.close()
    assert server.requests["samples.parquet"] == 1
    assert server.requests["dataset.json"] == 2
    assert server.requests[FIRST] == 1


def test_a_damaged_manifest_of_the_cache_is_downloaded_again(
    server: Server, tmp_path: Path
) -> None:
    opened(server.url, tmp_path)
    mirror = next(tmp_path.rglob("samples.parquet"))
    mirror.write_bytes(mirror.read_bytes()[:-1])
    opened(server.url, tmp_path).read(0)
    assert server.requests["samples.parquet"] == 2


def test_the_next_shards_are_there_before_they_are_needed(
    dataset: Dataset, server: Server, tmp_path: Path
) -> None:
    """After the first sample, all that has room is downloaded, in the order of need."""
    reader = opened(server.url, tmp_path)
    order = order_of(dataset)
    reader.read(int(order[0]))
    reader.follow(order)
    reader.read(int(order[0]))
    deadline = time.monotonic() + 20
    while len(shards_in(tmp_path)) < len(dataset.info.shards) and time.monotonic() < deadline:
        time.sleep(0.01)
    asked = [name for name in server.requests if name.endswith(".tar")]
    assert asked == [use.path for use in plan_shards(order, dataset)]
    before = server.requests.copy()
    for row in order.tolist():
        reader.read(row)
    assert server.requests == before
    reader.close()


def test_a_reader_that_goes_takes_its_thread_along(
    dataset: Dataset, server: Server, tmp_path: Path
) -> None:
    others = set(threading.enumerate())
    reader = opened(server.url, tmp_path)
    reader.follow(order_of(dataset))
    reader.read(0)
    (thread,) = (t for t in set(threading.enumerate()) - others if t.name == "shards-ahead")
    del reader
    thread.join(20)
    assert not thread.is_alive()


def test_closing_calls_off_what_is_being_downloaded_ahead(
    dataset: Dataset, server: Server, tmp_path: Path
) -> None:
    order = order_of(dataset)
    ahead = plan_shards(order, dataset)[1].path
    go_on = threading.Event()
    server.always[ahead] = held_by(go_on)
    reader = opened(server.url, tmp_path)
    reader.follow(order)
    reader.read(int(order[0]))
    while not server.requests[ahead]:
        time.sleep(0.01)
    threading.Timer(0.2, go_on.set).start()
    reader.close()
    assert leftovers(tmp_path) == []


def test_a_shard_that_is_being_read_counts_as_used(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays open meanwhile: nothing else would tell other processes."""
    reader = opened(server.url, tmp_path)
    reader.read(0)
    (path,) = tmp_path.rglob("*.tar")
    os.utime(path, (0, 0))
    reader.read(1)  # so soon after, it is not worth the call
    assert path.stat().st_mtime == 0
    monkeypatch.setattr("training.data.remote._SECONDS_BETWEEN_MARKS", 0.0)
    reader.read(1)
    assert path.stat().st_mtime > 0


# Other schemes


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_what_fsspec_knows_can_be_read(dataset: Dataset, scheme: str, tmp_path: Path) -> None:
    url = dataset.root.as_uri()
    if scheme == "memory":
        url = "memory://bucket/shards"
        fsspec.filesystem("memory").put(str(dataset.root), "/bucket/shards", recursive=True)
    shards = open_shards(url, cache_dir=tmp_path)
    assert [shards.reader.read(row).key for row in range(len(dataset))] == dataset.samples[
        "key"
    ].to_pylist()
    shards.reader.close()


def test_the_cache_lies_where_caches_lie(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert open_shards(dataset.root.as_uri()).dataset.root.is_relative_to(tmp_path / "hqdata")


def test_an_unknown_scheme_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'htps' \(did you mean 'https'\?\)"):
        open_shards("htps://host/shards", cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("scheme", "module", "package"),
    [("s3", "s3fs", "s3fs"), ("gs", "gcsfs", "gcsfs"), ("https", "aiohttp", r"fsspec\[http\]")],
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, module: str, package: str
) -> None:
    registry = importlib.import_module("fsspec.registry")
    monkeypatch.setitem(__import__("sys").modules, module, None)
    # What was loaded once in this process is not looked for again.
    monkeypatch.delitem(registry._registry, scheme, raising=False)
    with pytest.raises(UserError, match=f"pip install '{package}'"):
        open_shards(f"{scheme}://place/shards", cache_dir=tmp_path)


# Faults that pass


@pytest.mark.parametrize(
    "fault",
    [cut_off, status(500), status(503), status(429), status(408)],
    ids=["cut off", "500", "503", "429", "408"],
)
def test_a_fault_that_passes_is_outlived(
    dataset: Dataset, server: Server, tmp_path: Path, fault: Any
) -> None:
    pauses = Pauses()
    for name in ("dataset.json", "samples.parquet", FIRST):
        server.answers[name] += [fault, fault]
    reader = opened(server.url, tmp_path, pauses)
    assert reader.read(0) == LocalShards(dataset).read(0)
    assert pauses == [1, 2] * 3
    assert leftovers(tmp_path) == []


def test_a_server_that_asks_for_time_gets_it(server: Server, tmp_path: Path) -> None:
    pauses = Pauses()
    server.answers["dataset.json"].append(status(503, Retry_After="17"))
    opened(server.url, tmp_path, pauses)
    assert pauses == [17]


def test_a_slow_server_is_waited_for(server: Server, tmp_path: Path) -> None:
    pauses = Pauses()
    server.always[FIRST] = after(0.3)
    opened(server.url, tmp_path, pauses).read(0)
    assert pauses == []


def test_a_server_that_stays_broken_is_given_up(
    dataset: Dataset, server: Server, tmp_path: Path
) -> None:
    pauses = Pauses()
    reader = opened(server.url, tmp_path, pauses)
    server.always[FIRST] = status(502)
    with pytest.raises(UserError, match="cannot be had: HTTP 502") as caught:
        reader.read(0)
    assert caught.value.where == f"{server.url}/{FIRST}"
    assert pauses == [1, 2, 4]
    assert (shards_in(tmp_path), leftovers(tmp_path)) == ({}, [])
    del server.always[FIRST]
    reader.read(0)


def test_a_host_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(UserError, match=r"dataset\.json cannot be had: .*Connect"):
        opened("http://127.0.0.1:1/shards", tmp_path)


# Faults that stay


@pytest.mark.parametrize("code", [401, 403])
def test_refused_access_stops_at_once(server: Server, tmp_path: Path, code: int) -> None:
    pauses = Pauses()
    reader = opened(server.url, tmp_path, pauses)
    server.always[FIRST] = status(code)
    server.always["dataset.json"] = status(code)
    for attempt in (lambda: reader.read(0), lambda: opened(server.url, tmp_path, pauses)):
        with pytest.raises(UserError, match=rf"refused \(HTTP {code}\)") as caught:
            attempt()
        assert caught.value.do is not None
    assert pauses == []


def test_a_missing_shard_stops_at_once(dataset: Dataset, server: Server, tmp_path: Path) -> None:
    pauses = Pauses()
    reader = opened(server.url, tmp_path, pauses)
    server.always[FIRST] = status(404)
    with pytest.raises(DatasetError, match="no such file") as caught:
        reader.read(0)
    assert caught.value.where == f"{server.url}/{FIRST}"
    assert pauses == []


def test_a_url_without_a_data_set_is_told(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file") as caught:
        opened(f"{server.url}/reds", tmp_path)
    assert caught.value.where == f"{server.url}/reds/dataset.json"


@pytest.mark.parametrize("fault", [altered, short, longer], ids=lambda fault: fault.__name__)
def test_a_shard_that_comes_altered_is_tried_once_more(
    dataset: Dataset, server: Server, tmp_path: Path, fault: Any
) -> None:
    reader = opened(server.url, tmp_path)
    server.answers[FIRST] += [fault, fault, fault]
    with pytest.raises(DatasetError, match="not the shard that was built") as caught:
        reader.read(0)
    assert caught.value.where == f"{server.url}/{FIRST}"
    assert server.requests[FIRST] == 2
    assert (shards_in(tmp_path), leftovers(tmp_path)) == ({}, [])
    assert reader.read(0) == LocalShards(dataset).read(0)  # a bad one, and then a good one


@pytest.mark.parametrize("fault", [altered, short, longer], ids=lambda fault: fault.__name__)
def test_an_altered_table_is_refused(server: Server, tmp_path: Path, fault: Any) -> None:
    server.always["samples.parquet"] = fault
    with pytest.raises(DatasetError, match=r"not the samples\.parquet that was built"):
        opened(server.url, tmp_path)
    assert leftovers(tmp_path) == []


# A manifest that does not hang together


def _serve_changed(dataset: Dataset, folder: Path, change: Any, *, seal: bool) -> Path:
    """A copy whose dataset.json is changed, and sealed again or not."""
    root = folder / "changed"
    shutil.copytree(dataset.root, root)
    info = DatasetInfo.model_validate(change(json.loads((root / "dataset.json").read_bytes())))
    (root / "dataset.json").write_bytes((info.sealed() if seal else info).to_bytes())
    return root


@pytest.mark.parametrize(
    ("change", "seal", "message"),
    [
        ({"name": "other"}, False, "changed after it was written"),
        ({"digest": "0" * 64}, True, "not that of the list of shards"),
        ({"num_samples": 7}, True, "42 samples"),
    ],
)
def test_a_manifest_that_does_not_hang_together_is_refused(
    dataset: Dataset, tmp_path: Path, change: dict[str, Any], seal: bool, message: str
) -> None:
    root = _serve_changed(dataset, tmp_path, lambda d: {**d, **change}, seal=seal)
    with pytest.raises(DatasetError, match=message) as caught:
        open_shards(root.as_uri(), cache_dir=tmp_path / "cache")
    assert str(caught.value.where).startswith(root.as_uri())


@pytest.mark.parametrize("text", [b"<html>", b"", b"[]", b"{}", b'{"schema_version": 99}', b"\xff"])
def test_what_is_no_manifest_is_refused_with_its_url(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "dataset.json").write_bytes(text)
    with pytest.raises(DatasetError) as caught:
        open_shards(tmp_path.as_uri(), cache_dir=tmp_path / "cache")
    assert caught.value.where == f"{tmp_path.as_uri()}/dataset.json"


# Too little room


def test_a_cache_smaller_than_a_shard_is_refused_with_what_it_takes(
    dataset: Dataset, server: Server, tmp_path: Path
) -> None:
    largest = max(shard.num_bytes for shard in dataset.info.shards)
    with pytest.raises(UserError, match="no room for a shard") as caught:
        open_shards(server.url, cache_dir=tmp_path, cache_bytes=largest - 1)
    assert caught.value.expected is not None
    assert caught.value.expected.startswith(f"{workable_bytes(dataset.info.shards):,} bytes")


def test_an_order_that_needs_more_at_once_is_refused(
    dataset: Dataset, server: Server, tmp_path: Path
) -> None:
    room = workable_bytes(dataset.info.shards)
    shards = open_shards(server.url, cache_dir=tmp_path, cache_bytes=room)
    shards.reader.follow(order_of(dataset))
    total = sum(shard.num_bytes for shard in dataset.info.shards)
    with pytest.raises(UserError, match="needed at once") as caught:
        shards.reader.follow(np.concatenate([np.arange(42), np.arange(42)]))
    assert caught.value.expected == f"{total:,} bytes at least"


# Secrets


def test_credentials_reach_the_server_and_no_message(
    dataset: Dataset, server: Server, tmp_path: Path
) -> None:
    url = server.url.replace("http://", "http://ann:hunter2@") + "/?sig=hunter3"
    reader = opened(url, tmp_path)
    reader.read(0)
    assert server.queries == {"sig=hunter3"}
    assert None not in server.authorizations
    errors = []
    for fault in (status(403), status(404), status(500), status(418), cut_off, altered):
        server.always[FIRST] = server.always["dataset.json"] = fault
        shutil.rmtree(next(tmp_path.rglob("blues")))
        reader.close()
        for attempt in (lambda: reader.read(0), lambda: opened(url, tmp_path)):
            with pytest.raises(HqdataError) as caught:
                attempt()
            errors.append(caught.value)
    for error in errors:
        assert error.__suppress_context__
        assert "hunter" not in str(error) + repr(pickle.loads(pickle.dumps(error)))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@host:80/a/b?sig=1#x", "https://host:80/a/b"),
        ("s3://key:secret@bucket/a", "s3://bucket/a"),
        ("hf://datasets/me/shards@v1/a", "hf://datasets/me/shards@v1/a"),
    ],
)
def test_a_url_is_shown_without_secrets(url: str, shown: str) -> None:
    assert redact(url) == shown


# Several processes


def _read_rows(reader: Any, order: Rows, rank: int, pipe: Any, all_read: Any) -> None:
    reader.follow(order)
    pipe.send([reader.read(row).key for row in order[rank::2].tolist()])
    all_read.wait(60)  # closing calls off what is being downloaded for the other one
    reader.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_two_processes_share_what_is_downloaded(
    dataset: Dataset, server: Server, tmp_path: Path, method: str
) -> None:
    context = multiprocessing.get_context(method)
    reader = open_shards(server.url, cache_dir=tmp_path).reader
    reader.read(0)  # what is open here is not shared with the others
    order, all_read = order_of(dataset), context.Barrier(2)
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    workers = [
        context.Process(target=_read_rows, args=(reader, order, rank, pipe[1], all_read))
        for rank, pipe in enumerate(pipes)
    ]
    for worker in workers:
        worker.start()
    assert all(pipe[0].poll(60) for pipe in pipes)
    keys = [key for pipe in pipes for key in pipe[0].recv()]
    for worker in workers:
        worker.join(60)
    assert sorted(keys) == sorted(dataset.samples["key"].to_pylist())
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert server.requests["samples.parquet"] == 1
    assert {server.requests[shard.path] for shard in dataset.info.shards} == {1}


def _read_one(shards: OpenedShards, row: int) -> None:
    shards.reader.read(row)


def test_a_process_killed_in_the_middle_of_a_download_leaves_nothing_that_counts(
    dataset: Dataset, server: Server, tmp_path: Path
) -> None:
    shards = open_shards(server.url, cache_dir=tmp_path)
    go_on = threading.Event()
    server.answers[FIRST].append(held_by(go_on))
    worker = multiprocessing.get_context("fork").Process(target=_read_one, args=(shards, 0))
    worker.start()
    deadline = time.monotonic() + 30
    while not any(_begun(path) for path in leftovers(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(30)
    go_on.set()
    assert len(leftovers(tmp_path)) == 1
    assert shards_in(tmp_path) == {}
    assert shards.reader.read(0) == LocalShards(dataset).read(0)
    assert server.requests[FIRST] == 2
    assert leftovers(tmp_path) == []


def _begun(path: Path) -> bool:
    try:
        return any(path.read_bytes())
    except FileNotFoundError:
        return False


def test_a_shard_that_another_process_removes_is_read_on(
    dataset: Dataset, server: Server, tmp_path: Path
) -> None:
    """What is open stays good; what is not is downloaded again."""
    reader = opened(server.url, tmp_path)
    names = dataset.samples["shard"].to_pylist()
    first, other = names.index(names[0]), names.index(names[-1])
    whole = reader.read(first)
    next(tmp_path.rglob(Path(names[0]).name)).unlink()
    assert reader.read(first) == whole
    assert server.requests[names[0]] == 1
    reader.read(other)  # lets go of what is removed, so that the disk gets its room back
    assert reader.read(first) == whole
    assert server.requests[names[0]] == 2
