"""What a proof says: the checked form of `overlap.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import comb
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from hqdata.errors import UserError
from hqdata.files import write_whole
from hqdata.yaml_files import explain

REPORT_VERSION = 1
MAX_REPORT_BYTES = 512 * 2**20

Kind = Literal["identical_bytes", "identical_pixels", "near", "crop", "composite", "same_source_id"]
"""How two pictures are alike, the strongest first.

identical_bytes: the same file · identical_pixels: the same upright pixels · near: the same picture,
re-encoded, resized, mirrored, turned, bordered, recoloured · crop: a part of one is (nearly) all of
the other · composite: they share a region, and other content covers the rest · same_source_id: both
names carry the same id of the same archive of photographs; a hint, never proof.
"""

Verdict = Literal["clean", "overlap", "incomplete"]
"""clean: everything was searched, the self-test held, no confirmed pair · overlap: at least one
confirmed pair · incomplete: no pair, but something was left unread or unproven.
"""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Side = Annotated[int, Field(gt=0)]
Size = tuple[Side, Side]


_DOUBT = 0.01


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EvaluationImage(_Model):
    """One picture of an evaluation set; within a training set, the other training picture."""

    set: str = Field(min_length=1, description="`dis/validation`, a folder, or `within`")
    name: str = Field(min_length=1, description="path below the set's folder, or a key")


class Pair(_Model):
    """Two pictures that share something, and the evidence.

    Attributes:
        train: key of the training picture.
        evaluation: the other picture.
        kind: how they are alike.
        confirmed: whether pixels, or where there are none the geometry of many local features,
            say so. What is not confirmed is a hint to look at: it changes no verdict and nothing
            is removed for it.
        reason: one sentence for people: what was found, by which stage.
        distance: PDQ distance in bits of 256 of the best of the orientations, None if not compared.
        inliers: local features that agree on the transform.
        score: share of what the two pictures have in common whose pixels agree, 0 to 1.
        transform: 3x3 matrix by rows that takes pixel (x, y, 1) of the upright evaluation picture
            to the training picture, None where nothing was aligned.
        train_size, evaluation_size: width and height in pixels.
        train_fraction, evaluation_fraction: share of each picture's area that agrees with the
            other, 0 to 1.
    """

    train: str = Field(min_length=1)
    evaluation: EvaluationImage
    kind: Kind
    confirmed: bool
    reason: str
    distance: int | None = Field(default=None, ge=0, le=256)
    inliers: int | None = Field(default=None, ge=0)
    score: float | None = Field(default=None, ge=0, le=1)
    transform: tuple[float, ...] | None = Field(default=None, min_length=9, max_length=9)
    train_size: Size
    evaluation_size: Size
    train_fraction: float | None = Field(default=None, ge=0, le=1)
    evaluation_fraction: float | None = Field(default=None, ge=0, le=1)


class EvaluationSet(_Model):
    """One evaluation set that was searched.

    Attributes:
        how: from its pictures, or from a file of fingerprints made elsewhere.
        digest: SHA-256 over the sorted names and digests of its pictures.
        source: where the pictures or the fingerprints lay.
        problems: why it is not the whole set, if it is not.
    """

    set: str
    num_images: int = Field(ge=0)
    how: Literal["pictures", "fingerprints"]
    digest: Sha256
    source: str
    problems: tuple[str, ...] = ()


class Unread(_Model):
    """A picture that could not be read. A certificate is refused while there is one."""

    set: str
    name: str
    reason: str


class Recall(_Model):
    """How many planted copies of one kind of edit the search found.

    With few copies one miss says little: of 24 copies a search that finds 99 in 100 misses one in
    every fifth run. So the test does not hold only where a search as good as asked would miss so
    many in less than one run in a hundred.
    """

    planted: int = Field(ge=0)
    found: int = Field(ge=0)
    asked: float = Field(gt=0, le=1, description="share that has to be found")

    @property
    def allowed_misses(self) -> int:
        """Misses up to which the test holds."""
        chance, misses = 0.0, -1
        while chance < 1 - _DOUBT and misses < self.planted:
            misses += 1
            chance += (
                comb(self.planted, misses)
                * (1 - self.asked) ** misses
                * self.asked ** (self.planted - misses)
            )
        return max(0, misses)

    @property
    def held(self) -> bool:
        """Whether something was planted and found, and no more missed than is allowed."""
        return self.found > 0 and self.planted - self.found <= self.allowed_misses


class OverlapReport(_Model):
    """The content of `overlap.json`.

    Attributes:
        verdict: see `Verdict`.
        dataset: name of the data set.
        dataset_digest: of its shards.
        num_train: number of training pictures searched.
        within: whether the training set was searched for duplicates of its own.
        evaluation: the sets searched, with their digests.
        missing: evaluation sets of the recipe that were not there.
        unread: pictures that could not be read.
        pairs: everything found, by training key.
        subset: whether counts were held against nothing, because the user has a part of the sets.
        removed: keys that this data set was built without, for an earlier report.
        self_test: transformation -> what was planted and found in this run.
        false_pairs: planted copies that were paired with a picture that they are no copy of and
            that is itself no relative of theirs.
        thresholds: every number that decided.
        versions: of this package and of the libraries that computed.
    """

    report_version: int = REPORT_VERSION
    verdict: Verdict
    dataset: str
    dataset_digest: Sha256
    num_train: int = Field(ge=0)
    within: bool
    evaluation: tuple[EvaluationSet, ...]
    missing: tuple[str, ...]
    unread: tuple[Unread, ...]
    pairs: tuple[Pair, ...]
    subset: bool = False
    removed: tuple[str, ...] = ()
    self_test: dict[str, Recall]
    false_pairs: int = Field(ge=0)
    thresholds: dict[str, float]
    versions: dict[str, str]

    def confirmed(self) -> tuple[Pair, ...]:
        """The pairs that count."""
        return tuple(pair for pair in self.pairs if pair.confirmed)

    def to_bytes(self) -> bytes:
        """The text of `overlap.json`: one pair a line, so that two reports can be compared."""
        document = self.model_dump(mode="json", exclude={"pairs"})
        head = json.dumps(document, indent=1, ensure_ascii=False)
        rows = ",\n".join(
            "  " + json.dumps(pair.model_dump(mode="json"), ensure_ascii=False)
            for pair in self.pairs
        )
        pairs = f"[\n{rows}\n ]" if rows else "[]"
        return f'{head[:-2]},\n "pairs": {pairs}\n}}\n'.encode()

    def write(self, path: Path) -> None:
        """Writes `overlap.json` whole or not at all.

        Raises:
            UserError: it cannot be written there.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, self.to_bytes())
        except OSError as error:
            raise UserError(
                f"cannot write the report: {error.strerror}", where=path, do="name another --report"
            ) from error


