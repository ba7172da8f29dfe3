"""How long a whole proof takes: `python -m benchmarks.overlap --speed [--coco]`.

HQSeg-44K is not at hand, so its parts are timed and extrapolated, each in as many processes as a
real run has:

- features: photographs scaled to the sizes of the six sources, decoded and described;
- the search: an index of as many pictures as the four evaluation sets have, and a sample of shards
  that ask it. Their features are drawn from the photographs' and a fifth of the bits is flipped.
  That costs the index what real features cost it, but proposes hardly a pair, so
- what becomes of proposals, geometry and pixels, is timed on real photographs against one another;
- the self-test: copies of pictures of the sizes of the evaluation sets.

What is extrapolated says so. Ends with status 1 if a target is missed, or if twice the evaluation
pictures take more than twice the time.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import faiss
import numpy as np

from benchmarks.overlap import REAL_DATA, CopySearch, Setting, known, photographs, read
from benchmarks.overlap_peers import Pixels
from hqdata.overlap.edits import EDITS
from hqdata.overlap.features import (
    EVALUATION_NUMBER,
    TRAIN_NUMBER,
    LocalFeatures,
    extract_evaluation,
    extract_train,
)
from hqdata.overlap.fingerprints import fingerprint_picture
from hqdata.overlap.geometry import align
from hqdata.overlap.index_files import open_searcher, write_known
from hqdata.overlap.judge import View
from hqdata.overlap.local import LocalIndex
from hqdata.overlap.search import MIN_ALIGNED, Known, Query, Searcher
from hqdata.overlap.tasks import make_query
from hqdata.overlap.verify import DEFAULT_COPIES
from hqdata.shards.check import decode_image

T = TypeVar("T")

TRAIN_SIZES = {(224, 224): 10_000, (400, 300): 26_572, (1000, 800): 4_748, (3000, 2000): 3_000}
"""Width and height in pixels -> pictures of HQSeg-44K of about that size."""

EVALUATION_SIZES = {(400, 300): 280, (1000, 800): 500, (3000, 2000): 757}
"""The same of COIFT, ThinObject5K-TE, and DIS-VD with HRSOD."""

NUM_COCO = 5_000
COCO_SIZE = (640, 480)

SEARCH_MINUTES, SEARCH_MINUTES_COCO, PROOF_MINUTES = 5.0, 15.0, 30.0
"""Targets."""

GROWTH = 2.2
"""What twice the evaluation pictures may cost: twice, and a tenth for noise."""

SHARD, CHUNK, SAMPLED_SHARDS = 384, 96, 10
FLIPPED = 0.2
MORE_REAL = ("coco/val2017", "human_segmentation/Training_Images", "weizmann_horse_db/rgb")
_OF_A_SIZE = 24
_PICTURE = (640, 480)
_GRAIN = 3.0


@dataclass(frozen=True, slots=True)
class Real:
    """What real photographs cost beyond the index, in means a training picture.

    Attributes:
        num_known: pictures that were searched for.
        candidates, judged: pairs that features propose, and those that pixels are looked at for.
        seconds: of one process for all of that, without the search in the index.
    """

    num_known: int
    candidates: float
    judged: float
    seconds: float


def in_processes(work: Callable[[int], T], numbers: Sequence[int], workers: int) -> list[T]:
    """Runs a picklable function in processes that are started beforehand."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        list(pool.map(_ready, range(4 * workers)))
        return list(pool.map(work, numbers))


def _ready(_: int) -> None:
    cv2.setNumThreads(1)
    faiss.omp_set_num_threads(1)
    time.sleep(0.05)


