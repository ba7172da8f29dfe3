"""The figures of a data set: counts beside the paper's, sizes, masks, and what normalisation did.

Everything comes from `dataset.json` and `samples.parquet`; no picture is read.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hqdata.catalogue.registry import load_manifests
from hqdata.pictures import UNTOUCHED
from hqdata.recipe import load_recipe
from hqdata.report.histograms import Histogram, histograms
from hqdata.resolve import resolve
from hqdata.shards.dataset import Dataset, SampleInfo, SplitCounts

TABLE_5_RECIPE = "hqseg-44k"
"""The recipe whose expected counts are Table 5 of the paper's supplement."""

Where = tuple[str, str]
"""(source, split)."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Spread:
    """How one figure is spread over the samples of a group, in the figure's own unit.

    Percentiles are interpolated linearly between neighbours.
    """

    minimum: float
    median: float
    mean: float
    p90: float
    maximum: float

    @classmethod
    def of(cls, values: NDArray[Any]) -> Spread:
        """The spread of at least one value."""
        median, p90 = np.percentile(values, (50, 90))
        return cls(
            minimum=float(values.min()),
            median=float(median),
            mean=float(values.mean(dtype=np.float64)),
            p90=float(p90),
            maximum=float(values.max()),
        )


@dataclass(frozen=True, slots=True)
class Figures:
    """What the samples of a group look like.

    Attributes:
        width, height, longest_side: in pixels.
        megapixels: width x height / 1,000,000.
        area_fraction: share of the picture's pixels that are object (mask > 128), 0…1.
        soft_fraction: share of the mask's pixels strictly between 0 and 255, 0…1.
        components: 8-connected components of the object.
        thinness: isoperimetric quotient, perimeter² / (4 π area): 1 for a disc, hundreds for a net.
    """

    width: Spread
    height: Spread
    longest_side: Spread
    megapixels: Spread
    area_fraction: Spread
    soft_fraction: Spread
    components: Spread
    thinness: Spread


@dataclass(frozen=True, slots=True)
class Changes:
    """What normalisation did to one kind of file in a group.

    Attributes:
        num_changed: files that are not byte for byte those of the release.
        by_what: (what was done, number of files), commonest first; a file can have several.
        lowest_psnr_db: worst PSNR of a re-encoded image in dB, 100 for identical pixels; None for
            masks, which are always lossless, and where nothing changed.
    """

    num_changed: int
    by_what: tuple[tuple[str, int], ...]
    lowest_psnr_db: float | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A split, a source with all its splits, or the whole data set.

    Attributes:
        source: short name; "" for the whole data set.
        split: name of the split; "" for all of them.
        built: samples in the shards.
        expected: samples the recipe expects; None if any number will do in one of its splits.
        published: samples in Table 5 of the paper's supplement or, for a split that is not in it,
            in the release; None for folders of the user's own.
        rejected: samples that stayed out for a problem.
        dropped: samples that stayed out because a known defect says so.
        missing: expected samples that are neither built nor dropped.
        surplus: samples beyond what is expected.
        share: of the whole data set's samples, 0…1.
        num_bytes: of images, masks and records, without the tar's padding.
        licences: ids of the samples' licences, sorted.
        images, masks: what normalisation did to them.
        figures: None without samples.
    """

    source: str
    split: str
    built: int
    expected: int | None
    published: int | None
    rejected: int
    dropped: int
    missing: int
    surplus: int
    share: float
    num_bytes: int
    licences: tuple[str, ...]
    images: Changes
    masks: Changes
    figures: Figures | None

    @property
    def complete(self) -> bool:
        """Whether as many samples are there as are expected."""
        return not self.missing and not self.surplus


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a data set.

    Attributes:
        name: of the recipe it was built by.
        digest: SHA-256 over its shards' digests, hexadecimal.
        complete: what the data set says of itself.
        num_problems: rows of `problems.jsonl`.
        num_shards: number of shards.
        num_shard_bytes: of all shards, as they lie on disk.
        splits: one group a split, in the recipe's order.
        sources: one group a source, in the recipe's order.
        total: all samples. Its `published` counts what is absent, too.
        absent: (source, split, number of samples) of Table 5's splits that this data set was not
            asked to have; empty for a data set that has none of them.
        only_table_5: every `published` count comes from Table 5.
        histograms: longest side, object area and thinness by source.
        sampled: ("source/split", what was drawn) of what comes from archives.
    """

    name: str
    digest: str
    complete: bool
    num_problems: int
    num_shards: int
    num_shard_bytes: int
    splits: tuple[Group, ...]
    sources: tuple[Group, ...]
    total: Group
    absent: tuple[tuple[str, str, int], ...]
    only_table_5: bool
    histograms: tuple[Histogram, ...]
    sampled: tuple[tuple[str, SampleInfo], ...] = ()

    @property
    def published_label(self) -> str:
        """What to call the column of published counts."""
        return "Table 5" if self.only_table_5 else "published"

    def splits_of(self, source: str) -> tuple[Group, ...]:
        """The groups of one source's splits."""
        return tuple(group for group in self.splits if group.source == source)


def table_5() -> dict[Where, int]:
    """(source, split) -> number of images in HQSeg-44K (Table 5 of the paper's supplement)."""
    splits = resolve(load_recipe(TABLE_5_RECIPE)).splits
    return {(s.source, s.split): s.expect for s in splits if s.expect is not None}


