"""Files of a repository on the Hub, onto this disk: resumed, verified, and only then in place.

`huggingface_hub` finds and signs the way to a file. Its own downloads begin anew in each process,
so the bytes are fetched here: what has arrived stays under the digest that it is to have, and the
next run asks for the rest. Nothing of the remote side is believed: sizes and digests are given.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hqdata.errors import DatasetError, UserError
from hqdata.files import publish, sha256_of
from hqdata.hub.remote import Hub, HubError
from hqdata.threads import ShouldStop, StoppedError, Tick

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

CHUNK = 2**20
TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as lost."""

PATHS_A_REQUEST = 200


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A repository as it is at one commit.

    Attributes:
        hub: the Hub it is on.
        repo_id: `owner/name`.
        repo_type: `dataset` or `model`.
        commit: the commit that everything is read at.
    """

    hub: Hub
    repo_id: str
    repo_type: str
    commit: str

    @property
    def url(self) -> str:
        """Its page, for people."""
        prefix = "" if self.repo_type == "model" else f"{self.repo_type}s/"
        return f"{self.hub.endpoint}/{prefix}{self.repo_id}"

    def files(self, paths: Sequence[str]) -> dict[str, RepoFile]:
        """What the repository says of these files; those it has not are left out.

        Raises:
            HubError: see `Hub.call`.
        """
        from huggingface_hub.hf_api import RepoFile

        found: dict[str, RepoFile] = {}
        for begin in range(0, len(paths), PATHS_A_REQUEST):
            some = self.hub.call(
                f"listing files of {self.repo_id}",
                self.hub.api.get_paths_info,
                self.repo_id,
                list(paths[begin : begin + PATHS_A_REQUEST]),
                revision=self.commit,
                repo_type=self.repo_type,
            )
            found |= {item.path: item for item in some if isinstance(item, RepoFile)}
        return {path: found[path] for path in paths if path in found}

    def read(self, file: RepoFile, max_bytes: int) -> bytes:
        """The bytes of a small file, held against its digest in the repository.

        Raises:
            DatasetError: it is larger than `max_bytes`.
            HubError: see `Hub.call`, or other bytes came twice.
        """
        if file.size > max_bytes:
            raise DatasetError(
                f"{file.path} has {file.size:,} bytes",
                where=self.url,
                expected=f"at most {max_bytes:,}",
            )
        for _ in range(2):
            data = self.hub.call(f"fetching {file.path}", self._read, file)
            if _is_what_git_has(data, file):
                return data
        raise HubError(
            f"{file.path} arrives with other bytes than the repository lists, twice",
            where=self.url,
            do="run the same command again later",
        )

    def _read(self, file: RepoFile) -> bytes:
        data = bytearray()
        with self._stream(file.path, 0) as response:
            for chunk in response.iter_bytes(CHUNK):
                data += chunk
                if len(data) > file.size:
                    break
        return bytes(data)

    @contextmanager
    def _stream(self, path: str, begin: int) -> Iterator[Any]:
        """The answer to a request for a file's bytes from `begin` on."""
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils import (  # type: ignore[attr-defined]  # documented there
            build_hf_headers,
            hf_raise_for_status,
        )

        url = hf_hub_url(
            self.repo_id,
            path,
            repo_type=self.repo_type,
            revision=self.commit,
            endpoint=self.hub.endpoint,
        )
        headers = build_hf_headers(token=self.hub.api.token, library_name="hqdata")
        headers["Accept-Encoding"] = "identity"  # a range is one of the file's own bytes
        if begin:
            headers["Range"] = f"bytes={begin}-"
        # The client takes the token off where the way leads to another host.
        with get_session().stream(
            "GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True
        ) as response:
            if response.status_code >= 400 and not (begin and response.status_code == 416):
                if int(response.headers.get("Content-Length", CHUNK)) < CHUNK:
                    response.read()  # its words go into the message
                hf_raise_for_status(response)
            yield response


def open_snapshot(hub: Hub, repo_id: str, repo_type: str, revision: str | None) -> Snapshot:
    """The repository at the commit that a branch, tag or other revision is at now.

    Raises:
        UserError: there is no such revision.
        HubError: see `Hub.call`.
    """
    from huggingface_hub.errors import RevisionNotFoundError

    def ask() -> str:
        try:
            info = hub.api.repo_info(repo_id, repo_type=repo_type, revision=revision)
        except RevisionNotFoundError as error:
            raise UserError(
                f"{repo_id} has no revision {revision!r}",
                where=hub.endpoint,
                expected="a branch, a tag, a commit, or refs/pr/NUMBER",
                do="leave --revision out for the newest",
            ) from error
        return str(info.sha)

    return Snapshot(hub, repo_id, repo_type, hub.call(f"looking up {repo_id}", ask))


@dataclass(frozen=True, slots=True)
class Job:
    """A file to fetch.

    Attributes:
        path: in the repository.
        num_bytes: that it has to have.
        sha256: that it has to have.
        target: where it goes.
    """

    path: str
    num_bytes: int
    sha256: str
    target: Path

    def part(self, parts: Path) -> Path:
        """Where its bytes gather."""
        return parts / f"{self.sha256}-{sha256_of(self.path.encode())[:8]}.part"


