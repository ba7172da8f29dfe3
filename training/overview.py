"""The whole experiment on one page for a newcomer: `python -m training.overview --run RUN ...`.

What the token was trained on, whether any of it is in the evaluation sets, and what it changed; the
pages of each step say the rest.
"""

from __future__ import annotations

import base64
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import cv2
import numpy as np
import typer

import hqdata
from hqdata.catalogue.registry import load_manifests
from hqdata.errors import UserError
from hqdata.files import write_whole
from hqdata.overlap.report import OverlapReport, read_report
from hqdata.shards.dataset import Dataset
from training.cli_common import make_app, run_app, tell
from training.data.decode import read_picture
from training.page import find_template, table_rows
from training.pictures import choose_rows
from training.results import Results, notes, read_results
from training.run_folder import RunFolder, RunInfo

app = make_app("Makes one page of a whole experiment: data, proof, results and pictures.")

_SAMPLES = 3
"""Pictures of each source."""

_HEIGHT, _WIDTH = 160, 240
"""Pixels of these at most: twice what they take on a page, for screens with fine pixels."""

_FEW = 200
"""Evaluation pictures below which the page warns of chance."""


@dataclass(frozen=True, slots=True)
class Source:
    """A split of a source in the shards.

    Attributes:
        name: "source/split".
        title: the set's own name.
        built: pairs in the shards.
        trained: pairs that the run was trained on.
        samples: (key, `data:` address) of some pictures with their masks.
    """

    name: str
    title: str
    built: int
    trained: int
    samples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """What the report of overlaps comes to.

    Attributes:
        num_images: evaluation pictures searched.
        across, inside: confirmed pairs with evaluation pictures, and within the training set.
        hints: pairs that nothing confirms.
        planted, found: copies of the self-test.
        sets: evaluation sets that have a confirmed pair.
        gaps: why something was not searched or not proved, in sentences.
    """

    num_images: int
    across: int
    inside: int
    hints: int
    planted: int
    found: int
    sets: tuple[str, ...]
    gaps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What the page tells.

    Attributes:
        dataset: the shards.
        sources: what is in them.
        report: of overlaps.
        run: what was trained on what.
        results: of the evaluation with the highest mean boundary IoU.
        num_evaluations: how many that one is the best of.
        sheet: PNG of the pictures drawn after the same epoch, if any were.
        links: "stats", "overlap", "run" -> address of that page from this one, where there is one.
        commands: (what it does, command), to go on with.
    """

    dataset: Dataset
    sources: Sequence[Source]
    report: OverlapReport
    run: RunInfo
    results: Results
    num_evaluations: int
    sheet: bytes | None
    links: Mapping[str, str]
    commands: Sequence[tuple[str, str]]


@app.command()
def main(
    run: Annotated[Path, typer.Option("--run", help="Folder of a run that was evaluated.")],
    shards: Annotated[Path, typer.Option("--shards", help="Data set it was trained on.")],
    overlap: Annotated[
        Path, typer.Option("--overlap", help="Report of hqdata verify-no-overlap, as JSON.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Page to write.")] = Path("index.html"),
    stats_page: Annotated[
        Path | None,
        typer.Option(
            "--stats-page", help="Page of hqdata stats. [default: stats.html beside --out]"
        ),
    ] = None,
    overlap_page: Annotated[
        Path | None,
        typer.Option(
            "--overlap-page", help="Page of the overlaps. [default: overlap.html beside --out]"
        ),
    ] = None,
) -> None:
    """Tell a whole experiment on one page."""
    folder = RunFolder(run)
    info = folder.read_info()
    dataset, report = Dataset.open(shards), read_report(overlap)
    results, stem, number = _best(folder)
    sheet = folder.pictures / f"{stem}.png"
    overview = Overview(
        dataset=dataset,
        sources=find_sources(dataset, info),
        report=report,
        run=info,
        results=results,
        num_evaluations=number,
        sheet=sheet.read_bytes() if sheet.is_file() else None,
        links={
            **_link("stats", out, stats_page, out.with_name("stats.html")),
            **_link("overlap", out, overlap_page, out.with_name("overlap.html")),
            **_link("run", out, None, folder.page),
        },
        commands=_commands(folder, shards),
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, render_overview(overview).encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UserError(
            f"cannot write the page: {error.strerror}", where=out, do="name another --out"
        ) from error
    tell(f"page: {out}")


def render_overview(data: Overview) -> str:
    """The page as a string. The same data give the same page."""
    results = data.results.result
    table = table_rows(data.results)
    return find_template("overview.html.j2").render(
        data=data,
        info=data.dataset.info,
        report=data.report,
        proof=examine(data.report),
        warnings=warnings(data),
        belongs=data.report.dataset_digest == data.dataset.info.digest == data.run.dataset_digest,
        unsearched=unsearched(data.report, data.results),
        num_pairs=sum(source.built for source in data.sources),
        num_trained=sum(source.trained for source in data.sources),
        most=max([1, *(source.built for source in data.sources)]),
        table=table,
        has_paper=any(line.paper_hq for line, _ in table),
        notes=notes(data.results),
        sam=results.mean("sam"),
        hq=results.mean("hq"),
        told=compare(data.results),
        few=_FEW,
        version=hqdata.__version__,
    )


def find_sources(dataset: Dataset, run: RunInfo) -> list[Source]:
    """The sources of the shards, the largest first, with pictures chosen by a hash of their keys.

    Raises:
        DatasetError: a picture cannot be read.
    """
    chosen: dict[str, list[tuple[str, str]]] = {}
    # They take turns among the splits: these have that many of each, or all that it has.
    for index in choose_rows(dataset, _SAMPLES * sum(map(len, dataset.info.sources.values()))):
        row = dataset.row(index)
        samples = chosen.setdefault(f"{row['source']}/{row['split']}", [])
        if len(samples) < _SAMPLES:
            samples.append((row["key"], _thumbnail(dataset, index)))
    titles = {name: manifest.title for name, manifest in load_manifests().items()}
    found = [
        Source(
            f"{source}/{split}",
            titles.get(source, source),
            counts.built,
            run.trained_on.get(f"{source}/{split}", 0),
            tuple(chosen.get(f"{source}/{split}", ())),
        )
        for source, splits in dataset.info.sources.items()
        for split, counts in splits.items()
    ]
    return sorted(found, key=lambda source: (-source.built, source.name))


def examine(report: OverlapReport) -> Proof:
    """The figures of a report, and what it leaves open."""
    confirmed = report.confirmed()
    across = [pair for pair in confirmed if pair.evaluation.set != "within"]
    tests = report.self_test.values()
    planted, found = sum(t.planted for t in tests), sum(t.found for t in tests)
    gaps = []
    if not report.evaluation:
        gaps.append("No evaluation set was searched.")
    if report.missing:
        gaps.append(f"Evaluation sets that were not there: {', '.join(report.missing)}.")
    if report.unread:
        gaps.append(f"{len(report.unread):,} of the pictures could not be read.")
    gaps += [f"{one.set}: {problem}" for one in report.evaluation for problem in one.problems]
    if not planted:
        gaps.append("There was no self-test, so nothing shows that the search finds anything.")
    elif report.false_pairs or not all(test.held for test in tests if test.planted):
        gaps.append("The self-test did not hold: the search missed too much, or paired strangers.")
    return Proof(
        num_images=sum(one.num_images for one in report.evaluation),
        across=len(across),
        inside=len(confirmed) - len(across),
        hints=len(report.pairs) - len(confirmed),
        planted=planted,
        found=found,
        sets=tuple(sorted({pair.evaluation.set for pair in across})),
        gaps=tuple(gaps),
    )


def warnings(data: Overview) -> list[str]:
    """Why what is on the page may not belong together, or may not mean what it seems to."""
    info, report, run = data.dataset.info, data.report, data.run
    found = []
    if not info.complete:
        found.append("The data set is incomplete: some sources have fewer pairs than they should.")
    if report.dataset_digest != info.digest:
        found.append(
            f"The report of overlaps is of another data set ({report.dataset}, digest "
            f"{report.dataset_digest[:16]}…): it says nothing of the shards on this page."
        )
    if run.dataset_digest != info.digest:
        found.append(
            f"The run was trained on another data set ({run.dataset}, digest "
            f"{run.dataset_digest[:16]}…) than the one shown in section 1."
        )
    if not run.sam_sha256:
        found.append(
            "SAM’s weights are random here, so the figures and masks show that the steps work and "
            "mean nothing else."
        )
    if names := unsearched(report, data.results):
        found.append(
            f"Evaluated on, and not or only in part searched for overlaps: {', '.join(names)}."
        )
    return found


def unsearched(report: OverlapReport, results: Results) -> list[str]:
    """Sets that were evaluated on and of which the search saw fewer pictures, or none."""
    searched = {one.set: one.num_images for one in report.evaluation}
    return [s.name for s in results.result.sets if len(s.images) > searched.get(s.name, 0)]


@dataclass(frozen=True, slots=True)
class Comparison:
    """SAM and HQ-SAM in words and counts.

    Attributes:
        boundary, overlap: how far the mean over sets moved, e.g. "1.8 lower".
        num_images: pictures that count.
        better, worse: of these, where the HQ token's boundary IoU is above SAM's, and below.
    """

    boundary: str
    overlap: str
    num_images: int
    better: int
    worse: int


def compare(results: Results) -> Comparison:
    """How the two methods' figures differ, whichever is ahead."""
    sam, hq = results.result.mean("sam"), results.result.mean("hq")
    moves = [
        image.hq_boundary_iou - image.sam_boundary_iou
        for one in results.result.sets
        for image in one.images
        if image.has_object
    ]
    better, worse = sum(move > 0 for move in moves), sum(move < 0 for move in moves)
    overlap = _moved(sam.miou, hq.miou)
    return Comparison(_moved(sam.mbiou, hq.mbiou), overlap, len(moves), better, worse)


