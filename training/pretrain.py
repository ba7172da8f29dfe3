"""Pretrains the small SAM of the package: `python -m training.pretrain --out runs/pretrain`."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import torch
import typer

from hqdata.errors import UserError
from hqdata.shards.dataset import Dataset
from training.cli_common import make_app, pick_device, run_app, tell
from training.distributed import Ranks, joined
from training.model.backbones import find_backbone
from training.pretraining.recipe import PretrainRecipe
from training.pretraining.run import NUM_HELD_OUT, PretrainFolder, check_ready, pretrain

app = make_app("Pretrains a small SAM on scenes that are drawn as it goes.")


@app.command()
def main(
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the run; goes on where it stopped.")
    ] = Path("runs/pretrain"),
    model: Annotated[str, typer.Option("--model", help="Backbone.")] = "vit_micro",
    shards: Annotated[
        Path | None, typer.Option("--shards", help="Data set to show beside the scenes.")
    ] = None,
    eval_shards: Annotated[
        list[Path] | None,
        typer.Option("--eval-shards", help="Data set to judge by as well; may be repeated."),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Of the optimizer.")] = 6000,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**62 - 1, help="Of everything.")] = 0,
    pictures: Annotated[int, typer.Option("--pictures", min=1, help="Pictures a step.")] = 8,
    decay_share: Annotated[
        float,
        typer.Option(
            "--decay-share", min=0, max=1, help="Share of the steps in which it falls to zero."
        ),
    ] = 0.3,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")] = "cpu",
    threads: Annotated[int, typer.Option("--threads", min=1, help="Of the model.")] = 1,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that draw.")] = 1,
    save_every: Annotated[int, typer.Option("--save-every", min=1, help="Steps.")] = 100,
    eval_every: Annotated[int, typer.Option("--eval-every", min=1, help="Steps.")] = 500,
    held_out: Annotated[
        int, typer.Option("--held-out", min=1, help="Scenes to judge by.")
    ] = NUM_HELD_OUT,
    extend: Annotated[
        bool,
        typer.Option("--extend", help="Go on with another number of steps or decay than before."),
    ] = False,
) -> None:
    """Pretrain a small SAM; the same command again goes on where it stopped.

    With `torchrun --nproc-per-node N -m training.pretrain ...` N processes share each step.
    """
    find_backbone(model)
    torch.set_num_threads(threads)
    dataset = None if shards is None else Dataset.open(shards)
    judged = [Dataset.open(path) for path in eval_shards or ()]
    recipe = PretrainRecipe(
        model=model,
        seed=seed,
        steps=steps,
        pictures=pictures,
        decay_share=decay_share,
        dataset_digest="" if dataset is None else dataset.info.digest,
    )
    if out.exists() and not out.is_dir():
        raise UserError("this is no folder", where=out)
    ranks = Ranks.from_environment()
    chosen = pick_device(device, local_rank=ranks.local_rank)
    check_ready(recipe, ranks)
    with ExitStack() as stack:
        folder = PretrainFolder(out)
        if ranks.is_first:
            folder = stack.enter_context(PretrainFolder.claimed(out))
            folder.begin(recipe, extend=extend)
        stack.enter_context(joined(ranks, chosen))
        ranks.barrier()  # the folder is begun
        told = False
        for line in pretrain(
            folder,
            recipe,
            dataset=dataset,
            judged=judged,
            device=chosen,
            workers=workers,
            save_every=save_every,
            eval_every=eval_every,
            num_held_out=held_out,
            ranks=ranks,
        ):
            tell(json.dumps(line))
            told = True
        if ranks.is_first and not told:
            tell(f"all {recipe.steps:,} steps are done already: {folder.weights(model)}")


if __name__ == "__main__":
    run_app(app)
