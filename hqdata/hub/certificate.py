"""The overlap certificate that a push wants to see: of this very data set, and clean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hqdata.errors import UserError
from hqdata.files import sha256_of
from hqdata.overlap.report import OverlapReport, read_report
from hqdata.resolve import FOLDER, check_overlap_target
from hqdata.shards.dataset import DatasetInfo

DEFAULT_CERTIFICATE = Path("overlap.json")
"""Where `hqdata verify-no-overlap` writes it unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A report of overlaps that goes along with a data set.

    Attributes:
        report: its checked content.
        data: the bytes of the file.
        covers: `exactly` this data set, or `more`: a larger one, of which this is a part.
        faults: why it proves nothing, empty where it does.
    """

    report: OverlapReport
    data: bytes
    covers: Literal["exactly", "more"]
    faults: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Digest of the file."""
        return sha256_of(self.data)


def faults_of(report: OverlapReport, info: DatasetInfo) -> tuple[str, ...]:
    """Why a report is no certificate that a data set overlaps nothing; empty where it is one.

    Args:
        report: the report.
        info: the whole data set on disk, of which all or a part is to be pushed.
    """
    if report.dataset_digest != info.digest:
        return (
            f"it is of another data set, {report.dataset_digest[:12]}…, "
            f"and this one is {info.digest[:12]}…",
        )
    if report.within:
        return ("it looks for duplicates inside the data set, not for evaluation pictures",)
    faults = []
    if report.verdict == "overlap":
        number = len({pair.train for pair in report.confirmed()})
        faults.append(f"it found overlap: {number:,} pictures are in an evaluation set")
    elif report.verdict != "clean":
        faults.append(f"its verdict is {report.verdict!r}: something was missing or unread")
    searched = {one.set for one in report.evaluation}
    wanted = {_canonical(name) for name in info.recipe.get("must_not_overlap") or ()}
    if left_out := sorted(wanted - searched - set(report.missing)):
        faults.append("it did not search " + ", ".join(left_out))
    if not searched:
        faults.append("it searched no evaluation set at all")
    return tuple(faults)


_LOCAL = re.compile(r"(?:^|[\s'\"(:])(~?/[\w.-]+/[^\s'\"]*|~/\S+)")


def local_paths(report: OverlapReport) -> tuple[str, ...]:
    """Paths of the machine that a report was made on, which are nobody else's business."""
    texts = [text for one in report.evaluation for text in (one.set, one.source, *one.problems)]
    texts += [text for one in report.unread for text in (one.set, one.name, one.reason)]
    texts += [text for pair in report.pairs for text in (pair.evaluation.set, pair.evaluation.name)]
    found = (match[1] for text in texts for match in _LOCAL.finditer(text))
    return tuple(dict.fromkeys(found))


def _canonical(target: str) -> str:
    name, split = check_overlap_target(str(target))
    return name if not split or name.startswith(FOLDER) else f"{name}/{split}"


def read_certificate(
    path: Path | None,
    info: DatasetInfo,
    pushed_digest: str,
    *,
    required: bool,
    shards: Path = Path("SHARDS"),
) -> Certificate | None:
    """The certificate for a push.

    Args:
        path: the file; None: `overlap.json` where it was called, if there is one.
        info: the whole data set on disk.
        pushed_digest: digest of what is to be pushed: of all of it, or of some of its sources.
        shards: folder of the data set, for messages.
        required: whether it has to be there and clean. Otherwise one that is not clean goes along
            with its faults, and one of another data set is ignored unless it was named.

    Raises:
        UserError: there is none, it is of another data set, it is not clean, or it names paths of
            this machine.
    """
    given = path or DEFAULT_CERTIFICATE
    verify = (
        f"make one: hqdata verify-no-overlap {shards} --report {given}; or push without, "
        "which the card will say: --without-certificate"
    )
    if path is None and not given.is_file():
        if not required:
            return None
        raise UserError(
            "there is no certificate that the data set overlaps no evaluation set",
            where=given.resolve(),
            expected=f"a clean report for data set {info.digest[:12]}…",
            do=verify,
        )
    try:
        report = read_report(given)
        data = given.read_bytes()
    except UserError:
        if path is None and not required:
            return None
        raise
    faults = faults_of(report, info)
    if report.dataset_digest != info.digest and not required:
        if path is None:
            return None
        raise UserError("this certificate cannot go along", where=given, expected=faults[0])
    if faults and required:
        raise UserError(
            "this is no certificate for the data set: " + "; ".join(faults),
            where=given,
            expected=f"a clean report for data set {info.digest[:12]}…",
            do=f"build without what it found: hqdata build … --remove {given}"
            if report.verdict == "overlap" and report.dataset_digest == info.digest
            else verify,
        )
    if paths := local_paths(report):
        raise UserError(
            f"the certificate names {len(paths)} paths of this machine, e.g. {paths[0]}, and would "
            "be published with them",
            where=given,
            do="make it again with paths below the data root, e.g. "
            "hqdata verify-no-overlap … --evaluation folder:mine/test",
        )
    covers: Literal["exactly", "more"] = "exactly" if info.digest == pushed_digest else "more"
    return Certificate(report, data, covers, faults)
