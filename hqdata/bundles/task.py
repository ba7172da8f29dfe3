"""What every way of scanning shares: the question, the progress, and the form of the answer."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hqdata.bundles.annotations import NotesError, choose_masks, read_notes
from hqdata.bundles.choose import Chosen, Listing, Piece, num_images
from hqdata.bundles.find import Bundle
from hqdata.bundles.records import BundleScan, Candidate, ScanStoppedError
from hqdata.bundles.walk import NoTarError, TruncatedTarError
from hqdata.errors import InterruptedBuildError
from hqdata.remote.failures import redact
from hqdata.sampling import Choice
from hqdata.storage import DamagedFileError, FileReader, FileRef

Refs = Mapping[int, tuple[FileRef, FileRef]]
"""Where picture and json of a number lie."""


@dataclass(slots=True)
class Task:
    """One scan.

    Attributes:
        bundle, choice, num_keep, tick, should_stop: see `hqdata.bundles.scan.scan_bundle`.
        num_bytes_read: bytes of the bundle that were read so far.
        num_ticked: bytes of the bundle that were told as done.
    """

    bundle: Bundle
    choice: Choice
    num_keep: int
    tick: Callable[[int], None]
    should_stop: Callable[[], bool]
    num_bytes_read: int = 0
    num_ticked: int = 0

    def check(self) -> None:
        """Raises ScanStoppedError if the scan is to stop."""
        if self.should_stop():
            raise ScanStoppedError(self.bundle.name)

    def advance(self, at: int) -> None:
        """Tells that the bundle is done up to a byte; a second pass over it tells nothing."""
        at = min(at, self.bundle.size)
        if at > self.num_ticked:
            self.tick(at - self.num_ticked)
            self.num_ticked = at

    def path_of(self, name: str) -> str:
        """The upstream path of a file."""
        upstream = re.fullmatch(r"sa_\d{6}", self.bundle.name, re.ASCII)
        return f"{self.bundle.name}/{name}" if upstream else name

    def reference(self, piece: Piece) -> FileRef:
        """Where the bytes of a picture or json lie."""
        container = self.bundle.containers[0]
        if self.bundle.kind == "folder":
            place = f"{container.rstrip('/')}/{piece.name}"
            return FileRef(place, "file", 0, piece.size, piece.size, -1, piece.stamp)
        stamp = f"{self.bundle.stamp}:{piece.offset}:{piece.size}"
        return FileRef(container, "range", piece.offset, piece.size, piece.size, -1, stamp)

    def masks_in(self, data: bytes, image_id: int) -> tuple[int, ...]:
        """The chosen masks of a json. Raises NotesError."""
        return choose_masks(read_notes(data, image_id), self.choice)

    def masks_by(self, reader: FileReader, listing: Listing) -> Callable[[int], tuple[int, ...]]:
        """The chosen masks of a picture, by reading its json where it lies."""

        def masks_of(image_id: int) -> tuple[int, ...]:
            self.check()
            try:
                data = reader.read(self.reference(listing.notes[image_id]))
            except DamagedFileError as error:
                if error.passing:
                    raise self.unreadable(f"the json of picture {image_id} {error}") from error
                raise NotesError("unreadable_mask", f"the json {error}") from error
            self.num_bytes_read += len(data)
            return self.masks_in(data, image_id)

        return masks_of

    def result(self, listing: Listing, chosen: Chosen, refs: Refs | None = None) -> BundleScan:
        """The answer; `refs` where the candidates lie elsewhere than in the bundle."""
        candidates = []
        for key, image_id, masks in chosen.found:
            image, notes = listing.images[image_id], listing.notes[image_id]
            here = refs[image_id] if refs else (self.reference(image), self.reference(notes))
            paths = self.path_of(image.name), self.path_of(notes.name)
            candidates.append(Candidate(key, image_id, *here, *paths, masks))
        self.advance(self.bundle.size)
        return BundleScan(
            bundle=self.bundle.name,
            stamp=self.bundle.stamp,
            choice=self.choice.to_dict(),
            num_keep=self.num_keep,
            num_images=num_images(listing),
            exhausted=chosen.exhausted,
            candidates=tuple(candidates),
            passed_over=chosen.passed_over,
            damage=listing.all_damage(),
            num_bytes_read=self.num_bytes_read,
        )

    def unreadable(self, why: str) -> InterruptedBuildError:
        """What to raise when a disk or a storage does not give what is in the bundle.

        It is not passed over: the sample would be another, and nobody could see that it is.
        """
        return InterruptedBuildError(
            f"{self.bundle.where} cannot be read by {platform.node()}: {why}",
            where=redact(self.bundle.containers[0]),
            do="look after the disk or the mount and run this again; to do without the archive, "
            "move it away",
        )

    def changed(self) -> InterruptedBuildError:
        """What to raise when the bundle is another than was found."""
        return InterruptedBuildError(
            f"{self.bundle.where} has changed since it was looked for",
            do="wait until nobody writes to it, and run this again",
        )


def damage_of(error: NoTarError, listing: Listing) -> str:
    """What went wrong with an archive, in words."""
    after = f"after {listing.num_members:,} members"
    if isinstance(error, TruncatedTarError) and not listing.num_members:
        return f"it is empty, no tar file, or cut short before its first member ({error})"
    if isinstance(error, TruncatedTarError):
        return f"it is cut short {after} ({error}); was its download complete?"
    if not listing.num_members:
        return f"it is no tar file ({error})"
    return f"{after} it goes on as no tar does ({error})"
