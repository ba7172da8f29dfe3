"""The first pass over a set that is sampled: having its archives list what the hash chooses.

What an archive lists is kept beside the shards, in `.hqdata/sampled/`, and used again as long as
the archive is the same. So the pass can be stopped and gone on with, and shared out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from hqdata.build.draw import Drawn, draw, shares
from hqdata.build.engines import Engine
from hqdata.build.plan import (
    NORMALISATION_VERSION,
    ShardTask,
    codec_versions,
    cut,
    num_shards,
    num_source_bytes,
)
from hqdata.build.work import AT_ONCE, StoppedError
from hqdata.bundles.find import Bundle, find_bundles
from hqdata.bundles.scan import BundleScan, Candidate, ScanStoppedError, scan_bundle
from hqdata.errors import InterruptedBuildError, MissingSourceError
from hqdata.places import Place
from hqdata.problems import Problem
from hqdata.progress import InMebibytes, Reporter, Silent
from hqdata.recipe import Recipe
from hqdata.remote.origin import redact
from hqdata.resolve import SampleRequest
from hqdata.sample import canonical_json
from hqdata.sampling import Choice, num_to_keep
from hqdata.shards.names import STATE_DIR
from hqdata.sources.pairing import Pairing
from hqdata.storage import FileRef
from hqdata.threads import ShouldStop, Tick, in_threads

_DAMAGE_FILE = "damaged.json"


@dataclass(frozen=True, slots=True)
class ScanTask:
    """Having one archive list its pictures.

    Attributes:
        source: short name of the set.
        bundle: the archive.
        choice: what decides about pictures and masks.
        num_keep: pictures to list at least.
        files_needed: whether the bytes that were kept of an archive without random access are
            needed, too.
    """

    source: str
    bundle: Bundle
    choice: Choice
    num_keep: int
    files_needed: bool = False

    @property
    def name(self) -> str:
        """Where the list is kept."""
        return f"{folder_of(self.source)}/{self.bundle.name}.json"

    @property
    def kept_name(self) -> str:
        """Where bytes are kept of an archive that can only be read from the front.

        A longer list has another file, so that no list ever tells of other bytes than its own.
        """
        return f"{folder_of(self.source)}/{self.bundle.name}-{self.num_keep}.tar"


def folder_of(source: str) -> str:
    """Where lists of a set's archives are kept, below the data set's folder."""
    return f"{STATE_DIR}/sampled/{source}"


def scan_task(
    task: ScanTask,
    *,
    out: Place,
    index: Place | None,
    tick: Callable[[int], None],
    should_stop: Callable[[], bool],
) -> None:
    """Makes an archive's list, if it is not there. Work for an engine; ticks bytes of archives."""
    told = 0

    def count(num_bytes: int) -> None:
        nonlocal told
        told += num_bytes
        tick(num_bytes)

    if read_scan(task, out) is None:
        try:
            scan = scan_bundle(
                task.bundle,
                task.choice,
                task.num_keep,
                kept=out,
                kept_name=task.kept_name,
                index=index,
                tick=count,
                should_stop=should_stop,
            )
        except ScanStoppedError:
            raise StoppedError(task.bundle.name) from None
        out.write(task.name, scan.to_bytes())
    tick(max(0, task.bundle.size - told))  # what was jumped over


def read_scan(task: ScanTask, out: Place) -> BundleScan | None:
    """An archive's list, if there is one that fits and that lists enough."""
    data = out.read(task.name)
    scan = None if data is None else BundleScan.read(data)
    if scan is None or scan.stamp != task.bundle.stamp or scan.choice != task.choice.to_dict():
        return None
    if scan.num_keep < task.num_keep and not scan.exhausted:
        return None
    if task.files_needed and (kept := _kept_by(scan, task)) and out.stat(kept) is None:
        return None
    return relocated(scan, task, out)


def _kept_by(scan: BundleScan, task: ScanTask) -> str | None:
    """Where the bytes are kept that a list tells of; None if it needs none."""
    names = (_kept_name(item.image, task) for item in scan.candidates)
    return next((name for name in names if name is not None), None)


def _kept_name(ref: FileRef, task: ScanTask) -> str | None:
    """Where among the kept bytes a file lies, wherever these were when it was listed."""
    path = PurePosixPath(ref.container)
    inside = path.parent.match(folder_of(task.source)) and path.suffix == ".tar"
    return f"{folder_of(task.source)}/{path.name}" if inside and ref.how == "range" else None


