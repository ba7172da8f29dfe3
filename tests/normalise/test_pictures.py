"""Images keep their own bytes where they can, and otherwise become upright 8-bit JPEGs, once."""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from hqdata.codecs import CodecError, DamagedError, TruncatedError
from hqdata.fingerprint import global_hash
from hqdata.orientation import exif_orientation, turn_upright
from hqdata.pictures import Picture, make_picture, pixel_digest
from support.pictures import encode, photo

LIMIT = 120_000_000


def make(data: bytes, **options: object) -> Picture:
    return make_picture(data, max_pixels=LIMIT, **options)  # type: ignore[arg-type]


def save(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


def with_orientation(value: int | None) -> bytes:
    exif = Image.Exif()
    if value is not None:
        exif[0x0112] = value
    exif[0x010F] = "camera"
    return encode(photo(4), exif=exif)


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encode(photo(0)), id="rgb"),
        pytest.param(encode(photo(0)[:, :, 0]), id="gray"),
        pytest.param(encode(photo(0), progressive=True), id="progressive"),
        pytest.param(encode(photo(0), subsampling=0), id="no chroma subsampling"),
        pytest.param(encode(photo(0), icc_profile=PROFILE), id="colour profile"),
        pytest.param(with_orientation(1), id="EXIF orientation 1"),
        pytest.param(with_orientation(0), id="EXIF orientation 0, which means nothing"),
        pytest.param(with_orientation(99), id="EXIF orientation 99, which means nothing"),
        pytest.param(with_orientation(None), id="EXIF without orientation"),
        pytest.param(encode(photo(0, 1, 1)), id="one pixel"),
        pytest.param(encode(photo(0), keep_rgb=True), id="RGB inside"),
    ],
)
def test_an_ordinary_jpeg_keeps_its_bytes(data: bytes) -> None:
    picture = make(data)
    assert (picture.data, picture.changes, picture.psnr_db) == (data, "untouched", 100.0)


def test_real_photographs_keep_their_bytes_unless_exif_turns_them(real_data: Path) -> None:
    for path in sorted((real_data / "photos").iterdir())[::6]:
        data = path.read_bytes()
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) in range(2, 9)
        assert (make(data).data == data) is not turned, path.name


@pytest.mark.parametrize("shape", ["Landscape", "landscape", "portrait"])
def test_every_exif_orientation_becomes_upright(real_data: Path, shape: str) -> None:
    paths = sorted((real_data / "oddities" / "exif_orientation").glob(f"*{shape}_[1-8].jpg"))
    assert len(paths) == 8
    thumbs = []
    for path in paths:
        picture = make(path.read_bytes())
        with Image.open(path) as image:
            orientation = image.getexif().get(0x0112, 1)
            upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        stored = decoded(picture.data)
        assert stored.shape == upright.shape == (picture.height, picture.width, 3)
        if orientation == 1:
            assert picture.changes == "untouched"
        else:
            assert picture.changes == f"exif-orientation-{orientation}, jpeg-q100"
            assert psnr(stored, upright) > 40
            assert exif_orientation(picture.data) == 1
        thumbs.append(np.asarray(Image.fromarray(stored).resize((60, 40), Image.Resampling.BOX)))
    for thumb in thumbs[1:]:
        assert np.abs(thumb.astype(int) - thumbs[0]).mean() < 30  # the same scene, numbered


@given(orientation=st.integers(1, 8), height=st.integers(1, 7), width=st.integers(1, 7))
def test_turning_is_what_pillow_does(orientation: int, height: int, width: int) -> None:
    pixels = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.open(io.BytesIO(save(Image.fromarray(pixels), "PNG", exif=exif)))
    expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(turn_upright(pixels, orientation), expected)
    gray = turn_upright(np.ascontiguousarray(pixels[:, :, 0]), orientation)
    assert np.array_equal(gray, expected[:, :, 0])


