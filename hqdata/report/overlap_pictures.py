"""The pictures of the overlap page: each one small, embedded once, all of them within a budget."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hqdata import codecs
from hqdata.codecs import CodecError
from hqdata.orientation import exif_orientation, turn_upright
from hqdata.overlap.report import OverlapReport, Pair, Size
from hqdata.pictures import make_picture
from hqdata.shards.check import decode_image

LONG_SIDE = 320
"""Pixels of a picture's longer side, at most."""

WITHIN = "within"
"""The name that reports give the training set where it stands in for an evaluation set."""

_MAX_PIXELS = 120_000_000

_LADDER = (
    (LONG_SIDE, 82),
    (LONG_SIDE, 68),
    (LONG_SIDE, 50),
    (240, 55),
    (200, 50),
    (160, 50),
    (128, 45),
    (96, 40),
)
"""(long side in pixels, WebP quality), tried until a picture fits its share of the budget."""

PictureId = tuple[str, str]
"""(evaluation set, name); the set of a training picture is ""."""


class Pictures(Protocol):
    """Where the page gets pictures from: encoded bytes, or None if there are none to be had."""

    def train(self, key: str) -> bytes | None:
        """The stored image of a training sample."""

    def evaluation(self, set: str, name: str) -> bytes | None:
        """A picture of an evaluation set; None for sets known by fingerprints only."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture as the page has it.

    Attributes:
        number: its place in the page's table of pictures, None if it is not there.
        missing: why not, "" if it is.
        size: width and height of the decoded upright picture, None if it was not decoded.
    """

    number: int | None
    missing: str
    size: Size | None


def id_of_train(pair: Pair) -> PictureId:
    """The training picture of a pair."""
    return "", pair.train


def id_of_other(pair: Pair) -> PictureId:
    """The other picture of a pair, which may be a training picture too."""
    other = pair.evaluation
    return ("" if other.set == WITHIN else other.set), other.name


class Album:
    """Small pictures, asked for one after the other, each made once.

    Every picture may take an equal share of what the earlier ones left of the budget. Where even
    the smallest forms do not fit, the last pictures are left out.

    Args:
        report: the report.
        pairs: those of its pairs whose pictures will be asked for.
        pictures: where they are to be had.
        budget: characters all of them may take.

    Attributes:
        table: WebP files in base64, in the order in which they were first asked for.
    """

    def __init__(
        self,
        report: OverlapReport,
        pairs: Iterable[Pair],
        pictures: Pictures,
        budget: int,
    ) -> None:
        self.table: list[str] = []
        self._pictures = pictures
        self._fingerprints = {e.set for e in report.evaluation if e.how == "fingerprints"}
        self._num_left = len({i for pair in pairs for i in (id_of_train(pair), id_of_other(pair))})
        self._budget = budget
        self._rung = 0
        self._shots: dict[PictureId, Shot] = {}

    def get(self, picture: PictureId) -> Shot:
        """A picture, made when it is asked for the first time."""
        if picture not in self._shots:
            self._shots[picture] = self._make(*picture)
            self._num_left -= 1
        return self._shots[picture]

    def _make(self, evaluation_set: str, name: str) -> Shot:
        if self._budget < 1_000:
            return Shot(None, "left out to keep this page small", None)
        data = (
            self._pictures.evaluation(evaluation_set, name)
            if evaluation_set
            else self._pictures.train(name)
        )
        if data is None:
            known = evaluation_set in self._fingerprints
            return Shot(None, "known by its fingerprint only" if known else "", None)
        try:
            pixels = decode_upright(data)
        except CodecError:
            return Shot(None, "its bytes do not decode", None)
        size = (pixels.shape[1], pixels.shape[0])
        encoded = self._shrink(pixels, self._budget // max(1, self._num_left))
        if len(encoded) > self._budget:
            return Shot(None, "left out to keep this page small", size)
        self._budget -= len(encoded)
        self.table.append(encoded)
        return Shot(len(self.table) - 1, "", size)

    def _shrink(self, pixels: NDArray[np.uint8], allowance: int) -> str:
        # Pictures of one set need about the same rung: no use in trying all above it each time.
        for rung in range(max(0, self._rung - 1), len(_LADDER)):
            encoded = _encode(pixels, *_LADDER[rung])
            if len(encoded) <= allowance:
                break
        self._rung = rung
        return encoded


def decode_upright(data: bytes) -> NDArray[np.uint8]:
    """Pixels of any picture file, uint8 (height, width[, 3]), upright; damage is concealed.

    Raises:
        CodecError: there is nothing to decode.
    """
    if codecs.sniff(data) == "jpeg":
        width, height, space = codecs.jpeg_header(data)
        codecs.check_pixels((width, height), _MAX_PIXELS)
        if space in ("Gray", "YCbCr", "RGB"):
            pixels = codecs.decode_jpeg(data, gray=space == "Gray", strict=False)
            return turn_upright(pixels, exif_orientation(data))
    picture = make_picture(data, max_pixels=_MAX_PIXELS, accept_damage=True)
    return decode_image(picture.data, "jpg")


def _encode(pixels: NDArray[np.uint8], long_side: int, quality: int) -> str:
    height, width = pixels.shape[:2]
    scale = min(1.0, long_side / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    buffer = io.BytesIO()
    Image.fromarray(small).save(buffer, "WEBP", quality=quality, method=4)
    return base64.b64encode(buffer.getvalue()).decode()