class _OtherSizeError(Exception):
    """The remote file is longer or shorter than it has to be."""


def is_there(
    job: Job, tick: Tick = lambda number: None, should_stop: ShouldStop = lambda: False
) -> bool:
    """Whether the file is in place, whole and undamaged; ticks its bytes.

    Raises:
        StoppedError: `should_stop` said so.
    """
    found = ""
    if job.target.is_file() and job.target.stat().st_size == job.num_bytes:
        found = _digest(job.target, should_stop)
    tick(job.num_bytes)
    return found == job.sha256


def fetch(
    snapshot: Snapshot,
    job: Job,
    parts: Path,
    *,
    tick: Tick = lambda number: None,
    should_stop: ShouldStop = lambda: False,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Fetches a file, goes on with what an earlier run got of it, and puts it in its place.

    Args:
        snapshot: where it comes from.
        job: the file.
        parts: folder on the target's disk in which bytes gather.
        tick: is told how many more bytes are there, those of an earlier run among them.
        should_stop: asked before each piece.
        tell: is given a line when it has to be fetched once more.

    Raises:
        HubError: see `Hub.call`, or other bytes came twice.
        StoppedError: `should_stop` said so.
        OSError: a failure of this machine's, a full disk above all.
    """
    part = job.part(parts)
    parts.mkdir(parents=True, exist_ok=True)
    if _size(part) > job.num_bytes:
        part.unlink()
    tick(_size(part))
    for attempt in (1, 2):
        try:
            while _size(part) < job.num_bytes or not part.exists():
                snapshot.hub.call(
                    f"fetching {job.path}", _more, snapshot, job, part, tick, should_stop
                )
            found = _digest(part, should_stop)
        except _OtherSizeError as error:
            found = str(error)
        if found == job.sha256:
            _flush(part)
            job.target.parent.mkdir(parents=True, exist_ok=True)
            publish(part, job.target)
            return
        tick(-_size(part))
        part.unlink(missing_ok=True)
        if attempt == 1:
            tell(f"{job.path} did not arrive as it should be; fetching it once more")
    raise HubError(
        f"{job.path} is not the file that it should be, twice: found {found}",
        where=snapshot.url,
        expected=f"SHA-256 {job.sha256}, {job.num_bytes:,} bytes",
        do="run the same command again; if it stays so, the file on the Hub is damaged or another: "
        "tell its owner",
    )


def _more(snapshot: Snapshot, job: Job, part: Path, tick: Tick, should_stop: ShouldStop) -> None:
    """Asks for the rest of a file once.

    Returns when it is there, and when the connection broke but more is there than before: then the
    next request is a first try again.
    """
    if should_stop():
        raise StoppedError(job.path)
    begin = before = _size(part)
    with snapshot._stream(job.path, begin) as response, open(part, "ab", buffering=0) as file:
        if should_stop():
            raise StoppedError(job.path)
        if response.status_code == 416:
            raise _OtherSizeError(f"fewer than {begin + 1:,} bytes")
        if begin and not _goes_on(response, begin):
            file.truncate(0)  # all of it comes, from the beginning
            tick(-begin)
            begin = 0
        try:
            # As they come: with a size given, what waits to become that much is lost at a break.
            for chunk in response.iter_bytes():
                if should_stop():
                    raise StoppedError(job.path)
                if begin + len(chunk) > job.num_bytes:
                    raise _OtherSizeError(f"more than {job.num_bytes:,} bytes")
                _write(file, chunk)
                begin += len(chunk)
                tick(len(chunk))
        except Exception as error:
            if begin > before and _broke_off(error):
                return
            raise
    if begin < job.num_bytes:
        raise _OtherSizeError(f"{begin:,} bytes")


def _goes_on(response: Any, begin: int) -> bool:
    asked = str(response.headers.get("Content-Range", "")).replace(" ", "")
    return response.status_code == 206 and asked.startswith(f"bytes{begin}-")


def _broke_off(error: Exception) -> bool:
    """Whether the connection was lost; the HTTP library has had several names."""
    return any(base.__name__ == "TransportError" for base in type(error).__mro__)


def _write(file: Any, chunk: bytes) -> None:
    """All of it: an unbuffered file may take a part, on a disk that is almost full."""
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(path: Path, should_stop: ShouldStop) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            if should_stop():
                raise StoppedError(str(path))
            digest.update(chunk)
    return digest.hexdigest()


def _is_what_git_has(data: bytes, file: RepoFile) -> bool:
    if file.lfs is not None:
        return len(data) == file.size and sha256_of(data) == file.lfs.sha256
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
    return len(data) == file.size and blob.hexdigest() == file.blob_id


def total_bytes(jobs: Iterable[Job]) -> int:
    """Bytes of all files."""
    return sum(job.num_bytes for job in jobs)


def remove_parts(jobs: Iterable[Job], parts: Path) -> None:
    """Removes what had arrived of files that are in their places by now, and nothing else."""
    for job in jobs:
        job.part(parts).unlink(missing_ok=True)


def remove_if_empty(folder: Path) -> None:
    """Removes a folder, unless something is in it."""
    with suppress(OSError):
        folder.rmdir()
