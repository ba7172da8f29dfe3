"""The manifest of a data set: `dataset.json`, `samples.parquet`, and what hangs together in them.

`dataset.json` is written last: a folder without it is no data set.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hqdata.errors import DatasetError
from hqdata.places import Place
from hqdata.sample import SCHEMA_VERSION, canonical_json
from hqdata.shards.names import DATASET_FILE, SAMPLES_FILE, STATE_DIR, Row
from hqdata.storage import DamagedFileError, FileReader, FileRef
from hqdata.yaml_files import explain

SAMPLES_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("image_offset", pa.int64(), nullable=False),
        pa.field("image_size", pa.int64(), nullable=False),
        pa.field("mask_offset", pa.int64(), nullable=False),
        pa.field("mask_size", pa.int64(), nullable=False),
        pa.field("record_offset", pa.int64(), nullable=False),
        pa.field("record_size", pa.int64(), nullable=False),
        pa.field("image_ext", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("image_sha256", pa.string(), nullable=False),
        pa.field("mask_sha256", pa.string(), nullable=False),
        pa.field("pixel_sha256", pa.string(), nullable=False),
        pa.field("pdq", pa.string(), nullable=False),
        pa.field("pdq_trimmed", pa.string(), nullable=False),
        pa.field("pdq_quality", pa.int32(), nullable=False),
        pa.field("upstream_image", pa.string(), nullable=False),
        pa.field("upstream_mask", pa.string(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
        pa.field("image_changes", pa.string(), nullable=False),
        pa.field("image_psnr_db", pa.float64(), nullable=False),
        pa.field("mask_changes", pa.string(), nullable=False),
        pa.field("mask_area_fraction", pa.float64(), nullable=False),
        pa.field("mask_soft_fraction", pa.float64(), nullable=False),
        pa.field("mask_components", pa.int64(), nullable=False),
        pa.field("mask_thinness", pa.float64(), nullable=False),
        pa.field("box", pa.list_(pa.int32(), 4), nullable=False),
    ],
    metadata={"hqdata_schema_version": str(SCHEMA_VERSION)},
)


_URL_AS_PATH = re.compile(r"^([a-z][a-z0-9+.-]{1,15}):/+", re.IGNORECASE)
"""What becomes of `s3://…` where it is taken for a path."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShardInfo(_Model):
    """One shard: path below the data set's folder, digest of its bytes, and how much is in it."""

    path: str = Field(pattern=r"^[a-z0-9_]+/[A-Za-z0-9_.-]+\.tar$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    num_samples: int = Field(ge=0)
    num_bytes: int = Field(ge=0)


class SplitCounts(_Model):
    """How many samples a split has, beside how many it should have.

    `built` are in the shards; `rejected` stayed out for a problem; `dropped` stayed out because a
    known defect or a report of overlaps says so. `expected` is absent where the recipe accepts any
    number.
    """

    expected: int | None = None
    built: int = Field(ge=0)
    rejected: int = Field(ge=0)
    dropped: int = Field(ge=0)

    @property
    def complete(self) -> bool:
        """Whether every expected sample is built or knowingly dropped."""
        return self.expected is None or self.built + self.dropped == self.expected


class Dropped(_Model):
    """A pair or file that a known defect or a report of overlaps keeps out."""

    source: str
    split: str
    name: str
    reason: str


class Removed(_Model):
    """What a build left out because a report of overlaps says so.

    `report_sha256` is that of the file, `dataset_digest` that of the data set it was made of, and
    `num_keys` counts the pairs left out and `keys` names them; `DatasetInfo.dropped` says why.
    """

    report_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    dataset_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    num_keys: int = Field(ge=0)
    keys: tuple[str, ...] = ()


class SampleInfo(_Model):
    """What was drawn from a set that is sampled from archives.

    Attributes:
        images: pictures asked for.
        seed: of the keyed hash that chose them.
        masks: of each picture, 0 for all.
        min_predicted_iou, min_stability_score: publisher's figures a mask needed at least, 0…1.
        min_area_fraction, max_area_fraction: bounds of a mask's area, as shares of the picture's.
        archives: seen by this build.
        archives_expected: that the set has.
        images_seen: pictures in the archives that were seen.
        last_hash: of the last picture by hash that was taken, 16 hexadecimal digits; "" for none.
        cluster: not all archives were seen: a sample of some clusters, not of the set.
        replaced: pictures that could not be used and whose places others took.
        drawn: pictures that were taken.
        filtered: pictures that the filters passed over before there were enough.
    """

    images: int = Field(ge=1)
    seed: int = Field(ge=0)
    masks: int = Field(ge=0)
    min_predicted_iou: float = Field(ge=0.0, le=1.0)
    min_stability_score: float = Field(ge=0.0, le=1.0)
    min_area_fraction: float = Field(ge=0.0, le=1.0)
    max_area_fraction: float = Field(ge=0.0, le=1.0)
    archives: int = Field(ge=0)
    archives_expected: int = Field(ge=0)
    images_seen: int = Field(ge=0)
    last_hash: str = Field(pattern=r"^([0-9a-f]{16})?$")
    cluster: bool
    replaced: int = Field(ge=0)
    drawn: int = Field(ge=0)
    filtered: int = Field(ge=0)


class DatasetInfo(_Model):
    """The content of `dataset.json`.

    `sampled` says by "source/split" what was drawn from archives; it is absent where nothing was.
    """

    schema_version: int
    name: str
    recipe: dict[str, Any]
    complete: bool
    num_samples: int
    num_problems: int
    image_ext: str
    sources: dict[str, dict[str, SplitCounts]]
    layouts: dict[str, str]
    dropped: tuple[Dropped, ...]
    removed: Removed | None = None
    sampled: dict[str, SampleInfo] | None = None
    shards: tuple[ShardInfo, ...]
    samples_sha256: str
    problems_sha256: str
    digest: str
    tool: dict[str, str]
    manifest_sha256: str = ""

    def sealed(self) -> DatasetInfo:
        """The same with the digest of everything else in it."""
        return self.model_copy(update={"manifest_sha256": self.own_sha256()})

    def own_sha256(self) -> str:
        """SHA-256 of this document as canonical JSON, `manifest_sha256` left out."""
        document = self.model_dump(mode="json", exclude_none=True, exclude={"manifest_sha256"})
        return hashlib.sha256(canonical_json(document)).hexdigest()

    def to_bytes(self) -> bytes:
        """The text of `dataset.json`."""
        return self.model_dump_json(indent=1, exclude_none=True).encode() + b"\n"


def dataset_digest(shards: Iterable[ShardInfo]) -> str:
    """The digest of a data set: SHA-256 of what `sha256sum` prints for its shards, sorted by path.

    Independent of workers, machine and time, because the shards are.
    """
    lines = [f"{shard.sha256}  {shard.path}\n" for shard in sorted(shards, key=lambda s: s.path)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_samples(file: BinaryIO, rows: Sequence[Row]) -> None:
    """Writes the table of `samples.parquet`."""
    columns = {
        field.name: pa.array([row[field.name] for row in rows], field.type)
        for field in SAMPLES_SCHEMA
    }
    table = pa.table(columns, schema=SAMPLES_SCHEMA)
    pq.write_table(table, file, compression="zstd", row_group_size=16_384)


@dataclass(frozen=True)
class Dataset:
    """A finished data set on disk.

    Attributes:
        root: its folder.
        info: the content of `dataset.json`.
        samples: the table of `samples.parquet`, in shard order.
        place: where the shards are, if they are not in `root`.
    """

    root: Path
    info: DatasetInfo
    samples: pa.Table
    place: Place | None = None

    @classmethod
    def open(cls, root: str | Path, place: Place | None = None) -> Dataset:
        """Opens a data set folder; reads no picture.

        Args:
            root: the folder, or one that has the manifest alone.
            place: where the shards are, if not there.

        Raises:
            DatasetError: no finished data set, another schema version, or a damaged manifest.
        """
        root = Path(root)
        info = read_info(root)
        path = root / SAMPLES_FILE
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(
                f"{SAMPLES_FILE} cannot be read: {error}",
                where=path,
                do="run the build again: it keeps the shards and writes the manifest anew",
            ) from error
        if not table.schema.equals(SAMPLES_SCHEMA):
            raise DatasetError(
                f"{SAMPLES_FILE} has other columns than schema version {SCHEMA_VERSION}",
                where=path,
                do="run the build again: it writes them anew",
            )
        unknown = set(table["shard"].unique().to_pylist()) - {s.path for s in info.shards}
        if unknown:
            raise DatasetError(
                f"{SAMPLES_FILE} names shards that {DATASET_FILE} has not, e.g. {min(unknown)!r}",
                where=path,
            )
        return cls(root, info, table, place)

    def __len__(self) -> int:
        """Number of samples."""
        return int(self.samples.num_rows)

    def row(self, index: int) -> Row:
        """One row of the table as a dictionary."""
        return cast(Row, self.samples.slice(index, 1).to_pylist()[0])

    def read_member(self, row: Row, member: str) -> bytes:
        """The bytes of the `image`, `mask` or `record` of a row: one seek, one read.

        Raises:
            DatasetError: the shard is missing or shorter than the manifest says.
        """
        path = self.root / row["shard"]
        size = int(row[f"{member}_size"])
        if self.place is not None:
            return self._read_there(self.place, row, member, size)
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DatasetError(f"cannot open the shard: {error.strerror}", where=path) from error
        try:
            data = os.pread(handle, size, int(row[f"{member}_offset"]))
        finally:
            os.close(handle)
        if len(data) != size:
            raise DatasetError(
                f"the shard ends before the {member} of {row['key']!r}",
                where=path,
                do=f"see what else is damaged: hqdata check {self.root}",
            )
        return data

    def _read_there(self, place: Place, row: Row, member: str, size: int) -> bytes:
        container, offset = place.reference(row["shard"]), int(row[f"{member}_offset"])
        try:
            with FileReader() as reader:
                return reader.read(FileRef(container, "range", offset, size, size, -1, ""))
        except DamagedFileError as error:
            where = f"{place.shown}/{row['shard']}"
            raise DatasetError(f"the {member} of {row['key']!r} {error}", where=where) from error


def read_info(root: Path) -> DatasetInfo:
    """The checked content of `dataset.json`.

    Raises:
        DatasetError: there is none, it is of another version, or it is damaged.
    """
    path = root / DATASET_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise _no_dataset(root) from None
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror}", where=path) from error
    return parse_info(data, path)


def parse_info(data: bytes, path: Path | str) -> DatasetInfo:
    """The checked content of the bytes of a `dataset.json`.

    Args:
        data: the bytes.
        path: where they are from, for messages.

    Raises:
        DatasetError: it is of another version, or it is damaged.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{DATASET_FILE} is damaged: {error}", where=path) from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise DatasetError(
            f"the data set has schema version {version!r}",
            where=path,
            expected=f"version {SCHEMA_VERSION}, which this hqdata reads",
            do="build it again with this version, or use the version that wrote it",
        )
    try:
        return DatasetInfo.model_validate(document)
    except ValidationError as error:
        raise DatasetError(
            f"{DATASET_FILE} is not valid", where=path, expected=explain(error)
        ) from error


def _no_dataset(root: Path) -> DatasetError:
    if _URL_AS_PATH.match(str(root)):
        return DatasetError(
            "this reads data sets in folders, not behind URLs",
            where=_URL_AS_PATH.sub(r"\1://", str(root)),
            expected="a folder; `hqdata build`, `check` and `stats` and the trainer take URLs",
            do="copy it to a folder first, as its storage's own tools do",
        )
    if not root.is_dir():
        return DatasetError(
            f"there is no folder {str(root)!r}",
            expected="a data set made by `hqdata build --out FOLDER`",
        )
    if (root / STATE_DIR).is_dir():
        return DatasetError(
            f"the data set in {str(root)!r} is not finished: it has no {DATASET_FILE}",
            do="run the command that was building it again: finished shards are kept",
        )
    return DatasetError(
        f"the folder {str(root)!r} is no data set: it has no {DATASET_FILE}",
        expected="a data set made by `hqdata build --out FOLDER`",
    )


def timm_info(shards: Sequence[ShardInfo], splits: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The content of `_info.json`, by which timm's WebDataset reader knows splits and lengths.

    Args:
        shards: all shards.
        splits: name -> paths of its shards; `all` is added.
    """
    by_path = {shard.path: shard for shard in shards}
    named = {"all": [shard.path for shard in shards], **splits}
    return {
        "splits": {
            name: {
                "name": name,
                "num_samples": sum(by_path[path].num_samples for path in paths),
                "filenames": list(paths),
                "shard_lengths": [by_path[path].num_samples for path in paths],
            }
            for name, paths in named.items()
        }
    }


def timm_bytes(shards: Sequence[ShardInfo]) -> bytes:
    """The file `_info.json` of a data set of these shards, with a split for each of each source."""
    splits: dict[str, list[str]] = defaultdict(list)
    for shard in shards:
        source, _, name = shard.path.partition("/")
        splits[f"{source}-{name.rsplit('-', 3)[0]}"].append(shard.path)
    return canonical_json(timm_info(shards, splits))