def _moved(before: float, after: float) -> str:
    by = round(100 * (after - before), 1)
    if by == 0:
        return "the same to a tenth"
    return f"{abs(by):.1f} {'higher' if by > 0 else 'lower'}"


def _best(folder: RunFolder) -> tuple[Results, str, int]:
    """The evaluation with the highest mean boundary IoU, its file's stem, and of how many it is."""
    found = [(read_results(path), path.stem) for path in sorted(folder.evaluation.glob("*.json"))]
    found = [(results, stem) for results, stem in found if results.result.sets]
    if not found:
        raise UserError(
            "the run has no evaluation, so there is nothing to tell of it",
            where=folder.evaluation,
            expected="results that training.train writes after an epoch",
            do="train with --eval-shards",
        )
    results, stem = max(found, key=lambda one: one[0].result.mean("hq").mbiou)
    return results, stem, len(found)


def _thumbnail(dataset: Dataset, index: int) -> str:
    picture = read_picture(dataset, index)
    height, width = picture.size
    factor = min(_HEIGHT / height, _WIDTH / width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    image = cv2.resize(picture.image, size, interpolation=cv2.INTER_AREA)[:, :, ::-1]
    inside = cv2.resize(picture.mask, size, interpolation=cv2.INTER_AREA)[:, :, None] / 255
    # The object in its own colours, all else gray; dark round bright objects and bright round dark
    # ones, so that thin parts stand out.
    gray = image.mean(axis=2, keepdims=True)
    is_bright = (inside * gray).sum() > 120 * inside.sum()
    ground = (50 if is_bright else 205) + 0.25 * (gray - 128)
    shown = (inside * image + (1 - inside) * ground).round().astype(np.uint8)
    encoded = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def _link(what: str, out: Path, named: Path | None, usual: Path) -> dict[str, str]:
    """The address of a page from `out`: of the one named, else of the usual one if it is there."""
    if named is not None and not named.is_file():
        raise UserError("there is no such page to link to", where=named)
    target = named or usual
    if not target.is_file():
        return {}
    # Quoted whole: a name such as `javascript:x` must stay the name of a file.
    return {what: quote(Path(os.path.relpath(target, out.parent)).as_posix())}


def _commands(folder: RunFolder, shards: Path) -> list[tuple[str, str]]:
    config = folder.read_config()
    run, merged, data, evaluation = (
        shlex.quote(str(path))
        for path in (folder.root, folder.merged, shards, config.eval_shards or "evaluation")
    )
    sam = " --random-sam" if config.random_sam else ""
    if config.sam_checkpoint is not None:
        sam = f" --sam-checkpoint {shlex.quote(str(config.sam_checkpoint))}"
    return [
        (
            "Cut something out of a photograph of your own; the box is left, top, right, bottom:",
            "python -m training.predict photo.jpg --box 100,80,640,560 "
            f"--checkpoint {merged} --out mask.png --overlay shown.png",
        ),
        (
            "See what a carelessly drawn box does to both:",
            f"python -m training.evaluate {run} --eval-shards {evaluation} --box-noise 0.2",
        ),
        (
            "Train the same with a source left out, and see what it was worth:",
            f"python -m training.train --model {config.model}{sam} --shards {data} "
            f"--eval-shards {evaluation} --exclude dis --epochs {config.epochs} "
            f"--lr-drop-epoch {config.lr_drop_epoch} --batch-size {config.batch_size} "
            "--out runs/without-dis",
        ),
        (
            "See which of the real sources you have below a folder, then build HQSeg-44K of them:",
            "hqdata sources --data-root data\n"
            "hqdata build --recipe hqseg-44k --data-root data --out shards",
        ),
    ]


if __name__ == "__main__":
    run_app(app)
