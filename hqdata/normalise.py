"""Bytes in, a valid sample out, or one named problem."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from hqdata import codecs
from hqdata.codecs import CodecError, DamagedError, TooLargeError, TruncatedError
from hqdata.masks import AmbiguousMaskError, Mask, MaskFigures, measure, read_mask
from hqdata.pictures import Picture, make_picture
from hqdata.problems import ProblemKind
from hqdata.sample import SCHEMA_VERSION, Record, Sample
from hqdata.storage import suffix_of


@dataclass(frozen=True, slots=True)
class Settings:
    """What a recipe says about normalisation.

    Attributes:
        image_field: format of the stored image, see `hqdata.pictures.make_picture`.
        max_pixels: largest width x height that is decoded.
    """

    image_field: Literal["jpg", "png"] = "jpg"
    max_pixels: int = 120_000_000


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a pair comes from: what its record repeats.

    Attributes:
        key, source, split, licence: see `hqdata.sample.Record`.
        upstream_image, upstream_mask: paths in the upstream release; their suffixes tell the format
            expected.
        mask_values: how the mask's levels are to be read.
        action: what a known defect asks for: "", `resize_mask`, `accept` or `keep`.
    """

    key: str
    source: str
    split: str
    licence: str
    upstream_image: str
    upstream_mask: str
    mask_values: Literal["auto", "object_ids"] = "auto"
    action: str = ""


class ProblemError(Exception):
    """A pair that cannot become a sample.

    Args:
        kind: of the problem.
        message: what to tell about it.
        passing: it may be none another time, see `hqdata.storage.DamagedFileError`.
    """

    def __init__(self, kind: ProblemKind, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.passing = passing


def normalise(image: bytes, mask: bytes | Mask, origin: Origin, settings: Settings) -> Sample:
    """Makes the sample of one pair.

    Args:
        image: the image file's bytes.
        mask: the mask file's bytes; or the mask itself, where none lies in a file of its own.
        origin: where they come from.
        settings: what the recipe says.

    Raises:
        ProblemError: the pair cannot be one; everything else about the build is unaffected.
    """
    picture = _picture(image, origin, settings)
    decoded, figures = _mask(mask, origin, settings, (picture.width, picture.height))
    ext = settings.image_field
    record = Record.model_construct(
        schema_version=SCHEMA_VERSION,
        key=origin.key,
        source=origin.source,
        split=origin.split,
        upstream_image=origin.upstream_image,
        upstream_mask=origin.upstream_mask,
        licence=origin.licence,
        width=picture.width,
        height=picture.height,
        image_changes=picture.changes,
        image_psnr_db=picture.psnr_db,
        mask_changes=decoded.changes,
        image_sha256=hashlib.sha256(picture.data).hexdigest(),
        mask_sha256=hashlib.sha256(decoded.data).hexdigest(),
        pixel_sha256=picture.pixel_sha256,
        mask_area_fraction=round(figures.area_fraction, 8),
        mask_soft_fraction=round(figures.soft_fraction, 8),
        mask_components=figures.num_components,
        mask_thinness=round(figures.thinness, 4),
        box=figures.box,
    )
    return Sample(origin.key, picture.data, ext, decoded.data, record, picture.hashes)


def _picture(data: bytes, origin: Origin, settings: Settings) -> Picture:
    _check_label(data, origin.upstream_image, origin.action)
    try:
        return make_picture(
            data,
            max_pixels=settings.max_pixels,
            image_field=settings.image_field,
            accept_damage=origin.action == "accept",
        )
    except TooLargeError as error:
        raise ProblemError(ProblemKind.TOO_LARGE, f"the image: {error}") from error
    except TruncatedError as error:
        raise ProblemError(ProblemKind.TRUNCATED_IMAGE, f"{error}; fetch the file again") from error
    except DamagedError as error:
        raise ProblemError(
            ProblemKind.DAMAGED_IMAGE,
            f"{error}; fetch the file again, or take it as it decodes (defect with action: accept)",
        ) from error
    except CodecError as error:
        raise ProblemError(ProblemKind.UNREADABLE_IMAGE, str(error)) from error
    except MemoryError:
        raise
    except Exception as error:
        raise ProblemError(ProblemKind.UNREADABLE_IMAGE, _unexpected(error)) from error


def _mask(
    given: bytes | Mask, origin: Origin, settings: Settings, size: tuple[int, int]
) -> tuple[Mask, MaskFigures]:
    mask = given if isinstance(given, Mask) else _read_mask(given, origin, settings, size)
    height, width = mask.values.shape
    if (width, height) != size:
        turned = (
            " (turned by a quarter: is one of them EXIF-rotated?)"
            if (height, width) == size
            else ""
        )
        raise ProblemError(
            ProblemKind.SIZE_MISMATCH,
            f"the upright image has {size[0]}x{size[1]} pixels, the mask {width}x{height}{turned}",
        )
    figures = measure(mask.values)
    if figures is None:
        peak = int(mask.values.max(initial=0))
        raise ProblemError(
            ProblemKind.EMPTY_MASK, f"no pixel is object: the highest of its levels is {peak}"
        )
    return mask, figures


def _read_mask(data: bytes, origin: Origin, settings: Settings, size: tuple[int, int]) -> Mask:
    _check_label(data, origin.upstream_mask, origin.action)
    try:
        return read_mask(
            data,
            max_pixels=settings.max_pixels,
            mask_values=origin.mask_values,
            accept=origin.action == "accept",
            size=size if origin.action == "resize_mask" else None,
        )
    except TooLargeError as error:
        raise ProblemError(ProblemKind.TOO_LARGE, f"the mask: {error}") from error
    except CodecError as error:
        raise ProblemError(ProblemKind.UNREADABLE_MASK, str(error)) from error
    except AmbiguousMaskError as error:
        raise ProblemError(ProblemKind.AMBIGUOUS_MASK, str(error)) from error
    except MemoryError:
        raise
    except Exception as error:
        raise ProblemError(ProblemKind.UNREADABLE_MASK, _unexpected(error)) from error


def _unexpected(error: Exception) -> str:
    """Words for what no decoder should raise.

    Five decoding libraries meet bytes that anybody may have written. Whatever class of error one of
    them comes up with, it is that file's problem and must not end a build of thousands.
    """
    return f"it cannot be decoded ({type(error).__name__}: {error})"


def _check_label(data: bytes, path: str, action: str) -> None:
    expected = codecs.FORMAT_OF_SUFFIX.get(suffix_of(path))
    actual = codecs.sniff(data)
    if actual is not None and expected is not None and actual != expected and action != "accept":
        raise ProblemError(
            ProblemKind.MISLABELLED_FILE,
            f"{path.rsplit('/', 1)[-1]} holds {actual.upper()} data; rename it, or take it as it "
            "is (defect with action: accept)",
        )
