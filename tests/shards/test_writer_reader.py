"""A shard is a plain USTAR file, the same for the same samples, and its reader trusts nothing."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hqdata.fingerprint import GlobalHash
from hqdata.normalise import Origin, Settings, normalise
from hqdata.sample import Sample
from hqdata.shards.reader import ShardError, ShardReader
from hqdata.shards.writer import BLOCK, Placed, ShardWriter, header
from support.pictures import disc, encode, photo


def sample(number: int) -> Sample:
    origin = Origin(f"own-{number}", "own", "all", "CC0-1.0", f"i/{number}.jpg", f"m/{number}.png")
    image, mask = encode(photo(number, 24, 16)), encode(disc(24, 16, 5), "PNG")
    return normalise(image, mask, origin, Settings())


def write(path: Path, samples: list[Sample]) -> list[Placed]:
    with ShardWriter(path) as writer:
        placed = [writer.add(one) for one in samples]
        writer.close()
    return placed


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shard") / "a.tar"
    write(path, [sample(0), sample(1)])
    return path


def read(path: Path) -> list[tuple[str, str, int, bytes]]:
    return [(m.key, m.ext, m.offset, m.data) for m in ShardReader(path)]


def test_tarfile_reads_the_members_in_order(shard: Path) -> None:
    with tarfile.open(shard) as tar:
        members = tar.getmembers()
        contents = [tar.extractfile(member).read() for member in members]  # type: ignore[union-attr]
    names = [f"own-{n}.{ext}" for n in (0, 1) for ext in ("jpg", "mask.png", "json")]
    assert [member.name for member in members] == names
    for member in members:
        assert (member.mode, member.uid, member.gid, member.mtime) == (0o644, 0, 0, 0)
        assert (member.uname, member.gname, member.type) == ("", "", tarfile.REGTYPE)
    one = sample(0)
    assert contents[:3] == [one.image, one.mask, one.record.to_bytes()]


def test_the_bytes_are_those_that_tarfile_writes_as_ustar(shard: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number in (0, 1):
            one = sample(number)
            contents = {"jpg": one.image, "mask.png": one.mask, "json": one.record.to_bytes()}
            for ext, data in contents.items():
                info = tarfile.TarInfo(f"own-{number}.{ext}")
                info.size, info.mode = len(data), 0o644
                tar.addfile(info, io.BytesIO(data))
    ours = shard.read_bytes()
    theirs = buffer.getvalue()  # padded to records of 10 KiB
    assert theirs.startswith(ours) and not any(theirs[len(ours) :])


def test_gnu_tar_lists_it_without_a_word_of_complaint(shard: Path) -> None:
    run = subprocess.run(
        ["tar", "-tvf", str(shard)],
        capture_output=True,
        text=True,
        env={"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"},
    )
    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    assert len(lines) == 6
    assert all("-rw-r--r-- 0/0" in line and "1970-01-01" in line for line in lines)


def test_offsets_and_sizes_are_exact(tmp_path: Path) -> None:
    samples = [sample(number) for number in range(5)]
    placed = write(tmp_path / "a.tar", samples)
    data = (tmp_path / "a.tar").read_bytes()
    for one, where in zip(samples, placed, strict=True):
        wanted = (one.image, one.mask, one.record.to_bytes())
        for member, content in zip((where.image, where.mask, where.record), wanted, strict=True):
            assert data[member.offset : member.offset + member.size] == content


def test_the_same_samples_give_the_same_bytes_and_the_digest_told(tmp_path: Path) -> None:
    digests = []
    for name in ("a.tar", "b.tar"):
        with ShardWriter(tmp_path / name) as writer:
            writer.add(sample(3))
            digests.append(writer.close())
        data = (tmp_path / name).read_bytes()
        assert digests[-1] == (hashlib.sha256(data).hexdigest(), len(data))
    assert digests[0] == digests[1]


def test_a_shard_left_by_an_error_is_not_there_at_all(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), ShardWriter(tmp_path / "a.tar") as writer:
        writer.add(sample(0))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_nothing_has_the_name_of_a_shard_before_it_is_whole(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "a.tar") as writer:
        writer.add(sample(0))
        assert not (tmp_path / "a.tar").exists()
        writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("k" * 101, 1),  # a name longer than the header has room for
        ("schön.jpg", 1),  # a name that is not ASCII
        ("a.jpg", 8**11),  # 8 GiB
    ],
)
def test_what_has_no_ustar_header_is_refused(name: str, size: int) -> None:
    with pytest.raises(ValueError):
        header(name, size)


CONTENTS = st.lists(
    st.tuples(st.binary(max_size=1600), st.binary(max_size=1100)), min_size=0, max_size=5
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(contents=CONTENTS)
def test_what_is_written_is_read(tmp_path: Path, contents: list[tuple[bytes, bytes]]) -> None:
    record = sample(0).record
    samples = [
        Sample(f"k-{number}", image, "jpg", mask, record, GlobalHash(bytes(32), bytes(32), 0))
        for number, (image, mask) in enumerate(contents)
    ]
    path = tmp_path / "a.tar"
    placed = write(path, samples)
    reader = ShardReader(path)
    members = list(reader)
    assert [(m.key, m.ext) for m in members] == [
        (one.key, ext) for one in samples for ext in ("jpg", "mask.png", "json")
    ]
    for index, (one, where) in enumerate(zip(samples, placed, strict=True)):
        got = members[3 * index : 3 * index + 3]
        assert [m.data for m in got] == [one.image, one.mask, record.to_bytes()]
        assert [m.offset for m in got] == [
            where.image.offset,
            where.mask.offset,
            where.record.offset,
        ]
    assert reader.num_bytes == path.stat().st_size
    assert reader.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def _structure(shard: Path) -> list[int]:
    """Positions of all bytes of headers, padding and the end."""
    content = {at for _, _, offset, data in read(shard) for at in range(offset, offset + len(data))}
    return [at for at in range(shard.stat().st_size) if at not in content]


def test_every_byte_of_headers_padding_and_end_is_looked_at(shard: Path, tmp_path: Path) -> None:
    whole = shard.read_bytes()
    path = tmp_path / "a.tar"
    positions = _structure(shard)
    assert len(positions) > 6 * BLOCK
    path.write_bytes(whole)
    missed = []
    with open(path, "r+b", buffering=0) as file:
        for number, at in enumerate(positions):
            os.pwrite(file.fileno(), bytes([whole[at] ^ 1 << number % 8]), at)
            if not _is_refused(path):
                missed.append(at)
            os.pwrite(file.fileno(), whole[at : at + 1], at)
    assert missed == []
    assert not _is_refused(path)


def _is_refused(path: Path) -> bool:
    try:
        list(ShardReader(path))
    except ShardError:
        return True
    return False


def test_a_shard_cut_at_any_block_is_refused(shard: Path, tmp_path: Path) -> None:
    whole = shard.read_bytes()
    path = tmp_path / "a.tar"
    for cut in [*range(0, len(whole), BLOCK), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        with pytest.raises(ShardError, match="the shard ends"):
            list(ShardReader(path))


@pytest.mark.parametrize("tail", [b"\0", b"x", bytes(BLOCK), bytes(10_240)])
def test_bytes_after_the_end_are_refused(shard: Path, tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(shard.read_bytes() + tail)
    reader = ShardReader(path)
    with pytest.raises(ShardError, match=f"{len(tail)} bytes follow") as caught:
        list(reader)
    assert caught.value.position == shard.stat().st_size
    assert reader.num_bytes == path.stat().st_size


def test_a_header_that_claims_gigabytes_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(header("a.jpg", 2**31) + bytes(2 * BLOCK))
    with pytest.raises(ShardError):
        list(ShardReader(path))


@pytest.mark.parametrize("kind", [b"1", b"2", b"5", b"L", b"x"])
def test_members_that_are_no_plain_files_are_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("a.jpg")
    info.type, info.linkname = kind, "/etc/passwd"
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(2 * BLOCK))
    with pytest.raises(ShardError, match="not one that a build writes"):
        list(ShardReader(path))
