"""The training side of a proof: what the manifest says of each picture, and its local features.

Local features are computed once and kept by the digest of their shard, so that another run, or
another data set with the same shard, does not compute them again.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hqdata.codecs import CodecError
from hqdata.errors import DatasetError, InterruptedBuildError
from hqdata.files import no_room, sha256_file, write_whole
from hqdata.overlap.features import FEATURES_VERSION, PACKED_BYTES, LocalFeatures, extract_train
from hqdata.shards.check import decode_image
from hqdata.shards.dataset import Dataset, ShardInfo
from hqdata.shards.reader import ShardError, ShardReader

_MAX_SIDE = 65_500
_MAX_CACHE_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class TrainPictures:
    """The pictures of one shard, as the manifest has them.

    Attributes:
        shard: the shard.
        rows: their numbers in the data set's table of samples.
        keys: their keys.
        sizes: (width, height) in pixels.
        hashes: uint8 (n, 2, 32), PDQ as it is and without borders.
    """

    shard: ShardInfo
    rows: tuple[int, ...]
    keys: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    hashes: NDArray[np.uint8]

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.keys)

    def digest(self) -> str:
        """Of the shard's bytes and of what the manifest says of its pictures."""
        told = f"{self.shard.sha256} {self.rows} {self.keys} {self.sizes}".encode()
        return hashlib.sha256(told + self.hashes.tobytes()).hexdigest()


def by_shard(dataset: Dataset) -> list[TrainPictures]:
    """The pictures of every shard, in the manifest's order."""
    columns = dataset.samples.select(
        ["shard", "key", "width", "height", "pdq", "pdq_trimmed"]
    ).to_pydict()
    rows: dict[str, list[int]] = {shard.path: [] for shard in dataset.info.shards}
    for number, shard in enumerate(columns["shard"]):
        rows[shard].append(number)
    pictures = []
    for shard in dataset.info.shards:
        own = rows[shard.path]
        if len(own) != shard.num_samples:
            raise DatasetError(
                f"{shard.path} has {shard.num_samples:,} samples, and the table {len(own):,} of it",
                where=dataset.root,
                do=f"see what is damaged: hqdata check {dataset.root}",
            )
        texts = [columns[name][n] for n in own for name in ("pdq", "pdq_trimmed")]
        hashes = np.frombuffer(bytes.fromhex("".join(texts)), np.uint8).reshape(len(own), 2, 32)
        pictures.append(
            TrainPictures(
                shard,
                tuple(own),
                tuple(columns["key"][n] for n in own),
                tuple((columns["width"][n], columns["height"][n]) for n in own),
                hashes,
            )
        )
    return pictures


def features_path(shard: ShardInfo, cache: Path) -> Path:
    """Where the features of a shard are kept: named after all that they depend on."""
    value = f"{shard.sha256} features {FEATURES_VERSION} opencv {cv2.__version__}"
    return cache / "features" / f"{hashlib.sha256(value.encode()).hexdigest()}.npz"


def load_features(pictures: TrainPictures, cache: Path) -> list[LocalFeatures] | None:
    """The features of a shard's pictures from the cache, None if it has not all of them."""
    path = features_path(pictures.shard, cache)
    try:
        if path.stat().st_size > _MAX_CACHE_BYTES:
            return None
        with np.load(path, allow_pickle=False) as file:
            counts, packed = file["counts"], file["packed"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if counts.shape != (len(pictures),) or packed.shape != (int(counts.sum()), PACKED_BYTES):
        return None
    ends = np.cumsum(counts)
    return [
        LocalFeatures.unpack(packed[end - count : end], *size)
        for end, count, size in zip(ends, counts, pictures.sizes, strict=True)
    ]


def is_unchanged(pictures: TrainPictures, root: Path, cache: Path) -> bool:
    """Whether the features are kept and the shard on disk is the one they are of.

    The shard is read again only if its size or its time of change are others than they were.
    """
    path, shard = features_path(pictures.shard, cache), root / pictures.shard.path
    if load_features(pictures, cache) is None:
        return False
    stamp = path.with_suffix(".stamp")
    try:
        now = _stamp(shard)
        if stamp.is_file() and stamp.read_text(encoding="ascii", errors="replace") == now:
            return True
        if sha256_file(shard) != pictures.shard.sha256:
            return False
        write_whole(stamp, now.encode())
    except OSError:
        return False
    return True


def _stamp(shard: Path) -> str:
    status = shard.stat()
    return f"{shard.resolve()} {status.st_size} {status.st_mtime_ns}"


def extract_shard(
    pictures: TrainPictures,
    *,
    root: Path,
    image_ext: str,
    cache: Path,
    tick: Callable[[int], None],
    should_stop: Callable[[], bool],
) -> tuple[tuple[str, str], ...]:
    """Computes and keeps the features of a shard; returns (key, reason) of unread pictures.

    Work for `hqdata.parallel.run_tasks`; ticks pictures. A shard with an unread picture is not
    kept: it shall be read again.

    Raises:
        DatasetError: the shard is missing, damaged, or not the one that the manifest describes.
        InterruptedBuildError: no room, or the run was stopped.
    """
    if is_unchanged(pictures, root, cache):
        tick(len(pictures))
        return ()
    path = root / pictures.shard.path
    reader = ShardReader(path)
    packed: list[NDArray[np.uint8]] = []
    unread: list[tuple[str, str]] = []
    try:
        stamp = _stamp(path)
        for member in reader:
            if member.ext != image_ext:
                continue
            if should_stop():
                raise InterruptedBuildError("stopped", do="run the same command again to go on")
            if len(packed) == len(pictures) or pictures.keys[len(packed)] != member.key:
                raise _other_shard(path)
            try:
                pixels = decode_image(member.data, image_ext)
                packed.append(extract_train(pixels).packed(pixels.shape[1], pixels.shape[0]))
            except CodecError as error:
                unread.append((member.key, str(error)))
                packed.append(np.empty((0, PACKED_BYTES), np.uint8))
            tick(1)
    except (OSError, ShardError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise DatasetError(
            f"the shard cannot be read: {text}",
            where=path,
            do=f"see what else is damaged: hqdata check {root}",
        ) from error
    if len(packed) != len(pictures) or reader.sha256 != pictures.shard.sha256:
        raise _other_shard(path)
    if not unread:
        _keep(pictures, packed, stamp, cache)
    return tuple(unread)


def _keep(
    pictures: TrainPictures, packed: Sequence[NDArray[np.uint8]], stamp: str, cache: Path
) -> None:
    target = features_path(pictures.shard, cache)
    file = io.BytesIO()
    rows = np.concatenate([*packed, np.empty((0, PACKED_BYTES), np.uint8)])
    np.savez(file, counts=np.array([len(p) for p in packed], np.int32), packed=rows)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, file.getvalue())
        write_whole(target.with_suffix(".stamp"), stamp.encode())
    except OSError as error:
        raise no_room(error, target) or DatasetError(
            f"cannot write to the cache: {error.strerror}", where=target, do="name another --cache"
        ) from error


def _other_shard(path: Path) -> DatasetError:
    return DatasetError(
        "the shard is not the one that the manifest describes",
        where=path,
        do="mend it: run the build that made it again",
    )