def summarise(dataset: Dataset) -> Summary:
    """The figures of a data set, from its manifest alone."""
    columns = _Columns(dataset.samples)
    info = dataset.info
    paper = table_5()
    published = {
        (source, split): paper.get((source, split), _released(source, split))
        for source, by_split in info.sources.items()
        for split in by_split
    }
    in_paper = [where for where in published if where in paper]
    absent = tuple(
        (*where, count) for where, count in paper.items() if in_paper and where not in published
    )
    splits, sources = [], []
    for source, by_split in info.sources.items():
        of_source = columns.source == source
        for split, counts in by_split.items():
            rows = of_source & (columns.split == split)
            known = {(source, split): published[(source, split)]}
            splits.append(columns.group(source, split, rows, [counts], known, 0))
        known = {where: count for where, count in published.items() if where[0] == source}
        sources.append(columns.group(source, "", of_source, list(by_split.values()), known, 0))
    every = [counts for by_split in info.sources.values() for counts in by_split.values()]
    everything: Flags = np.ones(len(columns.source), dtype=np.bool_)
    num_absent = sum(count for _, _, count in absent)
    total = columns.group("", "", everything, every, published, num_absent)
    return Summary(
        name=info.name,
        digest=info.digest,
        complete=info.complete,
        num_problems=info.num_problems,
        num_shards=len(info.shards),
        num_shard_bytes=sum(shard.num_bytes for shard in info.shards),
        splits=tuple(splits),
        sources=tuple(sources),
        total=total,
        absent=absent,
        only_table_5=bool(in_paper)
        and all(where in paper for where, count in published.items() if count is not None),
        histograms=histograms(
            {
                name: (columns.longest_side[rows], columns.area[rows], columns.thinness[rows])
                for name in info.sources
                for rows in [columns.source == name]
            }
        ),
        sampled=tuple((info.sampled or {}).items()),
    )


def _released(source: str, split: str) -> int | None:
    manifest = load_manifests().get(source)
    facts = None if manifest is None else manifest.splits.get(split)
    return None if facts is None else facts.expect


class _Columns:
    """The columns of `samples.parquet` as arrays."""

    def __init__(self, table: pa.Table) -> None:
        def column(name: str) -> NDArray[Any]:
            values: NDArray[Any] = table.column(name).to_numpy()
            return values

        self.source, self.split = column("source"), column("split")
        self.width, self.height = column("width"), column("height")
        self.longest_side = np.maximum(self.width, self.height)
        self.area, self.soft = column("mask_area_fraction"), column("mask_soft_fraction")
        self.components, self.thinness = column("mask_components"), column("mask_thinness")
        self.num_bytes = column("image_size") + column("mask_size") + column("record_size")
        self.licence, self.psnr_db = column("licence"), column("image_psnr_db")
        self.image_changes, self.mask_changes = column("image_changes"), column("mask_changes")

    def group(
        self,
        source: str,
        split: str,
        rows: Flags,
        counts: list[SplitCounts],
        published: dict[Where, int | None],
        num_absent: int,
    ) -> Group:
        """The group of some rows.

        Args:
            source, split: what it is called.
            rows: which samples belong to it.
            counts: what `dataset.json` says of its splits.
            published: published counts of its splits.
            num_absent: published samples of splits that the data set does not have.
        """
        built = int(np.count_nonzero(rows))
        known = [count for count in published.values() if count is not None]
        expected = [c.expected for c in counts if c.expected is not None]
        short = [c.expected - c.built - c.dropped for c in counts if c.expected is not None]
        images = _changes(self.image_changes[rows])
        if images.num_changed:
            changed = self.psnr_db[rows & (self.image_changes != UNTOUCHED)]
            images = Changes(images.num_changed, images.by_what, float(changed.min()))
        return Group(
            source=source,
            split=split,
            built=built,
            expected=sum(expected) if len(expected) == len(counts) else None,
            published=sum(known) + num_absent if known else None,
            rejected=sum(c.rejected for c in counts),
            dropped=sum(c.dropped for c in counts),
            missing=sum(max(0, number) for number in short),
            surplus=sum(max(0, -number) for number in short),
            share=built / max(1, len(rows)),
            num_bytes=int(self.num_bytes[rows].sum()),
            licences=tuple(sorted(set(self.licence[rows].tolist()))),
            images=images,
            masks=_changes(self.mask_changes[rows]),
            figures=self._figures(rows) if built else None,
        )

    def _figures(self, rows: Flags) -> Figures:
        pixels = self.width[rows].astype(np.float64) * self.height[rows]
        return Figures(
            width=Spread.of(self.width[rows]),
            height=Spread.of(self.height[rows]),
            longest_side=Spread.of(self.longest_side[rows]),
            megapixels=Spread.of(pixels / 1e6),
            area_fraction=Spread.of(self.area[rows]),
            soft_fraction=Spread.of(self.soft[rows]),
            components=Spread.of(self.components[rows]),
            thinness=Spread.of(self.thinness[rows]),
        )


def _changes(column: NDArray[Any]) -> Changes:
    num_changed = 0
    by_what: Counter[str] = Counter()
    for text, count in Counter(column.tolist()).items():
        if text == UNTOUCHED:
            continue
        num_changed += count
        for what in {_kind_of_change(part) for part in text.split(", ")}:
            by_what[what] += count
    ranked = sorted(by_what.items(), key=lambda item: (-item[1], item[0]))
    return Changes(num_changed, tuple(ranked))


def _kind_of_change(what: str) -> str:
    """Sizes and colours differ from file to file; one line for all of them is enough."""
    return re.sub(r"^(resized-from|one-colour)-.*", r"\1", what)
