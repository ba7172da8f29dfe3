"""Archives of the sources from where their packers have put them, verified, below the data root."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hqdata.catalogue.manifest import Sha256, ShortName
from hqdata.catalogue.registry import find_set
from hqdata.errors import BusyError, CancelledError, InterruptedBuildError, UserError, nearest
from hqdata.files import no_room
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
from hqdata.hub.remote import Hub, check_repo_id
from hqdata.progress import InMebibytes, Reporter, Silent
from hqdata.resources import manifests_dir
from hqdata.threads import ShouldStop, Tick, in_threads
from hqdata.yaml_files import explain, read_yaml

STATE = ".hqdata-fetch"
"""Folder below the data root for what has not arrived whole; hidden, so no source is looked for in
it.
"""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReleaseArchive(_Model):
    """One file of a release: where it is in the repository, its digest, and which sets it holds."""

    path: str = Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$")
    num_bytes: int = Field(gt=0)
    sha256: Sha256
    holds: tuple[ShortName, ...] = Field(min_length=1)

    @property
    def name(self) -> str:
        """The file's name, below the data root too."""
        return PurePosixPath(self.path).name


class Release(_Model):
    """The content of `manifests/releases/<name>.yaml`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str = Field(min_length=1)
    release: str = Field(min_length=1, description="as the sources' manifests call it")
    repo_id: str
    repo_type: Literal["model", "dataset"]
    page: str = Field(pattern=r"^https://\S+$")
    archives: tuple[ReleaseArchive, ...] = Field(min_length=1)

    @field_validator("repo_id")
    @classmethod
    def _is_repo_id(cls, value: str) -> str:
        try:
            return check_repo_id(value)
        except UserError as error:
            raise ValueError(str(error)) from error


def _folder() -> Path:
    return manifests_dir() / "releases"


def release_names() -> list[str]:
    """Names of the releases that are known."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def find_release(name: str) -> Release:
    """A release by name.

    Raises:
        UserError: there is no such release; the message shows the nearest name.
    """
    known = release_names()
    if name not in known:
        raise UserError(
            f"there is no release {name!r}{nearest(name, known)}",
            expected="one of " + ", ".join(known),
        )
    return load_release(_folder() / f"{name}.yaml")


def load_release(path: Path) -> Release:
    """The checked release in one YAML file.

    Raises:
        UserError: the file is no valid release.
    """
    try:
        return Release.model_validate(read_yaml(path, "a release"))
    except ValidationError as error:
        raise UserError(
            "the release is not valid", where=path, expected=explain(error, Release)
        ) from error


def terms(archive: ReleaseArchive) -> list[str]:
    """What an archive holds and under which terms, a line each: information, not legal advice."""
    lines = []
    for name in archive.holds:
        found = find_set(name)
        link = f", {found.licence.url}" if found.licence.url else ""
        lines.append(f"{found.short_name}: {found.title}: {found.licence.name}{link}")
    return lines


@dataclass(frozen=True, slots=True)
class Wanted:
    """An archive that is wanted; `found` is where it is already, verified, or None."""

    archive: ReleaseArchive
    job: Job
    found: Path | None


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """What there is of a release, and what is to be fetched."""

    release: Release
    data_root: Path
    wanted: tuple[Wanted, ...]

    @property
    def missing(self) -> list[Job]:
        """What is to be fetched."""
        return [item.job for item in self.wanted if item.found is None]

    @property
    def parts(self) -> Path:
        """Where bytes gather."""
        return self.data_root / STATE

    @property
    def bytes_to_come(self) -> int:
        """Bytes of what is to be fetched, without those that an earlier run got."""
        got = (job.part(self.parts) for job in self.missing)
        return total_bytes(self.missing) - sum(p.stat().st_size for p in got if p.exists())


def look(
    release: Release,
    data_root: Path,
    *,
    only: Sequence[str] = (),
    workers: int = 3,
    reporter: Reporter | None = None,
) -> FetchPlan:
    """Looks what of a release is below the data root; asks nothing of the Hub.

    Args:
        release: what is wanted.
        data_root: folder for the archives.
        only: names of archives; all if empty.
        workers: files that are read at once.
        reporter: is told the progress.

    Raises:
        UserError: a name that the release does not have, or another file of the same name lies in
            the way.
    """
    names = [archive.name for archive in release.archives]
    for name in only:
        if name not in names:
            raise UserError(
                f"{release.name} has no archive {name!r}{nearest(name, names)}",
                expected="one of " + ", ".join(names),
            )
    chosen = [archive for archive in release.archives if not only or archive.name in only]
    if data_root.exists() and not data_root.is_dir():
        raise UserError(
            "the data root is a file, not a folder",
            where=data_root,
            do="give a folder with --data-root",
        )
    jobs = [
        (archive, Job(archive.path, archive.num_bytes, archive.sha256, path))
        for archive in chosen
        for path in _places(data_root, archive)
    ]
    reporter = InMebibytes(reporter or Silent())
    there: list[bool] = []
    if jobs:
        candidates = [job for _, job in jobs]
        reporter.start("checking what is there", total_bytes(candidates), "MiB")
        there = in_threads(is_there, candidates, workers=workers, reporter=reporter)
        reporter.finish()
    found = {archive.name: job.target for (archive, job), ok in zip(jobs, there, strict=True) if ok}
    wanted = []
    for archive in chosen:
        target = data_root / archive.name
        if archive.name not in found and os.path.lexists(target):
            raise UserError(
                f"another file of the name {archive.name} lies in the way",
                where=target,
                expected=f"SHA-256 {archive.sha256}, {archive.num_bytes:,} bytes",
                do="move it away, or leave this one out: "
                + f"--only {','.join(name for name in names if name != archive.name)}",
            )
        job = Job(archive.path, archive.num_bytes, archive.sha256, target)
        wanted.append(Wanted(archive, job, found.get(archive.name)))
    return FetchPlan(release, data_root, tuple(wanted))


