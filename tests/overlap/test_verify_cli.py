"""`hqdata verify-no-overlap` from end to end: planted copies, what is missing, what is damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from hqdata.cli import app
from hqdata.errors import HqdataError
from hqdata.overlap import self_test
from hqdata.overlap.edits import EDITS
from hqdata.overlap.report import OverlapReport, read_report
from hqdata.shards.dataset import Dataset
from support.builds import hqdata
from support.evaluated import pictures_of, plant, read, small_tree

LAYOUTS = ("official", "repack")

TRAIN = {
    "official": {
        "dis": "DIS5K/DIS-TR/im",
        "thinobject": "ThinObject5K/images",
        "fss": "fewshot_data",
        "duts": "DUTS-TR",
        "ecssd": "ECSSD",
        "msra": "MSRA10K_Imgs_GT",
    },
    "repack": {
        "dis": "DIS5K/DIS-TR/im",
        "thinobject": "thin_object_detection/ThinObject5K/images_train",
        "fss": "cascade_psp/fss_all",
        "duts": "cascade_psp/DUTS-TR",
        "ecssd": "cascade_psp/ecssd",
        "msra": "cascade_psp/MSRA_10K",
    },
}
EVALUATION = {
    "official": {
        "dis/validation": "DIS5K/DIS-VD/im",
        "thinobject/test": "ThinObject5K/images",
        "coift/all": "COIFT/images",
        "hrsod/all": "HRSOD/images",
    },
    "repack": {
        "dis/validation": "DIS5K/DIS-VD/im",
        "thinobject/test": "thin_object_detection/ThinObject5K/images_test",
        "coift/all": "thin_object_detection/COIFT/images",
        "hrsod/all": "thin_object_detection/HRSOD/images",
    },
}


def same_bytes(picture: Path, other: Path) -> Path:
    return picture


def re_encoded(picture: Path, other: Path) -> np.ndarray:
    _, data = cv2.imencode(".jpg", read(picture), [cv2.IMWRITE_JPEG_QUALITY, 60])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def mirrored_and_resized(picture: Path, other: Path) -> np.ndarray:
    return np.asarray(cv2.resize(read(picture)[:, ::-1], (224, 224), interpolation=cv2.INTER_AREA))


def cropped(picture: Path, other: Path) -> np.ndarray:
    pixels = read(picture)
    height, width = (round(side * 0.6) for side in pixels.shape[:2])
    return np.asarray(pixels[-height:, :width])


def pasted_over(picture: Path, other: Path) -> np.ndarray:
    pixels: np.ndarray = read(picture).copy()
    height, width = pixels.shape[:2]
    cover = cv2.resize(read(other), (width, height))
    pixels[:, : width // 2] = cover[:, : width // 2]
    return pixels


def bordered(picture: Path, other: Path) -> np.ndarray:
    return np.asarray(
        cv2.copyMakeBorder(read(picture), 24, 24, 30, 30, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    )


PLANTED: dict[str, tuple[Callable[[Path, Path], Path | np.ndarray], str, set[str]]] = {
    "dis": (same_bytes, "thinobject/test", {"identical_bytes"}),
    "thinobject": (re_encoded, "coift/all", {"near"}),
    "fss": (mirrored_and_resized, "hrsod/all", {"near"}),
    "duts": (cropped, "dis/validation", {"crop"}),
    "ecssd": (pasted_over, "dis/validation", {"composite"}),
    "msra": (bordered, "hrsod/all", {"near", "crop"}),
}
"""Source -> what is done to a picture, of which set, and what that is called."""


def candidates(root: Path, folder: str, of: str) -> list[Path]:
    word = "_test" if of == "thinobject/test" else "_train" if of == "thinobject" else ""
    return [path for path in pictures_of(root / folder) if word in path.name]


def run(*arguments: str | Path, expect: int) -> str:
    """The command's output; no exit but the expected one, and never a traceback."""
    done = hqdata(*arguments)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_copy_in_each_source_is_found_and_built_without(
    arranged: dict[str, Path], tmp_path: Path, layout: str
) -> None:
    root = small_tree(arranged[layout], tmp_path / "data", 3, 256)
    expected: dict[str, tuple[str, str, set[str]]] = {}
    for number, (source, (edit, of, kinds)) in enumerate(PLANTED.items()):
        originals = candidates(root, EVALUATION[layout][of], of)
        original = originals[number % len(originals)]
        other = candidates(root, TRAIN[layout]["msra"], "msra")[2]
        target = candidates(root, TRAIN[layout][source], source)[0]
        plant(target, edit(original, other))
        expected[target.name] = of, original.name, kinds

    out, report, page = tmp_path / "out", tmp_path / "overlap.json", tmp_path / "overlap.html"
    build = ("build", "--data-root", root, "--out", out, "--subset")
    verify = ("verify-no-overlap", out, "--data-root", root, "--subset", "--copies", "1")
    run(*build, expect=0)
    columns = Dataset.open(out).samples.select(["key", "upstream_image"]).to_pydict()
    keys = {
        next(k for k, u in zip(*columns.values(), strict=True) if Path(u).name == name): wanted
        for name, wanted in expected.items()
    }
    said = run(*verify, "--report", report, "--html", page, expect=1)
    assert f"--remove {report}" in said
    found = read_report(report)
    assert found.verdict == "overlap"
    assert {pair.train for pair in found.confirmed()} == set(keys)
    for key, (of, name, kinds) in keys.items():
        pairs = [pair for pair in found.confirmed() if pair.train == key]
        # The next frame of the same video is as good as the same picture.
        assert {pair.evaluation.set for pair in pairs} == {of}
        (own,) = (pair for pair in pairs if Path(pair.evaluation.name).name == name)
        assert own.kind in kinds, own
    text = page.read_text(encoding="utf-8")
    assert all(key in text for key in keys)

    if layout == "repack":
        return
    run(*build, "--remove", report, expect=0)
    run(*verify, "--report", tmp_path / "again.json", expect=0)
    again = read_report(tmp_path / "again.json")
    assert again.verdict == "clean"
    assert set(again.removed) == set(keys)
    assert again.num_train == found.num_train - len(keys)
    assert not again.confirmed()

    # Of another recipe the report leaves out what that builds, and says what else it names.
    message = run(
        *("build", "--data-root", root, "--out", tmp_path / "other", "--subset"),
        *("--include", "ecssd", "--remove", report),
        expect=0,
    )
    assert "5 keys are of sources that this recipe does not build" in message


