"""Writing one shard, or keeping the one that is there. Runs in a worker; talks to nobody."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hqdata.build.annotated import annotated_mask
from hqdata.build.plan import Item, ShardTask
from hqdata.errors import InterruptedBuildError
from hqdata.files import no_room
from hqdata.normalise import ProblemError, normalise
from hqdata.places import Place
from hqdata.problems import Problem, ProblemKind
from hqdata.progress import Silent
from hqdata.sample import Sample, canonical_json
from hqdata.shards.names import STATE_DIR, Row
from hqdata.shards.writer import Placed, ShardWriter
from hqdata.storage import MAX_FILE_BYTES, DamagedFileError, FileReader, FileRef
from hqdata.threads import ShouldStop, Tick, in_threads


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
        token: what a storage behind a URL goes by to tell whether the shard was changed; empty for
            a folder of this machine, where its digest is taken again.
        passing: upstream images of the problems that may be none another time.
    """

    fingerprint: str
    sha256: str
    num_bytes: int
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]
    token: str = ""
    passing: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """The SHA-256 of the rest on a line of its own, then canonical JSON."""
        body = canonical_json(
            {
                "fingerprint": self.fingerprint,
                "sha256": self.sha256,
                "num_bytes": self.num_bytes,
                "rows": list(self.rows),
                "problems": [problem.to_dict() for problem in self.problems],
                **({"token": self.token} if self.token else {}),
                **({"passing": list(self.passing)} if self.passing else {}),
            }
        )
        return hashlib.sha256(body).hexdigest().encode() + b"\n" + body

    @classmethod
    def parse(cls, data: bytes) -> Sidecar | None:
        """The sidecar of these bytes; None if they are none of ours."""
        try:
            digest, _, body = data.partition(b"\n")
            if hashlib.sha256(body).hexdigest().encode() != digest:
                return None
            value: Any = json.loads(body)
            return cls(
                fingerprint=value["fingerprint"],
                sha256=value["sha256"],
                num_bytes=value["num_bytes"],
                rows=tuple(value["rows"]),
                problems=tuple(Problem.from_dict(row) for row in value["problems"]),
                token=value.get("token", ""),
                passing=tuple(value.get("passing", ())),
            )
        except (ValueError, KeyError, TypeError):
            return None


def sidecar_name(shard: str) -> str:
    """Where the sidecar of a shard lies below the data set's folder."""
    return f"{STATE_DIR}/shards/{shard.removesuffix('.tar')}.json"


def sidecar_path(out: Path, shard: str) -> Path:
    """The same, in a folder of this machine."""
    return out / sidecar_name(shard)


def read_sidecar(out: Place, shard: str) -> Sidecar | None:
    """The sidecar of a shard; None if there is none or it is not one of ours."""
    data = out.read(sidecar_name(shard))
    return None if data is None else Sidecar.parse(data)


AT_ONCE = 16
"""Small files that are fetched at once from a storage behind a URL."""


def read_sidecars(out: Place, tasks: Sequence[ShardTask]) -> dict[str, Sidecar | None]:
    """The sidecars of some shards, by the shard's path."""

    def read(task: ShardTask, tick: Tick, should_stop: ShouldStop) -> Sidecar | None:
        return read_sidecar(out, task.path)

    at_once = 1 if out.local is not None else AT_ONCE
    found = in_threads(read, tasks, workers=at_once, reporter=Silent())
    return {task.path: sidecar for task, sidecar in zip(tasks, found, strict=True)}


def is_current(task: ShardTask, out: Place) -> bool:
    """Whether the shard that is there is, byte for byte, what the task would write.

    A shard that a pair was left out of never is: the file may be whole by now, or the disk back,
    and nothing but reading it again can tell.
    """
    sidecar = read_sidecar(out, task.path)
    if sidecar is None or sidecar.problems or sidecar.fingerprint != task.fingerprint():
        return False
    return out.is_same(
        task.path, sha256=sidecar.sha256, num_bytes=sidecar.num_bytes, token=sidecar.token
    )


def check_task(
    task: ShardTask, *, out: Place, tick: Callable[[int], None], should_stop: Callable[[], bool]
) -> bool:
    """`is_current` as work for an engine; ticks source bytes."""
    current = not should_stop() and is_current(task, out)
    tick(task.num_source_bytes)
    return current


def write_task(
    task: ShardTask, *, out: Place, tick: Callable[[int], None], should_stop: Callable[[], bool]
) -> None:
    """`write_shard` as work for an engine; ticks source bytes."""
    write_shard(task, out, on_sample=tick, should_stop=should_stop)


def write_shard(
    task: ShardTask,
    out: Place,
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
        InterruptedBuildError: no room on the disk, or a storage that cannot be reached.
    """
    rows: list[Row] = []
    problems: list[Problem] = []
    passing: list[str] = []
    beside = sidecar_name(task.path)
    place = Path(task.path) if out.local is None else out.local / task.path
    try:
        # From here on the old sidecar would describe a shard that is about to go.
        out.remove(beside)
        with (
            out.new_file(task.path) as path,
            ShardWriter(path) as writer,
            FileReader() as reader,
        ):
            for item, files in _read_ahead(task.items, reader):
                if should_stop():
                    raise StoppedError(task.path)
                outcome = make_sample(item, task, files)
                if isinstance(outcome, Problem):
                    problems.append(outcome)
                    if isinstance(files, ProblemError) and files.passing:
                        passing.append(outcome.image)
                else:
                    rows.append(_row(outcome, task.path, writer.add(outcome)))
                on_sample(item.image.size + item.mask.size)
            sha256, num_bytes = writer.close()
        token = "" if out.local is not None else _token(out, task.path, num_bytes)
        sidecar = Sidecar(
            task.fingerprint(),
            sha256,
            num_bytes,
            tuple(rows),
            tuple(problems),
            token,
            tuple(passing),
        )
        out.write(beside, sidecar.to_bytes())
    except OSError as error:
        full = no_room(error, place)
        if full is None:
            raise
        raise full from error


def _token(out: Place, name: str, num_bytes: int) -> str:
    """What the storage goes by for a shard that was just uploaded."""
    stat = out.stat(name)
    if stat is None or stat.size != num_bytes:
        there = "nothing" if stat is None else f"{stat.size:,} bytes"
        raise InterruptedBuildError(
            f"the storage took {num_bytes:,} bytes and has {there} of them",
            where=f"{out.shown}/{name}",
            do="run the same command again; if it stays so, look what else writes there",
        )
    return stat.token


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
        image, mask = files
        if item.annotation is None:
            return normalise(image, mask, item.origin, task.settings)
        path = item.origin.upstream_mask
        drawn = annotated_mask(mask, path, item.annotation, task.settings)
        return normalise(image, drawn, item.origin, task.settings)
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
        raise ProblemError(unreadable, f"the file {error}", passing=error.passing) from error


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
