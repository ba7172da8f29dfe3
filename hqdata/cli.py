"""The command line: each command parses, calls one function, prints.

Exit status: 0 complete and clean · 1 the data have problems, or the work was stopped and can go on
· 2 the command was called wrongly · 3 not provable · 130 Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.table import Table

import hqdata
from hqdata import cli_build, cli_overlap, cli_pull, cli_push
from hqdata.cli_common import (
    EXIT_DATA,
    DataRootOrUrl,
    Workers,
    cores,
    err,
    out_console,
    place_given,
    reporting,
    split_names,
    tell,
)
from hqdata.errors import HqdataError, UserError

app = typer.Typer(
    name="hqdata",
    help="Builds HQSeg-44K from its six sources as verified WebDataset shards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        out_console.print(f"hqdata {hqdata.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Builds HQSeg-44K from its six sources as verified WebDataset shards."""


@app.command()
def sources(
    data_root: DataRootOrUrl = "data",
    use: Annotated[
        list[str] | None,
        typer.Option("--use", metavar="SOURCE[/SPLIT]=PATH", help="Which of several to read."),
    ] = None,
) -> None:
    """Show every source and evaluation set: found or missing, layout, pairs, where to get it."""
    from hqdata.overview import overview

    with reporting() as reporter:
        view = overview(place_given(data_root), use or [], reporter)
    out_console.print(view.table())
    for line in view.notes:
        out_console.print(line, markup=False)
    raise typer.Exit(0 if view.all_found else EXIT_DATA)


app.command()(cli_build.build)


@app.command()
def check(
    path: Annotated[str, typer.Argument(metavar="SHARDS", help="Folder or URL of a data set.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Digests, sizes and counts only; decode nothing.")
    ] = False,
    workers: Workers = None,
) -> None:
    """Re-read a data set and hold all of it against its manifest."""
    from hqdata.shards.check import check as run_check

    with reporting() as reporter:
        result = run_check(
            place_given(path), quick=quick, workers=workers or cores(), reporter=reporter
        )
    if result.damages:
        table = Table("file", "sample", "damage", title=f"{len(result.damages)} damages")
        for damage in result.damages[:100]:
            table.add_row(damage.path, damage.key, damage.message)
        out_console.print(table)
        if len(result.damages) > 100:
            out_console.print(f"… and {len(result.damages) - 100} more")
        tell("to mend it, run the command that built it again: only what is damaged is made anew")
        raise typer.Exit(EXIT_DATA)
    info = result.info
    how = "digests and counts" if quick else "every member, record and pixel"
    out_console.print(
        f"undamaged: {info.num_samples:,} samples in {len(info.shards)} shards, "
        f"{result.num_bytes / 2**20:,.1f} MiB, {how}",
        markup=False,
    )
    out_console.print(f"digest {info.digest}", markup=False)
    for source, split, message in result.missing:
        out_console.print(f"incomplete: {source} {split} has {message}", markup=False)
    raise typer.Exit(EXIT_DATA if result.missing else 0)


@app.command()
def stats(
    path: Annotated[str, typer.Argument(metavar="SHARDS", help="Folder or URL of a data set.")],
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with pictures and plots.")
    ] = None,
) -> None:
    """Show what is in a data set, beside Table 5 of the paper."""
    from hqdata.problems import read_jsonl
    from hqdata.report.page import write_page
    from hqdata.report.stats import summarise
    from hqdata.report.table import render_table
    from hqdata.shards.dataset import Dataset
    from hqdata.shards.manifest_here import manifest_here
    from hqdata.shards.names import PROBLEMS_FILE

    with manifest_here(place_given(path)) as (folder, place):
        dataset = Dataset.open(folder, place)
        summary = summarise(dataset)
        out_console.print(render_table(summary))
        if html is not None:
            try:
                write_page(dataset, summary, read_jsonl(folder / PROBLEMS_FILE), html)
            except OSError as error:
                raise UserError(f"cannot write the page: {error.strerror}", where=html) from error
            out_console.print(f"page: {html}", markup=False)


@app.command()
def mini(
    out: Annotated[Path, typer.Option("--out", help="Folder to make the stand-in in.")],
    scale: Annotated[
        str,
        typer.Option("--scale", help="small, full (44,320 pictures), or a fraction of full: 0.02."),
    ] = "small",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Other seeds, other pictures.")] = 0,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only these sets, e.g. dis,fss.")
    ] = None,
    workers: Workers = None,
) -> None:
    """Make a procedural stand-in of all sources and evaluation sets, in their official layouts."""
    from hqdata.mini import make_mini

    with reporting() as reporter:
        began = False

        def progress(done: int, total: int) -> None:
            nonlocal began
            if not began:
                reporter.start("drawing", total, "pictures")
                began = True
            reporter.update(done)

        report = make_mini(
            out,
            scale=scale,
            seed=seed,
            workers=workers or cores(),
            progress=progress,
            sets=split_names(only) or None,
        )
        if began:
            reporter.finish()
    out_console.print(
        f"{report.num_pictures:,} pictures and masks, {report.num_bytes / 2**20:,.1f} MiB: {out}",
        markup=False,
    )
    recipe = {"small": "mini", "full": "hqseg-44k"}.get(scale)
    how = f"--recipe {recipe}" if recipe else "--subset"
    out_console.print(f"next: hqdata build --data-root {out} {how} --out shards/", markup=False)


app.command("verify-no-overlap")(cli_overlap.verify_no_overlap)
app.command()(cli_overlap.fingerprint)
app.command()(cli_push.push)
app.command()(cli_pull.pull)
app.command()(cli_pull.fetch)


EXIT_STOPPED = 130


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main() -> NoReturn:
    """Runs the command line; the user's mistakes become one message and an exit status."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = app(standalone_mode=False)
    except HqdataError as error:
        err.print(f"error: {error}", markup=False)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        err.print("stopped")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        show = getattr(error, "show", None)  # a usage error of the option parser explains itself
        if show is None:
            raise
        show()
        sys.exit(getattr(error, "exit_code", 2))
    if status == EXIT_STOPPED:  # the option parser has caught Ctrl-C, and said nothing
        err.print("stopped; the same command goes on")
    sys.exit(status if isinstance(status, int) else 0)
