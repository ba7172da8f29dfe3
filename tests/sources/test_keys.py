"""Keys are valid WebDataset names, the same everywhere, and differ when the names do."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hqdata.sources.keys import MAX_KEY_LENGTH, make_key

SOURCES = st.from_regex(r"\A[a-z0-9][a-z0-9_]{0,23}\Z")
STEMS = st.text(st.characters(), min_size=1, max_size=120)


@pytest.mark.parametrize(
    ("stem", "key"),
    [
        ("0001", "x-0001"),  # ECSSD
        ("air_pump_PNG1", "x-air_pump_png1"),  # ThinObject-5K
        ("ILSVRC2012_test_00000004", "x-ilsvrc2012_test_00000004"),  # DUTS
        (
            "2#Aircraft#4#Helicopter#86789665_650b94b2ee_o",
            "x-2-aircraft-4-helicopter-86789665_650b94b2ee_o",
        ),  # DIS5K
        ("abe's_flyingfish/1", "x-abe-s_flyingfish_1"),  # FSS-1000, a class and an apostrophe
        ("a.jpg", "x-a-jpg"),  # a dot would cut the key in WebDataset
        ("--a--", "x-a"),  # no dashes at the ends
    ],
)
def test_keys_are_readable(stem: str, key: str) -> None:
    assert make_key("x", stem) == key


@given(SOURCES, STEMS)
def test_a_key_is_a_source_and_a_slug_of_safe_characters(source: str, stem: str) -> None:
    key = make_key(source, stem)
    assert re.fullmatch(r"[a-z0-9_-]+", key)
    assert "." not in key
    assert key.startswith(f"{source}-")
    assert len(f"{source}-") < len(key) <= MAX_KEY_LENGTH


@given(SOURCES, STEMS)
def test_a_members_name_fits_into_a_ustar_header(source: str, stem: str) -> None:
    assert len(f"{make_key(source, stem)}.mask.png".encode()) <= 100


@given(SOURCES, STEMS)
def test_keys_are_a_function_of_source_and_stem(source: str, stem: str) -> None:
    assert make_key(source, stem) == make_key(source, "".join(list(stem)))
    assert make_key(source, stem) != make_key(source + "0", stem)


@given(STEMS, STEMS)
def test_names_that_lose_characters_in_ascii_stay_different(a: str, b: str) -> None:
    """Folding may only ever join names that are plain ASCII."""
    assume(a != b and not a.isascii())
    assert make_key("x", a) != make_key("x", b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("\u00e9", "\u00e8"),  # accents
        ("\u00e9", "e"),  # with and without
        ("e\u0301", "e"),  # a decomposed accent, as macOS writes it
        ("\u98de1", "\u673a1"),  # nothing of the word survives
        ("\U0001f6001", "\u27641"),  # symbols, which are no letters
        ("a\u2013b", "a-b"),  # a dash that looks like a hyphen
        ("\ufb01sh", "fish"),  # a ligature that decomposes to ASCII
    ],
)
def test_look_alikes_have_keys_of_their_own(a: str, b: str) -> None:
    assert make_key("x", a) != make_key("x", b)


@given(st.text("abcd", min_size=MAX_KEY_LENGTH, max_size=200), STEMS)
def test_long_names_that_begin_alike_stay_different(stem: str, end: str) -> None:
    assert make_key("x", stem) != make_key("x", stem + end)


@given(st.text("abcXYZ#. '_-09", min_size=1, max_size=30))
def test_case_alone_makes_no_other_key(stem: str) -> None:
    """Pairing reports such names: on many disks they are one file."""
    assume(re.search(r"[a-zA-Z0-9_]", stem))
    assert make_key("x", stem) == make_key("x", stem.swapcase())


def test_the_key_of_a_name_does_not_change_between_releases() -> None:
    """Kept shards and published lists refer to samples by key."""
    assert make_key("x", unicodedata.normalize("NFC", "cafe\u0301")) == "x-cafe-850f7dc4"
    assert make_key("x", "a" * 100) == "x-" + "a" * 73 + "-28165978"
