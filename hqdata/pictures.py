"""The image of a sample: its own bytes where they already are what loaders expect, else made so
once.

A conversion holds two RGB pictures at a time beside the file: the pixels and what was stored of
them. For 36 megapixels, of which an RGB picture takes 103 MiB, a worker stays below 400 MiB, the
65 MiB of its libraries included. What a decoder holds itself cannot be helped:

- a progressive JPEG without chroma subsampling keeps all its coefficients, two RGB pictures' worth,
  until its last scan: about 390 MiB and the file;
- a PNG of 16 bits is decoded by OpenCV into two copies of itself, four RGB pictures' worth, or five
  and a third with alpha: about 490 and 640 MiB;
- an uncompressed TIFF or BMP is an RGB picture more, the file itself: about 450 MiB.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from hqdata import codecs
from hqdata.by_pillow import load_as_stored, pillow_array, pillow_pixels
from hqdata.codecs import CodecError, DamagedError, TooLargeError, TruncatedError
from hqdata.fingerprint import GlobalHash, global_hash
from hqdata.orientation import exif_orientation, turn_upright

UNTOUCHED = "untouched"

IDENTICAL_DB = 100.0
"""PSNR written for identical pixels, whose true value is infinite and no JSON number."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright 8-bit RGB or grayscale picture, ready for a shard.

    Attributes:
        data: the bytes to store.
        width, height: in pixels, upright.
        changes: `untouched`, or what was done, comma-separated, e.g. `exif-orientation-6,
            jpeg-q100`.
        psnr_db: of the stored against the decoded source pixels, in dB over all channels; 100 if
            identical.
        pixel_sha256: SHA-256 of `b"<width>x<height>"` followed by the stored picture's RGB bytes,
            row by row.
        hashes: the perceptual fingerprint of the stored picture.
    """

    data: bytes
    width: int
    height: int
    changes: str
    psnr_db: float
    pixel_sha256: str
    hashes: GlobalHash


def pixel_digest(pixels: Pixels) -> str:
    """SHA-256 in hexadecimal of a decoded picture, its shape included.

    Takes uint8 (height, width) gray or (height, width, 3) RGB; a gray picture has the digest of its
    RGB form.
    """
    rgb = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if pixels.ndim == 2 else pixels
    digest = hashlib.sha256(f"{rgb.shape[1]}x{rgb.shape[0]}".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


def make_picture(
    data: bytes,
    *,
    max_pixels: int,
    image_field: Literal["jpg", "png"] = "jpg",
    accept_damage: bool = False,
) -> Picture:
    """Checks and, only where needed, converts an image file.

    Args:
        data: the file's bytes.
        max_pixels: largest width x height that is decoded.
        image_field: format to store. With `jpg` an upright 8-bit RGB or gray JPEG stays as it is,
            byte for byte; anything else becomes a JPEG of quality 100 without chroma subsampling.
            With `png` everything is stored losslessly.
        accept_damage: decode truncated or damaged data as far as they go, and re-encode.

    Raises:
        TooLargeError, TruncatedError, DamagedError, CodecError: see `hqdata.codecs`.
    """
    kind = codecs.sniff(data)
    if kind is None:
        raise CodecError(codecs.describe_bytes(data))
    if kind == "jpeg":
        width, height, space = codecs.jpeg_header(data)
        codecs.check_pixels((width, height), max_pixels)
        orientation = exif_orientation(data)
        if space in ("Gray", "YCbCr", "RGB"):
            pixels, damage = _decode_jpeg(data, space == "Gray", accept_damage)
            if orientation == 1 and not damage and image_field == "jpg":
                return _picture(data, pixels, UNTOUCHED, IDENTICAL_DB)
            pixels = turn_upright(pixels, orientation)
            return _store(pixels, damage, orientation, image_field, data)
    pixels, changes, orientation = _decode_rare(data, kind, max_pixels)
    pixels = turn_upright(pixels, orientation)
    return _store(pixels, changes, orientation, image_field, data)


def _decode_jpeg(data: bytes, gray: bool, accept_damage: bool) -> tuple[Pixels, tuple[str, ...]]:
    try:
        return codecs.decode_jpeg(data, gray=gray), ()
    except (TruncatedError, DamagedError):
        if not accept_damage:
            raise
        return codecs.decode_jpeg(data, gray=gray, strict=False), ("damaged",)


def _store(
    pixels: Pixels,
    changes: tuple[str, ...],
    orientation: int,
    image_field: Literal["jpg", "png"],
    source: bytes,
) -> Picture:
    if orientation != 1:
        changes = (f"exif-orientation-{orientation}", *changes)
    if image_field == "png":
        what = ", ".join((*changes, "to-png"))
        return _picture(codecs.encode_png(pixels), pixels, what, IDENTICAL_DB)
    data = codecs.encode_jpeg(pixels, _profile(source) if pixels.ndim == 3 else None)
    stored = codecs.decode_jpeg(data, gray=pixels.ndim == 2)
    squared = cv2.norm(pixels, stored, cv2.NORM_L2SQR) / pixels.size
    psnr = IDENTICAL_DB if squared == 0 else 10 * np.log10(255**2 / squared)
    what = ", ".join((*changes, "jpeg-q100"))
    return _picture(data, stored, what, round(float(psnr), 2))


def _picture(data: bytes, pixels: Pixels, changes: str, psnr_db: float) -> Picture:
    """The picture of stored bytes and of what they decode to."""
    height, width = pixels.shape[:2]
    digest, hashes = pixel_digest(pixels), global_hash(pixels)
    return Picture(data, width, height, changes, psnr_db, digest, hashes)


def _profile(data: bytes) -> bytes | None:
    """The RGB colour profile of a file, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata; the pixels are decoded already
            with Image.open(io.BytesIO(data)) as image:
                profile = image.info.get("icc_profile")
    except (*codecs.PILLOW_ERRORS, Image.DecompressionBombError):
        return None
    if not isinstance(profile, bytes) or len(profile) < 128 or profile[16:20] != b"RGB ":
        return None
    return profile


