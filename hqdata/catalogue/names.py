"""Name lists that travel with the package: the upstream stems of a whole split.

They let a build say which pictures are missing or do not belong, not only that the count is off.
"""

from __future__ import annotations

import lzma
from functools import cache
from pathlib import Path

from hqdata.errors import UserError, nearest
from hqdata.resources import manifests_dir

SUFFIX = ".txt.xz"
MAX_BYTES = 64 * 2**20
"""Upper limit on a list once unpacked; a few kilobytes of xz can otherwise fill the memory."""


@cache
def load_names(name: str) -> tuple[str, ...]:
    """Names in `manifests/names/<name>.txt.xz`, sorted by code point.

    Args:
        name: the list's name without its suffix, as in a manifest's `names:` field.

    Raises:
        UserError: there is no such list, it cannot be unpacked, it is larger than `MAX_BYTES`
            unpacked, or it names something twice.
    """
    folder = manifests_dir() / "names"
    known = {path.name.removesuffix(SUFFIX): path for path in sorted(folder.glob(f"*{SUFFIX}"))}
    if name not in known:
        raise UserError(
            f"there is no name list {name!r}{nearest(name, known)}",
            where=folder,
            expected=f"one of {', '.join(known) or 'the lists that come with the package'}",
            do=f"correct 'names:' in the manifest, or add {name}{SUFFIX} to this folder",
        )
    path = known[name]
    unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ)
    try:
        data = unpacker.decompress(path.read_bytes(), max_length=MAX_BYTES + 1)
        names = data.decode("utf-8").split("\n")
    except (lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise _damaged(f"the name list {name!r} cannot be read: {error}", path) from error
    if len(data) > MAX_BYTES:
        raise _damaged(f"the name list {name!r} is larger than {MAX_BYTES:,} bytes unpacked", path)
    if not unpacker.eof:
        raise _damaged(f"the name list {name!r} ends too early", path)
    result = tuple(sorted(line for line in names if line))
    if len(set(result)) != len(result):
        raise _damaged(f"the name list {name!r} names something twice", path)
    return result


def _damaged(what: str, path: Path) -> UserError:
    return UserError(
        what,
        where=path,
        expected="an xz file of UTF-8 text, one name a line, each name once",
        do="install the package again, or restore the file from the repository",
    )
