"""Listings of files, and the files themselves."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urlencode

from support.hub.repos import Commit, Entry, Files, Repo, pointer
from support.hub.wire import (
    Answer,
    Endpoint,
    RefusalError,
    Request,
    answer_json,
    slice_of,
)

PER_PAGE, PER_EXPANDED_PAGE = 1000, 50


def _last(commit: Commit) -> dict[str, str]:
    return {"id": commit.oid, "title": commit.title, "date": commit.date}


def _file(path: str, entry: Entry) -> dict[str, object]:
    found: dict[str, object] = {
        "type": "file",
        "oid": entry.oid,
        "size": entry.size,
        "path": path,
    }
    if entry.lfs:
        size = len(pointer(entry.sha256, entry.size))
        found["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": size}
    return found


def _folder(path: str, files: Files) -> dict[str, object]:
    below = sorted((p, e.oid) for p, e in files.items() if p.startswith(f"{path}/"))
    oid = hashlib.sha1(repr(below).encode()).hexdigest()
    return {"type": "directory", "oid": oid, "size": 0, "path": path}


def _expanded(repo: Repo, head: str, item: dict[str, object]) -> dict[str, object]:
    item["lastCommit"] = _last(repo.last_change(head, str(item["path"])))
    if item["type"] == "file":
        item["securityFileStatus"] = {
            "status": "safe",
            "avScan": None,
            "pickleImportScan": None,
        }
    return item


def _folders(files: Files) -> set[str]:
    return {str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."}


def tree(request: Request) -> Answer:
    repo = request.repo()
    head = request.revision(repo)
    files = repo.objects[head].files
    folders = _folders(files)
    top = unquote(request.match.get("path", "")).strip("/")
    if top and top not in folders:
        raise RefusalError(
            404, f'{top} does not exist on "{request.match["rev"]}"', "EntryNotFound"
        )
    prefix = f"{top}/" if top else ""
    paths = sorted(p for p in {*files, *folders} if p.startswith(prefix))
    if not request.true("recursive"):
        paths = [p for p in paths if "/" not in p[len(prefix) :]]
    expand = request.true("expand")
    size = request.hub.page_size or (PER_EXPANDED_PAGE if expand else PER_PAGE)
    start = int(request.one("cursor", "0"))
    headers = {}
    if start + size < len(paths):
        query = {k: v[0] for k, v in request.query.items()} | {"cursor": str(start + size)}
        url = f"{request.hub.endpoint}{request.path}?{urlencode(query)}"
        headers["Link"] = f'<{url}>; rel="next"'
    items = [
        _file(path, files[path]) if path in files else _folder(path, files)
        for path in paths[start : start + size]
    ]
    if expand:
        items = [_expanded(repo, head, item) for item in items]
    return answer_json(items, headers=headers)


def paths_info(request: Request) -> Answer:
    repo = request.repo()
    head = request.revision(repo)
    files = repo.objects[head].files
    folders = _folders(files)
    if "json" in request.headers.get("Content-Type", ""):
        data = request.json()
        wanted, expand = data.get("paths", []), bool(data.get("expand"))
    else:
        form = request.form()
        wanted = form.get("paths", [])
        expand = form.get("expand", [""])[0].lower() in ("1", "true")
    items = []
    for path in wanted:
        if path in files:
            items.append(_file(path, files[path]))
        elif path.strip("/") in folders:
            items.append(_folder(path.strip("/"), files))
    if expand:
        items = [_expanded(repo, head, item) for item in items]
    return answer_json(items)


def resolve(request: Request) -> Answer:
    """The bytes of a small file, or the way to those of a large one."""
    repo = request.repo(files=True)
    head = request.revision(repo)
    path = unquote(request.match["path"])
    entry = repo.objects[head].files.get(path)
    if entry is None:
        raise RefusalError(404, "Entry not found", "EntryNotFound", h_X_Repo_Commit=head)
    name = PurePosixPath(path).name
    headers = {
        "X-Repo-Commit": head,
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(name)}; filename=\"{name}\";",
    }
    if not entry.lfs:
        headers |= {"ETag": f'"{entry.oid}"', "Content-Type": "text/plain; charset=utf-8"}
        file = repo.blobs.path(entry.sha256)
        return slice_of(file, entry.size, request.headers.get("Range"), headers)
    headers |= {
        "Location": request.hub.signed(f"/cdn/{entry.sha256}", filename=name),
        "X-Linked-Size": str(entry.size),
        "X-Linked-Etag": f'"{entry.sha256}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "text/plain; charset=utf-8",
    }
    return Answer(302, headers, f"Found. Redirecting to {headers['Location']}".encode())


def large_file(request: Request) -> Answer:
    """What a link to a large file leads to, on the other origin."""
    digest = request.match["sha256"]
    blobs = request.hub.blobs
    if digest not in blobs:
        raise RefusalError(404, "The specified key does not exist.")
    headers = {
        "ETag": f'"{digest}"',
        "Content-Type": "application/octet-stream",
        "Content-Disposition": f'inline; filename="{request.one("filename")}";',
    }
    asked = request.headers.get("Range")
    return slice_of(blobs.path(digest), blobs.size(digest), asked, headers)


ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", "/api/REPO/tree/REV(?P<path>/.*)?", tree),
    ("POST", "/api/REPO/paths-info/REV", paths_info),
    ("GET", "/PAGE/(?:resolve|raw)/REV/(?P<path>.+)", resolve),
)
STORAGE_ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", "/cdn/(?P<sha256>[0-9a-f]{64})", large_file),
)