def _decode_rare(
    data: bytes, kind: codecs.Format, max_pixels: int
) -> tuple[Pixels, tuple[str, ...], int]:
    """(pixels as stored, what was done, orientation) of anything but an ordinary JPEG."""
    if kind == "png":
        codecs.check_pixels(codecs.png_size(data), max_pixels)
        header = codecs.check_png(data)
        if header.depth >= 8 and header.colour != 3 and not header.transparent:
            return *_decode_png(data, header), exif_orientation(data)
        codecs.check_png_rows(data)
    decoded = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of bombs; our own limit decides
            with Image.open(io.BytesIO(data)) as image:
                codecs.check_pixels(image.size, max_pixels)
                if kind == "webp":
                    decoded = codecs.decode_webp(data)
                if decoded is None:
                    load_as_stored(image)
                    pixels, changes = _to_rgb(image)
    except Image.DecompressionBombError as error:
        raise TooLargeError(str(error)) from error
    except UnidentifiedImageError as error:
        raise CodecError("it cannot be decoded (Pillow does not know it)") from error
    except codecs.PILLOW_ERRORS as error:
        if "truncated" in str(error).lower():
            raise TruncatedError(f"the file ends too early ({error})") from error
        raise CodecError(f"it cannot be decoded ({error})") from error
    if decoded is not None:
        pixels, changes = _rgb_of_opencv(decoded)
    named = () if kind == "jpeg" else (kind,)
    return pixels, (*named, *changes), exif_orientation(data)


def _decode_png(data: bytes, header: codecs.PngHeader) -> tuple[Pixels, tuple[str, ...]]:
    """PNG of 8 or 16 bits as 8-bit RGB or gray, alpha composited over white; 16 bits: v / 257."""
    named = ("png", "16-bit") if header.depth == 16 else ("png",)
    decoded = codecs.decode_png(data, cv2.IMREAD_UNCHANGED)
    if decoded.ndim == 2:
        return _as_bytes(decoded), named
    pixels, changes = _rgb_of_opencv(decoded)
    return pixels, (*named, *changes)


