"""From a URL to the fsspec file system that reads and writes it, with our limits of patience."""

from __future__ import annotations

import importlib
from typing import Any

from hqdata.errors import UserError, nearest
from hqdata.remote.failures import failures, reason, redact

SILENCE_SECONDS = 60.0
"""How long a connection may say nothing before it is given up."""

CONNECT_SECONDS = 20.0
"""How long making a connection may take."""

HTTP = ("http", "https")
S3 = ("s3", "s3a")

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


def connect(url: str) -> Any:
    """The file system of a URL, which nobody else holds.

    Raises:
        UserError: the URL is of an unknown kind, its package is missing, or nobody has logged in.
    """
    scheme = url.partition("://")[0].lower()
    package = _PACKAGES.get(scheme)
    where = redact(url)
    try:
        fsspec = importlib.import_module("fsspec")
        known = fsspec.available_protocols()
        if scheme not in known:
            raise UserError(
                f"nothing can be read from URLs of the kind {scheme!r}" + nearest(scheme, known),
                where=where,
                expected="a folder, or a URL that begins with https://, s3://, gs:// or hf://",
            )
        file_system = fsspec.url_to_fs(url, skip_instance_cache=True, **_options(scheme))[0]
        if scheme in S3:
            # One request is one request: who asks again, and when, `hqdata.remote.retry` says.
            file_system.retries = 1
        return file_system
    except ImportError:
        wanted = package or "what fsspec names as needed for this scheme"
        raise UserError(
            f"a package is missing that reads {scheme}:// URLs",
            where=where,
            do=f"pip install {wanted!r}" if package else f"install {wanted}",
        ) from None
    except failures() as error:
        raise UserError(f"the URL cannot be used: {reason(error)}", where=where) from None


def _options(scheme: str) -> dict[str, Any]:
    if scheme in HTTP:
        # aiohttp's own limit is five minutes for a whole file, however well it flows.
        timeout = importlib.import_module("aiohttp").ClientTimeout(
            total=None, sock_connect=SILENCE_SECONDS, sock_read=SILENCE_SECONDS
        )
        return {
            "client_kwargs": {"timeout": timeout, "trust_env": True},
            "use_listings_cache": False,
        }
    if scheme in S3:
        return {
            # Other processes write to the same folder: what was listed once says nothing now.
            "use_listings_cache": False,
            "config_kwargs": {
                "connect_timeout": CONNECT_SECONDS,
                "read_timeout": SILENCE_SECONDS,
                "retries": {"total_max_attempts": 1, "mode": "standard"},
            },
        }
    if scheme in ("gs", "gcs", "abfs", "az"):
        return {"use_listings_cache": False}
    return {}
