"""The manifest of a data set on the Hub: whether it can be believed, and what to do where not."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from hqdata.errors import DatasetError, UserError
from hqdata.hub.download import Snapshot
from hqdata.hub.names import CERTIFICATE_FILE, RECIPE_FILE
from hqdata.hub.recipe_file import where_removed
from hqdata.recipe import (
    Recipe,
    SampleSettings,
    load_recipe,
    recipe_names,
    select,
    source_name,
)
from hqdata.resolve import resolve
from hqdata.shards.dataset import DatasetInfo, dataset_digest, parse_info
from hqdata.shards.names import DATASET_FILE, PROBLEMS_FILE, SAMPLES_FILE

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

MAX_DATASET_BYTES = 64 * 2**20

_NAME = r"[a-z0-9_]+"
"""Of a source or a split."""

_RECIPE_NAME = r"[a-z0-9][a-z0-9_.-]*"


def read_remote_info(snapshot: Snapshot, listed: Mapping[str, RepoFile]) -> DatasetInfo:
    """The checked `dataset.json` of a repository.

    Args:
        snapshot: the repository.
        listed: what it says of its small files.

    Raises:
        DatasetError: it has none, or it does not agree with itself.
        HubError: see `Hub.call`.
    """
    if DATASET_FILE not in listed:
        raise DatasetError(
            f"{snapshot.repo_id} is no data set of hqdata: it has no {DATASET_FILE}",
            where=f"{snapshot.url} at {snapshot.commit[:12]}",
            expected="a data set that `hqdata push` has put there",
        )
    where = f"{snapshot.url}, {DATASET_FILE}"
    info = parse_info(snapshot.read(listed[DATASET_FILE], MAX_DATASET_BYTES), where)
    fault = _fault(info)
    if lacking := [name for name in (SAMPLES_FILE, PROBLEMS_FILE) if name not in listed]:
        fault = f"there is no {lacking[0]}"
    if fault:
        raise DatasetError(
            f"the data set on the Hub does not agree with itself: {fault}",
            where=where,
            do="tell its owner; another --revision may be whole",
        )
    return info


def _fault(info: DatasetInfo) -> str:
    """What in a manifest contradicts the rest of it, or nothing."""
    try:
        changed = info.own_sha256() != info.manifest_sha256
    except (ValueError, RecursionError):
        return "there are things in it that no build writes"
    if changed:
        return f"{DATASET_FILE} was changed after it was written"
    if fault := _name_fault(info):
        return fault
    if dataset_digest(info.shards) != info.digest:
        return "its digest is not that of its list of shards"
    if len({shard.path for shard in info.shards}) < len(info.shards):
        return "it lists a shard twice"
    unknown = {shard.path.partition("/")[0] for shard in info.shards} - set(info.sources)
    if unknown:
        return f"it has shards of {', '.join(sorted(unknown))}, which is no source of it"
    if sum(shard.num_samples for shard in info.shards) != info.num_samples:
        return "its shards have another number of samples than it says"
    splits = info.recipe.get("splits")
    if not isinstance(splits, list) or not all(_is_split_of(entry, info) for entry in splits):
        return "its recipe does not say of which sources and splits it is"
    samples = info.recipe.get("samples", [])
    if not isinstance(samples, list) or not all(_is_sample_of(entry, info) for entry in samples):
        return "its recipe does not say what it is a sample of"
    splits_of = {f"{s}/{split}" for s, found in info.sources.items() for split in found}
    if not set(info.sampled or ()) <= splits_of:
        return "it tells of a sample that it does not have"
    return ""


def _name_fault(info: DatasetInfo) -> str:
    """What in it is called as no recipe can call it: names become paths, commands and messages."""
    if not re.fullmatch(_RECIPE_NAME, info.name):
        return f"{info.name!r} cannot name a recipe"
    names = [*info.sources, *(split for splits in info.sources.values() for split in splits)]
    for name in names:
        if not re.fullmatch(_NAME, name):
            return f"{name!r} cannot name a source or a split"
    if info.image_ext not in ("jpg", "png"):
        return f"its images are {info.image_ext!r}, neither 'jpg' nor 'png'"
    return ""


def _is_split_of(entry: object, info: DatasetInfo) -> bool:
    """Whether an entry of a recipe's splits is one, of a source of the data set."""
    if not isinstance(entry, dict) or entry.keys() != {"source", "split", "expect"}:
        return False
    source, split, expect = entry["source"], entry["split"], entry["expect"]
    return (
        isinstance(source, str)
        and source in info.sources
        and isinstance(split, str)
        and (expect is None or type(expect) is int)
    )


