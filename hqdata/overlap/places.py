"""Where the pictures of an evaluation set lie, of all the places they could be read from.

Masks do not matter here: a training picture overlaps a photograph, annotated or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from hqdata.catalogue.evaluation import ImageSet, ListFile
from hqdata.catalogue.manifest import SetManifest
from hqdata.catalogue.names import load_names
from hqdata.errors import AmbiguousSourceError
from hqdata.sources.discover import find_list
from hqdata.sources.layouts import FolderGroup, Match, TreeIndex, accepts
from hqdata.sources.pairing import flat, listed_stem
from hqdata.storage import DamagedFileError, FileReader, FileRef, stem_of


@dataclass(frozen=True, slots=True)
class Place:
    """One place that pictures of a set could be read from.

    Attributes:
        layout: name of the layout they lie in.
        group: the folders.
        files: path in the release -> file.
        short: class and file name -> size in bytes: what two copies of one release have in common,
            wherever they lie.
        unlisted: why none of them counts, although they are there.
    """

    layout: str
    group: FolderGroup
    files: Mapping[str, FileRef]
    short: Mapping[str, int]
    unlisted: str = ""

    @property
    def where(self) -> str:
        """The place as one would say it."""
        return self.group.where

    def lies_in(self, within: str) -> bool:
        """Whether all of it lies below a path."""
        wanted = PurePosixPath(within).parts
        return all(folder.parts[: len(wanted)] == wanted for _, folder in self.group.folders)


@dataclass(frozen=True, slots=True)
class Part:
    """What one pattern of a layout came to: its place, or none."""

    pattern: str
    place: Place | None


@dataclass(frozen=True, slots=True)
class _File:
    """A picture: path in the release, class and file name, and where its bytes lie."""

    path: str
    short: str
    ref: FileRef


def _collect(
    group: FolderGroup, pattern: str, *, classes: Iterable[str] = (), within: str = ""
) -> list[_File]:
    """All pictures of a group of folders; no two have the same path."""
    wanted = pattern.rsplit("/", 1)[-1]
    kept = {name.casefold() for name in classes}
    found: dict[str, _File] = {}
    for (class_name, folder), upstream in zip(group.folders, group.upstream, strict=True):
        if kept and class_name.casefold() not in kept:
            continue
        for file_name, ref in sorted(folder.files.items()):
            if not accepts(wanted, file_name):
                continue
            path = f"{within}{upstream}/{file_name}"
            if path in found:  # of folders whose names differ in case alone
                path = f"{folder.path}/{file_name}"
            short = f"{class_name}/{file_name}" if class_name else file_name
            found[path] = _File(path, short, ref)
    return list(found.values())


def _place(layout: str, group: FolderGroup, files: Iterable[_File], unlisted: str = "") -> Place:
    kept = list(files)
    return Place(
        layout,
        group,
        {file.path: file.ref for file in kept},
        {file.short: file.ref.size for file in kept},
        unlisted,
    )


def places_of_split(index: TreeIndex, manifest: SetManifest, split: str) -> list[Place]:
    """Every place of a split of a data set, with or without masks, best layout first."""
    places: list[Place] = []
    seen: set[tuple[str, ...]] = set()
    for name, spec in manifest.layouts_of(split):
        for match in index.find(spec, name):
            folders = tuple(folder.path for _, folder in match.images.folders)
            reading = (spec.images, spec.list or "", *folders)
            if reading in seen:
                continue  # the same pictures with other masks
            seen.add(reading)
            places.append(_place_of_split(index, manifest, split, match))
    return places


def _place_of_split(index: TreeIndex, manifest: SetManifest, split: str, match: Match) -> Place:
    spec = match.spec
    within = f"{spec.within}/" if spec.within else ""
    found = _collect(match.images, spec.images, within=within)
    dropped = {
        flat(defect.file)
        for defect in manifest.defects
        if defect.file is not None and defect.split in (None, split)
    }
    names = manifest.splits[split].names
    kept = set(load_names(names)) if names is not None else None
    listed: set[str] | None = None
    if spec.list is not None:
        lines = find_list(index, match, spec.list)
        if lines is None:
            return _place(match.layout, match.images, (), f"the list {spec.list} is not there")
        listed = {listed_stem(line) for line in lines}

    def belongs(short: str) -> bool:
        if flat(short) in dropped:
            return False
        stem = stem_of(short)
        return (kept is None or stem in kept) and (listed is None or stem in listed)

    return _place(match.layout, match.images, (file for file in found if belongs(file.short)))


def parts_of_image_set(
    index: TreeIndex, image_set: ImageSet, within: str | None
) -> tuple[str, list[Part]]:
    """The layout of an image-only set that most is there of, and a place for each of its patterns.

    Raises:
        AmbiguousSourceError: a pattern could be read from places that hold different pictures.
    """
    readings: list[tuple[str, list[list[Place]]]] = []
    for layout in image_set.layouts:
        of_patterns = []
        for pattern in layout.images:
            places = [
                _place_of_group(layout.name, group, pattern, image_set)
                for group in index.groups(pattern)
            ]
            of_patterns.append(
                [p for p in places if p.files and (within is None or p.lies_in(within))]
            )
        readings.append((layout.name, of_patterns))
    whole = [i for i, (_, places) in enumerate(readings) if all(places)]
    some = [i for i, (_, places) in enumerate(readings) if any(places)]
    if not some:
        return "", []
    if len(image_set.layouts[0].images) == 1 and all(len(x.images) == 1 for x in image_set.layouts):
        # One pattern each: all layouts are readings of the same pictures.
        pool = [place for i in some for place in readings[i][1][0]]
        place = choose_place(image_set.name, pool)
        return place.layout, [Part(image_set.layouts[0].images[0], place)]
    number = (whole or some)[0]
    name, of_patterns = readings[number]
    patterns = image_set.layouts[number].images
    return name, [
        Part(pattern, choose_place(image_set.name, places) if places else None)
        for pattern, places in zip(patterns, of_patterns, strict=True)
    ]


def _place_of_group(layout: str, group: FolderGroup, pattern: str, image_set: ImageSet) -> Place:
    return _place(layout, group, _collect(group, pattern, classes=image_set.classes))


def choose_place(name: str, places: Sequence[Place]) -> Place:
    """The one place to read, where the others hold nothing that it does not.

    Copies in the same layout are the same if names and sizes are. Of copies in different layouts,
    which may have been re-encoded, names are enough: the manifest lists layouts by preference.

    Raises:
        AmbiguousSourceError: two places hold different pictures.
    """
    left = [
        place
        for number, place in enumerate(places)
        if not any(
            _covers(other, place, earlier=rank < number)
            for rank, other in enumerate(places)
            if rank != number
        )
    ]
    if len(left) == 1:
        return left[0]
    option = _option(name, left)
    raise AmbiguousSourceError(
        f"the evaluation set {name} lies in more than one place, with different pictures; which "
        "one shall be read?",
        where="\n".join(f"{p.where} (layout: {p.layout}, {len(p.files):,} pictures)" for p in left),
        do=f"say which with, e.g., {option}, or move the others away"
        if option
        else "move one away",
    )


def _covers(other: Place, place: Place, *, earlier: bool) -> bool:
    """Whether nothing is lost when `other` is read instead of `place`."""
    if other.layout == place.layout:
        lost, gained = (
            place.short.items() - other.short.items(),
            other.short.items() - place.short.items(),
        )
        return not lost and (bool(gained) or earlier)
    mine, theirs = set(place.short), set(other.short)
    return mine < theirs or (mine == theirs and earlier)


def _option(name: str, places: Sequence[Place]) -> str | None:
    """A `--use` option that leaves the first place alone, if a path can tell them apart."""
    first = places[0]
    for depth in range(1, min(len(f.parts) for _, f in first.group.folders) + 1):
        path = "/".join(first.group.folders[0][1].parts[:depth])
        if first.lies_in(path) and not any(other.lies_in(path) for other in places[1:]):
            return f"--use {name}={path}"
    return None


MAX_LISTED = 4_000_000
"""More paths than this and a list is none of an evaluation set."""


def read_listed(index: TreeIndex, listed: ListFile) -> tuple[frozenset[str] | None, str]:
    """(paths that a list file names, where it lies or why it cannot be had).

    The file may lie anywhere, also in an archive. All of its copies are read, because a copy that
    names less would hide pictures.
    """
    reason = f"{listed.file} is not there; it comes from {listed.page}"
    named: set[str] = set()
    places = []
    for folder in index.tree.folders:
        for file_name, ref in folder.files.items():
            if file_name.casefold() != listed.file.casefold():
                continue
            place = f"{folder.path}/{file_name}"
            if ref.how == "listed":
                reason = f"{place} lies in a .tar.gz; unpack it"
                continue
            try:
                with FileReader() as reader:
                    text = reader.read(ref)
            except DamagedFileError as error:
                reason = f"{place} {error}"
                continue
            for found in re.finditer(listed.pattern.encode(), text):
                named.add(found[1].decode("utf-8", "replace"))
                if len(named) > MAX_LISTED:
                    return None, f"{place} names more than {MAX_LISTED:,} pictures"
            places.append(place)
    if not places:
        return None, reason
    if not named:
        return None, f"{places[0]} names no pictures; is it the right file?"
    return frozenset(named), ", ".join(places)
