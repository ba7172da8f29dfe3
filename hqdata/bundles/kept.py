"""Candidates of an archive with gzip inside, kept as a plain tar that can be read in any order."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Callable, Sequence
from typing import IO

from hqdata.files import publish, temporary_name
from hqdata.places import Place
from hqdata.storage import FileRef

_END = bytes(2 * tarfile.BLOCKSIZE)


def write_kept(
    spool: IO[bytes],
    members: Sequence[tuple[str, int, int]],
    kept: Place,
    name: str,
    stamp: str,
    check: Callable[[], None],
) -> list[FileRef]:
    """Writes a tar that is there in full or not at all; the same members give the same bytes.

    Args:
        spool: holds the members' bytes.
        members: path in the tar, offset in the spool and size of each.
        kept, name: where it goes.
        stamp: of the archive that they come from.
        check: called before each; may raise to stop.

    Returns:
        where each member lies, in their order.

    Raises:
        OSError: it cannot be written.
    """
    container = kept.reference(name)
    refs = []
    with kept.new_file(name) as path:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_name(path)
        try:
            with open(temporary, "wb") as file:
                for member, begin, size in members:
                    check()
                    spool.seek(begin)
                    data = spool.read(size)
                    file.write(_header(member, size))
                    place = file.tell()
                    file.write(data)
                    file.write(bytes(-size % tarfile.BLOCKSIZE))
                    # Not of the kept file: that is written anew where more are to be listed.
                    told = f"{stamp}:{member.rpartition('/')[2]}:{size}"
                    crc = zlib.crc32(data)
                    refs.append(FileRef(container, "range", place, size, size, crc, told))
                file.write(_END)
                file.flush()
                os.fsync(file.fileno())
            publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return refs


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)