def _jpeg(path: Path, size: tuple[int, int]) -> bytes:
    original = read(path)
    grows = size[0] * size[1] > 1.5 * original.shape[0] * original.shape[1]
    how = cv2.INTER_CUBIC if grows else cv2.INTER_AREA
    pixels = np.asarray(cv2.resize(original, size, interpolation=how), np.uint8)
    if grows:  # an enlarged picture is smoother than a large one, and decoded too fast
        grain = np.random.default_rng(0).normal(0, _GRAIN, pixels.shape)
        pixels = np.clip(pixels + grain, 0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    return data.tobytes()


def _describe(number: int, *, photos: Sequence[Path], size: tuple[int, int]) -> tuple[float, float]:
    """Seconds of one picture as a training picture, and as one of an evaluation set."""
    cv2.setNumThreads(1)
    data = _jpeg(photos[number % len(photos)], size)
    began = time.perf_counter()
    pixels = decode_image(data, "jpg")
    extract_train(pixels).packed(pixels.shape[1], pixels.shape[0])
    trained = time.perf_counter()
    fingerprint_picture("a.jpg", data)
    return trained - began, time.perf_counter() - trained


def describing(photos: Sequence[Path], workers: int) -> dict[tuple[int, int], tuple[float, float]]:
    """Size -> mean seconds of a training picture and of an evaluation picture."""
    means = {}
    for size in sorted({*TRAIN_SIZES, *EVALUATION_SIZES, COCO_SIZE}):
        work = partial(_describe, photos=photos, size=size)
        means[size] = tuple(np.mean(in_processes(work, range(_OF_A_SIZE), workers), axis=0))
    return means


def draw(pool: LocalFeatures, number: int, rng: np.random.Generator) -> LocalFeatures:
    """Features of a picture that does not exist: real ones with a part of their bits flipped."""
    chosen = rng.integers(0, len(pool), number)
    noise = np.packbits(rng.random((number, 256), np.float32) < FLIPPED, axis=1)
    return LocalFeatures(pool.codes[chosen] ^ noise, pool.frames[chosen])


def _hashes(shape: tuple[int, ...], rng: np.random.Generator) -> Pixels:
    return rng.integers(0, 256, shape, np.uint8)


def _drawn_known(pool: LocalFeatures, number: int) -> list[Known]:
    rng = np.random.default_rng(1)
    return [
        Known(
            *_PICTURE,
            _hashes((8, 32), rng),
            _hashes((8, 32), rng),
            draw(pool, EVALUATION_NUMBER, rng),
        )
        for _ in range(number)
    ]


def _search_shard(number: int, *, pool: LocalFeatures, index: Path) -> float:
    """Seconds that a shard of drawn pictures takes, making them and opening the index apart."""
    rng = np.random.default_rng([2, number])
    shard = [
        Query(*_PICTURE, _hashes((2, 32), rng), draw(pool, TRAIN_NUMBER, rng)) for _ in range(SHARD)
    ]
    searcher = open_searcher(index)
    began = time.perf_counter()
    for begin in range(0, SHARD, CHUNK):
        searcher.search(
            shard[begin : begin + CHUNK], view_query=lambda _: None, view_known=lambda _: None
        )
    return time.perf_counter() - began


def searching(
    pool: LocalFeatures, number: int, workers: int, shards: int
) -> tuple[float, float, list[float]]:
    """Seconds to write the index of so many pictures, bytes of its file, seconds of each shard."""
    with tempfile.TemporaryDirectory(prefix="hqdata-bench-") as scratch:
        index = Path(scratch) / "index"
        drawn = _drawn_known(pool, number)
        began = time.perf_counter()
        write_known(drawn, index, threads=workers)
        built = time.perf_counter() - began
        num_bytes = sum(path.stat().st_size for path in index.iterdir())
        del drawn
        work = partial(_search_shard, pool=pool, index=index)
        return built, num_bytes, in_processes(work, range(shards), workers)


def on_real(photos: Sequence[Path], others: Sequence[Path]) -> Real:
    """Photographs as training pictures, searched for among others; a picture meets not itself."""
    cv2.setNumThreads(1)
    faiss.omp_set_num_threads(1)
    pictures = [known(read(path)) for path in others]
    local = LocalIndex([picture.features for picture in pictures])
    searcher = Searcher(pictures, local=local)
    views = [View.of(read(path)) for path in others]
    queries = [make_query(read(path)) for path in photos]
    data = [path.read_bytes() for path in photos]
    skip = np.array([[ours == theirs for theirs in others] for ours in photos])
    candidates = judged = 0
    beside = 0.0
    for number, query in enumerate(queries):
        own = skip[number : number + 1]
        began = time.perf_counter()
        proposed = list(local.search([query.features], skip=own))
        indexed = time.perf_counter() - began
        pairs = set()
        for one in proposed:
            found = align(
                local.frames_of(one),
                query.features.frames[one.train_features],
                is_mirrored=one.is_mirrored,
                diagonal=float(np.hypot(query.width, query.height)),
            )
            if found is not None and found.places >= MIN_ALIGNED:
                pairs.add(one.evaluation)
        candidates += len(proposed)
        judged += len(pairs)
        began = time.perf_counter()
        searcher.search(
            [query],
            view_query=partial(_view, data[number], photos[number]),
            view_known=lambda n: views[n],
            skip=own,
        )
        beside += max(0.0, time.perf_counter() - began - indexed)
    count = len(photos)
    return Real(len(others), candidates / count, judged / count, beside / count)


def _view(data: bytes, path: Path, _: int) -> View:
    is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    return View.of(decode_image(data, "jpg") if is_jpeg else read(path))


def _copy(number: int, *, photos: tuple[Path, ...], index: Path) -> float:
    """Seconds that making a copy and searching for it take."""
    search = _copy_search(photos, index)
    photo, edit = number % len(photos), EDITS[number % len(EDITS)]
    search.photo(photo)
    began = time.perf_counter()
    search.run(edit, photo)
    return time.perf_counter() - began


_searches: dict[Path, CopySearch] = {}


def _copy_search(photos: tuple[Path, ...], index: Path) -> CopySearch:
    if index not in _searches:
        _searches[index] = CopySearch(Setting(photos, index, with_peers=False))
    return _searches[index]


def planting(photos: Sequence[Path], workers: int) -> float:
    """Mean seconds of a planted copy, of pictures of the sizes of the evaluation sets."""
    seconds = 0.0
    total = sum(EVALUATION_SIZES.values())
    with tempfile.TemporaryDirectory(prefix="hqdata-bench-") as scratch:
        for size, number in EVALUATION_SIZES.items():
            folder = Path(scratch) / f"{size[0]}"
            folder.mkdir()
            chosen = photos[:: max(1, len(photos) // 5)][:5]
            for place, path in enumerate(chosen):
                (folder / f"{place}.jpg").write_bytes(_jpeg(path, size))
            files = photographs(folder)
            write_known([known(read(path)) for path in files], folder / "index", threads=workers)
            work = partial(_copy, photos=files, index=folder / "index")
            times = in_processes(work, range(len(EDITS)), workers)
            seconds += float(np.mean(times)) * number / total
    return seconds


def measure_speed(photos: Sequence[Path], *, workers: int, coco: bool) -> int:
    """Prints what a proof takes, part by part; returns the exit status."""
    num_train, num_evaluation = sum(TRAIN_SIZES.values()), sum(EVALUATION_SIZES.values())
    print(f"a proof of {num_train:,} training pictures; E: extrapolated", flush=True)
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"the machine is busy (load {load:.1f}): times will be too long", flush=True)
    means = describing(photos, workers)
    for size, (train, evaluation) in means.items():
        print(
            f"features of {size[0]}x{size[1]}: {1000 * train:.1f} ms a training picture, "
            f"{1000 * evaluation:.1f} ms an evaluation picture, in one of {workers} processes"
        )
    features = sum(n * means[size][0] for size, n in TRAIN_SIZES.items()) / workers
    collected = sum(n * means[size][1] for size, n in EVALUATION_SIZES.items()) / workers
    print(f"features of the training set: {features / 60:.1f} min (E)")
    print(f"fingerprints of the evaluation sets: {collected / 60:.1f} min (E)", flush=True)

    real = [path for name in MORE_REAL for path in _files(REAL_DATA / name)]
    others = [*photos, *real]
    half, whole = on_real(photos, others[::2]), on_real(photos, others)
    for one in (half, whole):
        print(
            f"real photographs against {one.num_known} others: {one.candidates:.2f} candidates and "
            f"{one.judged:.3f} looks at pixels a picture, {1000 * one.seconds:.2f} ms",
            flush=True,
        )
    copies = DEFAULT_COPIES * len(EDITS)
    copy = planting(photos, workers)
    planted = copies * copy / workers
    print(f"self-test: {1000 * copy:.0f} ms a copy, {planted / 60:.1f} min for {copies} (E)")

    pool = _pool(photos)
    bad = False
    base = _seconds_of_search(pool, num_evaluation, whole, workers)
    twice = _seconds_of_search(pool, 2 * num_evaluation, whole, workers)
    growth, each = twice[1] / base[1], twice[0] / base[0]
    bad |= growth > GROWTH
    print(
        f"twice the evaluation pictures: the search takes {growth:.2f} times as long (E), a picture"
        f" in the index {each:.2f} times: {_held(growth <= GROWTH)}"
    )
    total = features + collected + base[1] + planted
    bad |= not _tell("search", base[1], SEARCH_MINUTES)
    bad |= not _tell("whole proof", total, PROOF_MINUTES)
    if coco:
        more = _seconds_of_search(pool, num_evaluation + NUM_COCO, whole, workers)
        bad |= not _tell("search, COCO val2017 too", more[1], SEARCH_MINUTES_COCO)
        extra = NUM_COCO * means[COCO_SIZE][1] / workers
        total = features + collected + extra + more[1] + planted
        bad |= not _tell("whole proof, COCO val2017 too", total, PROOF_MINUTES)
    return int(bad)


def _files(folder: Path) -> tuple[Path, ...]:
    return photographs(folder) if folder.is_dir() else ()


def _pool(photos: Sequence[Path]) -> LocalFeatures:
    found = [extract_evaluation(read(path)) for path in photos[:: max(1, len(photos) // 60)]]
    return LocalFeatures(
        np.concatenate([f.codes for f in found]), np.concatenate([f.frames for f in found])
    )


def _seconds_of_search(
    pool: LocalFeatures, number: int, real: Real, workers: int
) -> tuple[float, float]:
    """Seconds of one process for a picture in the index, and of the whole search."""
    built, num_bytes, shards = searching(pool, number, workers, SAMPLED_SHARDS)
    each = sum(shards) / (SHARD * len(shards))
    # As if twice the pictures brought twice the proposals: more than they do.
    proposals = real.seconds * max(1.0, number / real.num_known)
    num_train = sum(TRAIN_SIZES.values())
    total = built + num_train * (each + proposals) / workers
    print(
        f"{number:,} evaluation pictures: index of {num_bytes / 2**20:,.0f} MiB in {built:.1f} s; "
        f"{len(shards)} shards of {SHARD} in {sum(shards) / workers:.1f} s with {workers} "
        f"processes, {1000 * each:.2f} ms a picture; proposals {1000 * proposals:.2f} ms a picture "
        f"(E); {num_train:,} pictures {total / 60:.1f} min (E)",
        flush=True,
    )
    return each, total


def _tell(what: str, seconds: float, minutes: float) -> bool:
    held = seconds <= 60 * minutes
    print(f"{what}: {seconds / 60:.1f} min (E), target {minutes:.0f}: {_held(held)}", flush=True)
    return held


def _held(held: bool) -> str:
    return "held" if held else "MISSED"
