"""Keeps what a pretraining told of itself: `docs/vit_micro-log.jsonl` and `docs/vit_micro.svg`.

python -m training.pretrain --out runs/pretrain ...
python docs/make_pretraining_log.py runs/pretrain docs/
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

EVERY = 100
"""Of the lines about steps every so many steps' is kept; of evaluations all are."""

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 720, 300, 44, 34, 40
COLOURS = {"drawn scenes": "#3b6fb6", "held-out stand-in": "#b65c3b", "box filled in": "#888888"}
Line = dict[str, Any]


def kept(lines: Sequence[Line]) -> list[Line]:
    """The lines that stay."""
    return [line for line in lines if "loss" not in line or line["step"] % EVERY == 0]


def curves(lines: Sequence[Line]) -> dict[str, list[tuple[int, float]]]:
    """Mean IoU in per cent by step: of scenes, of the stand-in (means over its sets), of boxes."""
    found: dict[str, list[tuple[int, float]]] = {name: [] for name in COLOURS}
    sets: dict[int, list[Line]] = {}
    for line in lines:
        if "scenes" in line:
            found["drawn scenes"].append((line["step"], 100 * line["scenes"]["iou"]))
        elif "set" in line:
            sets.setdefault(line["step"], []).append(line)
    for step, parts in sets.items():
        for name, key in (("held-out stand-in", "iou"), ("box filled in", "box_iou")):
            found[name].append((step, 100 * float(np.mean([part[key] for part in parts]))))
    return {name: points for name, points in found.items() if points}


def to_svg(lines: Sequence[Line]) -> str:
    """The curves as a picture."""
    drawn = curves(lines)
    last = max(step for points in drawn.values() for step, _ in points)

    def at(step: float, value: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - 150) * step / last
        return x, TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / 100)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="18">mean IoU of the base, prompted with boxes, by step</text>',
    ]
    for level in range(0, 101, 20):
        (x0, y), (x1, _) = at(0, level), at(last, level)
        parts.append(f'<line x1="{x0}" x2="{x1:.0f}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="8" y="{y + 4:.1f}">{level}</text>')
    for step in (0, last // 2, last):
        x, y = at(step, 0)
        parts.append(f'<text x="{x:.0f}" y="{y + 18:.0f}" text-anchor="middle">{step:,}</text>')
    lowest = float(HEIGHT)
    for name, points in sorted(drawn.items(), key=lambda one: one[1][-1][1]):
        path = " ".join("{:.1f},{:.1f}".format(*at(*point)) for point in points)
        x, y = at(*points[-1])
        lowest = y = min(y, lowest - 15)  # no name covers the one below it
        colour = COLOURS[name]
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        told = f"{name} {points[-1][1]:.1f}"
        parts.append(f'<text x="{x + 6:.0f}" y="{y + 4:.1f}" fill="{colour}">{told}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main(run: Path, docs: Path) -> None:
    """Writes both files."""
    text = (run / "log.jsonl").read_text(encoding="utf-8")
    lines = kept([json.loads(line) for line in text.splitlines()])
    target = docs / "vit_micro-log.jsonl"
    target.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (docs / "vit_micro.svg").write_text(to_svg(lines), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3 or not (Path(sys.argv[1]) / "log.jsonl").is_file():
        sys.exit("usage: python docs/make_pretraining_log.py RUN DOCS, RUN with a log.jsonl")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
