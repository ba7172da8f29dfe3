"""Walking a tar: as the standard library lists it, hopping and streaming alike, never fooled."""

from __future__ import annotations

import io
import os
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hqdata.bundles import walk
from hqdata.bundles.stream import Chunks
from hqdata.bundles.walk import Member, NoTarError, TruncatedTarError, walk_file, walk_stream
from support.sa1b import tar_of

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def pieces(data: bytes, size: int = 700) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


def hopping(data: bytes) -> tuple[list[Member], NoTarError | None]:
    handle = os.memfd_create("tar")
    try:
        os.write(handle, data)
        return listed(walk_file(handle, len(data)))
    finally:
        os.close(handle)


def streaming(
    data: bytes, size: int | None = None, piece: int = 700
) -> tuple[list[Member], NoTarError | None]:
    return listed(walk_stream(Chunks(pieces(data, piece)), size))


def listed(members: Iterator[Member]) -> tuple[list[Member], NoTarError | None]:
    """What came, and what ended it."""
    found: list[Member] = []
    try:
        for member in members:
            found.append(member)  # noqa: PERF402  # what came before an error counts
    except NoTarError as error:
        return found, error
    return found, None


def both(data: bytes) -> tuple[list[Member], NoTarError | None]:
    """What hopping tells; streaming tells the same."""
    members, error = hopping(data)
    for size in (None, len(data)):
        streamed, told = streaming(data, size)
        assert streamed == members
        assert type(told) is type(error)
    return members, error


NAMES = st.text("abcXYZ0é_ .-/", min_size=1, max_size=230).filter(
    lambda name: (
        not name.startswith("/")
        and not name.endswith("/")
        and name.strip("/") != ""
        and ".." not in name.split("/")
    )
)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(NAMES, st.integers(0, 1_600)), max_size=6),
    st.sampled_from(["gnu", "pax"]),
    st.integers(1, 3_000),
)
def test_members_are_those_that_the_standard_library_lists(
    files: list[tuple[str, int]], form: str, piece: int
) -> None:
    data = tar_of([(name, bytes(size)) for name, size in files], format=FORMATS[form])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = [Member(m.name, m.offset_data, m.size) for m in tar if m.isreg()]
    members, error = both(data)
    # The library takes slashes off the end and dots off the front, which nobody cares for here.
    assert [(m.name.rstrip("/"), m.offset, m.size) for m in members] == [
        (m.name, m.offset, m.size) for m in expected
    ]
    assert error is None
    assert streaming(data, None, piece)[0] == members


def test_a_long_ustar_name_is_put_together_from_its_prefix() -> None:
    name = f"{'folder/' * 18}sa_1.jpg"
    members, error = both(tar_of([(name, b"x")], format=tarfile.USTAR_FORMAT))
    assert [m.name for m in members] == [name]
    assert error is None


@settings(max_examples=60)
@given(st.data())
def test_a_tar_cut_anywhere_tells_the_members_before_the_cut(data: st.DataObject) -> None:
    files = [("sa_1.jpg", bytes(700)), ("sa_1.json", bytes(512)), ("x" * 150, b"1"), ("e", b"")]
    whole = tar_of(files, format=tarfile.GNU_FORMAT)
    members, _ = both(whole)
    end = max(m.offset + m.size + -m.size % 512 for m in members)
    cut = data.draw(st.integers(0, end))
    before, error = both(whole[:cut])
    assert before == [m for m in members if m.offset + m.size + -m.size % 512 <= cut]
    assert isinstance(error, TruncatedTarError)


def test_one_block_of_zeros_ends_a_tar_and_what_follows_is_not_read() -> None:
    whole = tar_of([("a", b"1")])
    assert both(whole[:1536])[1] is None
    assert len(both(whole[:1536] + tar_of([("b", b"2")]))[0]) == 1


def test_bytes_are_taken_of_those_that_are_wanted_and_no_others() -> None:
    data = tar_of([("a", b"1" * 900), ("b", b"2" * 700), ("c", b""), ("d", b"4")])
    taken: dict[str, bytes] = {}
    wanted: Callable[[Member], bool] = lambda member: member.name in "bd"  # noqa: E731
    take: Callable[[Member, bytes], None] = lambda m, d: taken.__setitem__(m.name, d)  # noqa: E731
    names = [m.name for m in walk_stream(Chunks(pieces(data)), None, wanted, take)]
    assert names == ["a", "b", "c", "d"]
    assert taken == {"b": b"2" * 700, "d": b"4"}


def header(name: bytes = b"sa_1.jpg", size: bytes = b"00000000001\0", kind: bytes = b"0") -> bytes:
    block = bytearray(512)
    block[: len(name)] = name
    block[124:136] = size.ljust(12, b"\0")[:12]
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


END = bytes(1024)


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"6", b"S", b"D", b"V"])
def test_links_devices_and_sparse_files_are_refused(kind: bytes) -> None:
    members, error = both(header(kind=kind, size=b"0") + END)
    assert [bool(m.refused) for m in members] == [True]
    assert error is None


