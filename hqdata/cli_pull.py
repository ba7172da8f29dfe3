"""The commands that bring something from the Hub: data sets, and archives of the sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hqdata.cli_common import EXIT_DATA, DataRoot, out_console, reporting, split_names, tell
from hqdata.scan import DEFAULT_DATA_ROOT

FilesAtOnce = Annotated[
    int, typer.Option("--workers", min=1, max=64, help="Files that are fetched at once.")
]


def pull(
    repo: Annotated[
        str, typer.Argument(metavar="REPO", help="The data set on the Hub, e.g. me/hqseg-44k.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the data set.")],
    revision: Annotated[
        str | None,
        typer.Option("--revision", help="Branch, tag or commit. [default: the newest]"),
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option("--include", help="Only these sources, e.g. dis,ecssd.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="Without these sources, e.g. dis.")
    ] = None,
    workers: FilesAtOnce = 4,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Remove shards of other sources; let a complete data set shrink."
        ),
    ] = False,
) -> None:
    """Fetch a data set from the Hugging Face Hub, verified. Stopped anywhere, it goes on."""
    from hqdata.hub.pull import PullOptions
    from hqdata.hub.pull import pull as run_pull
    from hqdata.hub.remote import Hub
    from hqdata.report.build_table import composition

    options = PullOptions(
        revision=revision,
        include=tuple(split_names(include)),
        exclude=tuple(split_names(exclude)),
        workers=workers,
        prune=prune,
    )
    with reporting() as reporter:
        result = run_pull(Hub(tell=tell), repo, out, options, reporter=reporter, tell=tell)
    info = result.info
    out_console.print(composition(info))
    if result.left_out:
        out_console.print(
            f"not taken: {', '.join(result.left_out)}; the card of all of it is at {result.url}",
            markup=False,
            soft_wrap=True,
        )
    out_console.print(
        f"{info.num_samples:,} samples in {len(info.shards)} shards ({result.num_fetched} fetched, "
        f"{result.bytes_fetched / 2**20:,.1f} MiB, {result.num_kept} kept): {out}",
        markup=False,
        soft_wrap=True,
    )
    out_console.print(f"commit {result.commit}", markup=False)
    out_console.print(f"digest {info.digest}", markup=False)
    if not info.complete:
        tell("the data set is not complete")
    raise typer.Exit(0 if info.complete else EXIT_DATA)


def fetch(
    release: Annotated[
        str, typer.Argument(metavar="RELEASE", help="What to fetch, e.g. sam-hq-repack.")
    ],
    data_root: DataRoot = DEFAULT_DATA_ROOT,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only these archives, e.g. DIS5K.zip.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be fetched. Offline.")
    ] = False,
    workers: FilesAtOnce = 3,
) -> None:
    """Fetch archives of the sources, verified. Stopped anywhere, it goes on."""
    from hqdata.hub.fetch import fetch_missing, find_release, look, terms
    from hqdata.hub.remote import Hub

    found = find_release(release)
    with reporting() as reporter:
        plan = look(found, data_root, only=split_names(only), workers=workers, reporter=reporter)
    out_console.print(f"{found.name}: {found.title}, {found.page}", markup=False, soft_wrap=True)
    for item in plan.wanted:
        state = f"there and verified: {item.found}" if item.found else "to be fetched"
        size = f"{item.archive.num_bytes / 2**20:,.0f} MiB"
        out_console.print(f"{item.archive.name}, {size}, {state}", markup=False, soft_wrap=True)
        for line in terms(item.archive):
            out_console.print(f"  {line}", markup=False, soft_wrap=True)
    out_console.print("the terms are the sources' own; this is information, not legal advice")
    if dry_run:
        size = f"{plan.bytes_to_come / 2**20:,.0f} MiB"
        out_console.print(f"{size} would be fetched; the Hub was asked nothing", markup=False)
        return
    with reporting() as reporter:
        fetch_missing(Hub(tell=tell), plan, workers=workers, reporter=reporter, tell=tell)
    out_console.print(
        f"{len(plan.missing)} archives fetched, {len(plan.wanted) - len(plan.missing)} were there, "
        f"all verified: {data_root}",
        markup=False,
        soft_wrap=True,
    )
    out_console.print(f"next: hqdata sources --data-root {data_root}", markup=False, soft_wrap=True)
