"""The recipe of a data set as a file that `hqdata build --recipe` reads."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import yaml

from hqdata.catalogue.registry import set_name
from hqdata.errors import UserError
from hqdata.hub.names import CERTIFICATE_FILE, RECIPE_FILE
from hqdata.overlap.removal import keys_to_remove
from hqdata.overlap.report import OverlapReport
from hqdata.shards.dataset import DatasetInfo
from hqdata.shards.names import DATASET_FILE

_HEAD = """\
# The recipe of data set {digest}.
# With the releases of its sources below data/ this builds it again{but}:
#
#   hqdata build --recipe {file} --data-root data/ --out shards/{remove}
"""

_OWN_LAYOUT = "your folders"
"""What `dataset.json` says of the layout of a pair of folders."""


def recipe_bytes(info: DatasetInfo, *, with_certificate: bool = True) -> bytes | None:
    """The file, or None where a source is a pair of folders that the data set knows no path of.

    Args:
        info: the manifest of the data set.
        with_certificate: whether a report of overlaps lies beside the file, by which a build leaves
            out again what this one did.
    """
    if own_folders(info):
        return None
    splits = info.recipe.get("splits", ())
    kept = {
        name: value
        for name, value in info.recipe.items()
        if name not in ("splits", "samples") and value not in (None, [], "")
    }
    # Splits that accept any number stand in a line of their own.
    lines = groupby(splits, key=lambda item: (item["source"], item["expect"] is None))
    sources = [_line(source, list(group)) for (source, _), group in lines]
    sources += map(_sample_line, info.recipe.get("samples", ()))
    document = {**kept, "sources": sources}
    remove, but = "", ""
    if info.removed is not None and with_certificate:
        remove = f" --remove {CERTIFICATE_FILE}"
    elif info.removed is not None:
        number = info.removed.num_keys
        images = f"{number:,} image" + ("" if number == 1 else "s")
        but = (
            f", and {images} more that this data set\n# leaves out because a search for overlap "
            f"named them: `{where_removed(info)}` in {DATASET_FILE} names\n# what was left out"
        )
    head = _HEAD.format(digest=info.digest, file=RECIPE_FILE, remove=remove, but=but)
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    return (head + text).encode()


def _line(source: str, splits: list[dict[str, Any]]) -> dict[str, Any]:
    counts = {item["split"]: item["expect"] for item in splits if item["expect"] is not None}
    names = [item["split"] for item in splits]
    return {"source": source, "splits": names, "expect": counts or "any"}


def _sample_line(sample: dict[str, Any]) -> dict[str, Any]:
    settings = {k: v for k, v in sample.items() if k not in ("source", "split", "expect")}
    line = {"source": sample["source"], "splits": [sample["split"]]}
    if settings["masks"] == 1 and sample["expect"] is None:
        line["expect"] = "any"
    return {**line, "sample": {**settings, "masks": settings["masks"] or "all"}}


def own_folders(info: DatasetInfo) -> list[str]:
    """The sources that are pairs of folders: no recipe of the data set can say where they are."""
    splits = info.recipe.get("splits", ())
    return list(dict.fromkeys(s["source"] for s in splits if _is_own(info, s["source"])))


def _is_own(info: DatasetInfo, source: str) -> bool:
    layouts = (info.layouts.get(f"{source}/{split}") for split in info.sources.get(source, ()))
    if _OWN_LAYOUT in layouts:
        return True  # even if it is called like a set that has a manifest
    try:
        return set_name(source) != source
    except UserError:
        return True


def removes_the_same(report: OverlapReport | None, info: DatasetInfo) -> bool:
    """Whether a build with `--remove` and this report leaves out just what this data set lacks.

    One that found more overlap leaves out more, and without a report nothing is.
    """
    if report is None or info.removed is None:
        return False
    asked = {key for key in keys_to_remove(report) if key.partition("-")[0] in info.sources}
    return asked == set(info.removed.keys)


def where_removed(info: DatasetInfo) -> str:
    """The field of `dataset.json` that names what a report of overlaps kept out."""
    # The first manifests with a removal had no keys.
    return "removed.keys" if info.removed is not None and info.removed.keys else "dropped"
