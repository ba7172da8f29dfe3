"""Looking at the bytes of a picture file before and while they are decoded.

JPEG goes through libjpeg-turbo in strict mode (simplejpeg), which reports damaged data (a hole in
the middle, a cut with an end mark behind it) that OpenCV and Pillow decode without an error; its
pixels equal theirs. PNG is checked chunk by chunk, then decoded by OpenCV. Whatever is rarer goes
through Pillow.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from struct import unpack_from
from typing import Literal

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

Format = Literal["jpeg", "png", "webp", "bmp", "tiff", "gif"]

FORMAT_OF_SUFFIX: dict[str, Format] = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".png": "png",
    ".webp": "webp",
    ".bmp": "bmp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".gif": "gif",
}

PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What Pillow raises for bytes that it does not like, depending on format and place."""

MAX_JPEG_SIDE = 65_500
"""Largest width and height that libjpeg writes."""

_STRIP_PIXELS = 2**17
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_ICC_PART = 65_519

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class CodecError(Exception):
    """The bytes are no picture that can be decoded."""


class TruncatedError(CodecError):
    """The file ends before the picture does."""


class DamagedError(CodecError):
    """The picture decodes only with errors in its data."""


class TooLargeError(CodecError):
    """The header claims more pixels than the limit allows; nothing was decoded."""


def sniff(data: bytes) -> Format | None:
    """The format that the first bytes tell, or None."""
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:8] == _PNG_SIGNATURE:
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:2] == b"BM":
        return "bmp"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "tiff"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    return None


def is_lossless(data: bytes) -> bool:
    """Whether the format keeps every pixel as it was drawn: not so of JPEG and of lossy WebP."""
    kind = sniff(data)
    if kind == "webp":
        position = 12
        while position + 8 <= len(data):
            if data[position : position + 4] in (b"VP8 ", b"ANMF"):
                return False
            position += 8 + int.from_bytes(data[position + 4 : position + 8], "little")
            position += position % 2
    return kind != "jpeg"


def describe_bytes(data: bytes) -> str:
    """What a file that is no picture looks like, for a message."""
    if not data:
        return "the file is empty"
    if not any(data[:64]):
        return "the file begins with zero bytes: its download or copy did not finish"
    head = data[:16]
    shown = (
        head.decode("ascii") if head.isascii() and head.decode().isprintable() else head.hex(" ")
    )
    return f"its bytes are no picture (they begin {shown!r})"


def check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    """Raises TooLargeError if the header claims too much, CodecError if it claims nothing."""
    width, height = size
    if width <= 0 or height <= 0:
        raise CodecError(f"its header claims {width}x{height} pixels")
    if width * height > max_pixels:
        raise TooLargeError(
            f"its header claims {width}x{height} pixels, more than the limit of {max_pixels:,}"
        )


def jpeg_header(data: bytes) -> tuple[int, int, str]:
    """(width, height, colour space) of a JPEG; colour space is Gray, YCbCr, RGB, CMYK or YCCK.

    Raises:
        CodecError: the header cannot be read.
    """
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        if b"\xff\xd9" not in data[-1024:]:
            raise TruncatedError("the file ends too early (no JPEG end mark)") from error
        raise _jpeg_error(error) from error
    return int(width), int(height), str(space)


def decode_jpeg(data: bytes, *, gray: bool = False, strict: bool = True) -> NDArray[np.uint8]:
    """Pixels of a JPEG as stored (EXIF orientation not applied).

    Returns:
        uint8 of shape (height, width, 3), RGB; or (height, width) with `gray`.

    Raises:
        TruncatedError: the file ends too early.
        DamagedError: the compressed data have errors; with `strict=False` they are concealed
        instead.
    """
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, colorspace="GRAY" if gray else "RGB", strict=strict
        )
    except ValueError as error:
        raise _jpeg_error(error) from error
    return pixels[:, :, 0] if gray else pixels


def _jpeg_error(error: ValueError) -> CodecError:
    text = str(error)
    if "end of JPEG file" in text or "mpty input" in text:
        return TruncatedError(f"the file ends too early ({text})")
    if "orrupt" in text or "nvalid" in text or "xtraneous" in text:
        return DamagedError(f"its data are damaged ({text})")
    return CodecError(f"it cannot be decoded ({text})")


@dataclass(frozen=True, slots=True)
class PngHeader:
    """What a PNG says about itself.

    Attributes:
        width, height: in pixels.
        depth: bits a channel: 1, 2, 4, 8 or 16.
        colour: PNG colour type: 0 gray, 2 RGB, 3 palette, 4 gray + alpha, 6 RGBA.
        transparent: whether a tRNS chunk makes values transparent.
        trailing: bytes after the end of the picture.
    """

    width: int
    height: int
    depth: int
    colour: int
    transparent: bool
    trailing: int


def png_size(data: bytes) -> tuple[int, int]:
    """(width, height) that the first chunk claims.

    Raises:
        CodecError: there is no such chunk.
    """
    if len(data) < 33:
        raise TruncatedError("the file ends too early (within the PNG header)")
    if data[12:16] != b"IHDR":
        raise CodecError("it cannot be decoded (a PNG whose first chunk is not IHDR)")
    width, height = unpack_from(">II", data, 16)
    return width, height


