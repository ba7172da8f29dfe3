"""The command that publishes a data set."""

from __future__ import annotations

import datetime
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from hqdata.cli_common import (
    EXIT_DATA,
    Workers,
    cores,
    err,
    out_console,
    reporting,
    split_names,
    tell,
)
from hqdata.errors import CancelledError, UserError
from hqdata.files import no_room

if TYPE_CHECKING:
    from hqdata.hub.licences import What
    from hqdata.hub.plan import PushPlan
    from hqdata.hub.remote import Hub


def push(
    path: Annotated[Path, typer.Argument(metavar="SHARDS", help="Folder of a data set.")],
    repo: Annotated[
        str, typer.Option("--repo", help="The data set on the Hub, e.g. me/hqseg-44k.")
    ],
    what: Annotated[
        str,
        typer.Option(
            "--what",
            help="all, or manifest: recipe, manifest, certificate and removals without a picture.",
        ),
    ] = "all",
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="Without these sources, e.g. dis.")
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--certificate", help="Report of verify-no-overlap. [default: overlap.json, if it fits]"
        ),
    ] = None,
    without_certificate: Annotated[
        bool,
        typer.Option("--without-certificate", help="Push what is not proven; the card says so."),
    ] = False,
    permission: Annotated[
        list[Path] | None,
        typer.Option(
            "--permission", metavar="FILE", help="A recorded right to publish a source; repeatable."
        ),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Show it to everybody, where every source allows it.")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Let another data set, or more of this one, make room."),
    ] = False,
    merge: Annotated[
        bool,
        typer.Option("--merge/--no-merge", help="--no-merge leaves a pull request to look at."),
    ] = True,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would go where, and what forbids it. Offline."),
    ] = False,
    workers: Workers = None,
) -> None:
    """Publish a data set on the Hugging Face Hub: private and gated, unless all may see it.

    Killed anywhere and run again it goes on; of an unchanged data set it sends nothing.
    """
    from hqdata.hub import tables
    from hqdata.hub.certificate import read_certificate
    from hqdata.hub.licences import decide, terms_of
    from hqdata.hub.permission import read_permission
    from hqdata.hub.plan import make_plan, manifest_of
    from hqdata.hub.remote import check_repo_id
    from hqdata.shards.dataset import Dataset
    from hqdata.shards.subset import choose

    repo = check_repo_id(repo)
    if what not in ("all", "manifest"):
        raise UserError(f"--what is {what!r}", expected="'all' or 'manifest'")
    dataset = Dataset.open(path)
    sources = choose(dataset.info, exclude=split_names(exclude))
    kind: What = "manifest" if what == "manifest" else "all"
    today = datetime.date.today()
    permissions = [read_permission(file, today) for file in permission or []]
    manifest = manifest_of(dataset, sources)
    terms = terms_of(dataset, sources, permissions)
    if dry_run:
        out_console.print(tables.licence_table(terms))
    decision = decide(terms, what=kind, public=public)
    proof = read_certificate(
        certificate,
        dataset.info,
        manifest.info.digest,
        required=not without_certificate,
        shards=path,
    )
    hub = None if dry_run else _connect()
    with ThreadPoolExecutor(1) as beside:
        planned = beside.submit(
            make_plan,
            dataset,
            manifest,
            repo_id=repo,
            what=kind,
            decision=decision,
            certificate=proof,
            without_certificate=without_certificate,
        )
        if not dry_run:
            _check(path, workers or cores())
        plan = planned.result()
    if dry_run:
        out_console.print(tables.files_table(plan))
        for line in (*tables.plan_lines(plan), _OFFLINE):
            out_console.print(line, markup=False, soft_wrap=True)
        return
    for line in tables.notes(plan):
        tell(line)
    assert hub is not None
    _push(plan, hub, replace=replace, merge=merge)


_OFFLINE = "nothing was sent, no digest was read, and the Hub was asked nothing"


def _connect() -> Hub:
    """The Hub, once it knows the token: better now than after all digests were read.

    Raises:
        UserError: there is no token.
        HubError: it is not valid, or the Hub cannot be reached.
    """
    from hqdata.hub.remote import Hub
    from hqdata.hub.repository import user_of

    hub = Hub(tell=tell)
    user_of(hub)
    return hub


def _check(root: Path, workers: int) -> None:
    """Lets nothing leave that is not as the manifest says.

    Raises:
        typer.Exit: something is damaged.
    """
    from hqdata.shards.check import check

    with reporting() as reporter:
        checked = check(root, quick=True, workers=workers, reporter=reporter)
    if checked.damages:
        for damage in checked.damages[:20]:
            name = " ".join(filter(None, (damage.path, damage.key)))
            tell(f"damaged: {name}: {damage.message}")
        tell("nothing was sent: run the command again that built the data set, which mends it")
        raise typer.Exit(EXIT_DATA)


def _push(plan: PushPlan, hub: Hub, *, replace: bool, merge: bool) -> None:
    from hqdata.hub.push import push as run_push

    try:
        with reporting() as reporter:
            result = run_push(plan, hub, replace=replace, merge=merge, reporter=reporter, tell=tell)
    except CancelledError as error:
        _leave_at_once(error)
    except KeyboardInterrupt:
        _leave_at_once(CancelledError("stopped", do="the same command goes on"))
    except OSError as error:
        raise no_room(error, plan.root) or UserError(
            f"a file cannot be read or written: {error.strerror or error}",
            where=error.filename or "the folder of the Hub's client, HF_HOME",
            do="let it be written to, or name another folder with HF_HOME",
        ) from error
    if result.state == "unchanged":
        out_console.print(f"all of it is there already: {result.url}", markup=False, soft_wrap=True)
    else:
        where = "in the pull request" if result.state == "open" else "pushed"
        files = "file" if result.num_sent == 1 else "files"
        out_console.print(
            f"{where}: {result.num_sent} {files} sent, {result.bytes_sent / 2**20:,.1f} MiB, "
            f"compared with the manifest: {result.url}",
            markup=False,
            soft_wrap=True,
        )
    out_console.print(f"commit {result.commit}", markup=False)
    if result.state != "open":
        out_console.print(f"tag {plan.tag}", markup=False)
    out_console.print(f"digest {plan.digest}", markup=False)


def _leave_at_once(error: CancelledError) -> NoReturn:
    """Ends the process without waiting for uploads in flight, as the interpreter would."""
    err.print(f"error: {error}", markup=False)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(error.exit_status)
