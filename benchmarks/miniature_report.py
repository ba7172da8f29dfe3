"""Tables and plot of the miniature experiment, beside what is known of the paper's figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.miniature_findings import Run, findings, mean
from benchmarks.miniature_findings import to_markdown as findings_table
from hqdata.files import write_whole
from training.paper import BY_SET, MEAN, MEAN_SA_1B_44K, TITLES

PAPER = {
    "base": (100 * MEAN.sam.miou, 100 * MEAN.sam.mbiou),
    "sa1b": (100 * MEAN_SA_1B_44K.miou, 100 * MEAN_SA_1B_44K.mbiou),
    "hqseg": (100 * MEAN.hq.miou, 100 * MEAN.hq.mbiou),
}
"""Means over the four sets in Table 6, ViT-L."""

Figures = np.ndarray
"""float64 (runs, 2): mIoU and mBIoU, in per cent."""

_PLOTTED = {"base": ("#a86e00", "base"), "hqseg": ("#1c74ad", "+ exact masks")}


def _rows(runs: Sequence[Run]) -> dict[str, tuple[str, list[Run], str]]:
    """Arm -> title, its runs, and which mask of theirs counts."""
    rows: dict[str, tuple[str, list[Run], str]] = {"base": ("base", list(runs)[:1], "sam")}
    for run in runs:
        arm = run["arm"]
        rows.setdefault(arm["name"], (arm["title"], [], "hq"))[1].append(run)
    return rows


def _prompts(runs: Sequence[Run]) -> list[str]:
    """Those that every run was judged with."""
    return [p for p in runs[0]["figures"] if all(p in run["figures"] for run in runs)]


def _told(values: Figures) -> str:
    middle = values.mean(0)
    text = f"{middle[0]:.1f} / {middle[1]:.1f}"
    if len(values) == 1:
        return text
    low, high = values.min(0), values.max(0)
    return f"{text} [{low[0]:.1f}–{high[0]:.1f} / {low[1]:.1f}–{high[1]:.1f}]"


def _was_trained_on(arm: dict[str, Any] | None, name: str) -> bool:
    """Whether the training split of a set's family was in an arm."""
    family = name.partition("/")[0]
    excluded = arm["exclude"].split(",") if arm else []
    return arm is not None and family in ("dis", "thinobject") and family not in excluded


def _paper_of(arm: str, name: str | None = None) -> str:
    if name is None:
        return "{:.1f} / {:.1f}".format(*PAPER[arm]) if arm in PAPER else ""
    known = BY_SET.get(name)
    scores = {"base": known.sam, "hqseg": known.hq}.get(arm) if known else None
    return f" (paper {100 * scores.miou:.1f} / {100 * scores.mbiou:.1f})" if scores else ""


def to_markdown(base: Run, runs: Sequence[Run]) -> str:
    """Means with boxes, all prompts, sets, and what was asked."""
    rows, prompts = _rows(runs), _prompts(runs)
    lines = [
        "mIoU / mBIoU in per cent, of the HQ token's mask (base: SAM's), over the four sets. Means "
        f"over {max(len(own) for _, own, _ in rows.values())} seeds, in brackets the lowest and "
        "the highest.",
        "",
        "| | box | paper, ViT-L, Table 6 | steps |",
        "|---|---|---|---|",
    ]
    for arm, (title, own, method) in rows.items():
        overall = _told(np.array([mean(run, "box", method) for run in own]))
        steps = "" if arm == "base" else f"{own[0]['steps']:,}"
        lines.append(f"| {title} | {overall} | {_paper_of(arm)} | {steps} |")
    others = [prompt for prompt in prompts if prompt != "box"]
    if others:
        lines += ["", "| | " + " | ".join(others) + " |", "|---|" + "---|" * len(others)]
        for title, own, method in rows.values():
            told = [_told(np.array([mean(run, p, method) for run in own])) for p in others]
            lines.append(f"| {title} | {' | '.join(told)} |")
    return (
        "\n".join([*lines, "", *_by_set(base, rows), "", *findings_table(findings(base, runs))])
        + "\n"
    )


