"""The search as independent tasks: one for each shard, and one for each handful of planted copies.

What a task finds is kept by the digests of all that went into it, so a run that was stopped, or one
that is made again, goes on from there.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hqdata.errors import DatasetError, InterruptedBuildError
from hqdata.files import no_room, sha256_of, write_whole
from hqdata.fingerprint import global_hash
from hqdata.overlap.edits import EDITS, Given
from hqdata.overlap.features import extract_train
from hqdata.overlap.index_files import open_searcher
from hqdata.overlap.judge import Judgement, View
from hqdata.overlap.search import Finding, Query
from hqdata.overlap.training import TrainPictures, load_features
from hqdata.overlap.views import (
    EvaluationFile,
    EvaluationViews,
    read_evaluation,
    train_pixels,
    upright_pixels,
)
from hqdata.sample import canonical_json
from hqdata.shards.dataset import Dataset
from hqdata.storage import FileReader

RELATED_PLACES = 6
"""Places in which features of unrelated photographs never were seen to agree."""

_CHUNK = 96
"""Training pictures searched at once: the matches of more take more memory than they save time."""


@dataclass(frozen=True, slots=True)
class Context:
    """What every task of a run needs.

    Attributes:
        root: the data set's folder.
        cache: folder of what is kept.
        index: folder of the pictures searched for, see `hqdata.overlap.index_files`.
        files: where each of these pictures lies, None for those known by fingerprint only.
        own: for each of these pictures its row in the data set's table, if it is a training picture
            itself, else -1.
        hidden: whether the pixels of these are kept from the judge: decoys stand in for pictures
            that are known by fingerprint only.
        digest: of the pictures searched for and of everything else a finding depends on.
    """

    root: Path
    cache: Path
    index: Path
    files: tuple[EvaluationFile | None, ...]
    own: tuple[int, ...]
    hidden: tuple[bool, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class ShardTask:
    """Search with the pictures of one shard.

    Attributes:
        pictures: the shard's pictures.
        asked: (number in the shard, number of a picture searched for) to compare in any case.
        within: whether the pictures searched for are training pictures: then each pair is looked at
            once, from the later row.
    """

    pictures: TrainPictures
    asked: tuple[tuple[int, int], ...]
    within: bool

    def key(self, context: Context) -> str:
        """Names everything that the findings depend on."""
        value = [context.digest, self.pictures.digest(), self.asked, self.within]
        return sha256_of(canonical_json(value))


@dataclass(frozen=True, slots=True)
class Planted:
    """A copy to plant: edit number `edit` of a picture, with a foreground of another."""

    edit: int
    known: int
    donor: int


def search_shard(
    task: ShardTask,
    *,
    context: Context,
    tick: Callable[[int], None],
    should_stop: Callable[[], bool],
) -> list[Finding]:
    """What the pictures of a shard share with those searched for; ticks pictures.

    The queries are numbered as in the shard.
    """
    path = context.cache / "found" / f"{task.key(context)}.json"
    kept = _load(path)
    if kept is not None:
        tick(len(task.pictures))
        return kept
    features = load_features(task.pictures, context.cache)
    if features is None:
        raise InterruptedBuildError(
            "features are gone from the cache", where=context.cache, do="run the command again"
        )
    dataset = _dataset(context.root)
    searcher = open_searcher(context.index)
    views = _views(context)
    rows = task.pictures.rows
    asked: dict[int, set[int]] = {}
    for query, known in task.asked:
        asked.setdefault(query, set()).add(known)
    found: list[Finding] = []
    for begin in range(0, len(rows), _CHUNK):
        if should_stop():
            raise InterruptedBuildError("stopped", do="run the same command again to go on")
        part = range(begin, min(begin + _CHUNK, len(rows)))
        queries = [
            Query(*task.pictures.sizes[n], task.pictures.hashes[n], features[n]) for n in part
        ]
        findings = searcher.search(
            queries,
            view_query=partial(_train_view, dataset, [rows[n] for n in part]),
            view_known=views,
            asked={n - begin: asked[n] for n in part if n in asked},
            skip=_skip(context, [rows[n] for n in part]) if task.within else None,
        )
        found += [Finding(f.query + begin, f.known, f.judgement, f.distance) for f in findings]
        tick(len(part))
    _keep(path, found)
    return found


def search_planted(
    task: Sequence[Planted],
    *,
    context: Context,
    tick: Callable[[int], None],
    should_stop: Callable[[], bool],
) -> list[tuple[Planted, list[Finding]]]:
    """Plants copies and searches with them, one after the other; ticks copies."""
    searcher, views = open_searcher(context.index), _views(context)
    results = []
    with FileReader() as reader:
        for planted in task:
            if should_stop():
                raise InterruptedBuildError("stopped", do="run the same command again to go on")
            pixels = make_copy(planted, lambda n: _colour(context, n, reader))
            found = searcher.search(
                [make_query(pixels)],
                view_query=partial(_own_view, pixels),
                view_known=views,
            )
            results.append((planted, found))
            tick(1)
    return results


def search_relatives(
    task: Sequence[int],
    *,
    context: Context,
    tick: Callable[[int], None],
    should_stop: Callable[[], bool],
) -> list[tuple[int, frozenset[int]]]:
    """Which of the pictures searched for have to do with one of them, as they are.

    Generous: pixels need not agree, features in a few places are enough.
    """
    searcher = open_searcher(context.index)
    results = []
    with FileReader() as reader:
        for number in task:
            if should_stop():
                raise InterruptedBuildError("stopped", do="run the same command again to go on")
            if context.files[number] is None and context.own[number] < 0:
                query = searcher.as_query(number)
            else:
                query = make_query(_colour(context, number, reader))
            aligned = searcher.align([query])
            related = {
                known
                for (_, known), alignments in aligned.items()
                if max(alignment.places for alignment in alignments) >= RELATED_PLACES
            }
            results.append((number, frozenset({number, *related})))
            tick(1)
    return results


def _train_view(dataset: Dataset, rows: Sequence[int], number: int) -> View:
    return View.of(train_pixels(dataset, rows[number]))


def _own_view(pixels: NDArray[np.uint8], number: int) -> View:
    return View.of(pixels)


def make_copy(planted: Planted, read: Callable[[int], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The planted copy; `read` gives the pixels of a picture, uint8 (h, w, 3) RGB."""
    picture = read(planted.known)
    edit = EDITS[planted.edit]
    seed = [planted.known, zlib.crc32(edit.name.encode())]
    return edit.apply(Given(picture, read(planted.donor), np.random.default_rng(seed)))


