"""One self-contained HTML page about a data set: no request leaves it, it opens from disk."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import hqdata
from hqdata.catalogue.manifest import Defect, SetManifest
from hqdata.catalogue.registry import load_manifests
from hqdata.catalogue.sampled import SampledSet, load_sampled
from hqdata.files import write_whole
from hqdata.problems import Problem
from hqdata.report import words
from hqdata.report.charts import draw
from hqdata.report.stats import Group, Summary
from hqdata.report.thumbs import Colour, Thumbnail, choose_examples, make_thumbnail
from hqdata.shards.dataset import Dataset
from hqdata.sources.keys import make_key

PICTURES_BUDGET = 4_800_000
"""Characters all thumbnails together may take: keeps the page below 6 MB."""

_LEAST_PER_PICTURE = 6_000
_EXAMPLES_PER_PROBLEM = 3
_DROPPED_SHOWN = 40

HUES: tuple[tuple[str, str], ...] = (
    ("#2467c4", "#5fa8ff"),
    ("#c2560c", "#ff9a4d"),
    ("#1c7c4d", "#45d08c"),
    ("#7a48c2", "#b48cff"),
    ("#0b7d8c", "#3fd0e0"),
    ("#b8306f", "#ff7ab5"),
    ("#876a00", "#e8c53a"),
    ("#5a6473", "#a9b6c8"),
)
"""(on light ground, on dark ground and over pictures): a colour a source, in the recipe's order."""

_PUSH = {
    "refuse": "not to be redistributed",
    "private": "private copies only",
    "private-gated": "private or gated copies only",
    "public": "may be public",
}

_CHANGES = (
    (r"jpeg-q100", "stored as JPEG of quality 100 without chroma subsampling"),
    (r"(png|bmp|gif|tiff|webp)", "the file was of this format"),
    (r"exif-orientation-\d", "turned upright as its EXIF data say"),
    (r"cmyk", "CMYK brought to RGB"),
    (r"icc-to-srgb", "brought to sRGB through its colour profile"),
    (r"palette", "palette resolved"),
    (r"alpha-opaque", "alpha channel without effect left out"),
    (r"alpha-over-white", "transparency laid over white"),
    (r"alpha-over-black", "transparency laid over black"),
    (r"alpha-is-mask", "the alpha channel was the mask"),
    (r"damaged", "damaged data, taken as far as they decode"),
    (r"binary-\S+", "two levels brought to 0 and 255"),
    (r"object-ids", "every object id brought to 255"),
    (r"rgb", "three equal channels brought to one"),
    (r"jpeg", "the mask was a JPEG"),
    (r"one-colour", "black and one colour brought to 0 and 255"),
    (r"resized-from", "brought to the picture’s size"),
    (r"(1|2|4|16)-bit\S*", "brought to 8 bits"),
    (r"\w+-accepted", "ambiguous, taken as a known defect says"),
)


@dataclass(frozen=True, slots=True)
class _Source:
    """A source as the page shows it."""

    group: Group
    splits: tuple[Group, ...]
    hue: int
    title: str
    known: SetManifest | SampledSet | None
    licence_differs: bool
    thumbnails: tuple[Thumbnail, ...]
    kept: tuple[Defect, ...]


def write_page(
    dataset: Dataset,
    summary: Summary,
    problems: Sequence[Problem],
    out: Path,
    *,
    pictures_per_source: int = 8,
    seed: int = 0,
) -> None:
    """Writes the page, whole or not at all. The same arguments give the same bytes.

    Args:
        dataset: the data set; the example pictures are read from its shards.
        summary: its figures, from `summarise`.
        problems: the rows of its `problems.jsonl`.
        out: the HTML file, below 6 MB; its folder has to be there.
        pictures_per_source: examples shown of each source; fewer with very many sources.
        seed: another seed shows other examples.

    Raises:
        DatasetError: a shard is missing or damaged.
        OSError: the file cannot be written.
    """
    sources = _sources(dataset, summary, pictures_per_source, seed)
    hues = {source.group.source: source.hue for source in sources}
    charts = [draw(histogram, summary.sources, hues) for histogram in summary.histograms]
    page = _template().render(
        summary=summary,
        info=dataset.info,
        recipe=dataset.info.recipe,
        version=hqdata.__version__,
        css=Markup(_resource("page.css")),  # our own file, nothing of the data
        hues=HUES,
        sources=sources,
        charts=charts,
        widest=_widest(summary),
        problems=_by_kind(problems),
        num_problems=len(problems),
        problem_examples=_EXAMPLES_PER_PROBLEM,
        dropped=dataset.info.dropped[:_DROPPED_SHOWN],
        num_dropped_hidden=max(0, len(dataset.info.dropped) - _DROPPED_SHOWN),
        push=_PUSH,
    )
    # File names may hold what is no valid Unicode.
    write_whole(out, page.encode("utf-8", "backslashreplace"))


