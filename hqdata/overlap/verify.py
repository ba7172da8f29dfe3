"""The proof: everything is read and searched, and the search itself is put to the test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from hqdata.archives import spool_archive
from hqdata.errors import CancelledError, DatasetError, HqdataError, UserError
from hqdata.files import no_room, sha256_file, sha256_of
from hqdata.fingerprint import fingerprint_versions
from hqdata.overlap import facts, self_test
from hqdata.overlap.blocks import (
    Item,
    decoys,
    evaluation_items,
    in_blocks,
    training_items,
    with_refs,
)
from hqdata.overlap.collect import Collected, collect
from hqdata.overlap.evaluation import (
    EvaluationSource,
    default_fingerprint_folders,
    find_evaluation,
)
from hqdata.overlap.features import LocalFeatures
from hqdata.overlap.index_files import write_known
from hqdata.overlap.pairs import asked_pairs, make_pairs
from hqdata.overlap.report import EvaluationSet, OverlapReport, Pair, Recall, Unread, Verdict
from hqdata.overlap.scratch import scratch_folder
from hqdata.overlap.self_test import Result
from hqdata.overlap.tasks import (
    Context,
    Planted,
    ShardTask,
    search_planted,
    search_relatives,
    search_shard,
)
from hqdata.overlap.training import TrainPictures, by_shard, extract_shard, load_features
from hqdata.parallel import run_tasks
from hqdata.progress import Reporter
from hqdata.sample import canonical_json
from hqdata.shards.dataset import Dataset
from hqdata.shards.names import DATASET_FILE, SAMPLES_FILE, STATE_DIR

T = TypeVar("T")
R = TypeVar("R")

DEFAULT_COPIES = 24
"""Copies planted of each kind of edit."""


class NotProvableError(HqdataError):
    """Something that the proof needs is not there."""

    exit_status = 3


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """How to go about a proof.

    Attributes:
        workers: number of processes.
        evaluation: sets, folders or files of fingerprints beyond those of the recipe.
        within: search the training set for duplicates of its own, instead.
        allow_missing: go on without evaluation sets that are not there.
        subset: hold no counts against the evaluation sets.
        use: `SET[/SPLIT]=PATH`, where a set lies in several places.
        copies: how many copies of each kind of edit the self-test plants.
        cache: folder of what is kept; None for one in the data set's folder.
    """

    workers: int
    evaluation: tuple[str, ...] = ()
    within: bool = False
    allow_missing: bool = False
    subset: bool = False
    use: tuple[str, ...] = ()
    copies: int = DEFAULT_COPIES
    cache: Path | None = None


@dataclass(slots=True)
class _Run:
    """One proof under way."""

    dataset: Dataset
    data_root: Path
    options: VerifyOptions
    reporter: Reporter
    cache: Path
    scratch: Path
    shards: list[TrainPictures]
    unread: list[Unread] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def verify(
    root: Path,
    data_root: Path,
    options: VerifyOptions,
    *,
    reporter: Reporter,
    finish: Callable[[OverlapReport, Dataset, Sequence[Item]], None],
) -> OverlapReport:
    """Searches a data set for pictures of evaluation sets.

    Args:
        root: the data set's folder.
        data_root: folder below which the evaluation sets lie.
        options: see there.
        reporter: is told how far it has come.
        finish: is given the report, the data set, and the pictures searched for, while their files
            can still be read; writes what is to be written.

    Raises:
        DatasetError: no finished data set, or a damaged one.
        NotProvableError: an evaluation set is missing.
        UserError: a wrong name or path.
        CancelledError: it was stopped; the same call goes on.
    """
    dataset = Dataset.open(root)
    _check_manifest(dataset)
    cache = options.cache or root / STATE_DIR / "overlap"
    try:
        with scratch_folder(cache) as scratch:
            run = _Run(dataset, data_root, options, reporter, cache, scratch, by_shard(dataset))
            report, items = _verify(run)
            finish(report, dataset, items)
            return report
    except OSError as error:
        raise no_room(error, cache) or UserError(
            f"cannot write to the cache: {error.strerror}",
            where=error.filename or cache,
            do="name another folder with --cache",
        ) from error
    except KeyboardInterrupt:
        raise CancelledError(
            "stopped", where=root, do="run the same command again to go on: what is done is kept"
        ) from None


def _check_manifest(dataset: Dataset) -> None:
    """Refuses a table of samples that is not the manifest's, or hashes of another version."""
    if sha256_file(dataset.root / SAMPLES_FILE) != dataset.info.samples_sha256:
        raise DatasetError(
            f"{SAMPLES_FILE} is not the one that {DATASET_FILE} describes",
            where=dataset.root,
            do=f"see what is damaged: hqdata check {dataset.root}",
        )
    ours, theirs = fingerprint_versions(), dataset.info.tool
    other = [
        f"{n} {theirs.get(n, 'unknown')}, here {v}" for n, v in ours.items() if theirs.get(n) != v
    ]
    if other:
        raise DatasetError(
            f"the hashes of the data set were made by other versions: {'; '.join(other)}",
            where=dataset.root,
            do="run the build that made it again with this version",
        )


