"""The page of an overlap report: one file that loads nothing, runs nothing from outside, shows
every pair, draws each where it lies, stays small, and is the same every time.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hqdata.overlap.report import (
    EvaluationImage,
    EvaluationSet,
    Kind,
    OverlapReport,
    Pair,
    Recall,
    Unread,
    Verdict,
)
from hqdata.report import overlap_page, overlap_pairs
from hqdata.report.overlap_geometry import describe, inverse, outline, unit_transform
from hqdata.report.overlap_page import write_overlap_page
from hqdata.report.overlap_pairs import group_pairs, visible
from hqdata.report.overlap_pictures import Album

COMMAND = "hqdata build --out shards/ --remove overlap.json"
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
HOSTILE = "x-</script><img src=x onerror=alert(1)>\"'&amp;\u202egpj\u2028"


class Folder:
    """Pictures from a dictionary; counts how often each is asked for."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = files or {}
        self.asked: list[str] = []

    def train(self, key: str) -> bytes | None:
        self.asked.append(key)
        return self.files.get(key)

    def evaluation(self, set: str, name: str) -> bytes | None:
        self.asked.append(f"{set}/{name}")
        return self.files.get(f"{set}/{name}")


def jpeg(width: int, height: int, seed: int = 0, **options: Any) -> bytes:
    """A soft picture, darker to the left."""
    rng = np.random.default_rng(seed)
    small = (
        rng.integers(0, 100, (6, 8, 3), np.uint8)
        + np.linspace(0, 150, 8).astype(np.uint8)[None, :, None]
    )
    buffer = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(
        buffer, "JPEG", **options
    )
    return buffer.getvalue()


