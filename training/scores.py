"""What an evaluation finds: four figures an image, their means a set, and the mean over sets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Method = Literal["sam", "hq"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Mean IoU and mean Boundary IoU, from 0 to 1."""

    miou: float
    mbiou: float


@dataclass(frozen=True, slots=True)
class ImageScore:
    """How well the two masks of an image fit its truth, from 0 to 1.

    Attributes:
        key: of the sample.
        set_name: "source/split" of the sample.
        has_object: whether the truth has any; if not, nothing can be prompted, the figures are 0,
            and no mean counts them.
        sam_iou, sam_boundary_iou: of SAM's own mask.
        hq_iou, hq_boundary_iou: of the HQ token's mask.
    """

    key: str
    set_name: str
    has_object: bool
    sam_iou: float
    sam_boundary_iou: float
    hq_iou: float
    hq_boundary_iou: float


@dataclass(frozen=True, slots=True)
class SetResult:
    """Results on one set.

    Attributes:
        name: "source/split".
        num_images: images that count.
        sam, hq: means over these images.
        images: every image, also those without an object, sorted by key.
    """

    name: str
    num_images: int
    sam: Scores
    hq: Scores
    images: tuple[ImageScore, ...]

    @property
    def num_without_object(self) -> int:
        """Images whose truth is empty; they do not count."""
        return len(self.images) - self.num_images

    def worst(self, number: int) -> list[ImageScore]:
        """Images on which the HQ mask fits its truth worst, by Boundary IoU."""
        counted = (image for image in self.images if image.has_object)
        return sorted(counted, key=lambda image: (image.hq_boundary_iou, image.key))[:number]


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """Results on all sets, sorted by name."""

    sets: tuple[SetResult, ...]

    def mean(self, method: Method, names: Iterable[str] | None = None) -> Scores:
        """The mean over sets, each counting as much as the others.

        Args:
            method: SAM's own masks, or the HQ token's.
            names: only these sets.

        Raises:
            ValueError: there are none.
        """
        wanted = None if names is None else set(names)
        chosen = [s for s in self.sets if wanted is None or s.name in wanted]
        if not chosen:
            raise ValueError("there is no set to take the mean of")
        found = [one.sam if method == "sam" else one.hq for one in chosen]
        return Scores(_mean([s.miou for s in found]), _mean([s.mbiou for s in found]))

    def figures(self) -> dict[str, float]:
        """Every mean by name, e.g. `dis/validation/hq_mbiou` and `mean/sam_miou`: for logs."""
        found: dict[str, float] = {}
        rows = [(one.name, one.sam, one.hq) for one in self.sets]
        for name, sam, hq in [*rows, ("mean", self.mean("sam"), self.mean("hq"))]:
            for method, scores in (("sam", sam), ("hq", hq)):
                found[f"{name}/{method}_miou"] = scores.miou
                found[f"{name}/{method}_mbiou"] = scores.mbiou
        return found


def collect(images: Iterable[ImageScore]) -> EvaluationResult:
    """Sorts images into sets and takes the means.

    Sums are exact and images are sorted, so whoever computed which of them leaves no trace. A set
    in which no image has an object is left out.
    """
    by_set: dict[str, list[ImageScore]] = {}
    for image in images:
        by_set.setdefault(image.set_name, []).append(image)
    return EvaluationResult(
        tuple(
            _set_result(name, own)
            for name, own in sorted(by_set.items())
            if any(image.has_object for image in own)
        )
    )


def _set_result(name: str, images: list[ImageScore]) -> SetResult:
    counted = [image for image in images if image.has_object]
    return SetResult(
        name,
        len(counted),
        Scores(
            _mean([image.sam_iou for image in counted]),
            _mean([image.sam_boundary_iou for image in counted]),
        ),
        Scores(
            _mean([image.hq_iou for image in counted]),
            _mean([image.hq_boundary_iou for image in counted]),
        ),
        tuple(sorted(images, key=lambda image: image.key)),
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
