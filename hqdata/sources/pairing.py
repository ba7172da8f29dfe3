"""From the files of one split to its pairs of image and mask, and everything that does not pair.

Pure but for reading the release's list files: nothing here opens a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from hqdata.catalogue.manifest import Defect
from hqdata.catalogue.names import load_names
from hqdata.problems import Problem, ProblemKind
from hqdata.resolve import SplitRequest
from hqdata.sources.keys import make_key
from hqdata.sources.layouts import (
    IMAGE_SUFFIXES,
    FolderGroup,
    Match,
    accepts,
)
from hqdata.storage import FileRef, stem_of, suffix_of


@dataclass(frozen=True, slots=True)
class File:
    """A file of a split: its upstream path and where its bytes lie."""

    path: str
    ref: FileRef


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its mask.

    Attributes:
        key: key of the sample, unique in the data set.
        name: upstream stem, with its class before a slash where the release has class folders.
        image: the image file.
        mask: the mask file.
        action: what a known defect asks to be done, or "".
        annotation: id of the mask in a file of many, or None.
    """

    key: str
    name: str
    image: File
    mask: File
    action: str = ""
    annotation: int | None = None


@dataclass(frozen=True, slots=True)
class Pairing:
    """What came of a split's files.

    Attributes:
        pairs: the pairs to build, sorted by key.
        problems: whatever did not pair.
        dropped: (upstream name or file, reason) of what a known defect leaves out; `lost` of them
            were pairs, which the expected count allows for.
        lost: number of pairs in `dropped`.
        used: names and files that a known defect was looked up for and found, slashes flattened.
    """

    pairs: tuple[Pair, ...]
    problems: tuple[Problem, ...]
    dropped: tuple[tuple[str, str], ...]
    lost: int
    used: frozenset[str] = frozenset()


def pair(
    request: SplitRequest,
    match: Match,
    read_list: Callable[[str], tuple[str, ...] | None],
) -> Pairing:
    """Pairs images and masks of one split by stem.

    Args:
        request: what the recipe and the manifest say about the split.
        match: where its folders were found; `match.masks` must not be None.
        read_list: lines of a list file of the release by its path in the layout, None if it is not
            there.
    """
    if match.masks is None:
        raise ValueError(f"no masks at {match.where}")
    work = _Work(request)
    work.within = f"{match.spec.within}/" if match.spec.within else ""
    same_folders = {id(f) for _, f in match.images.folders} & {
        id(f) for _, f in match.masks.folders
    }
    images = work.collect(match.images, match.spec.images, bool(same_folders))
    masks = work.collect(match.masks, match.spec.masks, bool(same_folders))
    if same_folders:
        work.report_strays(match)
    images, masks = work.apply_lists(match, read_list, images, masks)
    pairs = work.join(images, masks)
    pairs = work.hold_against_names(pairs)
    pairs = work.apply_defects(pairs)
    ordered = tuple(sorted(pairs, key=lambda item: item.key))
    return Pairing(
        ordered, tuple(work.problems), tuple(work.dropped), work.lost, frozenset(work.used)
    )


