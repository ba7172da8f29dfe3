"""What a sampled build costs before it begins: bytes, seconds, and from how many workers on the
network is what limits it. Pure arithmetic on measured rates and the sizes of the archives.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from hqdata.catalogue.sampled import SampledSet
from hqdata.errors import UserError
from hqdata.sampling import num_to_keep

BYTES_PER_GBIT = 125_000_000
"""Bytes a second of 1 Gbit/s."""

NETWORKS = (0.1, 1.0, 10.0, 25.0, 100.0)
"""Gbit/s of the rows of a table of costs."""

PAGE = 4096
"""Bytes that a disk reads for a header of 512."""

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rates:
    """What one worker can do, of one core.

    `gunzip`, `headers`, `notes` and `extract` are measured, the first three by `python -m
    benchmarks.sa1b`, the last as the build's time for pictures of 2250 x 1500. The others are
    assumptions, and `machine` says whose.

    Attributes:
        machine: where the figures are from.
        stream: bytes/s of a tar that comes over a network and is mostly skipped. The scan itself
            does 4.6e9; the rest is room for TLS and HTTP.
        gunzip: bytes/s of compressed input of a tar that is gzip inside.
        headers: members/s whose headers are read and whose bytes are jumped over, from a disk
            without moving parts; one that has to seek does a hundred.
        notes: annotation files/s parsed and checked.
        extract: pictures/s decoded, checked, measured and packed, their mask included.
        connection: bytes/s that one connection to an object store gives, whatever the network.
        request_seconds: from asking an object store for a range until its first byte.
        image_bytes: of a picture; notes_bytes: of its annotations; both means.
        samples_per_task: pictures that are extracted by one task.
    """

    machine: str = (
        "single cores of a busy AMD EPYC; of a storage it is assumed that it gives 85 MB/s a "
        "connection and answers after 0.1 s"
    )
    stream: float = 1.0e9
    gunzip: float = 150e6
    headers: float = 26_000.0
    notes: float = 600.0
    extract: float = 14.0
    connection: float = 85e6
    request_seconds: float = 0.1
    image_bytes: float = 947_000.0
    notes_bytes: float = 63_000.0
    samples_per_task: int = 384

    def __post_init__(self) -> None:
        positive = ("stream", "gunzip", "headers", "notes", "extract", "connection", "image_bytes")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} has to be above 0, not {getattr(self, name)}")

    @property
    def picture_bytes(self) -> float:
        """Of a picture with its annotations and their places in the archive."""
        return self.image_bytes + self.notes_bytes


@dataclass(frozen=True, slots=True)
class Costs:
    """What a sampled build reads, computes and takes.

    Attributes:
        num_archives, num_archive_bytes: that are looked through.
        num_images: pictures in them, given or estimated; num_wanted: that are drawn.
        num_listed: candidates that are listed, over all archives.
        num_bytes_hopped: read of archives whose headers can be jumped along.
        num_bytes_streamed: read of archives that are read through as they are.
        num_bytes_unzipped: read of archives that are gzip inside.
        num_bytes_chosen: of the pictures that are extracted, with their annotations.
        seconds_per_archive: mean, of one worker that has the network to itself.
        choosing_cpu_seconds, extracting_cpu_seconds: of all workers together.
        workers_at_limit: from so many workers on the network is the limit when choosing; None if
            nothing is read.
        choosing_seconds, extracting_seconds: wall clock of the simulated schedule.
        workers, bandwidth: for which the last two hold; bandwidth in bytes/s, of all together.
    """

    num_archives: int
    num_archive_bytes: int
    num_images: int
    num_wanted: int
    num_listed: int
    num_bytes_hopped: int
    num_bytes_streamed: int
    num_bytes_unzipped: int
    num_bytes_chosen: int
    seconds_per_archive: float
    choosing_cpu_seconds: float
    extracting_cpu_seconds: float
    workers_at_limit: int | None
    choosing_seconds: float
    extracting_seconds: float
    workers: int
    bandwidth: float

    @property
    def num_bytes_read(self) -> int:
        """Of both passes."""
        choosing = self.num_bytes_hopped + self.num_bytes_streamed + self.num_bytes_unzipped
        return choosing + self.num_bytes_chosen

    @property
    def hours(self) -> float:
        """Wall clock of both passes."""
        return (self.choosing_seconds + self.extracting_seconds) / 3600


def published_sizes(known: SampledSet) -> list[int]:
    """Sizes to reckon with where no archive is at hand: the mean of the release for each."""
    share, rest = divmod(known.num_bytes, known.num_archives)
    return [share + (number < rest) for number in range(known.num_archives)]


def predict(
    archive_sizes: Sequence[int],
    *,
    num_images_wanted: int,
    num_images: int | None,
    remote: bool,
    gzip_share: float,
    bandwidth: float,
    workers: int,
    rates: Rates | None = None,
) -> Costs:
    """What drawing a sample from archives costs.

    Bytes that are kept of archives that are gzip inside, and the shards themselves, are written on
    top; either is about what is chosen.

    Args:
        archive_sizes: bytes of each archive, in the order in which they are looked through.
        num_images_wanted: pictures to draw.
        num_images: pictures in all of these archives; None: by their size.
        remote: behind a URL: what is not gzip inside is read through, not jumped along.
        gzip_share: of the archives that are gzip inside, 0…1; every so many-th is taken for one.
        bandwidth: bytes/s of the network, or of the disks, all workers together.
        workers: that work at once.
        rates: what one worker can do.

    Raises:
        UserError: a number that is out of its range.
    """
    rates = rates or Rates()
    _check(archive_sizes, num_images_wanted, gzip_share, bandwidth, workers)
    sizes = np.asarray(archive_sizes, np.float64)
    total = float(sizes.sum())
    pictures = sizes / rates.picture_bytes
    if num_images is not None:
        pictures = sizes * (num_images / total) if total else np.zeros_like(sizes)
    in_all = float(pictures.sum())
    share = min(1.0, num_images_wanted / in_all) if in_all else 0.0
    listed = np.array([min(n, num_to_keep(n * share)) if n else 0.0 for n in pictures])
    choosing = _choosing(sizes, pictures, listed, _is_gzip(len(sizes), gzip_share), remote, rates)
    wanted = round(min(num_images_wanted, in_all))
    extracting = _extracting(wanted, remote, rates)
    read = float(choosing.num_bytes.sum())
    alone = float(choosing.seconds.sum())
    # One worker's share of the network is what it reads a second when nothing holds it up.
    limit = math.ceil(bandwidth * alone / read) if read else None
    fastest = np.maximum(choosing.seconds, choosing.num_bytes / bandwidth)
    return Costs(
        num_archives=len(sizes),
        num_archive_bytes=int(total),
        num_images=round(in_all),
        num_wanted=wanted,
        num_listed=round(float(listed.sum())),
        num_bytes_hopped=round(choosing.hopped),
        num_bytes_streamed=round(choosing.streamed),
        num_bytes_unzipped=round(choosing.unzipped),
        num_bytes_chosen=round(wanted * rates.picture_bytes),
        seconds_per_archive=float(fastest.mean()) if len(sizes) else 0.0,
        choosing_cpu_seconds=float(choosing.cpu_seconds.sum()),
        extracting_cpu_seconds=float(extracting.cpu_seconds.sum()),
        workers_at_limit=limit,
        choosing_seconds=makespan(choosing.seconds, choosing.num_bytes, workers, bandwidth),
        extracting_seconds=makespan(extracting.seconds, extracting.num_bytes, workers, bandwidth),
        workers=workers,
        bandwidth=bandwidth,
    )


def makespan(
    seconds: Sequence[float] | Vector,
    num_bytes: Sequence[float] | Vector,
    workers: int,
    bandwidth: float,
) -> float:
    """Seconds until every job is done, each given to the first free worker, in this order.

    The jobs under way share the network evenly; what one cannot use the others have.

    Args:
        seconds: of each job that nothing holds up, at least 0.
        num_bytes: that it reads in that time, evenly.
        workers: that work at once, at least 1.
        bandwidth: bytes/s of all together, above 0.
    """
    waiting = [
        (float(own), float(size)) for own, size in zip(seconds, num_bytes, strict=True) if own > 0
    ]
    if len(waiting) == 0:
        return 0.0
    if sum(sorted((size / own for own, size in waiting), reverse=True)[:workers]) <= bandwidth:
        return _unlimited([own for own, _ in waiting], workers)
    waiting.reverse()
    own, pace, left = np.empty(0), np.empty(0), np.empty(0)
    now = 0.0
    while waiting or len(left):
        begun = [waiting.pop() for _ in range(min(workers - len(left), len(waiting)))]
        if begun:
            own = np.append(own, [job[0] for job in begun])
            pace = np.append(pace, [job[1] / job[0] for job in begun])
            left = np.append(left, np.ones(len(begun)))
        # A job that gets a part of what it could use takes so much longer.
        speed = np.minimum(1.0, fair_level(pace, bandwidth) / np.maximum(pace, 1e-9)) / own
        until = left / speed
        step = float(until.min())
        now += step
        left = left - step * speed
        going = until > step * (1 + 1e-9)
        own, pace, left = own[going], pace[going], left[going]
    return now


def fair_level(pace: Vector, bandwidth: float) -> float:
    """Bytes/s that nobody gets more of when all that want to share the network evenly.

    Args:
        pace: bytes/s that each could use.
        bandwidth: bytes/s of all together.
    """
    if float(pace.sum()) <= bandwidth:
        return math.inf
    rising = np.sort(pace)
    below = np.concatenate(([0.0], np.cumsum(rising)[:-1]))
    level = (bandwidth - below) / np.arange(len(rising), 0, -1)
    # The first that cannot have all it wants, while all below it do, sets the level.
    return float(level[np.flatnonzero(rising >= level)[0]])


def cost_table(
    archive_sizes: Sequence[int],
    *,
    num_images_wanted: int,
    num_images: int | None,
    remote: bool,
    gzip_share: float = 0.0,
    workers: Sequence[int] = (1, 16, 64, 256),
    rates: Rates | None = None,
) -> Table:
    """What a sampled build takes on networks of different speeds, a row each.

    The arguments are those of `predict`, but for several numbers of workers.

    Raises:
        UserError: a number that is out of its range.
    """
    rates = rates or Rates()
    title = f"{num_images_wanted:,} images of {len(archive_sizes):,} archives, "
    table = Table(title=title + ("behind a URL" if remote else "on disks of this machine"))
    table.add_column("network" if remote else "disks", justify="right")
    table.add_column("busy from", justify="right")
    table.add_column("an archive", justify="right")
    for number in workers:
        table.add_column(f"{number:,} worker{'' if number == 1 else 's'}", justify="right")
    for speed in NETWORKS:
        found = [
            predict(
                archive_sizes,
                num_images_wanted=num_images_wanted,
                num_images=num_images,
                remote=remote,
                gzip_share=gzip_share,
                bandwidth=speed * BYTES_PER_GBIT,
                workers=number,
                rates=rates,
            )
            for number in workers
        ]
        limit = found[0].workers_at_limit
        table.add_row(
            f"{speed:g} Gbit/s",
            "never" if limit is None else f"{limit:,} worker{'' if limit == 1 else 's'}",
            _time(found[0].seconds_per_archive),
            *(_time(costs.hours * 3600) for costs in found),
        )
        any_of_it = found[0]
    table.caption = (
        f"read: {any_of_it.num_bytes_read / 1e12:.3f} TB, of it "
        f"{any_of_it.num_bytes_chosen / 1e9:.1f} GB chosen; computed: "
        f"{any_of_it.choosing_cpu_seconds / 3600:.1f} core hours choosing, "
        f"{any_of_it.extracting_cpu_seconds / 3600:.1f} extracting\nrates: {rates.machine}"
    )
    return table


@dataclass(frozen=True, slots=True)
class _Jobs:
    """Jobs of one pass: seconds that each takes unhindered, bytes, seconds of computing."""

    seconds: Vector
    num_bytes: Vector
    cpu_seconds: Vector
    hopped: float = 0.0
    streamed: float = 0.0
    unzipped: float = 0.0


def _choosing(
    sizes: Vector,
    pictures: Vector,
    listed: Vector,
    is_gzip: NDArray[np.bool_],
    remote: bool,
    rates: Rates,
) -> _Jobs:
    """An archive each."""
    hops = ~is_gzip & (not remote)
    # Who reads on does not know what is still to come: of n pictures in any order so many are among
    # the k first so far when they go by.
    going_by = listed * (1 + np.log(np.maximum(1, pictures) / np.maximum(1, listed)))
    notes = np.where(hops, listed, np.minimum(pictures, going_by)) / rates.notes
    through = sizes / np.where(is_gzip, rates.gunzip, rates.stream)
    hopping = 2 * pictures / rates.headers
    hopped_bytes = np.minimum(sizes, 2 * pictures * PAGE + listed * rates.notes_bytes)
    num_bytes = np.where(hops, hopped_bytes, sizes)
    cpu = np.where(hops, hopping, through) + notes
    seconds = cpu
    if remote:
        # Its bytes come while it computes.
        seconds = np.maximum(cpu, sizes / rates.connection) + rates.request_seconds
    return _Jobs(
        seconds,
        num_bytes,
        cpu,
        hopped=float(num_bytes[hops].sum()),
        streamed=float(num_bytes[~hops & ~is_gzip].sum()),
        unzipped=float(num_bytes[is_gzip].sum()),
    )


def _extracting(wanted: int, remote: bool, rates: Rates) -> _Jobs:
    """A shard each: two ranges a picture, one after the other."""
    full, rest = divmod(wanted, rates.samples_per_task)
    counts = np.array([rates.samples_per_task] * full + [rest] * (rest > 0), np.float64)
    num_bytes = counts * rates.picture_bytes
    cpu = counts / rates.extract
    waiting = counts * 2 * rates.request_seconds + num_bytes / rates.connection
    return _Jobs(cpu + waiting if remote else cpu, num_bytes, cpu)


def _is_gzip(count: int, share: float) -> NDArray[np.bool_]:
    """Which of some archives are gzip inside: so many of them, spread evenly."""
    reached = np.floor(np.arange(count + 1) * share + 1e-9)
    is_gzip: NDArray[np.bool_] = np.diff(reached) > 0
    return is_gzip


def _unlimited(seconds: Sequence[float], workers: int) -> float:
    free = [0.0] * min(workers, len(seconds))
    for own in seconds:
        heapq.heapreplace(free, free[0] + own)
    return max(free)


def _check(
    sizes: Sequence[int], wanted: int, gzip_share: float, bandwidth: float, workers: int
) -> None:
    if any(size < 0 for size in sizes):
        raise UserError("an archive cannot have less than 0 bytes")
    if wanted < 1:
        raise UserError(f"{wanted:,} images are none to draw", expected="at least 1")
    if not 0 <= gzip_share <= 1:
        raise UserError(f"a share of {gzip_share:g} is none", expected="a number from 0 to 1")
    if not 0 < bandwidth < math.inf:
        raise UserError(f"{bandwidth:g} bytes/s are no bandwidth", expected="a number above 0")
    if workers < 1:
        raise UserError(f"{workers} workers do nothing", expected="at least 1")


def _time(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h` or `5.2 days`."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 72 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