def read_report(path: Path) -> OverlapReport:
    """Reads and checks an `overlap.json`.

    Raises:
        UserError: no such file, no report, or one of another version.
    """
    try:
        if path.stat().st_size > MAX_REPORT_BYTES:
            raise UserError("the file is too large for a report of overlaps", where=path)
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(
            "there is no such report", where=path, do="make it: hqdata verify-no-overlap"
        ) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=path) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"this is no report of overlaps: {error}", where=path) from error
    version = document.get("report_version") if isinstance(document, dict) else None
    if version != REPORT_VERSION:
        raise UserError(
            f"the report has version {version!r}",
            where=path,
            expected=f"a report of version {REPORT_VERSION}, written by hqdata verify-no-overlap",
            do="make it again with this version",
        )
    try:
        return OverlapReport.model_validate(document)
    except ValidationError as error:
        raise UserError("the report is not valid", where=path, expected=explain(error)) from error


def forget_report(path: Path) -> None:
    """Removes the report of an earlier run, so that a run that fails leaves no verdict behind.

    Raises:
        UserError: there is something else at the path, or it cannot be written to.
    """
    try:
        if path.is_file() and b'"report_version"' in path.read_bytes()[:4096]:
            path.unlink()
        elif path.exists():
            raise UserError(
                "there is something that is no report of overlaps", where=path, do="name another"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, b"")
        path.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write the report: {error.strerror}", where=path, do="name another --report"
        ) from error


def components(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """The pairs in groups: two pairs that share a picture are in one group, the largest first."""
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def find(node: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    listed = list(pairs)
    for pair in listed:
        other = "" if pair.evaluation.set == "within" else pair.evaluation.set
        parent[find(("", pair.train))] = find((other, pair.evaluation.name))
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in listed:
        groups.setdefault(find(("", pair.train)), []).append(pair)
    return sorted(groups.values(), key=lambda group: (-len(group), group[0].train))
