"""Keys of samples: what a WebDataset file name may be, derived from the upstream name."""

from __future__ import annotations

import hashlib
import re
import unicodedata

MAX_KEY_LENGTH = 84
"""A USTAR name has 100 bytes; the longest suffix, `.mask.png`, takes 9."""


def make_key(source: str, stem: str) -> str:
    """`<source>-<slug of the stem>`, of `[a-z0-9_-]` only, at most 84 characters.

    A stem that is not ASCII, or that is too long, gets eight hexadecimal digits of its SHA-256
    appended, so that different names stay different. Case and punctuation are folded: names that
    differ in nothing else collide, which pairing reports.
    """
    ascii_stem = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9_-]+", "-", ascii_stem.replace("/", "_").lower()).strip("-")
    room = MAX_KEY_LENGTH - len(source) - 1
    if not stem.isascii() or not slug or len(slug) > room:
        digest = hashlib.sha256(stem.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        slug = f"{slug[: room - 9]}-{digest}".lstrip("-")
    return f"{source}-{slug}"
