"""The paper's experiment in miniature: Tables 6 and 7 and the box-noise table, on a laptop.

    python -m benchmarks.miniature [--out miniature] [--seeds 3] [--quick]

Base: the small SAM that comes with the package, whose masks are coarse. Arms: its HQ token trained
on the stand-in with its masks made coarse (as SA-1B's automatic masks are), with its exact masks
(HQSeg-44K's part), and without DIS, without ThinObject, and without both. Each is trained with
several seeds and judged on stand-ins of the four evaluation sets, prompted with boxes, boxes that
are off, and points. What is there already is not computed again: the same command goes on.

Writes `miniature.json`, `miniature.md` and `miniature.svg` into --out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.miniature_report import write_report
from hqdata.files import write_whole
from hqdata.mini import make_mini
from hqdata.mini.layout import chosen, parse_scale, pictures
from hqdata.shards.dataset import Dataset
from training.eval_samples import PromptChoice
from training.evaluation import EvaluationOptions, evaluate
from training.loading import load_model
from training.pretraining.coarse import coarsened
from training.pretraining.scenes import scene_generator

EVAL_SETS = ("dis", "thinobject", "coift", "hrsod")
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
            cv2.imwrite(str(coarse / picture.mask), coarsened(exact, scene_generator(0, number)))
            number += 1
    for name in data.glob("ThinObject5K/list/*.txt"):
        target = coarse / name.relative_to(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(name.read_bytes())


def build(root: Path, out: Path, recipe: str) -> None:
    if not (out / "dataset.json").is_file():
        run("hqdata", "build", "--data-root", root, "--recipe", recipe, "--out", out)


def run(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", *map(str, arguments)], check=True)


def train(out: Path, arm: Arm, seed: int, options: argparse.Namespace) -> Path:
    """Trains an arm's token, or goes on; the folder of its run, with `seconds.json`."""
    folder = out / "runs" / f"{arm.name}-{seed}"
    if (folder / "seconds.json").is_file():
        return folder
    shards = out / ("shards-coarse" if arm.is_coarse else "shards")
    start = time.monotonic()
    if (folder / "config.yaml").is_file():
        run("training.train", "--resume", folder)
    else:
        flags: list[str | Path] = [
            "--model", "vit_micro", "--shards", shards, "--device", "cpu", "--out", folder,
            "--seed", str(seed), "--batch-size", "8", "--device-batch", "8", "--workers", "1",
            "--epochs", str(options.epochs), "--lr-drop-epoch", str(max(1, options.epochs - 2)),
            "--num-pictures", "0", "--lr", str(options.lr),
        ]  # fmt: skip
        if arm.exclude:
            flags += ["--exclude", arm.exclude]
        if options.sam_checkpoint:
            flags += ["--sam-checkpoint", options.sam_checkpoint]
        run("training.train", *flags)
    seconds = time.monotonic() - start
    write_whole(folder / "seconds.json", json.dumps({"seconds": seconds}).encode())
    return folder


def judge(out: Path, arm: Arm, seed: int, options: argparse.Namespace) -> dict[str, object]:
    """Figures of a run with all prompts, set by set: {prompt: {set: {"sam": ..., "hq": ...}}}."""
    folder = train(out, arm, seed, options)
    path = folder / "miniature.json"
    if path.is_file():
        found: dict[str, object] = json.loads(path.read_bytes())
        return found
    device = torch.device("cpu")
    sam = Path(options.sam_checkpoint) if options.sam_checkpoint else None
    loaded = load_model(folder, device=device, precision="fp32", sam_checkpoint=sam)
    figures: dict[str, dict[str, dict[str, list[float]]]] = {}
    for prompt in PROMPTS[: 1 if options.quick else None]:
        sums: dict[str, list[np.ndarray]] = {}
        for number in range(1, 1 + options.eval_seeds):
            result = evaluate(
                loaded.model,
                Dataset.open(out / f"evaluation-{number}"),
                options=EvaluationOptions(
                    batch_size=8, num_workers=0, prompt=prompt, feature_cache=out / "features"
                ),
                device=device,
            )
            for one in result.sets:
                rows = [
                    (i.sam_iou, i.sam_boundary_iou, i.hq_iou, i.hq_boundary_iou)
                    for i in one.images
                    if i.has_object
                ]
                sums.setdefault(one.name, []).append(np.array(rows))
        figures[str(prompt)] = {}
        for name, parts in sums.items():
            mean = (100 * np.concatenate(parts).mean(0)).tolist()
            figures[str(prompt)][name] = {"sam": mean[:2], "hq": mean[2:]}
    seconds = json.loads((folder / "seconds.json").read_bytes())["seconds"]
    whole: dict[str, object] = {
        "arm": asdict(arm), "seed": seed, "seconds": seconds, "figures": figures
    }  # fmt: skip
    write_whole(path, json.dumps(whole, indent=1).encode())
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("miniature"))
    parser.add_argument("--seeds", type=int, default=3, help="runs of each arm")
    parser.add_argument("--eval-seeds", type=int, default=3, help="stand-ins of 24 to judge by")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--arms", help="only these, with commas")
    parser.add_argument("--sam-checkpoint", help="instead of the package's own weights")
    parser.add_argument("--quick", action="store_true", help="boxes only")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    prepare(options.out, options.eval_seeds)
    wanted = options.arms.split(",") if options.arms else [arm.name for arm in ARMS]
    runs = [
        judge(options.out, arm, seed, options)
        for seed in range(options.seeds)
        for arm in ARMS
        if arm.name in wanted
    ]
    write_report(options.out, runs)
    print((options.out / "miniature.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
