"""Holding a data set on disk against its manifest: every digest, member, record and pixel."""

from __future__ import annotations

import hashlib
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from hqdata.codecs import CodecError, decode_jpeg, decode_png, jpeg_header, png_size
from hqdata.errors import DatasetError
from hqdata.files import sha256_file
from hqdata.fingerprint import fingerprint_versions, global_hash, hamming
from hqdata.masks import Gray, measure
from hqdata.parallel import run_tasks
from hqdata.pictures import Pixels, pixel_digest
from hqdata.places import Place
from hqdata.progress import InMebibytes, Reporter, Silent
from hqdata.sample import Record
from hqdata.shards.check_manifest import Damage, check_folder, check_manifest
from hqdata.shards.dataset import (
    Dataset,
    DatasetInfo,
    ShardInfo,
    read_info,
)
from hqdata.shards.manifest_here import manifest_here
from hqdata.shards.names import (
    SAMPLES_FILE,
    Row,
)
from hqdata.shards.reader import RawMember, ShardError, ShardReader
from hqdata.shards.writer import MASK_EXT, RECORD_EXT
from hqdata.threads import in_threads

__all__ = ["CheckResult", "Damage", "check", "check_shard"]

MAX_HASH_BITS = 8
"""By how much a fingerprint may differ from the stored one: libraries of other versions round
otherwise.
"""

MIN_QUALITY = 50
"""PDQ quality below which there is so little to see that rounding alone decides the hash."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found.

    Attributes:
        info: the data set's manifest.
        damages: everything that is not as it should be.
        num_bytes: bytes of shards that were read.
        missing: (source, split, message) of counts that the data set itself says are incomplete.
    """

    info: DatasetInfo
    damages: tuple[Damage, ...]
    num_bytes: int
    missing: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class _Task:
    shard: ShardInfo
    rows: tuple[Row, ...]
    quick: bool
    same_hashes: bool


def check(
    where: Path | str,
    *,
    quick: bool = False,
    workers: int = 1,
    reporter: Reporter | None = None,
) -> CheckResult:
    """Re-reads a data set.

    Args:
        where: its folder, or a URL: shards are then downloaded, one a worker at a time.
        quick: digests, sizes and counts only; otherwise every member is parsed, every picture
            decoded and every figure measured again.
        workers: number of processes.
        reporter: is told the progress in MiB.

    Raises:
        DatasetError: no finished data set, or a manifest that cannot be read.
    """
    with manifest_here(where) as (root, place):
        return _check(root, place, quick=quick, workers=workers, reporter=reporter or Silent())


def _check(
    root: Path, place: Place | None, *, quick: bool, workers: int, reporter: Reporter
) -> CheckResult:
    """`root` has the manifest; the shards are there, too, or in `place`."""
    info = read_info(root)
    damages: list[Damage] = []
    try:
        actual = sha256_file(root / SAMPLES_FILE)
    except OSError as error:
        raise DatasetError(
            f"{SAMPLES_FILE} cannot be read: {error.strerror}",
            where=root / SAMPLES_FILE,
            do="run the build again: it keeps the shards and writes the manifest anew",
        ) from error
    if actual != info.samples_sha256:
        damages.append(Damage(SAMPLES_FILE, "", "its SHA-256 is not the one in dataset.json"))
    try:
        rows = Dataset.open(root).samples.to_pylist()
    except DatasetError as error:
        # The table is the map to all else: without it only the shards' digests can be compared.
        damages.append(Damage(SAMPLES_FILE, "", error.what))
        rows, quick = [], True
    else:
        damages += check_manifest(info, rows)
    damages += check_folder(root, place or Place.of(root), info)
    by_shard: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_shard[row["shard"]].append(row)
    same_hashes = fingerprint_versions().items() <= info.tool.items()
    tasks = [
        _Task(shard, tuple(by_shard[shard.path]), quick, same_hashes)
        for shard in sorted(info.shards, key=lambda s: (-s.num_bytes, s.path))
    ]
    total = sum(shard.num_bytes for shard in info.shards)
    reporter = InMebibytes(reporter)
    reporter.start("checking digests" if quick else "checking", total, "MiB")
    work = partial(_work, root=root, place=place)
    if quick:  # hashing needs no process of its own: it leaves the interpreter to others
        results = in_threads(
            lambda task, tick, stop: work(task, tick=tick, should_stop=stop),
            tasks,
            workers=workers,
            reporter=reporter,
        )
    else:
        results = run_tasks(work, tasks, workers=workers, reporter=reporter, out=root)
    damages += [damage for found in results for damage in found]
    reporter.finish()
    damages.sort(key=lambda d: (d.path, d.key, d.message))
    missing = tuple(
        (source, split, f"{c.built:,} of {c.expected:,}")
        for source, splits in info.sources.items()
        for split, c in splits.items()
        if not c.complete
    )
    return CheckResult(info, tuple(damages), total, missing)


