"""Table and plot of the miniature experiment, beside what is known of the paper's figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.miniature_findings import findings, mean
from benchmarks.miniature_findings import to_markdown as findings_table
from hqdata.files import write_whole
from training.paper import MEAN, MEAN_SA_1B_44K, TITLES

PAPER = {
    "base": (100 * MEAN.sam.miou, 100 * MEAN.sam.mbiou),
    "sa1b": (100 * MEAN_SA_1B_44K.miou, 100 * MEAN_SA_1B_44K.mbiou),
    "hqseg": (100 * MEAN.hq.miou, 100 * MEAN.hq.mbiou),
}
"""Means over the four sets in Table 6, ViT-L; of other rows nothing certain is at hand."""

Figures = np.ndarray
"""float64 (runs, 2): mIoU and mBIoU, in per cent."""


def _rows(runs: Sequence[dict[str, Any]]) -> dict[str, tuple[str, list[dict[str, Any]], str]]:
    """Arm -> title, its runs, and which mask of theirs counts."""
    rows: dict[str, tuple[str, list[dict[str, Any]], str]] = {
        "base": ("base", list(runs)[:1], "sam")
    }
    for run in runs:
        arm = run["arm"]
        rows.setdefault(arm["name"], (arm["title"], [], "hq"))[1].append(run)
    return rows


def _told(values: Figures) -> str:
    middle = values.mean(0)
    if len(values) == 1:
        return f"{middle[0]:.1f} / {middle[1]:.1f}"
    low, high = values.min(0), values.max(0)
    spread = f"{low[0]:.1f}–{high[0]:.1f} / {low[1]:.1f}–{high[1]:.1f}"
    return f"{middle[0]:.1f} / {middle[1]:.1f} ({spread})"


def to_markdown(runs: Sequence[dict[str, Any]]) -> str:
    """Three tables: means and sets with boxes, and all prompts."""
    rows = _rows(runs)
    names = list(runs[0]["figures"]["box"])
    lines = [
        "mIoU / mBIoU in per cent, of the HQ token's mask (base: SAM's); mean over runs, in",
        "parentheses the lowest and the highest run.",
        "",
        "| | mean of four sets | paper, ViT-L | " + " | ".join(TITLES[n] + "-like" for n in names)
        + " |",
        "|---|---|---|" + "---|" * len(names),
    ]  # fmt: skip
    for arm, (title, own, method) in rows.items():
        paper = f"{PAPER[arm][0]:.1f} / {PAPER[arm][1]:.1f}" if arm in PAPER else ""
        overall = _told(np.array([mean(run, "box", method) for run in own]))
        sets = [_told(np.array([mean(run, "box", method, name) for run in own])) for name in names]
        lines.append(f"| {title} | {overall} | {paper} | {' | '.join(sets)} |")
    prompts = list(runs[0]["figures"])
    if len(prompts) > 1:
        lines += ["", "| mean of four sets | " + " | ".join(prompts) + " |"]
        lines.append("|---|" + "---|" * len(prompts))
        for title, own, method in rows.values():
            told = [_told(np.array([mean(run, p, method) for run in own])) for p in prompts]
            lines.append(f"| {title} | {' | '.join(told)} |")
    seconds = [run["seconds"] for run in runs]
    lines += ["", *findings_table(findings(runs))]
    lines += ["", f"A token's training took {min(seconds):.0f} to {max(seconds):.0f} s."]
    return "\n".join(lines) + "\n"


def to_svg(runs: Sequence[dict[str, Any]]) -> str:
    """Bars of mean mBIoU with boxes; a line from the lowest to the highest run; paper's in grey."""
    rows = _rows(runs)
    wide, high, left, top = 120, 260, 40, 30
    width = left + wide * len(rows) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{high + top + 60}" '
        'font-family="sans-serif" font-size="11">',
        f'<text x="{left}" y="16">mBIoU, boxes, mean of four sets: blue ours, grey the paper '
        "(ViT-L, Table 6)</text>",
    ]
    for level in range(0, 101, 20):
        y = top + high * (1 - level / 100)
        parts.append(f'<line x1="{left}" x2="{width}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="4" y="{y + 4}">{level}</text>')
    for index, (arm, (title, own, method)) in enumerate(rows.items()):
        values = np.array([mean(run, "box", method)[1] for run in own])
        x = left + index * wide + 10
        parts += _bar(x, values.mean(), "#3b6fb6", top, high)
        middle, ends = x + 20, [top + high * (1 - v / 100) for v in (values.min(), values.max())]
        parts.append(
            f'<line x1="{middle}" x2="{middle}" y1="{ends[0]}" y2="{ends[1]}" stroke="#000"/>'
        )
        if arm in PAPER:
            parts += _bar(x + 46, PAPER[arm][1], "#aaaaaa", top, high)
        parts.append(f'<text x="{x}" y="{top + high + 16}">{title.split(" (")[0]}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(x: float, value: float, colour: str, top: float, high: float) -> list[str]:
    y = top + high * (1 - value / 100)
    return [
        f'<rect x="{x}" y="{y:.1f}" width="40" height="{high * value / 100:.1f}" fill="{colour}"/>',
        f'<text x="{x + 4}" y="{y - 4:.1f}">{value:.1f}</text>',
    ]


def write_report(out: Path, runs: Sequence[dict[str, Any]]) -> None:
    """Writes JSON, Markdown and SVG."""
    write_whole(out / "miniature.json", (json.dumps(list(runs), indent=1) + "\n").encode())
    write_whole(out / "miniature.md", to_markdown(runs).encode())
    write_whole(out / "miniature.svg", to_svg(runs).encode())
