"""One build in a folder that is claimed: what is to be done, in which order, until nothing is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hqdata.build.draw import Drawn, newly_damaged
from hqdata.build.engines import LocalEngine
from hqdata.build.finish import Where, finish
from hqdata.build.folder import (
    refuse_another_sample,
    refuse_to_shrink,
    remove_shards,
    stale_shards,
)
from hqdata.build.inputs import Paired, find_pairs
from hqdata.build.options import BuildOptions, BuildResult, PartResult
from hqdata.build.plan import ShardTask, plan
from hqdata.build.removal import leave_out, tell_what_returns
from hqdata.build.sampled import Sampler, plan_sample
from hqdata.build.spool import Spool, told_size
from hqdata.build.work import (
    check_task,
    read_sidecars,
    sidecar_name,
    write_task,
)
from hqdata.errors import InterruptedBuildError
from hqdata.places import Place
from hqdata.problems import Problem
from hqdata.progress import InMebibytes, Reporter
from hqdata.resolve import ResolvedRecipe
from hqdata.shards.dataset import Removed
from hqdata.shards.names import DATASET_FILE
from hqdata.sources.pairing import Pairing


@dataclass(frozen=True)
class _Plan:
    """What is to be built, as far as is known which pictures are damaged."""

    pairings: dict[Where, Pairing]
    removed: Removed | None
    drawn: tuple[Drawn, ...]
    tasks: list[ShardTask]


class Session:
    """One build in a folder that is claimed."""

    def __init__(
        self,
        resolved: ResolvedRecipe,
        data_root: Path | str,
        out: Place,
        options: BuildOptions,
        reporter: Reporter,
        tell: Callable[[str], None],
    ) -> None:
        self._resolved = resolved
        self._root = data_root
        self._out = out
        self._options = options
        self._reporter = reporter
        self._tell = tell
        self._engine = options.engine or LocalEngine(options.workers)
        self._spool = Spool(out, tell)

    def __enter__(self) -> Session:
        self._engine.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._engine.__exit__(None, None, None)
        finally:
            self._spool.remove()

    def run(self, *, only_finish: bool) -> BuildResult:
        """All of it."""
        paired, samplers = self._inputs()
        if only_finish:
            self._refuse_unchosen(samplers)
        current = self._plan(paired, samplers)
        while self._found_damage(current, samplers, lasting_only=True):
            current = self._plan(paired, samplers)  # by what an earlier run found out
        told: set[str] = set()
        self._tell_of_samples(current, told)
        tell_what_returns(self._out, current.pairings, self._tell)
        stale = self._stale(current)
        kept = self._kept(current.tasks)
        if only_finish:
            self._refuse_unwritten(current.tasks)
        written = {task.path for task in current.tasks} - kept
        self._write([task for task in current.tasks if task.path in written], samplers)
        while self._found_damage(current, samplers):
            before = {task.path: task.fingerprint() for task in current.tasks}
            current = self._plan(paired, samplers)
            self._tell_of_samples(current, told)
            changed = [t for t in current.tasks if before.get(t.path) != t.fingerprint()]
            plural = "shard is" if len(changed) == 1 else "shards are"
            told_of = f"{len(changed):,} {plural} written anew, with pictures for damaged ones"
            self._tell(told_of)
            self._write(changed, samplers)
            written |= {task.path for task in changed}
        if stale:
            self._tell(f"removing {len(stale)} shards of an earlier build, e.g. {stale[0]}")
            remove_shards(self._out, stale)
        layouts = {**paired.layouts, **{"/".join(s.where): "archives" for s in samplers}}
        info, problems = finish(
            self._resolved,
            current.tasks,
            current.pairings,
            layouts,
            current.removed,
            self._out,
            current.drawn,
        )
        for sampler in samplers:
            sampler.forget_files()
        return BuildResult(info, problems, len(written), len(current.tasks) - len(written))

    def run_part(self, part: tuple[int, int], stage: str | None) -> PartResult:
        """One part of an array."""
        index, count = part
        paired, samplers = self._inputs()
        num_scanned = 0
        if stage != "write":
            for sampler in samplers:
                num_scanned += self._choose_part(sampler, index, count)
        waiting = 0 if stage == "choose" else sum(len(s.missing()) for s in samplers)
        if stage == "choose" or waiting:
            return PartResult(num_scanned, 0, 0, waiting)
        current = self._plan(paired, samplers)
        self._stale(current)  # refuses what a whole build does; finish removes them
        # Dealt out by cost, so that all parts take about as long.
        ordered = sorted(current.tasks, key=lambda task: (-task.num_source_bytes, task.path))
        own = ordered[index - 1 :: count]
        kept = self._kept(own)
        missing = [task for task in own if task.path not in kept]
        self._write(missing, samplers)
        return PartResult(num_scanned, len(missing), len(kept), 0)

    def _stale(self, current: _Plan) -> list[str]:
        """Shards of earlier builds that will go; refuses to take what is there for less."""
        wanted = {task.path for task in current.tasks}
        prune = self._options.prune
        stale = stale_shards(self._out, wanted, current.pairings, prune=prune)
        refuse_to_shrink(self._out, current.pairings, prune=prune)
        return stale

    def _choose_part(self, sampler: Sampler, index: int, count: int) -> int:
        by_size = sorted(sampler.tasks.values(), key=lambda t: (-t.bundle.size, t.bundle.name))
        todo = sampler.missing(by_size[index - 1 :: count])
        if todo:
            sampler.scan(todo, self._engine, self._reporter)
        return len(todo)

    def _inputs(self) -> tuple[Paired, list[Sampler]]:
        # Before any archive is looked through: that may take hours.
        refuse_another_sample(self._out, self._resolved.samples, prune=self._options.prune)
        paired = find_pairs(self._resolved, self._root, self._options.use, self._tell)
        index = None if self._options.index is None else Place.of(self._options.index)
        samplers = [
            Sampler(request, self._resolved.recipe, self._root, self._out, index)
            for request in self._resolved.samples
        ]
        for sampler in samplers:
            count = _counted(len(sampler.bundles), "archive")
            self._tell(f"{sampler.where[0]}: {count}, {told_size(sampler.num_bytes)}")
        return paired, samplers

    def _plan(self, paired: Paired, samplers: list[Sampler]) -> _Plan:
        drawn = tuple(sampler.draw(self._engine, self._reporter) for sampler in samplers)
        pairings = {**paired.pairings, **{item.where: item.pairing() for item in drawn}}
        removed = None
        if self._options.remove is not None:
            reserves = {key for item in drawn for key in item.all_keys()}
            pairings, removed = leave_out(pairings, self._options.remove, self._tell, reserves)
        recipe = self._resolved.recipe
        tasks = plan(paired.requests, pairings, recipe)
        for item in drawn:
            tasks += plan_sample(item, pairings[item.where], recipe)
        return _Plan(pairings, removed, drawn, sorted(tasks, key=lambda task: task.path))

    def _tell_of_samples(self, current: _Plan, told: set[str]) -> None:
        for item in current.drawn:
            lines = []
            if item.is_cluster:
                lines.append(f"{item.source}: {item.cluster_line()}")
            if item.twice:
                lines.append(
                    f"{item.source}: {len(item.twice):,} pictures lie in two archives, e.g. "
                    f"{item.twice[0]}; the first by name is read"
                )
            if (short := item.shortage_line()) is not None:
                lines.append(f"{item.source}: {short}")
            for line in lines:
                if line not in told:
                    self._tell(line)
                told.add(line)

    def _kept(self, tasks: list[ShardTask]) -> set[str]:
        """Paths of the shards that are there and unchanged."""
        there = set(self._out.names())
        known = [t for t in tasks if {t.path, sidecar_name(t.path)} <= there]
        if not known:
            return set()
        reporter = InMebibytes(self._reporter)
        reporter.start("checking what is there", _num_bytes(known), "MiB")
        work = partial(check_task, out=self._out)
        ordered = _costly_first(known)
        current = self._engine.run(work, ordered, reporter=reporter, out=self._out.shown)
        reporter.finish()
        kept = {task.path for task, ok in zip(ordered, current, strict=True) if ok}
        self._tell(f"{len(kept)} of {len(tasks)} shards are there and unchanged")
        return kept

    def _write(self, tasks: list[ShardTask], samplers: list[Sampler]) -> None:
        if not tasks:
            return
        self._out.remove(DATASET_FILE)
        for sampler in samplers:
            sampler.with_files(tasks, self._engine, self._reporter)
        self._spool.warn_of_room(_num_bytes(tasks))
        reporter = InMebibytes(self._reporter)
        num_samples = sum(len(task.items) for task in tasks)
        what = f"building {_counted(len(tasks), 'shard')} of {num_samples:,} pictures"
        reporter.start(what, _num_bytes(tasks), "MiB")
        ready = self._spool.readable(_costly_first(tasks), one_machine=self._engine.one_machine)
        work = partial(write_task, out=self._out)
        self._engine.run(work, ready, reporter=reporter, out=self._out.shown)
        reporter.finish()

    def _found_damage(
        self, current: _Plan, samplers: list[Sampler], *, lasting_only: bool = False
    ) -> bool:
        """Whether shards of samples lack pictures that were not known to be damaged.

        With `lasting_only` those count that will be the same whenever they are read again.
        """
        found_any = False
        for item, sampler in zip(current.drawn, samplers, strict=True):
            own = [t for t in current.tasks if (t.source, t.split) == item.where]
            sidecars = read_sidecars(self._out, own)
            problems: list[Problem] = []
            passing: set[str] = set()
            for task in own:
                sidecar = sidecars[task.path]
                if sidecar is not None and sidecar.fingerprint == task.fingerprint():
                    problems += sidecar.problems
                    passing |= set(sidecar.passing)
            if lasting_only:
                problems = [p for p in problems if p.image not in passing]
            found = newly_damaged(problems, item)
            if found:
                lasting = {i for i, problem in found.items() if problem.image not in passing}
                sampler.add_damage(item, found, lasting)
                found_any = True
        return found_any

    def _refuse_unchosen(self, samplers: list[Sampler]) -> None:
        missing = [task.bundle.name for sampler in samplers for task in sampler.missing()]
        if missing:
            raise InterruptedBuildError(
                f"{len(missing):,} archives have not listed their pictures, e.g. {missing[0]}",
                where=self._out.shown,
                do="run the tasks of the array whose part they are (--stage choose), then those "
                "that write, then finish",
            )

    def _refuse_unwritten(self, tasks: list[ShardTask]) -> None:
        found = read_sidecars(self._out, tasks)
        missing = [task.path for task in tasks if found[task.path] is None]
        if missing:
            raise InterruptedBuildError(
                f"{len(missing):,} of {len(tasks):,} shards are not written, e.g. {missing[0]}",
                where=self._out.shown,
                do="run the tasks of the array again, then finish; or build without --stage, "
                "which writes them here",
            )


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _costly_first(tasks: list[ShardTask]) -> list[ShardTask]:
    return sorted(tasks, key=lambda task: (-task.num_source_bytes, task.path))


def _num_bytes(tasks: list[ShardTask]) -> int:
    return sum(task.num_source_bytes for task in tasks)