def make_query(pixels: NDArray[np.uint8]) -> Query:
    """What the search knows of a picture that no manifest has."""
    whole = global_hash(pixels)
    hashes = np.frombuffer(whole.pdq + whole.pdq_trimmed, np.uint8).reshape(2, -1)
    return Query(pixels.shape[1], pixels.shape[0], hashes, extract_train(pixels))


def _colour(context: Context, number: int, reader: FileReader) -> NDArray[np.uint8]:
    file = context.files[number]
    if file is not None:
        return upright_pixels(read_evaluation(file, reader), gray=False)
    pixels = train_pixels(_dataset(context.root), context.own[number])
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


@lru_cache(maxsize=1)
def _dataset(root: Path) -> Dataset:
    return Dataset.open(root)


@lru_cache(maxsize=1)
def _evaluation_views(files: tuple[EvaluationFile | None, ...]) -> EvaluationViews:
    return EvaluationViews(files)


def _views(context: Context) -> Callable[[int], View | None]:
    files, own = _evaluation_views(context.files), context.own

    def view(number: int) -> View | None:
        if context.hidden[number]:
            return None
        if own[number] >= 0:
            return View.of(train_pixels(_dataset(context.root), own[number]))
        return files(number)

    return view


def _skip(context: Context, rows: Sequence[int]) -> NDArray[np.bool_]:
    """Of two training pictures the later one is the query."""
    return np.asarray(np.array(rows)[:, None] <= np.array(context.own)[None, :])


def _keep(path: Path, found: Sequence[Finding]) -> None:
    rows: list[dict[str, Any]] = []
    for finding in found:
        row = asdict(finding)
        matrix = finding.judgement.matrix
        row["judgement"]["matrix"] = None if matrix is None else matrix.ravel().tolist()
        rows.append(row)
    body = json.dumps(rows).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, sha256_of(body).encode() + b"\n" + body)
    except OSError as error:
        raise no_room(error, path) or DatasetError(
            f"cannot write to the cache: {error.strerror}", where=path, do="name another --cache"
        ) from error


def _load(path: Path) -> list[Finding] | None:
    try:
        digest, _, body = path.read_bytes().partition(b"\n")
        if sha256_of(body).encode() != digest:
            return None
        return [_finding(row) for row in json.loads(body)]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _finding(row: Mapping[str, Any]) -> Finding:
    values = dict(row["judgement"])
    if values["matrix"] is not None:
        values["matrix"] = np.array(values["matrix"], np.float64).reshape(3, 3)
    return Finding(row["query"], row["known"], Judgement(**values), row["distance"])
