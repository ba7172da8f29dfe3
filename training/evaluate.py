"""Evaluates a run or a checkpoint: `python -m training.evaluate runs/hq-b --eval-shards eval/`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hqdata.errors import UserError
from hqdata.files import write_whole
from hqdata.shards.dataset import Dataset
from training.cli_common import (
    make_app,
    out_console,
    pick_device,
    reporting,
    run_app,
    split_names,
    tell,
)
from training.data.selection import select
from training.eval_samples import PromptChoice
from training.evaluation import EvaluationOptions
from training.evaluation import evaluate as run_evaluation
from training.loading import load_model, resolve_precision
from training.results import make_results, notes, to_markdown, to_table, write_results

app = make_app("Evaluates SAM and HQ-SAM on shards of evaluation sets.")


@app.command()
def evaluate(
    weights: Annotated[
        Path, typer.Argument(help="Folder of a run, HQ weights alone, or a sam_hq_*.pth.")
    ],
    eval_shards: Annotated[
        Path, typer.Option("--eval-shards", help="Data set that `hqdata build` made.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="Backbone. [default: as in the weights]")
    ] = None,
    sam_checkpoint: Annotated[
        Path | None, typer.Option("--sam-checkpoint", help="SAM's weights, if there are none yet.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only these sets, e.g. dis,coift.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="Without these sets.")
    ] = None,
    prompt: Annotated[
        str, typer.Option("--prompt", help="box (tight, as in the paper), or points:N.")
    ] = "box",
    box_noise: Annotated[
        float, typer.Option("--box-noise", help="How far boxes are off, e.g. 0.2 or 0.4.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Of points and of noise.")] = 0,
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    precision: Annotated[str, typer.Option("--precision", help="auto, fp32 or bf16.")] = "auto",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images at once.")] = 4,
    workers: Annotated[
        int, typer.Option("--workers", min=0, max=256, help="Processes that decode.")
    ] = 2,
    features_cache: Annotated[
        Path | None,
        typer.Option("--features-cache", help="Folder that keeps image features for next time."),
    ] = None,
    features_cache_gib: Annotated[
        float, typer.Option("--features-cache-gib", min=0.0, help="How much it may hold.")
    ] = 64.0,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write all figures, image by image.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write the table with its notes.")
    ] = None,
    trained_on: Annotated[
        list[str] | None,
        typer.Option(
            "--trained-on",
            help="What a token was trained on whose file does not say it, e.g. dis/train.",
        ),
    ] = None,
    worst: Annotated[
        int, typer.Option("--worst", min=0, help="Also list the worst images of each set.")
    ] = 0,
) -> None:
    """Evaluate SAM and HQ-SAM on shards of evaluation sets."""
    for path in (json_out, markdown):
        if path is not None and not path.absolute().parent.is_dir():
            raise UserError("the folder to write to does not exist", where=path.parent)
    choice = PromptChoice.parse(prompt, box_noise=box_noise, seed=seed)
    dataset = Dataset.open(eval_shards)
    chosen = select(dataset, only=split_names(only), exclude=split_names(exclude))
    where = pick_device(device)
    loaded = load_model(
        weights,
        device=where,
        precision=resolve_precision(precision, where),
        name=model,
        sam_checkpoint=sam_checkpoint,
    )
    if trained_on and loaded.trained_on is not None:
        raise UserError(
            f"{weights} says itself what it was trained on: {', '.join(loaded.trained_on)}",
            do="leave out --trained-on",
        )
    known = tuple(split_names(trained_on)) or loaded.trained_on
    trained_here = sorted(set(known or ()) & set(chosen.sources))
    if trained_here:
        tell(
            f"warning: the token was trained on what it is evaluated on: {', '.join(trained_here)}"
        )
    with reporting() as reporter:
        result = run_evaluation(
            loaded.model,
            dataset,
            options=EvaluationOptions(
                batch_size=batch_size,
                num_workers=workers,
                prompt=choice,
                feature_cache=features_cache,
                feature_cache_bytes=int(features_cache_gib * 2**30),
            ),
            device=where,
            rows=chosen.rows.tolist(),
            reporter=reporter,
        )
    results = make_results(
        result,
        model=loaded.model.backbone.name,
        weights=loaded.weights,
        trained_on=known,
        recipe=loaded.recipe,
        dataset=dataset.info.name,
        dataset_digest=dataset.info.digest,
        prompt=str(choice),
        precision=loaded.model.precision,
    )
    if json_out is not None:
        write_results(json_out, results)
    if markdown is not None:
        write_whole(markdown, to_markdown(results).encode())
    out_console.print(to_table(results))
    for note in notes(results):
        out_console.print(note, markup=False)
    for one in result.sets if worst else ():
        out_console.print(f"{one.name}, worst by boundary IoU (SAM -> HQ-SAM):", markup=False)
        for image in one.worst(worst):
            figures = f"{100 * image.sam_boundary_iou:5.1f} -> {100 * image.hq_boundary_iou:5.1f}"
            out_console.print(f"  {figures}  {image.key}", markup=False)


if __name__ == "__main__":
    run_app(app)
