"""Write the stand-in: every picture once, in parallel, resumable, the same bytes every time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hqdata.errors import CancelledError, InterruptedBuildError, UserError
from hqdata.files import sync_folder
from hqdata.mini.layout import (
    GENERATOR,
    Picture,
    Split,
    chosen,
    lists,
    number,
    parse_scale,
    pictures,
)
from hqdata.mini.mark import COMMENT, marked
from hqdata.mini.scenes import render
from hqdata.parallel import run_tasks

MARKER, PARTIAL = "mini.json", "mini.partial.json"
JPEG_QUALITY, PNG_COMPRESSION = 92, 3
CHUNK_PIXELS, CHUNK_PICTURES = 24_000_000, 64
JPEG_END = b"\xff\xd9"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


@dataclass(frozen=True)
class MiniReport:
    """What a stand-in holds: pictures by (set, split), and the bytes of all images and masks."""

    out: Path
    counts: dict[tuple[str, str], int]
    num_bytes: int

    @property
    def num_pictures(self) -> int:
        """Pictures in all."""
        return sum(self.counts.values())


def make_mini(
    out: Path,
    *,
    scale: str | float = "small",
    seed: int = 0,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
    sets: Collection[str] | None = None,
) -> MiniReport:
    """Make a procedural stand-in of the source and evaluation sets under ``out``.

    A run that was cut short is continued by calling again with the same arguments; the result is
    the same, byte for byte, as of one run, whatever ``workers`` is. (Bytes may differ between
    versions of OpenCV and numpy.) More than one worker means processes started by "spawn": a
    script that calls this needs the usual ``if __name__ == "__main__":``.

    Args:
        out: folder to fill; new, empty, or begun by a call with the same arguments.
        scale: "small", "full", or the part of the full counts as a number in (0, 1].
        seed: changes every picture, but no name, size of set or layout.
        workers: processes; 1 works within this one.
        progress: called here with (pictures done, pictures in all).
        sets: short names to restrict to (``layout.SETS``); all if None.

    Raises:
        UserError: ``out`` holds something else, or cannot be written.
        InterruptedBuildError: a worker was killed.
        CancelledError: Ctrl-C.
    """
    size, splits = parse_scale(scale), chosen(sets)
    if workers < 1:
        raise UserError(f"{workers} workers cannot work", expected="at least 1")
    plan: list[tuple[Split, list[Picture]]] = [(s, pictures(s, size, seed)) for s in splits]
    counts = {(split.set, split.split): len(made) for split, made in plan}
    marker: dict[str, Any] = {
        "format": "hqdata-mini",
        "generator": GENERATOR,
        "comment": COMMENT.decode(),
        "scale": size.name,
        "seed": seed,
        "counts": {f"{name}/{split}": count for (name, split), count in counts.items()},
    }
    try:
        _claim(out, marker)
        _folders(out, plan)
        todo = [picture for _, made in plan for picture in made]
        num_bytes = _make_all(out, todo, workers, progress)
        for split, made in plan:
            for path, text in lists(split, made).items():
                _replace_durably(out / path, text.encode())
        _replace_durably(out / MARKER, _dump(marker))
        (out / PARTIAL).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"the stand-in could not be written: {error.strerror or error}",
            where=error.filename or out,
            do="make room or choose another folder; the same command goes on where this one ended",
        ) from error
    except InterruptedBuildError as error:
        raise InterruptedBuildError(
            "a worker process was ended from outside, most likely for want of memory",
            where=out,
            do="run the same command again with fewer workers; it goes on where this one ended",
        ) from error
    except KeyboardInterrupt:
        raise CancelledError(
            "stopped",
            where=out,
            do="run the same command again to go on: finished pictures are kept",
        ) from None
    return MiniReport(out, counts, num_bytes)


def _dump(marker: dict[str, Any]) -> bytes:
    return (json.dumps(marker, indent=2) + "\n").encode()


def _load(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return "damaged"


def _claim(out: Path, marker: dict[str, Any]) -> None:
    """Make sure that ``out`` is ours to fill with exactly this, and mark it as being filled."""
    out.mkdir(parents=True, exist_ok=True)
    before = _load(out / PARTIAL) or _load(out / MARKER)
    if before is None:
        if any(child.name != PARTIAL + ".part" for child in out.iterdir()):
            raise UserError(
                "the folder is not empty and does not hold a stand-in",
                where=out,
                expected="a new or empty folder",
                do="choose another folder; nothing in this one was touched",
            )
    elif before != marker:
        raise UserError(
            "the folder holds a stand-in made with other arguments, or by another version",
            where=out,
            expected=f"the arguments of {MARKER} or {PARTIAL} in it",
            do="choose another folder, or remove this one first",
        )
    _replace_durably(out / PARTIAL, _dump(marker))
    (out / MARKER).unlink(missing_ok=True)


def _folders(out: Path, plan: list[tuple[Split, list[Picture]]]) -> None:
    paths = {p for _, made in plan for picture in made for p in (picture.image, picture.mask)}
    paths |= {path for split, made in plan for path in lists(split, made)}
    for folder in sorted({path.rsplit("/", 1)[0] for path in paths}):
        (out / folder).mkdir(parents=True, exist_ok=True)


def _replace(path: Path, data: bytes) -> None:
    # The temporary name is fixed, so that a killed run leaves nothing its continuation won't use.
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)


def _replace_durably(path: Path, data: bytes) -> None:
    """For the few files that are not looked at again before they are believed."""
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    sync_folder(path.parent)


def _num_bytes_if_whole(path: Path, end: bytes) -> int | None:
    """The size of a file that is there and ends as its format does.

    Flushing each of tens of thousands of files to the disk would take longer than drawing them;
    so after a crash of the machine a file may have its name but not all of its content.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - len(end)))
            return size if file.read() == end else None
    except FileNotFoundError:
        return None