def relocated(scan: BundleScan, task: ScanTask, out: Place) -> BundleScan:
    """The list with the places of files as they are now: folders may be mounted elsewhere."""
    here = task.bundle.containers[0]

    def moved(ref: FileRef, path: str) -> FileRef:
        kept = _kept_name(ref, task)
        if kept is not None:
            return replace(ref, container=out.reference(kept))
        if task.bundle.kind == "archive":
            return replace(ref, container=here)
        return replace(ref, container=Place.of(here).reference(path.rpartition("/")[2]))

    def of(item: Candidate) -> Candidate:
        image = moved(item.image, item.image_path)
        return replace(item, image=image, notes=moved(item.notes, item.notes_path))

    return replace(scan, candidates=tuple(of(item) for item in scan.candidates))


class Sampler:
    """Draws one sample: scans archives until enough is listed, and knows what is damaged.

    Args:
        request: what the recipe asks for.
        recipe: the recipe.
        data_root: folder or URL below which the archives lie.
        out: the data set's folder, which keeps the lists.
        index: where lists of all members are kept for other builds, or None.
    """

    def __init__(
        self,
        request: SampleRequest,
        recipe: Recipe,
        data_root: Path | str,
        out: Place,
        index: Place | None,
    ) -> None:
        self.request = request
        self._recipe = recipe
        self._out = out
        self._index = index
        self._passing: dict[int, Problem] = {}
        self._lists: dict[str, BundleScan] = {}
        self.bundles = find_bundles(data_root)
        if not self.bundles:
            raise _missing(request, data_root)
        sizes = [bundle.size for bundle in self.bundles]
        by_share = zip(self.bundles, shares(sizes, request.settings.images), strict=True)
        self.tasks = {
            bundle.name: ScanTask(request.source, bundle, request.choice, num_to_keep(share))
            for bundle, share in by_share
        }

    @property
    def where(self) -> tuple[str, str]:
        """(source, split)."""
        return self.request.source, self.request.split

    @property
    def num_bytes(self) -> int:
        """Of all archives."""
        return sum(bundle.size for bundle in self.bundles)

    def scan(self, tasks: Iterable[ScanTask], engine: Engine, reporter: Reporter) -> None:
        """Has archives make the lists that are missing."""
        todo = sorted(tasks, key=lambda task: (-task.bundle.size, task.bundle.name))
        work = partial(scan_task, out=self._out, index=self._index)
        told = InMebibytes(reporter)
        plural = "" if len(todo) == 1 else "s"
        what = f"choosing from {len(todo):,} archive{plural} of {self.request.source}"
        told.start(what, sum(task.bundle.size for task in todo), "MiB")
        for task in todo:
            self._lists.pop(task.bundle.name, None)
        engine.run(work, todo, reporter=told, out=self._out.shown)
        told.finish()

    def missing(self, among: Iterable[ScanTask] | None = None) -> list[ScanTask]:
        """Archives, of some or of all, whose lists are not there."""
        tasks = list(self.tasks.values() if among is None else among)
        self._read_lists(tasks)
        return [task for task in tasks if task.bundle.name not in self._lists]

    def draw(self, engine: Engine, reporter: Reporter) -> Drawn:
        """The sample by what is known so far; archives that listed too little list more."""
        while True:
            todo = self.missing()
            if not todo:
                drawn = draw(self.request, self._lists.values(), self._damage())
                todo = [self._with_more(scan) for scan in drawn.lacking()]
                if not todo:
                    return drawn
            self.scan(todo, engine, reporter)
            lost = self.missing(todo)
            if lost:
                raise InterruptedBuildError(
                    f"the list of {lost[0].bundle.name} was made and is not there",
                    where=self._out.shown,
                    expected="an --out that all workers and this machine see: a shared folder or "
                    "a URL",
                    do="choose such an --out",
                )

    def _read_lists(self, tasks: Iterable[ScanTask]) -> None:
        """Reads lists that are there; each is read once."""
        unread = [task for task in tasks if task.bundle.name not in self._lists]

        def read(task: ScanTask, tick: Tick, should_stop: ShouldStop) -> BundleScan | None:
            return read_scan(task, self._out)

        at_once = 1 if self._out.local is not None else AT_ONCE
        found = in_threads(read, unread, workers=at_once, reporter=Silent())
        for task, scan in zip(unread, found, strict=True):
            if scan is not None:
                self._lists[task.bundle.name] = scan

    def _with_more(self, scan: BundleScan) -> ScanTask:
        more = replace(self.tasks[scan.bundle], num_keep=2 * scan.num_keep)
        self.tasks[scan.bundle] = more
        self._lists.pop(scan.bundle, None)
        return more

    def with_files(self, tasks: Sequence[ShardTask], engine: Engine, reporter: Reporter) -> None:
        """Sees that the bytes which shards need of archives without random access are there."""
        needed = {item.image.container for task in tasks for item in task.items}
        todo = []
        for name, scan in self._lists.items():
            kept = _kept_by(scan, self.tasks[name])
            if kept and self._out.reference(kept) in needed and self._out.stat(kept) is None:
                # As many as before, neither more nor fewer: the plan has the places of that list.
                again = replace(self.tasks[name], num_keep=scan.num_keep, files_needed=True)
                todo.append(again)
        if todo:
            self.scan(todo, engine, reporter)

    def forget_files(self) -> None:
        """Removes the bytes that were kept: the shards have what they need of them."""
        for name in self._out.names(folder_of(self.request.source)):
            if name.endswith(".tar"):
                self._out.remove(name)

    def _damage(self) -> dict[int, Problem]:
        """Pictures that are known to be damaged, in archives that are still the same."""
        data = self._out.read(f"{folder_of(self.request.source)}/{_DAMAGE_FILE}")
        stamps = {task.bundle.name: task.bundle.stamp for task in self.tasks.values()}
        try:
            value: dict[str, Any] = {} if data is None else json.loads(data)
            rows = value["pictures"] if value.get("under") == self._under else []
            return {
                int(row["image_id"]): Problem.from_dict(row["problem"])
                for row in rows
                if stamps.get(row["bundle"]) == row["stamp"]
            } | self._passing
        except (ValueError, TypeError, KeyError, AttributeError):
            return dict(self._passing)  # it will be found out again

    @property
    def _under(self) -> dict[str, Any]:
        """Under what a picture was found to be damaged: other limits or decoders may take it."""
        limits = [self._recipe.max_pixels, self._recipe.image_field]
        choice = self.request.choice.to_dict()
        versions = {"normalisation": NORMALISATION_VERSION, **codec_versions()}
        return {"choice": choice, "limits": limits, "versions": versions}

    def add_damage(self, drawn: Drawn, found: Mapping[int, Problem], lasting: set[int]) -> None:
        """Keeps what was found out about pictures of the sample.

        Args:
            drawn: the sample they were found in.
            found: the problems, by image id.
            lasting: those that will be the same whenever the picture is read again.
        """
        everything = {**drawn.damage, **found}
        self._passing = {
            **self._passing,
            **{image_id: found[image_id] for image_id in found if image_id not in lasting},
        }
        bundle_of = {
            item.image_id: scan for scan in reversed(drawn.scans) for item in scan.candidates
        }
        rows = [
            {
                "image_id": image_id,
                "bundle": bundle_of[image_id].bundle,
                "stamp": bundle_of[image_id].stamp,
                "problem": problem.to_dict(),
            }
            for image_id, problem in sorted(everything.items())
            if image_id in bundle_of and image_id not in self._passing
        ]
        name = f"{folder_of(self.request.source)}/{_DAMAGE_FILE}"
        self._out.write(name, canonical_json({"under": self._under, "pictures": rows}))


def plan_sample(drawn: Drawn, pairing: Pairing, recipe: Recipe) -> list[ShardTask]:
    """The shard tasks of a sample.

    Args:
        drawn: the sample.
        pairing: its pairs, without those that a report of overlaps takes out.
        recipe: says how large shards are.
    """
    first = drawn.first_groups()
    pairs = [pair for group in first for pair in group]
    count = num_shards(len(pairs), num_source_bytes(pairs), recipe)
    kept = {pair.key for pair in pairing.pairs}
    groups = [tuple(pair for pair in group if pair.key in kept) for group in drawn.groups()]
    return cut(drawn.request, groups, min(count, len(groups)), recipe)


def _missing(request: SampleRequest, data_root: Path | str) -> MissingSourceError:
    known = request.set
    shown = redact(data_root) if isinstance(data_root, str) else str(data_root)
    return MissingSourceError(
        f"no archive of {request.source} is below the data root {shown!r}",
        where=f"{known.title}: {known.home}",
        expected=f"its archives as they are published (sa_000000.tar …, {known.num_archives:,} of "
        "them, any part of which will do with --subset), or the folders they unpack to",
        do="get them, or see what a build would cost with --plan",
    )
