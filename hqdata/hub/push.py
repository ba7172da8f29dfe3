"""Carrying out a push: repository, pull request, upload, comparison, merge, tag.

Everything goes to a pull request first. What was compared there with the plan, file by file, is
merged; so the main branch never holds half a data set. Each step looks at what is there already: a
push that was killed goes on where it was, and one of an unchanged data set does nothing.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hqdata.errors import BusyError, UserError
from hqdata.hub.far_side import differing, is_ours, list_files, stale_files
from hqdata.hub.names import MAIN, REPO_TYPE
from hqdata.hub.plan import PushPlan, dated
from hqdata.hub.pull_request import find_or_open, merge_request
from hqdata.hub.remote import Hub, HubError
from hqdata.hub.repository import ensure_repository, make_public, refuse_other_data_set
from hqdata.hub.upload import upload
from hqdata.progress import Reporter
from hqdata.shards.names import DATASET_FILE


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
        plan = dated(plan, repository.created)
        held = list_files(hub, plan.repo_id, MAIN)
        todo, stale = differing(plan.files, held, plan.root), stale_files(plan.files, held)
        if not todo and not stale:
            make_public(plan, hub, repository, tell)
            _tag(plan, hub, repository.head)
            return PushResult("unchanged", repository.url, repository.head, 0, 0)
        if not replace:
            refuse_other_data_set(plan, hub, ours=is_ours(held), has_set=DATASET_FILE in held)
        request = hub.call(
            "looking for the pull request", find_or_open, hub.api, plan.repo_id, plan
        )
        page = f"{repository.url}/discussions/{request.number}"
        tell(f"uploading to a pull request: {page}")
        num_sent, bytes_sent = upload(plan, hub, request, reporter, tell)
        commit = _commit_of(hub, plan.repo_id, request.revision)
        if not merge:
            return PushResult("open", page, commit, num_sent, bytes_sent)
        try:
            hub.call(
                "merging the pull request", merge_request, hub.api, plan.repo_id, request.number
            )
        except HubError as error:
            raise HubError(
                error.what,
                where=page,
                do="all files are in the pull request and were compared; somebody who may write "
                "to the repository can merge it on its page, or run the same command again",
            ) from error
        left = differing(plan.files, list_files(hub, plan.repo_id, MAIN), plan.root)
        if left:
            raise HubError(
                f"after the merge {len(left)} files are not as they should be, e.g. "
                f"{left[0].path}: somebody else has changed the repository meanwhile",
                where=repository.url,
                do="run the same command again",
            )
        make_public(plan, hub, repository, tell)
        head = _commit_of(hub, plan.repo_id, MAIN)
        _tag(plan, hub, head)
        return PushResult("pushed", repository.url, head, num_sent, bytes_sent)


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
