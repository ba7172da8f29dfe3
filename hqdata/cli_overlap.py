"""The commands about overlap between training and evaluation sets."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hqdata.cli_common import (
    EXIT_DATA,
    DataRoot,
    Workers,
    cores,
    out_console,
    reporting,
    split_names,
    tell,
)
from hqdata.scan import DEFAULT_DATA_ROOT

if TYPE_CHECKING:
    from hqdata.overlap.blocks import Item
    from hqdata.overlap.report import OverlapReport
    from hqdata.shards.dataset import Dataset

EXIT_NOT_PROVABLE = 3
"""Exit status where something that a proof needs is missing or unread."""


def fingerprint(
    evaluation: Annotated[
        str,
        typer.Argument(
            metavar="SET",
            help="An evaluation set (coco-val2017, dis/validation), or a folder of pictures.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Folder to write the file of fingerprints into.")
    ],
    data_root: DataRoot = DEFAULT_DATA_ROOT,
    workers: Workers = None,
    use: Annotated[
        list[str] | None,
        typer.Option("--use", metavar="SET[/SPLIT]=PATH", help="Which of several to read."),
    ] = None,
    subset: Annotated[
        bool,
        typer.Option(
            "--subset",
            help="You have a part of the set: write it, marked as a part that proves nothing of "
            "the whole.",
        ),
    ] = False,
) -> None:
    """Write the fingerprints of an evaluation set, for proofs where its pictures are not."""
    from hqdata.overlap.publish import publish_fingerprints

    with reporting() as reporter:
        result = publish_fingerprints(
            evaluation,
            data_root,
            out,
            workers=workers or cores(),
            use=use or [],
            subset=subset,
            reporter=reporter,
        )
    for line in result.problems:
        tell(f"not whole: {line}")
    for name, reason in result.unread[:100]:
        tell(f"unread: {name}: {reason}")
    if len(result.unread) > 100:
        tell(f"… and {len(result.unread) - 100:,} more")
    if result.path is None:
        tell(
            f"nothing was written: fingerprints of {result.set} would not be those of the whole set"
        )
        raise typer.Exit(EXIT_DATA)
    out_console.print(
        f"{result.set}: {result.num_images:,} pictures, {result.num_bytes / 2**20:,.1f} MiB: "
        f"{result.path}",
        markup=False,
    )
    out_console.print(f"digest {result.digest}", markup=False)
    raise typer.Exit(EXIT_DATA if result.problems else 0)


def _build_command(dataset: Dataset, data_root: Path, report: Path, *, subset: bool) -> str:
    """The command that builds the data set without what a report names."""
    words = ["hqdata", "build", "--out", str(dataset.root)]
    if data_root != DEFAULT_DATA_ROOT:
        words += ["--data-root", str(data_root)]
    if dataset.info.name != "hqseg-44k":
        words += ["--recipe", dataset.info.name]
    return shlex.join([*words, *(["--subset"] if subset else []), "--remove", str(report)])


def verify_no_overlap(
    path: Annotated[Path, typer.Argument(metavar="[SHARDS]", help="Folder of a data set.")] = Path(
        "shards"
    ),
    data_root: DataRoot = DEFAULT_DATA_ROOT,
    report: Annotated[
        Path, typer.Option("--report", help="Where to write what was found, as JSON.")
    ] = Path("overlap.json"),
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with every pair's pictures.")
    ] = None,
    evaluation: Annotated[
        list[str] | None,
        typer.Option(
            "--evaluation",
            metavar="SET",
            help="A set, a folder of pictures or a file of fingerprints beyond the recipe's.",
        ),
    ] = None,
    within: Annotated[
        bool, typer.Option("--within", help="Look for duplicates inside the data set instead.")
    ] = False,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="List evaluation sets that are not there, and go on."),
    ] = False,
    subset: Annotated[
        bool,
        typer.Option("--subset", help="You have a part of the evaluation sets: hold no counts."),
    ] = False,
    use: Annotated[
        list[str] | None,
        typer.Option("--use", metavar="SET[/SPLIT]=PATH", help="Which of several to read."),
    ] = None,
    copies: Annotated[
        int, typer.Option("--copies", min=1, help="Copies planted of each kind of edit.")
    ] = 24,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Folder of what is kept. [default: in the data set's]"),
    ] = None,
    workers: Workers = None,
) -> None:
    """Prove that no picture of a data set is in an evaluation set, or show those that are."""
    from hqdata.overlap.report import forget_report
    from hqdata.overlap.verify import VerifyOptions, verify

    options = VerifyOptions(
        workers=workers or cores(),
        evaluation=tuple(split_names(evaluation)),
        within=within,
        allow_missing=allow_missing,
        subset=subset,
        use=tuple(use or ()),
        copies=copies,
        cache=cache,
    )
    command = ""

    def finish(found: OverlapReport, dataset: Dataset, items: Sequence[Item]) -> None:
        nonlocal command
        command = _build_command(dataset, data_root, report, subset=subset)
        found.write(report)
        if html is not None:
            from hqdata.overlap.pictures import write_page

            write_page(found, dataset, items, html, report_path=report, build_command=command)

    forget_report(report)
    with reporting() as reporter:
        found = verify(path, data_root, options, reporter=reporter, finish=finish)
    from hqdata.report.overlap_table import conclusion, render_tables

    for table in render_tables(found):
        out_console.print(table)
    for line in conclusion(found):
        out_console.print(line, markup=False, soft_wrap=True)
    out_console.print(f"report: {report}", markup=False, soft_wrap=True)
    if html is not None:
        out_console.print(f"page: {html}", markup=False, soft_wrap=True)
    if found.verdict == "overlap":
        out_console.print(f"to build without them: {command}", markup=False, soft_wrap=True)
    status = {"clean": 0, "overlap": EXIT_DATA, "incomplete": EXIT_NOT_PROVABLE}
    raise typer.Exit(status[found.verdict])
