"""Sending the files that a pull request lacks, a group at a time, until none differs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

from hqdata.errors import CancelledError, UserError
from hqdata.hub.far_side import differing, list_files, stale_files
from hqdata.hub.names import REPO_TYPE
from hqdata.hub.plan import Planned, PushPlan
from hqdata.hub.pull_request import PullRequest
from hqdata.hub.remote import Hub, HubError
from hqdata.progress import InMebibytes, Reporter

GROUP_BYTES = 256 * 2**20
"""Shards up to this size go up, and are committed, together; a larger one goes alone.

What the Hub's own storage got of a group that was not committed is sent again after a kill, so a
group is little. But the Hub takes no more than about a hundred commits an hour: so many of these
are all of HQSeg-44K twice over.
"""
GROUP_FILES = 64
MAX_ROUNDS = 3
"""How often files that arrived otherwise than they were sent are sent again."""

_POLL_SECONDS = 0.2


def upload(
    plan: PushPlan,
    hub: Hub,
    request: PullRequest,
    ours: Collection[str],
    reporter: Reporter,
    tell: Callable[[str], None],
) -> tuple[int, int]:
    """Sends what a pull request lacks until nothing differs.

    Args:
        plan: what should be there.
        hub: the Hub.
        request: the pull request.
        ours: files of an earlier push, which go if the plan does not have them.
        reporter: is told the bytes that have arrived.
        tell: is given a line about what is there already.

    Returns:
        Files and bytes that were sent.

    Raises:
        HubError: the Hub refuses, or holds other bytes than were sent.
        UserError: a shard has vanished from this disk.
        CancelledError: Ctrl-C.
    """
    held = list_files(hub, plan.repo_id, request.revision)
    num_sent = bytes_sent = 0
    progress = InMebibytes(reporter)
    for _ in range(MAX_ROUNDS):
        todo, stale = differing(plan.files, held, plan.root), stale_files(plan.files, held, ours)
        if not todo and not stale:
            return num_sent, bytes_sent
        if len(todo) < len(plan.files):
            tell(f"{len(plan.files) - len(todo)} of {len(plan.files)} files are there already")
        to_send, sent = sum(file.num_bytes for file in todo), 0
        progress.start("uploading", to_send, "MiB")
        for group in groups_of([file for file in todo if file.data is None]):
            _require(group, plan.root)
            send = partial(_send_shards, plan, hub, request, group)
            _in_background(send, partial(progress.update, sent))
            sent += sum(file.num_bytes for file in group)
        small = [file for file in todo if file.data is not None]
        if small or stale:
            send = partial(_send_small_files, plan, hub, request, small, stale)
            _in_background(send, partial(progress.update, sent))
        progress.update(to_send)
        progress.finish()
        num_sent += len(todo)
        bytes_sent += to_send
        held = list_files(hub, plan.repo_id, request.revision)
    wrong = differing(plan.files, held, plan.root)
    name = wrong[0].path if wrong else stale_files(plan.files, held, ours)[0]
    raise HubError(
        f"{name} is not on the Hub as it was sent, after {MAX_ROUNDS} uploads",
        where=f"{plan.repo_id}, {request.revision}",
        expected=f"SHA-256 {wrong[0].sha256}" if wrong else "that it is gone",
        do="look at the repository's .gitignore and .gitattributes, and run the command again",
    )


def _require(group: Sequence[Planned], root: Path) -> None:
    for file in group:
        if not (root / file.path).is_file():
            raise UserError(
                "a shard has vanished since it was checked",
                where=root / file.path,
                do="run the build again, and then this command",
            )


def _send_shards(plan: PushPlan, hub: Hub, request: PullRequest, group: Sequence[Planned]) -> None:
    """Uploads some shards as one commit of the pull request."""
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    hub.call(
        "uploading shards",
        hub.api.upload_folder,
        repo_id=plan.repo_id,
        repo_type=REPO_TYPE,
        revision=request.revision,
        folder_path=plan.root,
        allow_patterns=[file.path for file in group],
        commit_message=f"{group[0].path}{more}",
    )


def _send_small_files(
    plan: PushPlan,
    hub: Hub,
    request: PullRequest,
    files: Sequence[Planned],
    stale: Sequence[str],
) -> None:
    """Commits what is held in memory, and takes away what is stale."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    def send() -> None:  # the operations are made anew for each try: they remember what was sent
        hub.api.create_commit(
            plan.repo_id,
            [
                *(CommitOperationAdd(file.path, file.data or b"") for file in files),
                *(CommitOperationDelete(path) for path in stale),
            ],
            repo_type=REPO_TYPE,
            revision=request.revision,
            commit_message=f"Manifest of {plan.manifest.info.name} {plan.digest[:12]}",
        )

    hub.call("uploading the manifest", send)


def _in_background(work: Callable[[], None], tick: Callable[[], None]) -> None:
    """Runs an upload beside this thread, so that Ctrl-C is heard at once.

    The client waits for its own threads before it lets an interrupt through: with large files on a
    slow line that is minutes.
    """
    failure: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_POLL_SECONDS)
            tick()
    except KeyboardInterrupt:
        raise CancelledError(
            "stopped; what is complete on the Hub stays there",
            do="the same command goes on from there",
        ) from None
    if failure:
        raise failure[0]


def groups_of(files: Sequence[Planned]) -> Iterator[tuple[Planned, ...]]:
    """The files in their order, cut where a group would grow too large."""
    group: list[Planned] = []
    for file in files:
        size = sum(one.num_bytes for one in group)
        if group and (size + file.num_bytes > GROUP_BYTES or len(group) >= GROUP_FILES):
            yield tuple(group)
            group = []
        group.append(file)
    if group:
        yield tuple(group)
