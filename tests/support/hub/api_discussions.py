"""Discussions and pull requests."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from support.hub.repos import ConflictError, PullRequest, Repo, now
from support.hub.wire import Answer, Endpoint, RefusalError, Request, answer_json

PER_PAGE = 50


def _event(kind: str, author: str, data: Mapping[str, object]) -> dict[str, object]:
    return {
        "id": uuid.uuid4().hex[:24],
        "type": kind,
        "createdAt": now(),
        "author": {"name": author, "type": "user"},
        "data": dict(data),
    }


def _comment(author: str, text: str) -> dict[str, object]:
    latest = {"raw": text, "html": f"<p>{text}</p>", "updatedAt": now()}
    data = {"edited": False, "hidden": False, "latest": latest, "history": []}
    return _event("comment", author, data)


def _summary(repo: Repo, one: PullRequest) -> dict[str, object]:
    return {
        "num": one.num,
        "title": one.title,
        "status": one.status,
        "isPullRequest": one.is_pull_request,
        "author": {"name": one.author, "type": "user"},
        "createdAt": one.created,
        "repo": {"name": repo.id, "type": repo.kind},
        "repoOwner": {"name": repo.id.split("/")[0]},
        "numComments": len(one.events),
        "pinned": False,
    }


def _found(request: Request, repo: Repo) -> PullRequest:
    found = repo.discussions.get(int(request.match["num"]))
    if found is None:
        raise RefusalError(404, "Discussion not found")
    return found


def listing(request: Request) -> Answer:
    repo = request.repo()
    kind, status = request.one("type", "all"), request.one("status", "all")
    author = request.one("author")
    statuses = {"open": ("open", "draft"), "closed": ("closed", "merged")}
    found = [
        d
        for d in sorted(repo.discussions.values(), key=lambda d: -d.num)
        if (kind == "all" or d.is_pull_request == (kind == "pull_request"))
        and (status == "all" or d.status in statuses.get(status, (status,)))
        and author in ("", d.author)
    ]
    size = request.hub.page_size or PER_PAGE
    start = int(request.one("p", "0")) * size
    here = [_summary(repo, d) for d in found[start : start + size]]
    return answer_json({"discussions": here, "count": len(found), "start": start})


def details(request: Request) -> Answer:
    repo = request.repo()
    one = _found(request, repo)
    data = {**_summary(repo, one), "events": one.events}
    if one.is_pull_request:
        changes: dict[str, object] = {"base": "refs/heads/main"}
        if one.merge_commit:
            changes["mergeCommitId"] = one.merge_commit
        conflicts = [] if one.merge_commit else repo.conflicts(one)
        data |= {"changes": changes, "filesWithConflicts": conflicts, "diff": ""}
    return answer_json(data)


def opened(request: Request) -> Answer:
    repo = request.contributable()
    data = request.json()
    title = str(data.get("title", "")).strip()
    if not 3 <= len(title) <= 200:
        raise RefusalError(400, '"title" length must be between 3 and 200 characters long')
    author = request.signed_in().name
    pull = bool(data.get("pullRequest"))
    status = "draft" if pull else "open"
    one = repo.discuss(title, author, pull_request=pull, status=status)
    one.events.append(_comment(author, data.get("description", "")))
    url = f"{request.hub.endpoint}/{repo.kind}s/{repo.id}/discussions/{one.num}"
    return answer_json({"num": one.num, "url": url, "pullRequest": pull})


def comment(request: Request) -> Answer:
    repo = request.contributable()
    event = _comment(request.signed_in().name, request.json()["comment"])
    _found(request, repo).events.append(event)
    return answer_json({"newMessage": event})


def change_status(request: Request) -> Answer:
    repo = request.contributable()
    one, user = _found(request, repo), request.signed_in()
    if one.author != user.name and not request.hub.owns(user, repo):
        raise RefusalError(403, "Authorization error.")
    if one.status == "merged":
        raise RefusalError(400, "Pull request is already merged")
    status = request.json()["status"]
    if status not in ("open", "closed"):
        raise RefusalError(400, f"Invalid status: {status}")
    one.status = status
    event = _event("status-change", user.name, {"status": status})
    one.events.append(event)
    return answer_json({"newStatus": event})


def merge(request: Request) -> Answer:
    repo = request.writable()
    one, user = _found(request, repo), request.signed_in()
    if not one.is_pull_request:
        raise RefusalError(400, "Only pull requests can be merged")
    if one.status != "open":
        raise RefusalError(400, f"A pull request that is {one.status} cannot be merged")
    if repo.pull_heads[one.ref] == one.base:
        raise RefusalError(400, "The pull request has no changes")
    try:
        repo.merge(one, user.name)
    except ConflictError as conflict:
        raise RefusalError(409, f"Pull request has conflicting files: {conflict}") from None
    one.events.append(_event("status-change", user.name, {"status": "merged"}))
    return answer_json({"success": True})


ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", "/api/REPO/discussions", listing),
    ("POST", "/api/REPO/discussions", opened),
    ("GET", r"/api/REPO/discussions/(?P<num>\d+)", details),
    ("POST", r"/api/REPO/discussions/(?P<num>\d+)/comment", comment),
    ("POST", r"/api/REPO/discussions/(?P<num>\d+)/status", change_status),
    ("POST", r"/api/REPO/discussions/(?P<num>\d+)/merge", merge),
)
