"""The paper's experiment in miniature: Tables 6 and 7 and the box-noise table, on a laptop.

    python -m benchmarks.miniature [--out miniature] [--seeds 3] [--jobs 1] [--processes 1]

Base: the small SAM that comes with the package, whose masks are coarse. Arms: its HQ token trained
on the stand-in with its masks made coarse (as SA-1B's automatic masks are), with its exact masks
(HQSeg-44K's part), and without DIS, without ThinObject, and without both. Each is trained with
several seeds and judged on stand-ins of the four evaluation sets, prompted with boxes, boxes that
are off, and points. What is there already is not computed again: the same command goes on, and
refuses a folder whose runs were made otherwise.

Writes `miniature.json`, `miniature.md` and `miniature.svg` into --out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.miniature_report import write_report
from hqdata.errors import HqdataError, UserError
from hqdata.files import sha256_file, write_whole
from hqdata.mini import make_mini
from hqdata.mini.layout import chosen, parse_scale, pictures
from hqdata.shards.dataset import Dataset
from training.data.decode import decode
from training.eval_samples import PromptChoice
from training.evaluation import EvaluationOptions, evaluate
from training.journal import read_metrics
from training.loading import load_model
from training.metrics import boundary_iou, iou
from training.model.backbones import find_backbone
from training.model.hq_sam import HqSam
from training.model.shipped import shipped_weights
from training.pretraining.coarse import coarsened
from training.pretraining.scenes import scene_generator

EVAL_SETS = ("dis", "thinobject", "coift", "hrsod")
BATCH = 8
HELD_OUT_SEED = 77
"""Of a stand-in of the six sources that neither base nor token was trained on."""

TRAIN_SETS = ("dis", "thinobject", "fss", "duts", "ecssd", "msra")


@dataclass(frozen=True)
class Arm:
    """What a token is trained on."""

    name: str
    title: str
    is_coarse: bool = False
    exclude: str = ""


ARMS = (
    Arm("sa1b", "+ coarse masks (SA-1B)", is_coarse=True),
    Arm("hqseg", "+ exact masks (HQSeg)"),
    Arm("no-dis", "without DIS", exclude="dis"),
    Arm("no-thinobject", "without ThinObject", exclude="thinobject"),
    Arm("no-dis-no-thinobject", "without both", exclude="dis,thinobject"),
)
EPOCHS = 10
"""As many as a token can have within three minutes on a core."""

PROMPTS = (
    PromptChoice.parse("box"),
    PromptChoice.parse("box", box_noise=0.2),
    PromptChoice.parse("box", box_noise=0.4),
    *(PromptChoice.parse(f"points:{number}") for number in (1, 3, 5, 10)),
)


def prepare(out: Path, eval_seeds: int) -> None:
    """Pictures and shards: exact and coarse ones to train on, and those to judge by."""
    data = out / "data"
    make_mini(data, scale="small", seed=0, workers=1, sets=TRAIN_SETS)
    coarse = out / "data-coarse"
    if not (coarse / ".done").is_file():
        make_coarse(data, coarse)
        (coarse / ".done").touch()
    for root, shards in ((data, "shards"), (coarse, "shards-coarse")):
        build(root, out / shards, "mini")
    held_out = out / "data-held-out"
    make_mini(held_out, scale="small", seed=HELD_OUT_SEED, workers=1, sets=TRAIN_SETS)
    build(held_out, out / "held-out", "mini")
    for seed in range(1, 1 + eval_seeds):
        root = out / f"data-eval-{seed}"
        make_mini(root, scale="small", seed=seed, workers=1, sets=EVAL_SETS)
        build(root, out / f"evaluation-{seed}", "mini-evaluation")


def make_coarse(data: Path, coarse: Path, sets: Sequence[str] = TRAIN_SETS) -> None:
    """The same pictures with masks as automatic ones are."""
    number = 0
    for split in chosen(sets):
        for picture in pictures(split, parse_scale("small"), 0):
            for name in (picture.image, picture.mask):
                (coarse / name).parent.mkdir(parents=True, exist_ok=True)
            (coarse / picture.image).write_bytes((data / picture.image).read_bytes())
            mask = cv2.imread(str(data / picture.mask), cv2.IMREAD_GRAYSCALE)
            exact = np.where(mask > int(mask.max()) // 2, 255, 0).astype(np.uint8)
            poor = coarsened(exact, scene_generator(0, number))
            # Their outlines are as soft as those of the exact masks: only the shape differs.
            cv2.imwrite(str(coarse / picture.mask), cv2.GaussianBlur(poor, (3, 3), 0))
            number += 1
    for name in data.glob("ThinObject5K/list/*.txt"):
        target = coarse / name.relative_to(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(name.read_bytes())


def build(root: Path, out: Path, recipe: str) -> None:
    if not (out / "dataset.json").is_file():
        run("hqdata", "build", "--data-root", root, "--recipe", recipe, "--out", out)


def run(*arguments: str | Path, threads: int | None = None, processes: int = 1) -> None:
    more = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    command = launched(*arguments, processes=processes)
    done = subprocess.run(command, env={**os.environ, **more})
    if done.returncode:
        raise HqdataError(f"`{' '.join(command[1:])}` ended with status {done.returncode}")


def launched(*arguments: str | Path, processes: int = 1) -> list[str]:
    """The command of a module with its arguments, for one process or several that share it."""
    shared = f"torch.distributed.run --standalone --nproc-per-node {processes} -m".split()
    return [sys.executable, "-m", *(shared if processes > 1 else ()), *map(str, arguments)]


@dataclass(frozen=True)
class Settings:
    """All that decides what a run comes to, beside its arm and its seed."""

    epochs: int
    lr: float
    eval_seeds: int
    processes: int
    sam_sha256: str


def hold(folder: Path, settings: Settings) -> None:
    """Writes the settings of a run, or holds them against those that it was made with."""
    path = folder / "settings.json"
    wanted = asdict(settings)
    if path.is_file() and (found := json.loads(path.read_bytes())) != wanted:
        other = ", ".join(f"{k}: {found.get(k)} then, {wanted[k]} now" for k in wanted
                          if found.get(k) != wanted[k])  # fmt: skip
        raise UserError(
            f"the run was made with other settings ({other})",
            where=folder,
            do="give another --out, or remove that folder",
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(wanted).encode())


def train(out: Path, arm: Arm, seed: int, settings: Settings, options: argparse.Namespace) -> None:
    """Trains an arm's token, or goes on; its folder has `seconds.json` when it is done."""
    folder = out / "runs" / f"{arm.name}-{seed}"
    hold(folder, settings)
    own = folder / "run"
    if (folder / "seconds.json").is_file():
        return
    start = time.monotonic()
    own_cores = {
        "threads": max(1, (os.cpu_count() or 1) // (options.jobs * settings.processes)),
        "processes": settings.processes,
    }
    if resumed := (own / "config.yaml").is_file():
        run("training.train", "--resume", own, **own_cores)
    else:
        flags: list[str | Path] = [
            "--model", "vit_micro", "--device", "cpu", "--out", own, "--seed", str(seed),
            "--shards", out / ("shards-coarse" if arm.is_coarse else "shards"),
            "--batch-size", str(BATCH), "--device-batch", str(BATCH // settings.processes),
            "--workers", "1",
            "--epochs", str(settings.epochs), "--lr-drop-epoch", str(max(1, settings.epochs - 2)),
            "--num-pictures", "0", "--lr", str(settings.lr),
        ]  # fmt: skip
        if arm.exclude:
            flags += ["--exclude", arm.exclude]
        if options.sam_checkpoint:
            flags += ["--sam-checkpoint", options.sam_checkpoint]
        run("training.train", *flags, **own_cores)
    # Of a run that was cut short nobody knows how long it took.
    seconds = None if resumed else time.monotonic() - start
    steps = max(row["step"] for row in read_metrics(own / "metrics.jsonl") if "step" in row)
    write_whole(folder / "seconds.json", json.dumps({"seconds": seconds, "steps": steps}).encode())


def judge(out: Path, arm: Arm, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of a run, set by set: {prompt: {set: {"sam": ..., "hq": ...}}}."""
    folder = out / "runs" / f"{arm.name}-{seed}"
    path = folder / "figures.json"
    figures: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    wanted = PROMPTS[: 1 if options.quick else None]
    missing = [prompt for prompt in wanted if str(prompt) not in figures]
    model = load(folder / "run", options) if missing else None
    for prompt in missing:
        assert model is not None
        sums: dict[str, list[np.ndarray]] = {}
        for number in range(1, 1 + options.eval_seeds):
            # Pictures of the three stand-ins have the same keys; their noise is to differ.
            own = replace(prompt, seed=number)
            for name, rows in scores(model, out, f"evaluation-{number}", own).items():
                sums.setdefault(name, []).append(rows)
        figures[str(prompt)] = {}
        for name, parts in sums.items():
            mean = (100 * np.concatenate(parts).mean(0)).tolist()
            figures[str(prompt)][name] = {"sam": mean[:2], "hq": mean[2:]}
        write_whole(path, json.dumps(figures, indent=1).encode())
    done = json.loads((folder / "seconds.json").read_bytes())
    shown = {str(prompt): figures[str(prompt)] for prompt in wanted}
    return {"arm": asdict(arm), "seed": seed, **done, "figures": shown}


def load(run_folder: Path, options: argparse.Namespace) -> HqSam:
    """The model of a run."""
    sam = Path(options.sam_checkpoint) if options.sam_checkpoint else None
    device = torch.device("cpu")
    return load_model(run_folder, device=device, precision="fp32", sam_checkpoint=sam).model


def scores(model: HqSam, out: Path, dataset: str, prompt: PromptChoice) -> dict[str, np.ndarray]:
    """Set -> float64 (images, 4): IoU and boundary IoU of SAM and of the token, 0 to 1."""
    result = evaluate(
        model,
        Dataset.open(out / dataset),
        options=EvaluationOptions(
            batch_size=8, num_workers=0, prompt=prompt, feature_cache=out / "features"
        ),
        device=torch.device("cpu"),
    )
    return {
        one.name: np.array(
            [
                (i.sam_iou, i.sam_boundary_iou, i.hq_iou, i.hq_boundary_iou)
                for i in one.images
                if i.has_object
            ]
        )
        for one in result.sets
    }


def judge_held_out(out: Path, runs: Sequence[Path], options: argparse.Namespace) -> dict[str, Any]:
    """Base and tokens on the held-out stand-in of the six sources.

    Returns:
        {"pictures": (mIoU, mBIoU) of the base, "sets": {name: the same}, "tokens": [the same over
        the pictures, a run each]}
    """
    base: dict[str, Any] = {"tokens": []}
    for folder in runs:
        found = scores(load(folder, options), out, "held-out", PromptChoice())
        pictures = (100 * np.concatenate(list(found.values())).mean(0)).tolist()
        base["pictures"] = pictures[:2]
        base["sets"] = {name: (100 * rows[:, :2].mean(0)).tolist() for name, rows in found.items()}
        base["tokens"].append(pictures[2:])
    return base


def limits(out: Path, eval_seeds: int, side: int, cells: int) -> dict[str, dict[str, list[float]]]:
    """What no mask of so few cells can surpass by much: {kind: {set: (mIoU, mBIoU)}}.

    The truth itself, exact or made coarse, brought to the cells of a mask and back.
    """
    found: dict[str, dict[str, list[tuple[float, float]]]] = {"exact": {}, "coarse": {}}
    for number in range(1, 1 + eval_seeds):
        dataset = Dataset.open(out / f"evaluation-{number}")
        for index in range(len(dataset)):
            row = dataset.row(index)
            picture = decode(*(dataset.read_member(row, name) for name in ("image", "mask")))
            truth = picture.mask > 128
            exact = cv2.resize(picture.mask, (side, side), interpolation=cv2.INTER_AREA)
            for kind, mask in (
                ("exact", exact),
                ("coarse", coarsened(exact, scene_generator(0, index))),
            ):
                low = cv2.resize(mask, (cells, cells), interpolation=cv2.INTER_AREA)
                high = cv2.resize(low, truth.shape[::-1], interpolation=cv2.INTER_LINEAR) > 127
                scores = iou(high, truth), boundary_iou(high, truth)
                found[kind].setdefault(f"{row['source']}/{row['split']}", []).append(scores)
    return {
        kind: {name: (100 * np.mean(rows, axis=0)).tolist() for name, rows in sets.items()}
        for kind, sets in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("miniature"))
    parser.add_argument("--seeds", type=count, default=3, help="runs of each arm")
    parser.add_argument("--eval-seeds", type=count, default=3, help="stand-ins of 24 to judge by")
    parser.add_argument("--epochs", type=count, default=EPOCHS)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--arms", type=arms, default=ARMS, help="only these, with commas")
    parser.add_argument("--jobs", type=count, default=1, help="trainings at once")
    parser.add_argument(
        "--processes", type=count, default=1, help="that share a training, with torchrun"
    )
    parser.add_argument("--sam-checkpoint", help="instead of the package's own weights")
    parser.add_argument("--quick", action="store_true", help="boxes only")
    options = parser.parse_args()
    try:
        experiment(options)
    except HqdataError as error:
        sys.exit(str(error))


def count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def arms(text: str) -> tuple[Arm, ...]:
    named = {arm.name: arm for arm in ARMS}
    unknown = [name for name in text.split(",") if name not in named]
    if unknown:
        raise argparse.ArgumentTypeError(f"no arms: {unknown}; there are {', '.join(named)}")
    return tuple(named[name] for name in text.split(","))


def experiment(options: argparse.Namespace) -> None:
    cv2.setNumThreads(1)
    weights = options.sam_checkpoint or shipped_weights(find_backbone("vit_micro"))
    if weights is None or not Path(weights).is_file():
        raise UserError("there are no weights of vit_micro", where=weights)
    if BATCH % options.processes:
        raise UserError(f"{options.processes} processes cannot share steps of {BATCH} pictures")
    settings = Settings(
        options.epochs,
        options.lr,
        options.eval_seeds,
        options.processes,
        sha256_file(Path(weights)),
    )
    prepare(options.out, options.eval_seeds)
    plan = [(arm, seed) for seed in range(options.seeds) for arm in options.arms]
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda one: train(options.out, *one, settings, options), plan))
    runs = [judge(options.out, arm, seed, options) for arm, seed in plan]
    exact = [one for one in plan if one[0].name == "hqseg"] or plan[:1]
    folders = [options.out / "runs" / f"{arm.name}-{seed}" / "run" for arm, seed in exact]
    base = judge_held_out(options.out, folders, options)
    if exact[0][0].name != "hqseg":
        base["tokens"] = []
    backbone = find_backbone("vit_micro")
    base["limits"] = limits(
        options.out, options.eval_seeds, backbone.image_size, backbone.mask_size
    )
    write_report(options.out, base, runs)
    print((options.out / "miniature.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