def _places(data_root: Path, archive: ReleaseArchive) -> list[Path]:
    """Files of its name and size, at any depth: a second copy would be a question to a build."""
    return [
        path
        for path in sorted(data_root.rglob(archive.name))
        if path.is_file() and path.stat().st_size == archive.num_bytes
    ]


def fetch_missing(
    hub: Hub,
    plan: FetchPlan,
    *,
    workers: int = 3,
    reporter: Reporter | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Fetches what is missing; stopped anywhere and called again, it goes on.

    Raises:
        UserError: no room for it, or the repository has other files by now.
        BusyError: another process is at it.
        HubError: the Hub refuses, cannot be reached, or sends other bytes.
        InterruptedBuildError: the disk became full, or stopped by the user.
    """
    if not plan.missing:
        return
    reporter = InMebibytes(reporter or Silent())
    try:
        _hold_against_room(plan)
        release = plan.release
        snapshot = open_snapshot(hub, release.repo_id, release.repo_type, None)
        _hold_against_listing(snapshot, plan)
        with _claim(plan.parts):
            reporter.start(
                f"fetching {len(plan.missing)} archives", total_bytes(plan.missing), "MiB"
            )

            def work(job: Job, tick: Tick, should_stop: ShouldStop) -> None:
                fetch(snapshot, job, plan.parts, tick=tick, should_stop=should_stop, tell=tell)
                tell(f"{job.target}: there and verified")

            in_threads(work, plan.missing, workers=workers, reporter=reporter)
            reporter.finish()
            remove_parts([item.job for item in plan.wanted], plan.parts)
    except OSError as error:
        if no_room(error, plan.data_root) is None:
            raise UserError(
                f"cannot read or write a file: {error.strerror or error}",
                where=error.filename or plan.data_root,
                do="mend that, or choose another --data-root, and run the same command again",
            ) from error
        raise InterruptedBuildError(
            f"no room left to write ({error.strerror})",
            where=plan.data_root,
            do="free some space and run the same command again: what has arrived is kept",
        ) from error
    except KeyboardInterrupt:
        raise CancelledError(
            "stopped",
            where=plan.data_root,
            do="run the same command again to go on: what has arrived is kept",
        ) from None


def _hold_against_room(plan: FetchPlan) -> None:
    plan.data_root.mkdir(parents=True, exist_ok=True)
    needed, free = plan.bytes_to_come, shutil.disk_usage(plan.data_root).free
    if needed > free:
        raise UserError(
            f"{needed / 2**30:.1f} GiB are to be fetched, {free / 2**30:.1f} GiB are free",
            where=plan.data_root,
            do="free some space, choose another --data-root, or take some of it with --only",
        )


def _hold_against_listing(snapshot: Snapshot, plan: FetchPlan) -> None:
    listed = snapshot.files([job.path for job in plan.missing])
    for job in plan.missing:
        file = listed.get(job.path)
        if (
            file is None
            or file.size != job.num_bytes
            or (file.lfs and file.lfs.sha256 != job.sha256)
        ):
            found = "no longer there" if file is None else f"another file, {file.size:,} bytes"
            raise UserError(
                f"{job.path} on the Hub is {found}",
                where=f"{snapshot.url} at {snapshot.commit[:12]}",
                expected=f"SHA-256 {job.sha256}, {job.num_bytes:,} bytes",
                do=f"see {plan.release.page}, and take the others with --only; `hqdata sources` "
                "says where else the sources are to be had",
            )


@contextmanager
def _claim(folder: Path) -> Iterator[None]:
    """Holds the folder for this process alone, and removes it at the end if nothing is in it.

    Raises:
        BusyError: another process holds it, or is just removing it.
    """
    busy = BusyError(
        "another hqdata is fetching into this folder",
        where=folder.parent,
        do="wait for it, or choose another --data-root",
    )
    path = folder / "lock"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = open(path, "a", encoding="utf-8")  # noqa: SIM115  # closed below
    except FileNotFoundError:
        raise busy from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        if not _is_at(lock.fileno(), path):
            raise busy
        try:
            yield
        finally:
            with suppress(OSError):
                if [found.name for found in folder.iterdir()] == [path.name]:
                    path.unlink()
                    remove_if_empty(folder)


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is the one at a path: a lock on a removed one keeps nobody out."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
