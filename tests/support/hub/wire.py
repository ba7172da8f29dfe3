"""Requests and answers as the endpoints see them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn
from urllib.parse import parse_qs, unquote

if TYPE_CHECKING:
    from support.hub.hub import FakeHub, User
    from support.hub.repos import Repo


class HungUpError(Exception):
    """The connection ended in the middle of a request, or a fault ends it."""


class Body(io.RawIOBase):
    """The body of a request, by its length or in chunks; counts what has come.

    Args:
        stream: what the connection yields.
        headers: of the request.
        hang_up_after: raises HungUpError after that many bytes.
        flip: turns over a bit of the first byte.
    """

    def __init__(
        self,
        stream: io.BufferedIOBase,
        headers: Message,
        *,
        hang_up_after: int | None = None,
        flip: bool = False,
    ) -> None:
        self.stream = stream
        self.chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
        self.left = 0 if self.chunked else int(headers.get("Content-Length") or 0)
        self.ended = not self.chunked and self.left == 0
        self.received = 0
        self.hang_up_after = hang_up_after
        self.flip = flip

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # its type is that of the base class
        if self.chunked and self.left == 0 and not self.ended:
            self._next_chunk()
        if self.ended:
            return 0
        wanted = min(len(buffer), self.left)
        if self.hang_up_after is not None:
            wanted = min(wanted, self.hang_up_after - self.received)
            if wanted <= 0:
                raise HungUpError
        data = bytearray(self.stream.read(wanted))
        if not data:
            raise HungUpError
        if self.flip and self.received == 0:
            data[0] ^= 1
        self.received += len(data)
        self.left -= len(data)
        if self.left == 0:
            if self.chunked:
                self.stream.readline()
            else:
                self.ended = True
        buffer[: len(data)] = data
        return len(data)

    def _next_chunk(self) -> None:
        line = self.stream.readline().split(b";")[0].strip()
        if not line:
            raise HungUpError
        self.left = int(line, 16)
        if self.left == 0:
            self.ended = True
            while self.stream.readline().strip():
                pass

    def drain(self) -> None:
        """Reads what is left, and forgets it."""
        while self.read(1 << 20):
            pass


class RefusalError(Exception):
    """An error that the Hub answers with."""

    def __init__(self, status: int, message: str, code: str | None = None, **more: object) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.more = more

    def answer(self) -> Answer:
        headers = {"X-Error-Message": self.message.replace("\n", " ")}
        if self.code:
            headers["X-Error-Code"] = self.code
        headers |= {k[2:].replace("_", "-"): str(v) for k, v in self.more.items() if k[:2] == "h_"}
        body = {"error": self.message, **{k: v for k, v in self.more.items() if k[:2] != "h_"}}
        return answer_json(body, self.status, headers)


@dataclass
class Answer:
    """What goes back; the body is bytes or a part of a file."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: Path | None = None
    start: int = 0
    length: int = 0


def answer_json(data: object, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    everything = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
    return Answer(status, everything, json.dumps(data).encode())


def slice_of(path: Path, size: int, asked: str | None, headers: dict[str, str]) -> Answer:
    """A file, or the one range of it that a header `Range` asks for."""
    headers = {"Accept-Ranges": "bytes", **headers}
    if not asked or not asked.startswith("bytes=") or "," in asked:
        return Answer(200, headers, file=path, start=0, length=size)
    first, _, last = asked.removeprefix("bytes=").strip().partition("-")
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start >= size or start > end:
        headers["Content-Range"] = f"bytes */{size}"
        return Answer(416, headers)
    headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return Answer(206, headers, file=path, start=start, length=end - start + 1)


@dataclass
class Request:
    """A request for one of the endpoints, who sent it, and what its path names."""

    hub: FakeHub
    method: str
    path: str
    query: dict[str, list[str]]
    headers: Message
    body: BinaryIO
    user: User | None
    role: str
    match: dict[str, str] = field(default_factory=dict)

    def one(self, name: str, default: str = "") -> str:
        """A value of the query."""
        return self.query.get(name, [default])[0]

    def true(self, name: str) -> bool:
        return self.one(name).lower() in ("1", "true")

    def json(self) -> dict[str, Any]:
        data = self.body.read()
        try:
            found = json.loads(data) if data else {}
        except ValueError as error:
            raise RefusalError(400, f"Invalid JSON: {error}") from None
        return found if isinstance(found, dict) else {}

    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.read().decode(), keep_blank_values=True)

    def lines(self) -> Iterator[dict[str, Any]]:
        for line in self.body:
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise RefusalError(400, f"Invalid JSON: {error}") from None

    # Who may do what

    def signed_in(self) -> User:
        if self.user is None:
            raise RefusalError(401, "Invalid username or password.")
        return self.user

    def repo(self, *, files: bool = False) -> Repo:
        """The repository of the path, if the user may see it (and, gated, read its files)."""
        key = (self.match["kind"].rstrip("s"), unquote(self.match["id"]))
        repo = self.hub.repos.get(key)
        if repo is None or (repo.private and not self.hub.owns(self.user, repo)):
            if self.user is None:
                raise RefusalError(401, "Invalid username or password.", "RepoNotFound")
            raise RefusalError(404, "Repository not found", "RepoNotFound")
        if files and repo.gated and not self.hub.may_read(self.user, repo):
            self._gated(repo)
        return repo

    def _gated(self, repo: Repo) -> NoReturn:
        what = f"Access to {repo.kind} {repo.id} is restricted"
        if self.user is None:
            text = f"{what}. You must have access to it and be authenticated to access it. "
            raise RefusalError(401, f"{text}Please log in.", "GatedRepo")
        where = f"{self.hub.endpoint}/{repo.kind}s/{repo.id}"
        text = f"{what} and you are not in the authorized list. Visit {where} to ask for access."
        raise RefusalError(403, text, "GatedRepo")

    def writable(self, why: str = "Authorization error.") -> Repo:
        """The repository, if the user may change it."""
        repo = self.repo()
        user = self.signed_in()
        if self.role != "write" or not self.hub.owns(user, repo):
            raise RefusalError(403, why)
        return repo

    def contributable(self) -> Repo:
        """The repository, if the user may open pull requests in it."""
        repo = self.repo(files=True)
        self.signed_in()
        if self.role != "write":
            raise RefusalError(403, "Authorization error.")
        return repo

    def revision(self, repo: Repo) -> str:
        """The commit that the path names."""
        name = unquote(self.match["rev"])
        try:
            return repo.resolve(name)
        except KeyError:
            text = f"Invalid rev id: {name}"
            raise RefusalError(404, text, "RevisionNotFound") from None


Endpoint = Callable[[Request], Answer]
