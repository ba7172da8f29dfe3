"""The last line of a card: whether it is still as hqdata wrote it.

People edit cards on the Hub. A push may replace what an earlier push wrote, and nothing else.
"""

from __future__ import annotations

import re

from hqdata.files import sha256_of

_SEAL = re.compile(rb"\n<!-- written by hqdata, ([0-9a-f]{64}) -->\n?\Z")


def sealed(text: str) -> bytes:
    """The card with its seal: the SHA-256 of all before it, in a comment that nobody sees."""
    data = text.encode()
    return data + f"\n<!-- written by hqdata, {sha256_of(data)} -->\n".encode()


def is_sealed(data: bytes) -> bool:
    """Whether a card is, byte for byte, one that hqdata wrote."""
    found = _SEAL.search(data)
    return found is not None and found[1].decode() == sha256_of(data[: found.start()])
