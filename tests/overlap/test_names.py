"""Ids of photographs in upstream names."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from hqdata.overlap.names import source_ids


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("DIS-TR/im/2#Aircraft#4#Helicopter#86789665_650b94b2ee_o.jpg", "flickr 86789665"),
        ("DIS-VD/im/1#Accessories#1#Bag#2339506821_83cf9f1d22_o.jpg", "flickr 2339506821"),
        ("HRSOD/images/2000000000_000000000a_o.jpg", "flickr 2000000000"),  # a size follows
        ("4977243989_c2efb1b911_z.jpg", "flickr 4977243989"),
        ("50000000001_c2efb1b911_4k.jpg", "flickr 50000000001"),
        ("50000000001_c2efb1b911_o_d.jpg", "flickr 50000000001"),
        ("4977243989_c2efb1b911.jpg", "flickr 4977243989"),  # the middle size has no letter
        ("n01440764_10026.JPEG", "imagenet n01440764_10026"),
        ("DUTS-TE/ILSVRC2012_test_00000003.jpg", "imagenet ILSVRC2012_test_00000003"),
        ("ILSVRC2014_train_00023530.jpg", "imagenet ILSVRC2014_train_00023530"),
        ("ilsvrc2012_TEST_00000003.png", "imagenet ILSVRC2012_test_00000003"),
        ("val2017/000000000139.jpg", "coco 139"),
        ("COCO_val2014_000000000139.jpg", "coco 139"),
        ("sun_bcogaqperiljqupq.jpg", "sun sun_bcogaqperiljqupq"),
    ],
)
def test_an_id_is_found(path: str, expected: str) -> None:
    assert {" ".join(found) for found in source_ids(path)} == {expected}


@pytest.mark.parametrize(
    "path",
    [
        "0001.jpg",
        "97915.jpg",  # MSRA10K
        "00023530.jpg",
        "202301011230.jpg",  # a date and a time
        "20230101_1234567890.jpg",  # two numbers
        "20230101_123456.jpg",
        "IMG_20230101_123456789.jpg",
        "1920x1080_83cf9f1d22.jpg",
        "air_pump_PNG1.jpg",
        "2#Aircraft#4#Helicopter#heli.jpg",
        "000000000000.jpg",
        "im005.jpg",
        "sun_rise.jpg",
        "n012_10.jpg",
        "86789665_650b94b2ee_o/0001.jpg",  # a folder's name is another matter
        "DEADBEEF86789665_650b94b2ee_o.jpg",
        "86789665_650b94b2ee0_o.jpg",  # eleven digits are no secret
    ],
)
def test_other_numbers_are_no_ids(path: str) -> None:
    assert source_ids(path) == frozenset()


def test_the_suffix_of_a_name_does_not_matter() -> None:
    names = ["n01440764_10026", "n01440764_10026.jpg", "x/n01440764_10026.PNG"]
    assert len({source_ids(name) for name in names}) == 1


@pytest.fixture(scope="module")
def lists(real_data: Path) -> dict[str, list[str]]:
    folder = real_data / "name_lists" / "F3Net" / "data"
    found = {
        f"{path.parent.name}/{path.stem}": [
            name for name in path.read_text(encoding="utf-8").split("\n") if name
        ]
        for path in sorted(folder.glob("*/*.txt"))
    }
    if not found:
        pytest.skip("needs the lists of real names")
    return found


def ids(names: list[str]) -> set[tuple[str, str]]:
    return {found for name in names for found in source_ids(name)}


def test_ids_in_the_real_lists_of_names(lists: dict[str, list[str]]) -> None:
    kinds = {
        name: dict(Counter(kind for one in names for kind, _ in source_ids(one)))
        for name, names in lists.items()
    }
    assert kinds == {
        "DUTS/train": {"imagenet": 10232, "sun": 321},
        "DUTS/test": {"imagenet": 3202, "sun": 1817},
        "DUT-OMRON/test": {"sun": 5151},
        "ECSSD/test": {},
        "HKU-IS/test": {},
        "PASCAL-S/test": {},
    }
    sizes = {name: len(ids(names)) for name, names in lists.items()}
    assert sizes["DUTS/train"] == 10553, "no id stands for two pictures"


def test_ids_that_two_real_sets_share(lists: dict[str, list[str]]) -> None:
    names = sorted(lists)
    shared = {
        (a, b): len(ids(lists[a]) & ids(lists[b]))
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    }
    assert {pair: count for pair, count in shared.items() if count} == {}