def _work(
    task: _Task,
    *,
    root: Path,
    place: Place | None,
    tick: Callable[[int], None],
    should_stop: Callable[[], bool],
) -> list[Damage]:
    found: list[Damage] = []
    if not should_stop():
        look = partial(
            check_shard,
            shard=task.shard,
            rows=task.rows,
            quick=task.quick,
            same_hashes=task.same_hashes,
        )
        found = look(root) if place is None else _there(task.shard, place, look)
    tick(task.shard.num_bytes)
    return found


def _there(shard: ShardInfo, place: Place, look: Callable[[Path], list[Damage]]) -> list[Damage]:
    """What is wrong with a shard behind a URL, which lies on this machine meanwhile."""
    with tempfile.TemporaryDirectory(prefix="hqdata-check-") as folder:
        path = Path(folder) / shard.path
        path.parent.mkdir(parents=True)
        try:
            place.copy_to(shard.path, path)
        except DatasetError as error:
            return [Damage(shard.path, "", f"cannot be read: {error.what}")]
        return look(Path(folder))


def check_shard(
    root: Path, shard: ShardInfo, rows: tuple[Row, ...], *, quick: bool, same_hashes: bool = True
) -> list[Damage]:
    """Everything that is wrong with one shard.

    Args:
        root: the data set's folder.
        shard: what `dataset.json` says of it.
        rows: its rows of `samples.parquet`, in order.
        quick: compare size and digest only.
        same_hashes: whether the libraries here have the versions that made the fingerprints.
    """
    path = root / shard.path
    if quick:
        try:
            size, digest = path.stat().st_size, sha256_file(path)
        except OSError as error:
            return [Damage(shard.path, "", f"cannot be read: {error.strerror}")]
        return _check_bytes(shard, size, digest)
    image_ext = rows[0]["image_ext"] if rows else "jpg"
    reader = ShardReader(path)
    damages: list[Damage] = []
    members: list[RawMember] = []
    number = 0
    try:
        for member in reader:
            members.append(member)
            if len(members) < 3:
                continue
            if number < len(rows):
                damages += _check_sample(shard.path, rows[number], members, image_ext, same_hashes)
            number, members = number + 1, []
    except ShardError as error:
        damages.append(Damage(shard.path, "", str(error)))
        return [*damages, *_check_bytes(shard, path.stat().st_size, sha256_file(path))]
    except OSError as error:
        return [*damages, Damage(shard.path, "", f"cannot be read: {error.strerror}")]
    if number != len(rows) or members:
        message = (
            f"{number} samples and {len(members)} odd members here, {len(rows)} in {SAMPLES_FILE}"
        )
        damages.append(Damage(shard.path, "", message))
    return [*damages, *_check_bytes(shard, reader.num_bytes, reader.sha256)]


def _check_bytes(shard: ShardInfo, num_bytes: int, sha256: str) -> list[Damage]:
    if num_bytes != shard.num_bytes:
        return [Damage(shard.path, "", f"has {num_bytes:,} bytes, should have {shard.num_bytes:,}")]
    if sha256 != shard.sha256:
        return [Damage(shard.path, "", f"has SHA-256 {sha256}, should have {shard.sha256}")]
    return []


