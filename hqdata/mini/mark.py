"""The mark that every drawn picture carries: a comment in its JPEG file.

A data set built from the stand-in names the real sources, but nothing of theirs is in it. By the
mark it can be told from one of real pictures, whatever its recipe is called.
"""

from __future__ import annotations

COMMENT = b"drawn by hqdata mini"

HEAD_BYTES = 128
"""The mark lies within so many first bytes."""

_START = b"\xff\xd8"
_COMMENT_MARKER = b"\xff\xfe"
_SEGMENT = _COMMENT_MARKER + (len(COMMENT) + 2).to_bytes(2, "big") + COMMENT


def marked(jpeg: bytes) -> bytes:
    """The JPEG with the mark behind its first segment; the pixels stay as they are.

    Raises:
        ValueError: the bytes begin like no JPEG.
    """
    if jpeg[:2] != _START or jpeg[2:3] != b"\xff":
        raise ValueError("these are not the bytes of a JPEG")
    # The JFIF segment has to come first.
    begin = 4 + int.from_bytes(jpeg[4:6], "big") if jpeg[3:4] == b"\xe0" else 2
    return jpeg[:begin] + _SEGMENT + jpeg[begin:]


def is_marked(head: bytes) -> bool:
    """Whether a file that begins with these bytes, at least `HEAD_BYTES` of a longer one, is a
    JPEG with the mark.
    """
    if head[:2] != _START:
        return False
    position = 2
    while head[position : position + 1] == b"\xff" and position + 4 <= len(head):
        if head.startswith(_SEGMENT, position):
            return True
        position += 2 + int.from_bytes(head[position + 2 : position + 4], "big")
    return False
