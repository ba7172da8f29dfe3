"""Reading files behind a URL with fsspec, and telling what went wrong without telling secrets."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import sys
import weakref
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from hqdata.errors import DatasetError, HqdataError, UserError, nearest
from training.data.retry import PassingError, retry_after

CHUNK_BYTES = 2**23
"""Bytes that are asked for at once."""

SILENCE_SECONDS = 60.0
"""How long a connection may say nothing before it is given up."""

_PACKAGES = {
    "http": "fsspec[http]",
    "https": "fsspec[http]",
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "hf": "huggingface_hub",
    "abfs": "adlfs",
    "az": "adlfs",
}

_STREAMING = {"http", "https", "hf"}
"""Schemes of which fsspec reads a file in one request if it is told block size 0; from the others
it asks for one range after the other."""

_FOREIGN = (
    ("aiohttp", "ClientError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("httpx", "HTTPError"),
    ("azure.core.exceptions", "AzureError"),
)
"""What the libraries below fsspec raise that is no OSError."""


_connected: weakref.WeakSet[Origin] = weakref.WeakSet()
"""All that may hold connections, so that a forked child lets go of them."""

_left_to_parents: list[Any] = []
"""Connections of parents. Never to be closed: a child shares the kernel's list of what its parent
waits for, and closing would take them off it."""


def _after_fork() -> None:
    for origin in list(_connected):
        origin.leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)


def redact(url: str) -> str:
    """A URL as it may be shown: without user, password, query and fragment."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2] if "://" in url else parts.netloc
    # `hf://datasets/me/shards@v1` names a revision behind its @, and `gs://b/a#1.tar` is a name.
    return urlunsplit((parts.scheme, place, parts.path, "", ""))


