"""Small evaluation sets, models with random weights, and results made by hand."""

from __future__ import annotations

from pathlib import Path

from hqdata.shards.dataset import Dataset
from support.builds import build_own, own_sources
from training.model.backbones import find_backbone
from training.model.hq_sam import HqSam, build_hq_sam
from training.scores import EvaluationResult, ImageScore, collect


def small_sets(root: Path, counts: dict[str, int]) -> Dataset:
    """Shards of discs on coloured waves, 96 by 64 pixels; each source has the split `all`."""
    own_sources(root / "data", counts)
    build_own(root / "data", root / "shards", list(counts))
    return Dataset.open(root / "shards")


def micro_model(seed: int = 0) -> HqSam:
    """The stand-in backbone with random weights."""
    return build_hq_sam(find_backbone("vit_micro"), seed=seed)


def score(set_name: str, number: int, sam: float, hq: float) -> ImageScore:
    """An image whose Boundary IoUs are half of its IoUs."""
    source = set_name.partition("/")[0]
    return ImageScore(f"{source}-{number:03}", set_name, True, sam, sam / 2, hq, hq / 2)


def result(**figures: tuple[float, float]) -> EvaluationResult:
    """`dis_validation=(0.6, 0.8)`: SAM's and the HQ token's mIoU on DIS, of two images."""
    images = []
    for name, (sam, hq) in figures.items():
        for number, offset in enumerate((-0.1, 0.1)):
            images.append(score(name.replace("_", "/"), number, sam + offset, hq + offset))
    return collect(images)
