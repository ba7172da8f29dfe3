"""Copies planted in every search: a search that does not find them proves nothing.

For each kind of edit some pictures of the evaluation sets are edited and searched for as if they
were training pictures, with the same thresholds, among the same pictures, in the same run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from hqdata.overlap.edits import EDITS
from hqdata.overlap.report import Recall
from hqdata.overlap.search import Finding
from hqdata.overlap.tasks import Planted

COPIES_PER_TASK = 8

Result = tuple[Planted, list[Finding]]


def plan(candidates: Sequence[int], copies: int, *, seed: int = 0) -> list[Planted]:
    """Which copies to plant.

    Args:
        candidates: numbers of the pictures that can be read.
        copies: how many of each kind of edit.
        seed: of the draw.

    Returns:
        For every edit `copies` different pictures, or all of them where there are fewer; all
        pictures are drawn before one is drawn twice.
    """
    rng = np.random.default_rng(seed)
    order = [candidates[n] for n in rng.permutation(len(candidates))]
    each = min(copies, len(order))
    planted, at = [], 0
    for edit in range(len(EDITS)):
        for _ in range(each):
            known, donor = order[at % len(order)], order[(at + 1) % len(order)]
            planted.append(Planted(edit, known, donor))
            at += 1
    return planted


@dataclass(frozen=True, slots=True)
class Suspect:
    """A planted copy that was paired with a picture that it is no copy of.

    That is right if the picture has to do with its original, or with the donor of its foreground:
    evaluation sets have duplicates among them, and frames of one video.
    """

    planted: Planted
    paired: int


def suspects(results: Iterable[Result]) -> list[Suspect]:
    """The pairs that are not those planted."""
    return [
        Suspect(planted, finding.known)
        for planted, found in results
        for finding in found
        if finding.judgement.confirmed and finding.known not in (planted.known, planted.donor)
    ]


def doubtful(found: Iterable[Suspect]) -> list[int]:
    """The pictures whose relatives have to be known to tell false pairs."""
    return sorted({n for s in found for n in (s.planted.known, s.planted.donor, s.paired)})


def false_pairs(found: Sequence[Suspect], relatives: Mapping[int, Set[int]]) -> list[Suspect]:
    """The suspects that are no relatives, nor have a relative in common.

    Args:
        found: the suspects.
        relatives: picture -> pictures that have to do with it, itself included.
    """
    return [
        suspect
        for suspect in found
        if not relatives[suspect.paired]
        & (relatives[suspect.planted.known] | relatives[suspect.planted.donor])
    ]


def recall(results: Sequence[Result]) -> dict[str, Recall]:
    """By edit, how many copies were planted and how many found with their original."""
    table = {}
    for number, edit in enumerate(EDITS):
        own = [(planted, found) for planted, found in results if planted.edit == number]
        hits = sum(
            any(f.known == planted.known and f.judgement.confirmed for f in found)
            for planted, found in own
        )
        table[edit.name] = Recall(planted=len(own), found=hits, asked=edit.recall)
    return table
