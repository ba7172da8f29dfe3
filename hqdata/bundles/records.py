"""What a scan finds in a bundle, as plain values that are kept from one run to the next."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from hqdata.sample import canonical_json
from hqdata.storage import FileRef

FORMAT = 1
"""Counts up when a kept scan must not be taken for a new one."""


class ScanStoppedError(Exception):
    """The scan was asked to stop, and did."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A picture that may be in the sample.

    Attributes:
        hash, image_id: its place in the order.
        image, notes: where the bytes of picture and json lie.
        image_path, notes_path: upstream, `sa_000020/sa_226692.jpg`; of a folder of another name
            the bare file names.
        annotations: ids of the chosen masks by hash: well-formed, not empty, filters passed.
    """

    hash: int
    image_id: int
    image: FileRef
    notes: FileRef
    image_path: str
    notes_path: str
    annotations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A picture that cannot be used though its place in the order would have it looked at.

    Attributes:
        hash, image_id: its place in the order.
        image_path: upstream; see `Candidate`.
        kind: `missing_mask` (no json), `missing_image`, `unreadable_mask` (no such json, or no
            well-formed mask), `filtered` (no mask passes the filters), `duplicate_key` (there
            twice), `too_large` or `unreadable_image` (no bytes).
        message: what is wrong.
    """

    hash: int
    image_id: int
    image_path: str
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class BundleScan:
    """What a bundle has for a sample.

    Attributes:
        bundle, stamp: which bundle, and in which state.
        choice: `hqdata.sampling.Choice.to_dict`.
        num_keep: how many candidates were asked for.
        num_images: pictures that have a json, each once.
        exhausted: every eligible picture is listed; there are no more than `num_keep`.
        candidates: the first by (hash, image_id).
        passed_over: by (hash, image_id), up to the last candidate; all of them if exhausted.
        damage: of the archive itself, in words.
        num_bytes_read: bytes that were read of it.
    """

    bundle: str
    stamp: str
    choice: dict[str, float | int]
    num_keep: int
    num_images: int
    exhausted: bool
    candidates: tuple[Candidate, ...]
    passed_over: tuple[PassedOver, ...]
    damage: tuple[str, ...]
    num_bytes_read: int

    def covers(self, bound: tuple[int, int]) -> bool:
        """Whether every eligible picture of it up to a (hash, image_id) is listed."""
        if self.exhausted:
            return True
        if not self.candidates:
            return False
        last = self.candidates[-1]
        return bound <= (last.hash, last.image_id)

    def to_bytes(self) -> bytes:
        """The SHA-256 of the rest on a line of its own, then canonical JSON."""
        body = canonical_json(
            {
                "format": FORMAT,
                "bundle": self.bundle,
                "stamp": self.stamp,
                "choice": self.choice,
                "num_keep": self.num_keep,
                "num_images": self.num_images,
                "exhausted": self.exhausted,
                "candidates": [_candidate_row(candidate) for candidate in self.candidates],
                "passed_over": [
                    [row.hash, row.image_id, row.image_path, row.kind, row.message]
                    for row in self.passed_over
                ],
                "damage": list(self.damage),
                "num_bytes_read": self.num_bytes_read,
            }
        )
        return hashlib.sha256(body).hexdigest().encode() + b"\n" + body

    @classmethod
    def read(cls, data: bytes) -> BundleScan | None:
        """The inverse of `to_bytes`; None if it is not one of ours."""
        digest, _, body = data.partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            return None
        try:
            value: Any = json.loads(body)
            if value.pop("format") != FORMAT:
                return None
            value["candidates"] = tuple(map(_candidate, value["candidates"]))
            value["passed_over"] = tuple(PassedOver(*row) for row in value["passed_over"])
            value["damage"] = tuple(value["damage"])
            return cls(**value)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def _candidate_row(candidate: Candidate) -> list[Any]:
    return [
        candidate.hash,
        candidate.image_id,
        _ref_row(candidate.image),
        _ref_row(candidate.notes),
        candidate.image_path,
        candidate.notes_path,
        list(candidate.annotations),
    ]


def _candidate(row: list[Any]) -> Candidate:
    key, image_id, image, notes, image_path, notes_path, annotations = row
    return Candidate(
        key,
        image_id,
        _ref(image),
        _ref(notes),
        image_path,
        notes_path,
        tuple(annotations),
    )


def _ref_row(ref: FileRef) -> list[Any]:
    return [ref.container, ref.how, ref.offset, ref.num_bytes, ref.size, ref.crc, ref.stamp]


def _ref(row: list[Any]) -> FileRef:
    container, how, offset, num_bytes, size, crc, stamp = row
    return FileRef(container, how, offset, num_bytes, size, crc, stamp)
