"""The Croissant file: valid by the reference reader, and its records are the data set's."""

from __future__ import annotations

import datetime
import fnmatch
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hqdata.hub.croissant import Files, croissant
from hqdata.hub.facts import CardFacts
from hqdata.shards.check import decode_image, decode_mask
from hqdata.shards.dataset import Dataset
from support.published import facts, own, stand_in

DAY = datetime.date(2024, 5, 17)
mlcroissant = pytest.importorskip("mlcroissant")


def files_of(made: CardFacts) -> Files:
    """What a push of these facts would upload, of what can be read."""
    found = {s.path: (s.sha256, s.num_bytes) for s in made.info.shards if made.has_pictures}
    data = made.manifest.samples
    return {**found, "samples.parquet": (hashlib.sha256(data).hexdigest(), len(data))}


def document(made: CardFacts, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(croissant(made, files_of(made), **options))
    return found


def issues(made: dict[str, Any], **options: Any) -> tuple[set[str], set[str]]:
    """Errors and warnings of the reference reader."""
    found = mlcroissant.Dataset(jsonld=made, **options).metadata.ctx.issues
    return found.errors, found.warnings


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return stand_in(tmp_path_factory.mktemp("croissant"), ["ecssd", "fss"])


@pytest.mark.parametrize("what", ["all", "manifest"])
def test_the_reference_reader_finds_nothing_wrong(drawn: Dataset, what: Any) -> None:
    assert issues(document(facts(drawn, what=what), published=DAY)) == (set(), set())


def test_of_ones_own_too(tmp_path: Path) -> None:
    dataset = own(tmp_path, {"a": 2, "b": 1}, image_field="png")
    assert issues(document(facts(dataset), published=DAY)) == (set(), set())


def test_without_a_day_only_the_day_is_missed(drawn: Dataset) -> None:
    errors, (warning,) = issues(document(facts(drawn)))
    assert not errors and "datePublished" in warning


def test_the_same_facts_give_the_same_bytes(drawn: Dataset) -> None:
    made = facts(drawn)
    assert croissant(made, files_of(made)) == croissant(
        made, dict(reversed(files_of(made).items()))
    )


def test_every_file_has_its_digest_and_size(drawn: Dataset) -> None:
    made = facts(drawn)
    found = {f["name"]: f for f in document(made)["distribution"] if "sha256" in f}
    assert found.keys() == files_of(made).keys()
    for path, (sha256, num_bytes) in files_of(made).items():
        assert (found[path]["sha256"], found[path]["contentSize"]) == (sha256, f"{num_bytes} B")
        url = f"https://huggingface.co/datasets/me/a-set/resolve/main/{path}"
        assert found[path]["contentUrl"] == url


def test_masks_are_segmentation_masks(drawn: Dataset) -> None:
    sets = {s["@id"]: s for s in document(facts(drawn))["recordSet"]}
    (mask,) = [f for f in sets["masks"]["field"] if f["name"] == "mask"]
    assert "cr:SegmentationMask" in mask["dataType"]


def test_a_manifest_names_no_pictures(drawn: Dataset) -> None:
    made = document(facts(drawn, what="manifest"))
    assert [s["@id"] for s in made["recordSet"]] == ["records"]
    assert [f["@type"] for f in made["distribution"]] == ["cr:FileObject"]


def test_the_version_goes_with_the_data(drawn: Dataset) -> None:
    assert document(facts(drawn))["version"] == f"1.0.0+{drawn.info.digest[:16]}"
    assert document(facts(drawn, exclude=["fss"]))["version"] != f"1.0.0+{drawn.info.digest[:16]}"


@pytest.mark.parametrize("key", ["a-one", "a-mask", "a-k", "a-sk", "a-ask", "mask-mask", "k--"])
def test_patterns_tell_images_from_masks(tmp_path: Path, key: str) -> None:
    dataset = own(tmp_path, {"a": 1}, image_field="png")
    sets = {s["@id"]: s for s in document(facts(dataset))["distribution"]}
    images = sets["image-files"]["includes"]
    assert any(fnmatch.fnmatch(f"{key}.png", pattern) for pattern in images)
    assert not any(fnmatch.fnmatch(f"{key}.mask.png", pattern) for pattern in images)
    assert fnmatch.fnmatch(f"{key}.mask.png", sets["mask-files"]["includes"])


class TestRecords:
    @pytest.fixture
    def reader(self, drawn: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        """The reference reader with the files at hand, and a cache of its own."""
        from etils import epath
        from mlcroissant._src.operation_graph.operations import extract

        monkeypatch.setattr(extract, "EXTRACT_PATH", epath.Path(tmp_path))
        made = facts(drawn)
        at_hand = {path: drawn.root / path for path in files_of(made)}
        return mlcroissant.Dataset(jsonld=document(made, published=DAY), mapping=at_hand)

    def test_image_and_mask_of_a_key_are_those_of_the_shard(
        self, drawn: Dataset, reader: Any
    ) -> None:
        images = {r["images/key"].decode(): r["images/image"] for r in reader.records("images")}
        masks = {r["masks/key"].decode(): r["masks/mask"] for r in reader.records("masks")}
        assert images.keys() == masks.keys() == set(drawn.samples["key"].to_pylist())
        for index in range(0, len(drawn), 5):
            row = drawn.row(index)
            pixels = decode_image(drawn.read_member(row, "image"), row["image_ext"])
            values = decode_mask(drawn.read_member(row, "mask"))
            assert np.array_equal(np.asarray(images[row["key"]]), pixels)
            assert np.array_equal(np.asarray(masks[row["key"]]), values)

    def test_records_are_the_rows(self, drawn: Dataset, reader: Any) -> None:
        found = list(reader.records("records"))
        assert len(found) == len(drawn)
        for record, row in zip(found, drawn.samples.to_pylist(), strict=True):
            assert record["records/key"].decode() == row["key"]
            assert record["records/width"] == row["width"]
            assert record["records/mask_thinness"] == row["mask_thinness"]
