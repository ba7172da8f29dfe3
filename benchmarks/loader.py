"""How fast the loader is, beside the public trainer's method and a plain one, on one core each.

    python -m benchmarks.loader                     # pictures made for it, true mix of sizes
    python -m benchmarks.loader --photos photos/    # the same sizes, filled with your photographs
    python -m benchmarks.loader --shards shards/    # your own shards

The public method decodes with scikit-image (with Pillow where that is not installed; the output
says which), makes float32 tensors, flips, resizes image and mask as a whole with `F.interpolate`,
cuts the crop out, pads, and stacks float32 batches. The plain one decodes with OpenCV, cuts the
region of the crop out of the source, rounded to whole pixels, and resizes it in 8 bits. Ours is the
loader that the trainer uses; beside what the others do it draws the prompts.

All of them read the same samples from the same shards on one core, in turn and a few at a time, so
that whatever else the machine does hits them alike; what counts is the processor's time. Ours with
several processes is timed on its own: the time of the loader processes, and the whole by the clock.

Pictures come in the sizes and shares of the six sources. With `--photos` each is tiled and cut from
a photograph, its mask drawn. HQDATA_REAL_DATA names a folder whose `photos/` are taken by default.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from PIL import Image

from hqdata.build.run import BuildOptions, build
from hqdata.mini import make_mini
from hqdata.recipe import load_recipe
from hqdata.resolve import resolve
from training.data.augment import JitterConfig, draw_jitter
from training.data.members import SampleBytes
from training.data.order import MicroBatch, StreamState
from training.data.seeds import sample_generator
from training.data.selection import Selection, select
from training.data.shards import OpenedShards, open_shards
from training.data.stream import Stream, StreamConfig

SIZE = 1024
BATCH = 4
CHUNK = 40
SETS = {"dis", "thinobject", "fss", "duts", "ecssd", "msra"}
REPOSITORY = Path(__file__).resolve().parents[1]

Decoder = Callable[[bytes], NDArray[np.uint8]]
Method = Callable[[Sequence[int]], int]


def public_decoder() -> tuple[str, Decoder]:
    """What the public loader decodes with, and its name."""
    try:
        from skimage.io import imread
    except ImportError:
        return "Pillow (scikit-image is not installed)", lambda data: np.asarray(
            Image.open(io.BytesIO(data))
        )
    return "scikit-image", lambda data: np.asarray(imread(io.BytesIO(data)))


def public_sample(sample: SampleBytes, decoder: Decoder) -> tuple[torch.Tensor, torch.Tensor]:
    """Image, float32 (3, size, size), and mask, float32 (1, size, size)."""
    image, mask = decoder(sample.image), decoder(sample.mask)
    if image.ndim < 3:
        image = np.repeat(image[:, :, None], 3, axis=2)
    pixels = torch.tensor(image.copy(), dtype=torch.float32).permute(2, 0, 1)
    label = torch.tensor(mask.copy(), dtype=torch.float32)[None]
    if torch.rand(()) < 0.5:
        pixels, label = pixels.flip(-1), label.flip(-1)
    size = torch.tensor(pixels.shape[-2:])
    target = ((torch.rand(()) * 1.9 + 0.1) * SIZE).round()
    scaled = (size * (target / size).min()).round().long().clamp(min=1).tolist()
    pixels = F.interpolate(pixels[None], scaled, mode="bilinear")[0]
    label = F.interpolate(label[None], scaled, mode="bilinear")[0]
    height, width = (min(SIZE, side) for side in scaled)
    top, left = (int(np.random.randint(0, max(0, side - SIZE) + 1)) for side in scaled)
    pad = [0, SIZE - width, 0, SIZE - height]
    pixels = F.pad(pixels[:, top : top + height, left : left + width], pad, value=128)
    label = F.pad(label[:, top : top + height, left : left + width], pad, value=0)
    return pixels, label


def plain_sample(
    sample: SampleBytes, generator: np.random.Generator
) -> tuple[NDArray[np.uint8], ...]:
    """Image, uint8 (size, size, 3), and mask, uint8 (size, size)."""
    image = cv2.imdecode(np.frombuffer(sample.image, np.uint8), cv2.IMREAD_COLOR)
    mask = cv2.imdecode(np.frombuffer(sample.mask, np.uint8), cv2.IMREAD_GRAYSCALE)
    jitter = draw_jitter(generator, mask.shape[:2], JitterConfig(size=SIZE))
    height, width = min(SIZE, jitter.height), min(SIZE, jitter.width)
    down, across = mask.shape[0] / jitter.height, mask.shape[1] / jitter.width
    rows = slice(int(jitter.top * down), int(np.ceil((jitter.top + height) * down)))
    columns = slice(int(jitter.left * across), int(np.ceil((jitter.left + width) * across)))
    results = []
    for pixels, value in ((cv2.cvtColor(image, cv2.COLOR_BGR2RGB), 128), (mask, 0)):
        whole = cv2.flip(pixels, 1) if jitter.flipped else pixels
        crop = cv2.resize(whole[rows, columns], (width, height), interpolation=cv2.INTER_LINEAR)
        border = (0, SIZE - height, 0, SIZE - width)
        fill = (value,) * 3
        results.append(cv2.copyMakeBorder(crop, *border, cv2.BORDER_CONSTANT, value=fill))
    return tuple(np.asarray(result, np.uint8) for result in results)


def methods(opened: OpenedShards, selection: Selection) -> tuple[str, dict[str, Method]]:
    """What is compared, by name: each makes batches of some rows and returns how many samples."""
    read = opened.reader.read
    name, decoder = public_decoder()
    generator = sample_generator(0, 0, "plain")
    maker = new_stream(opened, selection, workers=0).maker()

    def public(rows: Sequence[int]) -> int:
        samples = [public_sample(read(row), decoder) for row in rows]
        return len(torch.stack([s[0] for s in samples])) + 0 * len(
            torch.stack([s[1] for s in samples])
        )

    def plain(rows: Sequence[int]) -> int:
        samples = [plain_sample(read(row), generator) for row in rows]
        return len(np.stack([s[0] for s in samples])) + 0 * len(np.stack([s[1] for s in samples]))

    def ours(rows: Sequence[int]) -> int:
        return len(maker.make(MicroBatch(0, 0, tuple(rows), True, len(rows))))

    return name, {"public": public, "plain OpenCV": plain, "ours": ours}


def new_stream(
    opened: OpenedShards, selection: Selection, *, workers: int, epochs: int = 1
) -> Stream:
    config = StreamConfig(
        image_size=SIZE,
        mask_size=SIZE // 4,
        batch_size=BATCH,
        micro_batch_size=BATCH,
        workers=workers,
    )
    state = StreamState(digest=selection.digest, seed=0)
    return Stream(selection, opened, config, state=state, epochs=epochs)


def time_in_turn(compared: dict[str, Method], rows: Sequence[int]) -> dict[str, float]:
    """Seconds of a core that each method takes for all rows."""
    seconds = dict.fromkeys(compared, 0.0)
    for method in compared.values():
        method(rows[:BATCH])
    for first in range(0, len(rows), CHUNK):
        chunk = rows[first : first + CHUNK]
        batches = [chunk[i : i + BATCH] for i in range(0, len(chunk), BATCH)]
        for name, method in compared.items():
            began = time.process_time()
            done = sum(method(batch) for batch in batches)
            seconds[name] += time.process_time() - began
            if done != len(chunk):
                raise SystemExit(f"{name}: {len(chunk) - done} samples could not be read")
    return seconds


@dataclass(frozen=True)
class Loaded:
    """How the whole loader did: images/s by the clock, and of the loader processes the seconds of a
    core that they took for an image, and the largest of them in MiB.

    `shared_mib` of the largest are PyTorch and other libraries, which all of them share.
    """

    images_per_second: float
    core_seconds: float
    peak_mib: float
    shared_mib: float


def time_stream(opened: OpenedShards, selection: Selection, workers: int, number: int) -> Loaded:
    """Times the whole loader, its start not counted."""
    epochs = -(-number // len(selection)) + 1  # it never comes to the end while the clock runs
    batches = iter(new_stream(opened, selection, workers=workers, epochs=epochs))
    for _ in range(2 * workers):  # what was ready before the clock was started
        next(batches)
    processes = [process.pid for process in multiprocessing.active_children() if process.pid]
    spent, began, done = cores(processes), time.perf_counter(), 0
    while done < number:
        done += len(next(batches))
    seconds, spent = time.perf_counter() - began, cores(processes) - spent
    largest = max(processes, key=lambda pid: memory(pid, "status", "VmHWM"))
    peak = memory(largest, "status", "VmHWM")
    shared = memory(largest, "smaps_rollup", "Rss") - memory(largest, "smaps_rollup", "Pss")
    return Loaded(done / seconds, spent / done, peak, shared)


def cores(processes: Sequence[int]) -> float:
    """Seconds of a core that processes took so far."""
    ticks = 0
    for pid in processes:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory(pid: int, file: str, name: str) -> float:
    """A figure of a process in MiB."""
    lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def make_shards(scratch: Path, scale: str, photos: Path | None, workers: int) -> Path:
    """Builds shards of pictures in the sizes and shares of the six sources."""
    make_mini(scratch / "data", scale=scale, workers=workers, sets=SETS)
    if photos is not None:
        fill_with_photographs(scratch / "data", photos)
    resolved = resolve(load_recipe("hqseg-44k"), subset=True)
    build(resolved, scratch / "data", scratch / "shards", BuildOptions(workers=workers))
    return scratch / "shards"


def fill_with_photographs(data: Path, photos: Path) -> None:
    """Writes over the images: a photograph, mirrored next to itself until it is large enough."""
    found = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not found:
        raise SystemExit(f"there are no JPEG files in {photos}")
    for number, path in enumerate(sorted(data.rglob("*.jpg"))):
        width, height = Image.open(path).size
        photo = cv2.imread(str(found[number % len(found)]), cv2.IMREAD_COLOR)
        if photo is None:
            raise SystemExit(f"cannot be decoded: {found[number % len(found)]}")
        factor = max(
            224 / min(photo.shape[:2]), min(1.0, max(width, height) / max(photo.shape[:2]))
        )
        photo = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        down, right = max(0, height - photo.shape[0]), max(0, width - photo.shape[1])
        tiled = cv2.copyMakeBorder(photo, 0, down, 0, right, cv2.BORDER_REFLECT)
        cv2.imwrite(str(path), tiled[:height, :width], [cv2.IMWRITE_JPEG_QUALITY, 90])


def default_photos() -> Path | None:
    root = os.environ.get("HQDATA_REAL_DATA", str(REPOSITORY.parent / "shared" / "real-data"))
    path = Path(root) / "photos"
    return path if path.is_dir() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shards", help="your own; default: made for the purpose")
    parser.add_argument("--photos", type=Path, default=default_photos(), help="what fills pictures")
    parser.add_argument("--scale", default="0.01", help="of the pictures made; 1 is 44,320")
    parser.add_argument("--number", type=int, default=400, help="samples that are timed")
    parser.add_argument("--workers", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--target", type=float, default=5.0, help="exit 1 below ours / public")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(0)
    np.random.seed(0)

    with tempfile.TemporaryDirectory(prefix="training-bench-") as scratch:
        shards = args.shards
        if shards is None:
            what = f"photographs of {args.photos}" if args.photos else "drawings"
            print(f"making pictures at scale {args.scale}, filled with {what} ...", flush=True)
            shards = make_shards(Path(scratch), args.scale, args.photos, args.workers)
        opened = open_shards(shards)
        selection = select(opened.dataset)
        rows = np.random.default_rng(0).permutation(selection.rows)[: args.number].tolist()
        table = opened.dataset.samples.take(rows)
        megapixels = table["width"].to_numpy() * table["height"].to_numpy() / 1e6
        decoder, compared = methods(opened, selection)
        print(
            f"{len(rows):,} samples: {np.mean(megapixels < 0.3):.0%} below 0.3 megapixels, mean "
            f"{megapixels.mean():.2f}, largest {megapixels.max():.1f}; the public method decodes "
            f"with {decoder}; {platform.machine()}, torch {torch.__version__}, "
            f"OpenCV {cv2.__version__}",
            flush=True,
        )
        seconds = time_in_turn(compared, rows)
        loaded = None
        if args.workers:
            loaded = time_stream(opened, selection, args.workers, args.number)
    rates = {name: len(rows) / spent for name, spent in seconds.items()}
    if loaded:
        rates[f"ours, {args.workers} processes"] = 1 / loaded.core_seconds
    print(f"{'':20} images/s a core   ms an image   times the public method")
    for name, rate in rates.items():
        print(f"{name:20} {rate:15.1f} {1000 / rate:13.2f} {rate / rates['public']:17.1f}")
    if loaded:
        print(
            f"ours, {args.workers} processes: {loaded.images_per_second:,.0f} images/s in all by "
            f"the clock; largest process {loaded.peak_mib:,.0f} MiB, about "
            f"{loaded.shared_mib:,.0f} of it shared by all"
        )
    ratio = rates["ours"] / rates["public"]
    print(f"ours / public method, one core each: {ratio:.2f} (asked for: {args.target:g})")
    sys.exit(0 if ratio >= args.target else 1)


if __name__ == "__main__":
    main()
