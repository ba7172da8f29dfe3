"""How fast a build is, beside a bare loop over the same files on the same cores.

    python -m benchmarks.build                # stand-in at a tenth of full scale, true mix of sizes
    python -m benchmarks.build --data-root data/ --recipe hqseg-44k          # your own files

The bare loop reads image and mask, decodes both with the libraries that the build uses, and takes
the SHA-256 of the image's bytes, the mask's bytes and the decoded pixels: what any honest record of
a picture needs. It writes nothing. The build does all of that, checks, measures the masks, makes
records, writes shards and their digests; its time is that of the whole call, process start, scan
and manifest included. Loop and build alternate, and the ratio is that of the medians. Up to 4 GiB
of files are in the page cache for both; beyond that both read from the disk.

The build also takes the perceptual fingerprint of every picture, which the bare loop does not. What
that costs is told apart: the time that `global_hash` takes of the same decoded pictures, in as many
processes, beside what is left of the build's time on all of its cores.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import multiprocessing
import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from hqdata.build.plan import ShardTask, plan
from hqdata.build.run import BuildOptions, build
from hqdata.codecs import decode_jpeg
from hqdata.fingerprint import global_hash
from hqdata.mini import make_mini
from hqdata.recipe import load_recipe
from hqdata.resolve import ResolvedRecipe, resolve
from hqdata.scan import scan
from hqdata.sources.discover import choose, discover, pair_found
from hqdata.sources.layouts import TreeIndex
from hqdata.storage import FileReader

CACHED_BYTES = 4 * 2**30
"""Up to here the files are read once beforehand; more would not stay in the page cache anyway."""

Pairs = Sequence[tuple[str, str]]


def bare_loop(pairs: Pairs) -> int:
    """Reads, decodes and hashes; returns the number of pictures."""
    cv2.setNumThreads(1)
    for image, mask in pairs:
        image_bytes, mask_bytes = Path(image).read_bytes(), Path(mask).read_bytes()
        pixels = decode_jpeg(image_bytes)
        cv2.imdecode(np.frombuffer(mask_bytes, np.uint8), cv2.IMREAD_GRAYSCALE)
        for data in (image_bytes, mask_bytes, pixels.data):
            hashlib.sha256(data).hexdigest()
    return len(pairs)


def run_bare(pairs: Pairs, workers: int) -> float:
    """Seconds of the bare loop over all pairs, spread over processes like the build's work."""
    chunk = 16
    parts = [pairs[i : i + chunk] for i in range(0, len(pairs), chunk)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        list(pool.map(bare_loop, [parts[0]] * workers))  # start the processes
        began = time.perf_counter()
        done = sum(pool.map(bare_loop, parts))
        seconds = time.perf_counter() - began
    assert done == len(pairs)
    return seconds


def run_build(resolved: ResolvedRecipe, data_root: Path, out: Path, workers: int) -> float:
    """Seconds of a whole build: scan, plan, process start, shards, manifest."""
    shutil.rmtree(out, ignore_errors=True)
    began = time.perf_counter()
    result = build(resolved, data_root, out, BuildOptions(workers=workers))
    seconds = time.perf_counter() - began
    if result.info.num_samples == 0:
        raise SystemExit("nothing was built")
    return seconds


def hash_seconds(pairs: Pairs) -> float:
    """Seconds that the fingerprints of all pictures take, their decoding not counted."""
    cv2.setNumThreads(1)
    seconds = 0.0
    for image, _ in pairs:
        pixels = decode_jpeg(Path(image).read_bytes())
        began = time.perf_counter()
        global_hash(pixels)
        seconds += time.perf_counter() - began
    return seconds


def run_hashes(pairs: Pairs, workers: int) -> float:
    """Seconds of all processes together: every core is as busy as in a build."""
    chunk = 16
    parts = [pairs[i : i + chunk] for i in range(0, len(pairs), chunk)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return sum(pool.map(hash_seconds, parts))


def tasks_of(resolved: ResolvedRecipe, data_root: Path) -> list[ShardTask]:
    tree = scan(data_root)
    index = TreeIndex(tree)
    pairings = {
        (request.source, request.split): pair_found(index, request, match)
        for request, match in choose(discover(index, resolved.splits), tree)
    }
    return plan(resolved.splits, pairings, resolved.recipe)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, help="default: a stand-in made for the purpose")
    parser.add_argument("--recipe", default="hqseg-44k")
    parser.add_argument("--scale", default="0.1", help="of the stand-in; 1 is 44,320 pictures")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--target", type=float, default=0.8, help="exit 1 below this ratio")
    parser.add_argument(
        "--hash-target", type=float, default=0.5, help="exit 1 if hashes / rest of build is above"
    )
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="hqdata-bench-") as scratch:
        data_root = args.data_root
        if data_root is None:
            data_root = Path(scratch) / "data"
            print(f"making a stand-in at scale {args.scale} ...", flush=True)
            sets = {"dis", "thinobject", "fss", "duts", "ecssd", "msra"}
            make_mini(data_root, scale=args.scale, workers=args.workers, sets=sets)
        recipe = load_recipe(args.recipe)
        if args.data_root is None:
            # A part of the pictures in as many shards a core as all of them have in theirs.
            recipe = recipe.model_copy(update={"bytes_per_shard": 16 * 2**20})
        resolved = resolve(recipe, subset=True)
        tasks = tasks_of(resolved, data_root)
        items = [item for task in tasks for item in task.items]
        num_bytes = sum(task.num_source_bytes for task in tasks)
        pairs = [(item.image.container, item.mask.container) for item in items]
        if num_bytes < CACHED_BYTES:
            with FileReader() as reader:
                for item in items:
                    reader.read(item.image), reader.read(item.mask)
        print(
            f"{len(items):,} pictures, {num_bytes / 2**20:,.0f} MiB, {len(tasks)} shards, "
            f"{args.workers} processes; {platform.machine()}, Python {platform.python_version()}",
            flush=True,
        )
        bare, built = [], []
        for number in range(args.rounds):
            gc.collect()
            bare.append(run_bare(pairs, args.workers))
            built.append(run_build(resolved, data_root, Path(scratch) / "out", args.workers))
            print(
                f"round {number + 1}: bare loop {len(items) / bare[-1]:,.0f} images/s, "
                f"build {len(items) / built[-1]:,.0f} images/s, ratio {bare[-1] / built[-1]:.3f}",
                flush=True,
            )
        hashes = run_hashes(pairs, args.workers)
    ratio = statistics.median(bare) / statistics.median(built)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"build rate / bare loop rate: {ratio:.3f} (median of {args.rounds})")
    busy = statistics.median(built) * args.workers
    share = hashes / (busy - hashes)
    each = 1000 / len(items)
    print(
        f"hashes / rest of build: {share:.3f} "
        f"({each * hashes:.2f} of {each * busy:.2f} ms a picture and core)"
    )
    print(f"largest process: {peak:,.0f} MiB")
    sys.exit(0 if ratio >= args.target and share <= args.hash_target else 1)


if __name__ == "__main__":
    main()
