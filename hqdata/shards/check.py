"""Holding a data set on disk against its manifest: every digest, member, record and pixel."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
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
from hqdata.problems import read_jsonl
from hqdata.progress import InMebibytes, Reporter, Silent
from hqdata.sample import Record
from hqdata.shards.dataset import (
    Dataset,
    DatasetInfo,
    ShardInfo,
    dataset_digest,
    read_info,
    timm_bytes,
)
from hqdata.shards.names import (
    PROBLEMS_FILE,
    SAMPLES_FILE,
    TIMM_FILE,
    Row,
)
from hqdata.shards.reader import RawMember, ShardError, ShardReader
from hqdata.shards.writer import MASK_EXT, RECORD_EXT
from hqdata.threads import in_threads

MAX_HASH_BITS = 8
"""By how much a fingerprint may differ from the stored one: libraries of other versions round
otherwise.
"""

MIN_QUALITY = 50
"""PDQ quality below which there is so little to see that rounding alone decides the hash."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not as the manifest says.

    Attributes:
        path: file below the data set's folder.
        key: the sample concerned, or "".
        message: what was found and what should be there.
    """

    path: str
    key: str
    message: str


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
    root: Path, *, quick: bool = False, workers: int = 1, reporter: Reporter | None = None
) -> CheckResult:
    """Re-reads a data set.

    Args:
        root: its folder.
        quick: digests, sizes and counts only; otherwise every member is parsed, every picture
            decoded and every figure measured again.
        workers: number of processes.
        reporter: is told the progress in MiB.

    Raises:
        DatasetError: no finished data set, or a manifest that cannot be read.
    """
    reporter = reporter or Silent()
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
        damages += _check_manifest(info, rows)
    damages += _check_folder(root, info)
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
    work = partial(_work, root=root)
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
    task: _Task, *, root: Path, tick: Callable[[int], None], should_stop: Callable[[], bool]
) -> list[Damage]:
    found: list[Damage] = []
    if not should_stop():
        found = check_shard(
            root, task.shard, task.rows, quick=task.quick, same_hashes=task.same_hashes
        )
    tick(task.shard.num_bytes)
    return found


def _check_manifest(info: DatasetInfo, rows: list[Row]) -> list[Damage]:
    """Whether `dataset.json` and `samples.parquet` say the same."""
    damages = []

    def differ(what: str, in_json: object, in_table: object) -> None:
        if in_json != in_table:
            damages.append(
                Damage("dataset.json", "", f"{what}: {in_json} here, {in_table} in {SAMPLES_FILE}")
            )

    differ("number of samples", info.num_samples, len(rows))
    built = {
        (source, split): counts.built
        for source, splits in info.sources.items()
        for split, counts in splits.items()
        if counts.built
    }
    differ("samples by split", built, dict(Counter((r["source"], r["split"]) for r in rows)))
    in_json = {shard.path: shard.num_samples for shard in info.shards if shard.num_samples}
    differ("samples by shard", in_json, dict(Counter(row["shard"] for row in rows)))
    if info.own_sha256() != info.manifest_sha256:
        damages.append(Damage("dataset.json", "", "was changed after it was written"))
    if dataset_digest(info.shards) != info.digest:
        damages.append(Damage("dataset.json", "", "the digest is not that of its list of shards"))
    for key, count in Counter(row["key"] for row in rows).items():
        if count > 1:
            damages.append(Damage(SAMPLES_FILE, key, f"the key stands there {count} times"))
    return damages


def _check_folder(root: Path, info: DatasetInfo) -> list[Damage]:
    """Shards that the manifest does not know, and a problems file that does not fit."""
    known = {shard.path for shard in info.shards}
    damages = [
        Damage(path.relative_to(root).as_posix(), "", "is no shard of this data set")
        for path in sorted(root.glob("*/*.tar"))
        if path.relative_to(root).as_posix() not in known
    ]
    damages += _check_timm_file(root, info)
    try:
        problems = read_jsonl(root / PROBLEMS_FILE)
    except DatasetError as error:
        return [*damages, Damage(PROBLEMS_FILE, "", error.what)]
    if sha256_file(root / PROBLEMS_FILE) != info.problems_sha256:
        damages.append(Damage(PROBLEMS_FILE, "", "its SHA-256 is not the one in dataset.json"))
    if len(problems) != info.num_problems:
        message = f"{len(problems)} problems here, {info.num_problems} in dataset.json"
        damages.append(Damage(PROBLEMS_FILE, "", message))
    return damages


def _check_timm_file(root: Path, info: DatasetInfo) -> list[Damage]:
    try:
        actual = (root / TIMM_FILE).read_bytes()
    except OSError as error:
        return [Damage(TIMM_FILE, "", f"cannot be read: {error.strerror}")]
    if actual != timm_bytes(info.shards):
        return [Damage(TIMM_FILE, "", "does not say what dataset.json does")]
    return []


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
