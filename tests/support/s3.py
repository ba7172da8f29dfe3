"""An S3 storage for tests: started, killed and started again; told how to fail, asked what it saw.

Objects can be put into it without a client (`fill`), by way of the folder that it keeps them in.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

_SCRIPT = Path(__file__).resolve().parent / "s3_server.py"


class S3Server:
    """A storage on this machine with one bucket.

    It is named after the folder, as connections are kept by bucket: two storages are not taken
    for one.

    Args:
        folder: where it keeps its objects; outlives the process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bucket = f"bucket-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
        (folder / self.bucket).mkdir(parents=True, exist_ok=True)
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def url(self, path: str = "") -> str:
        """`s3://<bucket>/path`."""
        return f"s3://{self.bucket}/{path}".rstrip("/")

    def start(self) -> None:
        """Starts it; the second time on the same port."""
        command = [sys.executable, str(_SCRIPT), str(self.folder), "--port", str(self._port)]
        self._process = subprocess.Popen(
            [*command, "--parent", str(os.getpid())],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "MOTO_S3_DEFAULT_MAX_KEYS": "1000"},
        )
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def env(self) -> dict[str, str]:
        """The variables that let a process of this machine find it, and nothing else of AWS."""
        return {
            "AWS_ACCESS_KEY_ID": "testing-key",
            "AWS_SECRET_ACCESS_KEY": "testing-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
        }

    def fill(self, source: Path, below: str = "") -> None:
        """Puts all files of a folder into the bucket, without a client; only while it is down."""
        assert self._process is None
        for path in sorted(source.rglob("*")):
            if path.is_file():
                key = f"{below}/{path.relative_to(source).as_posix()}".lstrip("/")
                write_object(self.folder / self.bucket, key, path.read_bytes())

    # Faults; they meet the next requests whose path contains `of`.

    def refuse(
        self,
        times: int = 1,
        *,
        status: int = 503,
        code: str = "SlowDown",
        method: str = "",
        of: str = "",
    ) -> None:
        """Answers with an error."""
        self.fail(method=method, of=of, times=times, status=status, code=code)

    def cut(self, times: int = 1, *, of: str = "") -> None:
        """Sends half of what it promises and hangs up."""
        self.fail(method="GET", of=of, times=times, cut=True)

    def lose_answers(self, times: int = 1, *, method: str = "PUT", of: str = "") -> None:
        """Does what it is asked, and hangs up instead of saying so."""
        self.fail(method=method, of=of, times=times, lost=True)

    def slow(self, seconds: float, times: int = 1, *, method: str = "", of: str = "") -> None:
        """Waits before it does anything."""
        self.fail(method=method, of=of, times=times, wait=seconds)

    def fail(self, *faults: Mapping[str, Any], **fault: Any) -> None:
        """Replaces all faults, those that are still to come included."""
        self._tell("faults", [*faults, fault] if fault else list(faults))

    def counts(self) -> Counter[str]:
        """Requests since the last `forget`, by method, and by method and last part of the path."""
        return Counter(self._tell("counts"))

    def forget(self) -> None:
        self._tell("forget")

    def _tell(self, name: str, value: Any = None) -> Any:
        data = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(f"{self.endpoint}/_control/{name}", data=data)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            return json.loads(answer.read())

    # What lies in it, seen from outside

    def objects(self) -> dict[str, bytes]:
        """All objects by key, as a kill would leave them."""
        found = {}
        for path in (self.folder / self.bucket).glob("*.object"):
            try:
                head, _, data = path.read_bytes().partition(b"\n")
            except FileNotFoundError:
                continue  # removed since the folder was listed: whoever builds goes on meanwhile
            found[json.loads(head)["key"]] = data
        return dict(sorted(found.items()))


def write_object(folder: Path, key: str, data: bytes) -> None:
    """An object as `s3_server` keeps it."""
    about = {
        "key": key,
        "etag": hashlib.md5(data, usedforsecurity=False).hexdigest(),
        "modified": datetime.now(timezone.utc).replace(tzinfo=None).isoformat(),
    }
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()}.object"
    path.write_bytes(json.dumps(about).encode() + b"\n" + data)


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A running storage."""
    server = S3Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
