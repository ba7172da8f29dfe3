"""The repository that a push goes to: made private, and never made more open than allowed."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hqdata.errors import UserError
from hqdata.hub.names import MAIN, REPO_TYPE
from hqdata.hub.plan import PushPlan
from hqdata.hub.remote import Hub, HubError
from hqdata.shards.names import DATASET_FILE

MAX_MANIFEST_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Repository:
    """A data set's repository on the Hub.

    Attributes:
        url: its page.
        head: commit of its main branch.
        private: whether only its owner and their guests see it.
        gated: whether people have to ask for its files.
        created: the day it was made.
    """

    url: str
    head: str
    private: bool
    gated: bool
    created: datetime.date


def ensure_repository(plan: PushPlan, hub: Hub, tell: Callable[[str], None]) -> Repository:
    """Finds the repository, or makes a private one, and gates it if the licences ask for that.

    Raises:
        UserError: there is no token, or the repository is public and these pictures may not be.
        HubError: the Hub refuses, or does not keep what it was asked for.
    """
    if not hub.has_token:
        raise UserError(
            "there is no token to push with",
            where=hub.endpoint,
            do="log in with `hf auth login`, or set HF_TOKEN to a token with write access",
        )
    user = hub.call("asking whose token it is", hub.api.whoami)
    found = _look(plan, hub)
    if found is None:
        hub.call(
            f"making the repository {plan.repo_id}",
            hub.api.create_repo,
            plan.repo_id,
            repo_type=REPO_TYPE,
            private=True,
            exist_ok=True,
        )
        found = _look(plan, hub)
        tell(f"made a private repository for {user.get('name', 'you')}: {_url(plan, hub)}")
    if found is None:
        raise HubError("the Hub does not show the repository that it made", where=_url(plan, hub))
    if plan.decision.private and plan.what == "all" and not found.private:
        raise UserError(
            "the repository is public, and these pictures may not be published",
            where=found.url,
            do="make it private in its settings, push to another --repo, or push what may be: "
            "--what manifest",
        )
    if plan.decision.gated and not found.gated:
        hub.call(
            "asking the Hub to gate the repository",
            hub.api.update_repo_settings,
            plan.repo_id,
            repo_type=REPO_TYPE,
            gated="manual",
        )
        found = _look(plan, hub)
        if found is None or not found.gated:
            raise HubError(
                "the Hub does not gate the repository: nothing was uploaded",
                where=_url(plan, hub),
                do="gate it in its settings, and run the same command again",
            )
        tell("people have to ask for access: the repository is gated")
    return found


def make_public(
    plan: PushPlan, hub: Hub, repository: Repository, tell: Callable[[str], None]
) -> None:
    """Shows the repository to all once everything in it was compared, if that was asked for."""
    if plan.decision.private or not repository.private:
        return
    hub.call(
        "making the repository public",
        hub.api.update_repo_settings,
        plan.repo_id,
        repo_type=REPO_TYPE,
        private=False,
    )
    tell(f"the repository is public now: {repository.url}")


def refuse_other_data_set(plan: PushPlan, hub: Hub, *, ours: bool, has_set: bool) -> None:
    """Keeps a push from replacing another data set, or more of this one, or somebody's files.

    Raises:
        UserError: it would, and --replace was not given.
    """
    where = _url(plan, hub)
    do = "choose another --repo, or give --replace; what is there stays in the history"
    if not ours:
        raise UserError(
            "the repository holds files that are no data set of hqdata", where=where, do=do
        )
    if not has_set:
        return
    document = _remote_manifest(plan, hub)
    name, sources = document.get("name"), document.get("sources")
    if name != plan.manifest.info.name:
        raise UserError(
            f"the repository holds another data set, {name!r}",
            where=where,
            expected=f"{plan.manifest.info.name!r}, which is being pushed",
            do=do,
        )
    lost = set(sources if isinstance(sources, dict) else ()) - set(plan.manifest.info.sources)
    if lost:
        raise UserError(
            f"the data set there has sources that this one has not: {', '.join(sorted(lost))}",
            where=where,
            do=do,
        )


def _remote_manifest(plan: PushPlan, hub: Hub) -> dict[str, Any]:
    """The `dataset.json` of the main branch as far as it can be read; never trusted further."""
    path = hub.call(
        "reading the manifest there",
        hub.api.hf_hub_download,
        plan.repo_id,
        DATASET_FILE,
        repo_type=REPO_TYPE,
        revision=MAIN,
    )
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read(MAX_MANIFEST_BYTES))
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _look(plan: PushPlan, hub: Hub) -> Repository | None:
    from huggingface_hub.errors import RepositoryNotFoundError

    def look() -> Any:
        try:
            return hub.api.repo_info(plan.repo_id, repo_type=REPO_TYPE)
        except RepositoryNotFoundError as error:
            # What is not there and what may not be seen look alike; a bad token does not.
            if error.response.status_code == 401 and hub.has_token:
                raise
            return None

    info = hub.call("looking for the repository", look)
    if info is None:
        return None
    return Repository(
        url=_url(plan, hub),
        head=str(info.sha),
        private=bool(info.private),
        gated=bool(info.gated),
        created=info.created_at.date(),
    )


def _url(plan: PushPlan, hub: Hub) -> str:
    return f"{hub.endpoint}/datasets/{plan.repo_id}"
