"""The proof as a library: it goes on where it was, and its parts do what they say."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hqdata.errors import UserError
from hqdata.fingerprint import ORIENTATIONS, dihedral_hashes
from hqdata.overlap import self_test, tasks, training
from hqdata.overlap.agreement import Gray, compare
from hqdata.overlap.edits import EDITS
from hqdata.overlap.hashes import HashIndex, implied_transform
from hqdata.overlap.judge import Judgement
from hqdata.overlap.report import OverlapReport
from hqdata.overlap.search import Finding
from hqdata.overlap.self_test import Suspect, doubtful, false_pairs, plan, recall, suspects
from hqdata.overlap.tasks import Planted
from hqdata.overlap.training import by_shard, features_path, load_features
from hqdata.overlap.verify import NotProvableError, VerifyOptions, verify
from hqdata.progress import Silent
from hqdata.shards.dataset import Dataset
from support.builds import build_own, child_environment, command, heed_ctrl_c
from support.pictures import write_pair
from support.real import gray, photographs


@pytest.fixture
def one_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of a small proof is its self-test: one edit will do here."""
    monkeypatch.setattr(self_test, "EDITS", EDITS[:1])


class Case:
    """A data set of own pictures, two of which an evaluation folder holds too."""

    def __init__(self, folder: Path) -> None:
        self.root, self.out, self.evaluation = folder / "data", folder / "out", folder / "held"
        for name, numbers in {"flowers": (1, 2, 3, 4), "tools": (11, 12, 3)}.items():
            for n in numbers:
                write_pair(self.root / name / "images", self.root / name / "masks", f"p{n}", n)
        for n in (2, 12, 50, 51):
            write_pair(self.evaluation, folder / "masks", f"e{n}", n)
        build_own(self.root, self.out, ("flowers", "tools"), samples_per_shard=3)

    def options(self, cache: Path, *, workers: int = 1, within: bool = False) -> VerifyOptions:
        sets = () if within else (str(self.evaluation),)
        return VerifyOptions(workers, evaluation=sets, within=within, copies=1, cache=cache)

    def verify(self, cache: Path, *, workers: int = 1, within: bool = False) -> OverlapReport:
        return verify(
            self.out,
            self.root,
            self.options(cache, workers=workers, within=within),
            reporter=Silent(),
            finish=lambda report, dataset, items: None,
        )


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("case"))


