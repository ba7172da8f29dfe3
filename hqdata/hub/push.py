"""Carrying out a push: repository, pull request, upload, comparison, merge, tag.

Everything goes to a pull request first. What was compared there with the plan, file by file, is
merged; so the main branch never holds half a data set. Each step looks at what is there already: a
push that was killed goes on where it was, and one of an unchanged data set does nothing.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hqdata.errors import BusyError, UserError
from hqdata.hub.far_side import Held, differing, list_files, stale_files
from hqdata.hub.names import MAIN, REPO_TYPE
from hqdata.hub.plan import PushPlan, dated
from hqdata.hub.pull_request import PullRequest, find_or_open, merge_request
from hqdata.hub.remote import Hub, HubError
from hqdata.hub.repository import ensure_repository, make_public, refuse_to_show
from hqdata.hub.standing import Standing, look_at_main, refuse_to_take_away
from hqdata.hub.upload import upload
from hqdata.progress import Reporter
from hqdata.shards.names import DATASET_FILE

LOOKS_AFTER_MERGE = 3
SECONDS_BETWEEN_LOOKS = 3.0


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push came to.

    Attributes:
        state: `unchanged`: all was there already · `pushed`: it is on the main branch now ·
            `open`: it waits in a pull request.
        url: of the data set, or of the pull request.
        commit: of the main branch, or of the pull request.
        num_sent: files that were sent in this run.
        bytes_sent: their bytes.
    """

    state: Literal["unchanged", "pushed", "open"]
    url: str
    commit: str
    num_sent: int
    bytes_sent: int


def push(
    plan: PushPlan,
    hub: Hub,
    *,
    replace: bool = False,
    merge: bool = True,
    reporter: Reporter,
    tell: Callable[[str], None],
) -> PushResult:
    """Makes the Hub hold what the plan says.

    Args:
        plan: what goes where.
        hub: the Hub, with a token that may write.
        replace: let the repository lose what another data set, or other people, put there.
        merge: False: leave the pull request open for somebody to look at.
        reporter: is told the bytes that have arrived.
        tell: is given a line about each step.

    Raises:
        HubError: the Hub refuses, or holds other bytes than were sent.
        UserError: the repository holds something else, or is public where it must not be.
        BusyError: another push of the same data set is running here.
        CancelledError: Ctrl-C; the same command goes on.
    """
    with _alone(plan.root):
        repository = ensure_repository(plan, hub, tell)
        if repository.created is not None:
            plan = dated(plan, repository.created)
        standing = look_at_main(plan, hub, repository.head)
        refuse_to_show(plan, hub, repository)
        if _is_done(plan, standing, standing.held):
            make_public(plan, hub, repository, tell)
            _tag(plan, hub, standing.commit)
            return PushResult("unchanged", repository.url, standing.commit, 0, 0)
        if not replace:
            refuse_to_take_away(plan, hub, standing, repository.url)
        request = hub.call(
            "looking for the pull request",
            find_or_open,
            hub.api,
            plan.repo_id,
            plan,
            repository.user,
        )
        page = f"{repository.url}/discussions/{request.number}"
        tell(f"uploading to a pull request: {page}")
        num_sent, bytes_sent = upload(plan, hub, request, standing.ours, reporter, tell)
        _refuse_foreign(plan, hub, request, standing, page)
        if not merge:
            commit = _commit_of(hub, plan.repo_id, request.revision)
            return PushResult("open", page, commit, num_sent, bytes_sent)
        _merge(plan, hub, request, page)
        head = _compare_main(plan, hub, standing, repository.url)
        make_public(plan, hub, repository, tell)
        _tag(plan, hub, head)
        return PushResult("pushed", repository.url, head, num_sent, bytes_sent)


def _is_done(plan: PushPlan, standing: Standing, held: Mapping[str, Held]) -> bool:
    """Whether every file is there, and none of an earlier push that this one does not have."""
    left = stale_files(plan.files, held, standing.ours)
    return not left and not differing(plan.files, held, plan.root)


def _refuse_foreign(
    plan: PushPlan, hub: Hub, request: PullRequest, standing: Standing, page: str
) -> None:
    """Keeps files that somebody else put into the pull request from being merged unseen."""
    held = list_files(hub, plan.repo_id, request.revision)
    known = {file.path for file in plan.files} | set(standing.held)
    if foreign := sorted(set(held) - known):
        raise HubError(
            f"the pull request holds files that are not of this push, e.g. {foreign[0]}",
            where=page,
            do="look who put them there; close the pull request, and run the same command again",
        )


def _merge(plan: PushPlan, hub: Hub, request: PullRequest, page: str) -> None:
    try:
        hub.call("merging the pull request", merge_request, hub.api, plan.repo_id, request.number)
    except HubError as error:
        raise type(error)(
            error.what,
            where=page,
            do="all files are in the pull request and were compared; somebody who may write to the "
            f"repository can merge it on its page, or: {error.do}",
        ) from error


def _compare_main(plan: PushPlan, hub: Hub, standing: Standing, url: str) -> str:
    """Holds the main branch against the plan after the merge; returns its commit.

    The Hub may take a moment to show it.
    """
    for _ in range(LOOKS_AFTER_MERGE):
        commit = _commit_of(hub, plan.repo_id, MAIN)
        held = list_files(hub, plan.repo_id, commit)
        if _is_done(plan, standing, held):
            return commit
        hub.wait(SECONDS_BETWEEN_LOOKS)
    left = differing(plan.files, held, plan.root)
    name = left[0].path if left else stale_files(plan.files, held, standing.ours)[0]
    raise HubError(
        f"after the merge the main branch is not as it should be, e.g. {name}: somebody else has "
        "changed the repository meanwhile",
        where=url,
        do="run the same command again",
    )


def _commit_of(hub: Hub, repo_id: str, revision: str) -> str:
    info = hub.call(
        f"looking at {revision}",
        hub.api.repo_info,
        repo_id,
        repo_type=REPO_TYPE,
        revision=revision,
    )
    return str(info.sha)


def _tag(plan: PushPlan, hub: Hub, commit: str) -> None:
    """Puts the tag of the digest onto a commit; from an older commit of the same data it moves."""

    def put(api: Any) -> None:
        tags = api.list_repo_refs(plan.repo_id, repo_type=REPO_TYPE).tags
        there = next((tag.target_commit for tag in tags if tag.name == plan.tag), None)
        if there == commit:
            return
        if there is not None:
            api.delete_tag(plan.repo_id, tag=plan.tag, repo_type=REPO_TYPE)
        api.create_tag(plan.repo_id, tag=plan.tag, revision=commit, repo_type=REPO_TYPE)

    hub.call("tagging", put, hub.api)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keeps two pushes of one data set apart; needs no right to write into its folder.

    Raises:
        BusyError: another one is running.
    """
    try:
        handle = open(root / DATASET_FILE, "rb")  # noqa: SIM115  # closed below
    except OSError as error:
        raise UserError(
            f"cannot read the manifest: {error.strerror}", where=root / DATASET_FILE
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                "another push of this data set is running", where=root, do="wait for it"
            ) from None
        except OSError:
            pass  # a file system without locks: the pull request still keeps the two in order
        yield