def _verify(run: _Run) -> tuple[OverlapReport, list[Item]]:
    options = run.options
    # What is missing is told before anything long begins.
    sources = [] if options.within else _find(run)
    sets, items = _read_evaluation(run, sources)
    _extract_training(run)
    if options.within:
        for shard in run.shards:
            items += training_items(run.dataset, shard, _features(run, shard))
    elif not all(item.is_readable for item in items):
        items += decoys(run.dataset, run.shards, options.copies)
    containers = _spool(run, items)
    items = with_refs(items, containers)
    pairs: list[Pair] = []
    planted: list[Result] = []
    suspects: list[self_test.Suspect] = []
    for number, block in enumerate(in_blocks(items)):
        context = _context(run, block, number)
        pairs += _search(run, context, block)
        results, false = _plant(run, context, block)
        planted += results
        suspects += false
        shutil.rmtree(context.index, ignore_errors=True)
    table = self_test.recall(planted)
    pairs.sort(key=lambda p: (p.train, p.evaluation.set, p.evaluation.name))
    removed = run.dataset.info.removed
    report = OverlapReport(
        verdict=_verdict(run, sets, pairs, table, suspects),
        dataset=run.dataset.info.name,
        dataset_digest=run.dataset.info.digest,
        num_train=sum(len(shard) for shard in run.shards),
        within=options.within,
        evaluation=tuple(sets),
        missing=tuple(run.missing),
        unread=tuple(run.unread),
        pairs=tuple(pairs),
        subset=options.subset,
        removed=() if removed is None else removed.keys,
        self_test=table,
        false_pairs=len(suspects),
        thresholds=facts.thresholds(),
        versions=facts.versions(),
    )
    return report, [item for item in items if not item.is_decoy]


def _verdict(
    run: _Run,
    sets: Sequence[EvaluationSet],
    pairs: Sequence[Pair],
    table: dict[str, Recall],
    suspects: Sequence[self_test.Suspect],
) -> Verdict:
    if any(pair.confirmed for pair in pairs):
        return "overlap"
    whole = not run.unread and not any(s.problems or not s.num_images for s in sets)
    searched = run.options.within or bool(sets)
    # A likeness that no pixels could be asked about stands in the way.
    open_question = any(p.kind == "near" and p.score is None for p in pairs)
    held = not suspects and all(row.held for row in table.values())
    return "clean" if whole and searched and held and not open_question else "incomplete"


def _find(run: _Run) -> list[EvaluationSource]:
    options = run.options
    targets = (*run.dataset.info.recipe.get("must_not_overlap", ()), *options.evaluation)
    if not targets:
        raise UserError(
            f"the recipe of {run.dataset.info.name!r} names no set that it must not overlap",
            do="name them, e.g. --evaluation dis/validation --evaluation path/to/pictures",
        )
    sources, missing = find_evaluation(
        targets,
        run.data_root,
        fingerprint_folders=default_fingerprint_folders(),
        reporter=run.reporter,
        use=options.use,
        subset=options.subset,
    )
    if missing and not options.allow_missing:
        raise NotProvableError(
            f"{len(missing)} of {len(sources) + len(missing)} evaluation sets are not below the "
            f"data root {str(run.data_root)!r}: nothing can be proven about them",
            where="\n".join(str(one) for one in missing),
            do="get them, or files of their fingerprints (hqdata fingerprint, where they are),\n"
            "or prove what can be proven, with what is missing listed: --allow-missing",
        )
    run.missing += [one.set for one in missing]
    return sources


def _read_evaluation(
    run: _Run, sources: Sequence[EvaluationSource]
) -> tuple[list[EvaluationSet], list[Item]]:
    sets: list[EvaluationSet] = []
    items: list[Item] = []
    for source in sources:
        found: Collected = collect(
            source,
            cache=run.cache / "evaluation",
            workers=run.options.workers,
            reporter=run.reporter,
        )
        run.unread += [Unread(set=found.set, name=n, reason=why) for n, why in found.unread]
        items += evaluation_items(source, found)
        sets.append(
            EvaluationSet(
                set=found.set,
                num_images=len(found.fingerprints),
                how=found.how,
                digest=found.digest,
                source=found.where,
                problems=source.problems,
            )
        )
    return sets, items


