"""The end of a build: counting what there is and writing the manifest, `dataset.json` last."""

from __future__ import annotations

import hashlib
import io
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import hqdata
from hqdata.build.draw import Drawn
from hqdata.build.folder import publish_manifest
from hqdata.build.plan import ShardTask, codec_versions
from hqdata.build.work import read_sidecars, sidecar_name
from hqdata.errors import InterruptedBuildError
from hqdata.fingerprint import fingerprint_versions
from hqdata.places import Place
from hqdata.problems import Problem, ProblemKind, to_jsonl
from hqdata.resolve import ResolvedRecipe, SampleRequest, SplitRequest, is_source
from hqdata.sample import SCHEMA_VERSION
from hqdata.shards.dataset import (
    DatasetInfo,
    Dropped,
    Removed,
    ShardInfo,
    SplitCounts,
    dataset_digest,
    timm_bytes,
    write_samples,
)
from hqdata.shards.names import (
    DATASET_FILE,
    PROBLEMS_FILE,
    SAMPLES_FILE,
    TIMM_FILE,
    Row,
)
from hqdata.sources.pairing import Pairing, flat

Where = tuple[str, str]
"""(source, split)."""

_REJECTED = frozenset(
    {
        ProblemKind.MISSING_MASK,
        ProblemKind.MISSING_IMAGE,
        ProblemKind.UNREADABLE_IMAGE,
        ProblemKind.TRUNCATED_IMAGE,
        ProblemKind.DAMAGED_IMAGE,
        ProblemKind.UNREADABLE_MASK,
        ProblemKind.MISLABELLED_FILE,
        ProblemKind.SIZE_MISMATCH,
        ProblemKind.EMPTY_MASK,
        ProblemKind.AMBIGUOUS_MASK,
        ProblemKind.TOO_LARGE,
        ProblemKind.DUPLICATE_KEY,
        ProblemKind.UNEXPECTED_NAME,
    }
)
"""Kinds that keep a sample out; the others concern files or names without one."""


def finish(
    resolved: ResolvedRecipe,
    tasks: list[ShardTask],
    pairings: dict[Where, Pairing],
    layouts: dict[str, str],
    removed: Removed | None,
    out: Place,
    samples: Sequence[Drawn] = (),
) -> tuple[DatasetInfo, tuple[Problem, ...]]:
    """Writes the manifest, `dataset.json` last.

    `pairings` and `tasks` hold what was sampled, too; `samples` is what else there is to say of it.
    """
    problems = [problem for pairing in pairings.values() for problem in pairing.problems]
    shards: list[ShardInfo] = []
    rows: list[Row] = []
    sidecars = read_sidecars(out, tasks)
    for task in tasks:
        sidecar = sidecars[task.path]
        if sidecar is None:
            raise InterruptedBuildError(
                "a shard's sidecar vanished while the build ran",
                where=f"{out.shown}/{sidecar_name(task.path)}",
                do="run the same command again; with workers on other machines, --out has to be "
                "a folder that all of them see, or a URL",
            )
        shards.append(
            ShardInfo(
                path=task.path,
                sha256=sidecar.sha256,
                num_samples=len(sidecar.rows),
                num_bytes=sidecar.num_bytes,
            )
        )
        rows.extend(sidecar.rows)
        problems.extend(sidecar.problems)
    problems += _unused_defects(resolved, pairings)
    counts = _count((*resolved.splits, *resolved.samples), pairings, rows, problems)
    problems += _count_problems(counts)
    problems.sort(key=Problem.sort_key)
    table = _samples_bytes(rows)
    listed = to_jsonl(problems).encode()
    info = DatasetInfo(
        schema_version=SCHEMA_VERSION,
        name=resolved.name,
        recipe=resolved.to_dict(),
        complete=all(split.complete for source in counts.values() for split in source.values()),
        num_samples=len(rows),
        num_problems=len(problems),
        image_ext=resolved.recipe.image_field,
        sources=counts,
        layouts=layouts,
        dropped=tuple(
            Dropped(source=source, split=split, name=name, reason=reason)
            for (source, split), pairing in pairings.items()
            for name, reason in pairing.dropped
        ),
        removed=removed,
        sampled={f"{d.source}/{d.split}": d.info() for d in samples} or None,
        shards=tuple(shards),
        samples_sha256=hashlib.sha256(table).hexdigest(),
        problems_sha256=hashlib.sha256(listed).hexdigest(),
        digest=dataset_digest(shards),
        tool={
            "hqdata": hqdata.__version__,
            "python": platform.python_version(),
            **codec_versions(),
            **fingerprint_versions(),
        },
    )
    info = info.sealed()
    publish_manifest(
        out,
        {
            SAMPLES_FILE: table,
            PROBLEMS_FILE: listed,
            TIMM_FILE: timm_bytes(shards),
            DATASET_FILE: info.to_bytes(),
        },
    )
    return info, tuple(problems)


def _unused_defects(resolved: ResolvedRecipe, pairings: Mapping[Where, Pairing]) -> list[Problem]:
    """The recipe's own defects that no pair or file fits: a slip would let a bad pair in."""
    problems = []
    for defect in resolved.recipe.defects:
        target = defect.name or defect.file or ""
        where = [
            (source, split)
            for source, split in pairings
            if is_source(defect.source, source) and defect.split in (None, split)
        ]
        if where and not any(flat(target) in pairings[w].used for w in where):
            source, split = where[0]
            problems.append(
                Problem(
                    source,
                    split,
                    target,
                    "",
                    ProblemKind.UNUSED_DEFECT,
                    f"the recipe has a defect ({defect.action}) of this name, the source has not",
                )
            )
    return problems


def _samples_bytes(rows: list[Row]) -> bytes:
    buffer = io.BytesIO()
    write_samples(buffer, rows)
    return buffer.getvalue()


def _count(
    requests: Iterable[SplitRequest | SampleRequest],
    pairings: dict[Where, Pairing],
    rows: list[Row],
    problems: list[Problem],
) -> dict[str, dict[str, SplitCounts]]:
    built = Counter((row["source"], row["split"]) for row in rows)
    rejected = Counter((p.source, p.split) for p in problems if p.kind in _REJECTED)
    counts: dict[str, dict[str, SplitCounts]] = {}
    for request in requests:
        where = (request.source, request.split)
        counts.setdefault(request.source, {})[request.split] = SplitCounts(
            expected=request.expect,
            built=built[where],
            rejected=rejected[where],
            dropped=pairings[where].lost,
        )
    return counts


def _count_problems(counts: dict[str, dict[str, SplitCounts]]) -> list[Problem]:
    return [
        Problem(
            source,
            split,
            "",
            "",
            ProblemKind.COUNT_MISMATCH,
            f"{found.built:,} samples were built"
            + (f" and {found.dropped} knowingly dropped" if found.dropped else "")
            + f", the recipe expects {found.expected:,}",
        )
        for source, splits in counts.items()
        for split, found in splits.items()
        if not found.complete
    ]
