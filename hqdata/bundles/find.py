"""Finding SA-1B's archives and folders below a data root, without opening any."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from hqdata.bundles.names import IMAGE, NOTES, member_of
from hqdata.errors import InterruptedBuildError, UserError
from hqdata.places import PATIENCE
from hqdata.remote.origin import Origin, Stat, is_url
from hqdata.remote.retry import PassingError
from hqdata.storage import is_dropping, printable

_ARCHIVE = re.compile(r"(sa_\d{6})(\.tar|\.tar\.gz|\.tgz)", re.IGNORECASE | re.ASCII)
_UPSTREAM = re.compile(r"sa_\d{6}", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Bundle:
    """An archive of SA-1B, or a folder that one was unpacked to.

    Attributes:
        name: the upstream name, `sa_000020`; of a folder of another name, its path below the data
            root with `_` for `/`.
        where: path below the data root, for people.
        containers: absolute path or URL of the archive, or of the folder.
        kind: which of the two it is.
        size: bytes; of a folder, of its pictures and notes.
        stamp: changes when the bytes may have.
    """

    name: str
    where: str
    containers: tuple[str, ...]
    kind: Literal["archive", "folder"]
    size: int
    stamp: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a folder.

    Attributes:
        name: of the file.
        size: bytes.
        stamp: changes when they do.
    """

    name: str
    size: int
    stamp: str


def find_bundles(root: Path | str) -> list[Bundle]:
    """SA-1B's archives and folders below the data root, by name.

    Links are followed, each real folder once; hidden folders and finished data sets are left out.

    Args:
        root: the data root, a folder or a URL.

    Raises:
        UserError: a folder cannot be read, the storage cannot list, or two have the same name.
    """
    listed = _remote(root) if isinstance(root, str) and is_url(root) else _local(Path(root))
    found: dict[str, Bundle] = {}
    for bundle in sorted(listed, key=lambda bundle: (bundle.name, bundle.where)):
        other = found.setdefault(bundle.name, bundle)
        if other is not bundle:
            raise UserError(
                f"{other.where} and {bundle.where} are both {bundle.name}",
                where=str(root) if isinstance(root, Path) else None,
                expected="each archive once, packed or unpacked",
                do="move one away",
            )
    return list(found.values())


def folder_entries(folder: Path) -> list[Entry]:
    """The pictures and notes in a folder of this machine, by name.

    Raises:
        OSError: the folder cannot be read.
    """
    return _entries(entry for entry in _scanned(folder) if member_of(entry.name) is not None)


def stamp_of(info: os.stat_result) -> str:
    """What tells whether a file of this machine is still the same."""
    return f"{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}"


def _local(root: Path) -> Iterator[Bundle]:
    if not root.is_dir():
        return
    seen: set[tuple[int, int]] = set()
    pending: list[tuple[str, ...]] = [()]
    while pending:
        parts = pending.pop()
        here = root.joinpath(*parts)
        try:
            info = here.stat()
            if (info.st_dev, info.st_ino) in seen:
                continue
            seen.add((info.st_dev, info.st_ino))
            entries = _scanned(here)
            names = {entry.name for entry in entries}
            if ".hqdata" in names or {"dataset.json", "samples.parquet"} <= names:
                continue  # a data set that we built is not one of its own sources
            folders, archives, members = _sorted_out(entries)
            pending.extend((*parts, name) for name in reversed(folders))
            for archive in archives:
                yield _archive_here(here, parts, archive.name, archive.stat())
            if members:
                found = _entries(members)
                place = str(here.absolute())
                yield _folder(root.absolute().name, parts, place, found)
        except OSError as error:
            raise UserError(
                f"cannot look through the folder: {error.strerror}",
                where=here,
                do="check its permissions",
            ) from error


