"""What a sampled build costs is reckoned, not guessed: bytes add up and no schedule beats its
bounds.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hqdata.build.cost import (
    BYTES_PER_GBIT,
    Costs,
    Rates,
    cost_table,
    fair_level,
    makespan,
    predict,
    published_sizes,
)
from hqdata.catalogue.sampled import load_sampled
from hqdata.errors import UserError

SA1B = load_sampled()["sa1b"]
RATES = Rates(
    machine="a round one",
    stream=1e9,
    gunzip=1e8,
    headers=1e4,
    notes=100.0,
    extract=10.0,
    connection=1e8,
    request_seconds=0.0,
    image_bytes=900_000.0,
    notes_bytes=100_000.0,
    samples_per_task=10,
)
"""A picture is a megabyte with its annotations."""


def cost(**changes: Any) -> Costs:
    values: dict[str, Any] = {
        "archive_sizes": [10**9] * 10,
        "num_images_wanted": 100,
        "num_images": 10_000,
        "remote": True,
        "gzip_share": 0.0,
        "bandwidth": 1e9,
        "workers": 10,
        "rates": RATES,
    }
    values.update(changes)
    sizes = values.pop("archive_sizes")
    return predict(sizes, **values)


JOBS = st.lists(
    st.tuples(
        st.floats(0.01, 100, allow_subnormal=False), st.floats(0, 1e6, allow_subnormal=False)
    ),
    min_size=1,
    max_size=30,
)


class TestTheSchedule:
    def test_jobs_go_to_the_first_free_worker_in_their_order(self) -> None:
        assert makespan([3, 1, 1, 1], [0] * 4, 2, 1.0) == 3
        assert makespan([1, 1, 1, 3], [0] * 4, 2, 1.0) == 4  # the long one begins last

    def test_without_jobs_nothing_takes_time(self) -> None:
        assert makespan([], [], 4, 1.0) == 0

    def test_jobs_that_share_a_network_wait_for_it(self) -> None:
        """Two that each could use all of it take twice as long."""
        assert makespan([10, 10], [100, 100], 2, 10.0) == pytest.approx(20)
        assert makespan([10, 10], [100, 100], 2, 20.0) == pytest.approx(10)

    def test_what_one_does_not_need_the_others_have(self) -> None:
        """The first wants 1 of 11 bytes/s, so that the second has its 10."""
        assert makespan([10, 10], [10, 100], 2, 11.0) == pytest.approx(10)

    def test_who_is_left_has_it_to_himself(self) -> None:
        # For 10 s both have 5 bytes/s; then the second reads its other 50 bytes with 10.
        assert makespan([5, 10], [50, 100], 2, 10.0) == pytest.approx(15)

    @given(JOBS, st.integers(1, 12), st.floats(1.0, 1e7))
    def test_no_schedule_is_faster_than_its_parts_allow(
        self, jobs: list[tuple[float, float]], workers: int, bandwidth: float
    ) -> None:
        seconds, sizes = zip(*jobs, strict=True)
        found = makespan(seconds, sizes, workers, bandwidth)
        longest = max(max(own, size / bandwidth) for own, size in jobs)
        least = max(longest, sum(seconds) / workers, sum(sizes) / bandwidth)
        assert found >= least * (1 - 1e-6)

    @given(JOBS, st.integers(1, 12))
    def test_with_network_enough_it_is_grahams_bound_at_worst(
        self, jobs: list[tuple[float, float]], workers: int
    ) -> None:
        seconds, sizes = zip(*jobs, strict=True)
        found = makespan(seconds, sizes, workers, 1e15)
        assert found <= (sum(seconds) / workers + max(seconds)) * (1 + 1e-6)

    @given(JOBS, st.floats(1.0, 1e7))
    def test_one_worker_does_one_after_the_other(
        self, jobs: list[tuple[float, float]], bandwidth: float
    ) -> None:
        seconds, sizes = zip(*jobs, strict=True)
        one_by_one = sum(max(own, size / bandwidth) for own, size in jobs)
        assert makespan(seconds, sizes, 1, bandwidth) == pytest.approx(one_by_one, rel=1e-6)

    @given(st.lists(st.floats(0, 1e9), min_size=1, max_size=20), st.floats(1.0, 1e9))
    def test_a_fair_share_uses_all_there_is(self, pace: list[float], bandwidth: float) -> None:
        level = fair_level(np.array(pace), bandwidth)
        used = sum(min(p, level) for p in pace)
        assert used == pytest.approx(min(sum(pace), bandwidth), rel=1e-6)


class TestBytes:
    def test_behind_a_url_every_byte_of_a_plain_archive_comes(self) -> None:
        found = cost()
        assert found.num_bytes_streamed == found.num_archive_bytes == 10**10
        assert found.num_bytes_hopped == found.num_bytes_unzipped == 0

    def test_on_a_disk_only_headers_and_a_few_annotations_are_read(self) -> None:
        found = cost(remote=False)
        assert found.num_bytes_streamed == found.num_bytes_unzipped == 0
        headers = 2 * 10_000 * 4096
        assert found.num_bytes_hopped == headers + found.num_listed * 100_000

    @pytest.mark.parametrize(("share", "number"), [(0.0, 0), (0.3, 3), (0.55, 5), (1.0, 10)])
    def test_what_is_gzip_inside_is_read_through_anywhere(self, share: float, number: int) -> None:
        assert cost(remote=False, gzip_share=share).num_bytes_unzipped == number * 10**9
        remote = cost(gzip_share=share)
        assert remote.num_bytes_unzipped == number * 10**9
        assert remote.num_bytes_streamed == (10 - number) * 10**9

    def test_chosen_is_what_is_asked_for(self) -> None:
        assert cost().num_bytes_chosen == 100 * 1_000_000
        assert cost().num_bytes_read == 10**10 + 100 * 1_000_000

    def test_no_more_is_chosen_than_there_is(self) -> None:
        found = cost(num_images_wanted=20_000)
        assert found.num_wanted == found.num_listed == 10_000

    def test_a_few_more_are_listed_than_an_archive_will_give(self) -> None:
        """10 of each are wanted: 10 + 4 √10 + 8, rounded up, are listed."""
        assert cost().num_listed == 10 * math.ceil(10 + 4 * math.sqrt(10) + 8)

    def test_without_a_number_of_pictures_sizes_say_how_many(self) -> None:
        assert cost(num_images=None).num_images == 10_000

    def test_without_archives_nothing_is_read(self) -> None:
        found = cost(archive_sizes=[])
        assert found.num_bytes_read == 0 and found.hours == 0 and found.workers_at_limit is None


class TestTime:
    def test_a_connection_is_slower_than_a_core(self) -> None:
        """10⁹ bytes at 10⁸ bytes/s of a connection, whatever the network."""
        assert cost(workers=1).seconds_per_archive == pytest.approx(10)
        assert cost(workers=1, bandwidth=1e12).seconds_per_archive == pytest.approx(10)
        assert cost(workers=1, bandwidth=5e7).seconds_per_archive == pytest.approx(20)

    def test_ten_connections_fill_the_network(self) -> None:
        assert cost().workers_at_limit == 10
        assert cost(bandwidth=1e10).workers_at_limit == 100

    def test_beyond_that_more_workers_are_of_no_use(self) -> None:
        assert cost(workers=20).choosing_seconds == pytest.approx(cost().choosing_seconds)
        assert cost(workers=5).choosing_seconds == pytest.approx(2 * cost().choosing_seconds)

    def test_extracting_is_a_task_a_shard(self) -> None:
        """10 shards of 10 pictures, 1 s of computing and 0.1 s of network each."""
        found = cost(workers=10)
        assert found.extracting_cpu_seconds == pytest.approx(10)
        assert found.extracting_seconds == pytest.approx(1.1)
        assert cost(workers=1, remote=False).extracting_seconds == pytest.approx(10)

    def test_who_reads_on_looks_at_more_annotations_than_who_can_choose(self) -> None:
        """Of 1,000 pictures that go by, 31 (1 + ln(1000 / 31)) are among the 31 first so far."""
        local, remote = cost(remote=False), cost()
        assert local.num_listed == remote.num_listed == 310
        local_notes = local.choosing_cpu_seconds - 10 * 2 * 1000 / 1e4
        remote_notes = remote.choosing_cpu_seconds - 10 * 1e9 / 1e9
        assert local_notes == pytest.approx(310 / 100)
        assert remote_notes == pytest.approx(310 * (1 + math.log(1000 / 31)) / 100)

    def test_an_archive_too_many_takes_a_round_more(self) -> None:
        found = cost(archive_sizes=[10**9] * 11, workers=10, bandwidth=1e12)
        assert found.choosing_seconds == pytest.approx(20)

    def test_a_large_archive_at_the_end_keeps_all_waiting(self) -> None:
        early = cost(archive_sizes=[9 * 10**9, *[10**9] * 9], workers=2, bandwidth=1e12)
        late = cost(archive_sizes=[*[10**9] * 9, 9 * 10**9], workers=2, bandwidth=1e12)
        assert early.choosing_seconds == pytest.approx(90)
        assert late.choosing_seconds == pytest.approx(130)


class TestMistakes:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"num_images_wanted": 0}, "0 images are none to draw"),
            ({"gzip_share": 1.5}, "a share of 1.5 is none"),
            ({"bandwidth": 0.0}, "0 bytes/s are no bandwidth"),
            ({"bandwidth": math.inf}, "are no bandwidth"),
            ({"workers": 0}, "0 workers do nothing"),
            ({"archive_sizes": [5, -1]}, "less than 0 bytes"),
        ],
    )
    def test_a_number_out_of_range_is_named(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(UserError, match=message):
            cost(**changes)

    def test_a_rate_of_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match="gunzip has to be above 0"):
            Rates(gunzip=0)


class TestTheWholeSet:
    def test_published_sizes_add_up(self) -> None:
        sizes = published_sizes(SA1B)
        assert len(sizes) == SA1B.num_archives and sum(sizes) == SA1B.num_bytes
        assert max(sizes) - min(sizes) <= 1

    def test_ten_gigabits_take_hours_and_a_disk_takes_none(self) -> None:
        """11.3 TB at 1.25 GB/s are 2.5 hours, however many workers there are."""
        wanted = {"num_images_wanted": 44_320, "num_images": SA1B.num_images}
        rest: dict[str, Any] = {"gzip_share": 0.0, "workers": 256, **wanted}
        sizes = published_sizes(SA1B)
        remote = predict(sizes, remote=True, bandwidth=10 * BYTES_PER_GBIT, **rest)
        local = predict(sizes, remote=False, bandwidth=10 * BYTES_PER_GBIT, **rest)
        assert 2.4 < remote.hours < 3
        assert local.hours < 0.2

    def test_the_table_has_a_row_a_network_and_a_column_a_number_of_workers(self) -> None:
        table = cost_table(
            published_sizes(SA1B),
            num_images_wanted=44_320,
            num_images=SA1B.num_images,
            remote=True,
            workers=(1, 100),
        )
        console = Console(width=150, record=True, file=io.StringIO())
        console.print(table)
        text = console.export_text()
        for speed in ("0.1", "1", "10", "25", "100"):
            assert f" {speed} Gbit/s" in text
        assert "44,320 images of 1,000 archives" in text and "100 workers" in text
        assert "11.348 TB" in text and "days" in text
