"""Text, code, links and tables for a Markdown page, whatever the data set holds.

Names and reasons come from recipes, file names and permission files: none of it may become a link,
a heading, or another column.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~${}!])")
_URL_SAFE = "%:/?#@!$&'*+,;=-._~[]"


def text(value: object) -> str:
    """Plain words within a line."""
    escaped = _SPECIAL.sub(r"\\\1", one_line(value))
    # An entity would be read as one; a web address or a mail address stays a plain word.
    return escaped.replace("&", "&amp;")


def code(value: object) -> str:
    """A code span; for an empty value a pair of quotes in one."""
    plain = one_line(value) or '""'
    fence = "`" * (longest_run(plain, "`") + 1)
    pad = " " if "`" in (plain[0], plain[-1]) else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def link(words: object, url: str | None) -> str:
    """A link; only the words where the address is no web address."""
    if url is None or not re.fullmatch(r"https?://\S+", url):
        return text(words)
    return f"[{text(words)}]({quote(url, safe=_URL_SAFE)})"


def block(content: str, language: str = "") -> str:
    """A fenced block of code."""
    fence = "`" * max(3, longest_run(content, "`") + 1)
    return f"{fence}{language}\n{content.strip()}\n{fence}"


def table(columns: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already.

    Args:
        columns: a letter a column: `l` left, `r` right.
        headings: of the columns.
        rows: cells, as many as there are columns.
    """
    rule = ["---:" if side == "r" else "---" for side in columns]
    # A bar inside a code span would end the cell.
    safe = [[re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in row] for row in rows]
    lines = [headings, rule, *safe]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def one_line(value: object) -> str:
    """All white space and control characters as single blanks."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", " ", str(value)).split())


def longest_run(value: str, letter: str) -> int:
    """How often a letter stands in a row at most."""
    return max(map(len, re.findall(re.escape(letter) + "+", value)), default=0)
