"""Reading files of weights without running anything that is in them, and writing them whole."""

from __future__ import annotations

import errno
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hqdata.errors import UserError
from hqdata.files import publish, temporary_name

MAX_NUM_BYTES = 8 * 2**30
"""Larger files are refused; the largest of SAM's checkpoints has 2.4 GiB."""

SAFETENSORS_SUFFIX = ".safetensors"

_ZIP_MAGIC = b"PK\x03\x04"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_WRAPPERS = ("model", "state_dict")
"""Names below which training programs put the weights beside other things."""

_EXPECTED = "a checkpoint of SAM, MobileSAM or HQ-SAM, or HQ weights that were saved here"


@dataclass(frozen=True, slots=True)
class StateFile:
    """The content of a file of weights.

    Attributes:
        tensors: by name, as they are in the file; perhaps still on disk and read when used.
        metadata: what a safetensors file says of itself.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def read_state(path: Path) -> StateFile:
    """Reads a file of weights of PyTorch or safetensors.

    Raises:
        UserError: there is none, it is too large, cut short, no file of weights, or one that runs
            code when it is opened.
    """
    try:
        size = path.stat().st_size
        if path.is_file():
            with open(path, "rb") as file:
                magic = file.read(len(_ZIP_MAGIC))
    except FileNotFoundError:
        raise UserError("there is no such checkpoint", where=path, expected=_EXPECTED) from None
    except OSError as error:
        raise UserError(f"the checkpoint cannot be read: {error.strerror}", where=path) from error
    if not path.is_file():
        raise UserError("this is a folder, not a checkpoint", where=path, expected=_EXPECTED)
    if not size:
        raise UserError("the checkpoint is empty", where=path, do="get the file again")
    _check_size(path, size)
    if path.suffix == SAFETENSORS_SUFFIX:
        return _read_safetensors(path)
    return StateFile(_read_torch(path, magic), {})


def _check_size(path: Path, num_bytes: int) -> None:
    if num_bytes > MAX_NUM_BYTES:
        raise UserError(
            f"the checkpoint has {num_bytes / 2**30:.1f} GiB, more than any of SAM",
            where=path,
            expected=f"at most {MAX_NUM_BYTES / 2**30:.0f} GiB",
        )


def _read_safetensors(path: Path) -> StateFile:
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return StateFile(tensors, dict(file.metadata() or {}))
    except SafetensorError as error:
        raise UserError(
            f"the file is damaged, cut short or no safetensors file: {error}",
            where=path,
            do="get it again",
        ) from error


def _read_torch(path: Path, magic: bytes) -> dict[str, Tensor]:
    is_zip = zipfile.is_zipfile(path)
    if magic == _ZIP_MAGIC:
        if not is_zip:
            raise UserError("the checkpoint is cut short", where=path, do="get the file again")
        with zipfile.ZipFile(path) as archive:
            _check_size(path, sum(entry.file_size for entry in archive.infolist()))
    try:
        # A mapped file is read where it is used: of a whole model, a token's weights cost little.
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise _unpickling_error(path, magic, error) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError,
            AttributeError, struct.error, OSError, OverflowError) as error:  # fmt: skip
        raise UserError(
            "the file is damaged or no checkpoint of PyTorch: " + str(error).split("\n", 1)[0],
            where=path,
            expected=_EXPECTED,
        ) from error
    for name in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
    if not isinstance(loaded, Mapping) or not loaded:
        raise _no_weights(path, f"a {type(loaded).__name__}")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise _no_weights(path, f"{name!r}: {type(value).__name__}")
    return dict(loaded)


def _no_weights(path: Path, found: str) -> UserError:
    return UserError(
        f"the file is no checkpoint of a model: it holds {found}",
        where=path,
        expected="tensors by name: " + _EXPECTED,
    )


def _unpickling_error(path: Path, magic: bytes, error: pickle.UnpicklingError) -> UserError:
    told = re.search(r"GLOBAL ([\w.]+)", str(error))
    # A pickle of a newer form than PyTorch writes is refused before what it calls is known.
    if not told and not (magic[:1] == pickle.PROTO and "operand" in str(error)):
        return UserError(
            "the file is damaged or no checkpoint of PyTorch", where=path, expected=_EXPECTED
        )
    called = f" ({told[1]})" if told else ""
    return UserError(
        f"the checkpoint may hold code, which would run on opening it{called}; it was not opened",
        where=path,
        expected="a file of tensors alone",
        do="if you trust its origin, open it elsewhere and save the weights by themselves: "
        "torch.save(model.state_dict(), FILE)",
    )


def write_state(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file of weights so that it is there in full or not at all.

    Args:
        path: where.
        write: writes it into an open file.

    Raises:
        UserError: no room, no such folder, no right to write there; an older file is as it was.
    """
    temporary = temporary_name(path)
    try:
        with open(temporary, "wb") as file:
            try:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            except RuntimeError as error:
                # The zip writer of PyTorch puts its own error around that of the file.
                cause = error.__cause__ or error.__context__
                raise cause if isinstance(cause, OSError) else error from error
        publish(temporary, path)
    except OSError as error:
        what = "no room left to write" if error.errno in _NO_ROOM else "cannot write"
        raise UserError(
            f"{what} the checkpoint: {error.strerror}",
            where=path,
            do="make room or choose another folder; what was saved before is untouched",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
