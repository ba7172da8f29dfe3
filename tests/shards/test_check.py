"""Whatever is not as it was built is found and named."""

from __future__ import annotations

import json
import shutil
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hqdata.errors import DatasetError
from hqdata.shards.check import check
from hqdata.shards.dataset import Dataset, write_samples
from hqdata.shards.reader import ShardReader
from support.builds import build_own, own_sources
from support.pictures import encode, photo


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = own_sources(tmp_path_factory.mktemp("sources"), {"one": 4, "two": 3})
    (root / "two" / "images" / "no mask.jpg").write_bytes(encode(photo(9)))
    out = tmp_path_factory.mktemp("built") / "data"
    result = build_own(root, out, ["one", "two"], samples_per_shard=2)
    assert result.info.num_samples == 7 and len(result.problems) == 1
    return out


@pytest.fixture
def data(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "data"))


def found(root: Path, *, quick: bool = False) -> list[tuple[str, str, str]]:
    return [(d.path, d.key, d.message) for d in check(root, quick=quick).damages]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


SHARD = "one/all-00000-of-00002.tar"


def first(root: Path) -> dict[str, int]:
    """Offsets of the first sample of the shard, and a few places between."""
    members = list(ShardReader(root / SHARD))
    last = members[2]
    return {
        "image": members[0].offset + len(members[0].data) // 2,
        "mask": members[1].offset + len(members[1].data) - 20,
        "record": last.offset + 20,
        "header": members[1].offset - 512 + 3,
        "padding": members[0].offset + len(members[0].data),
        "end": (root / SHARD).stat().st_size - 1,
    }


@pytest.mark.parametrize("quick", [True, False])
def test_an_undamaged_data_set_is_clean(built: Path, quick: bool) -> None:
    result = check(built, quick=quick)
    assert (result.damages, result.missing) == ((), ())
    assert result.num_bytes == sum(path.stat().st_size for path in built.glob("*/*.tar"))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(data: Path, workers: int) -> None:
    flip(data / SHARD, first(data)["image"])
    assert check(data, workers=workers).damages == check(data).damages != ()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("image", "the image's SHA-256 differs"),
        ("mask", "the mask's SHA-256 differs"),
        ("record", "record"),
        ("header", "no valid tar header"),
        ("padding", "padding"),
        ("end", "the end of the shard is not zero"),
    ],
)
def test_a_flipped_bit_anywhere_in_a_shard_is_found(data: Path, place: str, said: str) -> None:
    flip(data / SHARD, first(data)[place])
    [*quick] = found(data, quick=True)
    assert [(path, "has SHA-256" in message) for path, _, message in quick] == [(SHARD, True)]
    full = found(data)
    assert {path for path, _, _ in full} == {SHARD}
    assert any(said in message for _, _, message in full), full
    assert any("has SHA-256" in message for _, _, message in full)
    if place in ("image", "mask", "record"):
        key = next(iter(ShardReader(data / SHARD))).key
        assert any(found_key == key for _, found_key, _ in full)


@pytest.mark.parametrize("member", range(6))
def test_a_shard_cut_at_a_member_is_found(data: Path, member: int) -> None:
    path = data / SHARD
    offset = [m.offset for m in ShardReader(path)][member] - 512
    path.write_bytes(path.read_bytes()[:offset])
    assert any("the shard ends" in message for _, _, message in found(data))
    assert any("should have" in message for _, _, message in found(data, quick=True))


