"""What a build prints at its end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from hqdata.problems import Problem, ProblemKind
from hqdata.shards.dataset import DatasetInfo


def composition(info: DatasetInfo) -> Table:
    """Built beside expected samples, a row a split and one for the total.

    Names may come from somebody else: they are shown as they are, and never as markup.
    """
    table = Table("source", "split", title=Text(info.name, style="table.title"))
    for name in ("built", "expected", "rejected", "dropped"):
        table.add_column(name, justify="right")
    table.add_column("")
    totals: Counter[str] = Counter()
    all_known = True
    for source, splits in info.sources.items():
        for split, counts in splits.items():
            expected = "any" if counts.expected is None else f"{counts.expected:,}"
            table.add_row(
                Text(source),
                Text(split),
                f"{counts.built:,}",
                expected,
                f"{counts.rejected:,}" if counts.rejected else "",
                f"{counts.dropped:,}" if counts.dropped else "",
                "" if counts.complete else "incomplete",
            )
            all_known &= counts.expected is not None
            totals.update(
                built=counts.built,
                expected=counts.expected or 0,
                rejected=counts.rejected,
                dropped=counts.dropped,
            )
    table.add_section()
    table.add_row(
        "total",
        "",
        f"{totals['built']:,}",
        f"{totals['expected']:,}" if all_known else "any",
        f"{totals['rejected']:,}" if totals["rejected"] else "",
        f"{totals['dropped']:,}" if totals["dropped"] else "",
        "complete" if info.complete else "incomplete",
        style="bold",
    )
    return table


def problem_summary(problems: Iterable[Problem], *, examples: int = 3) -> Table:
    """Problems by kind and split, with a few examples of each."""
    groups: dict[tuple[ProblemKind, str, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        groups[(problem.kind, problem.source, problem.split)].append(problem)
    table = Table("problem", "where", title="problems")
    table.add_column("count", justify="right")
    table.add_column("for example", overflow="fold")
    for (kind, source, split), group in groups.items():
        shown = [f"{p.image or p.mask}: {p.message}".lstrip(": ") for p in group[:examples]]
        if len(group) > examples:
            shown.append("…")
        table.add_row(
            kind.value, Text(f"{source} {split}"), f"{len(group):,}", Text("\n".join(shown))
        )
    return table
