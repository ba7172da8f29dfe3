"""Which pictures of a listed bundle are candidates: the rule, whatever the bundle is packed in."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from hqdata.bundles.annotations import MAX_NOTES_BYTES, NotesError
from hqdata.bundles.names import IMAGE, member_of
from hqdata.bundles.records import PassedOver
from hqdata.bundles.walk import Member
from hqdata.sampling import image_hash
from hqdata.storage import printable

MAX_IMAGE_BYTES = 128 * 2**20
"""A larger picture is passed over; upstream's have about a megabyte."""

MAX_NAMED = 10
"""Refused members that are told by name."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A picture or a json in a bundle.

    Attributes:
        name: of the file, without folders.
        offset: of its first byte in the archive; 0 in a folder.
        size: bytes.
        stamp: of the file, in a folder; else empty.
    """

    name: str
    offset: int
    size: int
    stamp: str = ""


@dataclass(slots=True)
class Listing:
    """What lies in a bundle.

    Attributes:
        images, notes: by the picture's number.
        twice: numbers of which there are two pictures, or two json.
        damage: what is wrong with the bundle itself.
        refused: members that are left alone, the first few, with the reason.
        num_refused: how many there are of those.
        num_members: files in the bundle.
    """

    images: dict[int, Piece] = field(default_factory=dict)
    notes: dict[int, Piece] = field(default_factory=dict)
    twice: set[int] = field(default_factory=set)
    damage: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    num_refused: int = 0
    num_members: int = 0

    def add(self, member: Member, stamp: str = "") -> int | None:
        """Takes a member in; returns the number of its picture, or None if it is none of those."""
        self.num_members += 1
        if member.refused:
            self.num_refused += 1
            if len(self.refused) < MAX_NAMED:
                shown = printable(member.name)[:200]
                self.refused.append(f"member {shown!r} is refused: {member.refused}")
            return None
        name = member.name.rpartition("/")[2]
        found = member_of(name)
        if found is None:
            return None
        image_id, kind = found
        pieces = self.images if kind == IMAGE else self.notes
        if image_id in pieces:
            self.twice.add(image_id)
        pieces[image_id] = Piece(name, member.offset, member.size, stamp)
        return image_id

    def all_damage(self) -> tuple[str, ...]:
        """All that is wrong with the bundle, in words."""
        more = self.num_refused - len(self.refused)
        rest = (f"{more:,} more members are refused",) if more else ()
        return (*self.damage, *self.refused, *rest)

    def flaw(self, image_id: int) -> tuple[str, str] | None:
        """Kind and message of what rules a picture out before its json is read."""
        if image_id in self.twice:
            return "duplicate_key", "it is there twice, and nobody can tell which is meant"
        if image_id not in self.images:
            return "missing_image", "the json has no picture beside it"
        if image_id not in self.notes:
            return "missing_mask", "the picture has no json beside it"
        image, notes = self.images[image_id], self.notes[image_id]
        if image.size > MAX_IMAGE_BYTES:
            return (
                "too_large",
                f"the picture has {image.size:,} bytes; the limit is {MAX_IMAGE_BYTES:,}",
            )
        if notes.size > MAX_NOTES_BYTES:
            return (
                "unreadable_mask",
                f"the json has {notes.size:,} bytes; the limit is {MAX_NOTES_BYTES:,}",
            )
        if not image.size:
            return "unreadable_image", "the picture's file is empty"
        if not notes.size:
            return "unreadable_mask", "the json is empty"
        return None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The candidates of a bundle: (hash, number, ids of masks) by hash, and what was passed over;
    `exhausted` as in `BundleScan`.
    """

    found: tuple[tuple[int, int, tuple[int, ...]], ...]
    passed_over: tuple[PassedOver, ...]
    exhausted: bool


def num_images(listing: Listing) -> int:
    """Pictures that have a json, each once."""
    return len((listing.images.keys() & listing.notes.keys()) - listing.twice)


def choose_pictures(
    listing: Listing,
    seed: int,
    num_keep: int,
    masks_of: Callable[[int], tuple[int, ...]],
    path_of: Callable[[str], str],
) -> Chosen:
    """The first `num_keep` eligible pictures by (hash, number).

    Args:
        listing: of the bundle.
        seed: of the hashes.
        num_keep: how many, at least 1.
        masks_of: the ids of a picture's chosen masks; raises NotesError if there are none.
        path_of: the upstream path of a file.
    """
    found: list[tuple[int, int, tuple[int, ...]]] = []
    passed: list[PassedOver] = []
    for key, image_id in _order(seed, listing.images.keys() | listing.notes.keys()):
        flaw = listing.flaw(image_id)
        if flaw is None:
            try:
                masks = masks_of(image_id)
            except NotesError as error:
                flaw = error.kind, error.message
        if flaw is not None:
            image = listing.images.get(image_id)
            name = image.name if image is not None else f"sa_{image_id}.jpg"
            passed.append(PassedOver(key, image_id, path_of(name), *flaw))
        elif len(found) == num_keep:
            # One more than asked for is looked for, to know that there is one.
            last = found[-1][:2]
            before = tuple(row for row in passed if (row.hash, row.image_id) < last)
            return Chosen(tuple(found), before, exhausted=False)
        else:
            found.append((key, image_id, masks))
    return Chosen(tuple(found), tuple(passed), exhausted=True)


def _order(seed: int, ids: Collection[int]) -> list[tuple[int, int]]:
    return sorted((image_hash(seed, image_id), image_id) for image_id in ids)
