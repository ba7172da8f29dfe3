"""Fingerprints of evaluation pictures, and files of them."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hqdata.errors import UserError
from hqdata.overlap import fingerprints as module
from hqdata.overlap.fingerprints import (
    Fingerprint,
    UnreadPictureError,
    fingerprint_picture,
    read_fingerprints,
    read_summary,
    set_digest,
    write_fingerprints,
)
from hqdata.pictures import make_picture
from support.pictures import encode, photo

CODECS = {"opencv": "1"}


def same(a: Fingerprint, b: Fingerprint) -> bool:
    plain = ("name", "width", "height", "image_sha256", "stored_sha256", "pixel_sha256")
    return (
        all(getattr(a, field) == getattr(b, field) for field in plain)
        and np.array_equal(a.hashes, b.hashes)
        and np.array_equal(a.hashes_trimmed, b.hashes_trimmed)
        and np.array_equal(a.features.codes, b.features.codes)
        and np.array_equal(a.features.frames, b.features.frames)
    )


@pytest.fixture(scope="module")
def some() -> list[Fingerprint]:
    return [fingerprint_picture(f"im/{i}.jpg", encode(photo(i, 200, 150))) for i in range(5)]


@pytest.fixture
def path(tmp_path: Path, some: list[Fingerprint]) -> Path:
    path = tmp_path / "mine.parquet"
    write_fingerprints(path, "mine", some, codec_versions=CODECS)
    return path


class TestOnePicture:
    def test_digests_are_those_of_a_training_record(self) -> None:
        data = encode(photo(1, 120, 90))
        found = fingerprint_picture("a.jpg", data)
        assert (found.width, found.height) == (120, 90)
        assert found.image_sha256 == found.stored_sha256 == hashlib.sha256(data).hexdigest()
        assert found.pixel_sha256 == make_picture(data, max_pixels=10**6).pixel_sha256

    def test_what_has_to_be_converted_has_two_digests(self) -> None:
        data = encode(photo(1, 120, 90), "PNG")
        found = fingerprint_picture("a.png", data)
        stored = make_picture(data, max_pixels=10**6).data
        assert found.image_sha256 == hashlib.sha256(data).hexdigest()
        assert found.stored_sha256 == hashlib.sha256(stored).hexdigest() != found.image_sha256

    def test_a_turned_picture_is_taken_upright(self, real_data: Path) -> None:
        paths = sorted((real_data / "oddities").rglob("*6.jp*g"))
        if not paths:
            pytest.skip("needs pictures with an EXIF orientation")
        found = fingerprint_picture("a", paths[0].read_bytes())
        with Image.open(paths[0]) as image:
            assert (found.width, found.height) in (image.size, image.size[::-1])

    def test_hashes_and_features_have_their_shapes(self) -> None:
        found = fingerprint_picture("a.jpg", encode(photo(1, 300, 200)))
        assert found.hashes.shape == found.hashes_trimmed.shape == (8, 32)
        assert found.hashes.dtype == found.hashes_trimmed.dtype == np.uint8
        assert found.features.codes.shape == (len(found.features), 32)
        assert found.features.frames.shape == (len(found.features), 4)

    def test_borders_change_one_kind_of_hash_only(self) -> None:
        inside = photo(3, 240, 180)
        framed = np.zeros((260, 240, 3), np.uint8)
        framed[40:220] = inside
        whole = fingerprint_picture("a.png", encode(inside, "PNG"))
        found = fingerprint_picture("b.png", encode(framed, "PNG"))

        def bits(a: np.ndarray, b: np.ndarray) -> int:
            return int(np.unpackbits(a ^ b).sum())

        assert bits(found.hashes_trimmed[0], whole.hashes[0]) < 32
        assert bits(found.hashes[0], whole.hashes[0]) > 32

    @pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
    def test_tiny_pictures_have_one_too(self, size: tuple[int, int]) -> None:
        found = fingerprint_picture("a", encode(photo(1, *size), "PNG"))
        assert (found.width, found.height) == size

    def test_gray_pictures_have_one_too(self) -> None:
        assert fingerprint_picture("a", encode(photo(1)[:, :, 0])).hashes.shape == (8, 32)

    @pytest.mark.parametrize(
        "data",
        [b"", b"no picture", encode(photo(0))[:-200], b"\x89PNG\r\n\x1a\n" + bytes(40)],
        ids=["empty", "text", "cut short", "damaged"],
    )
    def test_what_cannot_be_read_says_why(self, data: bytes) -> None:
        with pytest.raises(UnreadPictureError) as caught:
            fingerprint_picture("a", data)
        assert str(caught.value)


class TestFiles:
    def test_what_was_written_is_read(self, path: Path, some: list[Fingerprint]) -> None:
        name, digest, found = read_fingerprints(path)
        assert (name, digest) == ("mine", set_digest(some))
        assert all(map(same, found, some))
        summary = read_summary(path)
        assert (summary.set, summary.num_images, summary.digest) == ("mine", 5, digest)
        assert summary.codecs == CODECS

    def test_the_order_does_not_matter(
        self, path: Path, some: list[Fingerprint], tmp_path: Path
    ) -> None:
        other = tmp_path / "other.parquet"
        write_fingerprints(other, "mine", some[::-1], codec_versions=CODECS)
        assert other.read_bytes() == path.read_bytes()

    def test_what_was_read_is_written_again_byte_by_byte(self, path: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.parquet"
        name, _, found = read_fingerprints(path)
        write_fingerprints(other, name, found, codec_versions=CODECS)
        assert other.read_bytes() == path.read_bytes()

    def test_many_pictures_and_none(self, some: list[Fingerprint], tmp_path: Path) -> None:
        for number in (0, module.ROWS_PER_GROUP, module.ROWS_PER_GROUP + 1):
            many = [replace(some[i % 5], name=f"{i:04d}") for i in range(number)]
            write_fingerprints(tmp_path / "x.parquet", "x", many, codec_versions=CODECS)
            assert [f.name for f in read_fingerprints(tmp_path / "x.parquet")[2]] == [
                f.name for f in many
            ]

    def test_two_pictures_of_one_name_are_refused(
        self, some: list[Fingerprint], tmp_path: Path
    ) -> None:
        with pytest.raises(ValueError, match="same name"):
            write_fingerprints(
                tmp_path / "x.parquet", "x", [some[0], some[0]], codec_versions=CODECS
            )
        assert list(tmp_path.iterdir()) == []

    def test_a_part_says_that_it_is_one(self, some: list[Fingerprint], tmp_path: Path) -> None:
        path = tmp_path / "x.parquet"
        write_fingerprints(path, "x", some, codec_versions=CODECS, problems=["half is gone"])
        assert read_summary(path).problems == ("half is gone",)

    def test_the_digest_is_that_of_sha256sum(self, tmp_path: Path) -> None:
        (tmp_path / "im").mkdir()
        found = []
        for i in range(3):
            data = encode(photo(i))
            (tmp_path / "im" / f"{i}.jpg").write_bytes(data)
            found.append(fingerprint_picture(f"im/{i}.jpg", data))
        told = subprocess.run(
            "sha256sum im/*.jpg | LC_ALL=C sort | sha256sum",
            shell=True,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()[0]
        assert set_digest(found) == told


class TestDamage:
    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no such file of fingerprints"):
            read_fingerprints(tmp_path / "x.parquet")

    @pytest.mark.parametrize("kept", [0, 1, 4, 100, 0.5, 0.9, 0.999])
    def test_a_file_that_was_cut_short(self, path: Path, kept: float) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: kept if isinstance(kept, int) else int(kept * len(data))])
        with pytest.raises(UserError, match="damaged"):
            read_fingerprints(path)

    def test_a_byte_anywhere_matters(self, path: Path, some: list[Fingerprint]) -> None:
        data = path.read_bytes()
        rng = np.random.default_rng(0)
        for offset in rng.integers(0, len(data), 120):
            changed = bytearray(data)
            changed[offset] ^= 1 << int(rng.integers(0, 8))
            path.write_bytes(changed)
            try:
                name, _, found = read_fingerprints(path)
            except UserError:
                continue
            # What is left are notes of the format itself, which change nothing that is read.
            assert name == "mine"
            assert all(map(same, found, some))

    def test_another_parquet_file(self, tmp_path: Path) -> None:
        path = tmp_path / "x.parquet"
        pq.write_table(pa.table({"a": [1]}), path)
        with pytest.raises(UserError, match="no file of fingerprints"):
            read_fingerprints(path)

    def change(self, path: Path, **fields: object) -> None:
        """Writes the file anew with other metadata; `rows` stands for other rows."""
        table = pq.read_table(path)
        document = json.loads(table.schema.metadata[b"hqdata.fingerprints"])
        rows = fields.pop("rows", None)
        if rows is not None:
            table = pa.Table.from_pylist(rows, schema=table.schema)
        document.update(fields)
        schema = table.schema.with_metadata({b"hqdata.fingerprints": json.dumps(document).encode()})
        with pq.ParquetWriter(path, schema) as writer:
            writer.write_table(table.replace_schema_metadata(schema.metadata))

    def test_another_version_says_which_and_what_to_do(self, path: Path) -> None:
        self.change(path, versions={"format": 1, "fingerprint": 99, "features": 1})
        with pytest.raises(UserError) as caught:
            read_fingerprints(path)
        assert "fingerprint 99" in str(caught.value)
        assert "make the file again" in str(caught.value)

    @pytest.mark.parametrize(
        "fields",
        [
            {"num_images": 4},
            {"num_images": -1},
            {"num_images": 10**12},
            {"digest": "0" * 64},
            {"digest": "x"},
            {"content": "0" * 64},
            {"unknown": 1},
            {"set": ""},
        ],
    )
    def test_what_it_says_has_to_be_so(self, path: Path, fields: dict[str, object]) -> None:
        self.change(path, **fields)
        with pytest.raises(UserError, match="damaged"):
            read_fingerprints(path)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("width", 0),
            ("height", -5),
            ("width", 2**31 - 1),
            ("name", ""),
            ("features", b"x"),
            ("features", bytes(40 * (module.MAX_FEATURES + 1))),
            ("hashes", bytes(256)),
        ],
    )
    def test_rows_that_nobody_wrote(self, path: Path, field: str, value: object) -> None:
        rows = pq.read_table(path).to_pylist()
        rows[2][field] = value
        self.change(path, rows=rows)
        with pytest.raises(UserError, match="damaged"):
            read_fingerprints(path)

    def test_groups_larger_than_ours(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "ROWS_PER_GROUP", 2)
        with pytest.raises(UserError, match="damaged: 5 rows"):
            read_fingerprints(path)
