"""What a storage says of a file without reading it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

_TOKENS = ("ETag", "etag", "generation", "blob_id", "crc32c", "md5Hash", "checksum", "Content-MD5")
"""What storages call that which changes with a file's bytes."""

_TIMES = ("LastModified", "last_modified", "Last-Modified", "updated", "mtime", "created")


@dataclass(frozen=True, slots=True)
class Stat:
    """What a storage says of a file without reading it.

    Attributes:
        size: in bytes.
        token: changes when the bytes do: ETag, checksum or generation where the storage has one,
            else made of size and time.
        modified: when it was written, in seconds since 1970 by the storage's own clock; 0: unknown.
    """

    size: int
    token: str
    modified: float = field(default=0.0, compare=False)


def stat_of(info: dict[str, Any]) -> Stat:
    """What fsspec tells of a file, each storage by names of its own."""
    size = int(info.get("size") or 0)
    modified = next((_seconds(info[name]) for name in _TIMES if info.get(name)), 0.0)
    token = next((str(info[name]) for name in _TOKENS if info.get(name)), "").strip('"')
    return Stat(size, token or f"{size}-{modified!r}", modified)


def _seconds(value: object) -> float:
    """A time as storages tell it, in seconds since 1970; 0 if it cannot be read."""
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, (int, float)):
        return float(value)
    text = str(value)
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return _http_date(text)


def _http_date(text: str) -> float:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return 0.0
