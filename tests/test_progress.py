"""Progress: a plain line now and then in a log, a bar on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from hqdata.progress import Bar, InMebibytes, Lines


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_a_line_at_the_start_every_ten_seconds_and_at_the_end() -> None:
    clock, stream = Clock(), io.StringIO()
    lines = Lines(stream, clock)
    lines.start("building", 1000, "MiB")
    for second in range(1, 26):
        clock.now = 100.0 + second
        lines.update(20 * second)
    clock.now = 150.0
    lines.update(1000)
    lines.finish()
    assert stream.getvalue().splitlines() == [
        "building: 1,000 MiB",
        "building: 200 of 1,000 MiB (20%), 20 MiB a second, 40 s left",
        "building: 400 of 1,000 MiB (40%), 20 MiB a second, 30 s left",
        "building: 1,000 of 1,000 MiB (100%), 20 MiB a second, 0.0 s left",
        "building: 1,000 MiB in 50 s, 20 MiB a second",
    ]


def test_a_stage_of_unknown_length_has_no_share_and_no_time_left() -> None:
    clock, stream = Clock(), io.StringIO()
    lines = Lines(stream, clock)
    lines.start("looking through data", 0, "archives")
    clock.now += 12
    lines.update(3)
    lines.finish()
    told = stream.getvalue()
    assert "looking through data" in told
    assert "%" not in told
    assert "left" not in told


def test_bytes_are_told_in_mebibytes() -> None:
    clock, stream = Clock(), io.StringIO()
    reporter = InMebibytes(Lines(stream, clock))
    reporter.start("checking", 5 * 2**20, "MiB")
    clock.now += 1
    reporter.update(5 * 2**20)
    reporter.finish()
    assert stream.getvalue().splitlines() == [
        "checking: 5 MiB",
        "checking: 5 MiB in 1.0 s, 5 MiB a second",
    ]


def test_a_terminal_gets_a_bar_with_count_and_unit() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Bar(console) as bar:
        bar.start("building", 10, "MiB")
        bar.update(4)
        bar.update(10)
        bar.finish()
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue()
    assert "building" in told
    assert "10/10" in told
    assert "MiB" in told
