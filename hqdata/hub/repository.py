"""The repository that a push goes to: made private, and never made more open than allowed."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hqdata.errors import UserError
from hqdata.hub.far_side import list_files
from hqdata.hub.names import REPO_TYPE
from hqdata.hub.plan import PushPlan
from hqdata.hub.remote import Hub, HubError, HubUnreachableError
from hqdata.hub.standing import is_picture


@dataclass(frozen=True, slots=True)
class Repository:
    """A data set's repository on the Hub.

    Attributes:
        url: its page.
        user: whose token it is looked at with.
        head: commit of its main branch.
        private: whether only its owner and their guests see it.
        gated: whether people have to ask for its files.
        created: the day it was made, if the Hub tells.
    """

    url: str
    user: str
    head: str
    private: bool
    gated: bool
    created: datetime.date | None


def user_of(hub: Hub) -> str:
    """Whose token it is.

    Raises:
        UserError: there is none.
        HubError: it is not valid, or the Hub cannot be reached.
    """
    if not hub.has_token:
        raise UserError(
            "there is no token to push with",
            where=hub.endpoint,
            do="log in with `hf auth login`, or set HF_TOKEN to a token with write access",
        )
    return str(hub.call("asking whose token it is", hub.api.whoami).get("name", ""))


def ensure_repository(plan: PushPlan, hub: Hub, tell: Callable[[str], None]) -> Repository:
    """Finds the repository, or makes a private one, and gates it if the licences ask for that.

    Raises:
        UserError: there is no token, or the repository is public and these pictures may not be.
        HubError: the Hub refuses, or does not keep what it was asked for.
    """
    user = user_of(hub)
    found = _look(plan, hub, user)
    if found is None:
        hub.call(
            f"making the repository {plan.repo_id}",
            hub.api.create_repo,
            plan.repo_id,
            repo_type=REPO_TYPE,
            private=True,
            exist_ok=True,
        )
        found = _look(plan, hub, user)
        tell(f"made a private repository: {_url(plan, hub)}")
    if found is None:
        raise HubError("the Hub does not show the repository that it made", where=_url(plan, hub))
    if plan.decision.private and plan.what == "all" and not found.private:
        if plan.decision.audience == "public":
            raise UserError(
                "the repository is public, and a push is private unless told otherwise",
                where=found.url,
                do="give --public: the terms of these sources allow it; or choose another --repo",
            )
        raise UserError(
            "the repository is public, and these pictures may not be published",
            where=found.url,
            do="make it private in its settings, push to another --repo, or push what may be: "
            "--what manifest",
        )
    return _gated(plan, hub, found, tell) if plan.decision.gated and not found.gated else found


def _gated(
    plan: PushPlan, hub: Hub, repository: Repository, tell: Callable[[str], None]
) -> Repository:
    """Has people ask for access. A repository that is private and stays ungated is strict enough.

    Raises:
        HubError: it is public, and the Hub does not gate it.
    """
    try:
        hub.call(
            "asking the Hub to gate the repository",
            hub.api.update_repo_settings,
            plan.repo_id,
            repo_type=REPO_TYPE,
            gated="manual",
        )
    except HubUnreachableError:
        raise
    except HubError as error:
        if not repository.private:
            raise
        tell(f"note: it is private, but not gated: {error.what}")
        return repository
    found = _look(plan, hub, repository.user)
    if found is None or not (found.gated or found.private):
        raise HubError(
            "the Hub does not gate the repository: nothing was uploaded",
            where=_url(plan, hub),
            do="gate it in its settings, and run the same command again",
        )
    tell(
        "the repository is gated: whoever it is ever shown to has to ask for the files"
        if found.gated
        else "note: it is private, but the Hub does not gate it"
    )
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
        gated=False,
    )
    tell(f"the repository is public now: {repository.url}")


def refuse_to_show(plan: PushPlan, hub: Hub, repository: Repository) -> None:
    """Keeps a private repository from becoming public with pictures that may not be.

    Everything that was ever committed becomes public with it: history, tags and pull requests.

    Raises:
        UserError: a file that may hold pictures, and is none of this push, is somewhere in it.
    """
    if plan.decision.private or not repository.private:
        return
    allowed = {file.sha256 for file in plan.files}  # by content: a name may have had another
    for commit in _all_commits(plan, hub):
        for path, held in list_files(hub, plan.repo_id, commit).items():
            if held.sha256 in allowed or not is_picture(path):
                continue
            raise UserError(
                "the repository was private so far and would become public with its whole history, "
                f"in which there is {path}",
                where=f"{repository.url}/tree/{commit}",
                expected="nothing in any commit, tag or pull request that is no part of this push",
                do="push to another --repo with --public",
            )


MAX_COMMITS = 1000


def _all_commits(plan: PushPlan, hub: Hub) -> list[str]:
    """Every commit that a branch, tag or pull request leads to."""

    def read() -> list[str]:
        api = hub.api
        refs = api.list_repo_refs(plan.repo_id, repo_type=REPO_TYPE, include_pull_requests=True)
        heads = [*refs.branches, *refs.converts, *refs.tags, *(refs.pull_requests or [])]
        found: dict[str, None] = {}
        for head in {one.target_commit: one for one in heads}.values():
            commits = api.list_repo_commits(
                plan.repo_id, repo_type=REPO_TYPE, revision=head.target_commit
            )
            found |= dict.fromkeys(str(commit.commit_id) for commit in commits)
        return list(found)

    commits = hub.call("looking through the history", read)
    if len(commits) > MAX_COMMITS:
        raise UserError(
            f"the repository has {len(commits):,} commits, too many to look for pictures in",
            where=_url(plan, hub),
            do="push to another --repo with --public",
        )
    return commits


def _look(plan: PushPlan, hub: Hub, user: str) -> Repository | None:
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
    if str(info.id) != plan.repo_id:
        raise UserError(
            f"the data set {plan.repo_id} is called {info.id} now",
            where=_url(plan, hub),
            do=f"push to --repo {info.id}",
        )
    made = info.created_at
    return Repository(
        url=_url(plan, hub),
        user=user,
        head=str(info.sha),
        private=bool(info.private),
        gated=bool(info.gated),
        created=None if made is None else made.date(),
    )


def _url(plan: PushPlan, hub: Hub) -> str:
    return f"{hub.endpoint}/datasets/{plan.repo_id}"
