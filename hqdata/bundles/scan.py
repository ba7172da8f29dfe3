"""Scanning one bundle of SA-1B: which of its pictures does the keyed hash choose?

No picture is decoded here. Of an archive on this machine only headers and the few json that are
needed are read; one behind a URL is read through once, front to back; so is one with gzip inside,
whose candidates are kept beside the data set.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hqdata.bundles.choose import Listing, choose_pictures
from hqdata.bundles.find import Bundle, folder_entries, remote_entries
from hqdata.bundles.index import read_index, write_index
from hqdata.bundles.records import BundleScan, Candidate, PassedOver, ScanStoppedError
from hqdata.bundles.stream import GZIP_MAGIC, check_local, local_chunks
from hqdata.bundles.streamed import scan_gzip, scan_remote
from hqdata.bundles.task import Task, damage_of
from hqdata.bundles.walk import Hopping, Member, NoTarError, walk_stream
from hqdata.places import Place
from hqdata.sampling import Choice
from hqdata.storage import FileReader

__all__ = ["BundleScan", "Candidate", "PassedOver", "ScanStoppedError", "scan_bundle"]

_CHECK_EVERY = 256
"""Members after which is told how far it is, and asked whether to stop."""


def scan_bundle(
    bundle: Bundle,
    choice: Choice,
    num_keep: int,
    *,
    kept: Place | None,
    kept_name: str,
    index: Place | None,
    tick: Callable[[int], None],
    should_stop: Callable[[], bool],
) -> BundleScan:
    """The `num_keep` eligible pictures of a bundle with the smallest keyed hash.

    The same for the same pictures, however the bundle is packed and in whatever order.

    Args:
        bundle: what to scan.
        choice: of pictures and masks.
        num_keep: how many candidates to list, at least 1.
        kept, kept_name: where the candidates of an archive with gzip inside go, as a plain tar.
        index: where offsets of plain archives are kept from run to run, or None.
        tick: called with bytes of the bundle that are done, `bundle.size` in all.
        should_stop: asked now and then.

    Raises:
        ScanStoppedError: `should_stop` said so.
        InterruptedBuildError: no room, a network that stays away, or a bundle that changes.
        UserError, DatasetError: access is refused, or the archive has gone.
        ValueError: `num_keep` below 1, or gzip inside and nowhere to keep its candidates.
    """
    if num_keep < 1:
        raise ValueError(f"{num_keep} candidates are none")
    task = Task(bundle, choice, num_keep, tick, should_stop)
    task.check()
    is_remote = "://" in bundle.containers[0]
    if bundle.kind == "folder":
        return _scan_folder(task, is_remote=is_remote)
    listing = None if index is None else read_index(index, bundle)
    if listing is not None:
        return choose_in_place(task, listing)
    if is_remote:
        return scan_remote(task, kept, kept_name, index)
    return _scan_local(task, kept, kept_name, index)


def choose_in_place(task: Task, listing: Listing) -> BundleScan:
    """The candidates of a listed bundle, whose json are read where they lie."""
    with FileReader() as reader:
        masks_of = task.masks_by(reader, listing)
        chosen = choose_pictures(listing, task.choice.seed, task.num_keep, masks_of, task.path_of)
    return task.result(listing, chosen)


def _scan_folder(task: Task, *, is_remote: bool) -> BundleScan:
    listing = Listing()
    container = task.bundle.containers[0]
    try:
        entries = remote_entries(container) if is_remote else folder_entries(Path(container))
        for entry in entries:
            listing.add(Member(entry.name, 0, entry.size), entry.stamp)
    except OSError as error:
        raise task.unreadable(str(error.strerror)) from error
    return choose_in_place(task, listing)


def _scan_local(task: Task, kept: Place | None, kept_name: str, index: Place | None) -> BundleScan:
    listing = Listing()
    path = Path(task.bundle.containers[0])
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise task.unreadable(str(error.strerror)) from error
    try:
        check_local(task, handle)
        if os.pread(handle, 2, 0) == GZIP_MAGIC:
            return scan_gzip(
                task,
                lambda: local_chunks(task, handle),
                lambda: check_local(task, handle),
                kept,
                kept_name,
            )
        _hop(task, handle, listing)
        check_local(task, handle)
    finally:
        os.close(handle)
    if index is not None:
        write_index(index, task.bundle, listing)
    return choose_in_place(task, listing)


def _hop(task: Task, handle: int, listing: Listing) -> None:
    """Lists an archive."""
    if hasattr(os, "posix_fadvise"):
        # Else the system reads on after each header, and most of the archive with it.
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)
    source = Hopping(handle, task.bundle.size)
    try:
        for member in walk_stream(source, task.bundle.size):
            listing.add(member)
            if listing.num_members % _CHECK_EVERY == 0:
                task.advance(member.offset)
                task.check()
    except NoTarError as error:
        listing.damage.append(damage_of(error, listing))
    except OSError as error:
        after = f"after {listing.num_members:,} members"
        raise task.unreadable(f"{after}: {error.strerror}") from error
    finally:
        task.num_bytes_read += source.num_bytes
