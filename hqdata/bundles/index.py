"""The index of a plain archive: where each picture and json lies, so that nobody has to walk again.

One Parquet file a bundle, a row a picture; a column's -1 or empty name: there is none.
"""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hqdata.bundles.choose import Listing, Piece
from hqdata.bundles.find import Bundle
from hqdata.bundles.names import IMAGE, NOTES, member_of
from hqdata.places import Place
from hqdata.sample import canonical_json

_FORMAT = 1
_KEY = b"hqdata"

_SCHEMA = pa.schema(
    [
        ("image_id", pa.int64()),
        ("image_offset", pa.int64()),
        ("image_size", pa.int64()),
        ("notes_offset", pa.int64()),
        ("notes_size", pa.int64()),
        ("image_name", pa.string()),
        ("notes_name", pa.string()),
        ("twice", pa.bool_()),
    ]
)

_NONE = Piece("", -1, -1)


def index_name(bundle: Bundle) -> str:
    """The name of a bundle's index."""
    return f"{bundle.name}.parquet"


def write_index(place: Place, bundle: Bundle, listing: Listing) -> None:
    """Keeps what a walk found. Raises what `Place.write` does."""
    rows = []
    for image_id in sorted(listing.images.keys() | listing.notes.keys()):
        image = listing.images.get(image_id, _NONE)
        notes = listing.notes.get(image_id, _NONE)
        rows.append(
            {
                "image_id": image_id,
                "image_offset": image.offset,
                "image_size": image.size,
                "notes_offset": notes.offset,
                "notes_size": notes.size,
                "image_name": image.name,
                "notes_name": notes.name,
                "twice": image_id in listing.twice,
            }
        )
    about = {
        "format": _FORMAT,
        "stamp": bundle.stamp,
        "damage": listing.damage,
        "refused": listing.refused,
        "num_refused": listing.num_refused,
        "num_members": listing.num_members,
    }
    schema = _SCHEMA.with_metadata({_KEY: canonical_json(about)})
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink, compression="zstd")
    place.write(index_name(bundle), sink.getvalue())


def read_index(place: Place, bundle: Bundle) -> Listing | None:
    """What an earlier walk found; None if there was none, of this state of the archive."""
    data = place.read(index_name(bundle))
    if data is None:
        return None
    try:
        return _listing(pq.read_table(io.BytesIO(data)), bundle)
    except (pa.ArrowException, ValueError, KeyError, TypeError, OSError):
        return None  # not one of ours, or cut short: the archive itself knows


def _listing(table: pa.Table, bundle: Bundle) -> Listing | None:
    about: dict[str, Any] = json.loads((table.schema.metadata or {})[_KEY])
    if about["format"] != _FORMAT or about["stamp"] != bundle.stamp:
        return None
    if not table.schema.equals(_SCHEMA, check_metadata=False):
        return None
    listing = Listing(
        damage=[str(text) for text in about["damage"]],
        refused=[str(text) for text in about["refused"]],
        num_refused=int(about["num_refused"]),
        num_members=int(about["num_members"]),
    )
    columns = (column.to_pylist() for column in table.itercolumns())
    for image_id, at, size, notes_at, notes_size, name, notes_name, twice in zip(
        *columns, strict=True
    ):
        if name:
            listing.images[image_id] = _piece((image_id, IMAGE), name, at, size, bundle)
        if notes_name:
            kind = (image_id, NOTES)
            listing.notes[image_id] = _piece(kind, notes_name, notes_at, notes_size, bundle)
        if twice:
            listing.twice.add(image_id)
    return listing


def _piece(kind: tuple[int, str], name: str, offset: int, size: int, bundle: Bundle) -> Piece:
    if member_of(name) != kind or offset < 0 or size < 0 or offset + size > bundle.size:
        raise ValueError("the index is of another archive")
    return Piece(name, offset, size)
