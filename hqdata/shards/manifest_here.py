"""The manifest of a data set behind a URL, on this machine for as long as it is looked at."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hqdata.errors import DatasetError
from hqdata.places import Place
from hqdata.shards.names import DATASET_FILE, PROBLEMS_FILE, SAMPLES_FILE, TIMM_FILE


@contextmanager
def manifest_here(where: Path | str) -> Iterator[tuple[Path, Place | None]]:
    """A folder that has a data set's manifest, and where its shards are if not there, too.

    Args:
        where: folder or URL of the data set.

    Raises:
        DatasetError: there is no finished data set behind the URL.
    """
    place = Place.of(where)
    if place.local is not None:
        yield place.local, None
        return
    with tempfile.TemporaryDirectory(prefix="hqdata-manifest-") as folder:
        for name in (DATASET_FILE, SAMPLES_FILE, PROBLEMS_FILE, TIMM_FILE):
            data = place.read(name)
            if data is not None:
                (Path(folder) / name).write_bytes(data)
            elif name == DATASET_FILE:
                raise DatasetError(
                    f"there is no finished data set: it has no {DATASET_FILE}",
                    where=place.shown,
                    expected="the URL that `hqdata build --out URL` was given",
                    do="run the command that was building it again, if one was",
                )
        yield Path(folder), place
