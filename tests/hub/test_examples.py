"""Example pictures: small, the same every time, one of each source."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from PIL import Image

from hqdata.errors import DatasetError
from hqdata.hub.examples import MAX_BYTES, example_pictures
from hqdata.shards.dataset import Dataset
from support.builds import build_own
from support.pictures import disc, encode
from support.published import own, stand_in


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return stand_in(tmp_path_factory.mktemp("examples"), ["dis", "ecssd"])


def test_a_small_jpeg_a_source(drawn: Dataset) -> None:
    found = example_pictures(drawn, drawn.samples, ["dis", "ecssd"])
    assert list(found) == ["examples/dis.jpg", "examples/ecssd.jpg"]
    for data in found.values():
        assert len(data) <= MAX_BYTES
        height, width, _ = pixels_of(data).shape
        assert height == 200 and 300 < width <= 3 * 320 + 16


def test_the_same_every_time_and_whatever_else_is_published(drawn: Dataset) -> None:
    both = example_pictures(drawn, drawn.samples, ["dis", "ecssd"])
    rows = drawn.samples.filter(pc.equal(drawn.samples["source"], "ecssd"))
    alone = example_pictures(drawn, rows, ["ecssd"])
    assert alone == {"examples/ecssd.jpg": both["examples/ecssd.jpg"]}


def test_noise_is_brought_below_the_limit(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "sources" / "noise" / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for n in range(3):
        noise = rng.integers(0, 256, (300, 480, 3)).astype(np.uint8)
        (tmp_path / f"sources/noise/images/{n}.jpg").write_bytes(encode(noise))
        mask = disc(480, 300, 149 + n)
        (tmp_path / f"sources/noise/masks/{n}.png").write_bytes(encode(mask, "PNG"))
    build_own(tmp_path / "sources", tmp_path / "out", ["noise"])
    dataset = Dataset.open(tmp_path / "out")
    (data,) = example_pictures(dataset, dataset.samples, ["noise"]).values()
    assert 20_000 < len(data) <= MAX_BYTES


def test_the_object_stays_bright_and_the_rest_is_dimmed(tmp_path: Path) -> None:
    dataset = own(tmp_path, {"one": 1})
    (data,) = example_pictures(dataset, dataset.samples, ["one"]).values()
    shown = pixels_of(data).astype(float)
    row = dataset.row(0)
    plain = Image.open(io.BytesIO(dataset.read_member(row, "image")))
    mask = Image.open(io.BytesIO(dataset.read_member(row, "mask")))
    size = (shown.shape[1], shown.shape[0])
    before = np.asarray(plain.resize(size)).astype(float)
    inside = np.asarray(mask.resize(size))
    ratio = shown.mean(-1) / np.maximum(before.mean(-1), 1)
    assert np.median(ratio[inside > 250]) > 0.9
    assert 0.35 < np.median(ratio[inside < 5]) < 0.55


def test_a_source_without_samples_has_none(tmp_path: Path) -> None:
    dataset = own(tmp_path, {"one": 1})
    assert example_pictures(dataset, dataset.samples.slice(0, 0), ["one"]) == {}


def test_damage_is_named(tmp_path: Path) -> None:
    dataset = own(tmp_path, {"one": 1})
    row = dataset.row(0)
    shard = dataset.root / row["shard"]
    data = bytearray(shard.read_bytes())
    data[row["mask_offset"] : row["mask_offset"] + 40] = bytes(40)
    shard.write_bytes(data)
    with pytest.raises(DatasetError, match="does not decode") as caught:
        example_pictures(dataset, dataset.samples, ["one"])
    assert caught.value.where == str(shard)
