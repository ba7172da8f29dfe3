"""Collecting fingerprints: in parallel, cached, resumed, and what could not be read."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import pytest

from hqdata.errors import UserError
from hqdata.overlap import collect as module
from hqdata.overlap.collect import Collected, collect
from hqdata.overlap.evaluation import EvaluationSource, find_evaluation
from hqdata.overlap.fingerprints import read_fingerprints, read_summary, set_digest
from hqdata.overlap.publish import publish_fingerprints
from hqdata.progress import Silent
from support.builds import child_environment, command, hqdata
from support.pictures import encode, photo


def make(folder: Path, number: int, start: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + number):
        (folder / f"{i:03d}.jpg").write_bytes(encode(photo(i, 96, 72)))
    return folder


def source_of(folder: Path) -> EvaluationSource:
    sources, _ = find_evaluation([str(folder)], folder, fingerprint_folders=(), reporter=Silent())
    return sources[0]


def run(folder: Path, cache: Path, workers: int = 1) -> Collected:
    return collect(source_of(folder), cache=cache, workers=workers, reporter=Silent())


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures that were worked on."""
    done: list[str] = []
    real = module.fingerprint_picture

    def counting(name: str, data: bytes) -> object:
        done.append(name)
        return real(name, data)

    monkeypatch.setattr(module, "fingerprint_picture", counting)
    return done


def test_all_pictures_in_the_order_of_their_names(tmp_path: Path) -> None:
    found = run(make(tmp_path / "a", 40), tmp_path / "cache")
    assert [f.name for f in found.fingerprints] == [f"{i:03d}.jpg" for i in range(40)]
    assert (found.how, found.unread) == ("pictures", ())
    assert found.digest == set_digest(found.fingerprints)


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", 70)
    run(folder, tmp_path / "one", workers=1)
    run(folder, tmp_path / "two", workers=2)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("one", "two"))
    assert one == two
    assert len(one) == 3


def test_what_is_cached_is_not_done_again(tmp_path: Path, counted: list[str]) -> None:
    folder = make(tmp_path / "a", 40)
    first = run(folder, tmp_path / "cache")
    assert len(counted) == 40
    assert run(folder, tmp_path / "cache").digest == first.digest
    assert len(counted) == 40


def test_a_picture_that_changed_is_read_again(tmp_path: Path, counted: list[str]) -> None:
    folder = make(tmp_path / "a", 40)
    before = run(folder, tmp_path / "cache")
    (folder / "035.jpg").write_bytes(encode(photo(999, 97, 72)))
    counted.clear()
    after = run(folder, tmp_path / "cache")
    assert counted == [f"{i:03d}.jpg" for i in range(32, 40)]
    assert before.digest != after.digest


