"""The Hub's state, which tests look into."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from support.hub.blobs import Blobs
from support.hub.faults import Faults
from support.hub.repos import Repo


@dataclass(frozen=True, slots=True)
class User:
    """An account, and the organisations it may write in."""

    name: str
    organizations: tuple[str, ...] = ()


class Seen(NamedTuple):
    """A request that came; `status` is 0 where no answer was sent."""

    method: str
    path: str
    status: int
    bytes_received: int


class FakeHub:
    """What the server knows. All of it may be read and changed by a test.

    Attributes:
        endpoint: the Hub's address; `storage` is the one of its file store, another origin.
        faults: what goes wrong.
        requests: what came, in the order it was done with.
        uploads: SHA-256 -> how often a large file was received whole.
        unknown: requests for what this Hub does not have.
        failures: tracebacks of mistakes in this Hub itself.
        quota: bytes of large files that private repositories may hold together; None: any.
        page_size: entries on a page of a listing; None: as many as the Hub's.
        multipart_over, part_size: from which size large files are asked for in parts.
        xet: whether older clients that can are told to use Xet; newer ones do so anyway.
        xorbs: name -> how often a xorb was received whole; Xet clients send files in such parts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.endpoint = ""
        self.storage = ""
        self.blobs = Blobs(folder / "blobs")
        self.faults = Faults()
        self.requests: list[Seen] = []
        self.uploads: Counter[str] = Counter()
        self.unknown: list[tuple[str, str]] = []
        self.failures: list[str] = []
        self.repos: dict[tuple[str, str], Repo] = {}
        self.tokens: dict[str, tuple[User, str]] = {}
        self.quota: int | None = None
        self.page_size: int | None = None
        self.multipart_over = 5_000_000_000
        self.part_size = 20_000_000
        self.xet = True
        self.xorbs: Counter[str] = Counter()
        self.xet_chunks: dict[str, tuple[bytes, bytes]] = {}
        self.xet_tokens: dict[str, tuple[Repo, str]] = {}
        self.lock = threading.RLock()
        self._secret = os.urandom(16)

    def add_user(
        self, name: str, token: str, role: str = "write", organizations: tuple[str, ...] = ()
    ) -> User:
        """Makes an account and a token of role `write`, `read` or `expired`."""
        user = User(name, organizations)
        self.tokens[token] = (user, role)
        return user

    def repo(self, repo_id: str, kind: str = "dataset") -> Repo:
        """A repository; raises KeyError."""
        return self.repos[kind, repo_id]

    def environment(self, token: str | None, **more: str) -> dict[str, str]:
        """Variables for a process that is to use this Hub and nothing of this machine's user."""
        home = tempfile.mkdtemp(prefix="home-", dir=self.folder)
        kept = {k: v for k, v in os.environ.items() if not re.match(r"HF_|HUGGING|XDG_CACHE", k)}
        own = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": home,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }
        return {**kept, **own, **({"HF_TOKEN": token} if token else {}), **more}

    # Rights

    def in_namespace(self, user: User | None, namespace: str) -> bool:
        return user is not None and namespace in (user.name, *user.organizations)

    def owns(self, user: User | None, repo: Repo) -> bool:
        return self.in_namespace(user, repo.id.split("/")[0])

    def may_read(self, user: User | None, repo: Repo) -> bool:
        """Whether the files of a gated repository are open to somebody."""
        return self.owns(user, repo) or (user is not None and user.name in repo.granted)

    def used(self, more: dict[str, int]) -> int:
        """Bytes of large files in private repositories, with those of `more` (digest -> size)."""
        kept = {d: self.blobs.size(d) for r in self.repos.values() if r.private for d in r.lfs}
        return sum({**more, **kept}.values())

    # Links that carry their own permission

    def signed(self, path: str, **query: str | int) -> str:
        """The address of something in the store, for whoever has it."""
        text = urlencode({**query, "X-Amz-Expires": "3600"})
        return f"{self.storage}{path}?{text}&X-Amz-Signature={self._signature(path, text)}"

    def is_signed(self, path: str, query: str) -> bool:
        text, _, signature = query.rpartition("&X-Amz-Signature=")
        return hmac.compare_digest(signature, self._signature(path, text))

    def _signature(self, path: str, text: str) -> str:
        return hmac.new(self._secret, f"{path}?{text}".encode(), hashlib.sha256).hexdigest()
