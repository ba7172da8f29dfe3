"""What a proof says: `overlap.json`, written, read and grouped."""

from __future__ import annotations

import json
import tempfile
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hqdata.errors import UserError
from hqdata.overlap import report as module
from hqdata.overlap.report import (
    EvaluationSet,
    Kind,
    OverlapReport,
    Pair,
    Recall,
    Unread,
    Verdict,
    components,
    read_report,
)
from support.reports import pair, report

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
NAME = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
SHARE = st.floats(0, 1)
SHA = st.text("0123456789abcdef", min_size=64, max_size=64)
COUNT = st.integers(0, 10**9)
SIZE = st.tuples(st.integers(1, 99_999), st.integers(1, 99_999))
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


PAIRS = st.builds(
    Pair,
    train=NAME,
    evaluation=st.builds(module.EvaluationImage, set=NAME, name=NAME),
    kind=st.sampled_from(get_args(Kind)),
    confirmed=st.booleans(),
    reason=TEXT,
    distance=maybe(st.integers(0, 256)),
    inliers=maybe(COUNT),
    score=maybe(SHARE),
    transform=maybe(st.tuples(*[FINITE] * 9)),
    train_size=SIZE,
    evaluation_size=SIZE,
    train_fraction=maybe(SHARE),
    evaluation_fraction=maybe(SHARE),
)
SETS = st.builds(
    EvaluationSet,
    set=TEXT,
    num_images=COUNT,
    how=st.sampled_from(["pictures", "fingerprints"]),
    digest=SHA,
    source=TEXT,
)
REPORTS = st.builds(
    OverlapReport,
    verdict=st.sampled_from(get_args(Verdict)),
    dataset=TEXT,
    dataset_digest=SHA,
    num_train=COUNT,
    within=st.booleans(),
    evaluation=st.lists(SETS, max_size=2).map(tuple),
    missing=st.lists(TEXT, max_size=2).map(tuple),
    unread=st.lists(st.builds(Unread, set=TEXT, name=TEXT, reason=TEXT), max_size=2).map(tuple),
    pairs=st.lists(PAIRS, max_size=3).map(tuple),
    removed=st.lists(TEXT, max_size=2).map(tuple),
    self_test=st.dictionaries(
        TEXT,
        st.builds(Recall, planted=COUNT, found=COUNT, asked=st.floats(0, 1, exclude_min=True)),
        max_size=2,
    ),
    false_pairs=COUNT,
    thresholds=st.dictionaries(TEXT, FINITE, max_size=2),
    versions=st.dictionaries(TEXT, TEXT, max_size=2),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "overlap.json"


class TestRoundTrip:
    @settings(max_examples=60, deadline=None)
    @given(REPORTS)
    def test_what_was_written_is_read(self, written: OverlapReport) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "new" / "overlap.json"
            written.write(path)
            assert path.read_bytes() == written.to_bytes()
            found = read_report(path)
        assert found == written
        assert found.to_bytes() == written.to_bytes()

    def test_there_is_one_pair_a_line(self) -> None:
        one, two = pair("a"), pair("b", name="line\nbreak.jpg")
        lines = report(one, two).to_bytes().decode().splitlines()
        rows = [json.loads(line.strip().rstrip(",")) for line in lines if '"train":' in line]
        assert [Pair.model_validate(row) for row in rows] == [one, two]

    def test_it_is_plain_json_with_a_line_at_its_end(self) -> None:
        for written in (report(), report(pair("a"))):
            assert written.to_bytes().endswith(b"}\n")
            document = json.loads(written.to_bytes())
            assert OverlapReport.model_validate(document) == written

    def test_names_stay_readable(self) -> None:
        assert "päär/ñ.jpg" in report(pair("a", name="päär/ñ.jpg")).to_bytes().decode()

    def test_where_it_cannot_be_written_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(UserError, match="cannot write the report"):
            report().write(tmp_path / "file" / "overlap.json")


class TestReading:
    def change(self, path: Path, **fields: object) -> None:
        document = json.loads(report(pair("a"), pair("b")).to_bytes())
        document.update(fields)
        path.write_text(json.dumps(document))

    def test_no_such_file_says_how_to_make_it(self, path: Path) -> None:
        with pytest.raises(UserError, match="hqdata verify-no-overlap"):
            read_report(path)

    def test_a_folder(self, path: Path) -> None:
        path.mkdir()
        with pytest.raises(UserError, match="cannot be read"):
            read_report(path)

    @pytest.mark.parametrize("version", [0, 2, 99, "1", None, 1.5, [1]])
    def test_another_version(self, path: Path, version: object) -> None:
        self.change(path, report_version=version)
        with pytest.raises(UserError) as caught:
            read_report(path)
        assert f"version {version!r}" in str(caught.value)
        assert "make it again" in str(caught.value)

    @pytest.mark.parametrize("text", ["[]", "null", "3", '"x"', "{}"])
    def test_json_that_is_no_report(self, path: Path, text: str) -> None:
        path.write_text(text)
        with pytest.raises(UserError, match="version None"):
            read_report(path)

    def test_cut_short_anywhere(self, path: Path) -> None:
        data = report(pair("a"), pair("b")).to_bytes()
        for kept in range(0, len(data) - 2, 7):
            path.write_bytes(data[:kept])
            with pytest.raises(UserError, match="no report of overlaps"):
                read_report(path)

    @pytest.mark.parametrize(
        "data",
        [b"\xff\xfe\x00", b"[" * 200_000, b'{"a": ' * 200_000, b"\x00" * 64],
        ids=["no text", "deep list", "deep table", "zeros"],
    )
    def test_damage(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        with pytest.raises(UserError, match="no report of overlaps"):
            read_report(path)

    def test_too_large(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        data = report(pair("a")).to_bytes()
        path.write_bytes(data)
        monkeypatch.setattr(module, "MAX_REPORT_BYTES", len(data))
        read_report(path)
        monkeypatch.setattr(module, "MAX_REPORT_BYTES", len(data) - 1)
        with pytest.raises(UserError, match="too large"):
            read_report(path)

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"unknown": 1}, "unknown"),
            ({"verdict": "fine"}, "verdict"),
            ({"dataset_digest": "xy"}, "dataset_digest"),
            ({"dataset_digest": "AB" * 32}, "dataset_digest"),
            ({"num_train": -1}, "num_train"),
            ({"false_pairs": -1}, "false_pairs"),
            ({"pairs": [{"train": "a"}]}, "pairs.0.evaluation"),
            ({"pairs": None}, "pairs"),
            ({"self_test": {"grey": {"planted": 1, "found": 1, "asked": 2}}}, "self_test.grey"),
        ],
    )
    def test_what_is_wrong_is_named(
        self, path: Path, fields: dict[str, object], named: str
    ) -> None:
        self.change(path, **fields)
        with pytest.raises(UserError) as caught:
            read_report(path)
        assert "not valid" in str(caught.value)
        assert named in str(caught.value)

    @pytest.mark.parametrize("field", ["verdict", "pairs", "num_train", "self_test"])
    def test_what_is_missing_is_named(self, path: Path, field: str) -> None:
        document = json.loads(report(pair("a")).to_bytes())
        del document[field]
        path.write_text(json.dumps(document))
        with pytest.raises(UserError, match=field):
            read_report(path)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("unknown", 1),
            ("train", ""),
            ("kind", "alike"),
            ("distance", 257),
            ("distance", -1),
            ("score", 1.1),
            ("train_fraction", -0.1),
            ("transform", [1.0] * 8),
            ("transform", [1.0] * 10),
            ("evaluation", {"set": "", "name": "x"}),
            ("evaluation", {"set": "x", "name": ""}),
            ("train_size", [1]),
        ],
    )
    def test_pairs_that_nobody_wrote(self, path: Path, field: str, value: object) -> None:
        row = json.loads(pair("a").model_dump_json())
        row[field] = value
        self.change(path, pairs=[row])
        with pytest.raises(UserError, match=field):
            read_report(path)

    @pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
    def test_scores_are_numbers(self, path: Path, text: str) -> None:
        data = report(pair("a")).to_bytes().decode()
        path.write_text(data.replace('"score": null', f'"score": {text}'))
        with pytest.raises(UserError, match="score"):
            read_report(path)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    @pytest.mark.parametrize("field", ["transform", "thresholds"])
    def test_every_other_figure_is_one_too(self, field: str, value: float) -> None:
        document = json.loads(report(pair("a")).to_bytes())
        if field == "transform":
            document["pairs"][0]["transform"] = [value] * 9
        else:
            document["thresholds"] = {"tolerance": value}
        with pytest.raises(ValidationError):
            OverlapReport.model_validate(document)


