"""The recipe of a data set as a file that `hqdata build --recipe` reads."""

from __future__ import annotations

from typing import Any

import yaml

from hqdata.catalogue.registry import find_set
from hqdata.errors import UserError
from hqdata.hub.names import RECIPE_FILE
from hqdata.shards.dataset import DatasetInfo

_HEAD = """\
# The recipe of data set {digest}.
# With the releases of its sources below data/ this builds it again:
#
#   hqdata build --recipe {file} --data-root data/ --out shards/{remove}
"""


def recipe_bytes(info: DatasetInfo) -> bytes | None:
    """The file, or None where a source is a pair of folders that the data set knows no path of.

    Args:
        info: the manifest of the data set.
    """
    splits: dict[str, dict[str, Any]] = {}
    for item in info.recipe.get("splits", ()):
        source = item["source"]
        try:
            find_set(source)
        except UserError:
            return None
        line = splits.setdefault(source, {"source": source, "splits": [], "expect": {}})
        line["splits"].append(item["split"])
        if item["expect"] is not None:
            line["expect"][item["split"]] = item["expect"]
    for line in splits.values():
        line["expect"] = line["expect"] or "any"
    kept = {k: v for k, v in info.recipe.items() if k != "splits" and v not in (None, [], "")}
    document = {**kept, "sources": list(splits.values())}
    remove = " --remove overlap.json" if info.removed is not None else ""
    head = _HEAD.format(digest=info.digest, file=RECIPE_FILE, remove=remove)
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    return (head + text).encode()
