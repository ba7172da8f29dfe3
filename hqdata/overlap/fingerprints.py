"""What is kept of an evaluation picture, and files of it: enough to search without the pictures.

Such a file lets somebody prove something about a set that they do not have, and whoever has the set
hand out no pictures. It is made for one version of the search and refused by any other.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

import hqdata
from hqdata import codecs
from hqdata.codecs import CodecError
from hqdata.errors import UserError
from hqdata.files import publish, temporary_name
from hqdata.fingerprint import FINGERPRINT_VERSION, HASH_BYTES, dihedral_hashes, trim_borders
from hqdata.overlap.features import (
    FEATURES_VERSION,
    PACKED_BYTES,
    LocalFeatures,
    extract_evaluation,
)
from hqdata.pictures import make_picture
from hqdata.yaml_files import explain

FORMAT_VERSION = 1

MAX_PIXELS = 120_000_000
"""Largest width x height that is decoded, as a recipe has it by default."""

MAX_IMAGES = 2_000_000
MAX_FEATURES = 65_536
"""Of one picture; a file that claims more is refused before anything is set aside for it."""

ROWS_PER_GROUP = 128
_GROUP_BYTES = ROWS_PER_GROUP * (MAX_FEATURES * PACKED_BYTES + 2**14)

NUM_ORIENTATIONS = 8

_SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in (
            ("name", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("image_sha256", pa.binary(32)),
            ("stored_sha256", pa.binary(32)),
            ("pixel_sha256", pa.binary(32)),
            ("hashes", pa.binary(NUM_ORIENTATIONS * HASH_BYTES)),
            ("hashes_trimmed", pa.binary(NUM_ORIENTATIONS * HASH_BYTES)),
            ("features", pa.large_binary()),
        )
    ]
)
_KEY = b"hqdata.fingerprints"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is kept of one evaluation picture.

    Attributes:
        name: path within the set.
        width, height: of the upright picture, in pixels.
        image_sha256: of the file's own bytes.
        stored_sha256: of the bytes that a data set would store of it; the same for a JPEG that
            needs no change.
        pixel_sha256: of the stored upright picture, as in a training record, see
            `hqdata.pictures.pixel_digest`.
        hashes: uint8 (8, 32), PDQ of the eight flips and quarter turns.
        hashes_trimmed: uint8 (8, 32), of the picture without uniform borders.
        features: local features, as exact as they are kept in files.
    """

    name: str
    width: int
    height: int
    image_sha256: str
    stored_sha256: str
    pixel_sha256: str
    hashes: NDArray[np.uint8]
    hashes_trimmed: NDArray[np.uint8]
    features: LocalFeatures


class UnreadPictureError(Exception):
    """A picture that cannot be read, with the reason. It is counted; the others go on."""


def fingerprint_picture(name: str, data: bytes) -> Fingerprint:
    """The fingerprint of one picture file, whatever its format.

    The picture goes through the normalisation that training pictures go through, so that digests
    can be compared with theirs.

    Raises:
        UnreadPictureError: it cannot be decoded, or is too large to be.
    """
    try:
        picture = make_picture(data, max_pixels=MAX_PIXELS)
        _, _, space = codecs.jpeg_header(picture.data)
        pixels = codecs.decode_jpeg(picture.data, gray=space == "Gray")
    except CodecError as error:
        raise UnreadPictureError(str(error)) from error
    except MemoryError:
        raise
    except Exception as error:
        # Several decoders meet bytes that anybody may have written: whatever they raise is this
        # file's problem.
        message = f"it cannot be decoded ({type(error).__name__}: {error})"
        raise UnreadPictureError(message) from error
    x0, y0, x1, y1 = trim_borders(pixels)
    whole = (x0, y0, x1, y1) == (0, 0, picture.width, picture.height)
    hashes = dihedral_hashes(pixels)
    packed = extract_evaluation(pixels).packed(picture.width, picture.height)
    return Fingerprint(
        name=name,
        width=picture.width,
        height=picture.height,
        image_sha256=hashlib.sha256(data).hexdigest(),
        stored_sha256=hashlib.sha256(picture.data).hexdigest(),
        pixel_sha256=picture.pixel_sha256,
        hashes=hashes,
        hashes_trimmed=hashes if whole else dihedral_hashes(pixels[y0:y1, x0:x1]),
        # Packed and unpacked: a search from pictures shall find what one from files finds.
        features=LocalFeatures.unpack(packed, picture.width, picture.height),
    )


