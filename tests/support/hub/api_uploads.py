"""The way of files into a repository: what kind each is, large ones to the store, the commit."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import io
import re
import shutil
import uuid
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote

from support.hub.blobs import PIECE, WrongContentError
from support.hub.cards import check_card
from support.hub.hub import FakeHub
from support.hub.repos import Entry, Repo
from support.hub.wire import Answer, Endpoint, RefusalError, Request, answer_json

LARGE = 10 * 1024 * 1024
"""From this size on no file is kept in git."""

NO_RIGHT = "pass `create_pr=1` as a query parameter to create a Pull Request"
FULL = (
    "Private repository storage limit reached, please upgrade your plan to increase your "
    "private storage limit"
)


def target(request: Request) -> Repo:
    """The repository, if the user may add to the revision of the path or open a pull request."""
    if request.true("create_pr"):
        return request.contributable()
    name = unquote(request.match.get("rev", "main"))
    if name.startswith("refs/pr/"):
        repo = request.contributable()
        user = request.signed_in()
        pulls = [p for p in repo.pull_requests if p.ref == name]
        if pulls and pulls[0].author != user.name and not request.hub.owns(user, repo):
            raise RefusalError(403, "Authorization error.")
        if pulls and pulls[0].status == "merged":
            raise RefusalError(400, f"Pull request {pulls[0].num} is already merged")
        return repo
    return request.writable(NO_RIGHT)


def _patterns(repo: Repo, head: str) -> list[str]:
    entry = repo.objects[head].files.get(".gitattributes")
    text = "" if entry is None else repo.blobs.read(entry.sha256).decode()
    return [line.split()[0] for line in text.splitlines() if "filter=lfs" in line]


def _matches(path: str, pattern: str) -> bool:
    name = path if "/" in pattern else path.rpartition("/")[2]
    return fnmatch.fnmatchcase(name, pattern)


def _is_binary(sample: bytes) -> bool:
    try:
        sample[:-4].decode()
    except UnicodeDecodeError:
        return True
    return b"\0" in sample


def preupload(request: Request) -> Answer:
    repo = target(request)
    head = request.revision(repo)
    data = request.json()
    patterns = _patterns(repo, head)
    ignored = [p for p in data.get("gitIgnore", "").split() if not p.startswith("#")]
    answers = []
    for file in data["files"]:
        path, sample = file["path"], base64.b64decode(file["sample"])
        large = file["size"] > LARGE or _is_binary(sample)
        large = large or any(_matches(path, p) for p in patterns)
        answer: dict[str, object] = {
            "path": path,
            "uploadMode": "lfs" if large else "regular",
            "shouldIgnore": any(_matches(path, p) for p in ignored),
        }
        if entry := repo.objects[head].files.get(path):
            answer["oid"] = entry.sha256 if entry.lfs else entry.oid
        answers.append(answer)
    return answer_json({"files": answers, "commitOid": head})


def refuse_beyond_quota(request: Request, repo: Repo, more: dict[str, int]) -> None:
    """Nobody may have more in private repositories than the quota."""
    quota = request.hub.quota
    if repo.private and quota is not None and request.hub.used(more) > quota:
        raise RefusalError(403, FULL)


# Large files


def batch(request: Request) -> Answer:
    """Says of each large file whether and where it is wanted."""
    repo = request.contributable()
    data = request.json()
    new = {o["oid"]: o["size"] for o in data["objects"] if o["oid"] not in repo.lfs}
    refuse_beyond_quota(request, repo, new)
    hub, place = request.hub, f"{repo.kind}s/{repo.id}"
    several = "multipart" in data.get("transfers", [])
    objects = []
    for wanted in data["objects"]:
        oid, size = wanted["oid"], wanted["size"]
        answer: dict[str, object] = {"oid": oid, "size": size, "authenticated": True}
        if oid in new:
            if several and size > hub.multipart_over:
                upload: dict[str, object] = _parts(hub, place, oid, size)
            else:
                upload = {"href": hub.signed(f"/storage/{place}/{oid}", size=size)}
            url = f"{hub.endpoint}/{place}.git/info/lfs/objects/verify"
            answer["actions"] = {"upload": upload, "verify": {"href": url}}
        objects.append(answer)
    if hub.xet and "xet" in data.get("transfers", []):
        return answer_json({"transfer": "xet", "objects": objects})
    return answer_json({"transfer": "basic", "objects": objects})


def _parts(hub: FakeHub, place: str, oid: str, size: int) -> dict[str, object]:
    upload = uuid.uuid4().hex
    count = -(-size // hub.part_size)
    header = {
        f"{n:05d}": hub.signed(f"/parts/{upload}/{n}", size=min(hub.part_size, size))
        for n in range(1, count + 1)
    }
    url = f"{hub.endpoint}/lfs-complete/{upload}/{place}/{oid}"
    return {"href": url, "header": {"chunk_size": str(hub.part_size), **header}}


def _received(request: Request, sha256: str) -> None:
    """Notes that a large file is there, committed or not."""
    with request.hub.lock:
        request.hub.uploads[sha256] += 1
        key = (request.match["kind"].rstrip("s"), request.match["id"])
        if key in request.hub.repos:
            request.hub.repos[key].lfs.add(sha256)


def put(request: Request) -> Answer:
    """Takes a large file in one go."""
    digest = request.match["sha256"]
    size = int(request.one("size"))
    try:
        request.hub.blobs.receive(request.body, sha256=digest, size=size)
    except WrongContentError as error:
        text = f"The provided checksum does not match what was computed: {error}"
        raise RefusalError(400, text) from None
    _received(request, digest)
    return Answer(200, {"ETag": f'"{digest[:32]}"'})


def _part_path(hub: FakeHub, upload: str, number: str) -> Path:
    folder = hub.folder / "parts" / upload
    folder.mkdir(parents=True, exist_ok=True)
    return folder / number


def put_part(request: Request) -> Answer:
    """Takes a part of a large file."""
    path = _part_path(request.hub, request.match["upload"], request.match["number"])
    digest = hashlib.md5(usedforsecurity=False)
    partial = path.with_suffix(f".{uuid.uuid4().hex}")
    try:
        with open(partial, "wb") as file:
            while piece := request.body.read(PIECE):
                digest.update(piece)
                file.write(piece)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return Answer(200, {"ETag": f'"{digest.hexdigest()}"'})


class _Chain(io.RawIOBase):
    """Several files as one."""

    def __init__(self, files: Iterable[BinaryIO]) -> None:
        self.files = list(files)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # its type is that of the base class
        while self.files:
            if data := self.files[0].read(len(buffer)):
                buffer[: len(data)] = data
                return len(data)
            self.files.pop(0)
        return 0


def complete(request: Request) -> Answer:
    """Puts the parts of a large file together."""
    data = request.json()
    numbers = [str(part["partNumber"]) for part in data["parts"]]
    upload, digest = request.match["upload"], request.match["sha256"]
    paths = (_part_path(request.hub, upload, number) for number in numbers)
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("rb")) for path in paths]
            request.hub.blobs.receive(cast(BinaryIO, _Chain(files)), sha256=digest)
    except (WrongContentError, FileNotFoundError) as error:
        raise RefusalError(400, f"The parts do not make up the file: {error}") from None
    shutil.rmtree(request.hub.folder / "parts" / upload)
    _received(request, digest)
    return answer_json({"success": True})


def verify(request: Request) -> Answer:
    repo = request.contributable()
    data = request.json()
    if data["oid"] not in repo.lfs or repo.blobs.size(data["oid"]) != data["size"]:
        raise RefusalError(404, "Object not found or of another size")
    return answer_json({"message": "OK"})


# Commits


def commit(request: Request) -> Answer:
    """Takes the lines of a commit, the small files in them, and makes it."""
    with request.hub.lock:
        repo = target(request)
        request.revision(repo)
    header: dict[str, Any] = {}
    changes: list[tuple[str, str, Entry | None]] = []
    for line in request.lines():
        key, value = line["key"], line["value"]
        if key == "header":
            header = value
        elif key == "file":
            data = value["content"].encode()
            if value.get("encoding") == "base64":
                data = base64.b64decode(data)
            changes.append((key, value["path"], _small(repo, value["path"], data)))
        elif key == "lfsFile":
            changes.append((key, value["path"], _large(request, repo, value)))
        elif key in ("deletedFile", "deletedFolder"):
            changes.append((key, value["path"], None))
        else:
            raise RefusalError(400, f"Unknown operation: {key}")
    if not header.get("summary"):
        raise RefusalError(400, "A commit needs a summary")
    with request.hub.lock:
        return _commit(request, repo, header, changes)


def _small(repo: Repo, path: str, data: bytes) -> Entry:
    if len(data) > LARGE:
        text = "Your push was rejected because it contains files larger than 10 MiB"
        raise RefusalError(400, f"{text}: {path}")
    if path == "README.md" and (errors := check_card(data.decode())[0]):
        raise RefusalError(400, f"Invalid metadata in README.md: {'; '.join(errors)}")
    return Entry.regular(repo.blobs, data)


def _large(request: Request, repo: Repo, value: dict[str, Any]) -> Entry:
    digest = value["oid"]
    if digest not in repo.lfs:
        text = "Your push was rejected because an LFS pointer pointed to a file that does not exist"
        raise RefusalError(400, f"{text}: {value['path']}")
    size = repo.blobs.size(digest)
    if value.get("size", size) != size:
        raise RefusalError(400, f"The size of {value['path']} is {size}, not {value['size']}")
    return Entry.large(digest, size)


def _commit(
    request: Request,
    repo: Repo,
    header: dict[str, Any],
    changes: list[tuple[str, str, Entry | None]],
) -> Answer:
    head = request.revision(repo)
    if (parent := header.get("parentCommit")) and not head.startswith(parent):
        raise RefusalError(412, "A commit has happened since. Please refresh and try again.")
    if any(key == "lfsFile" for key, _, _ in changes):
        refuse_beyond_quota(request, repo, {})
    files = dict(repo.objects[head].files)
    for key, path, entry in changes:
        if entry is not None:
            files[path] = entry
            continue
        folder = f"{path.rstrip('/')}/" if key == "deletedFolder" else None
        gone = [p for p in files if p == path or (folder and p.startswith(folder))]
        if not gone:
            raise RefusalError(404, "A file with this name doesn't exist", "EntryNotFound")
        for name in gone:
            del files[name]
    user = request.signed_in()
    title, message = header["summary"], header.get("description", "")
    made = repo.make_commit(head, title, message, user.name, files)
    place = f"{request.hub.endpoint}/{'' if repo.kind == 'model' else repo.kind + 's/'}{repo.id}"
    answer = {
        "success": True,
        "commitUrl": f"{place}/commit/{made.oid}",
        "commitOid": made.oid,
        "hookOutput": "",
    }
    ref = unquote(request.match["rev"])
    if request.true("create_pr"):
        pull = repo.discuss(title, user.name, pull_request=True, status="open")
        ref = pull.ref
        answer["pullRequestUrl"] = f"{place}/discussions/{pull.num}"
    elif ref not in repo.refs and not ref.startswith("refs/heads/"):
        raise RefusalError(400, f"{ref} is no branch")
    elif re.sub("^refs/heads/", "", ref) in repo.tags:
        raise RefusalError(400, f"{ref} is a tag")
    repo.move(ref, made.oid)
    return answer_json(answer)


STREAMED: tuple[Endpoint, ...] = (put, put_part, complete, commit)

ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("POST", "/api/REPO/preupload/REV", preupload),
    ("POST", "/api/REPO/commit/REV", commit),
    ("POST", r"/PAGE\.git/info/lfs/objects/batch", batch),
    ("POST", r"/PAGE\.git/info/lfs/objects/verify", verify),
    ("POST", "/lfs-complete/(?P<upload>[0-9a-f]+)/REPO/(?P<sha256>[0-9a-f]{64})", complete),
)
STORAGE_ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("PUT", "/storage/REPO/(?P<sha256>[0-9a-f]{64})", put),
    ("PUT", r"/parts/(?P<upload>[0-9a-f]+)/(?P<number>\d+)", put_part),
)
