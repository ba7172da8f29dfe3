"""The server: takes requests, lets faults befall them, and sends what the endpoints answer."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.hub.blobs import PIECE
from support.hub.faults import Action
from support.hub.hub import FakeHub, Seen, User
from support.hub.routes import STREAMED, find
from support.hub.wire import Answer, Body, HungUpError, RefusalError, Request

NO_FAULT = Action("none")


class Handler(BaseHTTPRequestHandler):
    """One connection; `hub` and `storage` are set by `_listener`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: FakeHub
    storage: bool

    def do_GET(self) -> None:  # the names are given
        self.serve()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_GET  # noqa: N815

    def serve(self) -> None:
        parts = urlsplit(self.path)
        action = self.hub.faults.take(self.command, parts.path) or NO_FAULT
        body = Body(
            self.rfile,
            self.headers,
            hang_up_after=action.num_bytes if action.kind == "hang_up" else None,
            flip=action.kind == "wrong_digest" and self.command in ("PUT", "POST"),
        )
        seen = False

        def see(status: int) -> None:
            nonlocal seen
            if not seen:
                seen = True
                self.hub.requests.append(Seen(self.command, parts.path, status, body.received))

        try:
            answer = self.answer(parts.path, parts.query, body, action)
            body.drain()
            if action.kind == "lose_answer":
                raise HungUpError
            if action.kind == "wrong_digest":
                answer = _other_digest(answer)
            see(answer.status)
            self.send(answer, action)
        except (HungUpError, OSError):
            see(0)
            self.hang_up()

    def answer(self, path: str, query: str, body: Body, action: Action) -> Answer:
        if action.kind == "drop":
            raise HungUpError
        if action.kind == "slow":
            time.sleep(action.seconds)
        if action.function is not None:
            action.function()
        if action.kind == "status":
            return Answer(action.code, dict(action.headers), action.body)
        try:
            return self.ask(path, query, body)
        except RefusalError as refusal:
            return refusal.answer()
        except (HungUpError, OSError):
            raise
        except Exception:
            self.hub.failures.append(traceback.format_exc())
            return Answer(500)

    def ask(self, path: str, query: str, body: Body) -> Answer:
        """Finds the endpoint and lets it answer."""
        endpoint, match = find(self.command, path, storage=self.storage)
        if endpoint is None:
            self.hub.unknown.append((self.command, self.path))
            raise RefusalError(404, "Sorry, we can't find the page you are looking for.")
        if self.storage and not path.startswith(("/v1/", "/v2/")):
            self.refuse_unsigned(path, query)
        user, role = self.who()
        stream = io.BufferedReader(body, PIECE)
        request = Request(
            self.hub,
            self.command,
            path,
            parse_qs(query, keep_blank_values=True),
            self.headers,
            stream,
            user,
            role,
            match,
        )
        try:
            if endpoint in STREAMED:
                return endpoint(request)
            request.body = io.BytesIO(stream.read())
            with self.hub.lock:
                return endpoint(request)
        finally:
            stream.detach()

    def refuse_unsigned(self, path: str, query: str) -> None:
        """The store knows no accounts: a link is good, or it is not."""
        if "Authorization" in self.headers:
            text = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter"
            raise RefusalError(400, text)
        if not self.hub.is_signed(path, query):
            raise RefusalError(403, "Request has expired")

    def who(self) -> tuple[User | None, str]:
        given = self.headers.get("Authorization")
        if not given or self.storage:
            return None, ""
        known = self.hub.tokens.get(given.removeprefix("Bearer "))
        if known is None:
            raise RefusalError(401, "Invalid credentials in Authorization header")
        if known[1] == "expired":
            text = f'User Access Token "{known[0].name}-token" is expired'
            raise RefusalError(401, text)
        return known

    # Sending

    def send(self, answer: Answer, action: Action) -> None:
        length = len(answer.body) if answer.file is None else answer.length
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("X-Request-Id", f"Root=1-{uuid.uuid4().hex[:8]}")
        if answer.status != 204:
            self.send_header("Content-Length", str(length))
        data = b"" if self.command == "HEAD" else answer.body
        cut = action.kind == "cut_body"
        if cut:
            data, length = data[: len(data) // 2], length // 2
        self.end_headers()
        self.wfile.write(data)
        if answer.file is not None and self.command != "HEAD":
            self.send_file(answer, length, flip=action.kind == "wrong_digest")
        if cut:
            raise HungUpError

    def send_file(self, answer: Answer, length: int, *, flip: bool) -> None:
        assert answer.file is not None
        with open(answer.file, "rb") as file:
            file.seek(answer.start)
            while length > 0:
                piece = file.read(min(PIECE, length))
                length -= len(piece)
                if flip and length == 0:
                    piece = piece[:-1] + bytes([piece[-1] ^ 1])
                self.wfile.write(piece)

    def hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        pass


def _other_digest(answer: Answer) -> Answer:
    """The same answer about other contents."""

    def changed(data: object) -> object:
        if isinstance(data, list):
            return [changed(d) for d in data]
        if not isinstance(data, dict):
            return data
        found = {key: changed(value) for key, value in data.items()}
        if isinstance(lfs := found.get("lfs"), dict):
            names = {"oid", "sha256"} & set(lfs)
            found["lfs"] = {**lfs, **{name: _turned(lfs[name]) for name in names}}
        return found

    if "json" in answer.headers.get("Content-Type", ""):
        answer.body = json.dumps(changed(json.loads(answer.body))).encode()
    if etag := answer.headers.get("X-Linked-Etag"):
        answer.headers["X-Linked-Etag"] = f'"{_turned(etag.strip(chr(34)))}"'
    return answer


def _turned(digest: str) -> str:
    return f"{(int(digest[0], 16) ^ 1):x}{digest[1:]}"


class Listener(ThreadingHTTPServer):
    """Says nothing about clients that go away, and lets none keep it."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, hub: FakeHub, *, storage: bool) -> None:
        handler = type("BoundHandler", (Handler,), {"hub": hub, "storage": storage})
        super().__init__(("127.0.0.1", 0), handler)
        self.open_sockets: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open_sockets.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open_sockets.discard(request)
        super().shutdown_request(request)

    def handle_error(self, *_: object) -> None:
        pass

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self.open_sockets):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def fake_hub(folder: Path) -> Iterator[FakeHub]:
    """A Hub on this machine that real clients can use; what it keeps lies below `folder`.

    Raises:
        AssertionError: at the end, when an endpoint failed with a mistake of its own.
    """
    hub = FakeHub(folder)
    listeners = [Listener(hub, storage=storage) for storage in (False, True)]
    hub.endpoint, hub.storage = (f"http://127.0.0.1:{s.server_address[1]}" for s in listeners)
    threads = [
        threading.Thread(target=s.serve_forever, kwargs={"poll_interval": 0.02}) for s in listeners
    ]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for listener in listeners:
            listener.close()
        for thread in threads:
            thread.join()
    assert not hub.failures, "\n".join(hub.failures)