class Origin:
    """The folder behind a URL. Can be pickled; each process makes its own connections.

    Args:
        url: with its scheme; a query (as signed URLs have) goes along with each file's name.
    """

    def __init__(self, url: str) -> None:
        self._url = url.strip()
        self._scheme = self._url.partition("://")[0].lower()
        self._opened: Any = None
        _connected.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _connected.add(self)

    def describe(self, name: str = "") -> str:
        """The URL of a file as messages show it."""
        return redact(self._join(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of a file, from its beginning, in order.

        Raises:
            PassingError: the connection failed; it may go well the next time.
            UserError: access is refused, or nothing of this kind can be read here.
            DatasetError: there is no such file.
        """
        file_system = self._file_system()
        path = self._join(name)
        options: dict[str, Any] = {"block_size": CHUNK_BYTES, "cache_type": "none"}
        if self._scheme in _STREAMING:
            options = {"block_size": 0}
        if self._scheme in ("http", "https"):
            options["size"] = 1  # any size: else it asks for it, in a request of its own
        file = None
        try:
            file = file_system.open(path, "rb", **options)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
        except _failures() as error:
            # Without `from error`: its text may hold the URL and all that is secret in it.
            raise self._explain(error, name) from None
        finally:
            if file is not None:
                file.close()

    def read(self, name: str, max_bytes: int) -> bytes:
        """All bytes of a small file.

        Raises:
            DatasetError: it is larger than `max_bytes`, or there is none.
        """
        data = bytearray()
        for chunk in self.chunks(name):
            data += chunk
            if len(data) > max_bytes:
                raise DatasetError(
                    f"{name} has more than {max_bytes:,} bytes, more than any should have",
                    where=self.describe(name),
                )
        return bytes(data)

    def _join(self, name: str) -> str:
        base, mark, query = self._url, "", ""
        if self._scheme in ("http", "https"):
            base, mark, query = self._url.partition("?")
        return f"{base.rstrip('/')}/{name}{mark}{query}" if name else self._url

    def _file_system(self) -> Any:
        if self._opened is None:
            self._opened = self._connect()
        return self._opened

    def leave_to_parent(self) -> None:
        """Forgets the connections of the process that this one was forked from."""
        if self._opened is not None:
            _left_to_parents.append(self._opened)
            self._opened = None

    def _connect(self) -> Any:
        package = _PACKAGES.get(self._scheme)
        try:
            fsspec = importlib.import_module("fsspec")
            known = fsspec.available_protocols()
            if self._scheme not in known:
                raise UserError(
                    f"nothing can be read from URLs of the kind {self._scheme!r}"
                    + nearest(self._scheme, known),
                    where=self.describe(),
                    expected="a folder, or a URL that begins with https://, s3://, gs:// or hf://",
                )
            options: dict[str, Any] = {}
            if self._scheme in ("http", "https"):
                # aiohttp's own limit is five minutes for a whole file, however well it flows.
                timeout = importlib.import_module("aiohttp").ClientTimeout(
                    total=None, sock_connect=SILENCE_SECONDS, sock_read=SILENCE_SECONDS
                )
                options["client_kwargs"] = {"timeout": timeout, "trust_env": True}
            return fsspec.url_to_fs(self._url, skip_instance_cache=True, **options)[0]
        except ImportError:
            wanted = package or "what fsspec names as needed for this scheme"
            raise UserError(
                f"a package is missing that reads {self._scheme}:// URLs",
                where=self.describe(),
                do=f"pip install {wanted!r}" if package else f"install {wanted}",
            ) from None
        except _failures() as error:
            raise UserError(
                f"the URL cannot be used: {_reason(error)}", where=self.describe()
            ) from None

    def _explain(self, error: BaseException, name: str) -> PassingError | HqdataError:
        """What to make of a failure."""
        status = _status(error)
        told = f" (HTTP {status})" if status else ""
        where = self.describe(name)
        if status in (404, 410) or isinstance(error, FileNotFoundError):
            return DatasetError(
                f"there is no such file{told}",
                where=where,
                expected="the URL of a folder that holds a whole data set",
                do="look for a mistyped URL; some storages say this, too, where a login is wanted",
            )
        if status in (401, 403, 407) or (not status and isinstance(error, PermissionError)):
            return UserError(
                f"access is refused{told}",
                where=where,
                expected="credentials that may read it",
                do="log in as this storage wants it (AWS_PROFILE, gcloud auth, hf auth login, "
                "~/.netrc); a signed URL may have run out",
            )
        if status in (408, 425, 429) or status >= 500:
            return PassingError(f"HTTP {status}", wait=_asked(error))
        if status >= 300:
            return UserError(f"the server refuses the request{told}", where=where)
        # No URL at all, a certificate that does not fit, a folder where a file should be.
        if isinstance(error, (ValueError, IsADirectoryError, NotADirectoryError)):
            return UserError(f"cannot be reached: {_reason(error)}", where=where)
        return PassingError(_reason(error))


def _failures() -> tuple[type[Exception], ...]:
    """What reading from a URL may raise. A library that is not loaded raises nothing."""
    found = (getattr(sys.modules.get(module), name, None) for module, name in _FOREIGN)
    foreign = [kind for kind in found if isinstance(kind, type) and issubclass(kind, Exception)]
    return (OSError, ValueError, EOFError, asyncio.TimeoutError, *foreign)


def _status(error: BaseException) -> int:
    """HTTP status, 0 if there is none. Each library keeps it elsewhere."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(response, "status_code", None)
    for name in ("status", "code"):  # aiohttp has both, and warns of the second
        if status is None:
            status = getattr(error, name, None)
    return status if isinstance(status, int) and 100 <= status < 600 else 0


def _asked(error: BaseException) -> float:
    """Seconds of the header Retry-After."""
    response = getattr(error, "response", None)
    headers = getattr(error, "headers", None) or getattr(response, "headers", None)
    if isinstance(response, dict):
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders")
    value = None if headers is None else headers.get("Retry-After") or headers.get("retry-after")
    return retry_after(value)


def _reason(error: BaseException) -> str:
    """What happened, in a line without URLs."""
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "nothing came for too long"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    text = " ".join(str(text).split())
    return re.sub(r"\S+://\S+", lambda found: redact(found[0].strip("'\"()<>,")), text)[:300]
