"""Accounts, repositories and their references."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import unquote

from support.hub.cards import check_card, front_matter
from support.hub.repos import Commit, Repo
from support.hub.wire import Answer, Endpoint, RefusalError, Request, answer_json

COMMITS_PER_PAGE = 50


def whoami(request: Request) -> Answer:
    user = request.signed_in()
    return answer_json(
        {
            "type": "user",
            "id": hashlib.sha1(user.name.encode()).hexdigest()[:24],
            "name": user.name,
            "fullname": user.name,
            "email": f"{user.name}@example.org",
            "emailVerified": True,
            "canPay": False,
            "isPro": False,
            "orgs": [
                {"type": "org", "name": name, "fullname": name, "roleInOrg": "admin"}
                for name in user.organizations
            ],
            "auth": {
                "type": "access_token",
                "accessToken": {"displayName": f"{user.name}-token", "role": request.role},
            },
        }
    )


def _asked_private(data: dict[str, Any]) -> bool | None:
    if "visibility" in data:
        return bool(data["visibility"] == "private")
    return data.get("private")


def create(request: Request) -> Answer:
    user = request.signed_in()
    data = request.json()
    namespace = data.get("organization") or user.name
    kind = data.get("type") or "model"
    repo_id = f"{namespace}/{data['name']}"
    if request.role != "write" or not request.hub.in_namespace(user, namespace):
        text = f'You don\'t have the rights to create a {kind} under the namespace "{namespace}"'
        raise RefusalError(403, text)
    url = f"{request.hub.endpoint}/{'' if kind == 'model' else kind + 's/'}{repo_id}"
    if (kind, repo_id) in request.hub.repos:
        raise RefusalError(409, f"You already created this {kind} repo", url=url)
    private = bool(_asked_private(data))
    repo = Repo(kind, repo_id, user.name, request.hub.blobs, private=private)
    request.hub.repos[kind, repo_id] = repo
    return answer_json({"url": url, "name": repo_id, "id": repo_id})


def delete(request: Request) -> Answer:
    user = request.signed_in()
    data = request.json()
    namespace = data.get("organization") or user.name
    key = (data.get("type") or "model", f"{namespace}/{data['name']}")
    if key not in request.hub.repos:
        raise RefusalError(404, "Repository not found", "RepoNotFound")
    if request.role != "write" or not request.hub.in_namespace(user, namespace):
        raise RefusalError(403, "Authorization error.")
    del request.hub.repos[key]
    return Answer(200)


def settings(request: Request) -> Answer:
    repo = request.writable()
    data = request.json()
    private = _asked_private(data)
    if private is not None:
        repo.private = private
    if "gated" in data:
        repo.gated = data["gated"]
    return answer_json({"private": repo.private, "gated": repo.gated})


def info(request: Request) -> Answer:
    repo = request.repo()
    request.match.setdefault("rev", "main")
    oid = request.revision(repo)
    commit = repo.objects[oid]
    files = sorted(commit.files.items())
    card: dict[str, object] = {}
    if "README.md" in commit.files:
        card = front_matter(repo.blobs.read(commit.files["README.md"].sha256).decode()) or {}
    siblings: list[dict[str, object]] = [{"rfilename": path} for path, _ in files]
    if request.true("blobs"):
        for sibling, (_, entry) in zip(siblings, files, strict=True):
            sibling |= {"size": entry.size, "blobId": entry.oid}
            if entry.lfs:
                lfs = {"sha256": entry.sha256, "size": entry.size, "pointerSize": 134}
                sibling["lfs"] = lfs
    data = {
        "_id": hashlib.sha1(repo.id.encode()).hexdigest()[:24],
        "id": repo.id,
        "author": repo.id.split("/")[0],
        "sha": oid,
        "lastModified": commit.date,
        "createdAt": repo.created,
        "private": repo.private,
        "gated": repo.gated,
        "disabled": False,
        "tags": [f"license:{card['license']}"] if "license" in card else [],
        "downloads": 0,
        "likes": 0,
        "cardData": card,
        "siblings": siblings,
        "usedStorage": sum(repo.blobs.size(digest) for digest in repo.lfs),
    }
    if wanted := [*request.query.get("expand", []), *request.query.get("expand[]", [])]:
        data = {k: v for k, v in data.items() if k in ("_id", "id", *wanted)}
    return answer_json(data)


def auth_check(request: Request) -> Answer:
    request.repo(files=True)
    if request.path.endswith("/write"):
        request.writable()
    return answer_json({})


def refs(request: Request) -> Answer:
    repo = request.repo()

    def listed(names: dict[str, str], prefix: str) -> list[dict[str, str]]:
        return [{"name": n, "ref": f"{prefix}{n}", "targetCommit": oid} for n, oid in names.items()]

    data = {
        "branches": listed(repo.branches, "refs/heads/"),
        "tags": listed(repo.tags, "refs/tags/"),
        "converts": [],
    }
    if request.true("include_prs"):
        pulls = {name.rpartition("/")[2]: oid for name, oid in repo.pull_heads.items()}
        data["pullRequests"] = listed(pulls, "refs/pr/")
    return answer_json(data)


def _commit(commit: Commit) -> dict[str, object]:
    return {
        "id": commit.oid,
        "title": commit.title,
        "message": commit.message,
        "date": commit.date,
        "authors": [{"user": commit.author, "avatar": "/avatars/none.svg"}],
    }


def commits(request: Request) -> Answer:
    repo = request.repo()
    history = list(repo.history(request.revision(repo)))
    size = request.hub.page_size or COMMITS_PER_PAGE
    page = int(request.one("p", "0"))
    headers = {"X-Total-Count": str(len(history))}
    if (page + 1) * size < len(history):
        headers["Link"] = f'<{request.hub.endpoint}{request.path}?p={page + 1}>; rel="next"'
    here = history[page * size : (page + 1) * size]
    return answer_json([_commit(commit) for commit in here], headers=headers)


def make_branch(request: Request) -> Answer:
    repo = request.writable()
    name = unquote(request.match["name"])
    if name.startswith("refs/"):
        raise RefusalError(400, f"Invalid reference for a branch: {name}")
    if name in repo.branches:
        raise RefusalError(409, f"Reference already exists: refs/heads/{name}")
    request.match["rev"] = request.json().get("startingPoint") or "main"
    repo.branches[name] = request.revision(repo)
    return Answer(201)


def drop_branch(request: Request) -> Answer:
    repo = request.writable()
    name = unquote(request.match["name"])
    if name == "main":
        raise RefusalError(403, "Cannot delete the default branch")
    if repo.branches.pop(name, None) is None:
        raise RefusalError(404, f"Invalid rev id: {name}", "RevisionNotFound")
    return Answer(200)


def make_tag(request: Request) -> Answer:
    repo = request.writable()
    data = request.json()
    oid = request.revision(repo)
    if data["tag"] in repo.tags:
        raise RefusalError(409, f"Tag reference exists already: refs/tags/{data['tag']}")
    repo.tags[data["tag"]] = oid
    repo.tag_messages[data["tag"]] = data.get("message", "")
    return Answer(201)


def drop_tag(request: Request) -> Answer:
    repo = request.writable()
    name = unquote(request.match["rev"])
    if repo.tags.pop(name, None) is None:
        raise RefusalError(404, f"Invalid rev id: {name}", "RevisionNotFound")
    return Answer(200)


def validate_yaml(request: Request) -> Answer:
    data = request.json()
    errors, warnings = check_card(data.get("content", ""))
    return answer_json(
        {
            "errors": [{"message": text} for text in errors],
            "warnings": [{"message": text} for text in warnings],
        },
        400 if errors else 200,
    )


ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", "/api/whoami-v2", whoami),
    ("POST", "/api/repos/create", create),
    ("DELETE", "/api/repos/delete", delete),
    ("POST", "/api/validate-yaml", validate_yaml),
    ("GET", "/api/REPO", info),
    ("GET", "/api/REPO/revision/REV", info),
    ("PUT", "/api/REPO/settings", settings),
    ("GET", "/api/REPO/auth-check(/write)?", auth_check),
    ("GET", "/api/REPO/refs", refs),
    ("GET", "/api/REPO/commits/REV", commits),
    ("POST", "/api/REPO/branch/(?P<name>.+)", make_branch),
    ("DELETE", "/api/REPO/branch/(?P<name>.+)", drop_branch),
    ("POST", "/api/REPO/tag/REV", make_tag),
    ("DELETE", "/api/REPO/tag/REV", drop_tag),
)
