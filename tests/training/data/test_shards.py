"""Reading the bytes of samples from the shards of a folder."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqdata.errors import DatasetError
from hqdata.shards.dataset import Dataset
from support.tiny_shards import build_tiny
from training.data.members import Members, OpenFiles
from training.data.shards import LocalShards, SampleBytes, is_url, open_shards


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return build_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def own_copy(dataset: Dataset, tmp_path: Path) -> Dataset:
    """One that a test may damage."""
    shutil.copytree(dataset.root, tmp_path / "copy")
    return Dataset.open(tmp_path / "copy")


def expected(dataset: Dataset, row: int) -> SampleBytes:
    """What the data set itself reads."""
    table = dataset.row(row)
    image, mask = (dataset.read_member(table, member) for member in ("image", "mask"))
    return SampleBytes(table["key"], table["shard"], image, table["image_ext"], mask)


def test_every_sample_is_what_the_data_set_says(dataset: Dataset) -> None:
    reader = LocalShards(dataset)
    assert len(reader) == len(dataset) == 42
    for row in range(len(dataset)):
        assert reader.read(row) == expected(dataset, row)
    reader.close()


def test_a_folder_is_opened_as_it_is(dataset: Dataset) -> None:
    for location in (dataset.root, str(dataset.root)):
        opened = open_shards(location)
        assert not opened.is_remote
        assert opened.dataset.info == dataset.info
        assert opened.reader.read(3) == expected(dataset, 3)


def test_following_an_order_changes_nothing(dataset: Dataset) -> None:
    reader = LocalShards(dataset)
    reader.follow(np.arange(5), np.arange(5))
    assert reader.read(7) == expected(dataset, 7)


@pytest.mark.parametrize(
    ("location", "answer"),
    [
        ("https://host/a", True),
        ("S3://bucket", True),
        ("memory://a", True),
        ("shards", False),
        ("./a:b//c", False),
        ("/data/shards", False),
        (Path("https://host"), False),
    ],
)
def test_what_has_a_scheme_is_a_url(location: str | Path, answer: bool) -> None:
    assert is_url(location) is answer


# Processes


def _send(reader: LocalShards, rows: list[int], pipe: object) -> None:
    pipe.send([reader.read(row) for row in rows])  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_reads_with_a_reader_that_was_used_before(dataset: Dataset, method: str) -> None:
    context = multiprocessing.get_context(method)
    reader = LocalShards(dataset)
    reader.read(0)
    ours, theirs = context.Pipe(duplex=False)
    rows = [0, 41, 20]
    worker = context.Process(target=_send, args=(reader, rows, theirs))
    worker.start()
    assert ours.poll(60)
    assert ours.recv() == [expected(dataset, row) for row in rows]
    worker.join()
    assert reader.read(0) == expected(dataset, 0)


def test_a_reader_travels_light(dataset: Dataset) -> None:
    """A pickled reader of a data set as large as HQSeg-44K is a few MiB."""
    reader = LocalShards(dataset)
    reader.read(0)
    data = pickle.dumps(reader)
    assert len(data) / len(dataset) < 150
    assert pickle.loads(data).read(30) == expected(dataset, 30)


def test_few_files_are_open_at_once(dataset: Dataset) -> None:
    before = len(os.listdir("/proc/self/fd"))
    reader = LocalShards(dataset, max_open=3)
    for row in np.random.default_rng(0).permutation(len(dataset)).tolist():
        assert reader.read(row) == expected(dataset, row)
        assert len(os.listdir("/proc/self/fd")) <= before + 3
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before


@given(st.lists(st.sampled_from("abcde"), max_size=40), st.integers(1, 4))
def test_the_files_used_last_stay_open(names: list[str], max_open: int) -> None:
    opened: list[str] = []

    def open_it(name: str) -> int:
        opened.append(name)
        return os.open("/dev/null", os.O_RDONLY)

    files = OpenFiles(max_open)
    held: list[str] = []
    missed: list[str] = []
    for name in names:
        if name in held:
            held.remove(name)
        else:
            missed.append(name)
        held = [*held, name][-max_open:]
        files.get(name, open_it)
    files.close()
    assert opened == missed


# Damage


def test_a_missing_shard_is_named_with_the_sample(own_copy: Dataset) -> None:
    row = own_copy.row(5)
    (own_copy.root / row["shard"]).unlink()
    with pytest.raises(DatasetError) as caught:
        LocalShards(own_copy).read(5)
    assert row["key"] in caught.value.what
    assert caught.value.where == str(own_copy.root / row["shard"])
    assert "hqdata check" in str(caught.value)


@pytest.mark.parametrize("member", ["image", "mask"])
def test_a_shard_that_is_too_short_is_named_with_the_sample(own_copy: Dataset, member: str) -> None:
    row = own_copy.row(5)
    with open(own_copy.root / row["shard"], "r+b") as file:
        file.truncate(row[f"{member}_offset"] + row[f"{member}_size"] - 1)
    with pytest.raises(DatasetError, match=f"ends before the {member} of {row['key']!r}"):
        LocalShards(own_copy).read(5)


def _with(dataset: Dataset, column: str, value: int) -> Dataset:
    """With that value in all rows."""
    number = dataset.samples.schema.get_field_index(column)
    field = dataset.samples.schema.field(number)
    values = pa.array([value] * len(dataset), field.type)
    return Dataset(dataset.root, dataset.info, dataset.samples.set_column(number, field, values))


@pytest.mark.parametrize("size", [2**40, 2**62])
def test_a_size_that_cannot_be_is_not_asked_memory_for(dataset: Dataset, size: int) -> None:
    with pytest.raises(DatasetError, match="ends before the mask"):
        LocalShards(_with(dataset, "mask_size", size)).read(0)


def test_an_offset_past_the_end_is_told(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match="ends before the image"):
        LocalShards(_with(dataset, "image_offset", 2**50)).read(0)


def test_values_below_zero_are_refused_at_once(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match="image_offset below zero"):
        LocalShards(_with(dataset, "image_offset", -1))


# Speed


def test_finding_a_sample_is_quick(dataset: Dataset) -> None:
    """More than 20,000 rows a second a core, which are 2.5 s for an epoch of HQSeg-44K."""
    reader = LocalShards(dataset)
    rows = np.random.default_rng(0).integers(0, len(dataset), 5_000).tolist()
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        for row in rows:
            reader.read(row)
        best = min(best, time.process_time() - began)
    assert len(rows) / best > 20_000


def test_where_a_sample_lies_is_told_without_reading(dataset: Dataset) -> None:
    members = Members(dataset)
    columns = dataset.samples.select(["key", "shard"]).to_pydict()
    numbers = members.shard_numbers()
    for row in range(len(dataset)):
        assert members.key_of(row) == columns["key"][row]
        assert members.shard_of(row) == columns["shard"][row]
        assert members.shards[numbers[row]] == columns["shard"][row]
