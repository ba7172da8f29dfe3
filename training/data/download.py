"""Copying a file from behind a URL, and holding it against its digest on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import BinaryIO

from hqdata.remote.origin import Origin
from hqdata.remote.retry import AlteredError


def copy(
    origin: Origin,
    name: str,
    file: BinaryIO,
    *,
    sha256: str,
    max_bytes: int,
    check: Callable[[], None] | None = None,
) -> None:
    """Copies a file from its origin.

    Args:
        origin: where from.
        name: of the file.
        file: where to; from its beginning, whatever an earlier try left there.
        sha256: what its SHA-256 has to be.
        max_bytes: how many bytes it may have.
        check: is called for each piece, and may raise.

    Raises:
        PassingError: the connection failed.
        AlteredError: these are other bytes than expected.
        HqdataError: the file cannot be had.
    """
    file.seek(0)
    digest = hashlib.sha256()
    num_bytes = 0
    for chunk in origin.chunks(name):
        if check is not None:
            check()
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            raise AlteredError(f"it has more than {max_bytes:,} bytes, more than it should")
        digest.update(chunk)
        _write_all(file, chunk)
    if digest.hexdigest() != sha256:
        raise AlteredError(
            f"it has {num_bytes:,} bytes and SHA-256 {digest.hexdigest()}, should have {sha256}"
        )


def _write_all(file: BinaryIO, data: bytes) -> None:
    """An unbuffered file may take less than it is given."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
