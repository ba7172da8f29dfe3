"""Writing one shard, or keeping the one that is there. Runs in a worker; talks to nobody."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hqdata.build.plan import Item, ShardTask
from hqdata.files import no_room, sha256_file, sync_folder, write_whole
from hqdata.normalise import ProblemError, normalise
from hqdata.problems import Problem, ProblemKind
from hqdata.sample import Sample, canonical_json
from hqdata.shards.names import STATE_DIR, Row
from hqdata.shards.writer import Placed, ShardWriter
from hqdata.storage import MAX_FILE_BYTES, DamagedFileError, FileReader, FileRef


class StoppedError(Exception):
    """The run was asked to stop; the shard at hand was given up."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What is known of a finished shard; kept in `.hqdata/shards/`, written after the shard.

    Attributes:
        fingerprint: of the inputs it was made from.
        sha256, num_bytes: of the shard.
        rows: its rows of `samples.parquet`.
        problems: pairs of the task that are not in it.
    """

    fingerprint: str
    sha256: str
    num_bytes: int
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]

    def to_bytes(self) -> bytes:
        """The SHA-256 of the rest on a line of its own, then canonical JSON."""
        body = canonical_json(
            {
                "fingerprint": self.fingerprint,
                "sha256": self.sha256,
                "num_bytes": self.num_bytes,
                "rows": list(self.rows),
                "problems": [problem.to_dict() for problem in self.problems],
            }
        )
        return hashlib.sha256(body).hexdigest().encode() + b"\n" + body

    @classmethod
    def read(cls, path: Path) -> Sidecar | None:
        """The sidecar at `path`; None if there is none or it is not one of ours."""
        try:
            digest, _, body = path.read_bytes().partition(b"\n")
            if hashlib.sha256(body).hexdigest().encode() != digest:
                return None
            value: Any = json.loads(body)
            return cls(
                fingerprint=value["fingerprint"],
                sha256=value["sha256"],
                num_bytes=value["num_bytes"],
                rows=tuple(value["rows"]),
                problems=tuple(Problem.from_dict(row) for row in value["problems"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


def sidecar_path(out: Path, shard: str) -> Path:
    """Where the sidecar of a shard lies."""
    return (out / STATE_DIR / "shards" / shard).with_suffix(".json")


def is_current(task: ShardTask, out: Path) -> bool:
    """Whether the shard on disk is, byte for byte, what the task would write.

    A shard that a pair was left out of never is: the file may be whole by now, or the disk back,
    and nothing but reading it again can tell.
    """
    sidecar = Sidecar.read(sidecar_path(out, task.path))
    path = out / task.path
    try:
        if sidecar is None or sidecar.problems or sidecar.fingerprint != task.fingerprint():
            return False
        return path.stat().st_size == sidecar.num_bytes and sha256_file(path) == sidecar.sha256
    except OSError:
        return False


def check_task(
    task: ShardTask, *, out: Path, tick: Callable[[int], None], should_stop: Callable[[], bool]
) -> bool:
    """`is_current` as work for `hqdata.parallel.run_tasks`; ticks source bytes."""
    current = not should_stop() and is_current(task, out)
    tick(task.num_source_bytes)
    return current


def write_task(
    task: ShardTask, *, out: Path, tick: Callable[[int], None], should_stop: Callable[[], bool]
) -> None:
    """`write_shard` as work for `hqdata.parallel.run_tasks`; ticks source bytes."""
    write_shard(task, out, on_sample=tick, should_stop=should_stop)


def write_shard(
    task: ShardTask,
    out: Path,
    *,
    on_sample: Callable[[int], None] = lambda num_bytes: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Writes the shard of a task, then its sidecar.

    Args:
        task: what to write.
        out: the data set's folder.
        on_sample: called after each pair with the number of source bytes it took.
        should_stop: asked before each pair.

    Raises:
        StoppedError: `should_stop` said so.
        InterruptedBuildError: no room on the disk.
    """
    path = out / task.path
    beside = sidecar_path(out, task.path)
    rows: list[Row] = []
    problems: list[Problem] = []
    try:
        for folder in (path.parent, beside.parent):
            folder.mkdir(parents=True, exist_ok=True)
        # From here on the old sidecar would describe a shard that is about to go.
        beside.unlink(missing_ok=True)
        sync_folder(beside.parent)
        with ShardWriter(path) as writer, FileReader() as reader:
            for item, files in _read_ahead(task.items, reader):
                if should_stop():
                    raise StoppedError(task.path)
                outcome = make_sample(item, task, files)
                if isinstance(outcome, Problem):
                    problems.append(outcome)
                else:
                    rows.append(_row(outcome, task.path, writer.add(outcome)))
                on_sample(item.image.size + item.mask.size)
            sha256, num_bytes = writer.close()
        sidecar = Sidecar(task.fingerprint(), sha256, num_bytes, tuple(rows), tuple(problems))
        write_whole(beside, sidecar.to_bytes())
    except OSError as error:
        full = no_room(error, path)
        if full is None:
            raise
        raise full from error


Files = tuple[bytes, bytes]
"""The bytes of an image and of its mask."""


def _read_ahead(
    items: Sequence[Item], reader: FileReader
) -> Iterator[tuple[Item, Files | ProblemError]]:
    """Each pair with its bytes; the next pair is read while this one is worked on."""
    with ThreadPoolExecutor(1) as ahead:
        pending = [(item, ahead.submit(_read_pair, item, reader)) for item in items[:1]]
        for number in range(len(items)):
            item, future = pending.pop()
            files = future.result()
            if number + 1 < len(items):
                following = items[number + 1]
                pending.append((following, ahead.submit(_read_pair, following, reader)))
            yield item, files


def _read_pair(item: Item, reader: FileReader) -> Files | ProblemError:
    try:
        image = _read(item.image, reader, ProblemKind.UNREADABLE_IMAGE)
        return image, _read(item.mask, reader, ProblemKind.UNREADABLE_MASK)
    except ProblemError as error:
        return error


def make_sample(item: Item, task: ShardTask, files: Files | ProblemError) -> Sample | Problem:
    """The sample of one pair, or why there is none."""
    try:
        if isinstance(files, ProblemError):
            raise files
        return normalise(*files, item.origin, task.settings)
    except ProblemError as error:
        origin = item.origin
        return Problem(
            origin.source,
            origin.split,
            origin.upstream_image,
            origin.upstream_mask,
            error.kind,
            error.message,
        )


def _read(ref: FileRef, reader: FileReader, unreadable: ProblemKind) -> bytes:
    if ref.size > MAX_FILE_BYTES:
        raise ProblemError(
            ProblemKind.TOO_LARGE,
            f"the file has {ref.size:,} bytes; the limit is {MAX_FILE_BYTES:,}",
        )
    try:
        return reader.read(ref)
    except DamagedFileError as error:
        raise ProblemError(unreadable, f"the file {error}") from error


def _row(sample: Sample, shard: str, placed: Placed) -> Row:
    row: Row = sample.record.model_dump(exclude={"schema_version"})
    row["box"] = list(sample.record.box)
    row["shard"] = shard
    row["image_ext"] = sample.image_ext
    row["pdq"] = sample.hashes.pdq.hex()
    row["pdq_trimmed"] = sample.hashes.pdq_trimmed.hex()
    row["pdq_quality"] = sample.hashes.quality
    for name in ("image", "mask", "record"):
        member = getattr(placed, name)
        row[f"{name}_offset"], row[f"{name}_size"] = member.offset, member.size
    return row