COMPRESSIONS = {"TIFF": {"compression": "tiff_lzw"}, "WEBP": {"lossless": True}}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "raw TIFF", "WEBP", "PNG 16", "RGBA PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_format_is_turned_upright_exactly_once(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    name = kind.split()[-1] if kind != "PNG 16" else "PNG"
    pixels = OPAQUE if kind == "RGBA PNG" else WIDE if kind == "PNG 16" else RGB
    data = save(Image.fromarray(pixels), name, exif=exif, **COMPRESSIONS.get(kind, {}))
    assert exif_orientation(data) == orientation
    stored = {"PNG 16": np.dstack([NARROW.astype(np.uint8)] * 3)}.get(kind, RGB)
    picture = make(data, image_field="png")
    assert np.array_equal(decoded(picture.data), turn_upright(stored, orientation))
    assert picture.changes.startswith(f"exif-orientation-{orientation}, ") is (orientation != 1)
    assert exif_orientation(picture.data) == 1


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "I;16", "RGBA", "LA"])
def test_a_quarter_turned_tiff_keeps_its_pixels_in_any_mode(mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(WIDE) if mode == "I;16" else Image.fromarray(RGB).convert(mode)
    plain, turned = (
        make(save(image, "TIFF", **o), image_field="png") for o in ({}, {"exif": exif})
    )
    expected = turn_upright(decoded(plain.data), 6)
    assert np.array_equal(decoded(turned.data), expected)
    assert (turned.width, turned.height) == (plain.height, plain.width)


def test_the_orientation_of_a_png_is_found_behind_the_pixels_and_in_old_text_chunks() -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    body = exif.tobytes()[6:]
    plain = save(Image.fromarray(RGB), "PNG")
    chunk = b"eXIf" + body
    chunk = struct.pack(">I", len(body)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    assert exif_orientation(plain[:-12] + chunk + plain[-12:]) == 8
    text = PngImagePlugin.PngInfo()
    whole = b"Exif\0\0" + body
    text.add_text("Raw profile type exif", f"\nexif\n{len(whole):8}\n{whole.hex()}\n", zip=True)
    assert exif_orientation(save(Image.fromarray(RGB), "PNG", pnginfo=text)) == 8
    broken = chunk.replace(body, bytes(len(body)))
    assert exif_orientation(plain[:-12] + broken + plain[-12:]) == 1


def test_real_colour_modes_all_become_the_same_picture(real_data: Path) -> None:
    folder = real_data / "oddities" / "colour_modes"
    paths = [p for p in sorted(folder.iterdir()) if not p.stem.endswith("__1")]
    assert len(paths) == 12
    reference = decoded((folder / next(p.name for p in paths if "original" in p.name)).read_bytes())
    gray = reference.mean(axis=2)
    for path in paths:
        stored = decoded(make(path.read_bytes()).data)
        assert np.abs(stored.mean(axis=2) - gray).mean() < 25, path.name


def _over_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[:, :, 3:] / 255
    return rgba[:, :, :3] * alpha + 255 * (1 - alpha)


RGB = photo(6)
ALPHA = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1))
RGBA = np.dstack([RGB, ALPHA])
OPAQUE = np.dstack([RGB, np.full((64, 96), 255, np.uint8)])
CMYK = Image.fromarray(RGB).convert("CMYK")
PALETTE = Image.fromarray(RGB).quantize(32)
BITS = Image.fromarray(RGB).convert("1")
WIDE = (np.arange(64 * 96, dtype=np.uint16) * 10).reshape(64, 96)


def _wide_rgb() -> bytes:
    import cv2

    ok, data = cv2.imencode(".png", np.dstack([WIDE, WIDE[::-1], WIDE[:, ::-1]])[:, :, ::-1])
    assert ok
    return bytes(data.tobytes())


def _wide_rgba() -> bytes:
    import cv2

    ok, data = cv2.imencode(".png", np.dstack([WIDE, WIDE, WIDE, ALPHA.astype(np.uint16) * 257]))
    assert ok
    return bytes(data.tobytes())


NARROW = np.rint(WIDE / 257)

RARE = [
    (save(Image.fromarray(RGB), "PNG"), "png, jpeg-q100", RGB),
    (save(Image.fromarray(RGB), "BMP"), "bmp, jpeg-q100", RGB),
    (save(Image.fromarray(RGB), "TIFF"), "tiff, jpeg-q100", RGB),
    (save(Image.fromarray(RGB), "WEBP", lossless=True), "webp, jpeg-q100", RGB),
    (save(PALETTE, "GIF"), "gif, palette, jpeg-q100", np.asarray(PALETTE.convert("RGB"))),
    (save(PALETTE, "PNG"), "png, palette, jpeg-q100", np.asarray(PALETTE.convert("RGB"))),
    (save(BITS, "PNG"), "png, 1-bit, jpeg-q100", np.asarray(BITS.convert("RGB"))),
    (save(Image.fromarray(RGBA), "PNG"), "png, alpha-over-white, jpeg-q100", _over_white(RGBA)),
    (save(Image.fromarray(OPAQUE), "PNG"), "png, alpha-opaque, jpeg-q100", RGB),
    (
        save(Image.fromarray(RGBA).convert("LA"), "PNG"),
        "png, alpha-over-white, jpeg-q100",
        _over_white(np.asarray(Image.fromarray(RGBA).convert("LA").convert("RGBA"))),
    ),
    (save(Image.fromarray(WIDE), "PNG"), "png, 16-bit, jpeg-q100", np.dstack([NARROW] * 3)),
    (save(Image.fromarray(WIDE), "TIFF"), "tiff, 16-bit, jpeg-q100", np.dstack([NARROW] * 3)),
    (
        _wide_rgb(),
        "png, 16-bit, jpeg-q100",
        np.dstack([NARROW, NARROW[::-1], NARROW[:, ::-1]]),
    ),
    (
        _wide_rgba(),
        "png, 16-bit, alpha-over-white, jpeg-q100",
        _over_white(np.dstack([NARROW, NARROW, NARROW, ALPHA])),
    ),
    (save(CMYK, "JPEG", quality=98), "cmyk, jpeg-q100", RGB),
]


