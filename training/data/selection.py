"""Which samples of a data set are trained on: all, only some sources, or all but some."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hqdata.catalogue.registry import set_name
from hqdata.errors import UserError, nearest
from hqdata.resolve import ResolvedRecipe, SampleRequest
from hqdata.shards.dataset import Dataset
from training.data.order import Rows, ShardRows


@dataclass(frozen=True)
class Selection:
    """Samples of a data set.

    Attributes:
        dataset: the whole data set.
        rows: int64 (n,), the selected rows of its table, rising.
        sources: the selected "source/split" names, sorted.
        shards: the shards that hold them, in the manifest's order.
        digest: of the data set and of the names; runs with the same one train on the same samples.
        recipe: name of the recipe that the sources are of, if one was asked for; says so if a
            sample of it is but a cluster sample.
    """

    dataset: Dataset
    rows: Rows
    sources: tuple[str, ...]
    shards: tuple[ShardRows, ...]
    digest: str
    recipe: str | None = None

    def __len__(self) -> int:
        """Selected samples."""
        return len(self.rows)

    @property
    def num_rows(self) -> int:
        """Samples of the whole data set."""
        return len(self.dataset)


def select(
    dataset: Dataset,
    *,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    recipe: ResolvedRecipe | None = None,
    recipe_called: str = "",
) -> Selection:
    """The samples of some sources.

    Args:
        dataset: where from.
        only: names of sources, short, full or an alias, or "source/split"; none means all.
        exclude: names of what is left out of that.
        recipe: nothing but its sources and splits; what is selected of them has to be complete.
        recipe_called: name or path that it was asked for by, for messages; else its own name.

    Raises:
        UserError: a name that nobody knows (the nearest is shown), one that the data set or the
            recipe does not have, one that is both asked for and excluded, nothing is left, or the
            data set lacks something of the recipe.
    """
    columns = dataset.samples.select(["source", "split", "shard"]).to_pydict()
    pairs = zip(columns["source"], columns["split"], strict=True)
    of_row = [f"{source}/{split}" for source, split in pairs]
    known = sorted(set(of_row))
    if not known:
        raise UserError(f"data set {dataset.info.name!r} has no samples", where=dataset.root)
    unwanted = {found for name in exclude for found in _find(name, known, dataset)}
    asked = set(known) if recipe is None else _asked(recipe)
    wanted: set[str] = set()
    for name in only:
        found = _find(name, known, dataset)
        if found <= unwanted:
            raise UserError(
                f"{name!r} is both asked for and excluded",
                do="take it out of one of --only and --exclude",
            )
        if recipe is not None and not found & asked:
            raise UserError(
                f"{name!r} is asked for, and recipe {recipe.name!r} is without it",
                expected="one of " + ", ".join(sorted(asked)),
                do="leave out --only or --recipe",
            )
        wanted |= found
    chosen = ((wanted or asked) & asked) - unwanted
    if recipe is not None:
        _check_complete(dataset, recipe, chosen, recipe_called or recipe.name)
    kept = tuple(sorted(chosen))
    if not kept:
        raise UserError(
            f"nothing is left of data set {dataset.info.name!r} to train on",
            where=dataset.root,
            expected=f"at least one of {', '.join(known)} that is not excluded",
        )
    rows = [row for row, name in enumerate(of_row) if name in chosen]
    by_shard: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        by_shard.setdefault((columns["shard"][row], columns["source"][row]), []).append(row)
    shards = (ShardRows(path, source, tuple(own)) for (path, source), own in by_shard.items())
    return Selection(
        dataset,
        np.array(rows, np.int64),
        kept,
        tuple(shards),
        selection_digest(dataset.info.digest, kept),
        None if recipe is None else recipe.name + _cluster_note(dataset, chosen),
    )


def _cluster_note(dataset: Dataset, names: Collection[str]) -> str:
    """What a recipe's name does not say: that a sample is of a part of the archives only."""
    parts = [
        f"{drawn.archives:,} of {drawn.archives_expected:,} archives"
        for name, drawn in (dataset.info.sampled or {}).items()
        if name in names and drawn.cluster
    ]
    return f", a cluster sample of {', '.join(parts)}" if parts else ""


def _asked(recipe: ResolvedRecipe) -> set[str]:
    """The "source/split" names of a recipe."""
    return {f"{request.source}/{request.split}" for request in recipe.requests}


def _check_complete(
    dataset: Dataset, recipe: ResolvedRecipe, names: Collection[str], called: str
) -> None:
    """Holds the data set against what the recipe says of some of its "source/split" names."""
    lacking = []
    for request in recipe.requests:
        name = f"{request.source}/{request.split}"
        if name not in names:
            continue
        counts = dataset.info.sources.get(request.source, {}).get(request.split)
        expected = "" if request.expect is None else f"{request.expect:,} samples, "
        if counts is None or not counts.built:
            lacking.append(f"{name}: {expected}none there")
        elif request.expect not in (None, counts.built + counts.dropped):
            lacking.append(f"{name}: {expected}{counts.built:,} there")
        elif isinstance(request, SampleRequest):
            lacking += [f"{name}: {text}" for text in _other_sample(dataset, request)]
    if lacking:
        raise UserError(
            f"data set {dataset.info.name!r} does not have all of recipe {recipe.name!r}",
            where=dataset.root,
            expected="\n".join(lacking),
            do=f"build it: hqdata build --recipe {called} --data-root DATA --out SHARDS; or "
            "train on what there is, without --recipe",
        )


def _other_sample(dataset: Dataset, request: SampleRequest) -> list[str]:
    """What was drawn by other rules than the recipe's."""
    drawn = (dataset.info.sampled or {}).get(f"{request.source}/{request.split}")
    if drawn is None:
        return []  # folders of one's own that are called like a sampled set
    wanted = {"images": request.settings.images, **request.choice.to_dict()}
    return [
        f"{name} {value:,}, it was drawn with {getattr(drawn, name):,}"
        for name, value in wanted.items()
        if getattr(drawn, name) != value
    ]


def selection_digest(dataset_digest: str, sources: Iterable[str]) -> str:
    """SHA-256 of a data set's digest and the selected "source/split" names, one a line, sorted."""
    text = "".join(f"{line}\n" for line in (dataset_digest, *sorted(sources)))
    return hashlib.sha256(text.encode()).hexdigest()


def _find(name: str, known: Collection[str], dataset: Dataset) -> set[str]:
    """The "source/split" names of the data set that a given name means."""
    source, slash, split = name.partition("/")
    sources = {own.partition("/")[0] for own in known}
    short = source
    if source not in sources:
        try:
            short = set_name(source)
        except UserError:
            choices = {*sources, *known}
            raise UserError(
                f"there is no source {name!r}{nearest(name, choices)}",
                expected="one of " + ", ".join(sorted(choices)),
            ) from None
    found = {own for own in known if own.partition("/")[0] == short}
    if not found:
        raise UserError(
            f"data set {dataset.info.name!r} has no source {name!r}",
            where=dataset.root,
            expected="one of " + ", ".join(sorted(sources)),
            do="leave the name out, or build a data set that has it",
        )
    if slash:
        if f"{short}/{split}" not in found:
            splits = sorted(own.partition("/")[2] for own in found)
            raise UserError(
                f"source {short!r} has no split {split!r}{nearest(split, splits)}",
                where=dataset.root,
                expected="one of " + ", ".join(sorted(found)),
            )
        return {f"{short}/{split}"}
    return found
