"""Contents of files, on disk under their SHA-256."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

PIECE = 1 << 20


class WrongContentError(Exception):
    """Other bytes came than were promised."""


class Blobs:
    """A folder of files named by what they hold; nothing half-received is ever in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.incoming = folder / "incoming"
        self.incoming.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256

    def __contains__(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def size(self, sha256: str) -> int:
        return self.path(sha256).stat().st_size

    def read(self, sha256: str) -> bytes:
        return self.path(sha256).read_bytes()

    def add(self, data: bytes) -> str:
        """Keeps some bytes; returns their digest."""
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self:
            with tempfile.NamedTemporaryFile(dir=self.incoming, delete=False) as file:
                file.write(data)
            self._keep(Path(file.name), digest)
        return digest

    def receive(
        self, stream: BinaryIO, *, sha256: str | None = None, size: int | None = None
    ) -> str:
        """Keeps what a stream yields, a piece at a time; returns its digest.

        Raises:
            WrongContentError: digest or size is not the promised one. Nothing is kept then, nor
                when the stream breaks off with an error.
        """
        handle, name = tempfile.mkstemp(dir=self.incoming)
        path = Path(name)
        try:
            digest = hashlib.sha256()
            received = 0
            with os.fdopen(handle, "wb") as file:
                while piece := stream.read(PIECE):
                    digest.update(piece)
                    received += len(piece)
                    file.write(piece)
            found = digest.hexdigest()
            if sha256 not in (None, found) or size not in (None, received):
                raise WrongContentError(f"{received} bytes with digest {found}")
            self._keep(path, found)
        finally:
            path.unlink(missing_ok=True)
        return found

    def _keep(self, path: Path, sha256: str) -> None:
        target = self.path(sha256)
        target.parent.mkdir(exist_ok=True)
        path.replace(target)
