"""How well SAM, prompted with boxes, does on real pictures, beside the box filled in.

    python -m benchmarks.real_boxes [--weights FILE] [--run RUN] [--json FILE]

The pictures are those of HQDATA_REAL_DATA (default: ../shared/real-data beside the repository),
which are no part of it: frames of DAVIS-2016, Weizmann's horses, people, GrabCut, and instances of
COCO that cover at least a hundredth of their picture. Each is stretched to the model's input and
prompted with the tight box of its truth.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from hqdata.errors import HqdataError
from training.data.decode import Picture
from training.loading import load_model
from training.metrics import boundary_iou, iou
from training.model.backbones import find_backbone
from training.model.checkpoints import load_sam
from training.model.hq_sam import HqSam, build_hq_sam
from training.model.shipped import shipped_weights
from training.pretraining.held_out import Asked, asked_for, boxed
from training.prompts import Prompts

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "real-data"
SETS = {
    "DAVIS-2016 val (480p)": "DAVIS-2016",
    "Weizmann horses": "horses",
    "Human-Segmentation-Dataset": "people",
    "GrabCut (BSDS part)": "GrabCut",
}
LEAST_SHARE = 0.01
BATCH = 8
NAMES = ("box", "sam", "hq", "sam_and_hq")


@dataclass
class Score:
    iou: float
    boundary_iou: float


def pairs(root: Path) -> Iterator[tuple[str, Picture]]:
    """Set and picture, masks 0 or 255, of the picture's size."""
    with open(root / "pairs.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = SETS.get(row["dataset"])
            if name is None:
                continue
            image = cv2.imread(str(root / row["image"]), cv2.IMREAD_COLOR)
            mask = cv2.imread(str(root / row["mask"]), cv2.IMREAD_GRAYSCALE)
            if image is None or mask is None:
                continue
            if mask.shape != image.shape[:2]:
                mask = cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            truth = np.where(mask > max(int(mask.max()), 1) // 2, 255, 0).astype(np.uint8)
            yield name, Picture(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), truth)


def instances(root: Path) -> Iterator[tuple[str, Picture]]:
    """The same of COCO."""
    document = json.loads((root / "coco/annotations/instances_val2017.json").read_bytes())
    files = {image["id"]: image["file_name"] for image in document["images"]}
    for entry in document["annotations"]:
        image = cv2.imread(str(root / "coco/val2017" / files[entry["image_id"]]))
        if image is None or entry["iscrowd"]:
            continue
        mask = np.zeros(image.shape[:2], np.uint8)
        for polygon in entry["segmentation"]:
            corners = np.array(polygon, np.float64).reshape(-1, 2)
            cv2.fillPoly(mask, [np.rint(corners * 16).astype(np.int32)], 255, cv2.LINE_8, 4)
        if np.count_nonzero(mask) >= LEAST_SHARE * mask.size:
            yield "COCO", Picture(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), mask)


def masks_of(model: HqSam, batch: list[Asked], with_hq: bool) -> list[dict[str, np.ndarray]]:
    images = torch.from_numpy(np.stack([asked.image for asked in batch]))
    boxes = torch.from_numpy(np.stack([asked.box for asked in batch]))
    prompts = Prompts.of_boxes(boxes, model.backbone.mask_size)
    features = model.encode(images)
    with torch.no_grad():
        low = {"sam": model.sam_logits(features, prompts)[0][:, 0].numpy()}
        if with_hq:
            low["hq"] = model.hq_logits(features, prompts)[:, 0].numpy()
            low["sam_and_hq"] = low["sam"] + low["hq"]
    found = []
    for index, asked in enumerate(batch):
        size = asked.truth.shape[::-1]
        one = {name: cv2.resize(values[index], size) > 0 for name, values in low.items()}
        found.append({"box": boxed(asked), **one})
    return found


def measure(model: HqSam, root: Path, with_hq: bool) -> dict[str, dict[str, list[Score]]]:
    scores: dict[str, dict[str, list[Score]]] = {}
    batch: list[tuple[str, Asked]] = []

    def flush() -> None:
        found = masks_of(model, [asked for _, asked in batch], with_hq)
        for (name, asked), masks in zip(batch, found, strict=True):
            for who, mask in masks.items():
                score = Score(iou(mask, asked.truth), boundary_iou(mask, asked.truth))
                scores.setdefault(name, {}).setdefault(who, []).append(score)
        batch.clear()

    for source in (pairs(root), instances(root)):
        for name, picture in source:
            asked = asked_for(picture, model.backbone.image_size)
            if asked is not None:
                batch.append((name, asked))
            if len(batch) == BATCH:
                flush()
    if batch:
        flush()
    return scores


def told_means(table: dict[str, dict[str, Any]]) -> str:
    """Over the sets; and on how many of them SAM beats the box, and the token SAM."""
    who = [name for name in NAMES if all(name in row for row in table.values())]
    means = {name: np.mean([row[name] for row in table.values()], axis=0) for name in who}
    told = "  ".join(f"{name} {iou:5.1f}/{edge:5.1f}" for name, (iou, edge) in means.items())
    for better, worse in (("sam", "box"), ("hq", "sam")):
        if better in means:
            ahead = sum(row[better][0] > row[worse][0] for row in table.values())
            told += f"; {better} beats {worse} on {ahead} of {len(table)}"
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="SAM's weights (default: the package's own)")
    parser.add_argument("--run", type=Path, help="a run or HQ weights: measure its token, too")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    root = Path(os.environ.get("HQDATA_REAL_DATA", DEFAULT))
    if arguments.run is not None:
        device = torch.device("cpu")
        loaded = load_model(
            arguments.run, device=device, precision="fp32", sam_checkpoint=arguments.weights
        )
        model = loaded.model
    else:
        backbone = find_backbone("vit_micro")
        model = build_hq_sam(backbone, seed=0)
        weights = arguments.weights or shipped_weights(backbone)
        assert weights is not None  # the package has those of vit_micro
        load_sam(model, weights)
    if not (root / "pairs.csv").is_file():
        sys.exit(
            f"there are no pictures in {root}; HQDATA_REAL_DATA names the folder, see "
            "CONTRIBUTING.md"
        )
    scores = measure(model, root, with_hq=arguments.run is not None)
    table = {
        name: {
            "pictures": len(found["box"]),
            **{
                who: [
                    100 * float(np.mean([s.iou for s in values])),
                    100 * float(np.mean([s.boundary_iou for s in values])),
                ]
                for who, values in found.items()
            },
        }
        for name, found in scores.items()
    }
    print("mIoU / mBIoU")
    for name, row in table.items():
        told = "  ".join(
            f"{who} {row[who][0]:5.1f}/{row[who][1]:5.1f}" for who in NAMES if who in row
        )
        print(f"{name:12} {row['pictures']:4}  {told}")
    print(f"{'mean of sets':12}       {told_means(table)}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except HqdataError as error:
        sys.exit(str(error))
