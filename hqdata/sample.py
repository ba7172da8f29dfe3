"""The record that travels with each pair, and the sample that goes into a shard."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from hqdata.fingerprint import GlobalHash

SCHEMA_VERSION = 1


class Record(BaseModel):
    """The `<key>.json` of a sample. Every field is there in every record, none is null or empty.

    Loaders that infer one schema for all rows (the Hugging Face Hub's among them) need exactly
    that.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int
    key: str = Field(pattern=r"^[a-z0-9_-]+$", max_length=84)
    source: str
    split: str
    upstream_image: str = Field(min_length=1, description="path in the upstream release")
    upstream_mask: str = Field(min_length=1)
    licence: str = Field(min_length=1, description="id of the source's licence, see the manifest")
    width: int = Field(gt=0, description="of image and mask, in pixels")
    height: int = Field(gt=0)
    image_changes: str = Field(min_length=1, description="'untouched' or what normalisation did")
    image_psnr_db: float = Field(description="stored against decoded source; 100 if identical")
    mask_changes: str = Field(min_length=1)
    image_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the stored bytes")
    mask_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    pixel_sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="of b'<width>x<height>' and the image's RGB bytes"
    )
    mask_area_fraction: float = Field(gt=0, le=1, description="share of mask pixels > 128")
    mask_soft_fraction: float = Field(ge=0, le=1, description="share strictly between 0 and 255")
    mask_components: int = Field(gt=0, description="8-connected components of mask > 128")
    mask_thinness: float = Field(ge=0, description="perimeter^2 / (4 pi area)")
    box: tuple[int, int, int, int] = Field(description="x0, y0, x1, y1, inclusive, of mask > 128")

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, UTF-8."""
        return canonical_json(self.model_dump(mode="json"))


@dataclass(frozen=True, slots=True)
class Sample:
    """One pair, ready to be written: three members of a shard, the record in parsed form, and the
    image's fingerprint, which goes to the manifest only.
    """

    key: str
    image: bytes
    image_ext: str
    mask: bytes
    record: Record
    hashes: GlobalHash


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()