@pytest.mark.usefixtures("one_edit")
class TestResume:
    def test_the_planted_pairs_are_found(self, case: Case, tmp_path: Path) -> None:
        found = case.verify(tmp_path)
        assert [(p.train, p.evaluation.name, p.kind) for p in found.confirmed()] == [
            ("flowers-p2", "e2.jpg", "identical_bytes"),
            ("tools-p12", "e12.jpg", "identical_bytes"),
        ]

    def test_a_second_run_computes_nothing_anew(
        self, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = case.verify(tmp_path)

        def never(*_: object, **__: object) -> None:
            raise AssertionError("computed anew")

        before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
        monkeypatch.setattr(training, "extract_train", never)
        monkeypatch.setattr(training, "ShardReader", never)
        monkeypatch.setattr(tasks, "_train_view", never)
        assert case.verify(tmp_path).to_bytes() == first.to_bytes()
        assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before

    def test_workers_change_nothing(self, case: Case, tmp_path: Path) -> None:
        one = case.verify(tmp_path / "one")
        two = case.verify(tmp_path / "two", workers=2)
        assert one.to_bytes() == two.to_bytes()

    @pytest.mark.parametrize("kind", ["features", "found", "evaluation"])
    @pytest.mark.parametrize("how", ["empty", "short", "garbage"])
    def test_a_damaged_file_of_the_cache_is_made_again(
        self, case: Case, tmp_path: Path, kind: str, how: str
    ) -> None:
        first = case.verify(tmp_path)
        files = [p for p in (tmp_path / kind).iterdir() if p.is_file()]
        assert files
        whole = {p: p.read_bytes() for p in files}
        for path, data in whole.items():
            damaged = {"empty": b"", "short": data[: len(data) // 2], "garbage": b"\x93x" * 99}
            path.write_bytes(damaged[how])
        assert case.verify(tmp_path).to_bytes() == first.to_bytes()

    def test_what_a_killed_run_left_goes(self, case: Case, tmp_path: Path) -> None:
        runs = tmp_path / "runs"
        (runs / "0123" / "index-0").mkdir(parents=True)
        (runs / "0123.lock").touch()
        case.verify(tmp_path)
        assert not list(runs.iterdir())

    def test_a_run_at_work_is_left_alone(self, case: Case, tmp_path: Path) -> None:
        other = tmp_path / "runs" / "0123"
        other.mkdir(parents=True)
        with open(other.with_suffix(".lock"), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            case.verify(tmp_path)
            assert other.is_dir()

    def test_folders_of_others_in_the_cache_are_left_alone(
        self, case: Case, tmp_path: Path
    ) -> None:
        theirs = tmp_path / "run-2024" / "model.pt"
        theirs.parent.mkdir()
        theirs.touch()
        case.verify(tmp_path)
        assert theirs.exists()

    def test_within_finds_each_pair_once(self, case: Case, tmp_path: Path) -> None:
        found = case.verify(tmp_path, within=True)
        assert [(p.train, p.evaluation.set, p.evaluation.name) for p in found.confirmed()] == [
            ("tools-p3", "within", "flowers-p3")
        ]
        assert all(p.train != p.evaluation.name for p in found.pairs)
        assert found.within
        assert found.verdict == "overlap"

    def test_sets_that_are_not_there_are_no_proof(self, case: Case, tmp_path: Path) -> None:
        options = VerifyOptions(1, evaluation=("coift",), copies=1, cache=tmp_path)
        with pytest.raises(NotProvableError, match="coift") as caught:
            verify(
                case.out,
                case.root,
                options,
                reporter=Silent(),
                finish=lambda report, dataset, items: None,
            )
        assert caught.value.exit_status == 3

    def test_no_set_at_all_is_a_mistake(self, case: Case, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="names no set"):
            verify(
                case.out,
                case.root,
                VerifyOptions(1, cache=tmp_path),
                reporter=Silent(),
                finish=lambda report, dataset, items: None,
            )


def words_of(case: Case, folder: Path) -> list[str]:
    return command(
        *("verify-no-overlap", case.out, "--data-root", case.root, "--cache", folder / "cache"),
        *("--evaluation", case.evaluation, "--copies", "1", "--report", folder / "overlap.json"),
    )


def start(case: Case, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words_of(case, folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment(),
        preexec_fn=heed_ctrl_c,
    )


def await_scratch(process: subprocess.Popen[str], folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not list((folder / "cache" / "runs").glob("*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestStopped:
    def test_killed_again_and_again_it_comes_to_the_same(self, case: Case, tmp_path: Path) -> None:
        for delay in (0.05, 0.6, 1.5):
            process = start(case, tmp_path)
            await_scratch(process, tmp_path)
            time.sleep(delay)
            process.kill()
            process.communicate()
        last = start(case, tmp_path)
        _, said = last.communicate(timeout=120)
        assert last.returncode == 1, said
        reference = case.verify(tmp_path / "reference").to_bytes()
        assert (tmp_path / "overlap.json").read_bytes() == reference
        assert not list((tmp_path / "cache" / "runs").iterdir())

    def test_ctrl_c_says_how_to_go_on(self, case: Case, tmp_path: Path) -> None:
        process = start(case, tmp_path)
        await_scratch(process, tmp_path)
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert "Traceback" not in said
        assert "again" in said
        assert not list((tmp_path / "cache" / "runs").iterdir())
        assert not (tmp_path / "overlap.json").exists()


class TestPlan:
    def test_every_edit_gets_its_copies(self) -> None:
        planted = plan(range(100), 7)
        assert Counter(p.edit for p in planted) == dict.fromkeys(range(len(EDITS)), 7)
        for edit in range(len(EDITS)):
            known = [p.known for p in planted if p.edit == edit]
            assert len(set(known)) == 7

    def test_all_are_drawn_before_one_is_drawn_twice(self) -> None:
        numbers = [3, 5, 8, 13, 21]
        planted = plan(numbers, 3)
        for begin in range(0, len(planted) - 5, 5):
            assert sorted(p.known for p in planted[begin : begin + 5]) == numbers

    def test_the_donor_is_another_picture(self) -> None:
        assert all(p.donor != p.known for p in plan(range(9), 4))
        assert {(p.known, p.donor) for p in plan([4], 3)} == {(4, 4)}

    @pytest.mark.parametrize("there", [1, 2, 5])
    def test_where_there_are_fewer_all_are_taken(self, there: int) -> None:
        assert len(plan(range(there), 24)) == there * len(EDITS)

    def test_the_draw_is_the_same_each_time(self) -> None:
        assert plan(range(50), 3) == plan(range(50), 3)
        assert plan(range(50), 3) != plan(range(50), 3, seed=1)


def finding(known: int, *, confirmed: bool = True) -> Finding:
    judgement = Judgement("near", confirmed, "by hand", None, None, None, None, None)
    return Finding(0, known, judgement, None)


class TestResults:
    def test_recall_counts_proven_pairs_with_the_original(self) -> None:
        results = [
            (Planted(0, 1, 2), [finding(1), finding(9)]),
            (Planted(0, 2, 3), [finding(2, confirmed=False)]),
            (Planted(0, 3, 4), [finding(4)]),  # the donor is not the original
            (Planted(1, 3, 4), []),
        ]
        table = recall(results)
        assert list(table) == [edit.name for edit in EDITS]
        rows = list(table.values())
        assert (rows[0].planted, rows[0].found) == (3, 1)
        assert (rows[1].planted, rows[1].found) == (1, 0)
        assert all(row.planted == row.found == 0 for row in rows[2:])
        assert [row.asked for row in rows] == [edit.recall for edit in EDITS]

    def test_suspects_are_proven_pairs_with_a_third_picture(self) -> None:
        planted = Planted(0, 1, 2)
        found = [finding(1), finding(2), finding(3), finding(4, confirmed=False)]
        assert suspects([(planted, found)]) == [Suspect(planted, 3)]

    def test_doubtful_are_all_that_take_part(self) -> None:
        found = [Suspect(Planted(0, 5, 2), 3), Suspect(Planted(1, 5, 3), 9)]
        assert doubtful(found) == [2, 3, 5, 9]

    @pytest.mark.parametrize(
        ("relatives", "is_false"),
        [
            ({1: {1}, 2: {2}, 3: {3}}, True),
            ({1: {1, 3}, 2: {2}, 3: {3}}, False),  # the original's relative
            ({1: {1}, 2: {2, 3}, 3: {3}}, False),  # the donor's
            ({1: {1}, 2: {2}, 3: {3, 1}}, False),  # seen from the other side
            ({1: {1, 7}, 2: {2}, 3: {3, 7}}, False),  # by a third one
            ({1: {1, 7}, 2: {2, 7}, 3: {3, 8}}, True),
        ],
    )
    def test_relatives_are_no_false_pairs(
        self, relatives: dict[int, set[int]], is_false: bool
    ) -> None:
        suspect = Suspect(Planted(0, 1, 2), 3)
        assert false_pairs([suspect], relatives) == ([suspect] if is_false else [])


def turned(picture: Gray, orientation: int) -> Gray:
    """A picture as `ORIENTATIONS` names it, by numpy's own means."""
    name = ORIENTATIONS[orientation]
    if name == "mirrored top to bottom":
        return np.ascontiguousarray(picture[::-1])
    result = picture[:, ::-1] if name.startswith("mirrored") else picture
    quarters = {"quarter turn left": 1, "half turn": 2, "quarter turn right": 3}
    last = name.removeprefix("mirrored, then ")
    return np.ascontiguousarray(np.rot90(result, quarters.get(last, 0)))


def box(picture: Gray) -> tuple[int, int, int, int]:
    return 0, 0, picture.shape[1], picture.shape[0]


@pytest.mark.parametrize("orientation", range(8), ids=[o.replace(" ", "-") for o in ORIENTATIONS])
class TestOrientations:
    def test_the_implied_transform_lays_one_over_the_other(
        self, real_data: Path, orientation: int
    ) -> None:
        for picture in map(gray, photographs(real_data / "photos", 2)):
            copy = turned(picture, orientation)
            matrix = implied_transform(orientation, box(picture), box(copy))
            found = compare(copy, picture, matrix)
            assert found is not None
            assert found.score == 1
            assert found.whole == pytest.approx(1, abs=1e-4)
            assert found.train_fraction == found.evaluation_fraction == pytest.approx(1)

    def test_the_index_finds_it(self, real_data: Path, orientation: int) -> None:
        pictures = photographs(real_data / "photos", 8)
        rows = [dihedral_hashes(picture) for picture in pictures]
        index = HashIndex(rows, rows)
        for number in (0, 3, 7):
            copy = np.ascontiguousarray(
                np.stack([turned(pictures[number][..., c], orientation) for c in range(3)], axis=-1)
            )
            own = dihedral_hashes(copy)[:1]
            found = index.search(np.stack([own[0], own[0]])[None])
            assert (found[0].evaluation, found[0].orientation) == (number, orientation)
            assert found[0].distance <= 20
            assert not found[0].query_trimmed


class TestFeatures:
    def test_damaged_files_are_none(self, case: Case, tmp_path: Path) -> None:
        case_cache = tmp_path / "cache"
        shards = by_shard(Dataset.open(case.out))
        for shard in shards:
            training.extract_shard(
                shard,
                root=case.out,
                image_ext=Dataset.open(case.out).info.image_ext,
                cache=case_cache,
                tick=lambda n: None,
                should_stop=lambda: False,
            )
        pictures = shards[0]
        path = features_path(pictures.shard, case_cache)
        whole = path.read_bytes()
        assert load_features(pictures, case_cache) is not None
        with np.load(path) as file:
            counts, packed = file["counts"], file["packed"]

        def saved(**arrays: Any) -> bytes:
            np.savez(tmp_path / "x.npz", **arrays)
            return (tmp_path / "x.npz").read_bytes()

        wrong = counts.copy()
        wrong[0] += 1
        for damaged in (
            b"",
            whole[:100],
            whole[:-30],
            b"PK" + bytes(500),
            saved(counts=counts),
            saved(counts=counts[:-1], packed=packed),
            saved(counts=wrong, packed=packed),
            saved(counts=counts, packed=packed[:-1]),
            saved(counts=counts, packed=packed[:, :-1]),
        ):
            path.write_bytes(damaged)
            assert load_features(pictures, case_cache) is None
        path.unlink()
        assert load_features(pictures, case_cache) is None
        shutil.rmtree(case_cache)
        assert load_features(pictures, case_cache) is None
