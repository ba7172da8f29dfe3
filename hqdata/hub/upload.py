"""Sending the files that a pull request lacks, a group at a time, until none differs."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hqdata.errors import CancelledError
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
    reporter: Reporter,
    tell: Callable[[str], None],
) -> tuple[int, int]:
    """Sends what the pull request lacks until nothing differs; returns files and bytes sent."""
    held = list_files(hub, plan.repo_id, request.revision)
    num_sent = bytes_sent = 0
    progress = InMebibytes(reporter)
    send = partial(_send, plan, hub, request)
    for _ in range(MAX_ROUNDS):
        todo, stale = differing(plan.files, held, plan.root), stale_files(plan.files, held)
        if not todo and not stale:
            return num_sent, bytes_sent
        there = plan.num_bytes - sum(file.num_bytes for file in todo)
        if there:
            tell(f"{len(plan.files) - len(todo)} of {len(plan.files)} files are there already")
        progress.start("uploading", plan.num_bytes, "MiB")
        for group in groups_of([file for file in todo if file.data is None]):
            _in_background(partial(send, group, ()), partial(progress.update, there))
            there += sum(file.num_bytes for file in group)
        small = tuple(file for file in todo if file.data is not None) or plan.small_files
        _in_background(partial(send, small, stale), partial(progress.update, there))
        progress.update(plan.num_bytes)
        progress.finish()
        num_sent += len(todo)
        bytes_sent += sum(file.num_bytes for file in todo)
        held = list_files(hub, plan.repo_id, request.revision)
    wrong = differing(plan.files, held, plan.root)
    name = wrong[0].path if wrong else stale_files(plan.files, held)[0]
    raise HubError(
        f"{name} is not on the Hub as it was sent, after {MAX_ROUNDS} uploads",
        where=f"{plan.repo_id}, {request.revision}",
        expected=f"SHA-256 {wrong[0].sha256}" if wrong else "that it is gone",
        do="look at the repository's .gitignore and .gitattributes, and run the command again",
    )


def _send(
    plan: PushPlan,
    hub: Hub,
    request: PullRequest,
    files: Sequence[Planned],
    stale: Sequence[str],
) -> None:
    """Uploads some files as one commit of the pull request, and removes stale ones with it."""
    settings: dict[str, Any] = {
        "repo_id": plan.repo_id,
        "repo_type": REPO_TYPE,
        "revision": request.revision,
        "allow_patterns": [file.path for file in files],
    }
    if all(file.data is None for file in files):
        hub.call(
            "uploading shards",
            hub.api.upload_folder,
            folder_path=plan.root,
            commit_message=f"{files[0].path} and {len(files) - 1} more"
            if len(files) > 1
            else files[0].path,
            **settings,
        )
        return
    with tempfile.TemporaryDirectory(prefix="hqdata-push-") as folder:
        for file in files:
            path = Path(folder, file.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.data or b"")
        hub.call(
            "uploading the manifest",
            hub.api.upload_folder,
            folder_path=folder,
            commit_message=f"Manifest of {plan.manifest.info.name} {plan.digest[:12]}",
            delete_patterns=list(stale) or None,
            **settings,
        )


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