def check_png(data: bytes) -> PngHeader:
    """Walks all chunks and compares their checksums.

    Raises:
        TruncatedError: the file ends before the IEND chunk.
        DamagedError: a chunk's CRC does not fit.
        CodecError: no PNG header.
    """
    width, height = png_size(data)
    depth, colour = data[24], data[25]
    transparent = False
    position = len(_PNG_SIGNATURE)
    view = memoryview(data)
    while True:
        if position + 12 > len(data):
            raise TruncatedError("the file ends too early (no PNG end chunk)")
        (length,) = unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        end = position + 8 + length
        if end + 4 > len(data):
            raise TruncatedError(f"the file ends too early (within a PNG chunk {kind!r})")
        (crc,) = unpack_from(">I", data, end)
        if zlib.crc32(view[position + 4 : end]) != crc:
            raise DamagedError(f"its data are damaged (checksum of a PNG chunk {kind!r})")
        transparent |= kind == b"tRNS"
        position = end + 4
        if kind == b"IEND":
            return PngHeader(width, height, depth, colour, transparent, len(data) - position)


def check_png_rows(data: bytes) -> None:
    """Inflates the rows of a PNG that passed `check_png`, for decoders that do not mind a lack.

    Raises:
        DamagedError: the stream is broken, or there are fewer rows than the header says.
    """
    width, height = png_size(data)
    depth, colour, interlaced = data[24], data[25], data[28]
    num_channels = {2: 3, 4: 2, 6: 4}.get(colour, 1)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    expected = 0
    for x, y, dx, dy in passes:
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        if columns > 0 and rows > 0:
            expected += rows * (1 + (columns * num_channels * depth + 7) // 8)
    inflate = zlib.decompressobj()
    found, position = 0, len(_PNG_SIGNATURE)
    try:
        while (kind := data[position + 4 : position + 8]) != b"IEND":
            (length,) = unpack_from(">I", data, position)
            rest = data[position + 8 : position + 8 + length] if kind == b"IDAT" else b""
            while rest and not inflate.eof and found <= expected:
                found += len(inflate.decompress(rest, 2**16))
                rest = inflate.unconsumed_tail
            position += 12 + length
    except zlib.error as error:
        raise DamagedError(f"its data are damaged ({error})") from error
    if found < expected:
        raise DamagedError(
            f"its data are damaged (the PNG's rows have {found:,} of {expected:,} bytes)"
        )


def decode_png(data: bytes, flags: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Pixels of a PNG that passed `check_png`, by OpenCV with its IMREAD flags (colour order BGR).

    Raises:
        CodecError: OpenCV cannot decode it.
    """
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise CodecError(f"it cannot be decoded ({error.err})") from error
    if pixels is None:
        raise DamagedError("its data are damaged (OpenCV cannot decode the PNG)")
    if pixels.dtype == np.uint16:
        return np.asarray(pixels, dtype=np.uint16)
    return np.asarray(pixels, dtype=np.uint8)


def decode_webp(data: bytes) -> NDArray[np.uint8] | None:
    """Pixels of a WebP, BGR or BGRA, the first frame; None where OpenCV cannot decode it.

    Takes a third of the memory of Pillow, which decodes every WebP as if it were animated.
    """
    try:
        pixels = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error:
        return None
    if pixels is None or pixels.ndim != 3 or pixels.dtype != np.uint8:
        return None
    return np.asarray(pixels, np.uint8)


def swap_red_and_blue(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """BGR or BGRA as RGB or RGBA, in place. Gray, uint8 (height, width), becomes RGB."""
    if pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    code = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    for rows in strips(*pixels.shape[:2]):
        pixels[rows] = cv2.cvtColor(pixels[rows], code)
    return pixels


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """8-bit PNG, lossless. Takes (height, width) gray or (height, width, 3) RGB."""
    array = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    ok, buffer = cv2.imencode(".png", array, [cv2.IMWRITE_PNG_COMPRESSION, 4])
    if not ok:
        raise CodecError("OpenCV cannot encode the PNG")
    return buffer.tobytes()


def encode_jpeg(pixels: NDArray[np.uint8], profile: bytes | None = None) -> bytes:
    """JPEG of quality 100 without chroma subsampling.

    Args:
        pixels: (height, width) gray or (height, width, 3) RGB.
        profile: ICC colour profile to put in, or None.

    Raises:
        TooLargeError: a side is longer than a JPEG can have.
    """
    height, width = pixels.shape[:2]
    if max(height, width) > MAX_JPEG_SIDE:
        raise TooLargeError(
            f"it has {width}x{height} pixels, and no JPEG has more than {MAX_JPEG_SIDE:,} a side"
        )
    gray = pixels.ndim == 2
    data: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels[:, :, None] if gray else pixels),
        quality=100,
        colorspace="GRAY" if gray else "RGB",
        colorsubsampling="Gray" if gray else "444",
        fastdct=False,
    )
    if profile is None:
        return data
    parts = [profile[i : i + _ICC_PART] for i in range(0, len(profile), _ICC_PART)]
    if len(parts) > 255:
        return data
    segments = b"".join(
        struct.pack(">HH12sBB", 0xFFE2, len(part) + 16, b"ICC_PROFILE", number, len(parts)) + part
        for number, part in enumerate(parts, 1)
    )
    begin = 4 + int.from_bytes(data[4:6], "big")  # after the JFIF segment, which comes first
    return data[:begin] + segments + data[begin:]


def strips(height: int, width: int) -> Iterator[slice]:
    """Cuts a picture's rows into slices of about 130,000 pixels.

    Whatever needs several arrays of a picture's size works strip by strip, so that a worker's
    memory is that of one or two pictures and not of ten.
    """
    rows = max(1, _STRIP_PIXELS // max(1, width))
    for begin in range(0, height, rows):
        yield slice(begin, min(begin + rows, height))


def narrow(wide: NDArray[np.uint16] | NDArray[np.int32]) -> NDArray[np.uint8]:
    """16-bit values 0…65535 as 8-bit ones: v / 257, rounded. Any shape."""
    pixels = np.empty(wide.shape, np.uint8)
    for rows in strips(wide.shape[0], wide[0].size if len(wide) else 1):
        pixels[rows] = (wide[rows].astype(np.uint32) + 128) // 257
    return pixels
