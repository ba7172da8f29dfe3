"""Repositories as the Hub keeps them: commits, references, pull requests."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import pairwise, takewhile

from support.hub.blobs import Blobs

COMMIT = re.compile(r"[0-9a-f]{40}")

GIT_ATTRIBUTES = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n"
    for pattern in (
        *("*.7z", "*.arrow", "*.bin", "*.bz2", "*.gz", "*.h5", "*.npy", "*.npz", "*.parquet"),
        *("*.pt", "*.safetensors", "saved_model/**/*", "*.tar.*", "*.tar", "*.tgz", "*.xz"),
        *("*.zip", "*.zst", "*.wav", "*.mp3", "*.bmp", "*.gif", "*.png", "*.tiff"),
        *("*.jpg", "*.jpeg", "*.webp", "*.mp4"),
    )
)
"""What a new repository holds, much like the Hub's own."""


def now() -> str:
    """The time as the Hub writes it."""
    moment = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")


def git_oid(data: bytes) -> str:
    """The name that git gives these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def pointer(sha256: str, size: int) -> bytes:
    """What git holds in the place of a large file."""
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    return text.encode()


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a commit."""

    sha256: str
    size: int
    lfs: bool
    oid: str

    @classmethod
    def regular(cls, blobs: Blobs, data: bytes) -> Entry:
        return cls(blobs.add(data), len(data), False, git_oid(data))

    @classmethod
    def large(cls, sha256: str, size: int) -> Entry:
        return cls(sha256, size, True, git_oid(pointer(sha256, size)))


Files = Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Commit:
    """A whole state of the files, and what it came from."""

    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: Files


@dataclass
class PullRequest:
    """A pull request, or a discussion without changes."""

    num: int
    title: str
    author: str
    status: str
    is_pull_request: bool
    base: str
    created: str = field(default_factory=now)
    merge_commit: str | None = None
    events: list[dict[str, object]] = field(default_factory=list)

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.num}"


class ConflictError(Exception):
    """Both sides changed these files."""


class Repo:
    """One repository."""

    def __init__(self, kind: str, repo_id: str, owner: str, blobs: Blobs, *, private: bool) -> None:
        self.kind = kind
        self.id = repo_id
        self.owner = owner
        self.private = private
        self.gated: str | bool = False
        self.granted: set[str] = set()
        self.created = now()
        self.blobs = blobs
        self.objects: dict[str, Commit] = {}
        self.branches: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.tag_messages: dict[str, str] = {}
        self.pull_heads: dict[str, str] = {}
        self.discussions: dict[int, PullRequest] = {}
        self.lfs: set[str] = set()
        """Large files that were uploaded here, committed or not."""
        first = {".gitattributes": Entry.regular(blobs, GIT_ATTRIBUTES.encode())}
        self.branches["main"] = self.make_commit(None, "initial commit", "", owner, first).oid

    # What a test asks

    @property
    def refs(self) -> dict[str, str]:
        """Every branch, tag and pull request, by name, with its commit."""
        return {**self.branches, **self.tags, **self.pull_heads}

    @property
    def pull_requests(self) -> list[PullRequest]:
        return [d for d in self.discussions.values() if d.is_pull_request]

    def tree(self, ref: str = "main") -> dict[str, tuple[str | None, int]]:
        """Path -> SHA-256 (None of what is no large file) and size."""
        files = self.files(ref)
        return {path: (e.sha256 if e.lfs else None, e.size) for path, e in sorted(files.items())}

    def read(self, ref: str, path: str) -> bytes:
        return self.blobs.read(self.files(ref)[path].sha256)

    def commits(self, ref: str = "main") -> list[Commit]:
        """The newest first."""
        return list(self.history(self.resolve(ref)))

    def grant(self, user: str) -> None:
        """Lets somebody read the files of a gated repository."""
        self.granted.add(user)

    # What the server needs

    def resolve(self, ref: str) -> str:
        """The commit of a branch, tag, pull request or commit; raises KeyError."""
        name = re.sub(r"^refs/(heads|tags)/", "", ref)
        if name in self.refs:
            return self.refs[name]
        if COMMIT.fullmatch(name) and name in self.objects:
            return name
        raise KeyError(ref)

    def files(self, ref: str) -> Files:
        return self.objects[self.resolve(ref)].files

    def history(self, oid: str | None) -> Iterator[Commit]:
        while oid is not None:
            commit = self.objects[oid]
            yield commit
            oid = commit.parent

    def last_change(self, head: str, path: str) -> Commit:
        """The newest commit that changed a file, or anything below a folder."""

        def state(commit: Commit) -> set[tuple[str, Entry]]:
            below = f"{path}/"
            return {i for i in commit.files.items() if i[0] == path or i[0].startswith(below)}

        commits = list(self.history(head))
        for newer, older in pairwise(commits):
            if state(newer) != state(older):
                return newer
        return commits[-1]

    def make_commit(
        self, parent: str | None, title: str, message: str, author: str, files: Files
    ) -> Commit:
        """Adds a commit that no reference points to yet."""
        date = now()
        listing = "\n".join(f"{path} {entry.oid}" for path, entry in sorted(files.items()))
        text = "\0".join([str(len(self.objects)), parent or "", title, author, date, listing])
        oid = hashlib.sha1(text.encode()).hexdigest()
        commit = Commit(oid, parent, title, message, author, date, dict(files))
        self.objects[oid] = commit
        self.lfs |= {entry.sha256 for entry in files.values() if entry.lfs}
        return commit

    def move(self, ref: str, oid: str) -> None:
        """Points a branch or pull request at a commit."""
        name = ref.removeprefix("refs/heads/")
        heads = self.pull_heads if name.startswith("refs/pr/") else self.branches
        heads[name] = oid

    def discuss(self, title: str, author: str, *, pull_request: bool, status: str) -> PullRequest:
        """Opens a discussion; a pull request begins where `main` is."""
        num = len(self.discussions) + 1
        base = self.branches["main"]
        discussion = PullRequest(num, title, author, status, pull_request, base)
        self.discussions[num] = discussion
        if pull_request:
            self.pull_heads[discussion.ref] = base
        return discussion

    def conflicts(self, pull: PullRequest) -> list[str]:
        """Files that `main` and the pull request changed differently."""
        base, theirs = self.objects[pull.base].files, self.files(pull.ref)
        ours = self.files("main")
        return [
            path
            for path in sorted({*base, *theirs, *ours})
            if base.get(path) != theirs.get(path)
            and ours.get(path) not in (base.get(path), theirs.get(path))
        ]

    def merge(self, pull: PullRequest, author: str) -> Commit:
        """Puts what a pull request changed on `main` as one commit."""
        if conflicts := self.conflicts(pull):
            raise ConflictError(", ".join(conflicts))
        base, theirs = self.objects[pull.base].files, self.files(pull.ref)
        merged = dict(self.files("main"))
        for path in {*base, *theirs}:
            if base.get(path) != theirs.get(path):
                if path in theirs:
                    merged[path] = theirs[path]
                else:
                    merged.pop(path, None)
        title = f"{pull.title} (#{pull.num})"
        own = takewhile(lambda c: c.oid != pull.base, self.history(self.pull_heads[pull.ref]))
        text = "\n".join(f"- {commit.title} ({commit.oid})" for commit in reversed(list(own)))
        commit = self.make_commit(self.branches["main"], title, text, author, merged)
        self.move("main", commit.oid)
        pull.status, pull.merge_commit = "merged", commit.oid
        return commit
