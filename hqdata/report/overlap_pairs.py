"""The pairs of a report as the overlap page shows them: in order, in words, with their geometry."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from hqdata.overlap.report import Kind, Pair, components
from hqdata.report import words
from hqdata.report.overlap_geometry import Outline, describe, inverse, outline, unit_transform
from hqdata.report.overlap_pictures import WITHIN, Album, Shot, id_of_other, id_of_train

MAX_PAIRS = 10_000
"""Pairs a page shows; a browser draws no more in comfort."""

KINDS: dict[Kind, str] = {
    "identical_bytes": "the same file",
    "identical_pixels": "the same pixels",
    "near": "the same picture, edited",
    "crop": "one is a part of the other",
    "composite": "a region in common",
    "same_source_id": "the same number in the same archive",
}
"""The kinds of pairs in words, the strongest first."""


@dataclass(frozen=True, slots=True)
class Group:
    """Pairs that hang together through shared pictures, confirmed ones first.

    Attributes:
        pairs: (number on the page, pair).
        num_pictures: how many pictures they are made of.
    """

    pairs: tuple[tuple[int, Pair], ...]
    num_pictures: int

    @property
    def confirmed(self) -> bool:
        """Whether any of its pairs is confirmed."""
        return self.pairs[0][1].confirmed


@dataclass(frozen=True, slots=True)
class Choice:
    """An entry of a filter."""

    value: str
    label: str
    count: int


def group_pairs(pairs: Sequence[Pair]) -> list[Group]:
    """All pairs in the page's order, numbered from 1.

    Groups with a confirmed pair come before groups of hints, larger before smaller; the order of
    the report decides between equals.
    """
    found = sorted(
        (sorted(group, key=lambda pair: not pair.confirmed) for group in components(pairs)),
        key=lambda group: not group[0].confirmed,
    )
    groups, number = [], 1
    for group in found:
        pictures = {i for pair in group for i in (id_of_train(pair), id_of_other(pair))}
        groups.append(Group(tuple(enumerate(group, number)), len(pictures)))
        number += len(group)
    return groups


def first_pairs(groups: Sequence[Group], most: int) -> list[Group]:
    """The groups cut behind the pair with the number `most`."""
    cut = [
        Group(tuple(pair for pair in group.pairs if pair[0] <= most), group.num_pictures)
        for group in groups
    ]
    return [group for group in cut if group.pairs]


def source_of(key: str) -> str:
    """The source that a key names."""
    return key.partition("-")[0]


def set_in_words(name: str) -> str:
    """An evaluation set as the page calls it."""
    return "the training set itself" if name == WITHIN else name


def choices(pairs: Sequence[Pair]) -> dict[str, list[Choice]]:
    """Entries of the filters by kind, evaluation set, source, and state, with their counts."""
    kinds = Counter(pair.kind for pair in pairs)
    sets = Counter(pair.evaluation.set for pair in pairs)
    sources = Counter(source_of(pair.train) for pair in pairs)
    states = Counter(pair.confirmed for pair in pairs)
    return {
        "kind": [Choice(kind, KINDS[kind], kinds[kind]) for kind in KINDS if kinds[kind]],
        "set": [Choice(name, set_in_words(name), sets[name]) for name in sorted(sets)],
        "source": [Choice(name, name, sources[name]) for name in sorted(sources)],
        "state": [
            Choice(value, label, states[confirmed])
            for confirmed, value, label in (
                (True, "confirmed", "confirmed"),
                (False, "hint", "hints"),
            )
            if states[confirmed]
        ],
    }


def facts(pair: Pair) -> list[tuple[str, str]]:
    """The evidence as (label, value)."""
    found = []
    if pair.distance is not None:
        found.append(("PDQ distance", f"{pair.distance} of 256 bits"))
    if pair.inliers is not None:
        found.append(("features that agree", words.count(pair.inliers)))
    if pair.score is not None:
        found.append(("common pixels that agree", words.percent(pair.score)))
    if pair.train_fraction is not None:
        found.append(("share of the training picture", words.percent(pair.train_fraction)))
    if pair.evaluation_fraction is not None:
        found.append(("share of the other picture", words.percent(pair.evaluation_fraction)))
    return found


def make_row(pair: Pair, album: Album, removed: Container[str]) -> dict[str, Any]:
    """What the page's script needs to show a pair; texts are ready to be shown.

    Args:
        pair: the pair.
        album: where its pictures are.
        removed: keys of the training pictures that a build without overlaps leaves out.
    """
    keys = [
        key for evaluation_set, key in (id_of_train(pair), id_of_other(pair)) if not evaluation_set
    ]
    train, other = album.get(id_of_train(pair)), album.get(id_of_other(pair))
    row: dict[str, Any] = {
        "train": visible(pair.train),
        "set": visible(pair.evaluation.set),
        "name": visible(pair.evaluation.name),
        "source": visible(source_of(pair.train)),
        "kind": pair.kind,
        "confirmed": pair.confirmed,
        "reason": visible(pair.reason),
        "facts": facts(pair),
        "goes": [visible(key) for key in keys if pair.confirmed and key in removed],
        "sizes": (pair.train_size, pair.evaluation_size),
        "pictures": (train.number, other.number),
        "notes": (_note(train, pair.train_size), _note(other, pair.evaluation_size)),
    }
    matrix = unit_transform(pair)
    if matrix is not None:
        row["matrix"] = [float(f"{value:.7g}") for value in matrix.ravel()]
        row["outlines"] = (_points(outline(matrix)), _points(outline(inverse(matrix))))
        row["lies"] = describe(pair, matrix)
    return row


def _note(shot: Shot, size: tuple[int, int]) -> str:
    if shot.number is None:
        return f"picture not here: {shot.missing}" if shot.missing else "picture not here"
    if shot.size is not None and shot.size != size:
        return f"now has {shot.size[0]} × {shot.size[1]} px: changed since the report"
    return ""


def _points(points: Outline) -> str:
    """Points of an SVG polygon, in thousandths of the picture's sides."""
    return " ".join(f"{x * 1000:.1f},{y * 1000:.1f}" for x, y in points)


def visible(text: str) -> str:
    """A text from outside with marks that cannot be seen spelled out, e.g. `⟨U+202E⟩`.

    Among them are those that turn the direction of writing and so make a name look like another.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"⟨U+{ord(mark):04X}⟩" if unicodedata.category(mark) in _UNSEEN else mark for mark in text
    )


_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def data_block(value: object) -> Markup:
    """JSON for a `<script>` element: nothing in it can end the element or be taken for markup."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)
