"""The evidence of an overlap report as one self-contained HTML page, for people to judge."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import hqdata
from hqdata.files import write_whole
from hqdata.overlap.removal import keys_to_remove
from hqdata.overlap.report import OverlapReport, Pair
from hqdata.report import words
from hqdata.report.overlap_pairs import (
    KINDS,
    MAX_PAIRS,
    choices,
    data_block,
    facts,
    first_pairs,
    group_pairs,
    make_row,
    set_in_words,
    visible,
)
from hqdata.report.overlap_pictures import WITHIN, Album, Pictures

__all__ = ["Pictures", "write_overlap_page"]

PAGE_BUDGET = 24_000_000
"""Bytes a page may take: as much as a browser opens from disk in about a second."""

_BYTES_PER_PAIR = 900
"""What a pair takes on the page beside its own texts and its pictures."""

_LISTED = 200
"""Names shown of what is unread or removed."""


def write_overlap_page(
    report: OverlapReport,
    pictures: Pictures,
    out: Path,
    *,
    report_path: Path,
    build_command: str,
) -> None:
    """Writes the page, whole or not at all. The same arguments give the same bytes.

    The page stays below about 24 MB: with many pairs their pictures get smaller, then the last
    ones are left out.

    Args:
        report: what was found.
        pictures: where the pictures of the pairs are to be had.
        out: the HTML file; its folder has to be there.
        report_path: the `overlap.json` that holds the same; its name is shown.
        build_command: the command that builds the data set without the confirmed pairs' pictures.

    Raises:
        OSError: the file cannot be written.
    """
    groups = group_pairs(report.pairs)
    shown = first_pairs(groups, MAX_PAIRS)
    pairs = [pair for group in shown for _, pair in group.pairs]
    album = Album(report, pairs, pictures, _budget(pairs))
    removed = keys_to_remove(report)
    rows = [make_row(pair, album, removed) for pair in pairs]
    css, script = _resource("page.css") + _resource("overlap.css"), _resource("overlap.js")
    page = _template().render(
        report=report,
        version=hqdata.__version__,
        css=Markup(css),  # our own files, nothing of the data
        script=Markup(script),
        css_hash=_content_hash(css),
        script_hash=_content_hash(script),
        groups=shown,
        num_hidden=len(report.pairs) - len(pairs),
        listed=_LISTED,
        counts=_counts(report),
        num_going=len(removed),
        choices=choices(pairs),
        kinds=KINDS,
        within=WITHIN,
        report_name=report_path.name,
        build_command=build_command,
        data=data_block(
            {
                "pairs": rows,
                "groups": [(len(group.pairs), group.num_pictures) for group in shown],
                "kinds": KINDS,
                "command": visible(build_command),
                "within": WITHIN,
            }
        ),
        # Base64 has nothing that needs escaping, and 20 MB of it are better not searched.
        picture_table=Markup("[" + ",".join(f'"{text}"' for text in album.table) + "]"),
    )
    write_whole(out, page.encode("utf-8", "backslashreplace"))


def _budget(pairs: Sequence[Pair]) -> int:
    """What the words of the pairs, for the script and for those without it, leave to pictures."""
    texts = data_block([(pair.train, pair.evaluation.name, pair.reason) for pair in pairs])
    return PAGE_BUDGET - 200_000 - _BYTES_PER_PAIR * len(pairs) - 3 * len(texts)


def _counts(report: OverlapReport) -> dict[str, int]:
    """The figures of the verdict."""
    confirmed = report.confirmed()
    across = [pair for pair in confirmed if pair.evaluation.set != WITHIN]
    return {
        "confirmed": len(confirmed),
        "hints": len(report.pairs) - len(confirmed),
        "across": len(across),
        "inside": len(confirmed) - len(across),
        "train": len({pair.train for pair in across}),
        "evaluation": len({(p.evaluation.set, p.evaluation.name) for p in across}),
        "images": sum(found.num_images for found in report.evaluation),
        "held": sum(recall.held for recall in report.self_test.values()),
    }


def _content_hash(text: str) -> str:
    """How the page's content security policy names a script or style that may take effect."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _resource(name: str) -> str:
    return files("hqdata.report").joinpath(name).read_text(encoding="utf-8")


def _template() -> Any:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_show,
    )
    filters: dict[str, Callable[..., object]] = {
        "count": words.count,
        "percent": words.percent,
        "facts": facts,
        "set_in_words": set_in_words,
        "number": _number,
        "plural": _plural,
        "kind": _kind,
    }
    environment.filters.update(filters)
    return environment.from_string(_resource("overlap.html.j2"))


def _show(value: object) -> object:
    """Every text from outside passes here on its way into the page."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _plural(number: int, one: str, many: str | None = None) -> str:
    """A count with its noun: `1 pair`, `2,000 pairs`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _kind(pair: Pair) -> str:
    return KINDS[pair.kind]
