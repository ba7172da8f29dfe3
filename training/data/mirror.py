"""Opening a data set behind a URL: a copy of its manifest, checked, and a reader of its shards."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from hqdata.errors import DatasetError, UserError
from hqdata.files import publish, sha256_file, write_whole
from hqdata.remote.origin import Origin
from hqdata.remote.retry import AlteredError, PassingError, Retry
from hqdata.shards.dataset import Dataset, DatasetInfo, dataset_digest, read_info
from hqdata.shards.names import DATASET_FILE, SAMPLES_FILE
from training.data.cache import ShardCache, explained
from training.data.download import copy
from training.data.plan import workable_bytes
from training.data.remote import READING, RemoteShards

T = TypeVar("T")

OPENING = Retry(max_tries=4)
"""Who mistyped an address should not wait for minutes to hear so."""

MAX_DATASET_BYTES = 2**28
MAX_SAMPLES_BYTES = 2**31


def open_remote(
    url: str,
    *,
    cache_dir: Path,
    cache_bytes: int,
    opening: Retry = OPENING,
    reading: Retry = READING,
) -> tuple[Dataset, RemoteShards]:
    """Opens the data set behind a URL; downloads its manifest, and no shard yet.

    Args:
        url: of the folder that has `dataset.json`.
        cache_dir: folder on a disk of this machine.
        cache_bytes: room for shards there.
        opening, reading: how network faults are met while opening, and while reading shards.

    Raises:
        DatasetError: there is no finished data set, or its manifest is damaged.
        UserError: the URL cannot be used as it is, or the cache is too small.
    """
    origin = Origin(url)
    raw = _fetched(
        origin, DATASET_FILE, partial(origin.read, DATASET_FILE, MAX_DATASET_BYTES), opening
    )
    info = _checked_info(raw, origin)
    largest = max((shard.num_bytes for shard in info.shards), default=0)
    if cache_bytes < largest:
        raise UserError(
            f"a cache of {cache_bytes:,} bytes has no room for a shard of {largest:,} bytes",
            where=origin.describe(),
            expected=f"{workable_bytes(info.shards):,} bytes at least to train on all of it",
            do="give the cache more room",
        )
    cache = ShardCache(cache_dir, cache_bytes)
    folder = f"{re.sub('[^a-z0-9_]', '_', info.name.lower())[:40]}-{info.manifest_sha256[:16]}"
    mirror = cache.root / folder
    with explained(mirror), cache.locked(f"{folder}/{DATASET_FILE}"):
        samples = mirror / SAMPLES_FILE
        if not samples.is_file() or sha256_file(samples) != info.samples_sha256:
            _fetched(origin, SAMPLES_FILE, partial(_mirror_samples, origin, samples, info), opening)
        write_whole(mirror / DATASET_FILE, raw)
        dataset = Dataset.open(mirror)
    if len(dataset) != info.num_samples:
        raise DatasetError(
            f"{SAMPLES_FILE} has {len(dataset):,} samples, {DATASET_FILE} {info.num_samples:,}",
            where=origin.describe(SAMPLES_FILE),
        )
    return dataset, RemoteShards(dataset, origin, cache, folder, retry=reading)


def _fetched(origin: Origin, name: str, fetch: Callable[[], T], retry: Retry) -> T:
    """What `fetch` returns, after as many tries as it may have."""
    try:
        return retry.call(fetch)
    except AlteredError as error:
        raise DatasetError(
            f"this is not the {name} that was built: {error.reason}",
            where=origin.describe(name),
            do="see that the data set was uploaded whole, and is not being replaced",
        ) from None
    except PassingError as error:
        raise UserError(
            f"{name} cannot be had: {error.reason}",
            where=origin.describe(name),
            do="see that the address is right and the server can be reached",
        ) from None


def _checked_info(raw: bytes, origin: Origin) -> DatasetInfo:
    """The content of `dataset.json`, once it fits its own digests.

    Raises:
        DatasetError: it does not, or it is none that can be read here.
    """
    where = origin.describe(DATASET_FILE)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / DATASET_FILE).write_bytes(raw)
        try:
            info = read_info(Path(folder))
        except DatasetError as error:
            raise DatasetError(
                error.what, where=where, expected=error.expected, do=error.do
            ) from None
    if info.own_sha256() != info.manifest_sha256:
        raise DatasetError(f"{DATASET_FILE} was changed after it was written", where=where)
    if dataset_digest(info.shards) != info.digest:
        raise DatasetError("the digest is not that of the list of shards", where=where)
    return info


def _mirror_samples(origin: Origin, path: Path, info: DatasetInfo) -> None:
    """Downloads `samples.parquet`. The mirror's lock is held: the unfinished file is ours."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            copy(
                origin, SAMPLES_FILE, file, sha256=info.samples_sha256, max_bytes=MAX_SAMPLES_BYTES
            )
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