def _by_set(base: Run, rows: dict[str, tuple[str, list[Run], str]]) -> list[str]:
    names = list(rows["base"][1][0]["figures"]["box"])
    lines = [
        "Set by set, with boxes. In parentheses: its family's training split was trained on, as in "
        "the paper's Table 7.",
        "",
        "| | " + " | ".join(f"{TITLES[name]}-like" for name in names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for arm, (title, own, method) in rows.items():
        cells = []
        for name in names:
            told = _told(np.array([mean(run, "box", method, name) for run in own]))
            seen = _was_trained_on(None if arm == "base" else own[0]["arm"], name)
            cells.append((f"({told})" if seen else told) + _paper_of(arm, name))
        lines.append(f"| {title} | {' | '.join(cells)} |")
    for kind, figures in base.get("limits", {}).items():
        cells = ["{:.1f} / {:.1f}".format(*figures[name]) for name in names]
        lines.append(f"| *{kind} truth in a mask's cells* | {' | '.join(cells)} |")
    return lines


def to_svg(runs: Sequence[Run]) -> str:
    """Mean mBIoU: bars of the arms with boxes, and lines of base and token over the prompts."""
    bars, width = _bars(runs)
    prompts = _prompts(runs)
    lines = _lines(runs, prompts, width) if len(prompts) > 1 else []
    whole = width + (470 if lines else 0)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole} 350" width="{whole}" '
            'height="350" font-family="sans-serif" font-size="11">',
            f'<rect width="{whole}" height="350" fill="#ffffff" class="ground"/>',
            *bars,
            *lines,
            "</svg>\n",
        ]
    )


_TOP, _HIGH = 30, 260


def _y(value: float) -> float:
    return _TOP + _HIGH * (1 - value / 100)


def _grid(left: float, right: float) -> list[str]:
    parts = []
    for level in range(0, 101, 20):
        y = _y(level)
        parts.append(f'<line x1="{left}" x2="{right}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{level}</text>')
    return parts


def _bars(runs: Sequence[Run]) -> tuple[list[str], int]:
    rows = _rows(runs)
    wide, left = 108, 40
    width = left + wide * len(rows) + 10
    title = "mBIoU with boxes, mean of four sets: blue ours, grey the paper’s (ViT-L, Table 6)"
    parts = [f'<text x="{left}" y="16">{title}</text>', *_grid(left, width)]
    for index, (arm, (name, own, method)) in enumerate(rows.items()):
        values = np.array([mean(run, "box", method)[1] for run in own])
        x = left + index * wide + 10
        parts += _bar(x, float(values.mean()), "#3b6fb6", _spread(x + 20, values))
        if arm in PAPER:
            parts += _bar(x + 46, PAPER[arm][1], "#aaaaaa", "")
        parts.append(f'<text x="{x}" y="{_TOP + _HIGH + 16}">{name.split(" (")[0]}</text>')
    return parts, width


def _bar(x: float, value: float, colour: str, spread: str) -> list[str]:
    y, height = _y(value), _HIGH * value / 100
    return [
        f'<rect x="{x}" y="{y:.1f}" width="40" height="{height:.1f}" fill="{colour}"/>',
        spread,
        f'<text x="{x + 20}" y="{y - 8:.1f}" text-anchor="middle">{value:.1f}</text>',
    ]


def _spread(x: float, values: np.ndarray) -> str:
    ends = _y(values.min()), _y(values.max())
    return f'<line x1="{x}" x2="{x}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}" stroke="#000"/>'


def _lines(runs: Sequence[Run], prompts: Sequence[str], start: float) -> list[str]:
    rows = _rows(runs)
    left, right = start + 50, start + 390
    parts = [f'<text x="{left}" y="16">mBIoU by prompt, mean of four sets</text>']
    parts += _grid(left, right)
    places = np.linspace(left + 20, right - 20, len(prompts))
    for x, prompt in zip(places, prompts, strict=True):
        short = prompt.replace("box, noise ", "±").replace("points:", "")
        parts.append(
            f'<text x="{x:.0f}" y="{_TOP + _HIGH + 16}" text-anchor="middle">{short}</text>'
        )
    parts.append(
        f'<text x="{(left + right) / 2}" y="{_TOP + _HIGH + 32}" text-anchor="middle">box, box off '
        "by, number of points</text>"
    )
    for arm, (colour, name) in _PLOTTED.items():
        if arm not in rows:
            continue
        _, own, method = rows[arm]
        values = np.array([[mean(run, p, method)[1] for run in own] for p in prompts])
        path = " ".join(f"{x:.0f},{_y(v):.1f}" for x, v in zip(places, values.mean(1), strict=True))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [_spread(x, v) for x, v in zip(places, values, strict=True)]
        y = _y(float(values[-1].mean())) + 4
        parts.append(f'<text x="{right - 12}" y="{y:.0f}" fill="{colour}">{name}</text>')
    return parts


def write_report(out: Path, base: Run, runs: Sequence[Run]) -> None:
    """Writes JSON, Markdown and SVG."""
    whole = {"base": base, "runs": list(runs)}
    write_whole(out / "miniature.json", (json.dumps(whole, indent=1) + "\n").encode())
    write_whole(out / "miniature.md", to_markdown(base, runs).encode())
    write_whole(out / "miniature.svg", to_svg(runs).encode())
