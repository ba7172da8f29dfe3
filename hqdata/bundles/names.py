"""The names of SA-1B's files: `sa_223750.jpg` and `sa_223750.json`."""

from __future__ import annotations

import re
from typing import Final

IMAGE: Final = "image"
NOTES: Final = "notes"

_MEMBER = re.compile(r"sa_(0|[1-9]\d{0,17})\.(jpe?g|json)", re.IGNORECASE | re.ASCII)


def member_of(name: str) -> tuple[int, str] | None:
    """The picture's number and whether the file is its `IMAGE` or its `NOTES`; None: neither.

    Args:
        name: without folders.
    """
    found = _MEMBER.fullmatch(name)
    if found is None:
        return None
    return int(found[1]), NOTES if found[2].lower() == "json" else IMAGE
