"""The pull request that a push goes through, from an earlier run or new."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hqdata.hub.names import REPO_TYPE
from hqdata.hub.plan import PushPlan


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull request of ours on the Hub."""

    number: int
    status: str

    @property
    def revision(self) -> str:
        """The name of its commits."""
        return f"refs/pr/{self.number}"


def title_of(plan: PushPlan) -> str:
    """The title of the pull request: the same for the same data, whatever the card says of it."""
    what = " (manifest)" if plan.what == "manifest" else ""
    return f"hqdata {plan.manifest.info.name} {plan.digest[:16]}{what}"


def find_or_open(api: Any, repo_id: str, plan: PushPlan, user: str) -> PullRequest:
    """The user's pull request of this data set, from a run that was cut short, or new.

    One that cannot be merged any more, because the main branch went another way meanwhile, is
    closed: its files are in the Hub's store and are not sent again.
    """
    title = title_of(plan)
    for found in api.get_repo_discussions(
        repo_id, repo_type=REPO_TYPE, discussion_type="pull_request"
    ):
        if found.title != title or found.author != user or found.status not in ("draft", "open"):
            continue
        details = api.get_discussion_details(repo_id, found.num, repo_type=REPO_TYPE)
        if not details.conflicting_files:
            return PullRequest(int(found.num), str(found.status))
        api.change_discussion_status(
            repo_id,
            found.num,
            "closed",
            repo_type=REPO_TYPE,
            comment="The main branch has changed; the upload goes on in a new pull request.",
        )
    info = plan.manifest.info
    made = api.create_pull_request(
        repo_id,
        title=title,
        repo_type=REPO_TYPE,
        description=f"{info.num_samples:,} samples in {len(plan.shards)} shards, "
        f"digest `{plan.digest}`, {len(plan.files)} files of {plan.num_bytes:,} bytes.",
    )
    return PullRequest(int(made.num), str(made.status))


def merge_request(api: Any, repo_id: str, number: int) -> None:
    """Merges a pull request; one whose merge was only not heard of is left as it is."""
    status = api.get_discussion_details(repo_id, number, repo_type=REPO_TYPE).status
    if status == "merged":
        return
    if status != "open":  # those that a program opens begin as drafts, and drafts do not merge
        api.change_discussion_status(repo_id, number, "open", repo_type=REPO_TYPE)
    api.merge_pull_request(repo_id, number, repo_type=REPO_TYPE)
