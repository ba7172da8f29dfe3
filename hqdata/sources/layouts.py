"""Finding the folders of a layout in a tree, wherever they lie.

A pattern such as `DIS-TR/im/*` matches a folder whose path ends in `DIS-TR/im`, at any depth,
ignoring case. Archives count as folders named after them, or as no folder at all, because people
unpack both ways; repeated names (`fewshot_data/fewshot_data`) count once. The folders before the
match are its anchor: images and masks belong together when their anchors are the same.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hqdata.catalogue.manifest import SplitLayout
from hqdata.storage import Folder, Tree, archive_stem, suffix_of

Anchor = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FolderGroup:
    """The folders that one pattern matches at one place: one, or one a class.

    Attributes:
        folders: (class name or "", folder), sorted by class.
        home: path below the data root of the place the match begins in.
        archive: the archive it lies in, or "".
        anchors: the ways in which the path before the match can be read.
        upstream: for each folder its path in the release, as the pattern spells it.
    """

    folders: tuple[tuple[str, Folder], ...]
    home: str
    archive: str
    anchors: frozenset[Anchor]
    upstream: tuple[str, ...]

    @property
    def where(self) -> str:
        """The place as one would say it."""
        paths = [folder.path for _, folder in self.folders]
        if len(paths) == 1:
            return paths[0]
        return f"{posixpath.commonpath(paths) or '.'} ({len(paths)} folders)"


@dataclass(frozen=True, slots=True)
class Match:
    """One place where one split was found in one layout. `masks` is None if only images are
    there.
    """

    layout: str
    spec: SplitLayout
    images: FolderGroup
    masks: FolderGroup | None

    @property
    def where(self) -> str:
        """The images' place, and the masks' if that is another: `DIS5K.zip/DIS-TR/{im,gt}`."""
        here = self.images.where
        if self.masks is None or self.masks.where == here:
            return here
        there = self.masks.where
        shared = posixpath.commonpath([here, there])
        if not shared:
            return f"{here} + {there}"
        return f"{shared}/{{{posixpath.relpath(here, shared)},{posixpath.relpath(there, shared)}}}"

    @property
    def identity(self) -> tuple[str, ...]:
        """Equal for two readings of the same folders on disk."""
        groups = (self.images,) if self.masks is None else (self.images, self.masks)
        return tuple(folder.path for group in groups for _, folder in group.folders)


class TreeIndex:
    """A tree with its folders indexed by the last component of their paths, for pattern search."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._readings = {id(f): tuple(_readings(f)) for f in tree.folders}
        self._by_last: dict[str, list[Folder]] = defaultdict(list)
        for folder in tree.folders:
            for last in {r.names[-1] for r in self._readings[id(folder)] if r.names}:
                self._by_last[last].append(folder)

    def groups(self, pattern: str) -> list[FolderGroup]:
        """Every place where the pattern's folders hold at least one file of the wanted kind."""
        *spelt, wanted = pattern.split("/")
        # Readings have repeated names once, so a pattern has too.
        levels = [
            level
            for level, before in zip(spelt, ["", *spelt], strict=False)
            if level.casefold() != before.casefold()
        ]
        if not levels:  # a file in the data root itself
            pool = [folder for folder in self.tree.folders if not folder.parts]
        elif levels[-1] == "{class}":
            pool = self.tree.folders
        else:
            pool = self._by_last.get(levels[-1].casefold(), [])
        found: dict[tuple[str, str], list[_Hit]] = defaultdict(list)
        for folder in pool:
            if not any(accepts(wanted, name) for name in folder.files):
                continue
            for hit in self._hits(folder, levels):
                found[(hit.home, folder.archive)].append(hit)
        return [_group(home, archive, hits) for (home, archive), hits in sorted(found.items())]

    def _hits(self, folder: Folder, levels: list[str]) -> Iterator[_Hit]:
        for reading in self._readings[id(folder)]:
            start = len(reading.names) - len(levels)
            if start < 0:
                continue
            class_name = ""
            for level, name, index in zip(
                levels, reading.names[start:], reading.indices[start:], strict=True
            ):
                if level == "{class}":
                    class_name = folder.parts[index]
                elif level.casefold() != name:
                    break
            else:
                first = reading.indices[start] if levels else 0
                home = "/".join(folder.parts[:first]) or "."
                # The pattern's spelling: the record shall not depend on how a disk spells it.
                upstream = "/".join(class_name if lv == "{class}" else lv for lv in levels)
                yield _Hit(folder, class_name, home, reading.names[:start], upstream)

    def find(self, spec: SplitLayout, layout: str) -> list[Match]:
        """Every place where this layout's images lie, with the masks that belong to them."""
        masks = self.groups(spec.masks)
        # Images alone count only where their folder names the set: `images/` could be anyone's.
        specific = spec.images.split("/")[0] == spec.masks.split("/")[0]
        matches: dict[tuple[str, ...], Match] = {}
        for images in self.groups(spec.images):
            fitting = [m for m in masks if m.anchors & images.anchors]
            at_home = [m for m in fitting if (m.archive, m.home) == (images.archive, images.home)]
            same_archive = [m for m in fitting if m.archive == images.archive]
            nothing: list[FolderGroup | None] = [None] if specific else []
            for group in [*(at_home or same_archive or fitting)] or nothing:
                match = Match(layout, spec, images, group)
                matches.setdefault(match.identity, match)
        return list(matches.values())


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way to read a folder's path: folded names, and which real part each one is."""

    names: tuple[str, ...]
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Hit:
    folder: Folder
    class_name: str
    home: str
    anchor: Anchor
    upstream: str


def _readings(folder: Folder) -> Iterator[_Reading]:
    """The path with archives as folders, and without them; repeated names once."""
    seen = set()
    for with_archives in (True, False):
        names: list[str] = []
        indices: list[int] = []
        for i, is_archive in enumerate(folder.is_archive):
            if is_archive and not with_archives:
                continue
            name = _plain(folder, i).casefold()
            if not names or names[-1] != name:
                names.append(name)
                indices.append(i)
        if tuple(names) not in seen:
            seen.add(tuple(names))
            yield _Reading(tuple(names), tuple(indices))


def _plain(folder: Folder, index: int) -> str:
    """The name of one part, an archive's without its suffix."""
    name = folder.parts[index]
    return (archive_stem(name) or name) if folder.is_archive[index] else name


def _group(home: str, archive: str, hits: Iterable[_Hit]) -> FolderGroup:
    folders: dict[str, tuple[str, Folder, str]] = {}
    anchors = set()
    for hit in hits:
        folders.setdefault(hit.folder.path, (hit.class_name, hit.folder, hit.upstream))
        anchors.add(hit.anchor)
    ordered = sorted(folders.values(), key=lambda item: (item[0], item[1].parts))
    return FolderGroup(
        folders=tuple((name, folder) for name, folder, _ in ordered),
        home=home,
        archive=archive,
        anchors=frozenset(anchors),
        upstream=tuple(upstream for _, _, upstream in ordered),
    )


IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"}
)
_JPEG_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe"})


def accepts(wanted: str, name: str) -> bool:
    """Whether a file name fits the last component of a pattern."""
    suffix = suffix_of(name)
    if wanted == "*.jpg":
        return suffix in _JPEG_SUFFIXES
    if wanted == "*.png":
        return suffix == ".png"
    if wanted == "*.txt":
        return suffix == ".txt"
    return suffix in IMAGE_SUFFIXES
