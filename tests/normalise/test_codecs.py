"""Bytes are told apart, decoded exactly, and never believed when they are incomplete or damaged."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hqdata import codecs
from hqdata.codecs import CodecError, DamagedError, TooLargeError, TruncatedError
from hqdata.masks import read_mask
from hqdata.pictures import make_picture
from support.pictures import disc, encode, photo

LIMIT = 120_000_000
JPEG = encode(photo(1))
PROGRESSIVE = encode(photo(2), progressive=True)
PNG = encode(photo(3, 60, 40), "PNG")
MASK = encode(disc(60, 40, 12), "PNG")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, stream: bytes, colour: int = 2) -> bytes:
    ihdr = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [_chunk(b"IHDR", ihdr), _chunk(b"IDAT", stream), _chunk(b"IEND", b"")]
    )


@pytest.mark.parametrize(
    ("pillow_name", "expected"),
    [
        ("JPEG", "jpeg"),
        ("PNG", "png"),
        ("WEBP", "webp"),
        ("BMP", "bmp"),
        ("TIFF", "tiff"),
        ("GIF", "gif"),
    ],
)
def test_the_first_bytes_tell_the_format(pillow_name: str, expected: str) -> None:
    assert codecs.sniff(encode(photo(0), pillow_name)) == expected


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file is empty"),  # zero bytes long
        (bytes(4096), "did not finish"),  # a download that was preallocated and broke off
        (b"version https://git-lfs.github.com/spec/v1\n", "version https://"),  # an LFS pointer
        (b"<!DOCTYPE html><html>404</html>", "<!DOCTYPE html>"),  # an error page under a .jpg name
        (b"\x00\x01\x02\xff garbage", "00 01 02 ff"),  # binary of no known kind
    ],
)
def test_what_is_no_picture_is_described(data: bytes, said: str) -> None:
    assert codecs.sniff(data) is None
    assert said in codecs.describe_bytes(data)
    for read in (make_picture, read_mask):
        with pytest.raises(CodecError):
            read(data, max_pixels=LIMIT)


def test_jpeg_pixels_equal_those_of_pillow_and_opencv(real_data: Path) -> None:
    for path in sorted((real_data / "photos").iterdir())[::12]:
        data = path.read_bytes()
        ours = codecs.decode_jpeg(data)
        with Image.open(path) as image:
            pillow = np.asarray(image.convert("RGB"))
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        opencv = cv2.imdecode(np.frombuffer(data, np.uint8), flags)[:, :, ::-1]
        assert np.array_equal(ours, pillow), path.name
        assert np.array_equal(ours, opencv), path.name


@settings(max_examples=150, deadline=None)
@given(cut=st.floats(0.0, 1.0, exclude_max=True), progressive=st.booleans())
def test_a_jpeg_cut_anywhere_is_refused(cut: float, progressive: bool) -> None:
    whole = PROGRESSIVE if progressive else JPEG
    with pytest.raises(CodecError):
        make_picture(whole[: int(cut * (len(whole) - 2))], max_pixels=LIMIT)


def test_a_real_jpeg_cut_within_its_scan_is_called_truncated(real_data: Path) -> None:
    rng = random.Random(0)
    for path in sorted((real_data / "photos").iterdir())[::30]:
        data = path.read_bytes()
        for _ in range(6):
            cut = rng.randrange(len(data) // 2, len(data) - 2)
            with pytest.raises((TruncatedError, DamagedError)):
                make_picture(data[:cut], max_pixels=LIMIT)


@settings(max_examples=150, deadline=None)
@given(cut=st.integers(0, len(PNG) - 1))
def test_a_png_cut_anywhere_is_refused(cut: int) -> None:
    with pytest.raises(CodecError):
        make_picture(PNG[:cut], max_pixels=LIMIT)


@settings(max_examples=300, deadline=None)
@given(bit=st.integers(0, 8 * len(MASK) - 1))
def test_every_flipped_bit_of_a_png_is_found(bit: int) -> None:
    broken = bytearray(MASK)
    broken[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CodecError):
        read_mask(bytes(broken), max_pixels=LIMIT)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.8])
def test_a_jpeg_that_lost_bytes_in_the_middle_is_damaged(real_data: Path, kept: float) -> None:
    data = (real_data / "photos" / "BSDS500__12003.jpg").read_bytes()
    at = int(len(data) * kept)
    with pytest.raises((DamagedError, TruncatedError)):
        make_picture(data[:at] + data[at + 3000 :], max_pixels=LIMIT)


@pytest.mark.parametrize(
    "stream",
    [
        lambda raw: zlib.compress(raw[: len(raw) // 2]),  # half of the rows, everything consistent
        lambda raw: zlib.compress(raw)[:-200],  # the last rows are missing
        lambda raw: zlib.compress(raw)[: len(raw) // 8],  # a stream that breaks off
        lambda raw: b"",  # no stream
    ],
)
@pytest.mark.parametrize("colour", [0, 2, 6])
def test_a_png_without_all_its_rows_is_refused_though_every_crc_fits(stream, colour: int) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    channels = {0: 1, 2: 3, 6: 4}[colour]
    rows = [b"\0" + rng.integers(0, 255, 60 * channels, np.uint8).tobytes() for _ in range(40)]
    data = _png(60, 40, stream(b"".join(rows)), colour)
    for read in (make_picture, read_mask):
        with pytest.raises(CodecError):
            read(data, max_pixels=LIMIT)


def _huge_jpeg() -> bytes:
    data = bytearray(JPEG)
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(data)


def _huge_bmp() -> bytes:
    data = bytearray(encode(photo(0), "BMP"))
    data[18:26] = struct.pack("<ii", 100_000, 100_000)
    return bytes(data)


def _huge_gif() -> bytes:
    data = bytearray(encode(disc(), "GIF"))
    data[6:10] = struct.pack("<HH", 65_500, 65_500)
    return bytes(data)


def _huge_tiff() -> bytes:
    entries = [(256, 4, 100_000), (257, 4, 100_000), (258, 3, 8), (259, 3, 1), (262, 3, 1)]
    entries += [(273, 4, 8), (277, 3, 1), (278, 4, 100_000), (279, 4, 10_000_000)]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


def _huge_webp() -> bytes:
    size = (100_000 - 1).to_bytes(3, "little")
    vp8x = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size + size
    small = encode(photo(0), "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", 4 + len(vp8x) + len(small)) + b"WEBP" + vp8x + small


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_huge_jpeg(), id="jpeg"),
        pytest.param(_png(100_000, 100_000, zlib.compress(bytes(100))), id="png"),
        pytest.param(_huge_bmp(), id="bmp"),
        pytest.param(_huge_gif(), id="gif"),
        pytest.param(_huge_tiff(), id="tiff"),
    ],
)
@pytest.mark.parametrize("read", [make_picture, read_mask])
def test_a_header_that_claims_ten_thousand_megapixels_allocates_nothing(data: bytes, read) -> None:  # type: ignore[no-untyped-def]
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            read(data, max_pixels=LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("read", [make_picture, read_mask])
def test_a_webp_that_claims_too_much_is_refused(read) -> None:  # type: ignore[no-untyped-def]
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            read(_huge_webp(), max_pixels=LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pixels", [photo(5), disc()])
def test_an_encoded_jpeg_is_near_its_source_and_keeps_its_profile(pixels: np.ndarray) -> None:
    profile = bytes(range(256)) * 600  # longer than one segment holds
    data = codecs.encode_jpeg(pixels, profile)
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["icc_profile"] == profile
        assert image.size == (pixels.shape[1], pixels.shape[0])
        decoded = np.asarray(image).astype(int)
    assert np.abs(decoded - pixels).max() <= 6


def test_more_pixels_a_side_than_a_jpeg_can_have_is_a_named_error() -> None:
    with pytest.raises(TooLargeError, match="65,500"):
        make_picture(encode(np.zeros((2, 66_000, 3), np.uint8), "PNG"), max_pixels=LIMIT)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 5000), width=st.integers(1, 3_000_000))
def test_strips_cover_every_row_once(height: int, width: int) -> None:
    rows = [row for cut in codecs.strips(height, width) for row in range(cut.start, cut.stop)]
    assert rows == list(range(height))


def test_16_bits_are_narrowed_to_the_nearest_8_bit_value() -> None:
    wide = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    exact = np.rint(wide / 257).astype(np.uint8)
    assert np.array_equal(codecs.narrow(wide), exact)