class TestFigures:
    def test_confirmed_pairs_are_those_that_count(self) -> None:
        hint, proof = pair("a", confirmed=False), pair("b")
        assert report(hint, proof).confirmed() == (proof,)

    @pytest.mark.parametrize(
        ("planted", "found", "asked", "held"),
        [
            (0, 0, 0.995, False),  # nothing was put to the test
            (1, 1, 0.995, True),
            (1, 0, 0.995, False),
            (24, 23, 0.995, True),  # one in nine runs of a search as good as asked misses one
            (24, 22, 0.995, False),
            (200, 196, 0.995, True),  # ... and of 200 four, one in fifty
            (200, 195, 0.995, False),
            (200, 200, 1.0, True),
            (200, 199, 1.0, False),
        ],
    )
    def test_a_recall_holds_unless_a_search_as_good_as_asked_would_hardly_do_worse(
        self, planted: int, found: int, asked: float, held: bool
    ) -> None:
        assert Recall(planted=planted, found=found, asked=asked).held is held

    @pytest.mark.parametrize("planted", [1, 6, 24, 200])
    @pytest.mark.parametrize("asked", [0.5, 0.9, 0.95, 0.99, 0.995])
    def test_a_search_as_good_as_asked_fails_in_less_than_one_run_in_a_hundred(
        self, planted: int, asked: float
    ) -> None:
        def chance_of_more_than(misses: int) -> float:
            return 1 - sum(
                comb(planted, n) * (1 - asked) ** n * asked ** (planted - n)
                for n in range(misses + 1)
            )

        allowed = Recall(planted=planted, found=planted, asked=asked).allowed_misses
        assert chance_of_more_than(allowed) <= 0.01 + 1e-9
        assert allowed == 0 or chance_of_more_than(allowed - 1) > 0.01 - 1e-9

    def test_a_report_does_not_change(self) -> None:
        with pytest.raises(ValidationError):
            report().verdict = "clean"  # type: ignore[misc]