@pytest.mark.parametrize(("data", "changes", "expected"), RARE, ids=[c for _, c, _ in RARE])
def test_what_is_rare_becomes_an_upright_8_bit_jpeg_and_says_so(
    data: bytes, changes: str, expected: np.ndarray
) -> None:
    picture = make(data)
    assert picture.changes == changes
    with Image.open(io.BytesIO(picture.data)) as image:
        assert (image.format, image.mode in ("RGB", "L")) == ("JPEG", True)
        assert image.size == (picture.width, picture.height) == (96, 64)
        assert image.getexif().get(0x0112, 1) == 1
    assert psnr(decoded(picture.data), expected) > 32
    lossless = make(data, image_field="png")
    allowed = 40 if "cmyk" in changes else 1.01  # the CMYK file itself is lossy
    assert np.abs(decoded(lossless.data).astype(float) - expected).max() <= allowed
    assert lossless.changes == changes.replace("jpeg-q100", "to-png")
    assert lossless.psnr_db == 100.0


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_the_psnr_told_is_that_of_the_stored_picture(kind: str) -> None:
    picture = make(encode(RGB, kind))
    assert picture.psnr_db == pytest.approx(psnr(decoded(picture.data), RGB), abs=0.006)


def test_png_stores_every_pixel(real_data: Path) -> None:
    for path in sorted((real_data / "photos").iterdir())[::40]:
        picture = make(path.read_bytes(), image_field="png")
        with Image.open(path) as image:
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        assert np.array_equal(decoded(picture.data), expected)
        assert re.fullmatch(r"(exif-orientation-\d, )?to-png", picture.changes)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), width=st.integers(1, 40), height=st.integers(1, 40))
def test_the_pixel_digest_is_the_documented_one(seed: int, width: int, height: int) -> None:
    data = encode(photo(seed, width, height))
    text = f"{width}x{height}".encode() + decoded(data).tobytes()
    assert make(data).pixel_sha256 == hashlib.sha256(text).hexdigest()
    gray = encode(photo(seed, width, height)[:, :, 0])
    text = f"{width}x{height}".encode() + decoded(gray).tobytes()
    assert make(gray).pixel_sha256 == hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize("field", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_fingerprint_is_of_the_stored_upright_picture(orientation: int, field: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = make(encode(photo(5, 300, 200), exif=exif), image_field=field)
    assert picture.hashes == global_hash(decoded(picture.data))


def test_the_pixel_digest_tells_shapes_apart() -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    assert pixel_digest(pixels) != pixel_digest(pixels.reshape(6, 4, 3))


def test_the_colour_profile_of_an_rgb_picture_travels_along() -> None:
    picture = make(save(Image.fromarray(RGB), "PNG", icc_profile=PROFILE))
    with Image.open(io.BytesIO(picture.data)) as image:
        assert image.info["icc_profile"] == PROFILE


def test_a_cmyk_picture_with_a_colour_profile_that_is_broken_or_of_rgb_is_read_without() -> None:
    for profile in (PROFILE, b"nonsense" * 40):
        picture = make(save(CMYK, "JPEG", quality=98, icc_profile=profile))
        assert picture.changes == "cmyk, jpeg-q100"
        with Image.open(io.BytesIO(picture.data)) as image:
            assert image.info.get("icc_profile") in (None, profile)


@pytest.mark.parametrize("progressive", [False, True])
def test_damage_can_be_accepted_and_is_then_written_down(progressive: bool) -> None:
    whole = encode(photo(0, 200, 150), progressive=progressive)
    cut = whole[: len(whole) * 3 // 4]
    with pytest.raises((TruncatedError, DamagedError)):
        make(cut)
    picture = make(cut, accept_damage=True)
    assert picture.changes == "damaged, jpeg-q100"
    assert make(picture.data).changes == "untouched"  # what is stored is whole
    assert psnr(decoded(picture.data)[:60], decoded(whole)[:60]) > (15 if progressive else 40)


def test_what_has_no_header_cannot_be_accepted() -> None:
    with pytest.raises(CodecError):
        make(encode(photo(0))[:100], accept_damage=True)
