"""Which pictures and masks a sample takes: arithmetic on their numbers and a seed, nothing else.

The chosen pictures are those with the smallest keyed hash. Neither the archive that one lies in
nor how it is packed has a part in it, so a picture has its place in the order on any machine, and
a larger sample of the same seed holds the smaller one.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Choice:
    """How pictures and masks are chosen.

    Attributes:
        seed: of the hashes.
        masks: masks of a picture, 0 for all of them.
        min_predicted_iou, min_stability_score: what a mask must have of either.
        min_area_fraction, max_area_fraction: bounds of a mask's share of the picture's pixels,
            both inclusive.
    """

    seed: int
    masks: int = 1
    min_predicted_iou: float = 0.0
    min_stability_score: float = 0.0
    min_area_fraction: float = 0.0
    max_area_fraction: float = 1.0

    def to_dict(self) -> dict[str, float | int]:
        """All of it as plain values, the same for 0 and 0.0."""
        return {
            name: value if name in ("seed", "masks") else float(value)
            for name, value in asdict(self).items()
        }


def image_hash(seed: int, image_id: int) -> int:
    """The picture's place in the order, 0 to 2**64 - 1; ties go to the smaller id."""
    return _hash(f"{seed}:{image_id}")


def mask_hash(seed: int, image_id: int, annotation_id: int) -> int:
    """The mask's place among those of its picture, 0 to 2**64 - 1; ties go to the smaller id."""
    return _hash(f"{seed}:{image_id}:{annotation_id}")


def num_to_keep(share: float) -> int:
    """How many candidates an archive lists at first.

    Args:
        share: how many of the sample it would hold if all were alike.

    Returns:
        Four standard deviations more: one archive in some thirty thousand has to list again.
    """
    return math.ceil(share + 4 * math.sqrt(share) + 8)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
