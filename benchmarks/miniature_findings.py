"""What the paper found, and whether the miniature shows it: each claim with its figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Run = dict[str, Any]
NOISY = "box, noise 0.4"
DIS = "dis/validation"


@dataclass(frozen=True)
class Finding:
    """A claim of the paper; `shown` is None where the runs cannot tell."""

    claim: str
    shown: bool | None
    figures: str


def mean(run: Run, prompt: str, method: str, only: str | None = None) -> np.ndarray:
    """Of the four sets, or of one: float64 (2,), mIoU and mBIoU in per cent."""
    sets = run["figures"][prompt]
    return np.mean([sets[name][method] for name in sets if only in (None, name)], axis=0)


def _gain(run: Run, prompt: str = "box", only: str | None = None) -> np.ndarray:
    return mean(run, prompt, "hq", only) - mean(run, prompt, "sam", only)


def _of(runs: Sequence[Run], arm: str) -> list[Run]:
    return sorted((run for run in runs if run["arm"]["name"] == arm), key=lambda run: run["seed"])


def _signed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:+.1f}" for value in values)


def _exact(runs: Sequence[Run]) -> Finding:
    gains = [_gain(run) for run in _of(runs, "hqseg")]
    return Finding(
        "exact masks raise IoU and boundary IoU, on every seed (Table 6)",
        bool(gains) and bool(np.all(np.array(gains) > 0)) if gains else None,
        f"mIoU {_signed([g[0] for g in gains])}; mBIoU {_signed([g[1] for g in gains])}",
    )


def _coarse(runs: Sequence[Run]) -> Finding:
    gains = [float(_gain(run)[1]) for run in _of(runs, "sa1b")]
    return Finding(
        "coarse masks do not: mBIoU rises by no more than 1 (Table 6)",
        max(gains) <= 1 if gains else None,
        f"mBIoU {_signed(gains)}",
    )


def _without_dis(runs: Sequence[Run]) -> Finding:
    pairs = list(zip(_of(runs, "hqseg"), _of(runs, "no-dis"), strict=False))
    lost = [float(mean(b, "box", "hq", DIS)[1] - mean(a, "box", "hq", DIS)[1]) for a, b in pairs]
    over = [float(_gain(run, only=DIS)[1]) for _, run in pairs]
    return Finding(
        "without DIS, boundary IoU on DIS falls and still beats SAM's (Table 7)",
        float(np.mean(lost)) < 0 < min(over) if pairs else None,
        f"against all sources {_signed(lost)}; against the base {_signed(over)}",
    )


def _noise(runs: Sequence[Run]) -> Finding:
    own = [run for run in _of(runs, "hqseg") if NOISY in run["figures"]]
    lost = {
        method: [float((mean(r, NOISY, method) - mean(r, "box", method))[0]) for r in own]
        for method in ("sam", "hq")
    }
    ahead = [float(_gain(run, NOISY)[0]) for run in own]
    return Finding(
        "boxes that are off by 0.4 cost the token less mIoU than the base (Table 4)",
        all(h > s for h, s in zip(lost["hq"], lost["sam"], strict=True)) if own else None,
        f"token {_signed(lost['hq'])}; base {_signed(lost['sam'])}; token over base there "
        f"{_signed(ahead)}",
    )


def _points(runs: Sequence[Run]) -> Finding:
    own = _of(runs, "hqseg")
    kinds = [p for p in (own[0]["figures"] if own else ()) if p.startswith("points:")]
    gains = {kind: [float(_gain(run, kind)[1]) for run in own] for kind in kinds}
    return Finding(
        "with 1, 3, 5 and 10 points its boundary IoU is higher, too",
        min(min(values) for values in gains.values()) > 0 if gains else None,
        "; ".join(f"{kind.removeprefix('points:')}: {_signed(v)}" for kind, v in gains.items()),
    )


_ALL: tuple[Callable[[Sequence[Run]], Finding], ...] = (
    _exact, _coarse, _without_dis, _noise, _points,
)  # fmt: skip


def findings(runs: Sequence[Run]) -> list[Finding]:
    """All claims; runs of the same seed are compared with one another."""
    found = [about(runs) for about in _ALL]
    return [one if one.shown is not None else replace(one, figures="") for one in found]


def to_markdown(found: Sequence[Finding]) -> list[str]:
    """As lines of a table, seeds in their order."""
    words = {True: "yes", False: "no", None: "not tried"}
    return [
        "| the paper's finding | shown | seed by seed |",
        "|---|---|---|",
        *(f"| {one.claim} | {words[one.shown]} | {one.figures} |" for one in found),
    ]
