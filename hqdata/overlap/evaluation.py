"""The evaluation side of a proof: which pictures a training set is held against.

A set is found below the data root, or as a file of fingerprints that somebody made where the
pictures are, or as a folder of one's own. What is not whole says so in `problems`: a proof against
half a set is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hqdata.archives import list_archive
from hqdata.catalogue.evaluation import ImageSet, find_image_set
from hqdata.catalogue.manifest import SetManifest
from hqdata.errors import UserError
from hqdata.overlap.fingerprints import read_summary
from hqdata.overlap.places import (
    Place,
    choose_place,
    parts_of_image_set,
    places_of_split,
    read_listed,
)
from hqdata.overlap.targets import Target, find_target
from hqdata.progress import Reporter
from hqdata.resources import manifests_dir
from hqdata.scan import scan
from hqdata.sources.discover import describe_archive, parse_use
from hqdata.sources.layouts import IMAGE_SUFFIXES, FolderGroup, TreeIndex
from hqdata.storage import FileRef, Tree, suffix_of

_NEVER_PICTURES = frozenset(
    {".txt", ".md", ".rst", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".html"}
    | {".pdf", ".mat", ".npy", ".npz", ".pkl", ".py", ".sh", ".log", ".parquet", ".db", ".ini"}
)
"""What lies beside pictures and is none."""


@dataclass(frozen=True, slots=True)
class EvaluationPicture:
    """One picture of an evaluation set.

    Attributes:
        name: path within the set, as the release spells it; unique in the set.
        ref: where its bytes lie.
    """

    name: str
    ref: FileRef


@dataclass(frozen=True, slots=True)
class EvaluationSource:
    """One evaluation set that was found.

    Attributes:
        set: its name: `dis/validation`, `coco-val2017`, `folder:<path>`.
        where: the place, for people.
        pictures: sorted by name; empty where fingerprints stand in for them.
        fingerprints: the file of fingerprints that is read instead, or None.
        problems: sentences that say why this is not the whole set; a proof against it is
            incomplete.
    """

    set: str
    where: str
    pictures: tuple[EvaluationPicture, ...]
    fingerprints: Path | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """An evaluation set that was not found.

    Attributes:
        set: its name.
        why: what was found instead, or an empty string.
        get: lines that say where it is to be had.
    """

    set: str
    why: str
    get: tuple[str, ...]

    def __str__(self) -> str:
        head = f"{self.set}: {self.why}" if self.why else self.set
        return "\n".join([head, *(f"  {line}" for line in self.get)])


def default_fingerprint_folders() -> tuple[Path, ...]:
    """Where files of fingerprints are looked for: of the working directory, then the package's."""
    here = Path("manifests") / "evaluation"
    ours = manifests_dir() / "evaluation"
    return (ours,) if here.resolve() == ours.resolve() else (here, ours)


