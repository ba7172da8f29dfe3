"""A pair becomes a valid sample or one named problem; nothing else ever comes out."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hqdata.normalise import Origin, ProblemError, Settings, normalise
from hqdata.problems import ProblemKind
from hqdata.sample import Record, canonical_json
from support.pictures import disc, encode, photo

ORIGIN = Origin("own-a", "own", "all", "CC0-1.0", "images/a.jpg", "masks/a.png")
IMAGE = encode(photo(1))
MASK = encode(disc(), "PNG")


def problem(image: bytes = IMAGE, mask: bytes = MASK, origin: Origin = ORIGIN) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        normalise(image, mask, origin, Settings(max_pixels=100_000))
    return caught.value


def _rotated(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(photo(1), exif=exif)


def _lost_bytes() -> bytes:
    data = encode(photo(1, 300, 200))
    return data[:8000] + data[9000:]


THREE_LEVELS = np.repeat(np.array([0, 128, 255], np.uint8), 32)[None].repeat(64, 0)


@pytest.mark.parametrize(
    ("image", "mask", "kind", "said"),
    [
        (b"", MASK, "unreadable_image", "empty"),  # an image of no bytes
        (b"<html>", MASK, "unreadable_image", "<html>"),  # an error page for an image
        (IMAGE[:-400], MASK, "truncated_image", "fetch the file again"),  # an image cut off
        (_lost_bytes(), MASK, "damaged_image", "accept"),  # an image with a hole
        (encode(photo(1), "PNG"), MASK, "mislabelled_file", "a.jpg holds PNG data"),  # wrong name
        (IMAGE, encode(photo(1)), "mislabelled_file", "a.png holds JPEG data"),  # wrong mask name
        (encode(photo(1, 400, 300)), MASK, "too_large", "the image"),  # over the pixel limit
        (IMAGE, encode(disc(400, 300), "PNG"), "too_large", "the mask"),  # the mask is
        (IMAGE, b"", "unreadable_mask", "empty"),  # a mask of no bytes
        (IMAGE, MASK[:-20], "unreadable_mask", "too early"),  # a mask cut off
        (IMAGE, MASK[:60] + b"?" + MASK[61:], "unreadable_mask", "damaged"),  # a mask damaged
        (IMAGE, encode(disc(90, 64), "PNG"), "size_mismatch", "96x64 pixels, the mask 90x64"),
        (_rotated(6), MASK, "size_mismatch", "EXIF"),  # a mask of the picture before turning
        (IMAGE, encode(disc() * 0, "PNG"), "empty_mask", "no pixel is object"),  # all black
        (IMAGE, encode(THREE_LEVELS, "PNG"), "ambiguous_mask", "trimap"),  # a trimap
        (IMAGE, encode(photo(1), "PNG"), "ambiguous_mask", "colours"),  # a photograph for a mask
    ],
)
def test_every_kind_of_bad_pair_has_its_name(
    image: bytes, mask: bytes, kind: str, said: str
) -> None:
    found = problem(image, mask)
    assert (found.kind, said in found.message) == (ProblemKind(kind), True), found.message


def test_the_hint_at_exif_comes_only_where_the_sizes_are_swapped() -> None:
    assert "EXIF" not in problem(mask=encode(disc(90, 64), "PNG")).message


@pytest.mark.parametrize(
    ("origin", "image", "mask", "changes"),
    [
        # a mask of another size is resized where the recipe asks for it
        (replace(ORIGIN, action="resize_mask"), IMAGE, encode(disc(48, 32, 10), "PNG"), "resized"),
        # a wrong file name is accepted where the recipe does so
        (replace(ORIGIN, action="accept"), encode(photo(1), "PNG"), MASK, "untouched"),
        # ids where the manifest says so
        (
            replace(ORIGIN, mask_values="object_ids"),
            IMAGE,
            encode(THREE_LEVELS, "PNG"),
            "object-ids",
        ),
    ],
)
def test_known_defects_and_known_encodings_are_taken(
    origin: Origin, image: bytes, mask: bytes, changes: str
) -> None:
    sample = normalise(image, mask, origin, Settings())
    assert changes in sample.record.mask_changes
    assert np.asarray(Image.open(io.BytesIO(sample.mask))).shape == (64, 96)


@pytest.mark.parametrize("field", ["jpg", "png"])
@pytest.mark.parametrize("image", [IMAGE, _rotated(3)])
def test_a_record_is_complete_valid_and_canonical(image: bytes, field: str) -> None:
    sample = normalise(image, MASK, ORIGIN, Settings(image_field=field))  # type: ignore[arg-type]
    data = sample.record.to_bytes()
    row = json.loads(data)
    assert set(row) == set(Record.model_fields)
    assert all(value not in (None, "", [], {}) for value in row.values())
    assert Record.model_validate_json(data) == sample.record
    assert canonical_json(row) == data
    assert data == json.dumps(row, sort_keys=True, separators=(",", ":")).encode()
    # One schema for all rows: a number that may have a fraction always shows one.
    for name in ("image_psnr_db", "mask_area_fraction", "mask_soft_fraction", "mask_thinness"):
        assert isinstance(row[name], float), name
    assert sample.image_ext == field


def test_a_mask_that_fills_the_picture_has_fractions_too() -> None:
    full = encode(np.full((64, 96), 255, np.uint8), "PNG")
    row = json.loads(normalise(IMAGE, full, ORIGIN, Settings()).record.to_bytes())
    assert row["mask_area_fraction"] == 1.0 and isinstance(row["mask_area_fraction"], float)
    assert isinstance(row["mask_soft_fraction"], float)
    assert row["box"] == [0, 0, 95, 63]


def test_a_turned_image_fits_a_turned_mask_only() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = disc()
    mask[:, 60:] = 0
    record = normalise(_rotated(6), encode(mask, "PNG", exif=exif), ORIGIN, Settings()).record
    assert record.mask_changes == "exif-orientation-6, png"
    assert (record.width, record.height) == (64, 96)
    assert problem(_rotated(6), encode(mask, "PNG")).kind == ProblemKind.SIZE_MISMATCH
    assert problem(IMAGE, encode(mask, "PNG", exif=exif)).kind == ProblemKind.SIZE_MISMATCH


@pytest.mark.parametrize("error", [cv2.error("no"), RuntimeError("no"), AssertionError("no")])
def test_what_no_decoder_should_raise_is_a_problem_too(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("hqdata.normalise.make_picture", fail)
        assert problem().kind == ProblemKind.UNREADABLE_IMAGE
    with monkeypatch.context() as patch:
        patch.setattr("hqdata.normalise.read_mask", fail)
        found = problem()
    assert found.kind == ProblemKind.UNREADABLE_MASK
    assert type(error).__name__ in found.message


def test_a_lack_of_memory_is_no_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("hqdata.normalise.read_mask", fail)
    with pytest.raises(MemoryError):
        normalise(IMAGE, MASK, ORIGIN, Settings())


def _corpus() -> list[bytes]:
    small, mask = photo(2, 24, 16), disc(24, 16, 5)
    rgba = np.dstack([small, mask])
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x9286] = "a comment"
    pictures = [
        encode(small),
        encode(small, progressive=True),
        encode(small, exif=exif),
        encode(mask),
        encode(small, "PNG", exif=exif),
        encode(rgba, "PNG"),
        encode(mask, "PNG"),
        encode(mask.astype(np.uint16) * 257, "PNG"),
        encode(small, "TIFF"),
        encode(small, "TIFF", compression="tiff_lzw", exif=exif),
        cv2.imencode(".png", np.dstack([small, mask]).astype(np.uint16) * 257)[1].tobytes(),
        encode(mask, "PNG", exif=exif),
        encode(small, "TIFF", compression="tiff_deflate"),
        encode(small, "TIFF", compression="jpeg"),
        encode(small, "BMP"),
        encode(mask, "GIF"),
        encode(small, "WEBP"),
        encode(rgba, "WEBP", lossless=True, exif=exif),
    ]
    for mode, kind in [
        ("P", "PNG"),
        ("P", "BMP"),
        ("P", "TIFF"),
        ("1", "PNG"),
        ("1", "TIFF"),
        ("LA", "PNG"),
        ("CMYK", "JPEG"),
        ("CMYK", "TIFF"),
        ("I", "TIFF"),
        ("F", "TIFF"),
        ("YCbCr", "TIFF"),
        ("LAB", "TIFF"),
    ]:
        buffer = io.BytesIO()
        image = Image.fromarray(small)
        image = Image.frombytes("LAB", image.size, small.tobytes()) if mode == "LAB" else image
        image = image.convert(mode) if mode != "LAB" else image
        image.save(buffer, kind)
        pictures.append(buffer.getvalue())
    cmyk = Image.fromarray(small).convert("CMYK")
    buffer = io.BytesIO()
    cmyk.save(buffer, "JPEG", icc_profile=bytes(36) + b"acsp" + bytes(200))
    pictures.append(buffer.getvalue())
    return pictures


CORPUS = _corpus()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(CORPUS)))
    # Headers decide which code runs, so that most changes go there.
    anywhere = st.integers(0, len(data) - 1)
    early = st.integers(0, min(len(data) - 1, 200))
    late = st.integers(max(0, len(data) - 200), len(data) - 1)
    for _ in range(draw(st.integers(0, 4))):
        at = min(draw(st.one_of(early, anywhere, late)), len(data) - 1)
        what = draw(st.integers(0, 4))
        if what == 0:
            data[at] = draw(st.integers(0, 255))
        elif what == 1:
            data[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, bytes(4), b"\0\0\0\x01"]))
        elif what == 2:
            del data[at : at + draw(st.integers(1, 30))]
        elif what == 3:
            data[at:at] = draw(st.binary(max_size=12))
        else:
            del data[max(at, 1) :]
        if not data:
            break
    return bytes(data)


SUFFIXES = (".jpg", ".png", ".bmp", ".tif", ".gif", ".webp", "")


@settings(
    max_examples=1200, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(
    image=mutated(),
    mask=mutated(),
    action=st.sampled_from(["", "accept", "resize_mask"]),
    values=st.sampled_from(["auto", "object_ids"]),
    field=st.sampled_from(["jpg", "png"]),
)
def test_whatever_the_bytes_are_the_worst_is_a_named_problem(
    image: bytes, mask: bytes, action: str, values: str, field: str
) -> None:
    origin = Origin("k", "own", "all", "x", "a", "b", values, action)  # type: ignore[arg-type]
    options = Settings(image_field=field, max_pixels=1_000_000)  # type: ignore[arg-type]
    _ends_well(image, encode(disc(24, 16, 5), "PNG"), origin, options)
    _ends_well(encode(photo(0, 24, 16)), mask, origin, options)


def _ends_well(image: bytes, mask: bytes, origin: Origin, options: Settings) -> None:
    try:
        sample = normalise(image, mask, origin, options)
    except ProblemError as error:
        assert error.message
    else:
        assert Record.model_validate_json(sample.record.to_bytes()) == sample.record
