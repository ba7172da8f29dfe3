"""Archives that can only be read from the front, decompressed for as long as a build takes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hqdata.archives import remove_spool, spool_archive
from hqdata.build.plan import ShardTask
from hqdata.errors import UserError
from hqdata.places import Place
from hqdata.shards.names import STATE_DIR
from hqdata.storage import FileRef


class Spool:
    """A folder for decompressed archives: beside the shards, or of this machine.

    Args:
        out: the data set's folder.
        tell: is given a line of text for each archive.
    """

    def __init__(self, out: Place, tell: Callable[[str], None]) -> None:
        self._out = out
        self._tell = tell
        self._folder: Path | None = None

    def readable(self, tasks: list[ShardTask], *, one_machine: bool) -> list[ShardTask]:
        """The tasks with the files of a .tar.gz readable: each archive they need is decompressed.

        Raises:
            UserError: the tasks run on machines that would not see it.
            InterruptedBuildError: no room.
        """
        refs = (ref for task in tasks for item in task.items for ref in (item.image, item.mask))
        targets: dict[str, str] = {}
        for archive in sorted({ref.container for ref in refs if ref.how == "listed"}):
            if self._out.local is None and not one_machine:
                raise UserError(
                    "a .tar.gz has to be decompressed where all machines see it",
                    where=archive,
                    do="unpack it in the data root, or build on one machine (--engine local)",
                )
            where = "beside the output" if self._out.local is not None else "on this machine"
            self._tell(f"decompressing {archive} {where}, to read it in any order")
            targets[archive] = str(spool_archive(self._source(archive), self._made()))
        return [_redirected(task, targets) for task in tasks] if targets else tasks

    def _made(self) -> Path:
        if self._folder is None:
            if self._out.local is None:
                self._folder = Path(tempfile.mkdtemp(prefix="hqdata-spool-"))
            else:
                # Of this process alone: the tasks of an array share the data set's folder.
                name = f"spool-{os.uname().nodename}-{os.getpid()}"
                self._folder = self._out.local / STATE_DIR / name
        return self._folder

    def remove(self) -> None:
        """Deletes what was decompressed."""
        if self._folder is not None:
            remove_spool(self._folder)
            self._folder = None

    def warn_of_room(self, num_bytes: int) -> None:
        """Tells if a folder of this machine has less room than will be written."""
        if self._out.local is None:
            return
        free = shutil.disk_usage(self._out.local).free
        if num_bytes > free:
            self._tell(
                f"warning: about {told_size(num_bytes)} will be written, "
                f"{told_size(free)} are free in {self._out.local}"
            )

    @staticmethod
    def _source(archive: str) -> Path | str:
        return archive if "://" in archive else Path(archive)


def told_size(num_bytes: int) -> str:
    """A number of bytes in MiB or GiB."""
    unit, factor = ("GiB", 2**30) if num_bytes >= 2**30 else ("MiB", 2**20)
    return f"{num_bytes / factor:,.1f} {unit}"


def remove_left_over(out: Path) -> None:
    """Deletes what builds that were killed had decompressed."""
    for folder in (out / STATE_DIR).glob("spool*"):
        remove_spool(folder)


def _redirected(task: ShardTask, targets: dict[str, str]) -> ShardTask:
    def readable(ref: FileRef) -> FileRef:
        if ref.how != "listed":
            return ref
        return replace(ref, how="range", container=targets[ref.container])

    items = (replace(i, image=readable(i.image), mask=readable(i.mask)) for i in task.items)
    return replace(task, items=tuple(items))
