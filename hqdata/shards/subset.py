"""Parts of a data set by source: the manifest that a build of only these sources would write.

One source a shard: leaving a source out is leaving files out, and only the small files of the
manifest differ. `subset` gives them, byte for byte as `hqdata build --include` would.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from hqdata.catalogue.registry import set_name
from hqdata.errors import DatasetError, UserError, nearest
from hqdata.files import sha256_of
from hqdata.problems import read_jsonl, to_jsonl
from hqdata.shards.dataset import (
    Dataset,
    DatasetInfo,
    Removed,
    SampleInfo,
    dataset_digest,
    timm_bytes,
    write_samples,
)
from hqdata.shards.names import DATASET_FILE, PROBLEMS_FILE, SAMPLES_FILE, TIMM_FILE


@dataclass(frozen=True, slots=True)
class Manifest:
    """A data set without its shards: what its small files hold.

    Attributes:
        info: the content of `dataset.json`.
        samples: bytes of `samples.parquet`.
        problems: bytes of `problems.jsonl`.
        timm: bytes of `_info.json`.
    """

    info: DatasetInfo
    samples: bytes
    problems: bytes
    timm: bytes

    def files(self) -> dict[str, bytes]:
        """The files by name, in the order in which they are written: `dataset.json` last."""
        return {
            SAMPLES_FILE: self.samples,
            PROBLEMS_FILE: self.problems,
            TIMM_FILE: self.timm,
            DATASET_FILE: self.info.to_bytes(),
        }


def whole(dataset: Dataset) -> Manifest:
    """The manifest of all of a data set, as it is on disk.

    Raises:
        DatasetError: one of its files cannot be read, or is not as the build wrote it.
    """
    info = dataset.info
    found = {}
    for name in (SAMPLES_FILE, PROBLEMS_FILE, TIMM_FILE, DATASET_FILE):
        path = dataset.root / name
        try:
            found[name] = path.read_bytes()
        except OSError as error:
            raise DatasetError(f"{name} cannot be read: {error.strerror}", where=path) from error
    manifest = Manifest(info, found[SAMPLES_FILE], found[PROBLEMS_FILE], found[TIMM_FILE])
    expected = {
        SAMPLES_FILE: info.samples_sha256,
        PROBLEMS_FILE: info.problems_sha256,
        TIMM_FILE: sha256_of(timm_bytes(info.shards)),
        DATASET_FILE: sha256_of(info.sealed().to_bytes()),
    }
    for name, data in found.items():
        if sha256_of(data) != expected[name]:
            raise DatasetError(
                f"{name} was changed after it was written",
                where=dataset.root / name,
                do="run the build again: it keeps the shards and writes the manifest anew",
            )
    return manifest


def choose(
    info: DatasetInfo, include: Collection[str] = (), exclude: Collection[str] = ()
) -> list[str]:
    """The sources of a data set that are meant, in its order; short and full names both work.

    Args:
        info: the data set.
        include: only these; all if empty.
        exclude: without these.

    Raises:
        UserError: a name that is no source of the data set (the nearest is shown), or nothing is
            left.
    """
    known = list(info.sources)

    def short(name: str) -> str:
        if name in known:
            return name
        try:
            found = set_name(name)
        except UserError:
            found = name
        if found not in known:
            raise UserError(
                f"data set {info.name!r} has no source {name!r}{nearest(name, known)}",
                expected="one of " + ", ".join(sorted(known)),
            )
        return found

    wanted = {short(name) for name in include} or set(known)
    unwanted = {short(name) for name in exclude}
    kept = [name for name in known if name in wanted - unwanted]
    if not kept:
        raise UserError(f"nothing is left of data set {info.name!r}")
    return kept


def subset(dataset: Dataset, keep: Collection[str]) -> Manifest:
    """The manifest of only some sources of a data set; their shards stay as they are.

    Its files are, byte for byte, those that `hqdata build --include <keep>` of the same recipe,
    options and sources writes.

    Args:
        dataset: the data set. Its small files are taken for undamaged.
        keep: short names of its sources, as `choose` gives them.

    Raises:
        DatasetError: `problems.jsonl` cannot be read.
        ValueError: a name that is no source of the data set, or none.
    """
    info = dataset.info
    kept = set(keep)
    if not kept or not kept <= set(info.sources):
        raise ValueError(f"{sorted(kept)} are no sources of {sorted(info.sources)}")
    buffer = io.BytesIO()
    write_samples(buffer, rows_of(dataset.samples, kept).to_pylist())
    samples = buffer.getvalue()
    problems = [p for p in read_jsonl(dataset.root / PROBLEMS_FILE) if p.source in kept]
    listed = to_jsonl(problems).encode()
    shards = tuple(shard for shard in info.shards if _source_of_shard(shard.path) in kept)
    counts = {source: splits for source, splits in info.sources.items() if source in kept}
    part = info.model_copy(
        update={
            "recipe": _recipe(info, kept),
            "complete": all(c.complete for splits in counts.values() for c in splits.values()),
            "num_samples": sum(shard.num_samples for shard in shards),
            "num_problems": len(problems),
            "sources": counts,
            "layouts": {w: n for w, n in info.layouts.items() if w.partition("/")[0] in kept},
            "dropped": tuple(item for item in info.dropped if item.source in kept),
            "removed": _removed(info, kept),
            "sampled": _sampled(info, kept),
            "shards": shards,
            "samples_sha256": sha256_of(samples),
            "problems_sha256": sha256_of(listed),
            "digest": dataset_digest(shards),
        }
    )
    return Manifest(part.sealed(), samples, listed, timm_bytes(shards))


def rows_of(samples: pa.Table, sources: Iterable[str]) -> pa.Table:
    """The rows of `samples.parquet` that are of some sources, in its order."""
    return samples.filter(pc.is_in(samples["source"], pa.array(sorted(sources), pa.string())))


def _recipe(info: DatasetInfo, kept: set[str]) -> dict[str, object]:
    """The recipe with the splits and samples that are left.

    Its defects and the sets it must not overlap stay: a recipe that sources are left out of still
    names them.
    """
    recipe = dict(info.recipe)
    for name in ("splits", "samples"):
        lines = [line for line in recipe.get(name, ()) if line["source"] in kept]
        if lines or name == "splits":
            recipe[name] = lines
        else:
            recipe.pop(name, None)  # a build of pairs alone says nothing of samples
    return recipe


def _sampled(info: DatasetInfo, kept: set[str]) -> dict[str, SampleInfo] | None:
    """What was drawn for the sources that are left; None where nothing was."""
    found = info.sampled or {}
    return {w: item for w, item in found.items() if w.partition("/")[0] in kept} or None


def _removed(info: DatasetInfo, kept: set[str]) -> Removed | None:
    """What a report of overlaps took from the sources that are left."""
    removed = info.removed
    if removed is None:
        return None
    keys = tuple(key for key in removed.keys if key.partition("-")[0] in kept)
    if removed.keys:
        num_keys = len(keys)
    else:
        # The first manifests with a removal had no keys: its reasons end with the report's digest.
        mark = removed.report_sha256[:12]
        num_keys = sum(d.source in kept and d.reason.endswith(mark) for d in info.dropped)
    return removed.model_copy(update={"num_keys": num_keys, "keys": keys}) if num_keys else None


def _source_of_shard(path: str) -> str:
    return path.partition("/")[0]
