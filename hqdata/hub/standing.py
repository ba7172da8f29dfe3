"""What stands on the main branch before a push, and what of it the push must not take away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hqdata.errors import DatasetError, UserError
from hqdata.hub.download import Snapshot
from hqdata.hub.far_side import Held, list_files
from hqdata.hub.names import (
    CARD_FILE,
    CERTIFICATE_FILE,
    CROISSANT_FILE,
    EXAMPLES,
    MAIN,
    RECIPE_FILE,
    REPO_TYPE,
)
from hqdata.hub.plan import PushPlan
from hqdata.hub.remote import Hub
from hqdata.hub.seal import is_sealed
from hqdata.shards.dataset import DatasetInfo, parse_info
from hqdata.shards.names import DATASET_FILE, PROBLEMS_FILE, SAMPLES_FILE, TIMM_FILE

MAX_MANIFEST_BYTES = 64 * 2**20
MAX_CARD_BYTES = 4 * 2**20

SMALL_FILES = frozenset(
    {
        CARD_FILE,
        CERTIFICATE_FILE,
        CROISSANT_FILE,
        RECIPE_FILE,
        DATASET_FILE,
        PROBLEMS_FILE,
        SAMPLES_FILE,
        TIMM_FILE,
    }
)
"""Files beside the shards that a push writes."""

_GIT = ".gitattributes"


@dataclass(frozen=True, slots=True)
class Standing:
    """The main branch at one commit.

    Attributes:
        commit: the commit.
        held: its files.
        info: the data set there, None if there is none that can be read.
        ours: files that an earlier push put there, and this one may remove.
    """

    commit: str
    held: Mapping[str, Held]
    info: DatasetInfo | None = None
    ours: frozenset[str] = field(default=frozenset())


def look_at_main(plan: PushPlan, hub: Hub, commit: str) -> Standing:
    """What the main branch holds at a commit.

    Raises:
        HubError: see `Hub.call`.
    """
    held = list_files(hub, plan.repo_id, commit)
    if DATASET_FILE not in held:
        return Standing(commit, held)
    snapshot = Snapshot(hub, plan.repo_id, REPO_TYPE, commit)
    try:
        (listed,) = snapshot.files([DATASET_FILE]).values()
        info = parse_info(snapshot.read(listed, MAX_MANIFEST_BYTES), DATASET_FILE)
    except (DatasetError, ValueError):
        return Standing(commit, held)
    shards = {shard.path for shard in info.shards}
    pictures = {f"{EXAMPLES}/{source}.jpg" for source in info.sources}
    return Standing(commit, held, info, frozenset(SMALL_FILES | shards | pictures) & held.keys())


def refuse_to_take_away(plan: PushPlan, hub: Hub, standing: Standing, url: str) -> None:
    """Keeps a push from replacing another data set, more of this one, or what people wrote.

    Raises:
        UserError: it would, and --replace was not given.
    """
    do = "choose another --repo, or give --replace; what is there stays in the history"
    found = standing.info
    if found is None:
        if set(standing.held) - {_GIT}:
            raise UserError(
                "the repository holds files that are no data set of hqdata", where=url, do=do
            )
        return
    ours = plan.manifest.info
    if found.name != ours.name:
        raise UserError(
            f"the repository holds another data set, {found.name!r}",
            where=url,
            expected=f"{ours.name!r}, which is being pushed",
            do=do,
        )
    lost = _lost(found, ours)
    if plan.what == "manifest" and any(path.endswith(".tar") for path in standing.held):
        lost = ["its shards: only the manifest is being pushed"]
    if lost:
        raise UserError(
            "the data set there has more than the one that is being pushed",
            where=url,
            expected="that nothing is lost:\n" + "\n".join(lost),
            do=do,
        )
    _refuse_to_overwrite_card(plan, hub, standing, url)


def _lost(there: DatasetInfo, here: DatasetInfo) -> list[str]:
    """What is in the data set there and would not be any more."""
    lost = []
    for source, splits in there.sources.items():
        for split, counts in splits.items():
            now = here.sources.get(source, {}).get(split)
            before, after = counts.built + counts.dropped, 0 if now is None else now.built
            after += 0 if now is None else now.dropped
            if after < before:
                lost.append(f"{source} {split} has {before:,} samples there, {after:,} here")
    return lost


def _refuse_to_overwrite_card(plan: PushPlan, hub: Hub, standing: Standing, url: str) -> None:
    card = next(file for file in plan.files if file.path == CARD_FILE)
    held = standing.held.get(CARD_FILE)
    if held is None or held.git_blob == card.git_blob(plan.root):
        return
    snapshot = Snapshot(hub, plan.repo_id, REPO_TYPE, standing.commit)
    try:
        (listed,) = snapshot.files([CARD_FILE]).values()
        untouched = is_sealed(snapshot.read(listed, MAX_CARD_BYTES))
    except (DatasetError, ValueError):
        untouched = False
    if not untouched:
        raise UserError(
            "somebody has edited the card on the Hub, and this push would write it anew",
            where=f"{url}/blob/{MAIN}/{CARD_FILE}",
            do="give --replace to overwrite it; the edited card stays in the history",
        )


_PICTURES = re.compile(r"(?i)\.(tar|zip|gz|jpe?g|png|webp|tiff?|bmp|gif|parquet|arrow)$")


def is_picture(path: str) -> bool:
    """Whether a file may hold pictures, by its name."""
    return path != SAMPLES_FILE and _PICTURES.search(path) is not None
