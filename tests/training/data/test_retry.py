"""Trying again, with pauses that a test can look at."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqdata.remote.retry import AlteredError, PassingError, Retry, retry_after, system_jitter


def failing(times: int, error: PassingError) -> Callable[[], str]:
    """Something that goes well after so many failures."""
    left = [times]

    def work() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise error
        return "done"

    return work


def test_pauses_double_up_to_a_limit() -> None:
    pauses: list[float] = []
    retry = Retry(
        max_tries=8, first_wait=1, longest_wait=10, sleep=pauses.append, jitter=lambda: 0.0
    )
    assert retry.call(failing(7, PassingError("x"))) == "done"
    assert pauses == [1, 2, 4, 8, 10, 10, 10]


def test_the_last_failure_is_told() -> None:
    pauses: list[float] = []
    with pytest.raises(PassingError, match="no luck"):
        Retry(max_tries=3, sleep=pauses.append).call(failing(3, PassingError("no luck")))
    assert len(pauses) == 2


def test_what_came_altered_is_tried_once_more() -> None:
    pauses: list[float] = []
    retry = Retry(max_tries=9, sleep=pauses.append)
    assert retry.call(failing(1, AlteredError("x"))) == "done"
    with pytest.raises(AlteredError):
        retry.call(failing(2, AlteredError("x")))
    assert len(pauses) == 2


@given(st.integers(1, 2000), st.floats(0, 1, exclude_max=True))
def test_chance_takes_up_to_half_of_a_pause(tries: int, chance: float) -> None:
    full = Retry(jitter=lambda: 0.0).pause(tries)
    assert full / 2 <= Retry(jitter=lambda: chance).pause(tries) <= full


def test_the_other_side_may_ask_for_more_time_but_not_for_hours() -> None:
    retry = Retry(first_wait=1, jitter=lambda: 0.0, longest_asked=300)
    assert retry.pause(1, asked=7) == 7
    assert retry.pause(1, asked=0.1) == 1
    assert retry.pause(1, asked=86_400) == 300


def test_processes_differ_without_a_seed() -> None:
    drawn = {system_jitter() for _ in range(20)}
    assert len(drawn) > 15
    assert all(0 <= value < 1 for value in drawn)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 60),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("-5", 0),
        ("soon", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_how_long_a_server_asks_to_be_left_alone(header: str | None, seconds: float) -> None:
    assert retry_after(header, now=lambda: 40.0) == seconds


@given(st.text())
def test_whatever_a_server_asks_for_is_a_time(header: str) -> None:
    assert retry_after(header, now=lambda: 0.0) >= 0