@pytest.mark.parametrize(
    "name",
    [b"/sa_1.jpg", b"../sa_1.jpg", b"a/../../sa_1.jpg", b"C:/sa_1.jpg", b"a\\..\\b", b"a\nb"],
)
def test_paths_that_leave_the_archive_are_refused(name: bytes) -> None:
    members, error = both(header(name) + bytes(512) + header(b"b") + bytes(512) + END)
    assert [bool(m.refused) for m in members] == [True, False]
    assert error is None


def test_a_sparse_map_is_passed_over() -> None:
    block = bytearray(header(kind=b"S", size=b"1"))
    block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    more = bytes(504) + b"\1" + bytes(7)
    data = bytes(block) + more + bytes(512) + b"x" + bytes(511) + header(b"after") + bytes(512)
    members, error = both(data + END)
    assert [(m.name, bool(m.refused)) for m in members] == [("sa_1.jpg", True), ("after", False)]
    assert error is None


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    padded = records + bytes(-len(records) % 512)
    return header(b"pax", b"%o" % len(records), kind) + padded


LIES = {
    "a size below zero": header(size=b"\xff" * 12),
    "a size beyond all bounds": header(size=b"\x80" + b"\x7f" * 11),
    "a size that is no number": header(size=b"12x4"),
    "a size with a sign": header(size=b"-1"),
    "a checksum that does not fit": header()[:100] + b"9" + header()[101:],
    "no header at all": b"\x89PNG" * 128,
    "a long name without end": header(kind=b"L", size=b"77777777777"),
    "a long name of a megabyte and more": header(kind=b"L", size=b"%o" % (2**20 + 1))
    + bytes(2**21),
    "headers about headers for ever": header(b"x", b"1", b"L") * 2 * 40,
    "a PAX record without length": pax(b"x path=a\n"),
    "a PAX record that is longer than all": pax(b"99 path=a\n"),
    "a PAX record of length nothing": pax(b"0 path=a\n"),
    "a PAX record that ends before it begins": pax(b"2 path=a\n"),
    "a PAX record without a line's end": pax(b"9 path=ab"),
    "a PAX size below zero": pax(b"11 size=-1\n") + header() + bytes(512),
    "a PAX size beyond all bounds": pax(b"30 size=99999999999999999999\n".replace(b"30", b"29"))
    + header()
    + bytes(512),
    "digits that are no ASCII": pax("13 size=٣\n".encode().replace(b"13", b"11"))
    + header()
    + bytes(512),
    "a global size for all": pax(b"19 size=9999999999\n", b"g") + header() + bytes(512),
    "a sparse map without end": header(kind=b"S")[:482] + b"\1" + header(kind=b"S")[483:],
}


@pytest.mark.parametrize("lie", LIES)
def test_headers_that_lie_end_the_walk_and_take_no_memory(lie: str) -> None:
    data = tar_of([("before", b"x" * 600)])[:1536] + LIES[lie] + bytes(512) + END
    tracemalloc.start()
    members, error = both(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [m.name for m in members] == ["before"]
    assert isinstance(error, NoTarError)
    assert peak < 8 * 2**20


def test_sparse_files_of_pax_are_refused() -> None:
    said = pax(b"22 GNU.sparse.major=1\n")
    members, error = both(said + header() + bytes(512) + header(b"after") + bytes(512) + END)
    assert [(m.name, bool(m.refused)) for m in members] == [("sa_1.jpg", True), ("after", False)]
    assert error is None


def test_a_sparse_map_that_goes_on_is_bounded() -> None:
    block = bytearray(header(kind=b"S", size=b"0"))
    block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    more = bytes(504) + b"\1" + bytes(7)
    members, error = both(bytes(block) + more * 2_100)
    assert members == []
    assert "goes on and on" in str(error)


def test_a_member_of_another_size_than_its_header_says_so_in_pax() -> None:
    data = pax(b"12 size=600\n") + header(size=b"0") + bytes(1024) + END
    members, error = both(data)
    assert [(m.name, m.size) for m in members] == [("sa_1.jpg", 600)]
    assert error is None


def test_more_members_than_any_archive_has_end_the_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "MAX_MEMBERS", 5)
    members, error = both(header(size=b"0") * 9 + END)
    assert len(members) == 5
    assert "more than 5 members" in str(error)


@settings(max_examples=150)
@given(st.binary(max_size=3_000), st.integers(0, 1_535), st.binary(min_size=1, max_size=40))
def test_no_bytes_raise_anything_else(noise: bytes, at: int, change: bytes) -> None:
    both(noise)
    whole = tar_of([("x" * 120, b"1"), ("sa_1.json", b"{}")], format=tarfile.GNU_FORMAT)
    both(whole[:at] + change + whole[at + len(change) :])


def test_a_large_local_tar_is_hopped_through(tmp_path: Path) -> None:
    """Ten sparse gigabytes: whoever read them would be here for long."""
    path = tmp_path / "sa_000000.tar"
    with open(path, "wb") as file:
        for number in range(10):
            file.seek(number * (2**30 + 512))
            file.write(header(b"sa_%d.jpg" % number, b"%o" % 2**30))
        file.seek(10 * (2**30 + 512))
        file.write(END)
    with open(path, "rb") as file:
        source = walk.Hopping(file.fileno(), path.stat().st_size)
        members = list(walk_stream(source, path.stat().st_size))
    assert [m.size for m in members] == [2**30] * 10
    assert source.num_bytes == 11 * 512
