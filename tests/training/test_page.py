"""The page of a run: complete, self-contained, and drawn from whatever rows there are."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.evaluations import result
from training.page import PageData, render_page, write_page
from training.results import make_results
from training.run_chart import curves, draw_curves

ROWS = [
    {
        "kind": "step", "step": step, "epoch": 1, "loss": 1 / step + 0.3, "bce": 0.1, "dice": 0.2,
        "lr": 1e-3 if step < 800 else 1e-4, "images_per_second": 12.5,
    }
    for step in range(1, 1001)
]  # fmt: skip
RESULTS = make_results(
    result(dis_validation=(0.5, 0.8), coift_all=(0.8, 0.75)),
    model="vit_l",
    weights="last.safetensors",
    trained_on=("dis/train",),
    dataset="evaluation",
    dataset_digest="0" * 64,
    prompt="box",
    precision="fp32",
)


def data(**changes: Any) -> PageData:
    values: dict[str, Any] = {
        "title": "hq-l",
        "model": "vit_l",
        "sources": [("dis/train", 3000), ("duts/train", 10553)],
        "facts": [("seed", "7")],
        "rows": ROWS,
        "results": RESULTS,
        "pictures": [("after epoch 1", b"\x89PNG")],
        "commands": ["python -m training.predict photo.jpg"],
    }
    return PageData(**{**values, **changes})


class Balanced(HTMLParser):
    """Fails on an element that is closed by another."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"results": None},
        {"rows": []},
        {"pictures": []},
        {"sources": [], "facts": (), "commands": (), "rows": [], "results": None, "pictures": ()},
    ],
    ids=["everything", "no results", "no rows", "no pictures", "nothing"],
)
def test_the_page_is_whole_whatever_is_missing_and_loads_nothing(changes: dict[str, Any]) -> None:
    parsed = Balanced(render_page(data(**changes)))
    assert parsed.open == []
    assert all(a.startswith(("data:", "#")) for a in parsed.addresses)


def test_links_lead_to_sections_that_are_there() -> None:
    for changes in ({}, {"results": None, "rows": []}):
        page = render_page(data(**changes))
        targets = re.findall(r'href="#(\w+)"', page)
        assert targets
        assert set(targets) == set(re.findall(r'<section id="(\w+)"', page))


def test_it_shows_figures_composition_and_notes() -> None:
    page = render_page(data())
    for text in ("(80.0 / 40.0)", "75.0 / 37.5", "+30.0 / +15.0", "13,553", "10,553", "dis-000"):
        assert text in page
    assert "(78.6 / 70.4)" in page  # the paper's
    assert "In parentheses" in page
    assert "data:image/png;base64,iVBORw==" in page


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    page = render_page(data(title="<script>alert(1)</script>", facts=[("a", "<b>")]))
    assert "<script>" not in page
    assert "<b>" not in page
    write_page(tmp_path / "index.html", data())
    assert (tmp_path / "index.html").read_text("utf-8") == render_page(data())


class TestCurves:
    def test_many_steps_become_means_of_stretches(self) -> None:
        loss, bce, dice = curves(ROWS, most=100)
        assert [len(c.values) for c in (loss, bce, dice)] == [100, 100, 100]
        assert loss.values[0] == pytest.approx(sum(1 / s + 0.3 for s in range(1, 11)) / 10)
        assert bce.values == pytest.approx([0.1] * 100)

    def test_a_new_learning_rate_is_marked(self) -> None:
        chart = draw_curves(ROWS)
        assert chart.count('class="change"') == 1
        assert "lr 0.0001" in chart
        assert draw_curves(ROWS[:700]).count('class="change"') == 0

    def test_rows_without_figures_are_passed_over(self) -> None:
        rows = [{"kind": "evaluation", "step": 5}, {"step": 6, "loss": math.nan}, {"step": 7}]
        assert draw_curves(rows) == draw_curves([]) == ""
        assert draw_curves([*rows, ROWS[0]]) == draw_curves(ROWS[:1])

    @given(
        st.lists(
            st.fixed_dictionaries(
                {"step": st.integers(1, 10**7), "loss": st.floats(0, 1e6)},
                optional={"bce": st.floats(0, 10), "lr": st.sampled_from([1e-3, 1e-4])},
            ),
            min_size=1,
            max_size=30,
        )
    )
    def test_every_point_lies_within_the_picture(self, rows: list[dict[str, float]]) -> None:
        chart = draw_curves(rows)
        for points in re.findall(r'points="([^"]*)"', chart):
            for point in points.split():
                x, y = map(float, point.split(","))
                assert 0 <= x <= 720
                assert 0 <= y <= 270
        assert "nan" not in chart
        assert "inf" not in chart
