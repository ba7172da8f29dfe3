"""The folder of a run: what lies where, and who may write to it.

config.yaml           every value of the run
run.json              what it is trained on, with what
checkpoints/          the last few snapshots, from which it can go on
metrics.jsonl         a line a step that was told, one an evaluation
tensorboard/          the same for TensorBoard
pictures/             sample pictures of each epoch
evaluation/           results of each epoch
best.safetensors      the HQ weights with the highest mean boundary IoU
last.safetensors      the HQ weights after the last epoch
sam_hq.pth            SAM and the best (else the last) HQ weights in one, at the end
index.html            all of it for a person to look at
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hqdata.errors import BusyError, UserError
from hqdata.files import no_room, write_whole
from training.config import TrainConfig, make_config, read_config
from training.snapshot import Snapshot, load_snapshot, save_snapshot

CONFIG_FILE = "config.yaml"
INFO_FILE = "run.json"
LOCK_FILE = ".lock"
RUN_VERSION = 1

_SNAPSHOT = re.compile(r"step-(\d{9})\.safetensors")


class RunInfo(BaseModel):
    """The content of `run.json`.

    Attributes:
        version: of this file.
        model: name of the backbone.
        dataset: name of the data set; `dataset_digest` its digest, `selection_digest` that of what
            was selected from it, `trained_on` the selected "source/split" names and their sizes.
        recipe: name of the recipe they are of, if one was asked for.
        num_samples: samples of an epoch.
        sam_sha256: of SAM's checkpoint, empty where its weights are random.
        num_parameters: how many are trained.
        versions: of this package and of the libraries that count.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = RUN_VERSION
    model: str
    dataset: str
    dataset_digest: str
    selection_digest: str
    trained_on: dict[str, int]
    num_samples: int = Field(ge=1)
    sam_sha256: str
    num_parameters: int
    versions: dict[str, str]
    recipe: str | None = None


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where the files of a run are."""

    root: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of the snapshots."""
        return self.root / "checkpoints"

    @property
    def best(self) -> Path:
        """The best HQ weights."""
        return self.root / "best.safetensors"

    @property
    def last(self) -> Path:
        """The HQ weights after the last whole epoch."""
        return self.root / "last.safetensors"

    @property
    def merged(self) -> Path:
        """SAM and HQ weights in one."""
        return self.root / "sam_hq.pth"

    @property
    def pictures(self) -> Path:
        """Folder of the sample pictures of each epoch."""
        return self.root / "pictures"

    @property
    def evaluation(self) -> Path:
        """Folder of the results of each epoch."""
        return self.root / "evaluation"

    @property
    def page(self) -> Path:
        """The page about the run."""
        return self.root / "index.html"

    @property
    def metrics(self) -> Path:
        """What was measured, a line each."""
        return self.root / "metrics.jsonl"

    def write_start(self, config: TrainConfig, info: RunInfo) -> None:
        """Writes what a run begins with."""
        for folder in (self.checkpoints, self.pictures, self.evaluation):
            folder.mkdir(exist_ok=True)
        write_whole(self.root / INFO_FILE, info.model_dump_json(indent=1).encode() + b"\n")
        # Last: with it the folder is a run.
        self.write_config(config)

    def write_config(self, config: TrainConfig) -> None:
        """Writes the values of the run, as they are now."""
        write_whole(self.root / CONFIG_FILE, config.to_yaml().encode())

    def read_config(self) -> TrainConfig:
        """The config of the run.

        Raises:
            UserError: the folder is no run, or its config is damaged.
        """
        path = self.root / CONFIG_FILE
        if not path.is_file():
            raise _no_run(self.root)
        return make_config(read_config(path), str(path))

    def read_info(self) -> RunInfo:
        """What the run is trained on.

        Raises:
            UserError: the folder is no run, or the file is damaged.
        """
        path = self.root / INFO_FILE
        try:
            document = json.loads(path.read_bytes())
            if isinstance(document, dict) and document.get("version") != RUN_VERSION:
                raise UserError(
                    f"the run is of version {document.get('version')}",
                    where=path,
                    expected=f"version {RUN_VERSION}",
                )
            return RunInfo.model_validate(document)
        except FileNotFoundError:
            raise _no_run(self.root) from None
        except (OSError, ValueError, ValidationError) as error:
            raise UserError(
                f"the description of the run is damaged: {error}", where=path
            ) from error

    def snapshots(self) -> list[Path]:
        """The snapshots, the oldest first."""
        found = [p for p in self.checkpoints.glob("step-*") if _SNAPSHOT.fullmatch(p.name)]
        return sorted(found, key=lambda path: path.name)

    def save(self, snapshot: Snapshot, keep: int) -> Path:
        """Writes a snapshot, then removes all but the last ones."""
        path = self.checkpoints / f"step-{snapshot.position.step:09}.safetensors"
        save_snapshot(path, snapshot)
        for old in self.snapshots()[:-keep]:
            old.unlink(missing_ok=True)
        return path

    def newest(self) -> tuple[Snapshot | None, list[UserError]]:
        """The last snapshot that is whole, and what is wrong with those after it.

        Raises:
            UserError: there are some, and none is whole.
        """
        wrong: list[UserError] = []
        for path in reversed(self.snapshots()):
            found = _load(path)
            if isinstance(found, Snapshot):
                return found, wrong
            wrong.append(found)
        if wrong:
            raise wrong[0]
        return None, []


