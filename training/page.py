"""One self-contained HTML page about a run: no request leaves it, it opens from disk."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

import hqdata
from hqdata.files import write_whole
from training.results import Line, Results, lines, notes
from training.run_chart import draw_curves, step_rows
from training.scores import SetResult


@dataclass(frozen=True, slots=True, kw_only=True)
class PageData:
    """What the page shows.

    Attributes:
        title: name of the run.
        model: name of the backbone.
        sources: what it was trained on: "source/split" and how many images.
        facts: (label, value), anything else worth knowing of the run.
        rows: of `metrics.jsonl`.
        results: of the last or best evaluation, if there was any.
        pictures: (caption, PNG bytes), sheets of `training.pictures.draw_sheet`.
        commands: what to do next, for copying.
    """

    title: str
    model: str
    sources: Sequence[tuple[str, int]]
    facts: Sequence[tuple[str, str]] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    results: Results | None = None
    pictures: Sequence[tuple[str, bytes]] = ()
    commands: Sequence[str] = field(default=())


@dataclass(frozen=True, slots=True)
class Pair:
    """Boundary IoU of a set before and after, in per cent: for the small chart in the table."""

    sam: float
    hq: float


def render_page(data: PageData) -> str:
    """The page as a string. The same data give the same page."""
    steps = step_rows(data.rows)
    results = data.results
    table = table_rows(results) if results else []
    return find_template("run.html.j2").render(
        data=data,
        version=hqdata.__version__,
        num_images=sum(number for _, number in data.sources),
        most=max([1, *(number for _, number in data.sources)]),
        last=steps[-1] if steps else None,
        num_steps=int(steps[-1]["step"]) if steps else 0,
        chart=draw_curves(data.rows),
        table=table,
        notes=notes(results) if results else [],
        mean=results.result.mean("hq") if results else None,
        sam_mean=results.result.mean("sam") if results else None,
        has_paper=any(line.paper_hq for line, _ in table),
        worst=_worst(results.result.sets) if results else [],
    )


def write_page(path: Path, data: PageData) -> None:
    """Writes the page, whole or not at all."""
    write_whole(path, render_page(data).encode("utf-8", "backslashreplace"))


def find_template(name: str) -> Template:
    """A template of this package, with the style and the filters that its pages share."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(_resource),
    )
    environment.filters.update(count=_count, png=_png)
    environment.globals["css"] = Markup(_resource("page.css"))  # our own file, nothing of the data
    return environment.get_template(name)


def table_rows(results: Results) -> list[tuple[Line, Pair | None]]:
    """The rows of the table of results: one a set, then those of means, which have no dots."""
    dots = [Pair(100 * one.sam.mbiou, 100 * one.hq.mbiou) for one in results.result.sets]
    return list(zip_longest(lines(results), dots))


def _resource(name: str) -> str:
    return files("training").joinpath(name).read_text(encoding="utf-8")


def _worst(sets: Sequence[SetResult]) -> list[tuple[str, str, float, float]]:
    """(set, key, SAM, HQ-SAM) of each set's worst image, boundary IoU in per cent."""
    found = []
    for one in sets:
        for image in one.worst(1):
            sam, hq = 100 * image.sam_boundary_iou, 100 * image.hq_boundary_iou
            found.append((one.name, image.key, sam, hq))
    return found


def _count(value: int) -> str:
    return f"{value:,}"


def _png(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")
