"""From a data root, a folder or a URL, to the tree of everything below it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from urllib.parse import unquote, urlsplit

from hqdata.archives import list_archive
from hqdata.errors import UserError
from hqdata.remote.origin import Origin, Stat, is_url
from hqdata.remote.patience import outlived
from hqdata.storage import FileRef, Folder, Tree, archive_stem, is_dropping, printable

DEFAULT_DATA_ROOT = Path("data")
"""Where sources are looked for when nobody says where."""


_BUNDLE = re.compile(r"sa_[0-9]{6}(\.tar|\.tar\.gz|\.tgz|\.zip)?", re.IGNORECASE)
_MEMBER = re.compile(r"sa_[0-9]+\.(jpe?g|json)", re.IGNORECASE)


def of_sa_1b(names: Collection[str]) -> Callable[[str], bool]:
    """Tells of the names in one folder which are SA-1B's: archives, folders and members.

    There are eleven million of these, and `hqdata.bundles` knows how to look through them. Pictures
    of such names are left out only where json of such names lie beside them; others are somebody's
    own.
    """
    members = any(
        name.lower().endswith(".json") and _MEMBER.fullmatch(name) is not None for name in names
    )

    def left_out(name: str) -> bool:
        return bool(_BUNDLE.fullmatch(name) or (members and _MEMBER.fullmatch(name)))

    return left_out


def scan(
    root: Path | str,
    *,
    on_archive: Callable[[str, int], None] | None = None,
) -> Tree:
    """Lists everything below `root`, looking into archives; not what is SA-1B's, see `of_sa_1b`.

    Args:
        root: the data root, a folder or a URL.
        on_archive: called with the path and the size in bytes of each archive before it is listed.

    Raises:
        UserError: `root` is not a folder that can be read, or a URL that can be listed.
        InterruptedBuildError: the network fails for too long.
    """
    if isinstance(root, str) and is_url(root):
        parts = urlsplit(root.strip())
        if parts.scheme.lower() not in ("file", "local"):
            return _scan_url(root.strip(), on_archive)
        root = unquote(parts.netloc + parts.path)
    root = Path(root)
    if root == DEFAULT_DATA_ROOT and not root.exists():
        return Tree(root)  # nobody named it and nobody made it: everything is missing
    if not root.is_dir():
        raise UserError(
            f"the data root {str(root)!r} is not a folder",
            expected="the folder that the source data sets lie in",
            do="give it with --data-root or the environment variable HQDATA_ROOT",
        )
    tree = Tree(root)
    lost: dict[str, list[str]] = {}
    for real_parts, files in _walk(root, lost):
        _add_folder(tree, root, real_parts, files, on_archive)
    tree.folders.sort(key=lambda folder: folder.parts)
    for place, names in lost.items():
        tree.unreadable[place] = (
            f"{len(names):,} links lead nowhere, e.g. {names[0]!r}; was their content fetched?"
        )
    return tree


def _add_folder(
    tree: Tree,
    root: Path,
    real_parts: tuple[str, ...],
    files: list[tuple[str, os.stat_result]],
    on_archive: Callable[[str, int], None] | None,
) -> None:
    parts = tuple(map(printable, real_parts))
    plain: dict[str, FileRef] = {}
    base = str(root.joinpath(*real_parts).absolute())  # once a folder: there are 90,000 files
    for name, info in files:
        if archive_stem(name) is None:
            stamp = f"{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}"
            plain[printable(name)] = _whole_file(f"{base}/{name}", info.st_size, stamp)
            continue
        if on_archive is not None:
            on_archive("/".join((*parts, printable(name))), info.st_size)
        list_archive(tree, parts, Path(base) / name)
    if plain:
        tree.folders.append(Folder(parts, (False,) * len(parts), plain))


def _whole_file(container: str, size: int, stamp: str) -> FileRef:
    return FileRef(
        container=container, how="file", offset=0, num_bytes=size, size=size, crc=-1, stamp=stamp
    )


def _scan_url(url: str, on_archive: Callable[[str, int], None] | None) -> Tree:
    origin = Origin(url)
    origin.reference("")  # refuses URLs with secrets: each file's URL is written down
    tree = Tree(origin.describe())
    folders: dict[tuple[str, ...], dict[str, Stat]] = {}
    for name, stat in outlived(lambda: list(origin.walk()), origin.describe()):
        folder, _, file = name.rpartition("/")
        parts = tuple(folder.split("/")) if folder else ()
        folders.setdefault(parts, {})[file] = stat
    if not folders:
        raise UserError(
            "there are no files below the data root",
            where=origin.describe(),
            expected="the URL that the source data sets lie below",
            do="look for a mistyped URL",
        )
    # Data sets that we built are not their own sources, nor is what lies in them.
    ours = {parts[: parts.index(".hqdata")] for parts in folders if ".hqdata" in parts}
    ours |= {p for p, files in folders.items() if {"dataset.json", "samples.parquet"} <= set(files)}
    for parts, files in sorted(folders.items()):
        if any(is_dropping(part) or _BUNDLE.fullmatch(part) for part in parts):
            continue
        if any(parts[:depth] in ours for depth in range(len(parts) + 1)):
            continue
        plain: dict[str, FileRef] = {}
        left_out = of_sa_1b(files)
        for file, stat in files.items():
            if is_dropping(file) or left_out(file):
                continue
            path = "/".join((*parts, file))
            container = origin.reference(path)
            if archive_stem(file) is None:
                plain[file] = _whole_file(container, stat.size, f"{stat.size}:{stat.token}")
                continue
            if on_archive is not None:
                on_archive(path, stat.size)
            list_archive(tree, parts, container)
        if plain:
            tree.folders.append(Folder(parts, (False,) * len(parts), plain))
    tree.folders.sort(key=lambda folder: folder.parts)
    return tree


def _walk(
    root: Path, lost: dict[str, list[str]]
) -> Iterator[tuple[tuple[str, ...], list[tuple[str, os.stat_result]]]]:
    """Folders below `root` in a fixed order, links followed, each real folder once.

    `lost` receives the names of links to nowhere, by folder.
    """
    seen: set[tuple[int, int]] = set()
    pending: list[tuple[str, ...]] = [()]
    while pending:
        parts = pending.pop()
        here = root.joinpath(*parts)
        info = here.stat()
        if (info.st_dev, info.st_ino) in seen:
            continue
        seen.add((info.st_dev, info.st_ino))
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(
                f"cannot read the folder: {error.strerror}", where=here, do="check its permissions"
            ) from error
        names = {entry.name for entry in entries}
        if ".hqdata" in names or {"dataset.json", "samples.parquet"} <= names:
            continue  # a data set that we built is not one of its own sources
        files: list[tuple[str, os.stat_result]] = []
        folders: list[tuple[str, ...]] = []
        left_out = of_sa_1b(names)
        for entry in entries:
            if is_dropping(entry.name) or left_out(entry.name):
                continue
            try:
                info = entry.stat()
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ELOOP):
                    # A link to nowhere, or in a circle: git-annex and DVC leave such behind.
                    place = "/".join(map(printable, parts)) or "."
                    lost.setdefault(place, []).append(printable(entry.name))
                    continue
                raise UserError(
                    f"cannot look at it: {error.strerror}",
                    where=here / entry.name,
                    do="check the permissions of its folder",
                ) from error
            if S_ISDIR(info.st_mode):
                folders.append((*parts, entry.name))
            elif S_ISREG(info.st_mode):
                files.append((entry.name, info))
        yield parts, files
        pending.extend(reversed(folders))
