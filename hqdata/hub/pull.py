"""A data set from the Hub into a folder, every byte of it held against its manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hqdata.build.folder import (
    publish_manifest,
    remove_shards,
    remove_temporaries,
    stale_shards,
    withdraw_manifest,
)
from hqdata.build.work import sidecar_path
from hqdata.claims import claim
from hqdata.errors import CancelledError, DatasetError, UserError
from hqdata.files import no_room, sha256_file, sha256_of, write_whole
from hqdata.hub.download import (
    Job,
    Snapshot,
    fetch,
    is_there,
    open_snapshot,
    remove_if_empty,
    remove_parts,
    total_bytes,
)
from hqdata.hub.names import CARD_FILE, CERTIFICATE_FILE, CROISSANT_FILE, RECIPE_FILE
from hqdata.hub.remote import Hub, check_repo_id
from hqdata.hub.remote_manifest import hold_against_listing, read_remote_info
from hqdata.progress import InMebibytes, Reporter, Silent
from hqdata.shards.dataset import (
    Dataset,
    DatasetInfo,
    read_info,
    timm_bytes,
)
from hqdata.shards.names import DATASET_FILE, PROBLEMS_FILE, SAMPLES_FILE, STATE_DIR, TIMM_FILE
from hqdata.shards.subset import Manifest, choose, subset, whole
from hqdata.threads import ShouldStop, Tick, in_threads

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

MAX_TABLE_BYTES = 4 * 2**30
MAX_BESIDE_BYTES = 256 * 2**20

MANIFEST = "manifest"
"""Folder in which the tables of all of a data set are kept until the pull is done."""

_BESIDE = (CARD_FILE, CROISSANT_FILE, CERTIFICATE_FILE, RECIPE_FILE)
"""What lies beside a data set on the Hub and comes along."""

_BESIDE_A_PART = (CERTIFICATE_FILE,)
"""What is true of a part, too: a proof of all of it. The others tell of files that a part lacks."""


@dataclass(frozen=True, slots=True)
class PullOptions:
    """What a user may say about a pull.

    Attributes:
        revision: branch, tag or commit; None for the newest.
        include: only these sources; all if empty.
        exclude: without these.
        workers: files at once.
        prune: remove shards of sources that this pull does not take; let a complete data set
            shrink.
    """

    revision: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    workers: int = 4
    prune: bool = False


@dataclass(frozen=True, slots=True)
class PullResult:
    """What a pull did.

    Attributes:
        info: the content of `dataset.json`, of what was taken.
        url: page of the repository.
        commit: what it was read at.
        num_fetched, bytes_fetched: shards that came in this run.
        num_kept: shards that were there already.
        left_out: sources of the repository that were not taken.
    """

    info: DatasetInfo
    url: str
    commit: str
    num_fetched: int
    bytes_fetched: int
    num_kept: int
    left_out: tuple[str, ...]


def pull(
    hub: Hub,
    repo_id: str,
    out: Path,
    options: PullOptions | None = None,
    *,
    reporter: Reporter | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> PullResult:
    """Fetches a data set; stopped anywhere and called again, it goes on.

    Args:
        hub: where it is.
        repo_id: `owner/name` of the data set on the Hub.
        out: folder for it, as of `hqdata build`; nothing is written outside of it.
        options: see `PullOptions`.
        reporter: is told the progress.
        tell: is given a line of text for each thing worth knowing.

    Raises:
        UserError: a name that is no source of it, a folder that is not ours, a data set without
            pictures.
        DatasetError: it is no data set of ours, or one that does not agree with itself.
        HubError: the Hub refuses, cannot be reached, or sends other bytes.
        InterruptedBuildError: no room, or stopped by the user.
    """
    options = options or PullOptions()
    reporter = reporter or Silent()
    try:
        snapshot = open_snapshot(hub, check_repo_id(repo_id), "dataset", options.revision)
        tell(f"{repo_id} is at commit {snapshot.commit[:12]}")
        listed = snapshot.files([DATASET_FILE, SAMPLES_FILE, PROBLEMS_FILE, *_BESIDE])
        info = read_remote_info(snapshot, listed)
        keep = choose(info, options.include, options.exclude)
        hold_against_listing(snapshot, info, listed, out)
        with claim(out):
            remove_temporaries(out)
            work = _Pull(snapshot, out, options, reporter, tell)
            return work.run(info, keep, listed)
    except OSError as error:
        raise no_room(error, out) or UserError(
            f"cannot read or write a file: {error.strerror or error}",
            where=error.filename or out,
            do="mend that, or choose another --out, and run the same command again",
        ) from error
    except KeyboardInterrupt:
        raise CancelledError(
            "stopped",
            where=out,
            do="run the same command again to go on: what has arrived is kept",
        ) from None


class _Pull:
    """One pull into a folder that is claimed."""

    def __init__(
        self,
        snapshot: Snapshot,
        out: Path,
        options: PullOptions,
        reporter: Reporter,
        tell: Callable[[str], None],
    ) -> None:
        self.snapshot, self.out, self.options = snapshot, out, options
        self.reporter, self.tell = InMebibytes(reporter), tell
        self.state = out / STATE_DIR / "hub"
        self.parts = self.state / "parts"

    def run(self, info: DatasetInfo, keep: list[str], listed: Mapping[str, RepoFile]) -> PullResult:
        manifest = self.manifest(info, keep, listed)
        taken = manifest.info
        splits = [(source, split) for source, found in taken.sources.items() for split in found]
        wanted = {shard.path for shard in taken.shards}
        stale = stale_shards(self.out, wanted, splits, prune=self.options.prune)
        self.refuse_to_shrink(taken)
        jobs = [
            Job(shard.path, shard.num_bytes, shard.sha256, self.out / shard.path)
            for shard in taken.shards
        ]
        missing = self.missing(jobs)
        if missing:
            withdraw_manifest(self.out)
            self.fetch(missing)
        if stale:
            self.tell(f"removing {len(stale)} shards of an earlier data set, e.g. {stale[0]}")
            remove_shards(self.out, stale)
        left_out = tuple(source for source in info.sources if source not in keep)
        self.put_beside(_BESIDE_A_PART if left_out else _BESIDE, listed)
        publish_manifest(self.out, manifest.files())
        self.tidy(jobs, is_all=not left_out)
        return PullResult(
            taken,
            self.snapshot.url,
            self.snapshot.commit,
            len(missing),
            total_bytes(missing),
            len(jobs) - len(missing),
            left_out,
        )

    def manifest(
        self, info: DatasetInfo, keep: list[str], listed: Mapping[str, RepoFile]
    ) -> Manifest:
        """The manifest of the sources that are wanted, from the verified files of all of them."""
        folder = self.state / MANIFEST
        folder.mkdir(parents=True, exist_ok=True)
        digests = {SAMPLES_FILE: info.samples_sha256, PROBLEMS_FILE: info.problems_sha256}
        for name, digest in digests.items():
            job = Job(name, listed[name].size, digest, folder / name)
            if job.num_bytes > MAX_TABLE_BYTES:
                raise DatasetError(
                    f"{name} has {job.num_bytes:,} bytes",
                    where=self.snapshot.url,
                    expected=f"at most {MAX_TABLE_BYTES:,}",
                )
            if is_there(job):
                continue
            if is_there(Job(name, job.num_bytes, digest, self.out / name)):
                shutil.copyfile(self.out / name, job.target)
            else:
                fetch(self.snapshot, job, self.parts, tell=self.tell)
        (folder / TIMM_FILE).write_bytes(timm_bytes(info.shards))
        (folder / DATASET_FILE).write_bytes(info.to_bytes())
        dataset = Dataset.open(folder)
        if len(dataset) != info.num_samples:
            raise DatasetError(
                f"{SAMPLES_FILE} has {len(dataset):,} rows, {DATASET_FILE} says "
                f"{info.num_samples:,}",
                where=self.snapshot.url,
                do="tell its owner; another --revision may be whole",
            )
        everything = set(keep) == set(info.sources)
        return whole(dataset) if everything else subset(dataset, keep)

    def refuse_to_shrink(self, taken: DatasetInfo) -> None:
        """Keeps a data set from being replaced by another, a complete one by less of the same."""
        try:
            before = read_info(self.out)
        except DatasetError:
            return
        if self.options.prune:
            return
        if before.name != taken.name:
            raise UserError(
                f"the folder holds another data set, {before.name!r}, and the one on the Hub is "
                f"{taken.name!r}",
                where=self.out,
                do="choose another --out, or replace the data set with --prune",
            )
        if not before.complete:
            return
        for source, splits in taken.sources.items():
            for split, counts in splits.items():
                old = before.sources.get(source, {}).get(split)
                if old is None or counts.built + counts.dropped >= old.built + old.dropped:
                    continue
                raise UserError(
                    f"the complete data set here has {old.built:,} samples of {source} {split}, "
                    f"the one on the Hub has {counts.built:,}",
                    where=self.out,
                    do="choose another --out, or replace the data set with --prune",
                )

    def missing(self, jobs: list[Job]) -> list[Job]:
        """What is not there, or not as it should be."""
        there = [job for job in jobs if job.target.exists()]
        kept: set[str] = set()
        if there:
            self.reporter.start("checking what is there", total_bytes(there), "MiB")
            found = in_threads(
                is_there, there, workers=self.options.workers, reporter=self.reporter
            )
            self.reporter.finish()
            kept = {job.path for job, ok in zip(there, found, strict=True) if ok}
            self.tell(f"{len(kept)} of {len(jobs)} shards are there and unchanged")
        return [job for job in jobs if job.path not in kept]

    def fetch(self, jobs: list[Job]) -> None:
        """Fetches shards, the largest first."""
        total = total_bytes(jobs)
        free = shutil.disk_usage(self.out).free
        if total > free:
            self.tell(
                f"warning: {total / 2**30:.1f} GiB will be written, {free / 2**30:.1f} GiB are "
                f"free in {self.out}"
            )
        for job in jobs:
            # From here on the sidecar of a build would describe a shard that is about to go.
            sidecar_path(self.out, job.path).unlink(missing_ok=True)
        self.reporter.start(f"fetching {len(jobs)} shards", total, "MiB")

        def work(job: Job, tick: Tick, should_stop: ShouldStop) -> None:
            fetch(
                self.snapshot, job, self.parts, tick=tick, should_stop=should_stop, tell=self.tell
            )

        costly_first = sorted(jobs, key=lambda job: (-job.num_bytes, job.path))
        in_threads(work, costly_first, workers=self.options.workers, reporter=self.reporter)
        self.reporter.finish()

    def tidy(self, jobs: list[Job], *, is_all: bool) -> None:
        """Removes what is no longer needed to go on.

        What has arrived of sources that this pull leaves out is kept for one that takes them.
        """
        if is_all:
            shutil.rmtree(self.state, ignore_errors=True)
            return
        shutil.rmtree(self.state / MANIFEST, ignore_errors=True)
        remove_parts(jobs, self.parts)
        remove_if_empty(self.parts)
        remove_if_empty(self.state)

    def put_beside(self, names: Collection[str], listed: Mapping[str, RepoFile]) -> None:
        """Puts the card and its like beside the data set, but never over a file of the user's."""
        record = _Record(self.out / STATE_DIR / "pulled.json")
        for name in _BESIDE:
            path = self.out / name
            there = sha256_file(path) if path.is_file() else None
            ours = there is not None and record.has(name, there)
            if name not in names or name not in listed:
                if ours:
                    path.unlink()  # of an earlier pull; it would not be true of this one
                continue
            data = self.snapshot.read(listed[name], MAX_BESIDE_BYTES)
            if there == sha256_of(data):
                continue
            if there is not None and not ours:
                self.tell(
                    f"{path} is not from the Hub and stays; its own is at {self.snapshot.url}"
                )
                continue
            record.add(name, sha256_of(data))
            write_whole(path, data)


class _Record:
    """Which files a pull has put beside a data set: these it may replace or remove."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._digests: dict[str, list[str]] = json.loads(path.read_bytes())
        except (OSError, ValueError):
            self._digests = {}

    def has(self, name: str, sha256: str) -> bool:
        return sha256 in self._digests.get(name, ())

    def add(self, name: str, sha256: str) -> None:
        """Remembers a file that is about to be written."""
        if not self.has(name, sha256):
            self._digests.setdefault(name, []).append(sha256)
            write_whole(self._path, json.dumps(self._digests, sort_keys=True).encode())
