"""How fast a push is, beside the bare client uploading the same folder to the same Hub.

    python -m benchmarks.push                 # 1 GiB over plain HTTP
    python -m benchmarks.push --xet           # by the way that current clients take by default
    python -m benchmarks.push --mebibytes 256

The Hub is the one of the tests, on this machine; it keeps what it gets on the same disk and hashes
it with the same cores. The bare client is one call of `upload_folder` to the main branch. A push
also re-reads every shard and compares its digest with the manifest before anything leaves, makes
card and metadata, goes through a pull request, and compares every file on the far side. Both run in
a process of their own, by turns, each time to a new repository of an empty Hub. The time is that of
the whole process; what the push needs before it sends its first byte is told apart, and so is the
largest memory that each took.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg

from hqdata.build.run import BuildOptions, build
from hqdata.recipe import Recipe, RecipeSource
from hqdata.resolve import resolve

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from support.hub import FakeHub, fake_hub  # noqa: E402  # after the path above
from support.pictures import disc, encode  # noqa: E402

TOKEN = "hf_TokenOfTheBenchmark0000000000001"
SIDE = 2400

BARE = """
import sys
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("me/set", repo_type="dataset", private=True)
api.upload_folder(repo_id="me/set", folder_path=sys.argv[1], repo_type="dataset",
                  ignore_patterns=[".hqdata/*"])
"""


@dataclass(frozen=True)
class Run:
    """What one upload took; times in seconds, memory in bytes."""

    whole: float
    before_first_byte: float
    memory: int


def make_data_set(folder: Path, num_bytes: int) -> Path:
    """Shards of that size, of noise, which no storage can make smaller."""
    images, masks = folder / "data/noise/images", folder / "data/noise/masks"
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    rng = np.random.default_rng(44320)
    mask = encode(disc(SIDE, SIDE, SIDE / 3), "PNG")
    written = number = 0
    while written < num_bytes:
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        data = simplejpeg.encode_jpeg(pixels, quality=95, colorspace="RGB")
        (images / f"{number:04d}.jpg").write_bytes(data)
        (masks / f"{number:04d}.png").write_bytes(mask)
        written, number = written + len(data) + len(mask), number + 1
    source = RecipeSource(
        source="noise", images="noise/images", masks="noise/masks", licence="CC0-1.0"
    )
    recipe = Recipe(name="noise", sources=(source,), bytes_per_shard=128 * 2**20)
    options = BuildOptions(workers=os.cpu_count() or 1)
    build(resolve(recipe), folder / "data", folder / "shards", options)
    shutil.rmtree(folder / "data")
    return folder / "shards"


def peak_memory(pid: int) -> int:
    """The most memory that a process has held so far, in bytes; 0 once it has gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def measure(words: list[str], hub: FakeHub, *, xet: bool) -> Run:
    """Runs a command against the Hub."""
    environment = hub.environment(TOKEN, HF_HUB_DISABLE_XET="0" if xet else "1")
    environment["PYTHONPATH"] = str(REPOSITORY)
    began = time.monotonic()
    said = hub.folder / "said.txt"
    with said.open("w") as log:
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
    first, memory = None, 0
    pid = 0
    while not pid:
        if first is None and any(seen.method in ("PUT", "POST") for seen in list(hub.requests)):
            first = time.monotonic() - began
        memory = max(memory, peak_memory(process.pid))
        time.sleep(0.01)
        pid, status = os.waitpid(process.pid, os.WNOHANG)
    whole = time.monotonic() - began
    code = process.returncode = os.waitstatus_to_exitcode(status)
    if code:
        sys.exit(f"{' '.join(words)}\n{said.read_text()}")
    return Run(whole, first or whole, memory)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.push",
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mebibytes", type=int, default=1024, help="size of the shards")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--xet", action="store_true", help="by the Hub's own storage")
    parser.add_argument("--at-least", type=float, default=0.8, help="ratio asked for")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hqdata-bench-") as name:
        folder = Path(name)
        shards = make_data_set(folder, options.mebibytes * 2**20)
        size = sum(path.stat().st_size for path in shards.rglob("*.tar"))
        print(f"{size / 2**20:,.0f} MiB in {len(list(shards.rglob('*.tar')))} shards, ", end="")
        print(f"{platform.machine()}, {os.cpu_count()} cores, {'Xet' if options.xet else 'HTTP'}")
        words = {
            "bare client": [sys.executable, "-c", BARE, str(shards)],
            "hqdata push": [
                *(sys.executable, "-m", "hqdata", "push", str(shards)),
                *("--repo", "me/set", "--without-certificate"),
            ],
        }
        runs: dict[str, list[Run]] = {label: [] for label in words}
        for number in range(options.rounds):
            for label, command in words.items():
                at = folder / f"hub-{number}-{label[:4]}"
                with fake_hub(at) as hub:
                    hub.add_user("me", TOKEN)
                    runs[label].append(measure(command, hub, xet=options.xet))
                shutil.rmtree(at)
    rates, sending = {}, {}
    for label, found in runs.items():
        whole = statistics.median(run.whole for run in found)
        before = statistics.median(run.before_first_byte for run in found)
        rates[label], sending[label] = size / whole, size / (whole - before)
        print(
            f"{label}: {size / 2**20 / whole:6.1f} MiB/s, {whole:5.1f} s in all, {before:4.1f} s "
            f"before the first byte, {max(run.memory for run in found) / 2**20:,.0f} MiB of memory"
        )
    ratio = rates["hqdata push"] / rates["bare client"]
    while_sending = sending["hqdata push"] / sending["bare client"]
    print(f"ratio {ratio:.2f} (asked: {options.at_least}); from the first byte {while_sending:.2f}")
    return 0 if ratio >= options.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