def _scanned(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _sorted_out(
    entries: list[os.DirEntry[str]],
) -> tuple[list[str], list[os.DirEntry[str]], list[os.DirEntry[str]]]:
    """Names of folders, archives, and the pictures and notes if there are both."""
    folders, archives = [], []
    members: list[os.DirEntry[str]] = []
    kinds: set[str] = set()
    for entry in entries:
        if is_dropping(entry.name):
            continue
        member = member_of(entry.name)
        if member is not None:
            kinds.add(member[1])
            members.append(entry)
        elif (info := _info(entry)) is None:
            continue  # `hqdata.scan` tells of links to nowhere
        elif stat.S_ISDIR(info.st_mode):
            folders.append(entry.name)
        elif _ARCHIVE.fullmatch(entry.name) and stat.S_ISREG(info.st_mode):
            archives.append(entry)
    return folders, archives, members if kinds == {IMAGE, NOTES} else []


def _entries(found: list[os.DirEntry[str]] | Iterator[os.DirEntry[str]]) -> list[Entry]:
    entries = []
    for entry in found:
        info = _info(entry)
        if info is not None and stat.S_ISREG(info.st_mode):
            entries.append(Entry(entry.name, info.st_size, stamp_of(info)))
    return entries


def _info(entry: os.DirEntry[str]) -> os.stat_result | None:
    """None for a link to nowhere or in a circle."""
    try:
        return entry.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return None
        raise


def _archive_here(here: Path, parts: tuple[str, ...], name: str, info: os.stat_result) -> Bundle:
    where = "/".join(map(printable, (*parts, name)))
    return _archive(where, str((here / name).absolute()), info.st_size, stamp_of(info))


def _archive(where: str, container: str, size: int, stamp: str) -> Bundle:
    name = where.rpartition("/")[2][: len("sa_000000")].lower()
    return Bundle(name, where, (container,), "archive", size, stamp)


def _folder(root_name: str, parts: tuple[str, ...], place: str, entries: list[Entry]) -> Bundle:
    path = tuple(map(printable, parts))
    last = path[-1] if path else printable(root_name)
    name = last.lower() if _UPSTREAM.fullmatch(last) else "_".join(path) or last or "root"
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(f"{entry.name}\0{entry.stamp}\0".encode("utf-8", "surrogateescape"))
    size = sum(entry.size for entry in entries)
    where = "/".join(path) or "."
    return Bundle(name, where, (place,), "folder", size, digest.hexdigest()[:32])


def remote_entries(folder: str) -> list[Entry]:
    """The pictures and notes in a folder behind a URL, by name.

    Raises:
        UserError, DatasetError, InterruptedBuildError: see `hqdata.remote.origin`.
    """
    return [
        Entry(path, info.size, f"{info.size}:{info.token}")
        for path, info in _walk(Origin(folder))
        if "/" not in path and member_of(path) is not None
    ]


def _walk(origin: Origin) -> list[tuple[str, Stat]]:
    try:
        return PATIENCE.call(lambda: list(origin.walk()))
    except PassingError as error:
        raise InterruptedBuildError(
            f"the storage cannot be reached: {error.reason}",
            where=origin.describe(),
            do="see that it can be, and run the same command again",
        ) from None


def _remote(root: str) -> Iterator[Bundle]:
    origin = Origin(root)
    origin.reference("")  # refuses URLs with secrets: each archive's URL is written down
    left_out: set[str] = set()
    folders: dict[str, list[Entry]] = {}
    archives: list[tuple[str, Stat]] = []
    manifests: dict[str, set[str]] = {}
    for path, info in _walk(origin):
        parts = path.split("/")
        if ".hqdata" in parts:
            left_out.add("/".join(parts[: parts.index(".hqdata")]))
        folder, _, name = path.rpartition("/")
        if name in ("dataset.json", "samples.parquet"):
            manifests.setdefault(folder, set()).add(name)
        if any(is_dropping(part) for part in parts):
            continue
        if _ARCHIVE.fullmatch(name):
            archives.append((path, info))
        elif member_of(name) is not None:
            entry = Entry(name, info.size, f"{info.size}:{info.token}")
            folders.setdefault(folder, []).append(entry)
    left_out |= {folder for folder, names in manifests.items() if len(names) == 2}

    def is_left_out(folder: str) -> bool:
        parts = folder.split("/") if folder else []
        return any("/".join(parts[:depth]) in left_out for depth in range(len(parts) + 1))

    for path, info in archives:
        if not is_left_out(path.rpartition("/")[0]):
            stamp = f"{info.size}:{info.token}"
            yield _archive(path, origin.reference(path), info.size, stamp)
    root_name = urlsplit(root).path.rstrip("/").rpartition("/")[2]
    for folder, entries in folders.items():
        if {kind for _, kind in map(_member_of, entries)} == {IMAGE, NOTES}:
            if is_left_out(folder):
                continue
            names = tuple(folder.split("/")) if folder else ()
            ordered = sorted(entries, key=lambda entry: entry.name)
            yield _folder(root_name, names, origin.reference(folder), ordered)


def _member_of(entry: Entry) -> tuple[int, str]:
    return member_of(entry.name) or (-1, "")
