"""A picture's json: upstream's form is read, everything else is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqdata import rle
from hqdata.bundles import annotations
from hqdata.bundles.annotations import NotesError, choose_masks, read_notes
from hqdata.sampling import Choice, mask_hash
from support.sa1b import dump, make_notes

ALL = Choice(seed=3, masks=0)


def notes_of(**changes: Any) -> bytes:
    notes = make_notes(5, num_masks=4)
    for row in notes["annotations"]:
        row.update(changes)
    return dump(notes)


def refusal(data: bytes, choice: Choice = ALL) -> tuple[str, str]:
    with pytest.raises(NotesError) as caught:
        choose_masks(read_notes(data, 5), choice)
    return caught.value.kind, caught.value.message


def test_the_real_annotations_are_read(real_data: Path) -> None:
    paths = sorted((real_data / "sa1b/annotations_real_fragments").glob("*.json"))
    number = 0
    for path in paths:
        data = path.read_bytes()
        image_id = int(path.stem.removeprefix("sa_"))
        notes = read_notes(data, image_id)
        rows = json.loads(data)["annotations"]
        chosen = choose_masks(notes, ALL)
        assert sorted(chosen) == sorted(row["id"] for row in rows)
        for row in rows:
            found = notes.annotation(row["id"])
            assert rle.area(found.runs()) == row["area"] == (found.mask() == 255).sum()
            assert found.mask().shape == (notes.image.height, notes.image.width)
            assert found.predicted_iou == row["predicted_iou"]
        number += len(chosen)
    assert number == 9


def test_masks_are_chosen_by_hash_whatever_their_order() -> None:
    notes = make_notes(5, num_masks=30)
    ids = [row["id"] for row in notes["annotations"]]
    expected = tuple(sorted(ids, key=lambda i: mask_hash(3, 5, i)))
    assert choose_masks(read_notes(dump(notes), 5), ALL) == expected
    notes["annotations"].reverse()
    assert choose_masks(read_notes(dump(notes), 5), ALL) == expected
    assert choose_masks(read_notes(dump(notes), 5), Choice(seed=3, masks=4)) == expected[:4]
    assert choose_masks(read_notes(dump(notes), 5), Choice(seed=3)) == expected[:1]
    assert choose_masks(read_notes(dump(notes), 5), Choice(seed=4, masks=0)) != expected


def test_filters_bound_what_is_chosen() -> None:
    notes = make_notes(5, num_masks=60, width=90, height=60)
    rows = {row["id"]: row for row in notes["annotations"]}
    choice = Choice(3, 0, 0.92, 0.96, 0.002, 0.05)
    chosen = choose_masks(read_notes(dump(notes), 5), choice)
    assert set(chosen) == {
        found
        for found, row in rows.items()
        if row["predicted_iou"] >= 0.92
        and row["stability_score"] >= 0.96
        and 0.002 <= row["area"] / 5_400 <= 0.05
    }
    assert 0 < len(chosen) < 60


def test_the_area_is_counted_not_believed() -> None:
    assert choose_masks(read_notes(notes_of(area=0, bbox="?"), 5), ALL)
    small = Choice(3, 0, max_area_fraction=0.9)
    assert choose_masks(read_notes(notes_of(area=10**9), 5), small)


def test_a_mask_that_cannot_be_read_gives_way_to_the_next() -> None:
    notes = make_notes(5, num_masks=5)
    order = choose_masks(read_notes(dump(notes), 5), ALL)
    rows = {row["id"]: row for row in notes["annotations"]}
    rows[order[0]]["segmentation"]["counts"] = "no run lengths"
    rows[order[1]]["segmentation"]["size"] = [3, 4]
    rows[order[2]]["predicted_iou"] = "0.9"
    assert choose_masks(read_notes(dump(notes), 5), ALL) == order[3:]


def test_an_id_that_is_there_twice_is_nobodys() -> None:
    notes = make_notes(5, num_masks=3)
    first, second, third = (row["id"] for row in notes["annotations"])
    notes["annotations"][1]["id"] = first
    found = read_notes(dump(notes), 5)
    assert choose_masks(found, ALL) == (third,)
    for absent in (first, second):
        with pytest.raises(NotesError, match="no annotation"):
            found.annotation(absent)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no json"),
        (b"\xff\xfe", "no json"),
        (b"[" * 100_000, "no json"),  # endlessly deep
        (b'{"image": ' + b"9" * 10**6 + b"}", "no json"),  # a number without end
        (b'{"image": NaN}', "no json"),
        (b"[]", "not SA-1B's"),
        (b"{}", "image: Field required"),
        (b'{"image": {}, "annotations": []}', "image.image_id"),
        (
            b'{"image": {"image_id": 5, "width": 0, "height": 3}, "annotations": []}',
            "image.width",
        ),
        (
            b'{"image": {"image_id": "5", "width": 3, "height": 3}, "annotations": []}',
            "image.image_id",
        ),
        (
            b'{"image": {"image_id": true, "width": 3, "height": 3}, "annotations": []}',
            "image.image_id",
        ),
        (b'{"image": {"image_id": 5, "width": 3, "height": 3}, "annotations": {}}', "annotations"),
        (b'{"image": {"image_id": 6, "width": 3, "height": 3}, "annotations": []}', "picture 6"),
        (
            b'{"image": {"image_id": 5, "width": 3, "height": 3}, "annotations": []}',
            "no well-formed mask",
        ),
        (
            b'{"image": {"image_id": 5, "width": 3, "height": 3}, "annotations": [1, null, []]}',
            "no well-formed mask",
        ),
        (notes_of(id=-1), "no well-formed mask"),
        (notes_of(id=2**63), "no well-formed mask"),
        (notes_of(id=1.5), "no well-formed mask"),
        (notes_of(id=None), "no well-formed mask"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_what_is_no_such_json_is_refused(data: bytes, said: str) -> None:
    kind, message = refusal(data)
    assert kind == "unreadable_mask"
    assert said in message


@pytest.mark.parametrize(
    "changes",
    [
        {"segmentation": None},
        {"segmentation": {"size": [64, 96]}},
        {"segmentation": {"size": [64, 96], "counts": [1, 2]}},  # COCO's uncompressed form
        {"segmentation": {"size": [64, 96], "counts": ""}},
        {"segmentation": {"size": [96, 64], "counts": "0"}},  # width before height
        {"segmentation": {"size": [64, 96, 1], "counts": "0"}},
        {"segmentation": {"size": [2**40, 2**40], "counts": "0"}},
        {"segmentation": [[1, 2, 3, 4]]},  # polygons
        {"predicted_iou": True},
        {"stability_score": None},
    ],
)
def test_annotations_of_wrong_types_are_no_masks(changes: dict[str, Any]) -> None:
    notes = make_notes(5, num_masks=1)
    notes["annotations"][0].update(changes)
    kind, message = refusal(dump(notes))
    assert kind == "unreadable_mask"
    assert "annotation 100005000" in message


def test_an_empty_mask_is_none() -> None:
    counts = {"size": [64, 96], "counts": "PP6"}
    notes = make_notes(5, num_masks=1)
    notes["annotations"][0]["segmentation"] = counts
    assert rle.area(rle.run_lengths("PP6", 64, 96)) == 0
    assert refusal(dump(notes))[1].endswith("the mask is empty")


def test_what_only_the_filters_refuse_is_told_apart() -> None:
    assert refusal(notes_of(predicted_iou=0.2), Choice(1, 1, 0.5)) == (
        "filtered",
        "none of its 4 masks passes the filters",
    )


def test_more_annotations_than_any_picture_has_are_refused() -> None:
    image = b'{"image_id": 5, "width": 3, "height": 3}'
    many = b'{"image": %s, "annotations": [%s0]}' % (image, b"0," * 100_000)
    assert "at most 100000 items" in refusal(many)[1]


def test_a_json_beyond_the_limit_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotations, "MAX_NOTES_BYTES", 100)
    with pytest.raises(NotesError, match="the limit is 100"):
        read_notes(notes_of(), 5)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["image", "annotations", "id", "segmentation", "size", "counts"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from(["image", "annotations", "annotation", "segmentation", "all"]))
def test_no_json_raises_anything_else(value: Any, place: str) -> None:
    notes = make_notes(5, num_masks=2)
    if place == "annotation":
        notes["annotations"][0] = value
    elif place == "segmentation":
        notes["annotations"][0]["segmentation"] = value
    elif place != "all":
        notes[place] = value
    try:
        chosen = choose_masks(read_notes(dump(value if place == "all" else notes), 5), ALL)
    except NotesError:
        return
    assert chosen
