"""Which pictures a report of overlaps asks a build to leave out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqdata.errors import UserError
from hqdata.overlap.removal import keys_to_remove, read_removal
from hqdata.overlap.report import EvaluationImage, Pair
from support.reports import pair, report


def test_what_overlaps_an_evaluation_set_goes_with_its_reason() -> None:
    found = report(pair("duts-b"), pair("duts-a", name="im/2.jpg", kind="near"))
    assert keys_to_remove(found) == {
        "duts-a": "overlaps dis/validation im/2.jpg (near)",
        "duts-b": "overlaps dis/validation DIS-VD/im/x.jpg (crop)",
    }


def test_a_hint_is_no_reason() -> None:
    assert keys_to_remove(report(pair("duts-b", confirmed=False))) == {}


def test_the_first_of_several_pairs_of_a_key_gives_the_reason() -> None:
    found = report(pair("duts-a", name="1.jpg"), pair("duts-a", name="2.jpg"))
    assert keys_to_remove(found) == {"duts-a": "overlaps dis/validation 1.jpg (crop)"}


def within(a: str, b: str) -> Pair:
    return pair(a, set="within", name=b, kind="near")


@pytest.mark.parametrize(
    ("pairs", "gone"),
    [
        ([within("a", "b")], {"b"}),
        ([within("b", "a")], {"b"}),  # whichever is named first
        ([within("a", "b"), within("b", "a")], {"b"}),  # both ways
        ([within("a", "b"), within("b", "c")], {"b", "c"}),  # a chain
        ([within("a", "c"), within("b", "c")], {"c"}),  # a collage of two that are not alike
        ([pair("a"), within("a", "b")], {"a"}),  # the other has gone already
        ([pair("b"), within("a", "b")], {"b"}),
        ([pair("a"), within("a", "b"), within("b", "c")], {"a", "c"}),
        ([within("a", "a")], set()),  # no picture is its own duplicate
    ],
)
def test_of_duplicates_the_later_key_goes(pairs: list[Pair], gone: set[str]) -> None:
    assert set(keys_to_remove(report(*pairs))) == gone


def test_the_reason_of_a_duplicate_names_the_one_that_stays() -> None:
    assert keys_to_remove(report(within("b", "a"))) == {"b": "duplicate of a (near)"}


KEYS = st.sampled_from("abcdefgh")
PAIRS = st.builds(
    lambda train, other, confirmed: Pair(
        **{
            **pair(train, confirmed=confirmed).model_dump(),
            "evaluation": EvaluationImage(set="within" if other else "dis", name=other or "x.jpg"),
        }
    ),
    KEYS,
    st.one_of(st.just(""), KEYS),
    st.booleans(),
)


@given(pairs=st.lists(PAIRS, max_size=12))
def test_no_confirmed_pair_is_left_and_one_of_each_group_stays(pairs: list[Pair]) -> None:
    gone = keys_to_remove(report(*pairs))
    overlapping = {p.train for p in pairs if p.confirmed and p.evaluation.set != "within"}
    assert overlapping <= set(gone)
    for found in (p for p in pairs if p.confirmed and p.evaluation.set == "within"):
        if found.train != found.evaluation.name:
            assert {found.train, found.evaluation.name} & set(gone)
    for key in set(gone) - overlapping:
        first = gone[key].split()[2]
        assert first < key  # so the first of a group is never removed as a duplicate
    assert list(gone) == sorted(gone)
    assert keys_to_remove(report(*reversed(pairs))).keys() == gone.keys()


def test_a_removal_knows_its_report(tmp_path: Path) -> None:
    path = tmp_path / "overlap.json"
    report(pair("duts-a")).write(path)
    removal = read_removal(path)
    assert list(removal.reasons) == ["duts-a"]
    assert removal.dataset_digest == "ab" * 32
    assert removal.mark == f"by the report {removal.sha256[:12]}"


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"report_version": 99}', b"\xff"])
def test_what_is_no_report_is_a_named_mistake(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "overlap.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="report"):
        read_removal(path)
