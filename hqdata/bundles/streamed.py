"""Scanning archives that are read once from front to back: behind a URL, or with gzip inside.

Which pictures are among the first is known only at the end. So whatever is among the first so far
is looked at as it comes by; the bound falls quickly, and of n pictures about k (1 + ln(n / k)) are
looked at to find the first k.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from hqdata.bundles.annotations import MAX_NOTES_BYTES, NotesError
from hqdata.bundles.choose import MAX_IMAGE_BYTES, Listing, choose_pictures
from hqdata.bundles.index import write_index
from hqdata.bundles.kept import write_kept
from hqdata.bundles.names import IMAGE, member_of
from hqdata.bundles.records import BundleScan
from hqdata.bundles.stream import GZIP_MAGIC, Chunks, check_remote, inflated, remote_chunks
from hqdata.bundles.task import Task, damage_of
from hqdata.bundles.walk import Member, NoTarError, walk_stream
from hqdata.errors import InterruptedBuildError
from hqdata.files import no_room
from hqdata.places import Place
from hqdata.sampling import image_hash
from hqdata.storage import FileReader


class _MissedError(Exception):
    """What passed by unlooked at is needed after all."""


class FirstSoFar:
    """The first eligible pictures of what has passed by.

    Args:
        task: the scan.
        spool: receives pictures and json that may be candidates, or None if they can be read again.
        banned: numbers that are known not to be eligible.
    """

    def __init__(self, task: Task, spool: IO[bytes] | None, banned: frozenset[int]) -> None:
        self.listing = Listing()
        self.verdicts: dict[int, tuple[int, ...] | NotesError] = {}
        self.spooled: dict[tuple[int, str], tuple[int, int]] = {}
        self._task = task
        self._spool = spool
        self._banned = banned
        self._eligible: set[int] = set()
        self._first: list[tuple[int, int]] = []  # negative, so that the last of them is on top
        # One more than asked for, to know that there is one.
        self._most = task.num_keep + 1

    def wanted(self, member: Member) -> bool:
        """Whether the bytes of a member are needed."""
        found = member_of(member.name.rpartition("/")[2])
        if found is None or found[0] in self._banned or not self._may_be_first(found[0]):
            return False
        if found[1] == IMAGE:
            return self._spool is not None and member.size <= MAX_IMAGE_BYTES
        return member.size <= MAX_NOTES_BYTES

    def take(self, member: Member, data: bytes) -> None:
        """Looks at the bytes of a member."""
        found = member_of(member.name.rpartition("/")[2])
        if found is None:
            return
        image_id, kind = found
        if kind != IMAGE:
            try:
                self.verdicts[image_id] = self._task.masks_in(data, image_id)
            except NotesError as error:
                self.verdicts[image_id] = error
        if self._spool is not None:
            self.spooled[found] = self._spool.tell(), len(data)
            self._spool.write(data)

    def told(self, member: Member) -> None:
        """Takes a member in, all of whose bytes are there."""
        image_id = self.listing.add(member)
        if image_id is None or image_id in self._eligible or image_id in self._banned:
            return
        verdict = self.verdicts.get(image_id)
        if not isinstance(verdict, tuple) or self.listing.flaw(image_id) is not None:
            return
        self._eligible.add(image_id)
        heapq.heappush(self._first, self._negative(image_id))
        if len(self._first) > self._most:
            heapq.heappop(self._first)

    def _may_be_first(self, image_id: int) -> bool:
        return len(self._first) < self._most or self._negative(image_id) > self._first[0]

    def _negative(self, image_id: int) -> tuple[int, int]:
        return -image_hash(self._task.choice.seed, image_id), -image_id


def scan_remote(task: Task, kept: Place | None, kept_name: str, index: Place | None) -> BundleScan:
    """Scans an archive behind a URL; see `hqdata.bundles.scan.scan_bundle`."""
    chunks = Chunks(remote_chunks(task))
    if chunks.peek() == GZIP_MAGIC:
        streams = [chunks.rest()]
        return scan_gzip(
            task,
            lambda: streams.pop() if streams else remote_chunks(task),
            lambda: check_remote(task),
            kept,
            kept_name,
        )
    seen = FirstSoFar(task, None, frozenset())
    pass_by(seen, chunks, task.bundle.size)
    check_remote(task)
    listing = seen.listing
    if index is not None:
        write_index(index, task.bundle, listing)
    with FileReader() as reader:
        by_reading = task.masks_by(reader, listing)

        def masks_of(image_id: int) -> tuple[int, ...]:
            # What a picture that is there twice kept from being looked at is fetched.
            known = seen.verdicts.get(image_id)
            return by_reading(image_id) if known is None else _given(known)

        chosen = choose_pictures(listing, task.choice.seed, task.num_keep, masks_of, task.path_of)
    return task.result(listing, chosen)


def scan_gzip(
    task: Task,
    chunks: Callable[[], Iterator[bytes]],
    check: Callable[[], None],
    kept: Place | None,
    kept_name: str,
) -> BundleScan:
    """Scans an archive with gzip inside and keeps its candidates; see `scan_bundle`.

    Args:
        task: the scan.
        chunks: gives the archive's bytes, compressed, from the front.
        check: raises if the archive is no longer the one that was found.
        kept, kept_name: where the candidates go.
    """
    if kept is None:
        raise ValueError(f"{task.bundle.where} has gzip inside: there must be a place to keep it")
    banned: frozenset[int] = frozenset()
    for _ in range(2):
        local = kept.local
        try:
            with tempfile.TemporaryFile(dir=local if local and local.is_dir() else None) as spool:
                seen = FirstSoFar(task, spool, banned)
                pass_by(seen, Chunks(inflated(chunks(), task.bundle.size)), None)
                check()
                try:
                    return _kept_result(task, seen, spool, kept, kept_name)
                except _MissedError:
                    # Something came twice after it had closed the door on others: once more,
                    # knowing that.
                    banned = frozenset(seen.listing.twice)
        except OSError as error:
            raise no_room(error, local or Path(tempfile.gettempdir())) or InterruptedBuildError(
                f"the candidates of {task.bundle.where} cannot be kept: {error.strerror}",
                where=kept.shown,
            ) from error
    raise task.changed()


def _kept_result(
    task: Task, seen: FirstSoFar, spool: IO[bytes], kept: Place, kept_name: str
) -> BundleScan:
    def masks_of(image_id: int) -> tuple[int, ...]:
        if image_id not in seen.verdicts:
            raise _MissedError(image_id)
        return _given(seen.verdicts[image_id])

    listing = seen.listing
    chosen = choose_pictures(listing, task.choice.seed, task.num_keep, masks_of, task.path_of)
    members = []
    for _, image_id, _ in chosen.found:
        for piece in (listing.images[image_id], listing.notes[image_id]):
            found = member_of(piece.name)
            if found not in seen.spooled:
                raise _MissedError(image_id)
            members.append((task.path_of(piece.name), *seen.spooled[found]))
    refs = write_kept(spool, members, kept, kept_name, task.bundle.stamp, task.check)
    pairs = zip(refs[::2], refs[1::2], strict=True)
    ids = (image_id for _, image_id, _ in chosen.found)
    return task.result(listing, chosen, dict(zip(ids, pairs, strict=True)))


def pass_by(seen: FirstSoFar, source: Chunks, size: int | None) -> None:
    """Lets the archive pass by, to its very end: the checksum of gzip stands there."""
    try:
        for member in walk_stream(source, size, seen.wanted, seen.take):
            seen.told(member)
        for _ in source.rest():
            pass
    except NoTarError as error:
        seen.listing.damage.append(damage_of(error, seen.listing))


def _given(verdict: tuple[int, ...] | NotesError) -> tuple[int, ...]:
    if isinstance(verdict, NotesError):
        raise verdict
    return verdict
