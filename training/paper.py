"""The figures of the paper, to stand beside ours (arXiv 2306.01567; ViT-L, prompted with boxes).

Only what is certain is here: the figures a set are those whose means over the four sets are the
three means of Table 6, to the last digit given. A column that a table of the paper has and this
module has not is left empty in our tables, never filled with a guess.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from training.scores import Scores

MODEL = "vit_l"
"""The backbone of all these figures."""

FOUR_SETS = ("dis/validation", "coift/all", "hrsod/all", "thinobject/test")
"""The sets for fine masks, by the names that the evaluation recipe gives them."""

TITLES = {
    "dis/validation": "DIS-VD",
    "coift/all": "COIFT",
    "hrsod/all": "HRSOD",
    "thinobject/test": "ThinObject5K-TE",
}

TABLE = "Table 6"


@dataclass(frozen=True, slots=True)
class PaperRow:
    """What the paper gives for SAM and for HQ-SAM trained on HQSeg-44K."""

    sam: Scores
    hq: Scores


def _row(sam: tuple[float, float], hq: tuple[float, float]) -> PaperRow:
    return PaperRow(
        Scores(sam[0] / 100, sam[1] / 100),
        Scores(hq[0] / 100, hq[1] / 100),
    )


BY_SET = {
    "dis/validation": _row((62.0, 52.8), (78.6, 70.4)),
    "coift/all": _row((92.1, 86.5), (94.8, 90.1)),
    "hrsod/all": _row((90.2, 83.1), (93.6, 86.9)),
    "thinobject/test": _row((73.6, 61.8), (89.5, 79.9)),
}

MEAN = _row((79.5, 71.1), (89.1, 81.8))
"""Over the four sets."""

SA_1B = "sa1b"
"""Short name of SA-1B in our shards."""

MEAN_SA_1B_44K = Scores(0.783, 0.701)
"""Over the four sets, of a token trained on 44 thousand images of SA-1B instead."""


def reference(model: str, name: str, prompt: str) -> PaperRow | None:
    """What the paper gives for a set, if it is the same backbone and prompt.

    Args:
        model: name of the backbone.
        name: "source/split".
        prompt: as `training.eval_samples.PromptChoice` writes it.
    """
    return BY_SET.get(name) if model == MODEL and prompt == "box" else None


def reference_mean(model: str, names: Iterable[str], prompt: str) -> PaperRow | None:
    """What it gives for the mean, if the sets are its four."""
    same = model == MODEL and prompt == "box" and set(names) == set(FOUR_SETS)
    return MEAN if same else None
