"""The manifest of a data set on the Hub: whether it can be believed, and what to do where not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hqdata.errors import DatasetError, UserError
from hqdata.hub.download import Snapshot
from hqdata.hub.names import CERTIFICATE_FILE, RECIPE_FILE
from hqdata.recipe import load_recipe, recipe_names
from hqdata.resolve import resolve
from hqdata.shards.dataset import DatasetInfo, dataset_digest, parse_info
from hqdata.shards.names import DATASET_FILE, PROBLEMS_FILE, SAMPLES_FILE

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

MAX_DATASET_BYTES = 64 * 2**20


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
    if info.own_sha256() != info.manifest_sha256:
        return f"{DATASET_FILE} was changed after it was written"
    if dataset_digest(info.shards) != info.digest:
        return "its digest is not that of its list of shards"
    if len({shard.path for shard in info.shards}) < len(info.shards):
        return "it lists a shard twice"
    unknown = {shard.path.partition("/")[0] for shard in info.shards} - set(info.sources)
    if unknown:
        return f"it has shards of {', '.join(sorted(unknown))}, which is no source of it"
    if sum(shard.num_samples for shard in info.shards) != info.num_samples:
        return "its shards have another number of samples than it says"
    return ""


def hold_against_listing(snapshot: Snapshot, info: DatasetInfo, out: Path) -> None:
    """Refuses, before anything is fetched, what could not become a data set.

    Args:
        snapshot: the repository.
        info: its `dataset.json`.
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
            do="build it from its sources: " + _how_to_build(snapshot, info, out),
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


def _how_to_build(snapshot: Snapshot, info: DatasetInfo, out: Path) -> str:
    """The command that makes the data set; with a recipe of the package if that is it."""
    recipe, only = RECIPE_FILE, ""
    if info.name in recipe_names():
        known = [(s.source, s.split) for s in resolve(load_recipe(info.name)).splits]
        meant = [(s["source"], s["split"]) for s in info.recipe.get("splits", ())]
        if [one for one in known if one[0] in info.sources] == meant:
            recipe = info.name
            if len(meant) < len(known):
                only = f" --include {','.join(info.sources)}"
    needed = [RECIPE_FILE] if recipe == RECIPE_FILE else []
    remove = ""
    if info.removed is not None:
        remove = f" --remove {CERTIFICATE_FILE}"
        needed.append(CERTIFICATE_FILE)
    command = f"hqdata build --recipe {recipe}{only} --data-root data/ --out {out}{remove}"
    if needed:
        command += f"\nwith {' and '.join(needed)} from {snapshot.url}/tree/main"
    return command
