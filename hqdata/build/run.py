"""The whole build: find, plan, write what is missing, and only then say that a data set is
there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from hqdata.archives import remove_spool, spool_archive
from hqdata.build.finish import Where, finish
from hqdata.build.folder import (
    claim,
    refuse_to_shrink,
    remove_shards,
    remove_temporaries,
    stale_shards,
)
from hqdata.build.plan import ShardTask, plan
from hqdata.build.removal import leave_out, tell_what_returns
from hqdata.build.work import StoppedError, check_task, sidecar_path, write_task
from hqdata.errors import CancelledError
from hqdata.files import no_room
from hqdata.overlap.removal import Removal
from hqdata.parallel import run_tasks
from hqdata.problems import Problem, ProblemKind
from hqdata.progress import InMebibytes, Reporter, Silent
from hqdata.resolve import ResolvedRecipe
from hqdata.scan import scan
from hqdata.shards.dataset import DatasetInfo
from hqdata.shards.names import DATASET_FILE, STATE_DIR
from hqdata.sources.discover import choose, discover, pair_found
from hqdata.sources.layouts import TreeIndex
from hqdata.sources.pairing import Pairing, find_duplicate_keys
from hqdata.storage import FileRef


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build did.

    Attributes:
        info: the content of `dataset.json`.
        problems: all problems, sorted.
        num_written: shards written in this run.
        num_kept: shards kept from an earlier run.
    """

    info: DatasetInfo
    problems: tuple[Problem, ...]
    num_written: int
    num_kept: int

    @property
    def clean(self) -> bool:
        """Whether the data set is complete and nothing at all was wrong."""
        return self.info.complete and not self.problems


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What a user may say about one build beyond the recipe.

    Attributes:
        workers: processes that write shards.
        use: source -> path below the data root it has to be read from.
        prune: remove shards of sources that this build does not have.
        remove: pictures to leave out, because a report of overlaps says so.
    """

    workers: int = 1
    use: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    prune: bool = False
    remove: Removal | None = None


def build(
    resolved: ResolvedRecipe,
    data_root: Path,
    out: Path,
    options: BuildOptions | None = None,
    *,
    reporter: Reporter | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> BuildResult:
    """Builds a data set; killed anywhere and called again, it gives the same bytes.

    Args:
        resolved: the recipe.
        data_root: folder below which the sources lie; only read.
        out: folder of the data set; nothing is written outside of it.
        options: see `BuildOptions`.
        reporter: is told the progress.
        tell: is given a line of text for each thing worth knowing.

    Raises:
        HqdataError: a missing or ambiguous source, a folder that is not ours or is being written
        to, no room.
    """
    options = options or BuildOptions()
    reporter = reporter or Silent()
    with claim(out):
        spool = out / STATE_DIR / "spool"
        try:
            remove_spool(spool)
            remove_temporaries(out)
            return _build(resolved, data_root, out, options, reporter, tell)
        except OSError as error:
            full = no_room(error, out)
            if full is None:
                raise
            raise full from error
        except (KeyboardInterrupt, StoppedError):
            raise CancelledError(
                "stopped",
                where=out,
                do="run the same command again to go on: finished shards are kept",
            ) from None
        finally:
            remove_spool(spool)


def _build(
    resolved: ResolvedRecipe,
    data_root: Path,
    out: Path,
    options: BuildOptions,
    reporter: Reporter,
    tell: Callable[[str], None],
) -> BuildResult:
    tree = scan(data_root, on_archive=_archive_teller(tell))
    for archive, reason in tree.unreadable.items():
        tell(f"warning: {archive} is left alone: {reason}")
    index = TreeIndex(tree)
    chosen = choose(discover(index, resolved.splits, options.use), tree)
    pairings: dict[Where, Pairing] = {}
    for request, match in chosen:
        tell(f"{request.source} {request.split}: {match.where} (layout: {match.layout})")
        pairings[(request.source, request.split)] = pair_found(index, request, match)
    _report_bad_members_once(pairings)
    requests = [replace(r, mask_values=m.spec.mask_values or r.mask_values) for r, m in chosen]
    pairings = find_duplicate_keys(pairings)
    removed = None
    if options.remove is not None:
        pairings, removed = leave_out(pairings, options.remove, tell)
    tell_what_returns(out, pairings, tell)
    tasks = plan(requests, pairings, resolved.recipe)
    stale = stale_shards(out, {task.path for task in tasks}, pairings, prune=options.prune)
    refuse_to_shrink(out, pairings, prune=options.prune)
    num_kept = _write_missing(tasks, out, options.workers, reporter, tell)
    if stale:
        tell(f"removing {len(stale)} shards of an earlier build, e.g. {stale[0]}")
        remove_shards(out, stale)
    layouts = {f"{r.source}/{r.split}": m.layout for r, m in chosen}
    info, problems = finish(resolved, tasks, pairings, layouts, removed, out)
    return BuildResult(info, problems, len(tasks) - num_kept, num_kept)


def _report_bad_members_once(pairings: dict[Where, Pairing]) -> None:
    """Splits that read the same archive each see its refused members; one row each is enough.

    One for each source: what is said of a source must not depend on which others are built.
    """
    seen: set[tuple[str, str]] = set()
    for where, pairing in pairings.items():
        kept = []
        for problem in pairing.problems:
            member = (problem.source, problem.image)
            if problem.kind is ProblemKind.BAD_MEMBER and member in seen:
                continue
            if problem.kind is ProblemKind.BAD_MEMBER:
                seen.add(member)
            kept.append(problem)
        pairings[where] = replace(pairing, problems=tuple(kept))


def _archive_teller(tell: Callable[[str], None]) -> Callable[[str, int], None]:
    def on_archive(path: str, num_bytes: int) -> None:
        if path.lower().endswith((".gz", ".tgz")):
            tell(f"{path}: reading {num_bytes / 2**20:,.0f} MiB to list it; a .zip has an index")

    return on_archive


def _write_missing(
    tasks: list[ShardTask],
    out: Path,
    workers: int,
    reporter: Reporter,
    tell: Callable[[str], None],
) -> int:
    """Writes the shards that are not there yet; returns how many were."""
    reporter = InMebibytes(reporter)
    costly_first = sorted(tasks, key=lambda task: (-task.num_source_bytes, task.path))
    known = [
        t for t in costly_first if sidecar_path(out, t.path).exists() and (out / t.path).exists()
    ]
    kept: set[str] = set()
    if known:
        reporter.start("checking what is there", _num_bytes(known), "MiB")
        work = partial(check_task, out=out)
        current = run_tasks(work, known, workers=workers, reporter=reporter, out=out)
        kept = {task.path for task, ok in zip(known, current, strict=True) if ok}
        reporter.finish()
        tell(f"{len(kept)} of {len(tasks)} shards are there and unchanged")
    missing = [task for task in costly_first if task.path not in kept]
    if missing:
        (out / DATASET_FILE).unlink(missing_ok=True)
        _warn_of_room(missing, out, tell)
        num_samples = sum(len(task.items) for task in missing)
        what = f"building {len(missing)} shards of {num_samples:,} pictures"
        reporter.start(what, _num_bytes(missing), "MiB")
        missing = _spooled(missing, out / STATE_DIR / "spool", tell)
        run_tasks(
            partial(write_task, out=out), missing, workers=workers, reporter=reporter, out=out
        )
        reporter.finish()
    return len(kept)


def _spooled(tasks: list[ShardTask], spool: Path, tell: Callable[[str], None]) -> list[ShardTask]:
    """The tasks with the files of a .tar.gz readable: each archive they need is decompressed."""
    refs = (ref for task in tasks for item in task.items for ref in (item.image, item.mask))
    targets: dict[str, str] = {}
    for archive in sorted({ref.container for ref in refs if ref.how == "listed"}):
        tell(f"decompressing {archive} beside the output, to read it in any order")
        targets[archive] = str(spool_archive(Path(archive), spool))
    if not targets:
        return tasks

    def readable(ref: FileRef) -> FileRef:
        if ref.how != "listed":
            return ref
        return replace(ref, how="range", container=targets[ref.container])

    return [
        replace(
            task,
            items=tuple(
                replace(item, image=readable(item.image), mask=readable(item.mask))
                for item in task.items
            ),
        )
        for task in tasks
    ]


def _num_bytes(tasks: list[ShardTask]) -> int:
    return sum(task.num_source_bytes for task in tasks)


def _warn_of_room(tasks: list[ShardTask], out: Path, tell: Callable[[str], None]) -> None:
    needed = _num_bytes(tasks)
    free = shutil.disk_usage(out).free
    if needed > free:
        tell(
            f"warning: about {needed / 2**30:.1f} GiB will be written, "
            f"{free / 2**30:.1f} GiB are free in {out}"
        )
