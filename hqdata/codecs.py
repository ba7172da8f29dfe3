"""Looking at the bytes of a picture file before and while they are decoded.

JPEG goes through libjpeg-turbo in strict mode (simplejpeg), which reports truncated and damaged
data that OpenCV and Pillow pass over in silence; its pixels equal theirs. PNG is checked chunk by
chunk, then decoded by OpenCV. Whatever is rarer goes through Pillow.
"""

from __future__ import annotations

import zlib
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
    if "remature end" in text or "mpty input" in text:
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


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """8-bit PNG, lossless. Takes (height, width) gray or (height, width, 3) RGB."""
    array = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    ok, buffer = cv2.imencode(".png", array, [cv2.IMWRITE_PNG_COMPRESSION, 4])
    if not ok:
        raise CodecError("OpenCV cannot encode the PNG")
    return buffer.tobytes()