def set_digest(fingerprints: Sequence[Fingerprint]) -> str:
    """SHA-256 of the set: of the lines that `sha256sum` prints for its files, sorted."""
    lines = sorted(f"{f.image_sha256}  {f.name}\n".encode() for f in fingerprints)
    return hashlib.sha256(b"".join(lines)).hexdigest()


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Summary(BaseModel):
    """What a file of fingerprints says of itself, before any of its rows is read.

    Attributes:
        set: name of the evaluation set.
        num_images: number of its pictures.
        digest: see `set_digest`.
        content: SHA-256 of everything that is kept of them.
        problems: why it is not the whole set, if it is not.
        hqdata: version of this package that wrote it.
        codecs: versions of the libraries that decoded.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    set: str = Field(min_length=1, max_length=4096)
    num_images: int = Field(ge=0, le=MAX_IMAGES)
    digest: Sha256
    content: Sha256
    problems: tuple[str, ...]
    hqdata: str
    codecs: dict[str, str]


def versions() -> dict[str, int]:
    """The versions that a file has to have been written by to be of use."""
    return {
        "format": FORMAT_VERSION,
        "fingerprint": FINGERPRINT_VERSION,
        "features": FEATURES_VERSION,
    }


def write_fingerprints(
    path: Path,
    set_name: str,
    fingerprints: Sequence[Fingerprint],
    *,
    codec_versions: dict[str, str],
    problems: Sequence[str] = (),
) -> str:
    """Writes a file of fingerprints, whole or not at all; returns the set's digest.

    Args:
        path: the file; its folder is there.
        set_name: name of the evaluation set.
        fingerprints: of its pictures, in any order.
        codec_versions: of the libraries that decoded them.
        problems: sentences that say what the set lacks.

    Raises:
        ValueError: two pictures have the same name.
        OSError: it cannot be written.
    """
    ordered = sorted(fingerprints, key=lambda f: f.name.encode())
    if len({f.name for f in ordered}) != len(ordered):
        raise ValueError(f"two pictures of {set_name} have the same name")
    content = hashlib.sha256()
    tables = []
    for begin in range(0, len(ordered), ROWS_PER_GROUP):
        rows = [_row(f) for f in ordered[begin : begin + ROWS_PER_GROUP]]
        for row in rows:
            _add_to(content, row)
        tables.append(pa.Table.from_pylist(rows, schema=_SCHEMA))
    digest = set_digest(ordered)
    summary = Summary(
        set=set_name,
        num_images=len(ordered),
        digest=digest,
        content=content.hexdigest(),
        problems=tuple(problems),
        hqdata=hqdata.__version__,
        codecs=codec_versions,
    )
    text = json.dumps({"versions": versions(), **summary.model_dump(mode="json")}, sort_keys=True)
    schema = _SCHEMA.with_metadata({_KEY: text.encode()})
    temporary = temporary_name(path)
    try:
        # No dictionaries and no statistics: bits of hashes and codes repeat nowhere.
        with open(temporary, "wb") as file:
            with pq.ParquetWriter(
                file, schema, compression="zstd", use_dictionary=False, write_statistics=False
            ) as writer:
                for table in tables:
                    writer.write_table(table.replace_schema_metadata(schema.metadata))
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return digest


def read_summary(path: Path) -> Summary:
    """What a file of fingerprints says of itself.

    Raises:
        UserError: no such file, no file of fingerprints, or one of another version.
    """
    with _open(path) as file:
        return _summary(file, path)


def read_fingerprints(path: Path) -> tuple[str, str, list[Fingerprint]]:
    """(name of the set, its digest, fingerprints sorted by name), all checked.

    Raises:
        UserError: no such file, no file of fingerprints, one of another version, or a damaged one.
    """
    with _open(path) as file:
        summary = _summary(file, path)
        content = hashlib.sha256()
        found: list[Fingerprint] = []
        for row in _rows(file, path):
            _add_to(content, row)
            found.append(_fingerprint(row, path))
    names = [f.name for f in found]
    if len(found) != summary.num_images or len(set(names)) != len(names):
        raise _damaged(path, f"it has {len(set(names)):,} pictures and says {summary.num_images:,}")
    if content.hexdigest() != summary.content or set_digest(found) != summary.digest:
        raise _damaged(path, "its digests do not fit what it holds")
    return summary.set, summary.digest, found


def _row(f: Fingerprint) -> dict[str, Any]:
    if f.hashes.shape != (NUM_ORIENTATIONS, HASH_BYTES) or f.hashes.shape != f.hashes_trimmed.shape:
        raise ValueError(f"hashes of the shape {f.hashes.shape}")
    if len(f.features) > MAX_FEATURES:
        raise ValueError(f"{len(f.features)} features of one picture")
    return {
        "name": f.name,
        "width": f.width,
        "height": f.height,
        "image_sha256": bytes.fromhex(f.image_sha256),
        "stored_sha256": bytes.fromhex(f.stored_sha256),
        "pixel_sha256": bytes.fromhex(f.pixel_sha256),
        "hashes": np.ascontiguousarray(f.hashes).tobytes(),
        "hashes_trimmed": np.ascontiguousarray(f.hashes_trimmed).tobytes(),
        "features": np.ascontiguousarray(f.features.packed(f.width, f.height)).tobytes(),
    }


def _add_to(content: Any, row: dict[str, Any]) -> None:
    """Feeds one row to a hash; every field with its length, so that no two rows feed the same."""
    for value in row.values():
        data = value.encode() if isinstance(value, str) else value
        data = struct.pack("<q", data) if isinstance(data, int) else data
        content.update(struct.pack("<q", len(data)))
        content.update(data)


def _fingerprint(row: dict[str, Any], path: Path) -> Fingerprint:
    name, width, height, packed = row["name"], row["width"], row["height"], row["features"]
    if not name or width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise _damaged(path, f"a picture {name!r} of {width}x{height} pixels")
    if len(packed) % PACKED_BYTES or len(packed) > MAX_FEATURES * PACKED_BYTES:
        raise _damaged(path, f"{len(packed):,} bytes are no features ({name})")
    codes = np.frombuffer(packed, np.uint8).reshape(-1, PACKED_BYTES)
    shape = (NUM_ORIENTATIONS, HASH_BYTES)
    return Fingerprint(
        name=name,
        width=width,
        height=height,
        image_sha256=row["image_sha256"].hex(),
        stored_sha256=row["stored_sha256"].hex(),
        pixel_sha256=row["pixel_sha256"].hex(),
        hashes=np.frombuffer(row["hashes"], np.uint8).reshape(shape),
        hashes_trimmed=np.frombuffer(row["hashes_trimmed"], np.uint8).reshape(shape),
        features=LocalFeatures.unpack(codes, width, height),
    )


_READING_ERRORS = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError, KeyError)
"""What pyarrow raises for a file that is cut short, damaged or made up."""


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(
            path,
            thrift_string_size_limit=2**24,
            thrift_container_size_limit=2**20,
            pre_buffer=False,
        )
    except FileNotFoundError:
        raise UserError("there is no such file of fingerprints", where=path) from None
    except _READING_ERRORS as error:
        raise _damaged(path, f"it cannot be read: {_short(error)}") from error


def _summary(file: pq.ParquetFile, path: Path) -> Summary:
    metadata = file.schema_arrow.metadata or {}
    try:
        document = json.loads(metadata[_KEY])
        found = document.pop("versions")
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            "this is no file of fingerprints",
            where=path,
            expected="a file that hqdata fingerprint wrote",
        ) from error
    if found != versions():
        asked = ", ".join(f"{name} {number}" for name, number in versions().items())
        raise UserError(
            f"the fingerprints were made by another version of the search ({_told(found)})",
            where=path,
            expected=f"{asked}, as this version makes them",
            do="make the file again from the pictures: hqdata fingerprint",
        )
    try:
        summary = Summary.model_validate(document)
    except ValidationError as error:
        raise _damaged(path, explain(error)) from error
    if file.schema_arrow.remove_metadata() != _SCHEMA:
        raise _damaged(path, "its columns are others")
    if file.metadata.num_rows != summary.num_images:
        raise _damaged(
            path, f"it has {file.metadata.num_rows:,} rows and says {summary.num_images:,}"
        )
    return summary


def _told(found: Any) -> str:
    if not isinstance(found, dict):
        return "unknown"
    return ", ".join(f"{name} {number}" for name, number in list(found.items())[:8])[:200]


def _rows(file: pq.ParquetFile, path: Path) -> Iterator[dict[str, Any]]:
    """The rows, a group at a time, none of which may take more than our own can."""
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        if group.num_rows > ROWS_PER_GROUP or group.total_byte_size > _GROUP_BYTES:
            raise _damaged(path, f"{group.num_rows:,} rows of {group.total_byte_size:,} bytes")
        try:
            rows = file.read_row_group(number).to_pylist()
        except _READING_ERRORS as error:
            raise _damaged(path, f"it cannot be read: {_short(error)}") from error
        for row in rows:
            if any(value is None for value in row.values()):
                raise _damaged(path, "an empty field")
            yield row


def _short(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:200]


def _damaged(path: Path, what: str) -> UserError:
    return UserError(
        f"the file of fingerprints is damaged: {what}",
        where=path,
        do="fetch it again, or make it again from the pictures: hqdata fingerprint",
    )