@pytest.mark.parametrize("how", ["cut short", "text", "of another chunk"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, counted: list[str], how: str) -> None:
    folder = make(tmp_path / "a", 40)
    first = run(folder, tmp_path / "cache")
    paths = sorted((tmp_path / "cache").iterdir())
    if how == "cut short":
        paths[0].write_bytes(paths[0].read_bytes()[:-50])
    elif how == "text":
        paths[0].write_text("nothing")
    else:
        shutil.copy(paths[1], paths[0])
    counted.clear()
    assert run(folder, tmp_path / "cache").digest == first.digest
    assert len(counted) in (8, 32)


def test_unread_pictures_are_told_and_tried_again(tmp_path: Path, counted: list[str]) -> None:
    folder = make(tmp_path / "a", 10)
    (folder / "004.jpg").write_bytes(b"no picture")
    (folder / "007.jpg").write_bytes(encode(photo(7))[:500])
    found = run(folder, tmp_path / "cache")
    assert [name for name, _ in found.unread] == ["004.jpg", "007.jpg"]
    assert all(reason for _, reason in found.unread)
    assert len(found.fingerprints) == 8
    counted.clear()
    again = run(folder, tmp_path / "cache")
    assert again.unread == found.unread
    assert counted == ["004.jpg", "007.jpg"], "what could be read is not read again"


def test_a_picture_that_vanishes_meanwhile_is_unread(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", 3)
    source = source_of(folder)
    (folder / "001.jpg").unlink()
    found = collect(source, cache=tmp_path / "cache", workers=1, reporter=Silent())
    assert [name for name, _ in found.unread] == ["001.jpg"]


def test_an_empty_set_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    found = run(tmp_path / "a", tmp_path / "cache")
    assert (found.fingerprints, found.unread) == ((), ())


def test_pictures_of_a_tar_gz(tmp_path: Path) -> None:
    folder = make(tmp_path / "val2017", 3)
    root = tmp_path / "data"
    root.mkdir()
    shutil.make_archive(str(root / "val2017"), "gztar", tmp_path, "val2017")
    sources, _ = find_evaluation(["coco"], root, fingerprint_folders=(), reporter=Silent())
    found = collect(sources[0], cache=tmp_path / "cache", workers=1, reporter=Silent())
    assert [f.image_sha256 for f in found.fingerprints] == [
        f.image_sha256 for f in run(folder, tmp_path / "cache").fingerprints
    ]
    assert not [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]


def test_a_cache_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match="cannot write to the cache"):
        run(make(tmp_path / "a", 1), tmp_path / "cache")


def test_real_pictures(real_data: Path, tmp_path: Path) -> None:
    sources, _ = find_evaluation(["coco"], real_data, fingerprint_folders=(), reporter=Silent())
    part = EvaluationSource("coco-val2017", "", sources[0].pictures[:10], None, ())
    found = collect(part, cache=tmp_path, workers=1, reporter=Silent())
    assert (len(found.fingerprints), found.unread) == (10, ())
    assert all(len(f.features) > 20 for f in found.fingerprints)


class TestPublishing:
    def publish(self, target: str, tmp_path: Path, **options: object) -> object:
        return publish_fingerprints(
            target,
            tmp_path / "data",
            tmp_path / "out",
            workers=1,
            reporter=Silent(),
            **options,  # type: ignore[arg-type]
        )

    def test_a_file_stands_in_for_the_pictures(self, tmp_path: Path) -> None:
        make(tmp_path / "data" / "val2017", 5)
        self.publish("coco", tmp_path, subset=True)
        assert [p.name for p in (tmp_path / "out").iterdir()] == ["coco-val2017.parquet"]
        (tmp_path / "empty").mkdir()
        (source,), missing = find_evaluation(
            ["coco-val2017"],
            tmp_path / "empty",
            fingerprint_folders=[tmp_path / "out"],
            reporter=Silent(),
        )
        assert not missing
        assert source.fingerprints == tmp_path / "out" / "coco-val2017.parquet"
        found = collect(source, cache=tmp_path / "cache", workers=1, reporter=Silent())
        pictures = run(tmp_path / "data" / "val2017", tmp_path / "cache")
        assert found.how == "fingerprints"
        assert [f.pixel_sha256 for f in found.fingerprints] == [
            f.pixel_sha256 for f in pictures.fingerprints
        ]

    def test_a_part_of_a_set_never_passes_for_the_whole(self, tmp_path: Path) -> None:
        make(tmp_path / "data" / "val2017", 5)
        refused = self.publish("coco", tmp_path)
        assert refused.path is None  # type: ignore[attr-defined]
        assert not (tmp_path / "out").exists()
        self.publish("coco", tmp_path, subset=True)
        path = tmp_path / "out" / "coco-val2017.parquet"
        assert read_summary(path).problems == ("5 pictures are there, 5,000 belong to it",)
        (source,), _ = find_evaluation(
            [str(path)], tmp_path, fingerprint_folders=(), reporter=Silent()
        )
        assert source.set == "coco-val2017"
        assert source.problems

    def test_a_part_of_videos_that_nobody_counts_says_so_too(self, tmp_path: Path) -> None:
        make(tmp_path / "data" / "seginw" / "Cows" / "valid", 2)
        self.publish("sginw", tmp_path, subset=True)
        (source,), _ = find_evaluation(
            ["sginw"],
            tmp_path / "out",
            fingerprint_folders=[tmp_path / "out"],
            reporter=Silent(),
            subset=True,
        )
        assert "24 of its 25 folders are not there" in source.problems[0]

    def test_a_whole_file_comes_before_a_part_of_the_pictures(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make(tmp_path / "data" / "COIFT" / "images", 3)
        self.publish("coift", tmp_path, subset=True)
        options = {"fingerprint_folders": [tmp_path / "out"], "reporter": Silent()}
        expect = {"coift/all": 3}
        root = tmp_path / "data"
        (source,), _ = find_evaluation(["coift"], root, expect=expect, **options)  # type: ignore[arg-type]
        assert source.fingerprints is None, "the pictures are whole"
        (root / "COIFT" / "images" / "001.jpg").unlink()
        (source,), _ = find_evaluation(["coift"], root, expect=expect, **options)  # type: ignore[arg-type]
        assert source.fingerprints is not None

    def test_a_file_under_the_name_of_another_set_is_refused(self, tmp_path: Path) -> None:
        make(tmp_path / "data" / "val2017", 2)
        self.publish("coco", tmp_path, subset=True)
        (tmp_path / "out" / "coco-val2017.parquet").rename(tmp_path / "out" / "ndd20.parquet")
        with pytest.raises(UserError, match="those of coco-val2017, not of ndd20"):
            find_evaluation(
                ["ndd20"],
                tmp_path / "data",
                fingerprint_folders=[tmp_path / "out"],
                reporter=Silent(),
            )


class TestCommand:
    def test_it_prints_what_it_wrote(self, tmp_path: Path) -> None:
        folder = make(tmp_path / "mine", 3)
        done = hqdata("fingerprint", folder, "--out", tmp_path / "out", "--workers", "1")
        assert done.returncode == 0, done.stderr
        (path,) = (tmp_path / "out").iterdir()
        name, digest, found = read_fingerprints(path)
        assert len(found) == 3
        assert digest in done.stdout
        assert str(path) in done.stdout.replace("\n", "")
        assert name == f"folder:{folder}"

    def test_an_unread_picture_is_named_and_nothing_is_written(self, tmp_path: Path) -> None:
        folder = make(tmp_path / "mine", 3)
        (folder / "x.jpg").write_bytes(b"no picture")
        done = hqdata("fingerprint", folder, "--out", tmp_path / "out", "--subset")
        assert done.returncode == 1
        assert "unread: x.jpg: " in done.stderr
        assert not list((tmp_path / "out").glob("*.parquet"))

    def test_a_missing_set_says_where_to_get_it(self, tmp_path: Path) -> None:
        done = hqdata("fingerprint", "coco", "--data-root", tmp_path, "--out", tmp_path / "out")
        assert done.returncode == 2
        assert "val2017.zip" in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.slow
    def test_killed_and_started_again_it_goes_on(self, tmp_path: Path) -> None:
        folder = tmp_path / "mine"
        folder.mkdir()
        big = encode(photo(0, 800, 600))
        for i in range(128):
            (folder / f"{i:03d}.jpg").write_bytes(big + bytes(i))
        arguments = ("fingerprint", folder, "--out", tmp_path / "out", "--workers", "2")
        process = subprocess.Popen(command(*arguments), env=child_environment())
        cache = tmp_path / "out" / ".hqdata-fingerprints"
        deadline = time.monotonic() + 120
        while len(list(cache.glob("*.parquet"))) < 1 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = {path: path.stat().st_mtime_ns for path in cache.glob("*.parquet")}
        if not kept:
            pytest.skip("it was done before it could be killed")
        done = hqdata(*arguments)
        assert done.returncode == 0, done.stderr
        assert f"{128 - 32 * len(kept)} pictures" in done.stderr
        assert not cache.exists()


def test_a_zip_in_the_data_root_is_as_good_as_a_folder(tmp_path: Path) -> None:
    folder = make(tmp_path / "mine", 3)
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    found = run(tmp_path / "mine.zip", tmp_path / "cache")
    assert [f.name for f in found.fingerprints] == [f"mine.zip/{i:03d}.jpg" for i in range(3)]
