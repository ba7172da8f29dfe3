"""What a push would put where: every file with its size and digest, before anything is sent."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hqdata.files import sha256_of
from hqdata.hub.card import CardFacts, render_card
from hqdata.hub.certificate import Certificate
from hqdata.hub.croissant import croissant
from hqdata.hub.examples import example_pictures
from hqdata.hub.licences import Decision, What
from hqdata.hub.names import CARD_FILE, CERTIFICATE_FILE, CROISSANT_FILE, RECIPE_FILE
from hqdata.hub.recipe_file import recipe_bytes, removes_the_same
from hqdata.hub.seal import sealed
from hqdata.shards.dataset import Dataset
from hqdata.shards.names import TIMM_FILE
from hqdata.shards.subset import Manifest, rows_of, subset, whole


@dataclass(frozen=True, slots=True)
class Planned:
    """One file of the repository.

    Attributes:
        path: in the repository.
        num_bytes: its size.
        sha256: of its bytes.
        data: the bytes, or None for a shard, which lies below the data set's folder under the
            same path.
    """

    path: str
    num_bytes: int
    sha256: str
    data: bytes | None = None

    @classmethod
    def of(cls, path: str, data: bytes) -> Planned:
        """A small file, which is held in memory."""
        return cls(path, len(data), sha256_of(data), data)

    def git_blob(self, root: Path) -> str:
        """The SHA-1 that git knows the file by where it is no large file, in hexadecimal."""
        digest = hashlib.sha1(f"blob {self.num_bytes}\0".encode(), usedforsecurity=False)
        if self.data is not None:
            digest.update(self.data)
        else:
            with open(root / self.path, "rb") as file:
                while chunk := file.read(2**20):
                    digest.update(chunk)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class PushPlan:
    """All that a push will do, given that the Hub lets it.

    Attributes:
        repo_id: `owner/name` of the data set on the Hub.
        root: folder of the data set on disk.
        what: pictures and all, or the manifest alone.
        manifest: of what is pushed: of the data set, or of some of its sources.
        decision: what the licences allow.
        certificate: what goes along as proof, None if nothing does.
        files: every file of the repository, shards first, in the order of the upload.
    """

    repo_id: str
    root: Path
    what: What
    manifest: Manifest
    decision: Decision
    certificate: Certificate | None
    files: tuple[Planned, ...]

    @property
    def digest(self) -> str:
        """Digest of the data set that is pushed."""
        return self.manifest.info.digest

    @property
    def tag(self) -> str:
        """Name of the tag that the repository gets; what is without pictures has one of its own."""
        return f"sha256-{self.digest}" + ("-manifest" if self.what == "manifest" else "")

    @property
    def shards(self) -> tuple[Planned, ...]:
        """The files that are shards."""
        return tuple(file for file in self.files if file.data is None)

    @property
    def small_files(self) -> tuple[Planned, ...]:
        """The files that are not."""
        return tuple(file for file in self.files if file.data is not None)

    @property
    def num_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.num_bytes for file in self.files)


def manifest_of(dataset: Dataset, sources: Collection[str]) -> Manifest:
    """The manifest of these sources of a data set."""
    return whole(dataset) if set(sources) == set(dataset.info.sources) else subset(dataset, sources)


def make_plan(
    dataset: Dataset,
    manifest: Manifest,
    *,
    repo_id: str,
    what: What,
    decision: Decision,
    certificate: Certificate | None,
    without_certificate: bool,
) -> PushPlan:
    """Plans a push; reads the data set, asks nothing of the Hub.

    Args:
        dataset: on disk.
        manifest: of all of it, or of the sources that are pushed.
        repo_id: where to.
        what: pictures and all, or the manifest alone.
        decision: what the licences allow of just this.
        certificate: what goes along as proof.
        without_certificate: whether it is pushed although it may prove nothing.
    """
    info = manifest.info
    rows = rows_of(dataset.samples, info.sources)
    pictures = example_pictures(dataset, rows, list(info.sources)) if what == "all" else {}
    facts = CardFacts(
        repo_id=repo_id,
        manifest=manifest,
        rows=rows,
        decision=decision,
        certificate=certificate.report if certificate else None,
        certificate_covers=certificate.covers if certificate else "exactly",
        without_certificate=without_certificate,
        examples=tuple((path, Path(path).stem) for path in pictures),
        certificate_faults=certificate.faults if certificate else (),
    )
    shards = tuple(Planned(s.path, s.num_bytes, s.sha256) for s in info.shards)
    small = dict(manifest.files())
    by_it = removes_the_same(certificate.report if certificate else None, info)
    if what == "manifest":
        shards = ()
        small.pop(TIMM_FILE)  # it names shards, and there are none
    if (recipe := recipe_bytes(info, with_certificate=by_it)) is not None:
        small[RECIPE_FILE] = recipe
    if certificate is not None:
        small[CERTIFICATE_FILE] = certificate.data
    small |= pictures
    listed = {file.path: (file.sha256, file.num_bytes) for file in shards}
    listed |= {name: (sha256_of(data), len(data)) for name, data in small.items()}
    small[CROISSANT_FILE] = croissant(facts, listed)
    small[CARD_FILE] = sealed(render_card(facts))
    files = (*shards, *(Planned.of(name, data) for name, data in sorted(small.items())))
    return PushPlan(repo_id, dataset.root, what, manifest, decision, certificate, files)


def dated(plan: PushPlan, published: datetime.date) -> PushPlan:
    """The plan with the day of the first publication in the metadata, where validators want it.

    It is the day the repository was made: so a later push of the same data is still the same.
    """
    files = []
    for file in plan.files:
        if file.path == CROISSANT_FILE and file.data is not None:
            document: dict[str, Any] = json.loads(file.data)
            at_the_end = {k: document.pop(k) for k in ("distribution", "recordSet")}
            document |= {"datePublished": published.isoformat(), **at_the_end}
            data = (json.dumps(document, indent=1, ensure_ascii=True) + "\n").encode()
            files.append(Planned.of(file.path, data))
        else:
            files.append(file)
    return replace(plan, files=tuple(files))