def _template() -> Any:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        count=words.count,
        bytes=words.size,
        percent=words.percent,
        short=words.short,
        whole=words.whole,
        extent=words.extent,
        sides=words.sides,
        drawn=words.drawn,
        state=words.state,
        explain=_explain,
        web=_web_address,
    )
    return environment.from_string(_resource("page.html.j2"))


def _resource(name: str) -> str:
    return files("hqdata.report").joinpath(name).read_text(encoding="utf-8")


def _sources(
    dataset: Dataset, summary: Summary, pictures_per_source: int, seed: int
) -> list[_Source]:
    most = PICTURES_BUDGET // _LEAST_PER_PICTURE // max(1, len(summary.sources))
    chosen = [
        choose_examples(dataset, group.source, min(pictures_per_source, most), seed)
        for group in summary.sources
    ]
    allowance = PICTURES_BUDGET // max(1, sum(map(len, chosen)))
    keys = set(dataset.samples.column("key").to_pylist())
    found = []
    for number, (group, rows) in enumerate(zip(summary.sources, chosen, strict=True)):
        hue = number % len(HUES)
        manifest = load_manifests().get(group.source)
        known = manifest or load_sampled().get(group.source)
        splits = {split.split for split in summary.splits_of(group.source)}
        found.append(
            _Source(
                group=group,
                splits=summary.splits_of(group.source),
                hue=hue,
                title=group.source if known is None else known.title,
                known=known,
                licence_differs=known is None or bool(set(group.licences) - {known.licence.id}),
                thumbnails=tuple(
                    make_thumbnail(dataset, row, _rgb(HUES[hue][1]), allowance) for row in rows
                ),
                kept=()
                if manifest is None
                else tuple(
                    defect
                    for defect in manifest.defects
                    if defect.action == "keep"
                    and (defect.split is None or defect.split in splits)
                    and make_key(group.source, defect.name or "") in keys
                ),
            )
        )
    return found


def _rgb(colour: str) -> Colour:
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def _widest(summary: Summary) -> int:
    """The count that a bar of full length stands for."""
    counts = [max(g.built, g.expected or 0, g.published or 0) for g in summary.splits]
    return max([1, *counts, *(number for _, _, number in summary.absent)])


def _by_kind(problems: Sequence[Problem]) -> list[tuple[str, list[Problem]]]:
    """Problems by kind, commonest kind first, in stable order."""
    by_kind: defaultdict[str, list[Problem]] = defaultdict(list)
    for problem in sorted(problems, key=Problem.sort_key):
        by_kind[problem.kind.value].append(problem)
    return sorted(by_kind.items(), key=lambda item: (-len(item[1]), item[0]))


def _explain(change: str, stored_as: str) -> str:
    """What a word of `image_changes` or `mask_changes` means, "" if it says so itself.

    Args:
        change: the word.
        stored_as: format of the stored files, `jpg` or `png`.
    """
    if change == stored_as:
        return "stored as PNG, losslessly"
    for pattern, meaning in _CHANGES:
        if re.fullmatch(pattern, change):
            return meaning
    return ""


def _web_address(value: str | None) -> str | None:
    """An address that may become a link: http and https only."""
    return value if value and value.startswith(("https://", "http://")) else None
