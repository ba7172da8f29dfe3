"""Results of an evaluation as a table on the terminal, as Markdown, and as JSON to be read back.

A figure stands bare where it is zero-shot, and in parentheses where the token was trained on the
training split of the same family (DIS5K for DIS-VD, ThinObject-5K for its test split), as in the
paper's Table 7. SAM's own figures have no parentheses: nobody trains it here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.table import Table

from hqdata.errors import UserError
from hqdata.files import write_whole
from training import paper
from training.scores import EvaluationResult, ImageScore, Method, Scores, collect

VERSION = 1

_UNKNOWN_MARK = "?"


class Results(BaseModel):
    """The results of one model on some sets; what the JSON file holds.

    Attributes:
        version: of this record.
        model: name of the backbone.
        weights: where the HQ weights come from.
        trained_on: "source/split" names that the token was trained on; None where nobody knows.
        recipe: name of the recipe that these are of, if one was asked for.
        dataset: name of the evaluation data set, and `dataset_digest` its digest.
        prompt: as the command line writes it, noise included.
        precision: of the frozen encoder.
        images: four figures an image.
        means: every mean by name, for whoever reads the file without this package; on reading they
            are computed anew.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = VERSION
    model: str
    weights: str
    trained_on: tuple[str, ...] | None
    dataset: str
    dataset_digest: str
    prompt: str
    precision: str
    images: tuple[ImageScore, ...]
    means: dict[str, float]
    recipe: str | None = None

    @property
    def result(self) -> EvaluationResult:
        """Sets and means of the images."""
        return collect(self.images)

    def to_json(self) -> bytes:
        """The text of the file."""
        return self.model_dump_json(indent=1).encode() + b"\n"

    @property
    def is_of_sa_1b(self) -> bool:
        """Whether the token was trained on SA-1B and nothing else."""
        return bool(self.trained_on) and all(
            own.startswith(f"{paper.SA_1B}/") for own in self.trained_on or ()
        )

    def is_zero_shot(self, name: str) -> bool | None:
        """Whether nothing of a set's family was trained on; None where nobody knows."""
        if self.trained_on is None:
            return None
        family = name.partition("/")[0]
        return all(own.partition("/")[0] != family for own in self.trained_on)


def make_results(
    result: EvaluationResult,
    *,
    model: str,
    weights: str,
    trained_on: tuple[str, ...] | None,
    dataset: str,
    dataset_digest: str,
    prompt: str,
    precision: str,
    recipe: str | None = None,
) -> Results:
    """The record of an evaluation; see `Results` for the arguments."""
    return Results(
        model=model,
        weights=weights,
        trained_on=None if trained_on is None else tuple(sorted(trained_on)),
        dataset=dataset,
        dataset_digest=dataset_digest,
        prompt=prompt,
        precision=precision,
        images=tuple(image for one in result.sets for image in one.images),
        means=result.figures(),
        recipe=recipe,
    )


def write_results(path: Path, results: Results) -> None:
    """Writes the JSON file, whole or not at all."""
    write_whole(path, results.to_json())


def read_results(path: Path) -> Results:
    """Reads it back.

    Raises:
        UserError: no such file, another version, or not such a file at all.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read the results: {error.strerror}", where=path) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"the results are no JSON: {error}", where=path) from error
    version = document.get("version") if isinstance(document, dict) else None
    if version != VERSION:
        raise UserError(
            f"the results have version {version!r}", where=path, expected=f"version {VERSION}"
        )
    try:
        return Results.model_validate(document)
    except ValidationError as error:
        raise UserError(f"the results are not valid: {error}", where=path) from error


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the tables, as text: "mIoU / mBIoU" in per cent.

    Attributes:
        name: of the set, or of the mean.
        num_images: that count.
        sam, hq, gain: ours.
        paper_sam, paper_hq: the paper's, or empty.
        is_mean: whether it is a mean over sets.
    """

    name: str
    num_images: int
    sam: str
    hq: str
    gain: str
    paper_sam: str
    paper_hq: str
    is_mean: bool = False


HEADERS = ("set", "images", "SAM", "HQ-SAM", "gain", "SAM, paper", "HQ-SAM, paper")


def lines(results: Results) -> Iterator[Line]:
    """The rows of the tables: the sets, the mean over them, and that over zero-shot ones alone."""
    result = results.result
    for one in result.sets:
        row = paper.reference(results.model, one.name, results.prompt)
        yield Line(
            paper.TITLES.get(one.name, one.name),
            one.num_images,
            _pair(one.sam),
            _marked(_pair(one.hq), results.is_zero_shot(one.name)),
            _gain(one.sam, one.hq),
            _pair(row.sam) if row else "",
            # Of a token trained on SA-1B the paper gives the mean alone.
            "" if results.is_of_sa_1b else _of_paper(row, one.name),
        )
    names = [one.name for one in result.sets]
    bare = [name for name in names if results.is_zero_shot(name)]
    if len(names) > 1:
        whole = None if results.trained_on is None else len(bare) == len(names)
        row = paper.reference_mean(results.model, names, results.prompt)
        hq = "" if row is None else f"({_pair(row.hq)})"
        if row is not None and results.is_of_sa_1b:
            hq = _pair(paper.MEAN_SA_1B_44K)
        yield _mean_line(result, "mean", names, whole, row, hq)
    if len(bare) > 1 and len(bare) < len(names):
        yield _mean_line(result, "mean, zero-shot sets", bare, True, None, "")


