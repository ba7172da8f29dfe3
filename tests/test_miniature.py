"""The miniature experiment: its arms, its coarse stand-in, and what is told of its runs."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.miniature import ARMS, PROMPTS, make_coarse
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