def _load(path: Path) -> Snapshot | UserError:
    try:
        return load_snapshot(path)
    except UserError as error:
        return error


@dataclass(frozen=True, slots=True)
class Run:
    """A run as evaluation and prediction need it.

    Attributes:
        root: its folder.
        model: name of the backbone.
        sam_checkpoint: SAM's weights, None where they are the package's own or random by `seed`.
        sam_sha256: their digest, empty where they are random.
        hq_weights: the best HQ weights, else the last.
        trained_on: "source/split" names.
        seed: of the run.
        recipe: name of the recipe that these are of, if one was asked for.
    """

    root: Path
    model: str
    sam_checkpoint: Path | None
    sam_sha256: str
    hq_weights: Path
    trained_on: tuple[str, ...]
    seed: int
    recipe: str | None = None


def open_run(root: Path) -> Run:
    """A run that has weights.

    Raises:
        UserError: the folder is no run, or has not come to its first evaluation or epoch yet.
    """
    folder = RunFolder(Path(root))
    config, info = folder.read_config(), folder.read_info()
    weights = folder.best if folder.best.is_file() else folder.last
    if not weights.is_file():
        raise UserError(
            "the run has no weights yet: they are written after each epoch",
            where=folder.root,
            do=f"let it go on: python -m training.train --resume {folder.root}",
        )
    return Run(
        root=folder.root,
        model=info.model,
        sam_checkpoint=config.sam_checkpoint if info.sam_sha256 else None,
        sam_sha256=info.sam_sha256,
        hq_weights=weights,
        trained_on=tuple(info.trained_on),
        seed=config.seed,
        recipe=info.recipe,
    )


@contextmanager
def claimed(root: Path) -> Iterator[RunFolder]:
    """The folder of a run, made if need be and held for this process alone.

    Raises:
        BusyError: another process trains in it.
        UserError: it cannot be written to.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = open(root / LOCK_FILE, "a+", encoding="utf-8")  # noqa: SIM115  # closed below
    except OSError as error:
        raise no_room(error, root) or UserError(
            f"cannot write to the folder of the run: {error.strerror}", where=root
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise UserError(
                    f"the file system of the run's folder cannot lock files ({error.strerror})",
                    where=root,
                    do="choose an --out on a disk of this machine",
                ) from error
            lock.seek(0)
            raise BusyError(
                f"another process ({lock.read().strip() or 'unknown'}) trains in this folder",
                where=root,
                do="wait for it, or choose another --out",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield RunFolder(root)


def _no_run(root: Path) -> UserError:
    what = f"{str(root)!r} is no run" if root.is_dir() else f"there is no folder {str(root)!r}"
    return UserError(
        what,
        expected=f"a folder that training.train made, with a {CONFIG_FILE}",
        do="give the --out of a run, or the runs/... that it named when it began",
    )