def _encode(suffix: str, image: np.ndarray[Any, Any], options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, image, options)
    if not done:
        raise RuntimeError(f"OpenCV could not encode a {suffix} of shape {image.shape}")
    return data.tobytes()


def _make(out: Path, picture: Picture) -> int:
    """Write one picture unless it is there in full; returns the bytes of image and mask."""
    image, mask = out / picture.image, out / picture.mask
    there = _num_bytes_if_whole(image, JPEG_END), _num_bytes_if_whole(mask, PNG_END)
    if there[0] is not None and there[1] is not None:
        return there[0] + there[1]
    rng = np.random.default_rng(number(picture.key))
    kin = None if picture.kin is None else np.random.default_rng(number(picture.kin))
    scene = render(picture.look, rng, picture.width, picture.height, family=picture.family, kin=kin)
    colour = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        JPEG_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    photo = marked(_encode(".jpg", colour, options))
    truth = scene.mask if scene.ids is None else scene.ids
    matte = _encode(".png", truth, [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])
    _replace(image, photo)
    _replace(mask, matte)
    return len(photo) + len(matte)


def _make_chunk(
    chunk: list[Picture],
    *,
    out: Path,
    tick: Callable[[int], None],
    should_stop: Callable[[], bool],
) -> int:
    """Make the pictures of a chunk; returns their bytes, which nobody wants of a stopped one."""
    num_bytes = 0
    for picture in chunk:
        if should_stop():
            break
        num_bytes += _make(out, picture)
        tick(1)
    return num_bytes


def _chunks(todo: list[Picture]) -> Iterator[list[Picture]]:
    chunk: list[Picture] = []
    pixels = 0
    for picture in todo:
        chunk.append(picture)
        pixels += picture.width * picture.height
        if pixels >= CHUNK_PIXELS or len(chunk) >= CHUNK_PICTURES:
            yield chunk
            chunk, pixels = [], 0
    if chunk:
        yield chunk


class _Calling:
    """A reporter that calls back."""

    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self._progress, self._total = progress, total

    def start(self, what: str, total: int, unit: str) -> None:
        """Does nothing: the callback learns the total with every call."""

    def update(self, done: int) -> None:
        """Passes on the number of finished pictures."""
        if self._progress is not None:
            self._progress(done, self._total)

    def finish(self) -> None:
        """Does nothing: the callback knows by the numbers."""


def _make_all(
    out: Path, todo: list[Picture], workers: int, progress: Callable[[int, int], None] | None
) -> int:
    """Make the pictures; returns the bytes of all images and masks."""
    # One picture a process is the parallelism here; OpenCV's own threads would only contend.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        work, reporter = partial(_make_chunk, out=out), _Calling(progress, len(todo))
        return sum(run_tasks(work, _chunks(todo), workers=workers, reporter=reporter, out=out))
    finally:
        cv2.setNumThreads(threads)