def _extract_training(run: _Run) -> None:
    work = partial(
        extract_shard,
        root=run.dataset.root,
        image_ext=run.dataset.info.image_ext,
        cache=run.cache,
    )
    run.reporter.start("features of the training set", len(run.dataset), "pictures")
    dearest_first = sorted(run.shards, key=lambda s: -s.shard.num_bytes)
    results = run_tasks(
        work,
        dearest_first,
        workers=run.options.workers,
        reporter=run.reporter,
        out=run.cache,
    )
    run.reporter.finish()
    for unread in results:
        run.unread += [Unread(set=run.dataset.info.name, name=k, reason=why) for k, why in unread]
    broken = {s.shard.path for s, unread in zip(dearest_first, results, strict=True) if unread}
    # What could not be read is named; the rest of its shard is searched another time, when it is
    # whole.
    run.shards = [shard for shard in run.shards if shard.shard.path not in broken]


def _features(run: _Run, shard: TrainPictures) -> list[LocalFeatures]:
    features = load_features(shard, run.cache)
    if features is None:
        raise UserError("the cache is being changed by another program", where=run.cache)
    return features


def _spool(run: _Run, items: Sequence[Item]) -> dict[str, str]:
    """Decompresses the archives that cannot be read in any order."""
    listed = {i.file.ref.container for i in items if i.file and i.file.ref.how == "listed"}
    return {name: str(spool_archive(Path(name), run.scratch / "spool")) for name in sorted(listed)}


def _context(run: _Run, block: Sequence[Item], number: int) -> Context:
    index = run.scratch / f"index-{number}"
    run.reporter.start("index of what is searched for", 0, "features")
    write_known([item.known for item in block], index, threads=run.options.workers)
    run.reporter.update(sum(len(item.known.features) for item in block))
    run.reporter.finish()
    depends_on = {
        "versions": facts.versions(),
        "thresholds": facts.thresholds(),
        "code": facts.code_digest(),
        "pictures": [
            [item.set, item.name, *item.digests, item.own, item.known.digest()] for item in block
        ],
        "readable": [item.is_readable for item in block],
    }
    return Context(
        root=run.dataset.root,
        cache=run.cache,
        index=index,
        files=tuple(item.file for item in block),
        own=tuple(item.own for item in block),
        hidden=tuple(item.is_decoy for item in block),
        digest=sha256_of(canonical_json(depends_on)),
    )


def _search(run: _Run, context: Context, block: Sequence[Item]) -> list[Pair]:
    asked = asked_pairs(run.dataset, run.shards, block)
    tasks = [
        ShardTask(shard, tuple(asked.get(number, ())), run.options.within)
        for number, shard in enumerate(run.shards)
    ]
    run.reporter.start("searching", sum(len(t.pictures) for t in tasks), "pictures")
    found = run_tasks(
        partial(search_shard, context=context),
        tasks,
        workers=run.options.workers,
        reporter=run.reporter,
        out=run.cache,
    )
    run.reporter.finish()
    return make_pairs(run.dataset, tasks, found, block)


def _plant(
    run: _Run, context: Context, block: Sequence[Item]
) -> tuple[list[Result], list[self_test.Suspect]]:
    """The self-test in one block: what came of the copies, and the false pairs."""
    # Evaluation pictures, and decoys for those that are known by fingerprint only: each kind is
    # judged in its own way, so each is put to the test.
    copies: list[Planted] = []
    for is_decoy in (False, True):
        those = [n for n, i in enumerate(block) if i.is_readable and i.is_decoy == is_decoy]
        copies += self_test.plan(those, run.options.copies)
    results = _in_parts(run, context, copies, search_planted, "self-test: planted copies")
    # A decoy is a training picture: what it is paired with is an overlap, and reported as such.
    suspects = [s for s in self_test.suspects(results) if not block[s.planted.known].is_decoy]
    if not suspects:
        return results, []
    relatives = _in_parts(
        run, context, self_test.doubtful(suspects), search_relatives, "self-test: doubtful pairs"
    )
    return results, self_test.false_pairs(suspects, dict(relatives))


def _in_parts(
    run: _Run,
    context: Context,
    numbers: Sequence[T],
    work: Callable[..., list[R]],
    what: str,
) -> list[R]:
    """Does some work on pictures, a few a task, and joins what comes of it."""
    size = self_test.COPIES_PER_TASK
    tasks = [numbers[begin : begin + size] for begin in range(0, len(numbers), size)]
    run.reporter.start(what, len(numbers), "pictures")
    results = run_tasks(
        partial(work, context=context),
        tasks,
        workers=run.options.workers,
        reporter=run.reporter,
        out=run.cache,
    )
    run.reporter.finish()
    return [result for group in results for result in group]
