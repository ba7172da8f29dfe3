"""A bounded folder of shards that several processes share."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hqdata.errors import UserError
from training.data.cache import FOLDER, ShardCache

SIZE = 1_000


def name_of(letter: str) -> str:
    return f"set/source/{letter}.tar"


def content(letter: str) -> bytes:
    return letter.encode() * SIZE


def filled_with(letter: str) -> Callable[[BinaryIO], None]:
    def fill(file: BinaryIO) -> None:
        file.write(content(letter))

    return fill


def refused(file: BinaryIO) -> None:
    raise AssertionError("it lies there already")


def put(cache: ShardCache, letter: str, keep: str = "") -> None:
    names = {name_of(kept) for kept in keep}
    os.close(cache.open(name_of(letter), SIZE, filled_with(letter), keep=names))
    time.sleep(0.01)  # times of files are a few milliseconds coarse


def held(cache: ShardCache) -> str:
    return "".join(sorted(path.stem for path in cache.root.glob("*/*/*.tar")))


def unfinished(cache: ShardCache) -> list[Path]:
    return list(cache.root.rglob("*.tmp"))


@pytest.fixture
def cache(tmp_path: Path) -> ShardCache:
    return ShardCache(tmp_path, 3 * SIZE)


# One process


def test_a_shard_is_made_once(cache: ShardCache) -> None:
    put(cache, "a")
    handle = cache.open(name_of("a"), SIZE, refused)
    assert os.pread(handle, 2 * SIZE, 0) == content("a")
    os.close(handle)
    assert unfinished(cache) == []


def test_the_shard_used_longest_ago_makes_room(cache: ShardCache) -> None:
    for letter in "abc":
        put(cache, letter)
    os.close(cache.open(name_of("a"), SIZE, refused))
    put(cache, "d")
    assert held(cache) == "acd"


def test_what_is_still_needed_goes_last(cache: ShardCache) -> None:
    for letter in "abc":
        put(cache, letter)
    put(cache, "d", keep="ab")
    assert held(cache) == "abd"
    put(cache, "e", keep="abd")
    assert held(cache) == "bde"


def test_a_shard_that_goes_can_be_read_to_the_end(cache: ShardCache) -> None:
    handle = cache.open(name_of("a"), SIZE, filled_with("a"))
    for letter in "bcd":
        put(cache, letter)
    assert held(cache) == "bcd"
    assert os.pread(handle, SIZE, 0) == content("a")
    os.close(handle)


def test_a_file_of_another_size_is_made_anew(cache: ShardCache) -> None:
    put(cache, "a")
    os.truncate(cache.root / name_of("a"), SIZE - 1)
    assert not cache.has(name_of("a"), SIZE)
    handle = cache.open(name_of("a"), SIZE, filled_with("a"))
    assert os.pread(handle, SIZE, 0) == content("a")
    os.close(handle)


@settings(max_examples=40, deadline=None)
@given(
    asked=st.lists(st.sampled_from("abcdefg"), max_size=25),
    room=st.integers(1, 4),
    kept=st.sets(st.sampled_from("abcdefg")),
)
def test_the_bound_holds_whatever_is_asked_for(
    tmp_path_factory: pytest.TempPathFactory, asked: list[str], room: int, kept: set[str]
) -> None:
    cache = ShardCache(tmp_path_factory.mktemp("cache"), room * SIZE)
    for letter in asked:
        handle = cache.open(
            name_of(letter), SIZE, filled_with(letter), keep=set(map(name_of, kept))
        )
        assert os.pread(handle, 2 * SIZE, 0) == content(letter)
        os.close(handle)
        assert letter in held(cache)
        assert len(held(cache)) <= room


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_failure_leaves_nothing(cache: ShardCache, error: type[BaseException]) -> None:
    def fill(file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(error):
        cache.open(name_of("a"), SIZE, fill)
    assert held(cache) == ""
    assert unfinished(cache) == []
    put(cache, "a")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told(cache: ShardCache, number: int) -> None:
    def fill(file: BinaryIO) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(UserError, match="no room left") as caught:
        cache.open(name_of("a"), SIZE, fill)
    assert caught.value.where == str(cache.root)
    assert caught.value.do is not None
    assert unfinished(cache) == []


def test_a_folder_that_is_no_cache_is_left_alone(tmp_path: Path) -> None:
    """Shards of the user's own are not taken for what may be removed."""
    own = tmp_path / FOLDER / "mine" / "dis" / "train-00000-of-00001.tar"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"precious")
    with pytest.raises(UserError, match="no cache of shards"):
        ShardCache(tmp_path, 1)
    assert own.read_bytes() == b"precious"


def test_other_things_beside_the_cache_are_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "mine" / "dis" / "train-00000-of-00001.tar"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"precious")
    cache = ShardCache(tmp_path, SIZE)
    put(cache, "a")
    put(cache, "b")
    assert own.read_bytes() == b"precious"


def test_a_cache_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be written"):
        ShardCache(tmp_path / "file", 1)


# Ahead of need


def test_nothing_that_is_needed_goes_for_what_is_ahead(cache: ShardCache) -> None:
    for letter in "abc":
        put(cache, letter)
    names = {name_of(letter) for letter in "abcd"}
    assert not cache.fetch(name_of("d"), SIZE, filled_with("d"), keep=names)
    assert held(cache) == "abc"
    assert cache.fetch(name_of("d"), SIZE, filled_with("d"), keep=names - {name_of("b")})
    assert held(cache) == "acd"
    assert not cache.fetch(name_of("d"), SIZE, refused, keep=())


