"""The figures of a data set as tables for the terminal, at most 100 columns wide."""

from __future__ import annotations

from rich import box
from rich.console import Group as Renderables
from rich.table import Table
from rich.text import Text

from hqdata.report import words
from hqdata.report.stats import Figures, Group, Summary


def composition_table(summary: Summary) -> Table:
    """The composition: counts by source and split beside the recipe's and Table 5's."""
    title = Text(summary.name, "bold")
    title.append("  complete" if summary.complete else "  INCOMPLETE", _state_style(summary))
    caption = (
        f"{words.size(summary.num_shard_bytes)} in {summary.num_shards:,} shards\n"
        f"digest {summary.digest}"
    )
    for where, item in summary.sampled:
        caption = f"{where}: {words.drawn(item)}\n{caption}"
    if summary.num_problems:
        caption = f"{summary.num_problems:,} problems, see problems.jsonl\n{caption}"
    table = _table(title, caption)
    # Only long names may be broken; a number never.
    table.add_column("source", overflow="fold")
    table.add_column("split", overflow="fold")
    published = summary.published_label
    for heading in ("images", "expected", published, "share", "rejected", "dropped"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for source in summary.sources:
        splits = summary.splits_of(source.source)
        for number, split in enumerate(splits):
            name = source.source if number == 0 else ""
            table.add_row(name, split.split, *_counts(split))
        if len(splits) > 1:
            table.add_row("", Text("both" if len(splits) == 2 else "all", "dim"), *_counts(source))
    for name, split_name, number in summary.absent:
        row = (name, split_name, words.NONE, "", words.count(number), "", "", "")
        table.add_row(*row, "not asked for", style="dim")
    table.add_section()
    table.add_row("total", "", *_counts(summary.total), style="bold")
    return table


def render_table(summary: Summary) -> Renderables:
    """The composition, what the pictures and masks look like, and, if anything did, what changed
    on the way in: tables, one below the other.
    """
    return Renderables(*render_tables(summary))


def render_tables(summary: Summary) -> tuple[Table, ...]:
    """The tables of `render_table` one by one."""
    tables = [composition_table(summary), _figures_table(summary)]
    if summary.total.images.num_changed or summary.total.masks.num_changed:
        tables.append(_changes_table(summary))
    return tuple(tables)


def _table(title: str | Text, caption: str | None = None) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _state_style(group: Group | Summary) -> str:
    return "bold green" if group.complete else "bold red"


def _counts(group: Group) -> tuple[str | Text, ...]:
    state = Text(words.state(group), "green" if group.complete else "bold red")
    return (
        Text(words.count(group.built), "" if group.complete else "bold red"),
        "any" if group.expected is None else words.count(group.expected),
        words.count(group.published),
        words.percent(group.share),
        Text(words.count(group.rejected), "bold red" if group.rejected else "dim"),
        Text(words.count(group.dropped), "" if group.dropped else "dim"),
        state,
    )


def _figures_table(summary: Summary) -> Table:
    table = _table(
        "pictures and masks",
        "medians; soft: mean share of soft edges; parts: 8-connected components\n"
        "thinness: perimeter² / (4 π area), 1 for a disc",
    )
    table.add_column("source", overflow="fold")
    headings = ("width × height", "longest side", "Mpx", "object", "mean", "soft")
    for heading in (*headings, "parts", "most", "thinness", "90 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group in summary.sources:
        table.add_row(group.source, *_figures(group.figures))
    table.add_section()
    table.add_row("total", *_figures(summary.total.figures), style="bold")
    return table


def _figures(figures: Figures | None) -> tuple[str, ...]:
    if figures is None:
        return (words.NONE,) * 10
    return (
        words.sides(figures),
        words.extent(figures.longest_side),
        words.short(figures.megapixels.median),
        words.percent(figures.area_fraction.median),
        words.percent(figures.area_fraction.mean),
        words.percent(figures.soft_fraction.mean),
        words.whole(figures.components.median),
        words.whole(figures.components.maximum),
        words.short(figures.thinness.median),
        words.short(figures.thinness.p90),
    )


def _changes_table(summary: Summary) -> Table:
    table = _table("what normalisation changed")
    table.add_column("source", overflow="fold")
    table.add_column("images", justify="right")
    table.add_column("what was done")
    table.add_column("masks", justify="right")
    table.add_column("what was done")
    for group in summary.sources:
        if group.images.num_changed or group.masks.num_changed:
            table.add_row(
                group.source,
                words.count(group.images.num_changed),
                _what(group.images.by_what),
                words.count(group.masks.num_changed),
                _what(group.masks.by_what),
            )
    return table


def _what(by_what: tuple[tuple[str, int], ...]) -> str:
    return ", ".join(f"{what} {number:,}" for what, number in by_what)
