"""What a proof says, for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from hqdata.overlap.report import OverlapReport

_SHOWN = 20
_HINTS_SHOWN = 3


def render_tables(report: OverlapReport) -> Iterator[Table]:
    """What was searched, the self-test, and the first pairs."""
    if report.evaluation:
        yield _searched(report)
    if report.self_test:
        yield _self_test(report)
    if report.pairs:
        yield _pairs(report)


def _searched(report: OverlapReport) -> Table:
    table = Table(title=f"{report.num_train:,} training pictures against")
    for name in ("evaluation set", "pictures", "from", "where", "overlaps"):
        table.add_column(name, justify="right" if name in ("pictures", "overlaps") else "left")
    counts = Counter(pair.evaluation.set for pair in report.confirmed())
    for one in report.evaluation:
        table.add_row(
            Text(one.set), f"{one.num_images:,}", one.how, Text(one.source), f"{counts[one.set]:,}"
        )
    for name in report.missing:
        table.add_row(Text(name), "", "missing", "", "not searched")
    return table


def _self_test(report: OverlapReport) -> Table:
    table = Table(title="self-test: copies planted in this search")
    for name in ("edit", "planted", "found", "asked", ""):
        table.add_column(name, justify="left" if name in ("edit", "") else "right")
    for name, row in report.self_test.items():
        table.add_row(
            name,
            f"{row.planted:,}",
            f"{row.found:,}",
            f"{row.asked:.1%}",
            "held" if row.held else "NOT HELD",
        )
    return table


def _pairs(report: OverlapReport) -> Table:
    proven = report.confirmed()[:_SHOWN]
    shown = [*proven, *[pair for pair in report.pairs if not pair.confirmed][:_HINTS_SHOWN]]
    more = len(report.pairs) - len(shown)
    caption = f"and {more:,} more in the report" if more else None
    table = Table("training picture", "evaluation picture", "how", "evidence", caption=caption)
    for pair in shown:
        how = pair.kind if pair.confirmed else f"{pair.kind} (a hint)"
        name = f"{pair.evaluation.set} {pair.evaluation.name}"
        table.add_row(Text(pair.train), Text(name), how, Text(pair.reason))
    return table


def conclusion(report: OverlapReport) -> Iterator[str]:
    """The verdict in words, and what stands in its way."""
    confirmed = report.confirmed()
    hints = len(report.pairs) - len(confirmed)
    keys = len({pair.train for pair in confirmed})
    for one in report.evaluation:
        for problem in one.problems:
            yield f"not whole: {one.set}: {problem}"
        if not one.num_images:
            yield f"not whole: {one.set} has no pictures"
    for picture in report.unread[:_SHOWN]:
        yield f"unread: {picture.set} {picture.name}: {picture.reason}"
    if len(report.unread) > _SHOWN:
        yield f"unread: {len(report.unread) - _SHOWN:,} more, in the report"
    lost = [name for name, row in report.self_test.items() if not row.held]
    if lost:
        yield f"the self-test did not hold for: {', '.join(lost)}"
    if report.false_pairs:
        yield f"{report.false_pairs:,} planted copies were paired with unrelated pictures"
    if report.missing:
        yield f"not searched, for they are not here: {', '.join(report.missing)}"
    if hints:
        yield f"{hints:,} pairs are hints to look at, not proven: they change nothing"
    if report.verdict == "overlap":
        what = "are in the data set twice" if report.within else "overlap an evaluation set"
        yield f"OVERLAP: {keys:,} training pictures {what} ({len(confirmed):,} pairs)"
    elif report.verdict == "clean":
        what = "no picture is in the data set twice" if report.within else "no overlap"
        part = " with the part of the evaluation sets that is here" if report.subset else ""
        yield f"CLEAN: {what}{part}"
    else:
        yield "NOT PROVEN: nothing was found, but not everything was searched"
    yield f"digest {report.dataset_digest}"
