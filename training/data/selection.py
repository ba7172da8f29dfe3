"""Which samples of a data set are trained on: all, only some sources, or all but some."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hqdata.catalogue.registry import find_set
from hqdata.errors import UserError, nearest
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
    """

    dataset: Dataset
    rows: Rows
    sources: tuple[str, ...]
    shards: tuple[ShardRows, ...]
    digest: str

    def __len__(self) -> int:
        """Selected samples."""
        return len(self.rows)

    @property
    def num_rows(self) -> int:
        """Samples of the whole data set."""
        return len(self.dataset)


def select(dataset: Dataset, *, only: Sequence[str] = (), exclude: Sequence[str] = ()) -> Selection:
    """The samples of some sources.

    Args:
        dataset: where from.
        only: names of sources, short, full or an alias, or "source/split"; none means all.
        exclude: names of what is left out of that.

    Raises:
        UserError: a name that nobody knows (the nearest is shown), one that the data set does not
            have, one that is both asked for and excluded, or nothing is left.
    """
    columns = dataset.samples.select(["source", "split", "shard"]).to_pydict()
    pairs = zip(columns["source"], columns["split"], strict=True)
    of_row = [f"{source}/{split}" for source, split in pairs]
    known = sorted(set(of_row))
    if not known:
        raise UserError(f"data set {dataset.info.name!r} has no samples", where=dataset.root)
    unwanted = {found for name in exclude for found in _find(name, known, dataset)}
    wanted: set[str] = set()
    for name in only:
        found = _find(name, known, dataset)
        if found <= unwanted:
            raise UserError(
                f"{name!r} is both asked for and excluded",
                do="take it out of one of --only and --exclude",
            )
        wanted |= found
    kept = tuple(sorted((wanted or set(known)) - unwanted))
    if not kept:
        raise UserError(
            f"nothing is left of data set {dataset.info.name!r} to train on",
            where=dataset.root,
            expected=f"at least one of {', '.join(known)} that is not excluded",
        )
    chosen = set(kept)
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
    )


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
            short = find_set(source).short_name
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
