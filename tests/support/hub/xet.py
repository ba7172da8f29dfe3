"""The store that clients with Xet upload to: it takes xorbs and shards and puts files together."""

from __future__ import annotations

import io
import secrets
import time
import uuid
from collections.abc import Iterator
from typing import BinaryIO, cast

from support.hub.api_uploads import refuse_beyond_quota, target
from support.hub.blobs import PIECE, WrongContentError
from support.hub.repos import Repo
from support.hub.wire import Answer, Endpoint, RefusalError, Request, answer_json
from support.hub.xet_format import (
    DamagedError,
    FileInfo,
    chunk_hashes,
    read_chunks,
    read_shard,
    write_shard,
)

LIFETIME_S = 3600


def token(request: Request) -> Answer:
    """A short-lived right to read or write in the store for one repository."""
    scope = request.match["scope"]
    if request.match["rev"] == "None":
        request.match["rev"] = "main"
    repo = target(request) if scope == "write" else request.repo(files=True)
    if scope == "write":
        refuse_beyond_quota(request, repo, {})
    text, expires = f"xet_{secrets.token_hex(8)}", int(time.time()) + LIFETIME_S
    request.hub.xet_tokens[text] = (repo, scope)
    url = request.hub.storage
    headers = {
        "X-Xet-Cas-Url": url,
        "X-Xet-Access-Token": text,
        "X-Xet-Token-Expiration": str(expires),
    }
    return answer_json({"casUrl": url, "accessToken": text, "exp": expires}, headers=headers)


def _writer(request: Request) -> Repo:
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if given not in request.hub.xet_tokens:
        raise RefusalError(401, "Unauthorized")
    repo, scope = request.hub.xet_tokens[given]
    if scope != "write":
        raise RefusalError(403, "Forbidden")
    return repo


def put_xorb(request: Request) -> Answer:
    """Takes a xorb, whose name is believed."""
    _writer(request)
    hub, name = request.hub, request.match["hash"]
    known = name in hub.xorbs
    folder = hub.folder / "xorbs"
    folder.mkdir(exist_ok=True)
    partial = folder / f"{name}.{uuid.uuid4().hex}"
    try:
        with open(partial, "wb") as file:
            while piece := request.body.read(PIECE):
                file.write(piece)
        try:
            for _ in read_chunks(partial):
                pass
        except (DamagedError, OSError) as error:
            raise RefusalError(400, f"Not a xorb: {error}") from None
        partial.replace(folder / name)
    finally:
        partial.unlink(missing_ok=True)
    with hub.lock:
        hub.xorbs[name] += 1
    return answer_json({"was_inserted": not known})


def put_shard(request: Request) -> Answer:
    """Takes the list of files that some xorbs make up; each is put together and checked."""
    repo = _writer(request)
    try:
        shard = read_shard(request.body.read())
        for info in shard.files:
            _register(request, repo, info)
    except DamagedError as error:
        raise RefusalError(400, f"The shard is wrong: {error}") from None
    with request.hub.lock:
        for block in shard.xorbs.values():
            for name in chunk_hashes(block):
                request.hub.xet_chunks[name] = (shard.tag, block)
    return answer_json({"result": 1})


def _register(request: Request, repo: Repo, info: FileInfo) -> None:
    hub = request.hub
    if info.sha256 is not None and info.sha256 in hub.blobs:
        digest = info.sha256
    else:
        stream = cast(BinaryIO, io.BufferedReader(_Joined(_pieces(request, info)), PIECE))
        try:
            digest = hub.blobs.receive(stream, sha256=info.sha256, size=info.size)
        except WrongContentError as error:
            raise DamagedError(f"file {info.hash}: {error}") from None
    with hub.lock:
        if digest not in repo.lfs:
            hub.uploads[digest] += 1
        repo.lfs.add(digest)


def _pieces(request: Request, info: FileInfo) -> Iterator[bytes]:
    """The bytes of a file, from its xorbs."""
    for term in info.terms:
        path = request.hub.folder / "xorbs" / term.xorb
        if not path.is_file():
            raise DamagedError(f"xorb {term.xorb} never came")
        size = 0
        for number, chunk in enumerate(read_chunks(path)):
            if term.first <= number < term.end:
                size += len(chunk)
                yield chunk
        if size != term.num_bytes:
            raise DamagedError(f"{size} bytes where {term.num_bytes} were said")


class _Joined(io.RawIOBase):
    """Pieces as one stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces = pieces
        self.rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        if not self.rest:
            self.rest = next(self.pieces, b"")
        count = min(len(view), len(self.rest))
        view[:count] = self.rest[:count]
        self.rest = self.rest[count:]
        return count


def find_chunk(request: Request) -> Answer:
    """Tells of the xorb that has a chunk, so that the client need not send what it holds."""
    _writer(request)
    xorb = request.hub.xet_chunks.get(request.match["hash"])
    if xorb is None:
        raise RefusalError(404, "Chunk not found")
    tag, block = xorb
    shard = write_shard(tag, [block], int(time.time()))
    return Answer(200, {"Content-Type": "application/octet-stream"}, shard)


def not_here(request: Request) -> Answer:
    """Newer ways that clients try first; they take the older ones then."""
    raise RefusalError(404, "Not found")


STREAMED: tuple[Endpoint, ...] = (put_xorb, put_shard)

ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", "/api/REPO/xet-(?P<scope>read|write)-token/REV", token),
)
STORAGE_ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("POST", "/v1/xorbs/default/(?P<hash>[0-9a-f]{64})", put_xorb),
    ("POST", "/v1/xorb-grants/default/[0-9a-f]{64}", not_here),
    ("POST", "/v2/shards", not_here),
    ("POST", "/v1/shards", put_shard),
    ("GET", "/v1/chunks/default[^/]*/(?P<hash>[0-9a-f]{64})", find_chunk),
)