def within(a: str, b: str) -> Pair:
    return pair(a, set="within", name=b)


class TestComponents:
    @pytest.mark.parametrize(
        ("pairs", "sizes"),
        [
            ([], []),
            ([pair("a")], [1]),
            ([pair("a", name="1"), pair("a", name="2")], [2]),  # one training picture
            ([pair("a", name="1"), pair("b", name="1")], [2]),  # one evaluation picture
            ([pair("a", name="1"), pair("b", name="1"), pair("b", name="2")], [3]),  # a chain
            ([pair("a", name="1"), pair("b", name="2"), pair("b", name="1")], [3]),  # joined late
            ([pair("a", name="1"), pair("b", name="2")], [1, 1]),
            ([pair("a", set="x", name="1"), pair("b", set="y", name="1")], [1, 1]),  # two sets
            ([pair("a", name="1"), pair("b", name="a")], [1, 1]),  # a key, and a name like it
            ([within("a", "b"), within("c", "b")], [2]),
            ([within("a", "b"), within("b", "c")], [2]),  # within, either side is a key
            ([within("a", "b"), pair("b", name="1"), pair("c", name="1")], [3]),
            ([within("a", "b"), pair("c", name="b")], [1, 1]),
            ([pair("z", name="1"), pair("a", name="2"), pair("a", name="3")], [2, 1]),  # larger
        ],
    )
    def test_sizes(self, pairs: list[Pair], sizes: list[int]) -> None:
        assert [len(group) for group in components(pairs)] == sizes

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(
            st.builds(
                pair,
                st.sampled_from("abcdef"),
                set=st.sampled_from(["x", "y", "within"]),
                name=st.sampled_from("abcdef"),
            ),
            max_size=10,
        )
    )
    def test_groups_are_those_of_brute_force(self, pairs: list[Pair]) -> None:
        def pictures(of: Pair) -> set[tuple[str, str]]:
            other = "train" if of.evaluation.set == "within" else f"set {of.evaluation.set}"
            return {("train", of.train), (other, of.evaluation.name)}

        label = list(range(len(pairs)))
        for _ in pairs:
            for i, j in combinations(range(len(pairs)), 2):
                if pictures(pairs[i]) & pictures(pairs[j]):
                    label[i] = label[j] = min(label[i], label[j])
        expected = {
            frozenset(i for i in range(len(pairs)) if label[i] == group) for group in set(label)
        }
        number = {id(member): i for i, member in enumerate(pairs)}
        groups = components(pairs)
        assert {frozenset(number[id(p)] for p in group) for group in groups} == expected
        assert sum(map(len, groups)) == len(pairs)
        assert [len(group) for group in groups] == sorted(map(len, groups), reverse=True)
