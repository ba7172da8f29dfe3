"""The pictures themselves, when a pair has to be looked at."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from numpy import uint8
from numpy.typing import NDArray

from hqdata import codecs
from hqdata.errors import DatasetError
from hqdata.files import sha256_of
from hqdata.orientation import exif_orientation
from hqdata.overlap.fingerprints import MAX_PIXELS
from hqdata.overlap.judge import View
from hqdata.pictures import make_picture
from hqdata.shards.check import decode_image
from hqdata.shards.dataset import Dataset
from hqdata.storage import DamagedFileError, FileReader, FileRef

KEPT = 512
"""Views of evaluation pictures that a process keeps; each takes a quarter of a megabyte at most."""


@dataclass(frozen=True, slots=True)
class EvaluationFile:
    """Where an evaluation picture lies, and the digest that it had when it was fingerprinted."""

    set: str
    name: str
    ref: FileRef
    sha256: str


class ChangedError(DatasetError):
    """A picture is not what it was when it was fingerprinted."""


class EvaluationViews:
    """Views of evaluation pictures, the last ones kept."""

    def __init__(self, files: tuple[EvaluationFile | None, ...]) -> None:
        self._files = files
        self._reader = FileReader()
        self._kept: OrderedDict[int, View] = OrderedDict()

    def __call__(self, number: int) -> View | None:
        """The view of a picture, None where only its fingerprint is to be had."""
        file = self._files[number]
        if file is None:
            return None
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        view = View.of(upright_pixels(read_evaluation(file, self._reader)))
        self._kept[number] = view
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return view

    def close(self) -> None:
        """Closes the files that are open."""
        self._reader.__exit__(None, None, None)


def read_evaluation(file: EvaluationFile, reader: FileReader) -> bytes:
    """The bytes of an evaluation picture.

    Raises:
        ChangedError: it is gone, or has changed since it was fingerprinted.
    """
    try:
        data = reader.read(file.ref)
    except DamagedFileError as error:
        raise _changed(file, f"the file {error}") from error
    if sha256_of(data) != file.sha256:
        raise _changed(file, "the file has changed since its fingerprint was taken")
    return data


def _changed(file: EvaluationFile, what: str) -> ChangedError:
    return ChangedError(
        f"{file.set} {file.name}: {what}",
        where=file.ref.container,
        do="leave the evaluation sets alone while they are searched; run the command again",
    )


def upright_pixels(data: bytes, *, gray: bool = True) -> NDArray[uint8]:
    """Pixels of a picture file of any format, upright: uint8 (h, w), or (h, w, 3) RGB.

    Raises:
        CodecError: it cannot be decoded.
    """
    if codecs.sniff(data) == "jpeg" and exif_orientation(data) == 1:
        _, _, space = codecs.jpeg_header(data)
        if space in ("Gray", "YCbCr", "RGB"):
            return codecs.decode_jpeg(data, gray=gray)
    picture = make_picture(data, max_pixels=MAX_PIXELS)
    return codecs.decode_jpeg(picture.data, gray=gray)


def train_pixels(dataset: Dataset, row: int) -> NDArray[uint8]:
    """Pixels of a training picture, uint8 (h, w) gray or (h, w, 3) RGB.

    Raises:
        DatasetError: its shard is missing or damaged.
    """
    values = dataset.row(row)
    data = dataset.read_member(values, "image")
    if sha256_of(data) != values["image_sha256"]:
        raise DatasetError(
            f"the image of {values['key']!r} is not the one of the manifest",
            where=Path(dataset.root) / values["shard"],
            do=f"see what else is damaged: hqdata check {dataset.root}",
        )
    return decode_image(data, values["image_ext"])
