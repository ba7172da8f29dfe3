"""What the card and the machine-readable description of a published data set are made from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import pyarrow as pa

from hqdata.catalogue.registry import load_manifests
from hqdata.catalogue.sampled import load_sampled
from hqdata.hub.licences import Decision, Terms
from hqdata.overlap.report import OverlapReport
from hqdata.recipe import load_recipe, recipe_names
from hqdata.report.stats import TABLE_5_RECIPE, table_5
from hqdata.resolve import resolve
from hqdata.shards.dataset import DatasetInfo
from hqdata.shards.subset import Manifest

HUB = "https://huggingface.co"

_TITLES = {
    "hqseg-44k": "HQSeg-44K",
    "evaluation": "Evaluation sets of HQ-SAM",
    "sa1b-44k": "SA-1B-44K",
}
_STAND_IN_TITLES = {
    "mini": "Stand-in for HQSeg-44K",
    "mini-evaluation": "Stand-in for the evaluation sets of HQ-SAM",
}

_VARIANTS = ("no-dis", "no-thinobject", "no-dis-no-thinobject")
"""Recipes that are HQSeg-44K less some of its sources."""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """All that the card tells.

    Attributes:
        repo_id: `owner/name` on the Hub.
        manifest: of what is published.
        rows: its rows of `samples.parquet`.
        decision: what the licences allow, and what is done.
        certificate: the report of overlaps that goes along, or None.
        certificate_covers: whether it is of exactly this data set, or of a larger one of which this
            is a part.
        without_certificate: published although nothing proves that it overlaps no evaluation set.
        examples: (path in the repository, source or words about it) of example pictures.
        certificate_faults: why the certificate that goes along proves nothing; empty where it does.
    """

    repo_id: str
    manifest: Manifest
    rows: pa.Table
    decision: Decision
    certificate: OverlapReport | None
    certificate_covers: Literal["exactly", "more"]
    without_certificate: bool
    examples: tuple[tuple[str, str], ...]
    certificate_faults: tuple[str, ...] = ()

    @property
    def info(self) -> DatasetInfo:
        """The content of `dataset.json`."""
        return self.manifest.info

    @property
    def has_pictures(self) -> bool:
        """Whether the shards are published."""
        return self.decision.what == "all"

    @property
    def stand_ins(self) -> tuple[Terms, ...]:
        """The sources that are drawn by program."""
        return tuple(item for item in self.decision.terms if item.stand_in)

    @property
    def is_stand_in(self) -> bool:
        """Whether every picture is drawn by program."""
        return 0 < len(self.stand_ins) == len(self.decision.terms)

    @property
    def is_evaluation(self) -> bool:
        """Whether this is a data set to evaluate on: nobody trains on HRSOD or COIFT."""
        manifests = load_manifests()
        roles = [manifests[s].role for s in self.info.sources if s in manifests]
        return not self.info.recipe.get("must_not_overlap") and "evaluation" in roles

    @property
    def absent(self) -> tuple[str, ...]:
        """Sources that the recipe of this name has and this data set has not."""
        return self._absent_of(self.info.name)

    @property
    def is_all_of_the_paper(self) -> bool:
        """Whether it is HQSeg-44K, known defects aside, and not a part of it."""
        counts = [count for found in self.info.sources.values() for count in found.values()]
        here = sum(count.built + count.dropped for count in counts)
        return self.is_of_the_paper and here >= sum(table_5().values())

    @property
    def absent_of_the_paper(self) -> tuple[str, ...]:
        """Sources of Table 5 that this data set has not."""
        return self._absent_of(TABLE_5_RECIPE)

    def _absent_of(self, recipe: str) -> tuple[str, ...]:
        return tuple(name for name in _sources_of(recipe) if name not in self.info.sources)

    @property
    def is_of_the_paper(self) -> bool:
        """Whether all of it belongs to Table 5 of the paper's supplement, drawn or not."""
        splits = {(s, split) for s, found in self.info.sources.items() for split in found}
        return splits <= table_5().keys()

    @property
    def title(self) -> str:
        """What the data set is called, for people."""
        name, absent = self.info.name, self.absent
        if name in _VARIANTS:
            name, absent = TABLE_5_RECIPE, self.absent_of_the_paper
        titles = {**_TITLES, **_STAND_IN_TITLES} if self.is_stand_in else _TITLES
        return titles.get(name, name) + (f" without {_listed(absent)}" if absent else "")

    @property
    def url(self) -> str:
        """The data set's page."""
        return f"{HUB}/datasets/{self.repo_id}"


def title_of(source: str) -> str:
    """A source's name in a sentence: `DIS5K` of `dis`, without what stands in parentheses."""
    known = load_manifests().get(source) or load_sampled().get(source)
    return source if known is None else known.title.split(" (")[0]


def _listed(sources: tuple[str, ...]) -> str:
    names = [title_of(source) for source in sources]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


@cache
def _sources_of(recipe: str) -> tuple[str, ...]:
    """Sources of a recipe that comes with the package; none of any other."""
    if recipe not in recipe_names():
        return ()
    resolved = resolve(load_recipe(recipe))
    return tuple(dict.fromkeys(request.source for request in resolved.requests))