def _rgb_of_opencv(
    decoded: NDArray[np.uint8] | NDArray[np.uint16],
) -> tuple[Pixels, tuple[str, ...]]:
    """8-bit RGB of BGR or BGRA, alpha composited over white. Overwrites what it is given."""
    height, width, num_channels = decoded.shape
    changes: tuple[str, ...] = ()
    if num_channels == 4:
        opaque = int(decoded[:, :, 3].min()) == np.iinfo(decoded.dtype).max
        changes = ("alpha-opaque" if opaque else "alpha-over-white",)
    # The RGB rows take the place of the longer rows already read: one array, not two.
    num_bytes = height * width * 3
    pixels = decoded.reshape(-1).view(np.uint8)[:num_bytes].reshape(height, width, 3)
    for rows in codecs.strips(height, width):
        part = _as_bytes(decoded[rows])
        if num_channels == 4:
            rgba = Image.fromarray(cv2.cvtColor(part, cv2.COLOR_BGRA2RGBA))
            pixels[rows] = np.asarray(_over_white(rgba), np.uint8)
        else:
            pixels[rows] = cv2.cvtColor(part, cv2.COLOR_BGR2RGB)
    if decoded.flags.owndata and decoded.nbytes > num_bytes:
        # What lies behind the RGB rows goes back to the system; no view may be left by then.
        del pixels, part
        decoded.resize(-(-num_bytes // decoded.itemsize), refcheck=False)
        pixels = decoded.view(np.uint8)[:num_bytes].reshape(height, width, 3)
    return pixels, changes


def _as_bytes(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> Pixels:
    if pixels.dtype == np.uint16:
        return codecs.narrow(np.asarray(pixels, np.uint16))
    return np.asarray(pixels, np.uint8)


def _to_rgb(image: Image.Image) -> tuple[Pixels, tuple[str, ...]]:
    """8-bit RGB or gray pixels of any Pillow mode, and what had to be done for it."""
    mode = image.mode
    if mode in ("RGB", "L"):
        if "transparency" not in image.info:
            return pillow_pixels(image, len(mode)), ()
        return pillow_pixels(image, 3, _over_white), ("alpha-over-white",)
    if mode == "1":
        return pillow_pixels(image, 1, _as_gray), ("1-bit",)
    if mode == "CMYK":
        return _from_cmyk(image)
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or (mode == "P" and "transparency" in image.info):
        named = ("palette",) if mode in ("P", "PA") else ()
        done = "alpha-opaque" if _is_opaque(image) else "alpha-over-white"
        return pillow_pixels(image, 3, _over_white), (*named, done)
    if mode == "P":
        return pillow_pixels(image, 3, _as_rgb), ("palette",)
    if mode in ("I;16", "I;16B", "I;16L", "I"):
        wide = pillow_array(image)
        if int(wide.min()) < 0 or int(wide.max()) > 65535:
            raise CodecError("it cannot be decoded (gray values outside 0…65535)")
        return codecs.narrow(wide), ("16-bit",)
    if mode in ("YCbCr", "LAB", "HSV"):
        return pillow_pixels(image, 3, _as_rgb), (mode.lower(),)
    raise CodecError(f"it cannot be decoded (pixel mode {mode!r} has no 8-bit form)")


def _as_gray(image: Image.Image) -> Image.Image:
    return image.convert("L")


def _as_rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def _is_opaque(image: Image.Image) -> bool:
    if image.mode in ("RGBA", "LA", "PA"):
        return image.getchannel("A").getextrema() == (255, 255)
    width, height = image.im.size
    return all(
        image.crop((0, rows.start, width, rows.stop)).convert("RGBA").getchannel("A").getextrema()
        == (255, 255)
        for rows in codecs.strips(height, width)
    )


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


def _from_cmyk(image: Image.Image) -> tuple[Pixels, tuple[str, ...]]:
    """CMYK as RGB: through its colour profile to sRGB if it has one, else by the plain formula."""
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes):
        try:
            to_srgb = ImageCms.buildTransform(
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                "CMYK",
                "RGB",
            )
            pixels = pillow_pixels(image, 3, lambda strip: _transformed(strip, to_srgb))
            return pixels, ("cmyk", "icc-to-srgb")
        except (ImageCms.PyCMSError, *codecs.PILLOW_ERRORS):
            pass  # a profile that cannot be used is as good as none
    return pillow_pixels(image, 3, _as_rgb), ("cmyk",)


def _transformed(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # None only for inPlace
    return converted
