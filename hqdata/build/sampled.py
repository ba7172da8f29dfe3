"""The first pass over a set that is sampled: having its archives list what the hash chooses.

What an archive lists is kept beside the shards, in `.hqdata/sampled/`, and used again as long as
the archive is the same. So the pass can be stopped and gone on with, and shared out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from hqdata.build.draw import Drawn, draw, shares
from hqdata.build.engines import Engine
from hqdata.build.plan import ShardTask, codec_versions, cut, num_shards, num_source_bytes
from hqdata.build.work import AT_ONCE, StoppedError
from hqdata.bundles.find import Bundle, find_bundles
from hqdata.bundles.scan import BundleScan, Candidate, ScanStoppedError, scan_bundle
from hqdata.errors import MissingSourceError
from hqdata.places import Place
from hqdata.problems import Problem
from hqdata.progress import InMebibytes, Reporter, Silent
from hqdata.recipe import Recipe
from hqdata.resolve import SampleRequest
from hqdata.sample import canonical_json
from hqdata.sampling import Choice, num_to_keep
from hqdata.shards.names import STATE_DIR
from hqdata.sources.pairing import Pairing
from hqdata.storage import FileRef
from hqdata.threads import ShouldStop, Tick, in_threads

_DAMAGE_FILE = "damaged.json"

_DISK_FAILURE = re.compile(r"cannot be read\b[^:]*: ")
"""Stands in what a list says of an archive or a picture that a disk would not give."""


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
        """Where bytes are kept of an archive that can only be read from the front."""
        return f"{folder_of(self.source)}/{self.bundle.name}.tar"


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
        # An old list would tell of kept bytes that are about to be others.
        out.remove(task.name)
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
    own = any(_is_kept(item.image, task) for item in scan.candidates)
    if own and task.files_needed and out.stat(task.kept_name) is None:
        return None
    return relocated(scan, task, out)


def _is_kept(ref: FileRef, task: ScanTask) -> bool:
    """Whether a file lies among the kept bytes, wherever these were when it was listed."""
    return ref.how == "range" and PurePosixPath(ref.container).match(task.kept_name)


def relocated(scan: BundleScan, task: ScanTask, out: Place) -> BundleScan:
    """The list with the places of files as they are now: folders may be mounted elsewhere."""
    kept, here = out.reference(task.kept_name), task.bundle.containers[0]

    def moved(ref: FileRef, path: str) -> FileRef:
        if _is_kept(ref, task):
            return replace(ref, container=kept)
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

    def look_again(self) -> None:
        """Forgets lists that lack what a disk would not give in an earlier run. It may, now."""
        for name, scan in self._read_lists().items():
            told = [*scan.damage, *(item.message for item in scan.passed_over)]
            if any(_DISK_FAILURE.search(line) for line in told):
                self._out.remove(self.tasks[name].name)
                del self._lists[name]

    def missing(self) -> list[ScanTask]:
        """Archives whose lists are not there."""
        there = self._read_lists()
        return [task for name, task in self.tasks.items() if name not in there]

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

    def _read_lists(self) -> dict[str, BundleScan]:
        """The lists that are there, by archive; each is read once."""
        unread = [task for name, task in self.tasks.items() if name not in self._lists]

        def read(task: ScanTask, tick: Tick, should_stop: ShouldStop) -> BundleScan | None:
            return read_scan(task, self._out)

        at_once = 1 if self._out.local is not None else AT_ONCE
        found = in_threads(read, unread, workers=at_once, reporter=Silent())
        for task, scan in zip(unread, found, strict=True):
            if scan is not None:
                self._lists[task.bundle.name] = scan
        return dict(self._lists)

    def _with_more(self, scan: BundleScan) -> ScanTask:
        more = replace(self.tasks[scan.bundle], num_keep=2 * scan.num_keep)
        self.tasks[scan.bundle] = more
        self._lists.pop(scan.bundle, None)
        return more

    def with_files(self, tasks: Sequence[ShardTask], engine: Engine, reporter: Reporter) -> None:
        """Sees that the bytes which shards need of archives without random access are there."""
        needed = {item.image.container for task in tasks for item in task.items}
        todo = []
        for task in self.tasks.values():
            if self._out.reference(task.kept_name) in needed:
                with_files = replace(task, files_needed=True)
                if read_scan(with_files, self._out) is None:
                    self._out.remove(task.name)
                    todo.append(with_files)
        if todo:
            self.scan(todo, engine, reporter)

    def forget_files(self) -> None:
        """Removes the bytes that were kept: the shards have what they need of them."""
        ours = {task.kept_name for task in self.tasks.values()}
        for name in self._out.names(folder_of(self.request.source)):
            if name in ours:
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
        return {"choice": choice, "limits": limits, "codecs": codec_versions()}

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
    return MissingSourceError(
        f"no archive of {request.source} is below the data root {str(data_root)!r}",
        where=f"{known.title}: {known.home}",
        expected=f"its archives as they are published (sa_000000.tar …, {known.num_archives:,} of "
        "them, any part of which will do with --subset), or the folders they unpack to",
        do="get them, or see what a build would cost with --plan",
    )
