"""`hqdata build`: all of it, a part of it beside others, or what it would cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

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
from hqdata.errors import UserError

if TYPE_CHECKING:
    from hqdata.build.engines import Engine
    from hqdata.build.options import BuildResult, PartResult
    from hqdata.resolve import ResolvedRecipe

Stage = Literal["choose", "write", "finish"]


def build(
    out: Annotated[
        str | None, typer.Option("--out", help="Folder or URL of the data set, e.g. s3://…")
    ] = None,
    data_root: DataRootOrUrl = "data",
    recipe: Annotated[
        str, typer.Option("--recipe", help="Name of a recipe, or path of a .yaml file.")
    ] = "hqseg-44k",
    include: Annotated[
        list[str] | None, typer.Option("--include", help="Only these sources, e.g. dis,ecssd.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="Without these sources, e.g. dis.")
    ] = None,
    workers: Workers = None,
    use: Annotated[
        list[str] | None,
        typer.Option("--use", metavar="SOURCE[/SPLIT]=PATH", help="Which of several to read."),
    ] = None,
    subset: Annotated[
        bool,
        typer.Option(
            "--subset", help="You have a part of the releases: hold no counts and names against it."
        ),
    ] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Remove shards of other builds; let a complete data set shrink."
        ),
    ] = False,
    remove: Annotated[
        Path | None,
        typer.Option(
            "--remove",
            metavar="OVERLAP.JSON",
            help="Leave out what this report of overlaps has confirmed pairs of.",
        ),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option("--engine", help="Where tasks run: here, or on a Ray cluster."),
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address", help="Of the cluster; local: one of this machine. [default: found]"
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="I/N", help="Do one part of N, from 1: for job arrays."),
    ] = None,
    stage: Annotated[
        Stage | None,
        typer.Option(
            "--stage",
            help="With --task: choose from archives, or write shards; finish: end an array.",
        ),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            "--index", help="Folder or URL for lists of archives' members, for other builds to use."
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what a build from archives would cost, and end.")
    ] = False,
) -> None:
    """Build a data set of shards. Killed anywhere and started again, it gives the same bytes."""
    from hqdata.build.run import BuildOptions, build_part, check_part
    from hqdata.build.run import build as run_build
    from hqdata.overlap.removal import read_removal
    from hqdata.recipe import load_recipe, select
    from hqdata.resolve import resolve
    from hqdata.sources.discover import parse_use

    chosen = select(load_recipe(recipe), include=split_names(include), exclude=split_names(exclude))
    resolved = resolve(chosen, subset=subset)
    root = place_given(data_root)
    if plan:
        _print_plan(resolved, root, workers)
        return
    part = None if task is None else check_part(task)
    _check_stage(task, stage)
    if task is not None and engine == "ray":
        raise UserError(
            "--task and --engine ray are two ways to use many machines", do="leave one out"
        )
    if out is None:
        raise UserError("it is not said where to build", do="give a folder or a URL with --out")
    if ray_address is not None and engine != "ray":
        raise UserError("--ray-address goes with --engine ray", do="give both, or neither")
    options = BuildOptions(
        workers=workers or cores(),
        use=parse_use(use or [], {s.source for s in resolved.splits}, root),
        prune=prune,
        remove=read_removal(remove) if remove is not None else None,
        engine=_engine(engine, workers, ray_address),
        index=index,
    )
    with reporting() as reporter:
        if part is not None and stage != "finish":
            done = build_part(
                resolved,
                root,
                out,
                options,
                part=part,
                stage=stage,
                reporter=reporter,
                tell=tell,
            )
        else:
            result = run_build(
                resolved,
                root,
                out,
                options,
                only_finish=stage == "finish",
                reporter=reporter,
                tell=tell,
            )
            done = None
    if done is None:
        _print_result(result, out)
    else:
        _print_part(done, out, stage)


def _engine(engine: str, workers: int | None, address: str | None) -> Engine | None:
    if engine == "local":
        return None
    from hqdata.build.ray_engine import RayEngine

    return RayEngine(workers, address, tell)


def _check_stage(task: str | None, stage: Stage | None) -> None:
    if stage in ("choose", "write") and task is None:
        raise UserError(
            f"--stage {stage} is of one task of an array",
            expected="--task I/N with it; without both, a build does everything",
        )
    if stage == "finish" and task is not None:
        raise UserError("--stage finish ends all of an array", do="leave out --task")


def _print_result(result: BuildResult, out: str) -> None:
    from hqdata.places import Place
    from hqdata.report.build_table import composition, problem_summary

    shown = Place.of(out).shown
    out_console.print(composition(result.info))
    if result.problems:
        out_console.print(problem_summary(result.problems))
        where = f"{shown.rstrip('/')}/problems.jsonl"
        out_console.print(f"every problem is listed in {where}", markup=False)
    out_console.print(
        f"{result.info.num_samples:,} samples in {len(result.info.shards)} shards "
        f"({result.num_written} written, {result.num_kept} kept): {shown}",
        markup=False,
    )
    out_console.print(f"digest {result.info.digest}", markup=False)
    if not result.clean:
        what = "complete, with problems" if result.info.complete else "not complete"
        tell(f"the data set is {what}")
    raise typer.Exit(0 if result.clean else EXIT_DATA)


def _print_part(done: PartResult, out: str, stage: Stage | None) -> None:
    from hqdata.places import Place

    out_console.print(
        f"this task: {done.num_scanned} archives listed, {done.num_written} shards written, "
        f"{done.num_kept} kept: {Place.of(out).shown}",
        markup=False,
    )
    if not done.waiting:
        return
    if stage == "write":
        tell(
            f"no shard can be planned: {done.waiting} archives are not listed; run the array with "
            "--stage choose first"
        )
        raise typer.Exit(EXIT_DATA)
    tell(
        f"no shard can be planned yet: {done.waiting} archives of other tasks are not listed; once "
        "all of the array has ended start it again, then run --stage finish"
    )


def _print_plan(resolved: ResolvedRecipe, root: Path | str, workers: int | None) -> None:
    from hqdata.build.cost_report import plan_tables

    if not resolved.samples:
        raise UserError(
            f"recipe {resolved.name!r} draws nothing from archives",
            expected="a recipe like sa1b-44k; the others read each of their files once",
        )
    for item in plan_tables(resolved.samples, resolved.recipe, root, workers):
        out_console.print(item, soft_wrap=isinstance(item, str))
    err.print("nothing was read but names and sizes, and nothing was written", markup=False)
