"""How fast SA-1B's archives are scanned, beside what merely reads them.

    python -m benchmarks.sa1b                       # a tar of 1.5 GB, made for it and removed after
    python -m benchmarks.sa1b --archive sa_000020.tar               # one of your own

The archive has upstream's proportions: pictures of 2250x1500 of about 0.7 MB, each with a json of
100 masks. A few hundred are drawn and used again under other numbers. What is asked for is what an
archive of that many pictures lists for a sample of 44,320.

- `stream`: the archive read from its front to its end, as one behind a URL is, and as fast as this
  machine's page cache gives it; beside `cat FILE > /dev/null` of the same file. Once with nothing
  wanted (what skipping costs), once with the json that are looked at on the way.
- `hop`: the archive on this machine: headers, and the json that are needed. What it reads is told.
- `gzip`: the same with gzip around the first part of it, its candidates kept, beside `gzip -dc`.
- `rle`: masks decoded, beside pycocotools (whose masks are 0 and 1, column by column; turning them
  into what ours are is not counted).

Peer and ours alternate; ratios are those of the medians. One core does all of it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco

from hqdata import rle
from hqdata.bundles.find import Bundle, find_bundles
from hqdata.bundles.scan import BundleScan, scan_bundle
from hqdata.bundles.stream import Chunks, local_chunks
from hqdata.bundles.streamed import FirstSoFar, pass_by
from hqdata.bundles.task import Task
from hqdata.bundles.walk import walk_stream
from hqdata.places import Place
from hqdata.sampling import Choice, num_to_keep

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from support.sa1b import dump, make_notes  # noqa: E402  # after the path above

WIDTH, HEIGHT, NUM_MASKS = 2250, 1500, 100
SAMPLE, ALL_PICTURES, PICTURES_OF_A_TAR = 44_320, 11_185_362, 11_186
CHOICE = Choice(seed=44320)


def draw_picture(number: int) -> bytes:
    """A JPEG of upstream's size, in pixels and in bytes."""
    draws = np.random.default_rng(number)
    small = draws.integers(0, 256, (HEIGHT // 30, WIDTH // 30, 3), np.uint8)
    pixels = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    grain = draws.standard_normal((HEIGHT // 2, WIDTH // 2, 3), np.float32) * draws.uniform(3, 7)
    pixels += cv2.resize(grain, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    data = cv2.imencode(".jpg", pixels.clip(0, 255).astype(np.uint8))[1]
    return data.tobytes()


def make_archive(path: Path, num_bytes: int, num_drawn: int) -> int:
    """Writes a tar of about so many bytes; returns the number of pictures."""
    pictures = cycle([draw_picture(number) for number in range(num_drawn)])
    draw = random.Random(1)
    number = 0
    with tarfile.open(path, "w") as tar:
        while tar.offset < num_bytes:
            number += 1
            image_id = draw.randrange(ALL_PICTURES * 10) * 10_000 + number
            notes = make_notes(image_id, width=WIDTH, height=HEIGHT, num_masks=NUM_MASKS)
            for end, data in (("jpg", next(pictures)), ("json", dump(notes))):
                info = tarfile.TarInfo(f"sa_{image_id}.{end}")
                info.size = len(data)
                tar.addfile(info, BytesIO(data))
    return number


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def shell(*command: str) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def task_of(bundle: Bundle, num_keep: int) -> Task:
    return Task(bundle, CHOICE, num_keep, lambda number: None, lambda: False)


def stream(bundle: Bundle, num_keep: int, *, look: bool) -> int:
    """Reads the archive as one behind a URL is read; returns the number of json looked at."""
    task = task_of(bundle, num_keep)
    handle = os.open(bundle.containers[0], os.O_RDONLY)
    try:
        chunks = Chunks(local_chunks(task, handle))
        if not look:
            return sum(1 for _ in walk_stream(chunks, bundle.size)) * 0
        seen = FirstSoFar(task, None, frozenset())
        pass_by(seen, chunks, bundle.size)
        return len(seen.verdicts)
    finally:
        os.close(handle)


def scan(bundle: Bundle, num_keep: int, out: Path, index: Path | None = None) -> BundleScan:
    return scan_bundle(
        bundle,
        CHOICE,
        num_keep,
        kept=Place.of(out),
        kept_name="kept.tar",
        index=None if index is None else Place.of(index),
        tick=lambda number: None,
        should_stop=lambda: False,
    )


def masks(bundle: Bundle, number: int) -> list[tuple[int, int, bytes]]:
    """Height, width and run lengths of masks of the archive."""
    found: list[tuple[int, int, bytes]] = []
    with tarfile.open(bundle.containers[0]) as tar:
        for member in tar:
            if member.name.endswith(".json") and (file := tar.extractfile(member)):
                for row in json.loads(file.read())["annotations"]:
                    height, width = row["segmentation"]["size"]
                    found.append((height, width, row["segmentation"]["counts"].encode()))
            if len(found) >= number:
                break
    return found[:number]


def decode_ours(found: list[tuple[int, int, bytes]]) -> None:
    for height, width, counts in found:
        rle.decode(counts, height, width)


def decode_peer(found: list[tuple[int, int, bytes]]) -> None:
    for height, width, counts in found:
        coco.decode({"size": [height, width], "counts": counts})


def area_ours(found: list[tuple[int, int, bytes]]) -> None:
    for height, width, counts in found:
        rle.area(rle.run_lengths(counts, height, width))


def compare(
    name: str, rounds: int, num: float, unit: str, peer: tuple[str, Callable[[], object]],
    ours: Callable[[], object],
) -> float:  # fmt: skip
    """Prints both rates and their ratio."""
    pairs = [(seconds(peer[1]), seconds(ours)) for _ in range(rounds)]
    theirs, own = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"{name}: {num / own:,.2f} {unit}, {peer[0]} {num / theirs:,.2f} {unit}, "
        f"ratio {theirs / own:.2f} (median of {rounds})",
        flush=True,
    )
    return theirs / own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=Path, help="default: one made for the purpose")
    parser.add_argument("--gigabytes", type=float, default=1.5, help="of the one that is made")
    parser.add_argument("--drawn", type=int, default=200, help="different pictures in it")
    parser.add_argument("--gzip-megabytes", type=float, default=300, help="of it in gzip")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--target", type=float, default=0.7, help="exit 1 if skipping is below")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="hqdata-bench-") as scratch:
        path = Path(scratch) / "plain/sa_000000.tar"
        path.parent.mkdir()
        if args.archive is None:
            print(f"making an archive of {args.gigabytes} GB ...", flush=True)
            make_archive(path, int(args.gigabytes * 1e9), args.drawn)
        else:
            path.symlink_to(args.archive.absolute())
        sys.exit(0 if run(path, Path(scratch), args) else 1)


def run(path: Path, scratch: Path, args: argparse.Namespace) -> bool:
    (bundle,) = find_bundles(path.parent)
    size = bundle.size / 1e9
    shell("cat", str(path))  # into the page cache, as far as it fits
    first = scan(bundle, 1, scratch)
    num_keep = num_to_keep(SAMPLE * first.num_images / ALL_PICTURES)
    print(
        f"{first.num_images:,} pictures, {size:.2f} GB, {num_keep} asked for; "
        f"{platform.machine()}, Python {platform.python_version()}"
    )
    cat = ("cat", lambda: shell("cat", str(path)))
    kept = compare(
        "stream, nothing wanted", args.rounds, size, "GB/s", cat,
        lambda: stream(bundle, num_keep, look=False),
    )  # fmt: skip
    compare(
        f"stream, {stream(bundle, num_keep, look=True)} json looked at", args.rounds, size, "GB/s",
        cat, lambda: stream(bundle, num_keep, look=True),
    )  # fmt: skip
    compare("hop", args.rounds, size, "GB/s", cat, lambda: scan(bundle, num_keep, scratch))
    found = scan(bundle, num_keep, scratch)
    took = statistics.median(seconds(lambda: scan(bundle, num_keep, scratch)) for _ in range(5))
    whole = took * PICTURES_OF_A_TAR / first.num_images
    print(
        f"hop: {found.num_bytes_read / 1e6:,.2f} MB of {size * 1e3:,.0f} MB read in {took:.3f} s; "
        f"{whole:.2f} s for one of {PICTURES_OF_A_TAR:,} pictures"
    )
    index = scratch / "index"
    scan(bundle, num_keep, scratch, index)
    took = statistics.median(
        seconds(lambda: scan(bundle, num_keep, scratch, index)) for _ in range(5)
    )
    print(f"with its index: {took:.3f} s")
    part = scratch / "gzip/sa_000000.tar"
    part.parent.mkdir()
    with open(path, "rb") as whole_file, open(part, "wb") as sink:
        first_part = whole_file.read(int(args.gzip_megabytes * 1e6))
        subprocess.run(["gzip", "-1c"], input=first_part, stdout=sink, check=True)
    (zipped,) = find_bundles(part.parent)
    compare(
        "gzip", max(1, args.rounds // 2), zipped.size / 1e9, "GB/s",
        ("gzip -dc", lambda: shell("gzip", "-dc", str(part))),
        lambda: scan(zipped, num_keep, scratch),
    )  # fmt: skip
    several = masks(bundle, 500)
    faster = compare(
        "rle decode", args.rounds, len(several), "masks/s",
        ("pycocotools", lambda: decode_peer(several)), lambda: decode_ours(several),
    )  # fmt: skip
    took = seconds(lambda: area_ours(several))
    print(f"rle checked and counted, not drawn: {len(several) / took:,.0f} masks/s")
    return kept >= args.target and faster >= 1


if __name__ == "__main__":
    main()
