"""The miniature experiment: its arms, its coarse stand-in, and what is told of its runs."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.miniature import ARMS, PROMPTS, make_coarse
from benchmarks.miniature_findings import findings
from benchmarks.miniature_report import to_markdown, to_svg, write_report
from hqdata.mini import make_mini

SETS = ("coift/all", "dis/validation", "hrsod/all", "thinobject/test")


def made_up(arm: str, seed: int, hq: float) -> dict[str, Any]:
    titles = {one.name: one.title for one in ARMS}
    figures = {
        str(prompt): {name: {"sam": [60.0, 40.0], "hq": [hq, hq - 10]} for name in SETS}
        for prompt in PROMPTS
    }
    about = {"name": arm, "title": titles[arm], "is_coarse": False, "exclude": ""}
    return {"arm": about, "seed": seed, "seconds": 100.0 + seed, "figures": figures}


RUNS = [made_up("sa1b", 0, 61.0), made_up("hqseg", 0, 70.0), made_up("hqseg", 1, 74.0)]


def test_the_arms_are_those_of_tables_6_and_7() -> None:
    assert [(arm.name, arm.is_coarse, arm.exclude) for arm in ARMS] == [
        ("sa1b", True, ""),
        ("hqseg", False, ""),
        ("no-dis", False, "dis"),
        ("no-thinobject", False, "thinobject"),
        ("no-dis-no-thinobject", False, "dis,thinobject"),
    ]
    assert [str(prompt) for prompt in PROMPTS] == [
        "box", "box, noise 0.2", "box, noise 0.4", "points:1", "points:3", "points:5", "points:10",
    ]  # fmt: skip


def test_the_table_has_means_spread_and_the_paper_where_it_is_known() -> None:
    text = to_markdown(RUNS)
    assert "| base | 60.0 / 40.0 | 79.5 / 71.1 |" in text
    assert "72.0 / 62.0 (70.0–74.0 / 60.0–64.0) | 89.1 / 81.8" in text
    assert "61.0 / 51.0 | 78.3 / 70.1" in text
    assert "took 100 to 101 s" in text


def test_the_plot_is_whole_and_in_scale(tmp_path: Path) -> None:
    root = ET.fromstring(to_svg(RUNS))
    bars = [node for node in root.iter() if node.tag.endswith("rect")]
    assert len(bars) == 3 + 3  # base, two arms, and the paper's beside each
    heights = sorted(float(bar.get("height", "0")) for bar in bars)
    assert heights[-1] == pytest.approx(260 * 0.818, abs=0.1)
    assert heights[0] == pytest.approx(260 * 0.40, abs=0.1)
    write_report(tmp_path, RUNS)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".svg"}


def shown(runs: list[dict[str, Any]]) -> list[bool | None]:
    return [one.shown for one in findings(runs)]


def test_what_the_paper_found_is_held_against_the_runs_seed_by_seed() -> None:
    runs = deepcopy([*RUNS[1:], made_up("sa1b", 0, 50.5)])
    for run in runs:
        for figures in run["figures"]["box, noise 0.4"].values():
            figures["sam"] = [48.0, 30.0]  # 12 less than with boxes that fit
    exact, coarse, without, noise, points = findings(runs)
    assert exact.figures == "mIoU +10.0, +14.0; mBIoU +20.0, +24.0"
    assert coarse.figures == "mBIoU +0.5"
    assert noise.figures.startswith("token +0.0, +0.0; base -12.0, -12.0")
    assert points.figures.startswith("1: +20.0, +24.0; 3: ")
    assert shown(runs) == [True, True, None, True, True]
    assert (without.shown, without.figures) == (None, "")


def test_a_finding_that_one_seed_lacks_is_not_shown() -> None:
    assert shown([*RUNS, made_up("hqseg", 2, 49.0)])[0] is False
    assert shown(RUNS)[1] is False  # its mBIoU is 11 over the base
    assert shown([*RUNS, made_up("no-dis", 0, 69.0), made_up("no-dis", 1, 73.0)])[2] is True
    assert shown([*RUNS, made_up("no-dis", 0, 71.0), made_up("no-dis", 1, 75.0)])[2] is False
    assert shown(RUNS)[3] is False  # both lose the same


@pytest.mark.slow
def test_the_coarse_stand_in_has_the_same_pictures_and_poorer_masks(tmp_path: Path) -> None:
    exact, coarse = tmp_path / "exact", tmp_path / "coarse"
    make_mini(exact, scale="small", seed=0, workers=1, sets=("thinobject",))
    make_coarse(exact, coarse, sets=("thinobject",))
    masks = sorted(exact.glob("ThinObject5K/masks/*.png"))
    assert len(masks) >= 24
    changed = 0
    for mask in masks:
        image = mask.relative_to(exact).parent.parent / "images" / f"{mask.stem}.jpg"
        assert (coarse / image).read_bytes() == (exact / image).read_bytes()
        one, other = (
            cv2.imread(str(root / mask.relative_to(exact)), cv2.IMREAD_GRAYSCALE)
            for root in (exact, coarse)
        )
        assert set(np.unique(other)) <= {0, 255}
        changed += bool(((one > 128) != (other > 128)).mean() > 0.001)
    assert changed > len(masks) / 2
