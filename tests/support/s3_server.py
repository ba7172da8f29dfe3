"""A storage that speaks S3 on this machine, as a process of its own that may be killed.

Run as a script. What was written is on disk before its writer hears of it: started again on the
same folder, the server has everything that anybody was told it has. Uploads in parts that were not
completed are lost. `support.s3.S3Server` starts it and tells it how to fail.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

StartResponse = Callable[..., Any]
CONTROL = "/_control/"


class Kept:
    """The objects of the storage, on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]

    def load(self) -> None:
        for bucket in sorted(path for path in self._folder.iterdir() if path.is_dir()):
            self._backend.create_bucket(bucket.name, "us-east-1")
            for path in sorted(bucket.glob("*.object")):
                head, _, data = path.read_bytes().partition(b"\n")
                about = json.loads(head)
                key = self._backend.put_object(bucket.name, about["key"], data, etag=about["etag"])
                key.last_modified = datetime.fromisoformat(about["modified"])

    def keep(self, bucket: str, key: str) -> None:
        """Writes down what one object is now, or that there is none."""
        folder = self._folder / bucket
        folder.mkdir(exist_ok=True)
        path = folder / f"{hashlib.sha256(key.encode()).hexdigest()}.object"
        found = self._backend.get_object(bucket, key)
        if found is None:
            path.unlink(missing_ok=True)
            return
        about = {
            "key": key,
            "etag": found.etag.strip('"'),
            "modified": found.last_modified.isoformat(),
        }
        temporary = path.with_suffix(f".{threading.get_ident()}")
        temporary.write_bytes(json.dumps(about).encode() + b"\n" + found.value)
        temporary.replace(path)

    def keep_all(self, bucket: str) -> None:
        folder = self._folder / bucket
        for path in list(folder.glob("*.object")):
            try:
                head = path.read_bytes().partition(b"\n")[0]
            except FileNotFoundError:
                continue  # another request has removed it since the folder was listed
            self.keep(bucket, json.loads(head)["key"])


class Storage:
    """The storage with its memory on disk, and with faults before all that."""

    def __init__(self, app: Any, kept: Kept) -> None:
        self._app = app
        self._kept = kept
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.faults: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path.startswith(CONTROL):
            return self._control(path[len(CONTROL) :], environ, start)
        fault = self._count(method, path)
        if fault.get("wait"):
            time.sleep(fault["wait"])
        if fault.get("status"):
            return _refuse(fault, environ, start)
        answer = self._answer(environ, start, lost=bool(fault.get("lost")))
        return _cut(answer) if fault.get("cut") else answer

    def _count(self, method: str, path: str) -> dict[str, Any]:
        """The fault that meets this request, if any."""
        with self._lock:
            self.counts[method] += 1
            self.counts[f"{method} {path.rpartition('/')[2]}"] += 1
            for fault in self.faults:
                if fault["times"] > 0 and fault["method"] in ("", method) and fault["of"] in path:
                    fault["times"] -= 1
                    return fault
        return {}

    def _answer(
        self, environ: dict[str, Any], start: StartResponse, *, lost: bool
    ) -> Iterable[bytes]:
        told: list[Any] = []

        def note(status: str, headers: Any, *rest: Any) -> Any:
            told[:] = [status, headers, *rest]
            return lambda data: None

        chunks = list(self._app(environ, note))
        if told[0].startswith("2") and environ["REQUEST_METHOD"] in ("PUT", "POST", "DELETE"):
            bucket, _, key = environ["PATH_INFO"].lstrip("/").partition("/")
            query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
            with self._lock:
                if "delete" in query:
                    self._kept.keep_all(bucket)
                elif "partNumber" not in query and "uploads" not in query:
                    self._kept.keep(bucket, key)
        if lost:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError("as it was told to")
        start(*told)
        return chunks

    def _control(self, name: str, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        size = int(environ.get("CONTENT_LENGTH") or 0)
        given = json.loads(environ["wsgi.input"].read(size)) if size else None
        with self._lock:
            if name == "faults":
                self.faults = given
            elif name == "forget":
                self.counts.clear()
            answer = json.dumps(self.counts).encode()
        start("200 OK", [("Content-Length", str(len(answer)))])
        return [answer]


def _refuse(
    fault: dict[str, Any], environ: dict[str, Any], start: StartResponse
) -> Iterable[bytes]:
    _drain(environ)
    code = fault.get("code", "SlowDown")
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
    start(f"{fault['status']} as it was told to", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def _drain(environ: dict[str, Any]) -> None:
    left = int(environ.get("CONTENT_LENGTH") or 0)
    while left > 0 and (chunk := environ["wsgi.input"].read(min(left, 2**20))):
        left -= len(chunk)


def _cut(answer: Iterable[bytes]) -> Iterator[bytes]:
    """The first half of what was promised."""
    whole = b"".join(answer)
    yield whole[: len(whole) // 2]


class _QuietHandler(MotoRequestHandler):
    def log(self, *_: Any, **__: Any) -> None:
        pass


def _leave_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args()
    threading.Thread(target=_leave_with_parent, args=(options.parent,), daemon=True).start()
    kept = Kept(options.folder)
    kept.load()
    storage = Storage(create_backend_app("s3"), kept)
    server = make_server(
        "127.0.0.1", options.port, storage, threaded=True, request_handler=_QuietHandler
    )
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