def noise(side: int, seed: int) -> bytes:
    """A picture that does not compress."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def make_pair(
    train: str = "dis-a",
    name: str = "a.jpg",
    set: str = "dis/validation",
    *,
    kind: Kind = "near",
    confirmed: bool = True,
    transform: tuple[float, ...] | None = IDENTITY,
    sizes: tuple[tuple[int, int], tuple[int, int]] = ((400, 300), (400, 300)),
    reason: str = "the same picture",
    **figures: Any,
) -> Pair:
    return Pair(
        train=train,
        evaluation=EvaluationImage(set=set, name=name),
        kind=kind,
        confirmed=confirmed,
        reason=reason,
        transform=transform,
        train_size=sizes[0],
        evaluation_size=sizes[1],
        **figures,
    )


def make_report(*pairs: Pair, verdict: Verdict | None = None, **changes: Any) -> OverlapReport:
    fields: dict[str, Any] = {
        "verdict": verdict or ("overlap" if any(pair.confirmed for pair in pairs) else "clean"),
        "dataset": "own",
        "dataset_digest": "ab" * 32,
        "num_train": 44_320,
        "within": True,
        "evaluation": (
            EvaluationSet(
                set="dis/validation", num_images=470, how="pictures", digest="cd" * 32, source="/d"
            ),
            EvaluationSet(
                set="prints", num_images=500, how="fingerprints", digest="ef" * 32, source="p.npz"
            ),
        ),
        "missing": (),
        "unread": (),
        "pairs": pairs,
        "self_test": {"mirror": Recall(planted=64, found=63, asked=0.95)},
        "false_pairs": 0,
        "thresholds": {"pdq_max_distance": 31, "min_score": 0.85},
        "versions": {"hqdata": "9.8.7"},
    }
    return OverlapReport(**(fields | changes))


def page_of(report: OverlapReport, tmp_path: Path, pictures: Folder | None = None) -> str:
    out = tmp_path / "overlap.html"
    write_overlap_page(
        report,
        pictures or Folder(),
        out,
        report_path=tmp_path / "overlap.json",
        build_command=COMMAND,
    )
    return out.read_text(encoding="utf-8")


def block(html: str, name: str) -> Any:
    (text,) = re.findall(f'<script type="application/json" id="{name}">(.*?)</script>', html, re.S)
    return json.loads(text)


def words_of(html: str) -> str:
    """What stands on the page without its script and its data."""
    bare = re.sub(r"<(script|style)\b.*?</\1>", " ", html, flags=re.S)
    return " ".join(re.sub(r"<[^>]*>", " ", bare).split())


# One file that loads nothing and runs only its own script


def test_nothing_is_loaded_and_only_the_pages_own_script_may_run(tmp_path: Path) -> None:
    html = page_of(make_report(make_pair()), tmp_path, Folder({"dis-a": jpeg(400, 300)}))
    bare = html.replace('"http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?://|@import|url\(|<(img|iframe|object|embed)\b", bare)
    assert re.findall(r'<link [^>]*href="([^"]*)"', html) == ["data:,"]
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert "default-src 'none'" in policy and "unsafe" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", html, re.S)
    styles = re.findall(r"<style>(.*?)</style>", html, re.S)
    for kind, (text,) in (("script", scripts), ("style", styles)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r"<[^>]+ (style|on\w+)=", re.sub(r"<script.*?</script>", "", html))
    assert not re.search(r"innerHTML|insertAdjacent|document\.write|eval\(", scripts[0])


def test_names_from_outside_are_only_text(tmp_path: Path) -> None:
    bad = "</script><script>alert(2)</script>"
    pair = make_pair(HOSTILE, HOSTILE, HOSTILE, reason=bad)
    report = make_report(
        pair,
        dataset=bad,
        missing=(HOSTILE,),
        unread=(Unread(set=HOSTILE, name=HOSTILE, reason=bad),),
        removed=(HOSTILE,),
        thresholds={HOSTILE: 1.0},
        versions={HOSTILE: HOSTILE},
        self_test={HOSTILE: Recall(planted=1, found=1, asked=1)},
    )
    html = page_of(report, tmp_path)
    assert html.count("<script") == 3  # two blocks of data and the page's own
    assert "<img" not in html
    assert "\u202e" not in html and "\u2028" not in html
    (row,) = block(html, "data")["pairs"]
    assert row["train"] == HOSTILE.replace("\u202e", "⟨U+202E⟩").replace("\u2028", "⟨U+2028⟩")
    assert row["reason"] == bad


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("im/0001.jpg", "im/0001.jpg"),
        ("Maß 図.jpg", "Maß 図.jpg"),  # letters of any script stay
        ("a\u202egpj.exe", "a⟨U+202E⟩gpj.exe"),  # turns the direction of writing
        ("a\u200bb", "a⟨U+200B⟩b"),  # no width
        ("a\nb", "a⟨U+000A⟩b"),
        ("a\udcffb", "a⟨U+DCFF⟩b"),  # no valid Unicode
    ],
)
def test_what_cannot_be_seen_is_spelled_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_the_same_page_every_time(tmp_path: Path) -> None:
    report = make_report(make_pair(), make_pair("msra-b", "b.jpg", confirmed=False))
    pictures = {"dis-a": jpeg(400, 300), "dis/validation/a.jpg": jpeg(400, 300, 1)}
    first = page_of(report, tmp_path, Folder(pictures))
    assert page_of(report, tmp_path, Folder(pictures)) == first
    assert [path.name for path in tmp_path.iterdir()] == ["overlap.html"]


# The verdict


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (make_report(), ["Clean: no overlap found", "None of the 44,320 training pictures", "970"]),
        (
            make_report(make_pair(), make_pair("dis-b"), make_pair(name="dis-c", set="within")),
            [
                "Overlap found",
                "2 training pictures share content with 1 evaluation picture:",
                "1 confirmed pair inside the training set",
                "confirmed pairs 3",
                "2 training pictures fewer",  # of the two inside, one has gone already
            ],
        ),
        (
            make_report(
                verdict="incomplete",
                missing=("hrsod",),
                unread=(Unread(set="prints", name="b.jpg", reason="is empty"),),
                self_test={"mirror": Recall(planted=64, found=1, asked=0.95)},
                false_pairs=2,
            ),
            [
                "Incomplete: nothing is proved yet",
                "1 evaluation set of the recipe was not there: hrsod.",
                "1 picture could not be read",
                "did not hold",
                "b.jpg is empty",
                "2 false pairs",
                "it did not show that it would have",
            ],
        ),
        (
            make_report(verdict="incomplete", self_test={}),
            ["There was no self-test", "was not run"],
        ),
        (make_report(removed=("dis-gone",)), ["1 training picture left out", "dis-gone"]),
    ],
)
def test_the_verdict_in_words(report: OverlapReport, said: list[str], tmp_path: Path) -> None:
    text = words_of(page_of(report, tmp_path))
    for words in said:
        assert words in text


def test_what_was_searched_and_with_what(tmp_path: Path) -> None:
    text = words_of(page_of(make_report(), tmp_path))
    assert "dis/validation 470 pictures " + "cd" * 32 in text
    assert "prints 500 fingerprints " + "ef" * 32 in text
    assert "ab" * 32 in text
    assert "mirror 64 63 98.4 % 95.0 % held" in text
    assert "pdq max distance 31" in text and "min score 0.85" in text and "9.8.7" in text


def test_no_pairs_says_why_that_can_be_trusted(tmp_path: Path) -> None:
    html = page_of(make_report(), tmp_path)
    assert "The search found no pair. That this means something" in words_of(html)
    assert "<script" not in html


# The pairs


def test_every_pair_is_there_with_and_without_script(tmp_path: Path) -> None:
    pairs = [make_pair(f"dis-{n:03}", f"{n:03}.jpg", confirmed=n % 3 > 0) for n in range(120)]
    html = page_of(make_report(*pairs), tmp_path)
    rows = block(html, "data")["pairs"]
    assert sorted(row["train"] for row in rows) == [pair.train for pair in pairs]
    states = [row["confirmed"] for row in rows]
    assert states == sorted(states, reverse=True)
    (plain,) = re.findall("<noscript>(.*)</noscript>", html, re.S)
    listed = re.findall(r'id="p(\d+)".*?<code>(dis-\d+)</code>', plain)
    assert listed == [(str(n), row["train"]) for n, row in enumerate(rows, 1)]


def test_pairs_stand_in_groups_confirmed_and_large_first() -> None:
    hints = [make_pair(f"msra-{n}", "hint.jpg", confirmed=False) for n in range(3)]
    single = make_pair("dis-z", "z.jpg")
    chain = [
        make_pair("dis-a", "x.jpg", confirmed=False),
        make_pair("dis-a", "dis-b", "within"),
        make_pair("dis-b", "y.jpg"),
    ]
    groups = group_pairs([*hints, single, *chain])
    assert [[pair.train for _, pair in group.pairs] for group in groups] == [
        ["dis-a", "dis-b", "dis-a"],  # the hint of a confirmed group comes last in it
        ["dis-z"],
        ["msra-0", "msra-1", "msra-2"],
    ]
    assert [group.num_pictures for group in groups] == [4, 2, 4]
    assert [number for group in groups for number, _ in group.pairs] == list(range(1, 8))


def test_the_evidence_of_a_pair(tmp_path: Path) -> None:
    pair = make_pair(
        distance=12, inliers=1_034, score=0.982, train_fraction=0.25, evaluation_fraction=1.0
    )
    (row,) = block(page_of(make_report(pair), tmp_path), "data")["pairs"]
    assert [value for _, value in row["facts"]] == [
        "12 of 256 bits",
        "1,034",
        "98.2 %",
        "25.0 %",
        "100.0 %",
    ]
    assert row["goes"] == ["dis-a"]
    assert row["source"] == "dis"


def test_of_two_training_pictures_the_page_names_the_one_that_goes(tmp_path: Path) -> None:
    report = make_report(make_pair("dis-a", "msra-b", "within"))
    data = block(page_of(report, tmp_path), "data")
    assert data["pairs"][0]["goes"] == ["msra-b"]
    assert data["command"] == COMMAND


def test_hints_remove_nothing(tmp_path: Path) -> None:
    html = page_of(make_report(make_pair(confirmed=False)), tmp_path)
    assert block(html, "data")["pairs"][0]["goes"] == []
    assert COMMAND not in words_of(html)


def test_more_pairs_than_a_page_bears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap_page, "MAX_PAIRS", 4)
    pairs = [make_pair(f"dis-{n}", "same.jpg") for n in range(7)]
    html = page_of(make_report(*pairs), tmp_path)
    assert len(block(html, "data")["pairs"]) == 4
    assert block(html, "data")["groups"] == [[4, 8]]
    assert "The last 3 pairs are only there" in words_of(html)


# The pictures


def decoded(text: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("L"))


def test_a_picture_is_embedded_once(tmp_path: Path) -> None:
    pictures = Folder({"dis-a": jpeg(500, 300), "dis-b": jpeg(300, 500, 1)})
    report = make_report(
        make_pair("dis-a", "dis-b", "within"), make_pair("dis-b", "v.jpg"), make_pair("dis-a", "w")
    )
    html = page_of(report, tmp_path, pictures)
    table = block(html, "pictures")
    assert [decoded(text).shape for text in table] == [(192, 320), (320, 192)]
    assert sorted(pictures.asked) == [
        "dis-a",
        "dis-b",
        "dis/validation/v.jpg",
        "dis/validation/w",
    ]
    assert block(html, "data")["pairs"][0]["pictures"] == [0, 1]


def test_pictures_are_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: 400 × 300 stored, 300 × 400 upright
    pictures = Folder({"dis-a": jpeg(400, 300, exif=exif.tobytes())})
    (text,) = block(page_of(make_report(make_pair()), tmp_path, pictures), "pictures")
    small = decoded(text)
    assert small.shape == (320, 240)
    assert small[:40].mean() < small[-40:].mean() - 50  # what was left is on top


@pytest.mark.parametrize(
    ("set", "data", "note"),
    [
        ("dis/validation", None, "picture not here"),
        ("prints", None, "picture not here: known by its fingerprint only"),
        ("dis/validation", b"no picture", "picture not here: its bytes do not decode"),
    ],
)
def test_a_missing_picture_is_said(set: str, data: bytes | None, note: str, tmp_path: Path) -> None:
    pictures = Folder({} if data is None else {f"{set}/a.jpg": data})
    html = page_of(make_report(make_pair(set=set)), tmp_path, pictures)
    (row,) = block(html, "data")["pairs"]
    assert (row["pictures"], row["notes"]) == ([None, None], ["picture not here", note])
    assert block(html, "pictures") == []


def test_a_picture_that_changed_since_is_said(tmp_path: Path) -> None:
    html = page_of(make_report(make_pair()), tmp_path, Folder({"dis-a": jpeg(40, 30)}))
    assert block(html, "data")["pairs"][0]["notes"][0].startswith("now has 40 × 30 px")


def test_many_pictures_share_the_budget() -> None:
    pairs = [make_pair(f"dis-{n}", f"{n}") for n in range(8)]
    files = {f"dis-{n}": noise(400, n) for n in range(8)}
    budget = 8 * 12_000
    album = Album(make_report(*pairs), pairs, Folder(files), budget)
    shots = [album.get(("", f"dis-{n}")) for n in range(8)]
    assert [shot.number for shot in shots] == list(range(8))
    assert sum(map(len, album.table)) <= budget
    assert max(decoded(text).shape[0] for text in album.table) < 320


def test_what_does_not_fit_at_all_is_left_out_and_said() -> None:
    pairs = [make_pair(f"dis-{n}", f"{n}") for n in range(8)]
    files = {f"dis-{n}": noise(400, n) for n in range(8)}
    album = Album(make_report(*pairs), pairs, Folder(files), 9_000)
    shots = [album.get(("", f"dis-{n}")) for n in range(8)]
    assert sum(map(len, album.table)) <= 9_000
    assert shots[0].number == 0
    assert shots[-1].number is None and "small" in shots[-1].missing


def test_words_leave_room_for_pictures() -> None:
    assert overlap_pairs.MAX_PAIRS * overlap_page._BYTES_PER_PAIR < overlap_page.PAGE_BUDGET / 2


def test_the_page_keeps_to_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap_page, "PAGE_BUDGET", 700_000)
    pairs = [make_pair(f"dis-{n}", f"{n}", reason="because " * 20) for n in range(100)]
    files = {f"dis-{n}": noise(120, n) for n in range(100)}
    assert len(page_of(make_report(*pairs), tmp_path, Folder(files)).encode()) <= 700_000


# Where pictures lie on each other


def carried(pair: Pair, x: float, y: float) -> tuple[float, float]:
    matrix = unit_transform(pair)
    assert matrix is not None
    u, v, w = matrix @ [x, y, 1]
    return float(u / w), float(v / w)


CROP = make_pair(transform=(1, 0, 100, 0, 1, 60, 0, 0, 1), sizes=((400, 300), (200, 150)))
MIRROR = make_pair(transform=(-1, 0, 399, 0, 1, 0, 0, 0, 1))
TURN = make_pair(transform=(0, 1, 0, -1, 0, 299, 0, 0, 1), sizes=((400, 300), (300, 400)))
HALF = make_pair(transform=(2, 0, 0.5, 0, 2, 0.5, 0, 0, 1), sizes=((400, 300), (200, 150)))


@pytest.mark.parametrize(
    ("pair", "top_left", "said"),
    [
        (CROP, (0.25, 0.2), "at its own size"),
        (MIRROR, (1, 0), "mirrored, at its own size"),
        (TURN, (0, 1), "turned by 90° anticlockwise, at its own size"),
        (HALF, (0, 0), "at 2.00 × its size"),
    ],
)
def test_the_corner_comes_to_lie_where_it_should(
    pair: Pair, top_left: tuple[float, float], said: str
) -> None:
    assert carried(pair, 0, 0) == pytest.approx(top_left, abs=1e-9)
    matrix = unit_transform(pair)
    assert matrix is not None
    assert describe(pair, matrix) == said


def test_the_outlines_of_a_crop() -> None:
    matrix = unit_transform(CROP)
    assert matrix is not None
    on_train = [(0.25, 0.2), (0.75, 0.2), (0.75, 0.7), (0.25, 0.7)]
    assert np.allclose(sorted(outline(matrix)), sorted(on_train))
    on_evaluation = [(0, 0), (1, 0), (1, 1), (0, 1)]  # all of it, cut at its sides
    assert np.allclose(sorted(outline(inverse(matrix))), sorted(on_evaluation))


def area(points: list[tuple[float, float]]) -> float:
    x, y = np.array(points).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


@pytest.mark.parametrize("seed", range(20))
def test_outlines_are_what_points_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    transform = np.eye(3) + rng.normal(0, 0.4, (3, 3))
    transform[:2, 2] *= 200
    transform[2, :2] /= 150  # the horizon may cross the picture
    transform[2, 2] = 1
    pair = make_pair(transform=tuple(map(float, transform.ravel())))
    matrix = unit_transform(pair)
    assert matrix is not None
    side = (np.arange(400) + 0.5) / 400
    grid = np.stack([*np.meshgrid(side, side), np.ones((400, 400))], -1)
    u, v, w = np.moveaxis(grid @ np.linalg.inv(matrix).T, -1, 0)
    seen = (w > 0) & (u >= 0) & (u <= w) & (v >= 0) & (v <= w)
    found = outline(matrix)
    assert (area(found) if found else 0) == pytest.approx(float(seen.mean()), abs=0.01)


@pytest.mark.parametrize(
    ("transform", "kind"),
    [
        (None, "near"),  # not aligned
        ((0.0,) * 9, "near"),
        ((1, 0, 0, 2, 0, 0, 0, 0, 1), "near"),  # everything onto a line
    ],
)
def test_without_a_transform_nothing_is_drawn(
    transform: tuple[float, ...] | None, kind: Kind, tmp_path: Path
) -> None:
    pair = make_pair(transform=transform, kind=kind)
    (row,) = block(page_of(make_report(pair), tmp_path), "data")["pairs"]
    assert "matrix" not in row


def test_identical_pictures_lie_on_each_other_anyhow() -> None:
    matrix = unit_transform(make_pair(transform=None, kind="identical_bytes"))
    assert matrix is not None
    assert np.allclose(matrix, np.eye(3))
