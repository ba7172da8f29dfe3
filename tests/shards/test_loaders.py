"""The shards open in the loaders people use, and hold there what the manifest says."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hqdata.masks import measure
from hqdata.shards.dataset import Dataset
from support.builds import build_own, own_sources
from support.pictures import disc, encode, photo


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources of unlike pictures: untouched and converted images, soft and hard masks."""
    root = own_sources(tmp_path_factory.mktemp("sources"), {"plain": 8})
    images, masks = root / "mixed" / "images", root / "mixed" / "masks"
    images.mkdir(parents=True)
    masks.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 3
    hard = disc(soft=False)
    for index in range(8):
        colour = photo(50 + index)
        gray = np.ascontiguousarray(colour[:, :, 0])
        name, data = [
            ("jpg", encode(colour)),
            ("jpg", encode(gray)),
            ("png", encode(colour, "PNG")),
            ("jpg", encode(colour, exif=exif)),
        ][index % 4]
        (images / f"m{index}.{name}").write_bytes(data)
        mask = [hard, (hard > 0).astype(np.uint8), disc(), np.full_like(hard, 255)][index // 2]
        (masks / f"m{index}.png").write_bytes(encode(mask, "PNG"))
    out = tmp_path_factory.mktemp("built") / "data"
    result = build_own(root, out, ["plain", "mixed"], samples_per_shard=4)
    assert (result.info.num_samples, len(result.problems)) == (16, 0)
    return out


@pytest.fixture(scope="module")
def rows(built: Path) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in Dataset.open(built).samples.to_pylist()}


def shards(root: Path) -> list[str]:
    return [str(path) for path in sorted(root.glob("*/*.tar"))]


def agree(row: dict[str, Any], image: np.ndarray, mask: np.ndarray, record: dict[str, Any]) -> None:
    """Pixels and record are those of the manifest."""
    if image.ndim == 2:
        image = np.dstack([image] * 3)
    height, width = image.shape[:2]
    text = f"{width}x{height}".encode() + np.ascontiguousarray(image).tobytes()
    assert hashlib.sha256(text).hexdigest() == row["pixel_sha256"]
    figures = measure(np.ascontiguousarray(mask))
    assert figures is not None and list(figures.box) == row["box"]
    assert round(figures.area_fraction, 8) == row["mask_area_fraction"]
    assert (mask.shape, mask.dtype) == ((row["height"], row["width"]), np.uint8)
    assert set(record) - set(row) == {"schema_version"}
    assert {name: record[name] for name in record if name in row} == {
        name: row[name] for name in record if name in row
    }


def test_the_sources_are_as_unlike_as_they_should_be(rows: dict[str, dict[str, Any]]) -> None:
    assert len({row["image_changes"] for row in rows.values()}) == 3
    assert len({row["mask_changes"] for row in rows.values()}) == 2
    assert {row["mask_soft_fraction"] == 0 for row in rows.values()} == {True, False}
    assert 1.0 in {row["mask_area_fraction"] for row in rows.values()}


def test_webdataset_reads_them(built: Path, rows: dict[str, dict[str, Any]]) -> None:
    wds = pytest.importorskip("webdataset")
    seen = []
    dataset = wds.WebDataset(shards(built), shardshuffle=False)
    for sample in dataset:
        key = sample["__key__"]
        image = np.asarray(Image.open(io.BytesIO(sample["jpg"])))
        mask = np.asarray(Image.open(io.BytesIO(sample["mask.png"])))
        agree(rows[key], image, mask, json.loads(sample["json"]))
        seen.append(key)
    assert seen == list(rows)


def test_webdataset_decodes_them_by_itself(built: Path, rows: dict[str, dict[str, Any]]) -> None:
    wds = pytest.importorskip("webdataset")
    dataset = wds.WebDataset(shards(built), shardshuffle=False).decode("pil")
    keys = []
    for key, image, mask, record in dataset.to_tuple("__key__", "jpg", "mask.png", "json"):
        agree(rows[key], np.asarray(image.convert("RGB")), np.asarray(mask.convert("L")), record)
        keys.append(key)
    assert keys == list(rows)


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("order", [1, -1])
def test_datasets_reads_them_with_one_schema(
    built: Path,
    rows: dict[str, dict[str, Any]],
    tmp_path: Path,
    streaming: bool,
    order: int,
) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(
        "webdataset",
        data_files=shards(built)[::order],  # the schema is inferred from either kind of source
        split="train",
        streaming=streaming,
        cache_dir=str(tmp_path / "cache"),
    )
    keys = []
    for sample in loaded:
        key = sample["__key__"]
        image, mask = (np.asarray(sample[name]) for name in ("jpg", "mask.png"))
        agree(rows[key], image, mask, sample["json"])
        keys.append(key)
    assert sorted(keys) == sorted(rows)


@pytest.mark.parametrize(
    ("split", "source"), [("all", None), ("plain-all", "plain"), ("mixed-all", "mixed")]
)
@pytest.mark.parametrize("target", ["mask_components", "box"])
def test_timm_reads_them(
    built: Path, rows: dict[str, dict[str, Any]], split: str, source: str | None, target: str
) -> None:
    pytest.importorskip("timm")
    pytest.importorskip("webdataset")
    from timm.data.readers import create_reader

    reader = create_reader(
        f"wds/{built.name}", root=str(built), split=split, batch_size=4, target_key=target
    )
    expected = [row for row in rows.values() if source in (None, row["source"])]
    assert len(reader) == len(expected)
    got = [(np.asarray(image.convert("RGB")), value) for image, value in reader]
    assert len(got) == len(expected)
    for (image, value), row in zip(got, expected, strict=True):
        text = f"{row['width']}x{row['height']}".encode() + image.tobytes()
        assert hashlib.sha256(text).hexdigest() == row["pixel_sha256"]
        assert value == row[target]
