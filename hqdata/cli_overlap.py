"""The commands about overlap between training and evaluation sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hqdata.cli_common import EXIT_DATA, DataRoot, Workers, cores, out_console, reporting, tell
from hqdata.scan import DEFAULT_DATA_ROOT


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