def _check_sample(
    shard: str, row: Row, members: list[RawMember], image_ext: str, same_hashes: bool
) -> list[Damage]:
    key = str(row["key"])
    damages: list[Damage] = []

    def say(message: str) -> None:
        damages.append(Damage(shard, key, message))

    names = [f"{m.key}.{m.ext}" for m in members]
    wanted = [f"{key}.{ext}" for ext in (image_ext, MASK_EXT, RECORD_EXT)]
    if names != wanted:
        say(f"members {names}, should be {wanted}")
        return damages
    for name, member in zip(("image", "mask", "record"), members, strict=True):
        found = (member.offset, len(member.data))
        if found != (row[f"{name}_offset"], row[f"{name}_size"]):
            say(f"its {name} is at {found}, not where {SAMPLES_FILE} says")
    image, mask, record_member = members
    if hashlib.sha256(image.data).hexdigest() != row["image_sha256"]:
        say("the image's SHA-256 differs")
    if hashlib.sha256(mask.data).hexdigest() != row["mask_sha256"]:
        say("the mask's SHA-256 differs")
    try:
        record = Record.model_validate_json(record_member.data)
    except ValidationError as error:
        say(f"the record is not valid: {error.error_count()} errors")
        return damages
    if record.to_bytes() != record_member.data:
        say("the record is not canonical JSON")
    for name, value in record.model_dump(exclude={"schema_version"}).items():
        told = list(value) if isinstance(value, tuple) else value
        if row[name] != told:
            say(f"{name} is {told} in the record, {row[name]} in {SAMPLES_FILE}")
    try:
        _compare_claims(image.data, image_ext, mask.data, (record.width, record.height))
        pixels = decode_image(image.data, image_ext)
        values = decode_mask(mask.data)
    except CodecError as error:
        say(f"does not decode: {error}")
        return damages
    for what, message in _compare_pixels(record, pixels, values):
        say(f"{what} {message}")
    for name, bits in _compare_hashes(row, pixels, same_hashes):
        say(f"{name} in {SAMPLES_FILE} differs in {bits} bits from that of the image")
    return damages


def _compare_hashes(row: Row, pixels: Pixels, same_hashes: bool) -> list[tuple[str, int]]:
    """The fingerprints of a row that are not those of its image, each with its distance in bits.

    Where exactly a border ends may be a matter of rounding: the hash without borders is compared
    only where the same libraries made it.
    """
    hashes = global_hash(pixels)
    if hashes.quality < MIN_QUALITY and not same_hashes:
        return []
    found = []
    for name in ("pdq", "pdq_trimmed") if same_hashes else ("pdq",):
        try:
            bits = hamming(bytes.fromhex(row[name]), getattr(hashes, name))
        except ValueError:
            bits = 256  # no hash at all
        if bits > MAX_HASH_BITS:
            found.append((name, bits))
    return found


def _compare_pixels(record: Record, pixels: Pixels, values: Gray) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    size = (record.width, record.height)
    for what, array in (("the image", pixels), ("the mask", values)):
        if (array.shape[1], array.shape[0]) != size:
            found.append((what, f"has {array.shape[1]}x{array.shape[0]} pixels, not {size}"))
    if pixel_digest(pixels) != record.pixel_sha256:
        found.append(("the image's pixels", "have another digest"))
    figures = measure(values)
    if figures is None:
        return [*found, ("the mask", "is empty")]
    told = (
        record.mask_area_fraction,
        record.mask_soft_fraction,
        record.mask_thinness,
        record.box,
        record.mask_components,
    )
    measured = (
        round(figures.area_fraction, 8),
        round(figures.soft_fraction, 8),
        round(figures.thinness, 4),
        figures.box,
        figures.num_components,
    )
    if measured != told:
        found.append(("the mask's figures", f"are {measured}, not the record's {told}"))
    return found


def _compare_claims(image: bytes, ext: str, mask: bytes, size: tuple[int, int]) -> None:
    """Holds the sizes that the headers claim against the record before memory is spent on them.

    Raises:
        CodecError: they differ, or a header cannot be read.
    """
    claimed = jpeg_header(image)[:2] if ext == "jpg" else png_size(image)
    for what, found in (("image", claimed), ("mask", png_size(mask))):
        if found != size:
            raise CodecError(f"the {what} has {found[0]}x{found[1]} pixels, not {size}")


def decode_image(data: bytes, ext: str) -> Pixels:
    """Pixels of a stored image, uint8 (height, width, 3) RGB or (height, width) gray.

    Raises:
        CodecError: they do not decode.
    """
    import cv2

    if ext == "jpg":
        return decode_jpeg(data)
    pixels = decode_png(data, cv2.IMREAD_UNCHANGED)
    converted = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return converted.astype("uint8", copy=False)


def decode_mask(data: bytes) -> Gray:
    """Values of a stored mask, uint8 (height, width).

    Raises:
        CodecError: they do not decode.
    """
    import cv2

    return decode_png(data, cv2.IMREAD_GRAYSCALE).astype("uint8", copy=False)
