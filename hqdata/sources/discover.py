"""Finding the splits of a recipe below a data root. Two places for one split are a question, not a
guess.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from posixpath import commonpath

from hqdata.catalogue.manifest import Archive, SetManifest
from hqdata.catalogue.registry import find_set
from hqdata.catalogue.sampled import find_sampled
from hqdata.errors import AmbiguousSourceError, MissingSourceError, UserError, nearest
from hqdata.problems import Problem, ProblemKind
from hqdata.remote.origin import is_url, redact
from hqdata.resolve import SplitRequest
from hqdata.sources.layouts import Match, TreeIndex
from hqdata.sources.pairing import Pairing, pair
from hqdata.storage import DamagedFileError, FileReader, Tree, archive_stem

MAX_LIST_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Found:
    """Where a split of a recipe is, if anywhere.

    Attributes:
        request: the split.
        candidates: every place it could be read from, best layout first. One is what one hopes for.
        partial: places with images but no masks.
    """

    request: SplitRequest
    candidates: tuple[Match, ...]
    partial: tuple[Match, ...]


def discover(
    index: TreeIndex, requests: Iterable[SplitRequest], use: Mapping[str, str] | None = None
) -> list[Found]:
    """Looks for every split in every layout.

    Args:
        index: the data root's tree.
        requests: the splits to look for.
        use: source, or source/split -> path below the data root that its images or its masks have
            to lie in.
    """
    use = use or {}
    return [
        _discover_one(
            index,
            request,
            use.get(f"{request.source}/{request.split}", use.get(request.source)),
        )
        for request in requests
    ]


def _discover_one(index: TreeIndex, request: SplitRequest, within: str | None) -> Found:
    candidates: dict[tuple[str, ...], list[Match]] = {}
    partial: dict[tuple[str, ...], Match] = {}
    for name, spec in request.layouts:
        for match in index.find(spec, name):
            if within is not None and not _lies_in(match, within):
                continue
            if request.manifest is None and () not in match.images.anchors:
                continue  # folders of your own are named by their whole path
            images = tuple(folder.path for _, folder in match.images.folders)
            if match.masks is None:
                partial.setdefault(images, match)
            elif _lists_there(index, match):
                # The same images in a later layout do not count: the manifest lists layouts by
                # preference. The same images with other masks do: that is a question.
                same = candidates.setdefault(images, [])
                if not same or same[0].layout == name:
                    same.append(match)
    return Found(
        request,
        tuple(match for same in candidates.values() for match in same),
        tuple(m for images, m in partial.items() if images not in candidates),
    )


def _lies_in(match: Match, within: str) -> bool:
    """Whether all of its images, or all of its masks, lie below a path."""
    wanted = PurePosixPath(within).parts
    groups = [match.images] if match.masks is None else [match.images, match.masks]
    return any(
        all(folder.parts[: len(wanted)] == wanted for _, folder in group.folders)
        for group in groups
    )


def _lists_there(index: TreeIndex, match: Match) -> bool:
    return match.spec.list is None or find_list(index, match, match.spec.list) is not None


def find_list(index: TreeIndex, match: Match, path: str) -> tuple[str, ...] | None:
    """Lines of a list file that lies at `path` beside the images."""
    *folders, name = path.split("/")
    for group in index.groups("/".join((*folders, "*.txt"))):
        if not group.anchors & match.images.anchors:
            continue
        if (group.archive, group.home) != (match.images.archive, match.images.home):
            continue
        for _, folder in group.folders:
            for file_name, ref in folder.files.items():
                if file_name.casefold() != name.casefold():
                    continue
                if ref.size > MAX_LIST_BYTES:
                    raise UserError(f"{ref.size:,} bytes are too many for a list", where=path)
                try:
                    with FileReader() as reader:
                        text = reader.read(ref).decode("utf-8-sig")
                except (DamagedFileError, UnicodeDecodeError) as error:
                    where = f"{folder.path}/{file_name}"
                    raise UserError(f"the list cannot be read: {error}", where=where) from error
                return tuple(line.strip() for line in text.splitlines() if line.strip())
    return None


def choose(found: Iterable[Found], tree: Tree) -> list[tuple[SplitRequest, Match]]:
    """The one place of each split.

    Raises:
        AmbiguousSourceError: a split could be read from several places.
        MissingSourceError: splits that are nowhere; says where each is to be had.
    """
    found = list(found)
    doubtful = [item for item in found if len(item.candidates) > 1]
    if doubtful:
        raise _ambiguous(found, doubtful)
    missing = [item for item in found if not item.candidates]
    if missing:
        raise _missing(missing, tree, total=len(found))
    return [(item.request, item.candidates[0]) for item in found]


def _ambiguous(found: list[Found], doubtful: list[Found]) -> AmbiguousSourceError:
    lines = []
    for item in doubtful:
        lines.append(f"{item.request.source} {item.request.split}:")
        lines += [f"  {m.where} (layout: {m.layout})" for m in item.candidates]
    use = suggest_use(found)
    return AmbiguousSourceError(
        "the same split lies in more than one place; which one shall be read?",
        where="\n".join(lines),
        do=(f"say which with, e.g., {use}, or move the others away" if use else "move one away"),
    )


def suggest_use(found: Iterable[Found]) -> str:
    """`--use` options, as for a shell, that settle every split found in several places.

    One option a source where one place has all of its splits once, else one a split. Empty if no
    option could tell the places apart.
    """
    found = list(found)
    options = []
    for source in dict.fromkeys(i.request.source for i in found if len(i.candidates) > 1):
        items = [i for i in found if i.request.source == source and i.candidates]
        place = _settles(items)
        if place is not None:
            options.append(f"{source}={place}")
            continue
        for item in items:
            place = _settles([item]) if len(item.candidates) > 1 else None
            if place is not None:
                options.append(f"{source}/{item.request.split}={place}")
    return " ".join(f"--use {shlex.quote(option)}" for option in options)


def _settles(items: list[Found]) -> str | None:
    """The shallowest place that leaves each of these splits exactly one candidate."""
    places: dict[tuple[str, ...], None] = {}
    for item in items:
        for match in item.candidates:
            for group in (match.images, match.masks or match.images):
                paths = ["/".join(folder.parts) for _, folder in group.folders]
                shared = PurePosixPath(commonpath(paths)).parts
                places.update((shared[:depth], None) for depth in range(1, len(shared) + 1))
    for place in sorted(places, key=len):
        path = "/".join(place)
        if all(sum(_lies_in(m, path) for m in item.candidates) == 1 for item in items):
            return path
    return None


def _missing(missing: list[Found], tree: Tree, total: int) -> MissingSourceError:
    lines = []
    for name in dict.fromkeys(item.request.source for item in missing):
        items = [item for item in missing if item.request.source == name]
        splits = ", ".join(item.request.split for item in items)
        lines.append(f"{name} ({splits}){_title(items[0].request.manifest)}")
        for item in items:
            lines += [
                f"  images are at {m.where}, but no masks beside them (expected {m.spec.masks})"
                for m in item.partial
            ]
        manifest = items[0].request.manifest
        if manifest is None:
            spec = items[0].request.layouts[0][1]
            lines.append(f"  looked for {spec.images} and {spec.masks}")
        else:
            lines.append(f"  page: {manifest.home}")
            lines += [f"  {describe_archive(archive)}" for archive in manifest.archives]
    for archive, reason in tree.unreadable.items():
        lines.append(f"{archive}: {reason}")
    names = ",".join(dict.fromkeys(item.request.source for item in missing))
    return MissingSourceError(
        f"{len(missing)} of {total} splits are not below the data root {str(tree.root)!r}",
        where="\n".join(lines),
        expected="each source as a folder or the archive it comes in, anywhere below the data root",
        do="get them,\n"
        + (f"or build without them (--exclude {names}),\n" if len(missing) < total else "")
        + "or see the whole thing without any data: `make demo`, or\n"
        "`hqdata mini --out data-mini/` and `hqdata build --recipe mini --data-root data-mini/ "
        "--out shards-mini/`",
    )


def _title(manifest: SetManifest | None) -> str:
    return "" if manifest is None else f": {manifest.title}"


def describe_archive(archive: Archive) -> str:
    """One line: name, size, release, page."""
    size = "" if archive.num_bytes is None else f", {archive.num_bytes:,} bytes"
    page = "" if archive.page is None else f", {archive.page}"
    return f"{archive.release}: {archive.name}{size}{page}"


def pair_found(index: TreeIndex, request: SplitRequest, match: Match) -> Pairing:
    """The pairs of one split that was found, with the bad members of its archives reported."""
    pairing = pair(request, match, lambda path: find_list(index, match, path))
    archives = {match.images.archive} | ({match.masks.archive} if match.masks else set())
    bad = tuple(
        Problem(
            request.source,
            request.split,
            f"{member.archive}: {member.member}",
            "",
            ProblemKind.BAD_MEMBER,
            f"is left alone: {member.reason}",
        )
        for member in index.tree.bad_members
        if member.archive in archives
    )
    return replace(pairing, problems=(*pairing.problems, *bad))


def _check_split(source: str, split: str, value: str) -> None:
    try:
        known = find_set(source).splits
    except UserError:
        return  # folders of one's own: discovery has but one split of them
    if split not in known:
        raise UserError(
            f"--use {value}: {source} has no split {split!r}{nearest(split, known)}",
            expected="one of " + ", ".join(f"{source}/{name}" for name in known),
        )


def _exists(root: Path, path: Path) -> bool:
    """Whether a path below the root is there; of one into an archive, whether the archive is."""
    return any(
        (root / part).exists() and (part == path or archive_stem(part.name) is not None)
        for part in (path, *path.parents)
    )


def _below_url(value: str, path: str, root: str) -> str:
    """A path below a URL, given by itself or as a URL."""
    base = root.strip().rstrip("/") + "/"
    below = path[len(base) :] if path.startswith(base) else path
    if is_url(below) or below.startswith("/") or ".." in below.split("/"):
        raise UserError(
            f"--use {value.partition('=')[0]}=…: the path is not below the data root",
            expected=f"a path below {redact(root)}, e.g. DIS5K.zip/DIS5K",
        )
    return below.strip("/")


def parse_use(values: Iterable[str], known: Iterable[str], root: Path | str) -> dict[str, str]:
    """`["dis=DIS5K.zip"]` as {"dis": "DIS5K.zip"}, paths below the data root.

    A split of its own is named as in `must_not_overlap`: `duts/train=DUTS-TR.zip`. Below a URL
    paths are taken as they are: that none lies there is found out when it is listed.

    Raises:
        UserError: no `=`, an unknown source, or a path outside the data root.
    """
    names = list(known)
    use = {}
    for value in values:
        target, equals, path = value.partition("=")
        name, slash, split = target.partition("/")
        if not equals or not path:
            raise UserError(f"--use {value}: expected SOURCE=PATH", do="e.g. --use dis=DIS5K.zip")
        if name not in names:
            with suppress(UserError):
                name = find_set(name).short_name
        if name not in names and find_sampled(name) is not None:
            raise UserError(
                f"--use {value}: archives of {name} are found by their names",
                do="leave it out; where an archive is there twice, move one away",
            )
        if name not in names:
            hint = nearest(name, names)
            raise UserError(f"--use {value}: no source {name!r} in this recipe{hint}")
        if slash:
            _check_split(name, split, value)
        if isinstance(root, str) and is_url(root):
            use[f"{name}{slash}{split}"] = _below_url(value, path, root)
            continue
        root = Path(root)
        given = Path(path)
        if given.is_absolute():
            # As it is written first: the tree goes by the names of links, not by their targets.
            ways = ((given, root.absolute()), (given.resolve(), root.resolve()))
            below = [path.relative_to(top) for path, top in ways if path.is_relative_to(top)]
            if not below:
                raise UserError(f"--use {value}: the path is not below the data root {root}")
            given = below[0]
        elif not _exists(root, given) and given.absolute().is_relative_to(root.absolute()):
            given = given.absolute().relative_to(root.absolute())  # as the shell completes it
        if not _exists(root, given):
            raise UserError(
                f"--use {value}: there is no {given.as_posix()!r} below the data root {root}",
                expected="a folder or an archive, or a folder in an archive, e.g. DIS5K.zip/DIS5K",
            )
        use[f"{name}{slash}{split}"] = given.as_posix().strip("/")
    return use
