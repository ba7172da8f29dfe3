"""A web server on this machine that serves a folder, badly where a test wants it."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]
"""Answers a request for a file of these bytes."""


def whole(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def status(code: int, **headers: str) -> Answer:
    """An error; underscores in names of headers stand for dashes."""

    def answer(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def cut_off(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    """Promises all and hangs up half-way."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])
    handler.wfile.flush()
    handler.close_connection = True
    handler.connection.close()


def short(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    """Serves half of it as if it were all."""
    whole(handler, data[: len(data) // 2])


def altered(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    """Serves other bytes of the same length."""
    whole(handler, data[:-1] + bytes([data[-1] ^ 1]))


def longer(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    whole(handler, data + b"\0" * 512)


def held_by(go_on: threading.Event) -> Answer:
    """Sends the first half, and the second one when it may."""

    def answer(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: len(data) // 2])
        handler.wfile.flush()
        if go_on.wait(30):
            handler.wfile.write(data[len(data) // 2 :])

    return answer


def after(seconds: float) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, data: bytes) -> None:
        time.sleep(seconds)
        whole(handler, data)

    return answer


@dataclass
class Server:
    """What is served, how often each file was asked for, and how the next requests are answered."""

    url: str
    requests: Counter[str] = field(default_factory=Counter)
    answers: defaultdict[str, deque[Answer]] = field(default_factory=lambda: defaultdict(deque))
    always: dict[str, Answer] = field(default_factory=dict)
    queries: set[str] = field(default_factory=set)
    authorizations: set[str | None] = field(default_factory=set)


@contextmanager
def serving(root: Path) -> Iterator[Server]:
    """Serves the files below a folder; `server.answers[path]` are used up one a request."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # its name is given
            parts = urlsplit(self.path)
            name = parts.path.lstrip("/")
            server.requests[name] += 1
            server.queries.add(parts.query)
            server.authorizations.add(self.headers.get("Authorization"))
            path = root / name
            queue = server.answers[name]
            answer = queue.popleft() if queue else server.always.get(name, whole)
            if not path.is_file():
                status(404)(self, b"")
                return
            try:
                answer(self, path.read_bytes())
            except OSError:
                self.close_connection = True  # who asked has gone

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 64

        def handle_error(self, *_: object) -> None:
            pass

    listener = Quiet(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{listener.server_address[1]}")
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