def fingerprint_file_name(name: str) -> str:
    """The name of the file of a set's fingerprints: `dis-validation.parquet`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") + ".parquet"


def find_evaluation(
    targets: Sequence[str],
    data_root: Path,
    *,
    fingerprint_folders: Sequence[Path],
    reporter: Reporter,
    use: Sequence[str] = (),
    expect: Mapping[str, int] | None = None,
    subset: bool = False,
) -> tuple[list[EvaluationSource], list[Missing]]:
    """Finds evaluation sets, each by its pictures or by a file of fingerprints.

    Pictures below the data root come first. A file of fingerprints stands in where there are none,
    or where those that are there are not the whole set.

    Args:
        targets: names, folders, archives or files of fingerprints, see
            `hqdata.overlap.targets.find_target`; one set named twice is one.
        data_root: folder below which the sets lie.
        fingerprint_folders: where files of fingerprints lie, the first first.
        reporter: is told of the archives that are looked through.
        use: `SET[/SPLIT]=PATH`, as for a build, where a set lies in several places.
        expect: set -> number of its pictures, instead of the manifest's.
        subset: hold no counts against what is there.

    Raises:
        UserError: an unknown name, a path that is none, an option that does not fit.
        AmbiguousSourceError: a set lies in several places, with different pictures.
    """
    named: dict[str, Target] = {}
    for target in (find_target(text, data_root) for text in targets):
        known = named.setdefault(target.name, target)
        if target.fingerprints is not None and known.folder is None and known.fingerprints is None:
            named[target.name] = target  # a file given for a set of the recipe stands in for it
        elif known.fingerprints is not None and target.folder is None and not target.fingerprints:
            continue
        elif known != target:
            raise UserError(
                f"two different places are both called {target.name!r}",
                expected="one name for one set of pictures",
                do="rename one of the folders, or leave one of them out",
            )
    finder = _Finder(data_root, reporter, dict(expect or {}), subset)
    if any(target.manifest or target.image_set for target in named.values()):
        finder.look_through(use, {target.source for target in named.values()})
    sources: list[EvaluationSource] = []
    missing: list[Missing] = []
    for target in named.values():
        if target.fingerprints is not None:
            sources.append(finder.read_fingerprints(target, target.fingerprints))
            continue
        found = finder.find(target)
        if target.folder is None and (isinstance(found, Missing) or found.problems):
            found = finder.find_fingerprints(target, fingerprint_folders) or found
        if isinstance(found, Missing):
            missing.append(found)
        else:
            sources.append(found)
    return sources, missing


class _Finder:
    """One data root, looked through once."""

    def __init__(
        self, data_root: Path, reporter: Reporter, expect: dict[str, int], subset: bool
    ) -> None:
        self._root = data_root
        self._reporter = reporter
        self._expect = expect
        self._subset = subset
        self._index = TreeIndex(Tree(data_root))
        self._use: dict[str, str] = {}

    def look_through(self, use: Sequence[str], known: set[str]) -> None:
        """Lists everything below the data root."""
        self._use = parse_use(map(_plain_use, use), known, self._root)
        self._index = TreeIndex(_scan(self._root, self._reporter))

    def find(self, target: Target) -> EvaluationSource | Missing:
        """The set by its pictures."""
        if target.folder is not None:
            return self._find_folder(target, target.folder)
        if target.image_set is not None:
            return self._find_image_set(target, target.image_set)
        if target.manifest is None:
            raise ValueError(f"{target.name} is nothing")
        return self._find_split(target, target.manifest)

    def find_fingerprints(self, target: Target, folders: Sequence[Path]) -> EvaluationSource | None:
        """The set by a file of fingerprints, if one of the folders has it."""
        for folder in folders:
            path = folder / fingerprint_file_name(target.name)
            if not path.is_file():
                continue
            found = self.read_fingerprints(target, path)
            if found.set != target.name:
                raise UserError(
                    f"the fingerprints are those of {found.set}, not of {target.name}",
                    where=path,
                    do="remove the file, or make it again: hqdata fingerprint",
                )
            return found
        return None

    def read_fingerprints(self, target: Target, path: Path) -> EvaluationSource:
        """The set that a file of fingerprints says it is of."""
        summary = read_summary(path)
        problems = (*summary.problems, *self._count(target, summary.num_images))
        return EvaluationSource(summary.set, str(path), (), path, problems)

    def _find_split(self, target: Target, manifest: SetManifest) -> EvaluationSource | Missing:
        within = self._use.get(target.name, self._use.get(manifest.short_name))
        places = places_of_split(self._index, manifest, target.split)
        places = [p for p in places if within is None or p.lies_in(within)]
        readable = [place for place in places if place.files]
        if not readable:
            why = [f"pictures are at {p.where}, but {p.unlisted}" for p in places if p.unlisted]
            lines = [f"page: {manifest.home}"]
            lines += [describe_archive(archive) for archive in manifest.archives]
            return self._missing(target, why, lines)
        place = choose_place(target.name, readable)
        return self._source(target, place.where, place.files, [place], [])

    def _find_image_set(self, target: Target, image_set: ImageSet) -> EvaluationSource | Missing:
        lines = [f"page: {image_set.home}", f"get: {image_set.get}"]
        lines.append("looked for " + " or ".join(_patterns(image_set)))
        within = self._use.get(target.name)
        _, parts = parts_of_image_set(self._index, image_set, within)
        places = [part.place for part in parts if part.place is not None]
        if not places:
            return self._missing(target, [], lines)
        files = {name: ref for place in places for name, ref in place.files.items()}
        where = " + ".join(place.where for place in places)
        problems = [
            f"nothing lies where {part.pattern} is looked for" for part in parts if not part.place
        ]
        if image_set.listed is not None:
            named, place_or_reason = read_listed(self._index, image_set.listed)
            if named is None:
                return self._missing(
                    target, [f"pictures are at {where}, but {place_or_reason}"], lines
                )
            files = {name: ref for name, ref in files.items() if _is_listed(name, named)}
            num_lost = len(named) - len(files)
            problems = []
            if num_lost > 0:
                problems = [f"{num_lost:,} of the {len(named):,} pictures it lists are not there"]
            where += f", as {place_or_reason} lists"
        problems += _class_problems(image_set, places)
        return self._source(target, where, files, places, problems)

    def _find_folder(self, target: Target, folder: Path) -> EvaluationSource:
        if folder.is_dir():
            tree = _scan(folder, self._reporter)
        else:
            tree = Tree(folder.parent)
            list_archive(tree, (), folder)
        files = {
            name if part.path == "." else f"{part.path}/{name}": ref
            for part in tree.folders
            for name, ref in part.files.items()
            if suffix_of(name) in IMAGE_SUFFIXES
        }
        problems = [f"{place} is left alone: {reason}" for place, reason in tree.unreadable.items()]
        problems += [
            f"{bad.archive}: {bad.member} is left alone: {bad.reason}" for bad in tree.bad_members
        ]
        problems += _no_pictures(tree)
        return self._source(target, str(folder), files, [], problems)

    def _source(
        self,
        target: Target,
        where: str,
        files: Mapping[str, FileRef],
        places: Sequence[Place],
        problems: Sequence[str],
    ) -> EvaluationSource:
        told = [*problems, *self._damage(places), *self._count(target, len(files))]
        pictures = tuple(EvaluationPicture(name, files[name]) for name in sorted(files))
        return EvaluationSource(target.name, where, pictures, None, tuple(told))

    def _count(self, target: Target, num_images: int) -> list[str]:
        """What is wrong with the number of pictures."""
        if num_images == 0:
            return ["there is not a single picture in it"]
        expected = self._expect.get(target.name)
        if expected is None and not self._subset:
            if target.manifest is not None:
                expected = target.manifest.splits[target.split].expect
            elif target.image_set is not None and target.image_set.expect is not None:
                expected = target.image_set.expect.images
        if expected is None or num_images >= expected:
            return []
        return [f"{num_images:,} pictures are there, {expected:,} belong to it"]

    def _damage(self, places: Sequence[Place]) -> Iterator[str]:
        """What is wrong with the folders and archives that a set is read from."""
        tree = self._index.tree
        groups: list[FolderGroup] = [place.group for place in places]
        archives = {group.archive for group in groups} - {""}
        paths = {folder.path for group in groups for _, folder in group.folders}
        for place, reason in tree.unreadable.items():
            if place in paths:
                yield f"{place}: {reason}"
        for bad in tree.bad_members:
            if bad.archive in archives and suffix_of(bad.member) in IMAGE_SUFFIXES:
                yield f"{bad.archive}: {bad.member} is left alone: {bad.reason}"

    def _missing(self, target: Target, why: Sequence[str], get: Sequence[str]) -> Missing:
        unreadable = [f"{place}: {text}" for place, text in self._index.tree.unreadable.items()]
        return Missing(target.name, "; ".join([*why, *unreadable]), tuple(get))


def _scan(root: Path, reporter: Reporter) -> Tree:
    reporter.start(f"looking through {root}", 0, "archives")
    seen = 0

    def on_archive(path: str, num_bytes: int) -> None:
        nonlocal seen
        seen += 1
        reporter.update(seen)

    tree = scan(root, on_archive=on_archive)
    reporter.finish()
    return tree


def _no_pictures(tree: Tree) -> Iterator[str]:
    """A sentence about files that may be pictures in a format that is not read."""
    others = [
        f"{part.path}/{name}"
        for part in tree.folders
        for name in part.files
        if suffix_of(name) not in IMAGE_SUFFIXES and suffix_of(name) not in _NEVER_PICTURES
    ]
    if others:
        shown = ", ".join(sorted(others)[:3])
        yield f"{len(others):,} files have no name of a picture that is read here: {shown}"


def _plain_use(value: str) -> str:
    """A `--use` with an alias of an image-only set as one with its name."""
    name, equals, path = value.partition("=")
    try:
        return f"{find_image_set(name).name}{equals}{path}"
    except UserError:
        return value


def _patterns(image_set: ImageSet) -> list[str]:
    return [" and ".join(layout.images) for layout in image_set.layouts]


def _is_listed(name: str, named: frozenset[str]) -> bool:
    """Whether a list names a picture, by the whole of its path or by the end of it."""
    parts = name.split("/")
    return any("/".join(parts[start:]) in named for start in range(len(parts)))


def _class_problems(image_set: ImageSet, places: Sequence[Place]) -> list[str]:
    there = {
        class_name.casefold()
        for place in places
        for class_name, folder in place.group.folders
        if class_name
    }
    if image_set.num_classes is not None and len(there) < image_set.num_classes:
        return [f"{len(there):,} of its {image_set.num_classes:,} folders are there"]
    lost = [name for name in image_set.classes if name.casefold() not in there]
    if lost:
        shown = ", ".join(lost[:5]) + (", …" if len(lost) > 5 else "")
        return [f"{len(lost)} of its {len(image_set.classes)} folders are not there: {shown}"]
    return []
