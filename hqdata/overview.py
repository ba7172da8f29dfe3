"""What lies below a data root: every set that has a manifest, found or missing, and how many of the
archives that a sample can be drawn from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from hqdata.bundles.find import find_bundles
from hqdata.catalogue.registry import load_manifests
from hqdata.catalogue.sampled import SampledSet, load_sampled
from hqdata.errors import UserError
from hqdata.progress import Reporter
from hqdata.recipe import Recipe, RecipeSource
from hqdata.resolve import SplitRequest, resolve
from hqdata.scan import scan
from hqdata.sources.discover import (
    Found,
    describe_archive,
    discover,
    pair_found,
    parse_use,
    suggest_use,
)
from hqdata.sources.layouts import TreeIndex
from hqdata.storage import Tree

EVALUATION_SPLITS = frozenset(
    {("dis", "validation"), ("thinobject", "test"), ("coift", "all"), ("hrsod", "all")}
)
"""The four sets that HQ-SAM is evaluated on; never trained on."""

TRAINING_SPLITS = frozenset(
    {
        ("dis", "train"),
        ("thinobject", "train"),
        ("fss", "all"),
        ("duts", "train"),
        ("duts", "test"),
        ("ecssd", "all"),
        ("msra", "all"),
    }
)
"""What HQSeg-44K consists of (Table 5 of the paper's supplement)."""


@dataclass(frozen=True, slots=True)
class Line:
    """One split: what it is for, where it was found, how many pairs it has.

    `status` is one of found, missing, several (a question to the
    user), no masks.
    """

    source: str
    split: str
    use: str
    status: str
    layout: str
    where: str
    pairs: int
    expected: int
    odd_files: int


@dataclass(frozen=True, slots=True)
class ArchivesLine:
    """A set that samples are drawn from: how many of its archives are there.

    `status` is one of found, some, missing, several (an archive lies there twice). A folder that an
    archive was unpacked to counts as one.
    """

    source: str
    split: str
    status: str
    where: str
    archives: int
    expected: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Overview:
    """All splits, and what there is to say about those that are not simply found."""

    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    archives: tuple[ArchivesLine, ...] = ()

    @property
    def all_found(self) -> bool:
        """Whether every split of HQSeg-44K and of the four evaluation sets is there."""
        return all(line.status == "found" for line in self.lines if line.use)

    def table(self) -> Table:
        """The overview as a table of one row a split."""
        table = Table("set", "split", "status", title="Sources and evaluation sets")
        table.add_column("pairs", justify="right")
        table.add_column("expected", justify="right")
        table.add_column("layout")
        table.add_column("where", overflow="fold")
        last = self.lines[0].use if self.lines else ""
        for line in self.lines:
            if line.use != last:
                table.add_section()
                last = line.use
            found = line.status == "found"
            odd = f" (+{line.odd_files} odd)" if line.odd_files else ""
            table.add_row(
                line.source,
                line.split,
                line.status,
                f"{line.pairs:,}{odd}" if found else "",
                f"{line.expected:,}",
                line.layout,
                line.where,
                style="" if found else ("dim" if not line.use else "red"),
            )
        table.add_section()
        for item in self.archives:
            size = f", {item.num_bytes / 1e9:,.1f} GB" if item.archives else ""
            table.add_row(
                item.source,
                item.split,
                item.status,
                f"{item.archives:,} tars" if item.archives else "",
                f"{item.expected:,} tars",
                f"archives to draw from{size}" if item.archives else "",
                item.where,
                style="dim" if item.status == "missing" else "",
            )
        table.caption = (
            "training sets, then evaluation sets, then splits that neither needs, then sets of "
            "archives that a sample is drawn from"
        )
        return table


def overview(data_root: Path | str, use: list[str], reporter: Reporter) -> Overview:
    """Looks for every split of every set that has a manifest; opens no picture, and none of the
    archives that samples are drawn from.

    Raises:
        UserError: the data root is no folder, or `use` names no known set.
    """
    manifests = load_manifests()
    recipe = Recipe(
        name="everything",
        sources=tuple(RecipeSource(source=name) for name in manifests),
    )
    requests = resolve(recipe).splits
    within = parse_use(use, manifests, data_root)
    reporter.start(f"looking through {data_root}", 0, "archives")
    seen = 0

    def on_archive(path: str, num_bytes: int) -> None:
        nonlocal seen
        seen += 1
        reporter.update(seen)

    tree = scan(data_root, on_archive=on_archive)
    reporter.finish()
    index = TreeIndex(tree)
    found = discover(index, requests, within)
    lines = [_line(index, item) for item in found]
    lines.sort(key=lambda line: _ORDER.index(line.use))
    archives, told = _archives(data_root)
    notes = _notes(tree, lines, found)
    if not any(line.status == "found" for line in lines) and not any(a.archives for a in archives):
        notes.append(
            "nothing is there yet; to see the whole thing without any data: `make demo`, or "
            "`hqdata mini --out data-mini/`"
        )
    return Overview(tuple(lines), (*notes, *told), archives)


def _archives(data_root: Path | str) -> tuple[tuple[ArchivesLine, ...], list[str]]:
    """What there is to draw from, by names and sizes alone, and what there is to say about it."""
    (known,) = load_sampled().values()  # all that `hqdata.bundles` knows how to find
    try:
        found = find_bundles(data_root)
    except UserError as error:
        line = ArchivesLine(known.short_name, known.split, "several", "", 0, known.num_archives, 0)
        return (line,), [f"{known.short_name}: {error}"]
    status = "missing"
    if found:
        status = "found" if len(found) == known.num_archives else "some"
    folders = dict.fromkeys(bundle.where.rpartition("/")[0] or "." for bundle in found)
    where = " · ".join(list(folders)[:3]) + (" · …" if len(folders) > 3 else "")
    line = ArchivesLine(
        known.short_name,
        known.split,
        status,
        where,
        len(found),
        known.num_archives,
        sum(bundle.size for bundle in found),
    )
    return (line,), _archive_notes(known, len(found))


def _archive_notes(known: SampledSet, number: int) -> list[str]:
    if not number:
        return [
            f"{known.short_name}: {known.title}, {known.home}: needed for recipe sa1b-44k alone; "
            f"{known.num_archives:,} archives, {known.num_bytes / 1e12:.1f} TB"
        ]
    if number < known.num_archives:
        return [
            f"{known.short_name}: a sample is drawn of the {number:,} archives that are there, not "
            f"of all {known.num_archives:,}, and the data set says so"
        ]
    if number > known.num_archives:
        return [
            f"{known.short_name}: {number:,} archives, where the release has "
            f"{known.num_archives:,}: something else is among them"
        ]
    return []


_ORDER = ["training", "evaluation", ""]


def _use(request: SplitRequest) -> str:
    where = (request.source, request.split)
    if where in TRAINING_SPLITS:
        return "training"
    return "evaluation" if where in EVALUATION_SPLITS else ""


def _line(index: TreeIndex, item: Found) -> Line:
    request = item.request
    status, layout, where, pairs, odd = "missing", "", "", 0, 0
    if len(item.candidates) > 1:
        status = "several"
        where = " · ".join(match.where for match in item.candidates)
    elif item.candidates:
        match = item.candidates[0]
        status, layout, where = "found", match.layout, match.where
        pairing = pair_found(index, request, match)
        pairs = len(pairing.pairs)
        odd = sum(problem.kind.value != "missing_name" for problem in pairing.problems)
    elif item.partial:
        status, where = "no masks", item.partial[0].where
    return Line(
        source=request.source,
        split=request.split,
        use=_use(request),
        status=status,
        layout=layout,
        where=where,
        pairs=pairs,
        expected=request.expect or 0,
        odd_files=odd,
    )


def _notes(tree: Tree, lines: list[Line], found: list[Found]) -> list[str]:
    notes = []
    manifests = load_manifests()
    wanted = dict.fromkeys(
        line.source for line in lines if line.use and line.status in ("missing", "no masks")
    )
    if wanted:
        notes.append("where to get what is missing:")
    for name in wanted:
        manifest = manifests[name]
        notes.append(f"  {name}: {manifest.title}, {manifest.home}")
        notes += [f"    {describe_archive(archive)}" for archive in manifest.archives]
    for name in dict.fromkeys(item.request.source for item in found):
        items = [item for item in found if item.request.source == name]
        several = ", ".join(item.request.split for item in items if len(item.candidates) > 1)
        if several:
            choice = suggest_use(items)
            advice = f"choose with, e.g., {choice}" if choice else "move one away"
            notes.append(f"{name} ({several}) lies in several places; {advice}")
    notes += [f"{archive} is left alone: {reason}" for archive, reason in tree.unreadable.items()]
    return notes
