"""What lies in a repository on the Hub, and how that differs from what should."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hqdata.hub.names import REPO_TYPE
from hqdata.hub.plan import Planned
from hqdata.hub.remote import Hub


@dataclass(frozen=True, slots=True)
class Held:
    """A file as the Hub tells of it.

    Attributes:
        num_bytes: its size.
        sha256: of a large file, None for one that git itself keeps.
        git_blob: SHA-1 that git knows it by; of a large file, that of the pointer to it.
    """

    num_bytes: int
    sha256: str | None
    git_blob: str


def list_files(hub: Hub, repo_id: str, revision: str) -> dict[str, Held]:
    """Every file of a repository at a revision: path -> what the Hub says of it.

    Raises:
        HubError: no such repository or revision, or no right to see it.
    """

    def read() -> dict[str, Held]:
        found = {}
        tree = hub.api.list_repo_tree(
            repo_id, recursive=True, revision=revision, repo_type=REPO_TYPE
        )
        for entry in tree:
            if (blob := getattr(entry, "blob_id", None)) is None:
                continue  # a folder
            lfs = getattr(entry, "lfs", None)
            size = int(getattr(entry, "size", 0) or 0)
            if lfs is not None:
                found[entry.path] = Held(int(lfs.size), str(lfs.sha256), str(blob))
            else:
                found[entry.path] = Held(size, None, str(blob))
        return found

    return hub.call(f"listing {repo_id} at {revision}", read)


def differing(
    files: Iterable[Planned], held: Mapping[str, Held], root: Path
) -> tuple[Planned, ...]:
    """The files that are not there, or not with these bytes."""
    return tuple(file for file in files if not _same(file, held.get(file.path), root))


def _same(file: Planned, held: Held | None, root: Path) -> bool:
    if held is None or held.num_bytes != file.num_bytes:
        return False
    if held.sha256 is not None:
        return held.sha256 == file.sha256
    return held.git_blob == file.git_blob(root)


def stale_files(
    files: Iterable[Planned], held: Mapping[str, Held], ours: Collection[str]
) -> tuple[str, ...]:
    """Files of an earlier push, `ours`, that are still there and that this one does not have."""
    return tuple(sorted(set(ours) & held.keys() - {file.path for file in files}))
