"""Which report of overlaps is a certificate for which data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hqdata.errors import UserError
from hqdata.hub.certificate import faults_of, local_paths, read_certificate
from hqdata.overlap.report import EvaluationSet, OverlapReport
from hqdata.shards.dataset import DatasetInfo
from support.builds import build_own, own_sources

DIGEST = "1" * 64
SETS = ("dis/validation", "coift/all")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> DatasetInfo:
    root = tmp_path_factory.mktemp("certified")
    own_sources(root / "data", {"tools": 3, "boats": 2})
    return build_own(
        root / "data", root / "out", ["tools", "boats"], must_not_overlap=list(SETS)
    ).info


def report(info: DatasetInfo, **changes: Any) -> OverlapReport:
    searched = tuple(
        EvaluationSet(set=name, num_images=6, how="pictures", digest=DIGEST, source="data/x")
        for name in SETS
    )
    facts: dict[str, Any] = {
        "verdict": "clean",
        "dataset": info.name,
        "dataset_digest": info.digest,
        "num_train": info.num_samples,
        "within": False,
        "evaluation": searched,
        "missing": (),
        "unread": (),
        "pairs": (),
        "self_test": {},
        "false_pairs": 0,
        "thresholds": {},
        "versions": {},
    }
    return OverlapReport.model_validate({**facts, **changes})


def test_a_clean_report_of_this_data_set_is_one(built: DatasetInfo) -> None:
    assert faults_of(report(built), built) == ()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"dataset_digest": DIGEST}, "of another data set, 111111111111…"),
        ({"within": True}, "duplicates inside"),
        ({"verdict": "overlap"}, "found overlap"),
        ({"verdict": "incomplete", "missing": ("coift/all",)}, "verdict is 'incomplete'"),
        ({"evaluation": ()}, "did not search coift/all, dis/validation"),
    ],
)
def test_another_is_none(built: DatasetInfo, changes: dict[str, Any], fault: str) -> None:
    assert fault in "; ".join(faults_of(report(built, **changes), built))


def test_it_lies_where_the_proof_wrote_it(
    built: DatasetInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there is no certificate") as caught:
        read_certificate(None, built, built.digest, required=True)
    assert "hqdata verify-no-overlap" in str(caught.value)
    assert read_certificate(None, built, built.digest, required=False) is None
    report(built).write(tmp_path / "overlap.json")
    found = read_certificate(None, built, built.digest, required=True)
    assert found is not None
    assert (found.covers, found.faults) == ("exactly", ())
    assert found.data == (tmp_path / "overlap.json").read_bytes()


def test_of_the_whole_it_covers_a_part(built: DatasetInfo, tmp_path: Path) -> None:
    report(built).write(tmp_path / "x.json")
    found = read_certificate(tmp_path / "x.json", built, DIGEST, required=True)
    assert found is not None and found.covers == "more"


def test_one_with_faults_goes_along_only_where_none_is_asked_for(
    built: DatasetInfo, tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    report(built, verdict="overlap").write(path)
    with pytest.raises(UserError, match="found overlap") as caught:
        read_certificate(path, built, built.digest, required=True)
    assert f"--remove {path}" in str(caught.value)
    found = read_certificate(path, built, built.digest, required=False)
    assert found is not None and "found overlap" in found.faults[0]


def test_one_of_another_data_set_never_goes_along(
    built: DatasetInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "overlap.json"
    report(built, dataset_digest=DIGEST).write(path)
    for required in (True, False):
        with pytest.raises(UserError, match="of another data set"):
            read_certificate(path, built, built.digest, required=required)
    monkeypatch.chdir(tmp_path)  # one that merely lies there is not meant
    assert read_certificate(None, built, built.digest, required=False) is None


def test_what_is_no_report_is_said_to_be_none(
    built: DatasetInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "overlap.json"
    path.write_text("{}")
    with pytest.raises(UserError, match="version"):
        read_certificate(path, built, built.digest, required=True)
    with pytest.raises(UserError, match="no such report"):
        read_certificate(tmp_path / "no.json", built, built.digest, required=False)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("folder:/home/me/secret", "mine"),
        ("mine", "/data/coco"),
        ("folder:~/secret", "mine"),
        ("mine", "read from '/srv/x/y'"),
    ],
)
def test_one_that_names_paths_of_this_machine_does_not_leave_it(
    built: DatasetInfo, tmp_path: Path, name: str, source: str
) -> None:
    mine = EvaluationSet(set=name, num_images=1, how="pictures", digest=DIGEST, source=source)
    path = tmp_path / "x.json"
    one = report(built)
    one.model_copy(update={"evaluation": (*one.evaluation, mine)}).write(path)
    for required in (True, False):
        with pytest.raises(UserError, match="names 1 paths of this machine"):
            read_certificate(path, built, built.digest, required=required)


def test_paths_below_the_data_root_and_addresses_are_no_such_paths(built: DatasetInfo) -> None:
    fine = EvaluationSet(
        set="folder:./mine/test",
        num_images=1,
        how="pictures",
        digest=DIGEST,
        source="DIS5K/DIS-VD/{im,gt} of https://example.org/x/y",
    )
    assert local_paths(report(built, evaluation=(fine,))) == ()
