"""The report: counts and figures against an independent computation, and a page that is one file,
loads nothing, escapes what it shows, and is the same every time.
"""

from __future__ import annotations

import dataclasses
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from hqdata.build.run import build
from hqdata.errors import DatasetError
from hqdata.mini import make_mini
from hqdata.problems import Problem, ProblemKind
from hqdata.recipe import Recipe, RecipeSource
from hqdata.report import words
from hqdata.report.charts import draw
from hqdata.report.histograms import histograms
from hqdata.report.page import write_page
from hqdata.report.stats import Summary, summarise, table_5
from hqdata.report.table import render_table
from hqdata.report.thumbs import choose_examples, make_thumbnail
from hqdata.resolve import resolve
from hqdata.shards.dataset import Dataset, SampleInfo, SplitCounts
from support.tiny_shards import build_sampled

HOSTILE = '<script>alert(1)<script>"><img src=x onerror=alert(2)>'
MISSING = Problem(
    "mine", "all", "m/</td><script>alert(3)</script>.jpg", "", ProblemKind.TOO_LARGE, "<b>x</b>"
)


def rectangle(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """A mask of (width, height) with (x, y, width, height) boxes set."""
    mask = np.zeros(size[::-1], np.uint8)
    for x, y, w, h in boxes:
        mask[y : y + h, x : x + w] = 255
    return mask


def save(folder: Path, stem: str, mask: NDArray[np.uint8], suffix: str = ".jpg") -> None:
    """Writes <folder>/images/<stem><suffix> and <folder>/masks/<stem>.png."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(mask.size)
    pixels = rng.integers(0, 256, (*mask.shape, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "images" / f"{stem}{suffix}")
    Image.fromarray(mask).save(folder / "masks" / f"{stem}.png")


def make_own(root: Path, image_field: str = "jpg") -> tuple[Dataset, tuple[Problem, ...]]:
    """`mine`: 4 pairs of 5 expected, one image converted, one mask 0/1; `bars`: 3 rectangles."""
    mine, bars = root / "data" / "mine", root / "data" / "bars"
    save(mine, HOSTILE, rectangle((60, 40), (5, 5, 20, 10), (40, 20, 10, 10)))
    soft = rectangle((64, 64), (8, 8, 40, 40))
    soft[8:48, 8] = np.linspace(40, 215, 40)  # an edge of many levels
    save(mine, "soft", soft)
    save(mine, "png", rectangle((30, 50), (3, 3, 9, 30)), ".png")
    save(mine, "one", rectangle((50, 30), (3, 3, 9, 9)) // 255)
    save(mine, "lonely", rectangle((50, 30), (3, 3, 9, 9)))
    (mine / "masks" / "lonely.png").unlink()
    for number, size in enumerate(((40, 2), (40, 8), (20, 20))):
        save(bars, f"bar{number}", rectangle((100 + number, 100), (10, 10, *size)))
    sources = (
        RecipeSource(source="mine", images="mine/images", masks="mine/masks", expect=5),
        RecipeSource(
            source="bars", images="bars/images", masks="bars/masks", expect="any", licence="CC0-1.0"
        ),
    )
    recipe = Recipe(name="own", sources=sources, image_field=image_field, seed=1)
    result = build(resolve(recipe), root / "data", root / "out")
    return Dataset.open(root / "out"), result.problems


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, tuple[Problem, ...]]:
    return make_own(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two of the six sources, from the stand-in."""
    root = tmp_path_factory.mktemp("known")
    make_mini(root / "data", workers=1, sets=("fss", "ecssd"))
    sources = (
        RecipeSource(source="fss", expect={"all": 40}),
        RecipeSource(source="ecssd", expect={"all": 16}),
    )
    build(resolve(Recipe(name="known", sources=sources)), root / "data", root / "out")
    return Dataset.open(root / "out")


def decoded(dataset: Dataset, source: str) -> list[NDArray[np.uint8]]:
    rows = [row for row in dataset.samples.to_pylist() if row["source"] == source]
    assert rows
    return [np.asarray(Image.open(io.BytesIO(dataset.read_member(row, "mask")))) for row in rows]


def page_of(dataset: Dataset, problems: tuple[Problem, ...], out: Path, **options: Any) -> str:
    write_page(dataset, summarise(dataset), problems, out, **options)
    return out.read_text(encoding="utf-8")


def text_of(summary: Summary) -> list[str]:
    console = Console(width=100, file=io.StringIO(), force_terminal=False)
    console.print(render_table(summary))
    return str(console.file.getvalue()).splitlines()  # type: ignore[attr-defined]


# Figures


def test_table_5_is_that_of_the_paper() -> None:
    counts = table_5()
    assert sum(counts.values()) == 44_320
    assert counts[("duts", "train")] + counts[("duts", "test")] == 15_572


def test_counts_beside_recipe_and_paper(known: Dataset) -> None:
    summary = summarise(known)
    fss, ecssd = summary.sources
    assert (fss.built, fss.expected, fss.published, fss.complete) == (40, 40, 10_000, True)
    assert (ecssd.built, ecssd.published) == (16, 1_000)
    assert fss.share == pytest.approx(40 / 56)
    assert (summary.total.built, summary.total.published) == (56, 44_320)
    assert summary.published_label == "Table 5"
    assert ("duts", "test", 5_019) in summary.absent
    assert sum(number for _, _, number in summary.absent) == 44_320 - 11_000


def test_own_folders_have_no_published_count(own: tuple[Dataset, tuple[Problem, ...]]) -> None:
    summary = summarise(own[0])
    mine, bars = summary.sources
    assert (mine.built, mine.expected, mine.missing, mine.complete) == (4, 5, 1, False)
    assert mine.rejected == 1  # the image without a mask
    assert (bars.built, bars.expected, bars.complete) == (3, None, True)
    assert (summary.total.expected, summary.total.published, summary.absent) == (None, None, ())
    assert not summary.complete


@pytest.mark.parametrize("source", ["mine", "bars"])
def test_figures_are_those_of_the_decoded_masks(
    own: tuple[Dataset, tuple[Problem, ...]], source: str
) -> None:
    masks = decoded(own[0], source)
    (group,) = [g for g in summarise(own[0]).sources if g.source == source]
    figures = group.figures
    assert figures is not None
    areas = [np.mean(mask > 128) for mask in masks]
    softs = [np.mean((mask > 0) & (mask < 255)) for mask in masks]
    assert figures.area_fraction.mean == pytest.approx(np.mean(areas), abs=1e-7)
    assert figures.area_fraction.median == pytest.approx(np.median(areas), abs=1e-7)
    assert figures.soft_fraction.mean == pytest.approx(np.mean(softs), abs=1e-7)
    assert figures.width.median == np.median([mask.shape[1] for mask in masks])
    assert figures.height.maximum == max(mask.shape[0] for mask in masks)
    assert figures.megapixels.median == pytest.approx(np.median([m.size for m in masks]) / 1e6)
    assert figures.components.maximum == (2 if source == "mine" else 1)


def test_thinness_of_rectangles(own: tuple[Dataset, tuple[Problem, ...]]) -> None:
    expected = sorted(
        (2 * (w - 1 + h - 1)) ** 2 / (4 * math.pi * w * h) for w, h in ((40, 2), (40, 8), (20, 20))
    )
    figures = summarise(own[0]).sources[1].figures
    assert figures is not None
    assert figures.thinness.median == pytest.approx(expected[1], abs=1e-3)
    assert figures.thinness.maximum == pytest.approx(expected[2], abs=1e-3)
    assert figures.thinness.p90 == pytest.approx(np.percentile(expected, 90), abs=1e-3)


def test_what_normalisation_did(own: tuple[Dataset, tuple[Problem, ...]]) -> None:
    mine, bars = summarise(own[0]).sources
    assert mine.images.num_changed == 1
    assert dict(mine.images.by_what) == {"png": 1, "jpeg-q100": 1}
    assert mine.images.lowest_psnr_db is not None and 20 < mine.images.lowest_psnr_db < 100
    assert mine.masks.num_changed == 1
    assert dict(mine.masks.by_what)["binary-01"] == 1
    assert (bars.images.num_changed, bars.images.lowest_psnr_db) == (0, None)


def test_every_sample_is_in_every_histogram(known: Dataset) -> None:
    for histogram in summarise(known).histograms:
        assert {name: sum(counts) for name, counts in histogram.counts.items()} == {
            "fss": 40,
            "ecssd": 16,
        }
        assert list(histogram.edges) == sorted(set(histogram.edges))


@pytest.mark.parametrize(
    ("sides", "thinness"),
    [
        ([1], [0.0]),  # a single pixel
        ([224, 224], [1.0, 1.0]),  # all alike
        ([256, 65_500], [0.8, 123_456.7]),  # on an edge, and far out
    ],
)
def test_histograms_hold_extreme_values(sides: list[int], thinness: list[float]) -> None:
    areas = np.linspace(0.001, 1.0, len(sides))
    for histogram in histograms({"a": (np.array(sides), areas, np.array(thinness))}):
        assert sum(histogram.counts["a"]) == len(sides)


def test_histograms_without_samples() -> None:
    empty = np.array([])
    for histogram in histograms({"a": (empty, empty, empty)}):
        assert sum(histogram.counts["a"]) == 0


def test_44k_rows_take_less_than_two_seconds(known: Dataset) -> None:
    import time

    many = dataclasses.replace(known, samples=pa.concat_tables([known.samples] * 792))
    assert len(many) == 44_352
    start = time.perf_counter()
    summarise(many)
    assert time.perf_counter() - start < 2


# The table


def test_the_table_fits_100_columns_and_has_the_total(known: Dataset) -> None:
    lines = text_of(summarise(known))
    assert max(map(len, lines)) <= 100
    (total, *_) = [line for line in lines if line.strip().startswith("total")]
    assert re.search(r"\b56\b.*\b44,320\b.*complete", total)


def test_the_table_says_what_is_missing(own: tuple[Dataset, tuple[Problem, ...]]) -> None:
    text = "\n".join(text_of(summarise(own[0])))
    assert "INCOMPLETE" in text
    assert "1 missing" in text
    assert "any number" in text


def test_the_table_fits_with_the_counts_of_the_paper(known: Dataset) -> None:
    counts = {
        "thinobject": {"train": SplitCounts(expected=4748, built=4748, rejected=0, dropped=0)},
        "dis": {
            "train": SplitCounts(expected=3_000, built=3_000, rejected=0, dropped=0),
            "validation": SplitCounts(expected=470, built=471, rejected=0, dropped=0),
        },
        "a_user_s_own_long_name_24": {"all": SplitCounts(built=1_000_000, rejected=0, dropped=0)},
        "duts": {
            "train": SplitCounts(expected=10_553, built=0, rejected=10_541, dropped=12),
            "test": SplitCounts(expected=5_019, built=19, rejected=0, dropped=0),
        },
    }
    info = known.info.model_copy(update={"sources": counts, "complete": False})
    lines = text_of(summarise(dataclasses.replace(known, info=info)))
    assert max(map(len, lines)) <= 100
    assert not any("…" in line for line in lines)
    assert any("10,541 missing" in line for line in lines)
    assert any("1 too many" in line for line in lines)


# The page


class _Page(HTMLParser):
    """Collects what a browser would load, and checks that tags are closed in order."""

    VOID = frozenset({"meta", "link", "img", "br", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in {"src", "srcset", "data", "poster"} or (tag == "link" and name == "href"):
                self.loads.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parse(html: str) -> _Page:
    page = _Page()
    page.feed(html)
    page.close()
    assert page.open == []
    return page


def test_the_page_loads_nothing(known: Dataset, tmp_path: Path) -> None:
    html = page_of(known, (), tmp_path / "page.html")
    page = parse(html)
    assert page.loads
    assert all(address.startswith("data:") for address in page.loads)
    assert not re.search(r"@import|url\(", html)
    assert "default-src 'none'" in html


def test_the_page_shows_the_data_set(known: Dataset, tmp_path: Path) -> None:
    page = parse(page_of(known, (), tmp_path / "page.html", pictures_per_source=3))
    text = " ".join("".join(page.text).split())
    assert "known complete" in text
    assert known.info.digest in text
    assert "44,320" in text
    shots = [attrs for tag, attrs in page.tags if tag == "img" and attrs["alt"]]
    assert len(shots) == 2 * 3
    assert all("covers" in str(attrs["alt"]) for attrs in shots)
    charts = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(charts) == 3
    assert all(attrs["aria-label"] for attrs in charts)


def test_hostile_names_are_text(own: tuple[Dataset, tuple[Problem, ...]], tmp_path: Path) -> None:
    dataset, problems = own
    page = parse(page_of(dataset, (*problems, MISSING), tmp_path / "page.html"))
    assert [tag for tag, _ in page.tags].count("script") == 1  # the page's own
    assert not any("onerror" in attrs for _, attrs in page.tags)
    assert not any(attrs.get("src") == "x" for _, attrs in page.tags)
    text = "".join(page.text)
    assert "</td><script>alert(3)</script>.jpg" in text
    assert "<b>x</b>" in text
    titles = [attrs["title"] for tag, attrs in page.tags if tag == "figcaption" and attrs]
    assert any(HOSTILE in (title or "") for title in titles)


def test_names_that_are_no_unicode_do_not_break_the_page(known: Dataset, tmp_path: Path) -> None:
    bad = dataclasses.replace(MISSING, image="m/\udcff.jpg")
    assert r"m/\udcff.jpg" in page_of(known, (bad,), tmp_path / "page.html")


def test_problems_are_counted_by_kind(
    own: tuple[Dataset, tuple[Problem, ...]], tmp_path: Path
) -> None:
    dataset, problems = own
    text = page_of(dataset, (*problems, *[MISSING] * 7), tmp_path / "page.html")
    for kind in {problem.kind.value for problem in problems}:
        assert f"<code>{kind}</code>" in text
    assert text.count("alert(3)") == 3  # the first three of each kind
    assert "lonely.jpg" in text
    assert "incomplete: 1 missing" in text


def test_the_same_page_every_time(known: Dataset, tmp_path: Path) -> None:
    first = page_of(known, (MISSING,), tmp_path / "one.html")
    assert page_of(known, (MISSING,), tmp_path / "two.html") == first
    assert page_of(known, (MISSING,), tmp_path / "other.html", seed=1) != first
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "one.html",
        "other.html",
        "two.html",
    ]


def test_examples_are_spread_over_thinness(known: Dataset) -> None:
    rows = choose_examples(known, "fss", 8, seed=0)
    thinness = [known.row(row)["mask_thinness"] for row in rows]
    assert len(set(rows)) == 8
    assert thinness == sorted(thinness)
    assert {known.row(row)["source"] for row in rows} == {"fss"}
    every = sorted(r["mask_thinness"] for r in known.samples.to_pylist() if r["source"] == "fss")
    assert thinness[0] <= every[4] and thinness[-1] >= every[-5]
    assert choose_examples(known, "fss", 100, seed=0) == choose_examples(known, "fss", 40, seed=3)
    assert choose_examples(known, "nothing", 8, seed=0) == []


def test_a_thumbnail_keeps_to_its_share_of_the_page(known: Dataset) -> None:
    large = make_thumbnail(known, 0, (0, 200, 0), 10**6)
    small = make_thumbnail(known, 0, (0, 200, 0), 9_000)
    assert max(large.width, large.height) == min(
        320, max(known.row(0)["width"], known.row(0)["height"])
    )
    assert small.num_bytes <= 9_000 < large.num_bytes


def test_many_pictures_stay_below_6_mb(known: Dataset, tmp_path: Path) -> None:
    page_of(known, (), tmp_path / "page.html", pictures_per_source=60)
    assert (tmp_path / "page.html").stat().st_size < 6_000_000


def test_changes_are_explained(own: tuple[Dataset, tuple[Problem, ...]], tmp_path: Path) -> None:
    text = " ".join("".join(parse(page_of(*own, tmp_path / "page.html")).text).split())
    assert "png 1 the file was of this format" in text
    assert "png 1 stored as PNG, losslessly" in text
    assert "binary-01 1 two levels brought to 0 and 255" in text


def test_png_data_sets(tmp_path: Path) -> None:
    dataset, problems = make_own(tmp_path, "png")
    page = parse(page_of(dataset, problems, tmp_path / "page.html"))
    assert '"png", "mask.png", "json"' in "".join(page.text)
    assert summarise(dataset).total.images.num_changed == 7
    assert len([attrs for tag, attrs in page.tags if tag == "img" and attrs["alt"]]) == 7


def test_a_split_without_samples(known: Dataset, tmp_path: Path) -> None:
    nothing = SplitCounts(expected=3000, built=0, rejected=0, dropped=0)
    sources = {**known.info.sources, "dis": {"train": nothing}}
    info = known.info.model_copy(update={"sources": sources, "complete": False})
    dataset = dataclasses.replace(known, info=info)
    summary = summarise(dataset)
    assert summary.sources[-1].figures is None
    assert (summary.total.missing, summary.splits[-1].missing) == (3000, 3000)
    html = page_of(dataset, (), tmp_path / "page.html")
    assert "3,000 missing" in html
    assert html.count(">no samples<") == 3 + 1  # three charts and the table
    assert "3,000 missing" in "\n".join(text_of(summary))


def test_a_data_set_without_samples(known: Dataset, tmp_path: Path) -> None:
    dataset = dataclasses.replace(known, samples=known.samples.slice(0, 0))
    parse(page_of(dataset, (), tmp_path / "page.html"))
    assert summarise(dataset).total.figures is None


def test_a_damaged_shard_is_named(known: Dataset, tmp_path: Path) -> None:
    elsewhere = dataclasses.replace(known, root=tmp_path)
    with pytest.raises(DatasetError, match="cannot open the shard"):
        page_of(elsewhere, (), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_licences_of_own_folders_are_the_recipes(
    own: tuple[Dataset, tuple[Problem, ...]], tmp_path: Path
) -> None:
    html = page_of(*own, tmp_path / "page.html")
    assert "<code>CC0-1.0</code>" in html
    assert "<code>not-stated</code>" in html


def test_charts_have_a_row_a_source(known: Dataset) -> None:
    summary = summarise(known)
    chart = draw(summary.histograms[0], summary.sources, {"fss": 0, "ecssd": 1})
    assert 'class="bars hue-0"' in chart.svg and 'class="bars hue-1"' in chart.svg
    assert "pixels" in chart.svg


class TestASample:
    """A set that was drawn from archives says everywhere what was drawn."""

    @pytest.fixture(scope="class")
    @staticmethod
    def sampled(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
        return build_sampled(tmp_path_factory.mktemp("drawn"), 4, min_stability_score=0.95)

    def test_in_the_terminal(self, sampled: Dataset) -> None:
        console = Console(width=100, record=True, file=io.StringIO())
        console.print(render_table(summarise(sampled)))
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= 100
        said = "sa1b/train: 4 of the 8 images in 1 of 1,000 archives, one mask of each"
        assert said in " ".join(text.split())

    def test_on_the_page(self, sampled: Dataset, tmp_path: Path) -> None:
        page = page_of(sampled, (), tmp_path / "page.html", pictures_per_source=1)
        assert "<code>sa1b/train</code> is a sample: 4 of the 8 images" in page
        assert "Only masks with a stability score of at least 0.95." in page
        assert "SA-1B (Segment Anything 1 Billion)" in page
        assert "SA-1B Dataset Research License" in page and "not to be redistributed" in page

    def test_the_figures_of_others_say_nothing_of_samples(self, known: Dataset) -> None:
        assert summarise(known).sampled == ()

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({}, "one mask of each"),
            ({"masks": 0}, "all masks of each"),
            ({"masks": 3}, "up to 3 masks of each"),
            ({"min_predicted_iou": 0.9}, "Only masks with a predicted IoU of at least 0.9."),
            (
                {"min_area_fraction": 0.01, "max_area_fraction": 0.5},
                "an area of at least 1.0 % of the picture, an area of at most 50.0 %",
            ),
            ({"replaced": 2}, "2 could not be used; the next in this order took the place."),
            ({"cluster": True}, "a sample of these archives, not of the whole set"),
        ],
    )
    def test_in_words(self, changes: dict[str, Any], said: str) -> None:
        plain: dict[str, Any] = {
            "images": 5,
            "seed": 1,
            "masks": 1,
            "min_predicted_iou": 0.0,
            "min_stability_score": 0.0,
            "min_area_fraction": 0.0,
            "max_area_fraction": 1.0,
            "archives": 10,
            "archives_expected": 10,
            "images_seen": 50,
            "last_hash": "0" * 16,
            "cluster": False,
            "replaced": 0,
            "drawn": 5,
            "filtered": 0,
        }
        text = words.drawn(SampleInfo.model_validate({**plain, **changes}))
        assert said in text and "seed 1, the last of them 0000000000000000" in text
        assert text.count(". ") == bool(changes) - ("masks" in changes)
