"""Reports of overlaps made by hand."""

from __future__ import annotations

from hqdata.overlap.report import EvaluationImage, Kind, OverlapReport, Pair


def pair(
    train: str,
    *,
    set: str = "dis/validation",
    name: str = "DIS-VD/im/x.jpg",
    kind: Kind = "crop",
    confirmed: bool = True,
) -> Pair:
    """A pair of a training picture with another."""
    return Pair(
        train=train,
        evaluation=EvaluationImage(set=set, name=name),
        kind=kind,
        confirmed=confirmed,
        reason="by hand",
        train_size=(96, 64),
        evaluation_size=(96, 64),
    )


def report(*pairs: Pair, digest: str = "ab" * 32) -> OverlapReport:
    """A report of these pairs, of a data set of this digest."""
    return OverlapReport(
        verdict="overlap" if any(p.confirmed for p in pairs) else "clean",
        dataset="own",
        dataset_digest=digest,
        num_train=10,
        within=True,
        evaluation=(),
        missing=(),
        unread=(),
        pairs=pairs,
        self_test={},
        false_pairs=0,
        thresholds={},
        versions={},
    )
