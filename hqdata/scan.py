"""From a data root to the tree of everything below it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from hqdata.archives import list_archive
from hqdata.errors import UserError
from hqdata.storage import FileRef, Folder, Tree, archive_stem, is_dropping, printable

DEFAULT_DATA_ROOT = Path("data")
"""Where sources are looked for when nobody says where."""


def scan(
    root: Path,
    *,
    on_archive: Callable[[str, int], None] | None = None,
) -> Tree:
    """Lists everything below `root`, looking into archives.

    Args:
        root: the data root, a folder.
        on_archive: called with the path and the size in bytes of each archive before it is listed.

    Raises:
        UserError: `root` is not a folder that can be read.
    """
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
        parts = tuple(map(printable, real_parts))
        plain: dict[str, FileRef] = {}
        base = str(root.joinpath(*real_parts).absolute())  # once a folder: there are 90,000 files
        for name, info in files:
            if archive_stem(name) is None:
                plain[printable(name)] = FileRef(
                    container=f"{base}/{name}",
                    how="file",
                    offset=0,
                    num_bytes=info.st_size,
                    size=info.st_size,
                    crc=-1,
                    stamp=f"{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}",
                )
                continue
            if on_archive is not None:
                on_archive("/".join((*parts, printable(name))), info.st_size)
            list_archive(tree, parts, Path(base) / name)
        if plain:
            tree.folders.append(Folder(parts, (False,) * len(parts), plain))
    tree.folders.sort(key=lambda folder: folder.parts)
    for place, names in lost.items():
        tree.unreadable[place] = (
            f"{len(names):,} links lead nowhere, e.g. {names[0]!r}; was their content fetched?"
        )
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
        for entry in entries:
            if is_dropping(entry.name):
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
            if stat.S_ISDIR(info.st_mode):
                folders.append((*parts, entry.name))
            elif stat.S_ISREG(info.st_mode):
                files.append((entry.name, info))
        yield parts, files
        pending.extend(reversed(folders))
