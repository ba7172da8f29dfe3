"""The folder that a data set is built in: of this machine, or behind a URL.

Whoever builds reads, writes and lists through a `Place` and need not know which of the two it is.
Files appear whole or not at all in both, and the faults of a network are outlived in here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from hqdata.claims import STATE_FOLDER, claim
from hqdata.errors import BusyError, DatasetError, UserError
from hqdata.files import is_temporary, no_room, sha256_file, write_whole
from hqdata.remote.failures import NotThereError
from hqdata.remote.lease import LEASE_FILE, Lease
from hqdata.remote.origin import Origin, Stat, is_url
from hqdata.remote.patience import PATIENCE as PATIENCE  # of all places
from hqdata.remote.patience import outlived
from hqdata.remote.retry import Retry
from hqdata.remote.uploads import scratch_folder

T = TypeVar("T")

MAX_FILE_BYTES = 2**31
"""Largest file that `Place.read` takes into memory."""

_LOCKS = {f"{STATE_FOLDER}/lock", f"{STATE_FOLDER}/{LEASE_FILE}"}


class Place(ABC):
    """A folder, by the names of the files in it: relative POSIX paths. Can be pickled.

    Beside what each method says, all of them raise UserError where access is refused or the disk
    does not do it, and InterruptedBuildError where the network or the room on the disk gives out:
    the same command goes on from there.
    """

    @staticmethod
    def of(where: str | Path | Place) -> Place:
        """The place that a path or a URL names."""
        if isinstance(where, Place):
            return where
        if isinstance(where, Path) or not is_url(where):
            return LocalPlace(Path(where))
        parts = urlsplit(where.strip())
        if parts.scheme.lower() in ("file", "local"):
            return LocalPlace(Path(unquote(parts.netloc + parts.path)))
        return RemotePlace(where)

    @property
    @abstractmethod
    def shown(self) -> str:
        """The place as messages name it, without secrets."""

    @property
    @abstractmethod
    def local(self) -> Path | None:
        """The folder, where it is one of this machine."""

    @abstractmethod
    def check_writable(self) -> None:
        """Whether data sets can be built here at all, as far as can be told without asking.

        Raises:
            UserError: they cannot.
        """

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """All bytes of a file, None if there is none.

        Raises:
            DatasetError: it has more than `MAX_FILE_BYTES`.
        """

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Writes a file, which is there in full or not at all."""

    @abstractmethod
    def stat(self, name: str) -> Stat | None:
        """Size and token of a file, None if there is none."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Removes a file; fine if there is none. Its folder stays: others may be about to write."""

    @abstractmethod
    def names(self, below: str = "") -> list[str]:
        """Every file in the folder `below` and further down, sorted.

        The names begin at the place itself, so that each can be read. Unfinished files and the lock
        are left out, and so are folders behind links.
        """

    @abstractmethod
    def new_file(self, name: str) -> AbstractContextManager[Path]:
        """A path of this machine to write the finished file `name` to.

        Locally it is the file's own, and who writes sees to it that it appears whole. Of a URL it
        lies in a temporary folder; it is uploaded when the block ends without an exception, and
        removed in any case.
        """

    @abstractmethod
    def copy_to(self, name: str, path: Path) -> None:
        """Copies a file to this machine; `path` is there in part only while this runs.

        Raises:
            DatasetError: there is no such file.
        """

    @abstractmethod
    def reference(self, name: str) -> str:
        """What `hqdata.storage.FileRef.container` has to be to read the file."""

    @abstractmethod
    def is_same(self, name: str, *, sha256: str, num_bytes: int, token: str) -> bool:
        """Whether a file is still what was written.

        Locally by its size and SHA-256, all of it read; of a URL by its size and token.
        """

    @abstractmethod
    def claim(self, *, shared: bool = False) -> AbstractContextManager[None]:
        """Holds the place for this process alone.

        Args:
            shared: let others in that say so, too, and refuse only where one holds it alone.

        Raises:
            UserError: the place holds something else, or cannot be written to.
            BusyError: another process holds it.
        """


