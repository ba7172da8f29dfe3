"""Holding a folder behind a URL: a file that says who does, and one that shows that he lives.

The first is written once, so that no late beat of a process that was held for dead can undo what
its heir wrote; the second is written again and again.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hqdata.errors import BusyError, DatasetError, HqdataError
from hqdata.files import TEMPORARY_SUFFIX
from hqdata.remote.failures import NotThereError
from hqdata.remote.origin import Origin, Stat
from hqdata.remote.retry import PassingError

T = TypeVar("T")

LEASE_FILE = "lock.json"

BEAT_SECONDS = 15.0
"""Time after which a beat is written again."""

DEAD_SECONDS = 60.0
"""Age of the last beat, by the storage's own clock, at which its writer counts as dead."""

_MAX_BYTES = 65_536


class Ask(Protocol):
    """Does something over the network again and again until it goes well, or raises."""

    def __call__(self, name: str, work: Callable[[], T]) -> T:
        """What `work` gives; `name` is the file that it concerns."""
        ...


class Lease:
    """The right of one process to write below a folder.

    A storage without conditional writes may let two take it in the same moment: the one whose file
    was replaced sees so at its next beat, and is lost.

    Args:
        origin: the folder.
        state: the folder in it that the file lies in.
        ask: how faults are met.
    """

    def __init__(self, origin: Origin, state: str, ask: Ask) -> None:
        self._origin = origin
        self._name = f"{state}/{LEASE_FILE}"
        self._beside = f"{state}/.lock"
        self._ask = ask
        self._id = os.urandom(16).hex()
        self._given_back = threading.Event()
        self._lost = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def holder(self) -> str:
        """The id that this process holds the folder under."""
        return self._id

    def current_holder(self) -> str:
        """The id that is written there; empty if there is none."""
        found, _ = self._holder()
        return str((found or {}).get("id", ""))

    @property
    def is_lost(self) -> bool:
        """Whether another has taken over."""
        return self._lost.is_set()

    def take(self) -> None:
        """Takes the folder and holds it until `give_back`.

        Raises:
            BusyError: another holds it.
        """
        if not self._write_new():
            holder, stat = self._holder()
            if stat is None:  # given back in between
                if not self._write_new():
                    raise self._busy({})
            elif holder is None or holder.get("id") != self._id:  # else an answer was lost
                self._refuse_if_alive(holder or {}, stat)
                self._take_over(holder or {}, stat)
        holder, _ = self._holder()
        if holder is None or holder.get("id") != self._id:
            raise self._busy(holder or {})
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def refuse_if_held(self) -> None:
        """Raises BusyError if another holds the folder."""
        holder, stat = self._holder()
        if stat is not None:
            self._refuse_if_alive(holder or {}, stat)

    def give_back(self) -> None:
        """Lets others in. Whatever fails here, the file grows old by itself."""
        self._given_back.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(HqdataError, PassingError):
            holder, _ = self._once()
            if holder is not None and holder.get("id") == self._id:
                self._origin.remove(self._name)
        with suppress(HqdataError, PassingError):
            self._origin.remove(self._beat_of(self._id))

    def _beat(self) -> None:
        while not self._given_back.wait(BEAT_SECONDS):
            with suppress(HqdataError, PassingError):  # the next beat may get through
                if not self._beat_once():
                    return

    def _beat_once(self) -> bool:
        """Shows that this process lives; returns whether the folder is still its own."""
        try:
            holder, _ = self._once()
            if holder is None or holder.get("id") != self._id:
                self._lost.set()
                return False
            # Other bytes each time: a storage that knows files by their content shows a beat.
            self._origin.write(self._beat_of(self._id), os.urandom(8))
        except (HqdataError, PassingError):
            raise
        except Exception:
            # Whatever a storage's library comes up with: without beats the folder is not ours.
            self._lost.set()
            raise
        return True

    def _beat_of(self, holder: str) -> str:
        """The file that shows that a holder lives; named as an unfinished one, never listed."""
        return f"{self._beside}.{_file_name(holder)}{TEMPORARY_SUFFIX}"

    def _write_new(self) -> bool:
        data = self._content()
        return self._ask(self._name, lambda: self._origin.write(self._name, data, only_new=True))

    def _take_over(self, dead: dict[str, Any], stale: Stat) -> None:
        """Replaces what a dead process left. Of several that want to, one may."""
        permit = f"{self._beside}.take-{_file_name(stale.token)}{TEMPORARY_SUFFIX}"
        if not self._ask(permit, lambda: self._origin.write(permit, b"", only_new=True)):
            found = self._ask(permit, lambda: self._origin.stat(permit))
            if found is not None and self._age(found) > DEAD_SECONDS:
                self._ask(permit, lambda: self._origin.remove(permit))
            raise self._busy({})
        try:
            _, now = self._holder()
            if now is not None and now.token != stale.token:
                raise self._busy({})
            data = self._content()
            self._ask(self._name, lambda: self._origin.write(self._name, data))
        finally:
            with suppress(HqdataError, PassingError):
                self._origin.remove(permit)
                self._origin.remove(self._beat_of(str(dead.get("id", ""))))

    def _refuse_if_alive(self, holder: dict[str, Any], stat: Stat) -> None:
        if _is_dead_here(holder):
            return
        beat = self._beat_of(str(holder.get("id", "")))
        if self._age(self._ask(beat, lambda: self._origin.stat(beat)) or stat) <= DEAD_SECONDS:
            raise self._busy(holder)

    def _age(self, stat: Stat) -> float:
        """Seconds since a file was written, both times told by the storage."""
        name = f"{self._beside}.now-{self._id}{TEMPORARY_SUFFIX}"
        try:
            self._ask(name, lambda: self._origin.write(name, self._id.encode()))
            now = self._ask(name, lambda: self._origin.stat(name))
        finally:
            with suppress(HqdataError, PassingError):
                self._origin.remove(name)
        if now is None or not now.modified or not stat.modified:
            return 0.0  # a storage that does not tell the time: only a person can say
        return now.modified - stat.modified

    def _holder(self) -> tuple[dict[str, Any] | None, Stat | None]:
        return self._ask(self._name, self._once)

    def _once(self) -> tuple[dict[str, Any] | None, Stat | None]:
        """Who holds the folder, as far as the file says so, and the file's own state."""
        stat = self._origin.stat(self._name)
        if stat is None:
            return None, None
        try:
            value = json.loads(self._origin.read(self._name, _MAX_BYTES))
        except NotThereError:
            return None, None  # given back in between
        except (ValueError, DatasetError):
            value = {}  # something else of that name
        return (value if isinstance(value, dict) else {}), stat

    def _content(self) -> bytes:
        own = {
            "id": self._id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "machine": _machine(),
            "started": _started(os.getpid()),
        }
        return json.dumps(own, sort_keys=True).encode()

    def _busy(self, holder: dict[str, Any]) -> BusyError:
        who = f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'another machine')}"
        return BusyError(
            f"another hqdata ({who}) is writing to this folder",
            where=self._origin.describe(),
            do=f"wait for it, or choose another --out; what a machine left that died is free after "
            f"{DEAD_SECONDS:.0f} seconds",
        )


def _file_name(token: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in token)[:100]


def _is_dead_here(holder: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    pid = holder.get("pid")
    if not isinstance(pid, int) or pid <= 0 or holder.get("machine") != _machine():
        return False
    started = _started(pid)
    return started == "" or started != holder.get("started")


def _machine() -> str:
    """This machine since it was started, and what part of its processes can be seen from here.

    An empty string where the system does not tell: then nobody is of the same machine.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"unknown:{os.urandom(8).hex()}"


def _started(pid: int) -> str:
    """When a process began, in ticks since the machine did; an empty string if it is no more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state in ("Z", "X") else rest[18]
