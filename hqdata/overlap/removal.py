"""What a report of overlaps asks a build to leave out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hqdata.files import sha256_file
from hqdata.overlap.report import OverlapReport, Pair, read_report


@dataclass(frozen=True, slots=True)
class Removal:
    """The pictures that a report asks to leave out.

    Attributes:
        reasons: key of a training picture -> why, for people.
        path: of the report.
        sha256: of the report's bytes.
        dataset_digest: of the data set that the report was made of.
    """

    reasons: Mapping[str, str]
    path: Path
    sha256: str
    dataset_digest: str

    @property
    def mark(self) -> str:
        """The words that end every reason in `dataset.json`: which report said so."""
        return mark_of(self.sha256)


def mark_of(report_sha256: str) -> str:
    """See `Removal.mark`."""
    return f"by the report {report_sha256[:12]}"


def read_removal(path: Path) -> Removal:
    """Reads a report of overlaps for what it asks to leave out.

    Raises:
        UserError: no such file, or no report that this version can read.
    """
    report = read_report(path)
    return Removal(keys_to_remove(report), path, sha256_file(path), report.dataset_digest)


def keys_to_remove(report: OverlapReport) -> dict[str, str]:
    """Key -> reason of every training picture that a confirmed pair asks to leave out, sorted.

    What overlaps an evaluation set goes. Of two training pictures that are the same, the one with
    the later key goes, unless the other has gone for an evaluation set already: so no confirmed
    pair is left, and the first of each group of duplicates stays. What the data set of the report
    was built without for an earlier report stays out.
    """
    reasons: dict[str, str] = dict.fromkeys(report.removed, "left out before")
    within: list[Pair] = []
    for pair in report.confirmed():
        if pair.evaluation.set == "within":
            within.append(pair)
        else:
            where = f"{pair.evaluation.set} {pair.evaluation.name}"
            reasons.setdefault(pair.train, f"overlaps {where} ({pair.kind})")
    gone = frozenset(reasons)
    for pair in within:
        first, later = sorted((pair.train, pair.evaluation.name))
        if first != later and first not in gone and later not in gone:
            reasons.setdefault(later, f"duplicate of {first} ({pair.kind})")
    return dict(sorted(reasons.items()))
