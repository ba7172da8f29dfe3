"""Data sets to publish, and what their cards are made from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hqdata.build.run import BuildOptions, build
from hqdata.catalogue.manifest import Licence
from hqdata.hub.facts import CardFacts
from hqdata.hub.licences import Audience, Terms, What, decide, terms_of
from hqdata.mini import make_mini
from hqdata.overlap.report import EvaluationSet, OverlapReport, Recall
from hqdata.recipe import load_recipe, select
from hqdata.resolve import resolve
from hqdata.shards.dataset import Dataset
from hqdata.shards.subset import choose, rows_of, subset, whole
from support.builds import build_own, own_sources
from support.reports import report


def build_recipe(root: Path, out: Path, sources: Collection[str], recipe: str = "mini") -> Dataset:
    """Builds some sources of a recipe that comes with the package."""
    chosen = select(load_recipe(recipe), include=sources)
    build(resolve(chosen), root, out, BuildOptions(workers=1))
    return Dataset.open(out)


def stand_in(folder: Path, sources: Collection[str], recipe: str = "mini") -> Dataset:
    """Draws some sources of the stand-in, and builds them in `folder/shards`."""
    make_mini(folder / "mini", workers=1, sets=sources)
    return build_recipe(folder / "mini", folder / "shards", sources, recipe)


def own(folder: Path, counts: dict[str, int], **settings: Any) -> Dataset:
    """A data set of sources of one's own, all under CC0-1.0, in `folder/shards`."""
    own_sources(folder / "sources", counts)
    build_own(folder / "sources", folder / "shards", list(counts), **settings)
    return Dataset.open(folder / "shards")


def terms(source: str = "wires", push: Audience = "public", **changes: Any) -> Terms:
    """Terms made by hand."""
    licence = Licence(
        id="x", name=f"terms of {source}", url="https://example.org/x", evidence="seen", push=push
    )
    made = Terms(
        source=source,
        title=f"Set {source}",
        num_samples=10,
        num_bytes=2048,
        licence=licence,
        push=push,
        permission=None,
        stand_in=False,
    )
    return replace(made, **changes)


def facts(
    dataset: Dataset,
    *,
    exclude: Sequence[str] = (),
    what: What = "all",
    public: bool = False,
    certificate: OverlapReport | None = None,
    examples: tuple[tuple[str, str], ...] = (),
    permissions: Sequence[Any] = (),
    **changes: Any,
) -> CardFacts:
    """What a card is made from, for all of a data set or a part of it."""
    sources = choose(dataset.info, (), exclude)
    manifest = subset(dataset, sources) if exclude else whole(dataset)
    found = CardFacts(
        repo_id="me/a-set",
        manifest=manifest,
        rows=rows_of(dataset.samples, sources),
        decision=decide(terms_of(dataset, sources, permissions), what=what, public=public),
        certificate=certificate,
        certificate_covers="more" if exclude else "exactly",
        without_certificate=certificate is None,
        examples=examples,
    )
    return replace(found, **changes)


def certificate(dataset: Dataset, **changes: Any) -> OverlapReport:
    """A clean report of a data set."""
    made: dict[str, Any] = {
        "num_train": len(dataset),
        "within": False,
        "evaluation": (
            EvaluationSet(
                set="coift/all", num_images=280, how="pictures", digest="c" * 64, source="COIFT"
            ),
        ),
        "self_test": {"crop": Recall(planted=8, found=8, asked=0.95)},
    }
    return report(digest=dataset.info.digest).model_copy(update={**made, **changes})
