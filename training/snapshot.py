"""All that a run needs to go on, in one file: weights, Adam's moments, and where the stream stands.

The file is safetensors: nothing in it can run code. It holds a digest of its tensors, so that one
that was cut short or altered is never taken for whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hqdata.errors import InterruptedBuildError, UserError
from hqdata.files import no_room, write_whole
from training.data.order import STATE_VERSION, StreamState

SNAPSHOT_VERSION = 1
MAX_BYTES = 2**30

Tensors = dict[str, Tensor]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Position(_Model):
    """Where a run stands.

    Attributes:
        step: steps of the optimizer that are done, over all epochs.
        epoch, position, digest, seed, version: see `training.data.order.StreamState`.
        batch_size: samples of a step.
        num_samples: samples of an epoch.
        best: highest mean boundary IoU so far, if anything was evaluated.
        bad: keys of the samples passed over so far.
    """

    step: int = Field(ge=0)
    epoch: int = Field(ge=0)
    position: int = Field(ge=0)
    digest: str
    seed: int
    version: int = STATE_VERSION
    batch_size: int = Field(ge=1)
    num_samples: int = Field(ge=1)
    best: float | None = None
    bad: tuple[str, ...] = ()

    def stream(self) -> StreamState:
        """The part of it that the stream needs."""
        return StreamState(
            digest=self.digest,
            seed=self.seed,
            epoch=self.epoch,
            position=self.position,
            version=self.version,
        )


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment.

    Attributes:
        model: name of the backbone.
        position: where it stands.
        weights: the HQ parameters by name.
        moments: Adam's first and second moments, `first/NAME` and `second/NAME`; none at the start.
        mean: the running mean of the weights, if there is one.
    """

    model: str
    position: Position
    weights: Tensors
    moments: Tensors
    mean: Tensors


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Writes it whole or not at all.

    Raises:
        InterruptedBuildError: the disk is full.
        UserError: the file cannot be written.
    """
    tensors = {
        f"{part}/{name}": value.detach().cpu().contiguous()
        for part, values in _parts(snapshot).items()
        for name, value in values.items()
    }
    metadata = {
        "format": "hq-token training snapshot",
        "version": str(SNAPSHOT_VERSION),
        "model": snapshot.model,
        "position": snapshot.position.model_dump_json(),
        "tensors_sha256": _digest(tensors),
    }
    try:
        write_whole(path, save(tensors, metadata))
    except OSError as error:
        if no_room(error, path) is not None:
            raise InterruptedBuildError(
                f"no room left for a checkpoint ({error.strerror}); those before it are whole",
                where=path,
                do=f"free some space, then go on: --resume {path.parent.parent}",
            ) from error
        raise UserError(
            f"the checkpoint cannot be written: {error.strerror}", where=path
        ) from error


def load_snapshot(path: Path) -> Snapshot:
    """Reads one.

    Raises:
        UserError: it is missing, damaged, of another version, or something else.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _wrong(path, f"it has {path.stat().st_size:,} bytes")
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("version") != str(SNAPSHOT_VERSION):
                raise _wrong(path, f"its version is {metadata.get('version', 'not told')}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise UserError(f"the checkpoint cannot be read: {error}", where=path) from error
    except SafetensorError as error:
        raise _wrong(path, f"it is damaged: {error}") from error
    if metadata.get("tensors_sha256") != _digest(tensors):
        raise _wrong(path, "its tensors are not those that were written")
    try:
        position = Position.model_validate(json.loads(metadata["position"]))
    except (KeyError, ValueError, ValidationError) as error:
        raise _wrong(path, f"it does not say where the run stands: {error}") from error
    parts: dict[str, Tensors] = {"weights": {}, "moments": {}, "mean": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition("/")
        if part not in parts:
            raise _wrong(path, f"it has an unknown tensor {name!r}")
        parts[part][rest] = value
    return Snapshot(metadata.get("model", ""), position, **parts)


def _parts(snapshot: Snapshot) -> Mapping[str, Tensors]:
    return {"weights": snapshot.weights, "moments": snapshot.moments, "mean": snapshot.mean}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    value = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        value.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        value.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return value.hexdigest()


def _wrong(path: Path, why: str) -> UserError:
    return UserError(
        f"not a checkpoint that a run can go on from: {why}",
        where=path,
        expected="a file that training.train wrote to the checkpoints/ of its run",
    )