class _Work:
    """The state of pairing one split: what was reported and dropped so far."""

    def __init__(self, request: SplitRequest) -> None:
        self.request = request
        self.within = ""
        self.problems: list[Problem] = []
        self.dropped: list[tuple[str, str]] = []
        self.lost = 0
        self.drop_files: dict[str, Defect] = {}
        self.by_name: dict[str, Defect] = {}
        self.used: set[str] = set()
        for defect in request.defects:
            if defect.file is not None:
                self.drop_files.setdefault(flat(defect.file), defect)
            elif defect.name is not None:
                self.by_name.setdefault(flat(defect.name), defect)

    def report(self, kind: ProblemKind, message: str, *, image: str = "", mask: str = "") -> None:
        self.problems.append(
            Problem(self.request.source, self.request.split, image, mask, kind, message)
        )

    def collect(self, group: FolderGroup, pattern: str, shared: bool) -> dict[str, list[File]]:
        """Files of the wanted kind by name; strays of a folder that is not shared are reported."""
        wanted = pattern.rsplit("/", 1)[-1]
        found: dict[str, list[File]] = {}
        for (class_name, folder), upstream in zip(group.folders, group.upstream, strict=True):
            for file_name, ref in sorted(folder.files.items()):
                short = f"{class_name}/{file_name}" if class_name else file_name
                file = File(f"{self.within}{upstream}/{file_name}", ref)
                if self._is_dropped(short):
                    continue
                if accepts(wanted, file_name):
                    stem = stem_of(file_name)
                    name = f"{class_name}/{stem}" if class_name else stem
                    found.setdefault(name, []).append(file)
                elif not shared:
                    self._stray(file.path)
        return found

    def _is_dropped(self, short: str) -> bool:
        defect = self.drop_files.get(flat(short))
        if defect is None:
            return False
        self.used.add(flat(short))
        entry = (short, defect.reason)
        if entry not in self.dropped:
            self.dropped.append(entry)
        return True

    def _stray(self, path: str) -> None:
        self.report(
            ProblemKind.STRAY_FILE,
            "is neither an image nor a mask of this release; move it away",
            image=path,
        )

    def report_strays(self, match: Match) -> None:
        """Strays of folders that hold both images and masks."""
        wanted = [p.rsplit("/", 1)[-1] for p in (match.spec.images, match.spec.masks)]
        places = {}
        for group in (match.images, match.masks):
            if group is not None:
                for (class_name, folder), upstream in zip(
                    group.folders, group.upstream, strict=True
                ):
                    places[folder.path] = (class_name, folder, upstream)
        for class_name, folder, upstream in places.values():
            for file_name in sorted(folder.files):
                short = f"{class_name}/{file_name}" if class_name else file_name
                if flat(short) in self.drop_files or any(accepts(w, file_name) for w in wanted):
                    continue
                self._stray(f"{self.within}{upstream}/{file_name}")

    def apply_lists(
        self,
        match: Match,
        read_list: Callable[[str], tuple[str, ...] | None],
        images: dict[str, list[File]],
        masks: dict[str, list[File]],
    ) -> tuple[dict[str, list[File]], dict[str, list[File]]]:
        """Keeps what the release's list names; reports files in none of its lists."""
        if match.spec.list is None:
            return images, masks
        lines = read_list(match.spec.list)
        if lines is None:
            raise FileNotFoundError(match.spec.list)
        listed: dict[str, str] = {}
        for line in lines:
            stem = listed_stem(line)
            if stem in listed:
                self.report(
                    ProblemKind.DUPLICATE_KEY, f"{match.spec.list} names it twice", image=line
                )
            listed[stem] = line
        elsewhere: set[str] = set()
        for other in self.request.sibling_lists:
            if other != match.spec.list:
                elsewhere.update(listed_stem(line) for line in read_list(other) or ())
        for name in sorted((set(images) | set(masks)) - set(listed) - elsewhere):
            for file in (*images.get(name, ()), *masks.get(name, ())):
                self.report(
                    ProblemKind.STRAY_FILE,
                    f"is in none of the release's lists ({match.spec.list} and its siblings)",
                    image=file.path,
                )
        for name in sorted(set(listed) - set(images) - set(masks)):
            self.report(
                ProblemKind.MISSING_IMAGE,
                f"{match.spec.list} names it, but neither its image nor its mask is there",
                image=listed[name],
            )
        return (
            {n: files for n, files in images.items() if n in listed},
            {n: files for n, files in masks.items() if n in listed},
        )

    def join(self, images: dict[str, list[File]], masks: dict[str, list[File]]) -> list[Pair]:
        """Pairs of one image and one mask of the same name."""
        pairs = []
        for name in sorted(set(images) | set(masks)):
            of_image = self._preferred(name, images.get(name, []))
            of_mask = self._preferred(name, masks.get(name, []))
            if len(of_image) > 1 or len(of_mask) > 1:
                files = of_image if len(of_image) > 1 else of_mask
                self.report(
                    ProblemKind.DUPLICATE_KEY,
                    f"{len(files)} files have the stem {name!r}: "
                    + ", ".join(sorted(f.path.rsplit("/", 1)[-1] for f in files))
                    + "; which one is meant nobody can tell, so none is taken",
                    image=files[0].path if files is of_image else "",
                    mask=files[0].path if files is of_mask else "",
                )
            elif not of_mask:
                self.report(
                    ProblemKind.MISSING_MASK,
                    f"no mask has the stem {name!r}",
                    image=of_image[0].path,
                )
            elif not of_image:
                self.report(
                    ProblemKind.MISSING_IMAGE,
                    f"no image has the stem {name!r}",
                    mask=of_mask[0].path,
                )
            else:
                key = make_key(self.request.source, name)
                pairs.append(Pair(key, name, of_image[0], of_mask[0]))
        return pairs

    def _preferred(self, name: str, files: list[File]) -> list[File]:
        """The one file that a known defect says is meant, where several share a stem."""
        defect = self.by_name.get(flat(name))
        if len(files) < 2 or defect is None or defect.prefer is None:
            return files
        meant = [f for f in files if f.path.rsplit("/", 1)[-1] == defect.prefer]
        if len(meant) == 1:
            for file in files:
                if file is not meant[0]:
                    self.dropped.append((file.path, defect.reason))
            return meant
        return files

    def hold_against_names(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Reports names that the release does not have and names of it that are missing."""
        if self.request.name_list is None:
            return list(pairs)
        known = set(load_names(self.request.name_list))
        kept = []
        for item in pairs:
            if item.name in known:
                known.remove(item.name)
                kept.append(item)
                continue
            self.report(
                ProblemKind.UNEXPECTED_NAME,
                f"the release's list of names ({self.request.name_list}) has no {item.name!r}",
                image=item.image.path,
                mask=item.mask.path,
            )
        half_there = {stem_of((p.image or p.mask).rsplit("/", 1)[-1]) for p in self.problems}
        for name in sorted(known - half_there):
            self.report(
                ProblemKind.MISSING_NAME,
                f"the release has {name!r} ({self.request.name_list}), your files have not",
                image=name,
            )
        return kept

    def apply_defects(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Drops pairs, or marks them with the action of the defect that names them."""
        kept = []
        for item in pairs:
            defect = self.by_name.get(flat(item.name))
            if defect is None:
                kept.append(item)
                continue
            self.used.add(flat(item.name))
            if defect.action == "drop":
                self.dropped.append((item.name, defect.reason))
                self.lost += 1
            else:
                kept.append(replace(item, action=defect.action))
        return kept


def listed_stem(line: str) -> str:
    """The stem that a line of a list means; lists without suffixes are lists of stems."""
    return stem_of(line) if suffix_of(line) in IMAGE_SUFFIXES else line


def flat(name: str) -> str:
    """A name as a release without class folders has it: `rubber_eraser/8` is `rubber_eraser_8`
    there.
    """
    return name.replace("/", "_")


def find_duplicate_keys(pairings: dict[tuple[str, str], Pairing]) -> dict[tuple[str, str], Pairing]:
    """The pairings with every pair taken out whose key another pair has too, each one reported."""
    owners: dict[str, list[tuple[tuple[str, str], Pair]]] = {}
    for where, pairing in pairings.items():
        for item in pairing.pairs:
            owners.setdefault(item.key, []).append((where, item))
    clashing = {key: group for key, group in owners.items() if len(group) > 1}
    if not clashing:
        return pairings
    result = {}
    for (source, split), pairing in pairings.items():
        extra = [
            Problem(
                source,
                split,
                item.image.path,
                item.mask.path,
                ProblemKind.DUPLICATE_KEY,
                f"its key {item.key!r} is also that of "
                + ", ".join(p.image.path for _, p in clashing[item.key] if p is not item)
                + "; rename one of them",
            )
            for item in pairing.pairs
            if item.key in clashing
        ]
        pairs = tuple(item for item in pairing.pairs if item.key not in clashing)
        result[(source, split)] = replace(
            pairing, pairs=pairs, problems=(*pairing.problems, *extra)
        )
    return result