class LocalPlace(Place):
    """A folder of this machine.

    Args:
        root: the folder; it need not be there yet.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def __repr__(self) -> str:
        return f"LocalPlace({str(self._root)!r})"

    @property
    def shown(self) -> str:
        """The path as it was given."""
        return str(self._root)

    @property
    def local(self) -> Path | None:
        """The folder."""
        return self._root

    def check_writable(self) -> None:
        """A folder can be written to until it says otherwise."""

    def read(self, name: str) -> bytes | None:
        """See `Place.read`."""
        path = self._root / name
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise DatasetError(f"it has more than {MAX_FILE_BYTES:,} bytes", where=path)
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}", where=path) from error

    def write(self, name: str, data: bytes) -> None:
        """See `Place.write`."""
        path = self._root / name
        with _told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)

    def stat(self, name: str) -> Stat | None:
        """See `Place.stat`."""
        try:
            info = (self._root / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            where = self._root / name
            raise UserError(f"cannot be looked at: {error.strerror}", where=where) from error
        token = f"{info.st_size}-{info.st_mtime_ns}-{info.st_ino}"
        return Stat(info.st_size, token, info.st_mtime)

    def remove(self, name: str) -> None:
        """See `Place.remove`."""
        path = self._root / name
        with _told(path):
            path.unlink(missing_ok=True)

    def names(self, below: str = "") -> list[str]:
        """See `Place.names`."""
        found = []
        for folder, _, files in os.walk(self._root / below):
            base = Path(folder).relative_to(self._root)
            found += [(base / file).as_posix() for file in files if not is_temporary(file)]
        return sorted(name for name in found if name not in _LOCKS)

    @contextmanager
    def new_file(self, name: str) -> Iterator[Path]:
        """See `Place.new_file`."""
        path = self._root / name
        with _told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        yield path

    def copy_to(self, name: str, path: Path) -> None:
        """See `Place.copy_to`."""
        try:
            shutil.copyfile(self._root / name, path)
        except FileNotFoundError as error:
            raise DatasetError("there is no such file", where=self._root / name) from error

    def reference(self, name: str) -> str:
        """The absolute path."""
        return str((self._root / name).absolute())

    def is_same(self, name: str, *, sha256: str, num_bytes: int, token: str) -> bool:
        """See `Place.is_same`."""
        path = self._root / name
        try:
            return path.stat().st_size == num_bytes and sha256_file(path) == sha256
        except OSError:
            return False

    def claim(self, *, shared: bool = False) -> AbstractContextManager[None]:
        """See `hqdata.claims.claim`."""
        return claim(self._root, shared=shared)


class RemotePlace(Place):
    """A folder behind a URL.

    Args:
        url: with its scheme. Credentials come from where its storage's tools look for them.
        retry: how faults of the network are met.
    """

    def __init__(self, url: str, retry: Retry | None = None) -> None:
        self._origin = Origin(url)
        self._retry = retry
        self._lease: Lease | None = None
        self._held_as = ""

    def __repr__(self) -> str:
        return f"RemotePlace({self.shown!r})"

    def __getstate__(self) -> dict[str, Any]:
        # Who holds the place is this process; workers have to look whether it still does.
        held_as = self._held_as if self._lease is None else self._lease.holder
        return {**self.__dict__, "_lease": None, "_held_as": held_as}

    @property
    def shown(self) -> str:
        """The URL without user, password and query."""
        return self._origin.describe()

    @property
    def local(self) -> Path | None:
        """None."""
        return None

    def check_writable(self) -> None:
        """Raises UserError for kinds of URLs that cannot be written to."""
        self._origin.check_writable()
        self._origin.reference("")

    def read(self, name: str) -> bytes | None:
        """See `Place.read`."""

        def whole() -> bytes | None:
            try:
                return self._origin.read(name, MAX_FILE_BYTES)
            except NotThereError:
                return None

        return self._ask(name, whole)

    def write(self, name: str, data: bytes) -> None:
        """See `Place.write`."""
        self._still_ours()
        self._ask(name, lambda: self._origin.write(name, data))

    def stat(self, name: str) -> Stat | None:
        """See `Place.stat`."""
        return self._ask(name, lambda: self._origin.stat(name))

    def remove(self, name: str) -> None:
        """See `Place.remove`; a storage of objects has no folders to be left."""
        if self._lease is not None:  # workers look before they write
            self._still_ours()
        self._ask(name, lambda: self._origin.remove(name))

    def names(self, below: str = "") -> list[str]:
        """See `Place.names`."""
        prefix = f"{below.rstrip('/')}/" if below else ""
        walk = self._origin if not below else Origin(self._origin.reference(below.rstrip("/")))
        found = self._ask(below, lambda: [prefix + name for name, _ in walk.walk()])
        return [
            name
            for name in found
            if not is_temporary(name.rpartition("/")[2]) and name not in _LOCKS
        ]

    @contextmanager
    def new_file(self, name: str) -> Iterator[Path]:
        """See `Place.new_file`."""
        if self._lease is not None:
            self._still_ours()
        with ExitStack() as stack:
            with _told(Path(tempfile.gettempdir())):
                folder = stack.enter_context(scratch_folder())
            path = folder / name.rpartition("/")[2]
            yield path
            self._still_ours()
            self._ask(name, lambda: self._origin.put(name, path))

    def copy_to(self, name: str, path: Path) -> None:
        """See `Place.copy_to`."""

        def copy() -> None:
            with open(path, "wb") as file:
                for chunk in self._origin.chunks(name):
                    file.write(chunk)

        with _told(path):
            self._ask(name, copy)

    def reference(self, name: str) -> str:
        """The URL of the file.

        Raises:
            UserError: the place's URL holds secrets, and references are written down.
        """
        return self._origin.reference(name)

    def is_same(self, name: str, *, sha256: str, num_bytes: int, token: str) -> bool:
        """See `Place.is_same`."""
        found = self.stat(name)
        return found is not None and (found.size, found.token) == (num_bytes, token)

    @contextmanager
    def claim(self, *, shared: bool = False) -> Iterator[None]:
        """See `Place.claim`."""
        self.check_writable()
        self._refuse_foreign()
        lease = Lease(self._origin, STATE_FOLDER, self._ask)
        if shared:
            lease.refuse_if_held()
            yield
            return
        lease.take()
        self._lease = lease
        try:
            yield
        finally:
            self._lease = None
            lease.give_back()

    def _refuse_foreign(self) -> None:
        """Keeps what somebody else has put there from being taken for an old data set of ours."""
        names = self.names()
        if names and not any(name.startswith(f"{STATE_FOLDER}/") for name in names):
            raise UserError(
                "the output folder is not empty and no data set of ours",
                where=f"{self.shown.rstrip('/')}/{names[0]}",
                expected="a place where nothing is, or one that an earlier build wrote to",
                do="choose another --out",
            )

    def _still_ours(self) -> None:
        """Keeps a process that was held for dead, and its workers, from writing beside its heir."""
        lost = self._lease.is_lost if self._lease is not None else False
        if self._lease is None and self._held_as:
            lost = Lease(self._origin, STATE_FOLDER, self._ask).current_holder() != self._held_as
        if lost:
            raise BusyError(
                "another hqdata has taken over this folder, since nothing came from this one for "
                "too long",
                where=self.shown,
                do="wait for the other one, then run this again",
            )

    def _ask(self, name: str, work: Callable[[], T]) -> T:
        """Does something over the network, as often as it takes."""
        return outlived(work, self._origin.describe(name), self._retry)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Makes a message of what a disk refuses."""
    try:
        yield
    except OSError as error:
        raise no_room(error, path) or UserError(
            f"cannot be written: {error.strerror}", where=path, do="check the permissions"
        ) from error