def test_a_shard_with_a_proper_end_but_too_few_samples_is_found(data: Path) -> None:
    path = data / SHARD
    offset = [m.offset for m in ShardReader(path)][3] - 512
    path.write_bytes(path.read_bytes()[:offset] + bytes(1024))
    assert any("1 samples and 0 odd members" in message for _, _, message in found(data))


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize(
    ("damage", "path", "said"),
    [
        (lambda d: (d / SHARD).unlink(), SHARD, "No such file"),  # a shard is missing
        (
            lambda d: shutil.copy(d / SHARD, d / "one/all-00009-of-00002.tar"),
            "one/all-00009-of-00002.tar",
            "no shard of this data set",
        ),  # a shard too many
        (lambda d: (d / SHARD).write_bytes(b""), SHARD, "should have"),  # an empty shard
        (
            lambda d: shutil.copy(d / "one/all-00001-of-00002.tar", d / SHARD),
            SHARD,
            "should have",
        ),  # two shards swapped
        (
            lambda d: (d / "samples.parquet").write_bytes(b"PAR1 no more"),
            "samples.parquet",
            "cannot be read",
        ),  # a table that is none
        (lambda d: flip(d / "samples.parquet", 200), "samples.parquet", "SHA-256"),  # a bit of it
        (
            lambda d: (d / "problems.jsonl").write_text("{nonsense\n"),
            "problems.jsonl",
            "cannot be read",
        ),  # problems that are no JSON
        (lambda d: (d / "problems.jsonl").unlink(), "problems.jsonl", "cannot be read"),  # none
        (
            lambda d: (d / "problems.jsonl").write_text(""),
            "problems.jsonl",
            "0 problems here, 1",
        ),  # problems emptied
        (
            lambda d: (d / "problems.jsonl").write_text('["a list"]\n'),
            "problems.jsonl",
            "cannot be read",
        ),  # JSON of another form
        (
            lambda d: (d / "problems.jsonl").write_text('{"source": "one"}\n'),
            "problems.jsonl",
            "cannot be read",
        ),  # rows without their fields
        (lambda d: (d / "_info.json").unlink(), "_info.json", "cannot be read"),  # timm's file
        (lambda d: flip(d / "_info.json", 40), "_info.json", "does not say"),
        (lambda d: (d / "problems.jsonl").write_bytes(b"\xff\xfe"), "problems.jsonl", "cannot"),
    ],
)
def test_damage_of_whole_files_is_found(
    data: Path, damage: Callable[[Path], object], path: str, said: str, quick: bool
) -> None:
    damage(data)
    full = found(data, quick=quick)
    assert any(where == path and said in message for where, _, message in full), full


def test_a_missing_table_is_an_error_that_says_what_to_do(data: Path) -> None:
    (data / "samples.parquet").unlink()
    with pytest.raises(DatasetError, match=r"samples\.parquet"):
        check(data)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("width", 97, "width is 96 in the record, 97"),
        ("image_sha256", "0" * 64, "the image's SHA-256 differs"),
        ("mask_offset", 0, "its mask is at"),
        ("record_size", 1, "its record is at"),
        ("box", [0, 0, 1, 1], "box is"),
        ("licence", "MIT", "licence is"),
        ("mask_thinness", 0.0, "mask_thinness is"),
        ("key", "one-other", "members"),
        ("split", "train", "split is all in the record"),
        ("pdq", "0" * 64, "pdq in samples.parquet differs in"),
        ("pdq_trimmed", "f" * 64, "pdq_trimmed in samples.parquet differs in"),
        ("pdq", "no hash", "pdq in samples.parquet differs in 256 bits"),
        ("pdq", "00", "pdq in samples.parquet differs in 256 bits"),
    ],
)
def test_an_edited_row_of_the_table_is_found(
    data: Path, column: str, value: object, said: str
) -> None:
    rows = pq.read_table(data / "samples.parquet").to_pylist()
    rows[0][column] = value
    write_samples(data / "samples.parquet", rows)
    full = found(data)
    assert any(said in message for _, _, message in full), full
    assert ("samples.parquet", "", "its SHA-256 is not the one in dataset.json") in full
    assert found(data, quick=True)


@pytest.mark.parametrize(("bits", "is_damage"), [(8, False), (9, True)])
def test_fingerprints_may_differ_by_rounding(data: Path, bits: int, is_damage: bool) -> None:
    rows = pq.read_table(data / "samples.parquet").to_pylist()
    rows[0]["pdq"] = f"{int(rows[0]['pdq'], 16) ^ (2**bits - 1):064x}"
    write_samples(data / "samples.parquet", rows)
    said = [message for _, key, message in found(data) if key == rows[0]["key"]]
    assert bool(said) is is_damage


def test_where_a_border_ends_is_not_held_against_other_versions(data: Path) -> None:
    rows = pq.read_table(data / "samples.parquet").to_pylist()
    rows[0]["pdq_trimmed"] = "f" * 64
    write_samples(data / "samples.parquet", rows)
    _edit(data, lambda j: j["tool"].update(pdqhash="0.0.1"))
    assert not any("pdq" in message for _, _, message in found(data))