def _is_sample_of(entry: object, info: DatasetInfo) -> bool:
    """Whether an entry of a recipe's samples is one: a split, and the settings of a sample."""
    if not isinstance(entry, dict):
        return False
    where = {name: entry.get(name) for name in ("source", "split", "expect")}
    settings = {name: value for name, value in entry.items() if name not in where}
    if entry.keys() < where.keys() or not _is_split_of(where, info):
        return False
    if any(type(settings.get(name)) is not int for name in ("images", "seed", "masks")):
        return False
    try:
        SampleSettings.model_validate({**settings, "masks": settings["masks"] or "all"})
    except ValidationError:
        return False
    return True


def hold_against_listing(
    snapshot: Snapshot, info: DatasetInfo, beside: Collection[str], out: Path
) -> None:
    """Refuses, before anything is fetched, what could not become a data set.

    Args:
        snapshot: the repository.
        info: its `dataset.json`.
        beside: the small files that are in the repository.
        out: folder of the data set to be, for the message.

    Raises:
        UserError: the repository has no pictures at all; says how to build them.
        DatasetError: shards are missing, or others than `dataset.json` lists.
        HubError: see `Hub.call`.
    """
    listed = snapshot.files([shard.path for shard in info.shards])
    if info.shards and not listed:
        raise UserError(
            f"{snapshot.repo_id} holds the manifest of a data set only, no pictures",
            where=snapshot.url,
            do=_how_to_build(snapshot, info, beside, out),
        )
    wrong = [
        shard.path
        for shard in info.shards
        if (file := listed.get(shard.path)) is None
        or file.size != shard.num_bytes
        or (file.lfs is not None and file.lfs.sha256 != shard.sha256)
    ]
    if wrong:
        raise DatasetError(
            f"{len(wrong):,} of {len(info.shards):,} shards are not in the repository as its "
            f"{DATASET_FILE} lists them, e.g. {wrong[0]}",
            where=f"{snapshot.url} at {snapshot.commit[:12]}",
            do="tell its owner: `hqdata push` mends it; another --revision may be whole",
        )


def _how_to_build(snapshot: Snapshot, info: DatasetInfo, beside: Collection[str], out: Path) -> str:
    """The command that makes the data set; with a recipe of the package if that is it."""
    files = f"{snapshot.url}/tree/{snapshot.commit}"
    recipe, only = RECIPE_FILE, ""
    if info.name in recipe_names():
        known = load_recipe(info.name)
        there = {source_name(item) for item in known.sources}
        # Another seed, say, makes another data set of the same sources.
        if set(info.sources) <= there and _is_recipe(select(known, include=info.sources), info):
            recipe = info.name
            if len(info.sources) < len(there):
                only = f" --include {','.join(info.sources)}"
    if recipe == RECIPE_FILE and RECIPE_FILE not in beside:
        return (
            f"ask its owner: there is no {RECIPE_FILE}, as there is none of folders of the owner's "
            f"own; {DATASET_FILE} from {files} says what it is made of"
        )
    needed = [RECIPE_FILE] if recipe == RECIPE_FILE else []
    remove = but = ""
    if info.removed is not None and CERTIFICATE_FILE in beside:
        remove = f" --remove {CERTIFICATE_FILE}"
        needed.append(CERTIFICATE_FILE)
    elif info.removed is not None:
        but = (
            f"\nless {info.removed.num_keys:,} that it leaves out because a search for overlap "
            f"named them: see {where_removed(info)} in {DATASET_FILE} from {files}"
        )
    where = shlex.quote(str(out))
    command = f"hqdata build --recipe {recipe}{only} --data-root data/ --out {where}{remove}"
    if needed:
        command += f"\nwith {' and '.join(needed)} from {files}"
    return f"build it from its sources: {command}{but}"


def _is_recipe(recipe: Recipe, info: DatasetInfo) -> bool:
    return resolve(recipe).to_dict() == info.recipe