def test_few_are_fetched_ahead_at_once_and_a_needed_one_does_not_wait(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, 9 * SIZE)
    go_on = threading.Event()
    begun = threading.Semaphore(0)

    def slow(letter: str) -> Callable[[BinaryIO], None]:
        def fill(file: BinaryIO) -> None:
            begun.release()
            go_on.wait(10)
            file.write(content(letter))

        return fill

    threads = [
        threading.Thread(target=cache.fetch, args=(name_of(x), SIZE, slow(x)), kwargs={"keep": ()})
        for x in "abcd"
    ]
    for thread in threads:
        thread.start()
    assert all(begun.acquire(timeout=10) for _ in threads)
    assert not cache.fetch(name_of("e"), SIZE, refused, keep=())
    put(cache, "f")
    assert held(cache) == "f"
    go_on.set()
    for thread in threads:
        thread.join()
    assert held(cache) == "abcdf"


def test_unfinished_shards_take_room(cache: ShardCache) -> None:
    put(cache, "a")
    put(cache, "b")
    tried: list[bool] = []

    def fill(file: BinaryIO) -> None:
        needed = {name_of("a"), name_of("b")}
        tried.append(cache.fetch(name_of("d"), SIZE, refused, keep=needed))
        file.write(content("c"))

    os.close(cache.open(name_of("c"), SIZE, fill))
    assert tried == [False]
    assert held(cache) == "abc"


def test_more_than_there_is_room_for_goes_when_it_is_whole(cache: ShardCache) -> None:
    """Four shards that are needed at the same time where three have room."""

    def fill(letters: str) -> Callable[[BinaryIO], None]:
        def work(file: BinaryIO) -> None:
            file.write(content(letters[0]))
            if letters[1:]:
                os.close(cache.open(name_of(letters[1]), SIZE, fill(letters[1:])))

        return work

    os.close(cache.open(name_of("a"), SIZE, fill("abcd")))
    assert len(held(cache)) == 3


# Several processes


def _make_slowly(folder: Path, letters: str, made: object, go: object) -> None:
    cache = ShardCache(folder, 100 * SIZE)
    go.wait(30)  # type: ignore[attr-defined]

    for letter in letters:

        def fill(file: BinaryIO, letter: str = letter) -> None:
            made.put(letter)  # type: ignore[attr-defined]
            time.sleep(0.02)
            file.write(content(letter))

        handle = cache.open(name_of(letter), SIZE, fill)
        if os.pread(handle, SIZE, 0) != content(letter):
            raise ValueError(letter)
        os.close(handle)


def test_processes_that_need_the_same_shards_make_each_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    made, go = context.SimpleQueue(), context.Event()
    workers = [
        context.Process(target=_make_slowly, args=(tmp_path, letters, made, go))
        for letters in ("abcdef", "abcdef", "fedcba", "cadbfe")
    ]
    for worker in workers:
        worker.start()
    go.set()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0] * 4
    found = []
    while not made.empty():
        found.append(made.get())
    assert sorted(found) == list("abcdef")


def _hang(folder: Path, begun: object) -> None:
    def fill(file: BinaryIO) -> None:
        file.write(content("a")[: SIZE // 2])
        begun.set()  # type: ignore[attr-defined]
        time.sleep(60)

    ShardCache(folder, 3 * SIZE).open(name_of("a"), SIZE, fill)


@pytest.mark.parametrize("next_one", ["a", "b"])
def test_what_a_killed_process_left_is_not_taken_for_whole(tmp_path: Path, next_one: str) -> None:
    """Whichever shard is asked for next, the half of the other one is removed."""
    context = multiprocessing.get_context("fork")
    begun = context.Event()
    worker = context.Process(target=_hang, args=(tmp_path, begun))
    worker.start()
    assert begun.wait(30)
    cache = ShardCache(tmp_path, 3 * SIZE)
    assert [path.stat().st_size for path in unfinished(cache)] == [SIZE]
    assert not cache.has(name_of("a"), SIZE)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(30)
    put(cache, next_one)
    assert unfinished(cache) == []
    assert held(cache) == next_one


def test_a_lock_ends_with_its_holder_though_a_forked_child_lives(cache: ShardCache) -> None:
    """A worker that is forked while a thread downloads inherits the descriptor of its lock."""
    context = multiprocessing.get_context("fork")
    end = context.Event()

    def fill(file: BinaryIO) -> None:
        child.start()
        file.write(content("a"))

    child = context.Process(target=end.wait, args=(30,))
    os.close(cache.open(name_of("a"), SIZE, fill))
    with cache.locked(name_of("a"), wait=False) as is_held:
        assert is_held
    end.set()
    child.join(30)


def _read_in_turn(folder: Path, number: int) -> None:
    letters = "abcdefgh"
    cache = ShardCache(folder, 2 * SIZE)
    for step in range(60):
        letter = letters[(step * (2 * number + 1)) % len(letters)]
        handle = cache.open(name_of(letter), SIZE, filled_with(letter))
        if os.pread(handle, 2 * SIZE, 0) != content(letter):
            raise ValueError(letter)
        os.close(handle)


def test_processes_that_take_the_room_from_each_other_all_come_through(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_read_in_turn, args=(tmp_path, n)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    cache = ShardCache(tmp_path, 2 * SIZE)
    assert len(held(cache)) <= 2
    assert unfinished(cache) == []