class Case:
    """A data set that nothing was planted in, and what it is held against."""

    def __init__(self, root: Path, out: Path) -> None:
        self.root, self.out = root, out

    def verify(
        self, folder: Path, *arguments: str | Path, root: Path | None = None, expect: int
    ) -> tuple[str, OverlapReport | None]:
        """Runs the command in this process, where `one_edit` spares most of the self-test."""
        report = folder / "overlap.json"
        options = ("--data-root", root or self.root, "--cache", folder / "cache", "--workers", "1")
        words = ("--report", report, "--subset", "--copies", "1", *arguments)
        done = CliRunner().invoke(
            app, [*map(str, ("verify-no-overlap", self.out, *options, *words))]
        )
        said, status = done.output, done.exit_code
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            assert isinstance(done.exception, HqdataError), done.exception
            said, status = said + str(done.exception), done.exception.exit_status
        assert status == expect, said
        return said, read_report(report) if report.is_file() else None

    def copy(self, folder: Path) -> Path:
        return Path(shutil.copytree(self.root, folder / "data"))


@pytest.fixture
def one_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "EDITS", EDITS[:1])


@pytest.fixture(scope="module")
def case(arranged: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("case")
    root = small_tree(arranged["official"], folder / "data", 2, 160)
    out = folder / "out"
    run("build", "--data-root", root, "--out", out, "--subset", expect=0)
    return Case(root, out)


@pytest.mark.usefixtures("one_edit")
def test_pictures_as_they_are_repeat_nothing(case: Case, tmp_path: Path) -> None:
    said, report = case.verify(tmp_path, expect=0)
    assert report is not None
    assert report.dataset_digest == Dataset.open(case.out).info.digest
    assert report.dataset_digest in said
    assert report.verdict == "clean"
    assert not report.confirmed()
    assert {s.set: s.num_images for s in report.evaluation} == dict.fromkeys(
        EVALUATION["official"], 2
    )
    assert not list((tmp_path / "cache").glob("run-*"))


@pytest.mark.usefixtures("one_edit")
def test_a_missing_set_is_named_and_nothing_is_written(case: Case, tmp_path: Path) -> None:
    root = case.copy(tmp_path)
    shutil.rmtree(root / "COIFT")
    said, report = case.verify(tmp_path, root=root, expect=3)
    assert "coift" in said
    assert report is None
    said, report = case.verify(tmp_path, "--allow-missing", root=root, expect=0)
    assert report is not None
    assert report.missing == ("coift/all",)
    assert "coift" in said


@pytest.mark.usefixtures("one_edit")
def test_a_damaged_evaluation_picture_is_named(case: Case, tmp_path: Path) -> None:
    root = case.copy(tmp_path)
    broken = pictures_of(root / "COIFT")[0]
    broken.write_bytes(broken.read_bytes()[:200])
    said, report = case.verify(tmp_path, root=root, expect=3)
    assert report is not None
    assert report.verdict == "incomplete"
    assert [Path(one.name).name for one in report.unread] == [broken.name]
    assert broken.name in said


@pytest.mark.usefixtures("one_edit")
def test_an_empty_folder_proves_nothing(case: Case, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said, report = case.verify(tmp_path, "--evaluation", tmp_path / "empty", expect=3)
    assert "CLEAN" not in said
    assert report is None or report.verdict == "incomplete"


@pytest.mark.usefixtures("one_edit")
def test_fingerprints_stand_in_for_pictures(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training picture is put into an evaluation set, and then only its fingerprints are left."""
    root = case.copy(tmp_path)
    twin = pictures_of(root / "MSRA10K_Imgs_GT")[0]
    target = pictures_of(root / "COIFT")[0]
    plant(target, read(twin), quality=80)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "manifests" / "evaluation"
    run("fingerprint", "coift", "--data-root", root, "--out", folder, "--subset", expect=1)
    assert list(folder.glob("*.parquet"))
    shutil.rmtree(root / "COIFT")
    _, report = case.verify(tmp_path, root=root, expect=1)
    assert report is not None
    (pair,) = report.confirmed()
    assert Path(pair.evaluation.name).name == target.name
    how = {s.set: s.how for s in report.evaluation}
    assert how[pair.evaluation.set] == "fingerprints"


def test_no_data_set(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        said = run("verify-no-overlap", folder, expect=2)
        assert said.count("error") == 1


@pytest.mark.usefixtures("one_edit")
def test_a_shard_that_changed_is_refused(case: Case, tmp_path: Path) -> None:
    out = Path(shutil.copytree(case.out, tmp_path / "out"))
    shard = next(out.glob("*/*.tar"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    said, report = Case(case.root, out).verify(tmp_path, expect=2)
    assert shard.name in said
    assert report is None


@pytest.mark.usefixtures("one_edit")
def test_a_report_that_cannot_be_written_is_a_message(case: Case, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    said, _ = case.verify(tmp_path, "--report", tmp_path / "file" / "overlap.json", expect=2)
    assert "cannot write the report" in said