def _mean_line(
    result: EvaluationResult,
    title: str,
    names: list[str],
    zero_shot: bool | None,
    row: paper.PaperRow | None,
    paper_hq: str,
) -> Line:
    means: dict[Method, Scores] = {"sam": result.mean("sam", names), "hq": result.mean("hq", names)}
    return Line(
        title,
        sum(one.num_images for one in result.sets if one.name in names),
        _pair(means["sam"]),
        _marked(_pair(means["hq"]), zero_shot),
        _gain(means["sam"], means["hq"]),
        _pair(row.sam) if row else "",
        paper_hq,
        is_mean=True,
    )


def notes(results: Results) -> list[str]:
    """What has to be said below the tables."""
    result = results.result
    found = ["mIoU / mBIoU in per cent, means over images; prompt: " + results.prompt + "."]
    if results.trained_on is None:
        found.append(
            "What the token was trained on is unknown: figures marked ? may be zero-shot or not."
        )
    else:
        recipe = "" if results.recipe is None else f" (recipe {results.recipe})"
        found.append("Trained on " + (", ".join(results.trained_on) or "nothing") + f"{recipe}.")
        if any(not results.is_zero_shot(one.name) for one in result.sets):
            found.append(
                "In parentheses: the token was trained on the training split of the same family."
            )
    found += [
        f"{one.name}: {one.num_without_object} images have no object; not counted."
        for one in result.sets
        if one.num_without_object
    ]
    rows = [paper.reference(results.model, one.name, results.prompt) for one in result.sets]
    if any(rows) and results.is_of_sa_1b:
        found.append(
            f"Paper: HQ-SAM (arXiv 2306.01567), ViT-L, trained on 44 thousand images of SA-1B; its "
            f"mean is that of {paper.TABLE}, which gives {_pair(paper.MEAN.hq)} for HQSeg-44K."
        )
    elif any(rows):
        sa_1b = _pair(paper.MEAN_SA_1B_44K)
        found.append(
            f"Paper: HQ-SAM (arXiv 2306.01567), ViT-L, trained on HQSeg-44K; its means are those "
            f"of {paper.TABLE}, which gives {sa_1b} for training on 44 thousand images of SA-1B."
        )
    elif any(one.name in paper.BY_SET for one in result.sets):
        found.append("The paper's figures at hand are for ViT-L and exact boxes; none is shown.")
    return found


def to_table(results: Results) -> Table:
    """The table for a terminal."""
    table = Table(title=f"{results.model}, {results.weights}", title_justify="left")
    shown = _columns(results)
    for number in shown:
        table.add_column(HEADERS[number], justify="left" if number == 0 else "right")
    was_mean = False
    for line in lines(results):
        if line.is_mean and not was_mean:
            table.add_section()
        was_mean = line.is_mean
        cells = _cells(line)
        table.add_row(*(cells[number] for number in shown), style="bold" if line.is_mean else None)
    return table


def to_markdown(results: Results) -> str:
    """The same as a Markdown table with its notes."""
    shown = _columns(results)
    rows = [
        "| " + " | ".join(HEADERS[number] for number in shown) + " |",
        "|" + "|".join("---" if number == 0 else "---:" for number in shown) + "|",
    ]
    for line in lines(results):
        cells = [f"**{cell}**" if line.is_mean and cell else cell for cell in _cells(line)]
        rows.append("| " + " | ".join(cells[number] for number in shown) + " |")
    told = "\n".join(f"- {note}" for note in notes(results))
    return f"### {results.model}, {results.weights}\n\n" + "\n".join(rows) + f"\n\n{told}\n"


def _columns(results: Results) -> list[int]:
    """Numbers of the columns that have anything in them."""
    cells = [_cells(line) for line in lines(results)]
    return [number for number in range(len(HEADERS)) if any(row[number] for row in cells)]


def _cells(line: Line) -> tuple[str, ...]:
    count = f"{line.num_images:,}"
    return (line.name, count, line.sam, line.hq, line.gain, line.paper_sam, line.paper_hq)


def _pair(scores: Scores) -> str:
    return f"{100 * scores.miou:.1f} / {100 * scores.mbiou:.1f}"


def _gain(sam: Scores, hq: Scores) -> str:
    gains = (round(100 * (hq.miou - sam.miou), 1), round(100 * (hq.mbiou - sam.mbiou), 1))
    # A sum with zero has no minus sign.
    return " / ".join(f"{gain + 0.0:+.1f}" for gain in gains)


def _marked(pair: str, zero_shot: bool | None) -> str:
    if zero_shot is None:
        return f"{pair} {_UNKNOWN_MARK}"
    return pair if zero_shot else f"({pair})"


def _of_paper(row: paper.PaperRow | None, name: str) -> str:
    """The paper's token saw the training splits of DIS5K and ThinObject-5K."""
    if row is None:
        return ""
    return _marked(_pair(row.hq), name.partition("/")[0] not in ("dis", "thinobject"))
