"""What the miniature is asked to show, and whether it does: each claim with its figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Run = dict[str, Any]
DIS, THINOBJECT = "dis/validation", "thinobject/test"
LEAST_MIOU = 75.0
LEAST_GAIN = (3.0, 8.0)
MOST_COARSE_GAIN = 1.0
MOST_SECONDS = 180.0


@dataclass(frozen=True)
class Finding:
    """A claim; `shown` is None where the runs cannot tell."""

    claim: str
    shown: bool | None
    figures: str = ""


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


def _base(base: Run, runs: Sequence[Run]) -> Finding:
    iou, boundary_iou = base["pictures"]
    claim = f"the base is good at objects: mIoU of at least {LEAST_MIOU:g} on the held-out stand-in"
    sets = np.mean(list(base["sets"].values()), axis=0)
    return Finding(
        claim,
        iou >= LEAST_MIOU,
        f"{iou:.1f} / {boundary_iou:.1f} over its pictures, {sets[0]:.1f} / {sets[1]:.1f} over its "
        "sets",
    )


def _exact(base: Run, runs: Sequence[Run]) -> Finding:
    claim = (
        f"exact masks raise mIoU by {LEAST_GAIN[0]:g} and mBIoU by {LEAST_GAIN[1]:g}, on every "
        "seed (Table 6)"
    )
    gains = [_gain(run) for run in _of(runs, "hqseg")]
    if not gains:
        return Finding(claim, None)
    return Finding(
        claim,
        bool(np.all(np.array(gains) >= LEAST_GAIN)),
        f"mIoU {_signed([g[0] for g in gains])}; mBIoU {_signed([g[1] for g in gains])}",
    )


def _held_out(base: Run, runs: Sequence[Run]) -> Finding:
    claim = "the same on the held-out stand-in of the six sources, on every seed"
    gains = np.array(base.get("tokens", [])).reshape(-1, 2) - base["pictures"]
    if not len(gains):
        return Finding(claim, None)
    return Finding(
        claim,
        bool(np.all(gains >= LEAST_GAIN)),
        f"mIoU {_signed(gains[:, 0])}; mBIoU {_signed(gains[:, 1])}",
    )


def _seconds(base: Run, runs: Sequence[Run]) -> Finding:
    claim = f"a token is trained within {MOST_SECONDS / 60:g} minutes"
    seconds = [run["seconds"] for run in runs if run["seconds"] is not None]
    if not seconds:
        return Finding(claim, None)
    return Finding(
        claim, max(seconds) < MOST_SECONDS, f"{min(seconds):.0f} to {max(seconds):.0f} s"
    )


def _coarse(base: Run, runs: Sequence[Run]) -> Finding:
    claim = f"coarse masks do not raise mBIoU by more than {MOST_COARSE_GAIN:g} (Table 6)"
    gains = [float(_gain(run)[1]) for run in _of(runs, "sa1b")]
    if not gains:
        return Finding(claim, None)
    return Finding(claim, max(gains) <= MOST_COARSE_GAIN, f"mBIoU {_signed(gains)}")


def _without(arm: str, title: str, only: str) -> Callable[[Run, Sequence[Run]], Finding]:
    def find(base: Run, runs: Sequence[Run]) -> Finding:
        claim = (
            f"without {title}, mBIoU on pictures like it falls and still beats the base, on every "
            "seed (Table 7)"
        )
        whole = {run["seed"]: run for run in _of(runs, "hqseg")}
        pairs = [(whole[run["seed"]], run) for run in _of(runs, arm) if run["seed"] in whole]
        if not pairs:
            return Finding(claim, None)
        lost = [
            float((mean(less, "box", "hq", only) - mean(all_, "box", "hq", only))[1])
            for all_, less in pairs
        ]
        over = [float(_gain(less, only=only)[1]) for _, less in pairs]
        return Finding(
            claim,
            max(lost) < 0 < min(over),
            f"against all sources {_signed(lost)}; against the base {_signed(over)}",
        )

    return find


def _noise(amount: str) -> Callable[[Run, Sequence[Run]], Finding]:
    def find(base: Run, runs: Sequence[Run]) -> Finding:
        claim = f"boxes off by {amount} cost the token less mIoU than the base (Table 4)"
        noisy = f"box, noise {amount}"
        own = [run for run in _of(runs, "hqseg") if noisy in run["figures"]]
        if not own:
            return Finding(claim, None)
        lost = {
            method: [float((mean(r, noisy, method) - mean(r, "box", method))[0]) for r in own]
            for method in ("sam", "hq")
        }
        ahead = [float(_gain(run, noisy)[0]) for run in own]
        return Finding(
            claim,
            all(h > s for h, s in zip(lost["hq"], lost["sam"], strict=True)),
            f"token {_signed(lost['hq'])}; base {_signed(lost['sam'])}; token over base there "
            f"{_signed(ahead)}",
        )

    return find


def _points(base: Run, runs: Sequence[Run]) -> Finding:
    claim = "with 1, 3, 5 and 10 points its mBIoU is higher, too"
    own = _of(runs, "hqseg")
    tried = [p for p in (own[0]["figures"] if own else ()) if p.startswith("points:")]
    kinds = [p for p in tried if all(p in run["figures"] for run in own)]
    if not kinds:
        return Finding(claim, None)
    gains = {kind: [float(_gain(run, kind)[1]) for run in own] for kind in kinds}
    return Finding(
        claim,
        min(min(values) for values in gains.values()) > 0,
        "; ".join(f"{kind.removeprefix('points:')}: {_signed(v)}" for kind, v in gains.items()),
    )


_ALL: tuple[Callable[[Run, Sequence[Run]], Finding], ...] = (
    _base,
    _exact,
    _held_out,
    _seconds,
    _coarse,
    _without("no-dis", "DIS", DIS),
    _without("no-thinobject", "ThinObject", THINOBJECT),
    _noise("0.2"),
    _noise("0.4"),
    _points,
)


def findings(base: Run, runs: Sequence[Run]) -> list[Finding]:
    """All claims.

    Args:
        base: {"pictures": (mIoU, mBIoU), "sets": {name: (mIoU, mBIoU)}, "tokens": [(mIoU, mBIoU),
            a seed each]}, of the held-out stand-in, in per cent.
        runs: of all arms; those of the same seed are compared with one another.
    """
    return [about(base, runs) for about in _ALL]


def to_markdown(found: Sequence[Finding]) -> list[str]:
    """As lines of a table, seeds in their order."""
    words = {True: "yes", False: "**no**", None: "not tried"}
    return [
        "| claim | shown | seed by seed |",
        "|---|---|---|",
        *(f"| {one.claim} | {words[one.shown]} | {one.figures} |" for one in found),
    ]
