"""A Ray for tests that no other Ray of the machine has to do with."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ray_of_its_own() -> Iterator[dict[str, str]]:
    """Variables under which Ray finds no running cluster, and leaves nothing behind.

    Ray looks for the cluster that was started last in its temporary folder. The folder's name is
    short: sockets lie in it, whose paths may have 107 bytes.
    """
    folder = tempfile.mkdtemp(prefix="ray-")
    try:
        yield {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": ""}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