def test_two_equal_keys_and_a_missing_row_are_found(data: Path) -> None:
    rows = pq.read_table(data / "samples.parquet").to_pylist()
    write_samples(data / "samples.parquet", [rows[0], rows[0], *rows[2:]])
    full = found(data)
    assert ("samples.parquet", rows[0]["key"], "the key stands there 2 times") in full
    write_samples(data / "samples.parquet", rows[1:])
    assert any("number of samples: 7 here, 6" in message for _, _, message in found(data))


def test_figures_that_were_never_measured_are_found_though_every_digest_fits(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hqdata.shards.check as module

    measured = module.measure
    monkeypatch.setattr(
        module, "measure", lambda values: replace(measured(values), soft_fraction=0.5)
    )
    assert all("the mask's figures are" in message for _, _, message in found(data))
    assert len(found(data)) == 7


def _edit(root: Path, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    document = json.loads((root / "dataset.json").read_text())
    change(document)
    (root / "dataset.json").write_text(json.dumps(document))


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(num_samples=8), "number of samples"),
        (lambda d: d.update(num_problems=0), "1 problems here, 0"),
        (lambda d: d.update(digest="0" * 64), "the digest is not"),
        (lambda d: d.update(samples_sha256="0" * 64), "SHA-256"),
        (lambda d: d["shards"][0].update(sha256="0" * 64), "the digest is not"),
        (lambda d: d["shards"][0].update(num_samples=1), "samples by shard"),
        (lambda d: d["shards"].pop(), "is no shard"),
        (lambda d: d["sources"]["one"]["all"].update(built=5), "samples by split"),
    ],
)
def test_an_edited_dataset_json_is_found(
    data: Path,
    change: Callable[[dict], object],  # type: ignore[type-arg]
    said: str,
    quick: bool,
) -> None:
    _edit(data, change)
    full = found(data, quick=quick)
    assert any(said in message for _, _, message in full), full


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda d: _edit(d, lambda j: j.update(schema_version=99)), "schema version 99"),
        (lambda d: _edit(d, lambda j: j.pop("shards")), "not valid"),
        (lambda d: _edit(d, lambda j: j["shards"][0].update(path="../../a.tar")), "not valid"),
        (lambda d: (d / "dataset.json").write_text("{"), "damaged"),
        (lambda d: (d / "dataset.json").write_bytes(b"\xff\xfe\x00"), "damaged"),
        (lambda d: (d / "dataset.json").write_text("[]"), "schema version None"),
        (lambda d: (d / "dataset.json").unlink(), "not finished"),
        (lambda d: shutil.rmtree(d), "no folder"),
    ],
)
@pytest.mark.parametrize("read", [check, Dataset.open])
def test_without_a_dataset_json_that_can_be_read_there_is_no_data_set(
    data: Path, damage: Callable[[Path], object], said: str, read: Callable[[Path], object]
) -> None:
    damage(data)
    with pytest.raises(DatasetError, match=said):
        read(data)


def test_a_count_that_the_recipe_expects_and_nobody_built_is_told(data: Path) -> None:
    _edit(data, lambda j: j["sources"]["one"]["all"].update(expected=10))
    assert check(data).missing == (("one", "all", "4 of 10"),)


def test_any_sample_is_one_read_away(built: Path) -> None:
    dataset = Dataset.open(built)
    assert len(dataset) == 7
    members = {
        (member.key, member.ext): member.data
        for path in built.glob("*/*.tar")
        for member in ShardReader(path)
    }
    for index in range(7):
        row = dataset.row(index)
        for name, ext in (("image", "jpg"), ("mask", "mask.png"), ("record", "json")):
            assert dataset.read_member(row, name) == members[(row["key"], ext)]


def test_reading_from_a_shard_that_is_gone_or_short_is_a_named_error(data: Path) -> None:
    dataset = Dataset.open(data)
    row = dataset.row(len(dataset) - 1)
    path = data / row["shard"]
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(DatasetError, match="the shard ends before the record"):
        dataset.read_member(row, "record")
    path.unlink()
    with pytest.raises(DatasetError, match="cannot open the shard"):
        dataset.read_member(row, "image")


def test_checking_takes_little_time_and_memory(built: Path) -> None:
    begin = time.perf_counter()
    tracemalloc.start()
    try:
        check(built)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * 2**20
    assert time.perf_counter() - begin < 10
