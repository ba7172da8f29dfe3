"""A picture's json in SA-1B: checked, bounded, and which of its masks are chosen."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pydantic_core
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hqdata import rle
from hqdata.rle import RleError
from hqdata.sampling import Choice, mask_hash

MAX_NOTES_BYTES = 16 * 2**20
"""Largest json that is read; upstream's have some hundred kilobytes."""

MAX_ANNOTATIONS = 100_000
"""Upstream's have some hundred masks."""

Id = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
Side = Annotated[int, Field(ge=1, lt=2**31, strict=True)]
Score = Annotated[float, Field(allow_inf_nan=False, strict=True)]


class NotesError(Exception):
    """The json, or a mask in it, cannot be used.

    Args:
        kind: `unreadable_mask`, or `filtered` where only the choice's filters say so.
        message: what is wrong.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Segmentation(_Model):
    """A mask: `size` is height and width, `counts` COCO's compressed run lengths."""

    size: tuple[Side, Side]
    counts: Annotated[str, Field(strict=True, min_length=1)]


class Annotation(_Model):
    """A mask of a picture, with what upstream's model said of it."""

    id: Id
    segmentation: Segmentation
    predicted_iou: Score
    stability_score: Score

    def runs(self) -> NDArray[np.int64]:
        """Its checked run lengths, see `hqdata.rle`. Raises RleError."""
        return rle.run_lengths(self.segmentation.counts, *self.segmentation.size)

    def mask(self) -> NDArray[np.uint8]:
        """The mask, uint8 (height, width), 0 and 255. Raises RleError."""
        return rle.draw(self.runs(), *self.segmentation.size)


class Image(_Model):
    """The picture that a json belongs to."""

    image_id: Id
    width: Side
    height: Side


@dataclass(frozen=True, slots=True)
class Notes:
    """The json of a picture.

    Attributes:
        image: its picture.
        annotations: of each id that is there once, its annotation as it stands in the json; only
            `annotation` checks it.
    """

    image: Image
    annotations: dict[int, Any]

    def annotation(self, annotation_id: int) -> Annotation:
        """The annotation of a number, of the picture's size.

        Raises:
            NotesError: there is none, or it is not as it should be.
        """
        try:
            found = Annotation.model_validate(self.annotations[annotation_id])
        except KeyError:
            raise NotesError(
                "unreadable_mask", f"the json has no annotation {annotation_id}, or several"
            ) from None
        except ValidationError as error:
            raise NotesError(
                "unreadable_mask", f"annotation {annotation_id}: {_told(error)}"
            ) from None
        height, width = found.segmentation.size
        if (height, width) != (self.image.height, self.image.width):
            raise NotesError(
                "unreadable_mask",
                f"annotation {annotation_id}: its mask has {width}x{height} pixels, the picture "
                f"{self.image.width}x{self.image.height}",
            )
        return found


class _Whole(_Model):
    image: Image
    annotations: Annotated[list[Any], Field(max_length=MAX_ANNOTATIONS)]


def read_notes(data: bytes, image_id: int) -> Notes:
    """The json of a picture.

    Args:
        data: its bytes.
        image_id: the picture's number, by the file's name.

    Raises:
        NotesError: it is no such json, or another picture's.
    """
    if len(data) > MAX_NOTES_BYTES:
        raise NotesError(
            "unreadable_mask",
            f"the json has {len(data):,} bytes; the limit is {MAX_NOTES_BYTES:,}",
        )
    try:
        value = pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise NotesError("unreadable_mask", f"it is no json: {error}") from None
    try:
        whole = _Whole.model_validate(value)
    except ValidationError as error:
        raise NotesError("unreadable_mask", f"the json is not SA-1B's: {_told(error)}") from None
    if whole.image.image_id != image_id:
        raise NotesError(
            "unreadable_mask", f"the json is that of picture {whole.image.image_id}, not {image_id}"
        )
    ids = [_id_of(annotation) for annotation in whole.annotations]
    number = Counter(ids)
    return Notes(
        whole.image,
        {
            found: annotation
            for found, annotation in zip(ids, whole.annotations, strict=True)
            if found is not None and number[found] == 1
        },
    )


def choose_masks(notes: Notes, choice: Choice) -> tuple[int, ...]:
    """The ids of the chosen annotations, by hash.

    Taken are the first by hash whose run lengths are well-formed, which have a pixel, and which
    pass the filters; their number of pixels is counted, not believed.

    Raises:
        NotesError: there is none.
    """
    image_id = notes.image.image_id
    num_pixels = notes.image.width * notes.image.height
    order = sorted(notes.annotations, key=lambda i: (mask_hash(choice.seed, image_id, i), i))
    chosen: list[int] = []
    filtered = 0
    reasons: list[str] = []
    for annotation_id in order:
        try:
            annotation = notes.annotation(annotation_id)
            pixels = rle.area(annotation.runs())
        except NotesError as error:
            reasons.append(error.message)
            continue
        except RleError as error:
            reasons.append(f"annotation {annotation_id}: run lengths: {error}")
            continue
        if pixels == 0:
            reasons.append(f"annotation {annotation_id}: the mask is empty")
        elif _passes(annotation, pixels / num_pixels, choice):
            chosen.append(annotation_id)
            if len(chosen) == choice.masks:
                break
        else:
            filtered += 1
    if chosen:
        return tuple(chosen)
    if filtered:
        raise NotesError("filtered", f"none of its {filtered:,} masks passes the filters")
    first = f", e.g. {reasons[0]}" if reasons else ""
    raise NotesError("unreadable_mask", f"the json has no well-formed mask{first}")


def _passes(annotation: Annotation, area_fraction: float, choice: Choice) -> bool:
    return (
        annotation.predicted_iou >= choice.min_predicted_iou
        and annotation.stability_score >= choice.min_stability_score
        and choice.min_area_fraction <= area_fraction <= choice.max_area_fraction
    )


def _id_of(annotation: Any) -> int | None:
    """Its number; None if it has none that can be used."""
    found = annotation.get("id") if isinstance(annotation, dict) else None
    if not isinstance(found, int) or isinstance(found, bool):
        return None
    return found if 0 <= found < 2**63 else None


def _told(error: ValidationError) -> str:
    """The first of what is wrong, in a line, without the value."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"])
