"""A sample of SA-1B: the same bytes however the archives are packed and the work is cut."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hqdata.build.engines import LocalEngine
from hqdata.build.run import BuildOptions, BuildResult, build, build_part, check_part
from hqdata.errors import (
    CancelledError,
    HqdataError,
    InterruptedBuildError,
    MissingSourceError,
    UserError,
)
from hqdata.places import Place
from hqdata.problems import ProblemKind
from hqdata.recipe import Recipe, RecipeSource, SampleSettings
from hqdata.resolve import ResolvedRecipe, resolve
from hqdata.sampling import image_hash
from hqdata.shards.check import check
from hqdata.shards.dataset import Dataset
from support.builds import bytes_of, child_environment, command, hqdata
from support.sa1b import dump, make_bundle, make_files, make_notes, make_picture, tar_of

SEED = 7
IMAGES = 60
PER_ARCHIVE = 40
SMALL = {"num_masks": 12, "width": 96, "height": 64}

RECIPE = f"""
name: sa1b-small
sources:
  - {{source: sa1b, sample: {{images: {IMAGES}}}}}
samples_per_shard: 8
seed: {SEED}
"""


def recipe(images: int = IMAGES, *, subset: bool = True, **sample: object) -> ResolvedRecipe:
    settings = SampleSettings.model_validate({"images": images, **sample})
    source = RecipeSource(source="sa1b", sample=settings)
    whole = Recipe(name="sa1b-small", sources=(source,), samples_per_shard=8, seed=SEED)
    return resolve(whole, subset=subset)


def ordered(ids: range) -> list[int]:
    return sorted(ids, key=lambda i: (image_hash(SEED, i), i))


CHOSEN = ordered(range(1, 4 * PER_ARCHIVE + 1))[:IMAGES]
DAMAGED = {CHOSEN[4]: "truncated", CHOSEN[30]: "truncated", CHOSEN[11]: "bad_rle"}


def make_archives(root: Path, *, kinds: str = "tttt", damage: dict[int, str] | None = None) -> Path:
    """Four archives; `kinds` says of each whether it is a tar, gzip inside a tar, or a folder."""
    for number, letter in enumerate(kinds):
        ids = range(number * PER_ARCHIVE + 1, (number + 1) * PER_ARCHIVE + 1)
        name = f"sa_{number:06d}" + ("" if letter == "f" else ".tar")
        make_bundle(
            root / name,
            ids,
            kind={"t": "tar", "g": "gz", "f": "folder"}[letter],  # type: ignore[arg-type]
            damage={i: how for i, how in (damage or {}).items() if i in ids},
            order="shuffled" if number % 2 else "adjacent",
            **SMALL,  # type: ignore[arg-type]
        )
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_archives(tmp_path_factory.mktemp("sa1b"), damage=DAMAGED)


@pytest.fixture(scope="module")
def built(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BuildResult]:
    out = tmp_path_factory.mktemp("built") / "out"
    return out, build(recipe(), data, out)


@pytest.fixture(scope="module")
def reference(built: tuple[Path, BuildResult]) -> dict[str, str]:
    return bytes_of(built[0])


class TestTheSample:
    def test_it_is_the_smallest_by_hash_that_can_be_used(
        self, built: tuple[Path, BuildResult]
    ) -> None:
        dataset = Dataset.open(built[0])
        found = {int(key.removeprefix("sa1b-sa_")) for key in dataset.samples["key"].to_pylist()}
        everything = ordered(range(1, 4 * PER_ARCHIVE + 1))
        assert found == set([i for i in everything if i not in DAMAGED][:IMAGES])

    def test_what_is_damaged_is_named_and_another_takes_its_place(
        self, built: tuple[Path, BuildResult]
    ) -> None:
        _, result = built
        told = {(p.kind, p.image.rpartition("/")[2]): p.message for p in result.problems}
        assert set(told) == {
            (
                ProblemKind.TRUNCATED_IMAGE if how == "truncated" else ProblemKind.UNREADABLE_MASK,
                f"sa_{i}.jpg",
            )
            for i, how in DAMAGED.items()
        }
        assert all(m.endswith("the next picture took its place") for m in told.values())
        assert result.info.num_samples == IMAGES

    def test_everything_reads_back(self, built: tuple[Path, BuildResult]) -> None:
        assert not check(built[0], workers=1).damages

    def test_a_record_says_where_picture_and_mask_are_from(
        self, built: tuple[Path, BuildResult]
    ) -> None:
        dataset = Dataset.open(built[0])
        row = dataset.row(0)
        record = json.loads(dataset.read_member(row, "record"))
        image_id = int(row["key"].removeprefix("sa1b-sa_"))
        archive = f"sa_{(image_id - 1) // PER_ARCHIVE:06d}"
        assert record["upstream_image"] == f"{archive}/sa_{image_id}.jpg"
        path, _, annotation = record["upstream_mask"].partition("#")
        assert path == f"{archive}/sa_{image_id}.json"
        notes = make_notes(image_id, num_masks=12)
        (chosen,) = [a for a in notes["annotations"] if str(a["id"]) == annotation]
        mask = cv2.imdecode(
            np.frombuffer(dataset.read_member(row, "mask"), np.uint8), cv2.IMREAD_UNCHANGED
        )
        assert mask is not None
        assert int(np.count_nonzero(mask == 255)) == chosen["area"]
        assert set(np.unique(mask)) == {0, 255}
        assert record["image_changes"] == "untouched"
        assert record["mask_changes"] == "coco-rle, png"
        assert record["licence"] == "sa1b-research-license"

    def test_the_manifest_says_what_was_drawn(self, built: tuple[Path, BuildResult]) -> None:
        sampled = built[1].info.sampled
        assert sampled is not None
        info = sampled["sa1b/train"]
        assert (info.images, info.seed, info.masks) == (IMAGES, SEED, 1)
        assert (info.archives, info.archives_expected, info.cluster) == (4, 1000, True)
        assert info.images_seen == 4 * PER_ARCHIVE
        everything = ordered(range(1, 4 * PER_ARCHIVE + 1))
        last = [i for i in everything if i not in DAMAGED][IMAGES - 1]
        assert info.last_hash == f"{image_hash(SEED, last):016x}"

    def test_a_larger_one_holds_the_smaller(self, data: Path, tmp_path: Path) -> None:
        keys = []
        for images in (20, 50):
            build(recipe(images), data, tmp_path / str(images))
            table = Dataset.open(tmp_path / str(images)).samples
            columns = (table[name].to_pylist() for name in ("key", "mask_sha256"))
            keys.append(dict(zip(*columns, strict=True)))
        assert keys[0].items() <= keys[1].items()

    def test_several_masks_of_a_picture(self, data: Path, tmp_path: Path) -> None:
        result = build(recipe(10, masks=3), data, tmp_path / "three")
        assert result.info.num_samples == 30
        whole = build(recipe(10, masks="all"), data, tmp_path / "all")
        assert whole.info.num_samples == 120
        three = Dataset.open(tmp_path / "three").samples["key"].to_pylist()
        assert set(three) < set(Dataset.open(tmp_path / "all").samples["key"].to_pylist())

    def test_masks_below_a_filter_are_not_taken(self, data: Path, tmp_path: Path) -> None:
        result = build(recipe(20, min_predicted_iou=0.97), data, tmp_path / "out")
        assert result.info.num_samples == 20
        for path in Dataset.open(tmp_path / "out").samples["upstream_mask"].to_pylist():
            name, _, annotation = path.partition("#")
            image_id = int(name.rpartition("sa_")[2].removesuffix(".json"))
            notes = make_notes(image_id, num_masks=12)
            (row,) = [a for a in notes["annotations"] if str(a["id"]) == annotation]
            assert row["predicted_iou"] >= 0.97


class TestTheSameBytes:
    def test_from_two_processes(
        self, data: Path, reference: dict[str, str], tmp_path: Path
    ) -> None:
        build(recipe(), data, tmp_path / "out", BuildOptions(workers=2))
        assert bytes_of(tmp_path / "out") == reference

    @pytest.mark.parametrize("kinds", ["gggg", "ffff", "tgft"])
    def test_however_the_archives_are_packed(
        self, reference: dict[str, str], tmp_path: Path, kinds: str
    ) -> None:
        data = make_archives(tmp_path / "data", kinds=kinds, damage=DAMAGED)
        build(recipe(), data, tmp_path / "out")
        assert bytes_of(tmp_path / "out") == reference

    def test_by_way_of_an_index(
        self, data: Path, reference: dict[str, str], tmp_path: Path
    ) -> None:
        index = str(tmp_path / "index")
        for name in ("first", "second"):
            build(recipe(), data, tmp_path / name, BuildOptions(index=index))
            assert bytes_of(tmp_path / name) == reference
        assert len(list(Path(index).rglob("*.parquet"))) == 4

    def test_where_archives_had_to_list_again(
        self,
        data: Path,
        reference: dict[str, str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("hqdata.build.sampled.num_to_keep", lambda share: 1)
        build(recipe(), data, tmp_path / "out")
        assert bytes_of(tmp_path / "out") == reference

    @pytest.mark.parametrize("count", [1, 4])
    def test_in_the_parts_of_an_array(
        self, data: Path, reference: dict[str, str], tmp_path: Path, count: int
    ) -> None:
        out = tmp_path / "out"
        for stage in ("choose", "write"):
            for number in range(count, 0, -1):
                done = build_part(recipe(), data, out, part=(number, count), stage=stage)  # type: ignore[arg-type]
                assert not done.waiting
        assert not (out / "dataset.json").exists()
        result = build(recipe(), data, out, only_finish=True)
        assert bytes_of(out) == reference
        assert result.info.num_samples == IMAGES

    def test_in_an_array_that_is_run_twice(
        self, data: Path, reference: dict[str, str], tmp_path: Path
    ) -> None:
        """Without stages: what cannot be planned yet waits for the second time."""
        out = tmp_path / "out"
        waiting = [build_part(recipe(), data, out, part=(n, 2)).waiting for n in (1, 2)]
        assert waiting == [2, 0]
        assert [build_part(recipe(), data, out, part=(n, 2)).waiting for n in (1, 2)] == [0, 0]
        build(recipe(), data, out, only_finish=True)
        assert bytes_of(out) == reference

    def test_when_it_is_built_again_nothing_is_written(
        self, data: Path, built: tuple[Path, BuildResult], reference: dict[str, str]
    ) -> None:
        again = build(recipe(), data, built[0])
        assert (again.num_written, again.num_kept) == (0, len(again.info.shards))
        assert bytes_of(built[0]) == reference

    def test_after_a_shard_of_gzip_archives_was_lost(
        self, reference: dict[str, str], tmp_path: Path
    ) -> None:
        """Their pictures were kept only as long as the build took."""
        data = make_archives(tmp_path / "data", kinds="gggg", damage=DAMAGED)
        out = tmp_path / "out"
        build(recipe(), data, out)
        assert not list((out / ".hqdata" / "sampled").rglob("*.tar"))
        shard = next(out.glob("sa1b/*.tar"))
        shard.unlink()
        result = build(recipe(), data, out)
        assert result.num_written == 1
        assert bytes_of(out) == reference

    @pytest.mark.parametrize("times", [1, 2])
    def test_after_shards_of_gzip_archives_were_lost_that_had_to_list_more(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
    ) -> None:
        """The longer list has to be made again, not the one that the shares ask for."""
        monkeypatch.setattr("hqdata.build.sampled.num_to_keep", lambda share: 2)
        data = make_archives(tmp_path / "data", kinds="gggg", damage=DAMAGED)
        out = tmp_path / "out"
        build(recipe(), data, out)
        before = bytes_of(out)
        for _ in range(times):
            for shard in out.glob("sa1b/*.tar"):
                shard.unlink()
            build(recipe(), data, out)
            assert bytes_of(out) == before

    def test_in_a_folder_whose_lists_of_gzip_archives_had_everything(self, tmp_path: Path) -> None:
        """The larger sample goes by the same lists; what was kept for the smaller has gone."""
        data = make_archives(tmp_path / "data", kinds="gg")
        out = tmp_path / "out"
        build(recipe(55), data, out)
        build(recipe(75), data, out, BuildOptions(prune=True))
        build(recipe(75), data, tmp_path / "fresh")
        assert bytes_of(out) == bytes_of(tmp_path / "fresh")

    @pytest.mark.parametrize(
        "first",
        [
            {"images": 90},
            {"images": 20},
            {"seed": 1},
            {"min_predicted_iou": 0.97},
            {"masks": 2},
        ],
        ids=str,
    )
    def test_in_a_folder_that_had_another_sample(
        self,
        data: Path,
        reference: dict[str, str],
        tmp_path: Path,
        first: dict[str, object],
    ) -> None:
        """Nothing of the old one stays, what it knew of damage included."""
        out = tmp_path / "out"
        build(recipe(**{"images": IMAGES, **first}), data, out)  # type: ignore[arg-type]
        build(recipe(), data, out, BuildOptions(prune=True))
        assert bytes_of(out) == reference

    def test_in_a_folder_where_other_limits_held(
        self, data: Path, reference: dict[str, str], tmp_path: Path
    ) -> None:
        """A picture that was too large is not too large for ever."""
        out = tmp_path / "out"
        strict = recipe()
        strict = replace(strict, recipe=strict.recipe.model_copy(update={"max_pixels": 100}))
        assert build(strict, data, out).info.num_samples == 0
        build(recipe(), data, out, BuildOptions(prune=True))
        assert bytes_of(out) == reference

    def test_from_folders_that_were_moved_meanwhile(
        self, data: Path, reference: dict[str, str], tmp_path: Path
    ) -> None:
        """On the next machine both may be mounted elsewhere."""
        first = tmp_path / "first"
        moved = make_archives(tmp_path / "moved", kinds="tgft", damage=DAMAGED)
        for number in (1, 2):
            build_part(recipe(), moved, first, part=(number, 2), stage="choose")
        first.rename(tmp_path / "second")
        moved.rename(tmp_path / "elsewhere")
        build(recipe(), tmp_path / "elsewhere", tmp_path / "second")
        assert bytes_of(tmp_path / "second") == reference


class TestInterruptions:
    @pytest.mark.slow
    def test_killed_anywhere_and_run_again(
        self, data: Path, reference: dict[str, str], tmp_path: Path
    ) -> None:
        """`kill -9` while archives are listed, while shards are written, and near the end."""
        out, path = tmp_path / "out", tmp_path / "recipe.yaml"
        path.write_text(RECIPE, encoding="utf-8")
        words = ["build", "--recipe", path, "--data-root", data, "--out", out, "--subset"]
        for pattern, count in ((".hqdata/sampled/*/*", 1), ("sa1b/*.tar", 1), ("sa1b/*.tar", 6)):
            run = subprocess.Popen(
                command(*words, "--workers", "2"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=child_environment(),
                start_new_session=True,
            )
            while len(list(out.glob(pattern))) < count and run.poll() is None:
                time.sleep(0.005)
            assert run.poll() is None, "it was done before anybody could kill it"
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            assert not (out / "dataset.json").exists()
        done = hqdata(*words)
        assert done.returncode == 1, done.stderr  # it has problems: three pictures are damaged
        assert bytes_of(out) == reference

    def test_damage_that_a_disk_may_get_over_is_not_believed_for_good(
        self, data: Path, reference: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A picture that could not be read gives its place away, and gets it back."""
        import hqdata.storage as module

        real = module.FileReader._read_range

        def failing(self: object, ref: module.FileRef) -> bytes:
            if ref.size == size:
                raise OSError(5, "Input/output error")
            return real(self, ref)  # type: ignore[arg-type]

        out = tmp_path / "out"
        size = _size_of_a_chosen_picture(data)
        monkeypatch.setattr(module.FileReader, "_read_range", failing)
        lacking = build(recipe(), data, out)
        assert any("Input/output error" in p.message for p in lacking.problems)
        assert bytes_of(out) != reference
        monkeypatch.undo()
        build(recipe(), data, out)
        assert bytes_of(out) == reference

    def test_an_archive_that_cannot_be_read_here_is_not_passed_over(
        self, data: Path, reference: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The sample would be another, and on another node it would not."""
        import hqdata.bundles.scan as module

        real = os.open

        def failing(path: object, *rest: int) -> int:
            if str(path).endswith("sa_000001.tar"):
                raise OSError(116, "Stale file handle")
            return real(path, *rest)  # type: ignore[call-overload, no-any-return]

        out = tmp_path / "out"
        monkeypatch.setattr(module.os, "open", failing)
        with pytest.raises(InterruptedBuildError, match="cannot be read by") as error:
            build_part(recipe(), data, out, part=(1, 1), stage="choose")
        assert "sa_000001.tar" in str(error.value)
        assert "Stale file handle" in str(error.value)
        with pytest.raises(InterruptedBuildError, match="archives have not listed"):
            build(recipe(), data, out, only_finish=True)
        monkeypatch.undo()
        build(recipe(), data, out)
        assert bytes_of(out) == reference

    def test_ctrl_c_says_how_to_go_on(
        self, data: Path, reference: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import hqdata.build.sampled as module

        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(module, "scan_bundle", interrupted)
        with pytest.raises(CancelledError, match="run the same command again"):
            build(recipe(), data, tmp_path / "out")
        monkeypatch.undo()
        build(recipe(), data, tmp_path / "out")
        assert bytes_of(tmp_path / "out") == reference


def _size_of_a_chosen_picture(data: Path) -> int:
    """Bytes of a picture of the sample; no other file of the archives has as many."""
    sizes = {i: len(make_picture(i)) for i in range(1, 4 * PER_ARCHIVE + 1)}
    found = [
        size
        for i, size in sizes.items()
        if i in CHOSEN and i not in DAMAGED and list(sizes.values()).count(size) == 1
    ]
    return found[0]


class TestMessages:
    def test_workers_that_write_elsewhere(self, data: Path, tmp_path: Path) -> None:
        """As on a cluster whose nodes have an --out of their own each."""

        class Elsewhere(LocalEngine):
            def run(self, work: Any, tasks: Any, **rest: Any) -> list[Any]:
                there = partial(work.func, **{**work.keywords, "out": Place.of(tmp_path / "far")})
                return LocalEngine.run(self, there, tasks, **rest)

        with pytest.raises(InterruptedBuildError, match="was made and is not there") as error:
            build(recipe(), data, tmp_path / "out", BuildOptions(engine=Elsewhere()))
        assert "a shared folder or a URL" in str(error.value)

    def test_a_damaged_picture_of_another_spelling(self, tmp_path: Path) -> None:
        files = make_files(range(1, 5), num_masks=3, damage={2: "truncated"})
        spelt = [(name.replace("sa_2", "Sa_2"), data) for name, data in files]
        (tmp_path / "sa_000000.tar").write_bytes(tar_of(spelt))
        result = build(recipe(3), tmp_path, tmp_path / "out")
        assert result.info.num_samples == 3

    def test_no_archive_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        with pytest.raises(MissingSourceError, match="no archive of sa1b") as error:
            build(recipe(), tmp_path / "data", tmp_path / "out")
        assert "sa_000000.tar" in str(error.value)
        assert not (tmp_path / "out").exists()

    def test_an_archive_twice(self, tmp_path: Path) -> None:
        make_bundle(tmp_path / "data" / "sa_000000.tar", range(1, 4), **SMALL)  # type: ignore[arg-type]
        make_bundle(tmp_path / "data" / "sa_000000", range(1, 4), kind="folder", **SMALL)  # type: ignore[arg-type]
        with pytest.raises(UserError, match="move one away"):
            build(recipe(), tmp_path / "data", tmp_path / "out")

    def test_a_part_of_the_archives_is_a_problem_where_it_is_not_meant(
        self, data: Path, tmp_path: Path
    ) -> None:
        lines: list[str] = []
        result = build(recipe(subset=False), data, tmp_path / "out", tell=lines.append)
        assert ProblemKind.CLUSTER_SAMPLE in {p.kind for p in result.problems}
        assert any("4 of 1,000 archives" in line for line in lines)
        assert result.info.complete

    def test_too_few_pictures(self, data: Path, tmp_path: Path) -> None:
        result = build(recipe(500, subset=False), data, tmp_path / "out")
        assert not result.info.complete
        assert ProblemKind.COUNT_MISMATCH in {p.kind for p in result.problems}
        assert result.info.num_samples == 4 * PER_ARCHIVE - len(DAMAGED)

    def test_an_archive_that_is_cut_short(self, tmp_path: Path) -> None:
        data = make_archives(tmp_path / "data")
        path = data / "sa_000002.tar"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        result = build(recipe(), data, tmp_path / "out")
        (told,) = [p for p in result.problems if p.kind is ProblemKind.DAMAGED_ARCHIVE]
        assert told.image == "sa_000002"
        assert result.info.num_samples == IMAGES

    def test_filters_that_nothing_passes(self, data: Path, tmp_path: Path) -> None:
        lines: list[str] = []
        out = tmp_path / "out"
        result = build(recipe(20, min_area_fraction=0.999), data, out, tell=lines.append)
        assert result.info.num_samples == 0
        (told,) = [p for p in result.problems if p.kind is ProblemKind.COUNT_MISMATCH]
        assert "the recipe's filters passed over 159" in told.message
        assert any("only 0 of the 20 pictures asked for" in line for line in lines)
        assert result.info.sampled is not None
        assert result.info.sampled["sa1b/train"].drawn == 0

    def test_the_same_archive_under_two_names(self, tmp_path: Path) -> None:
        data = make_archives(tmp_path / "data", kinds="tt")
        shutil.copy(data / "sa_000000.tar", data / "sa_000099.tar")
        result = build(recipe(200), data, tmp_path / "out")
        (told,) = [p for p in result.problems if p.kind is ProblemKind.DUPLICATE_KEY]
        assert told.image == "sa_000099"
        assert "40 pictures" in told.message
        assert result.info.sampled is not None
        assert result.info.sampled["sa1b/train"].drawn == 2 * PER_ARCHIVE

    @pytest.mark.parametrize("other", [{"seed": 1}, {"images": 70}, {"images": 50}], ids=str)
    def test_another_sample_does_not_take_the_place_of_a_complete_one(
        self, data: Path, tmp_path: Path, other: dict[str, object]
    ) -> None:
        out = tmp_path / "out"
        build(recipe(), data, out)
        before = bytes_of(out)
        with pytest.raises(UserError, match="has another sample of sa1b/train") as error:
            build(recipe(**{"images": IMAGES, **other}), data, out)  # type: ignore[arg-type]
        assert next(iter(other)) in str(error.value)
        for stage in ("choose", "write"):
            with pytest.raises(UserError, match="has another sample"):
                build_part(
                    recipe(**{"images": IMAGES, **other}),  # type: ignore[arg-type]
                    data,
                    out,
                    part=(1, 1),
                    stage=stage,  # type: ignore[arg-type]
                )
        assert bytes_of(out) == before

    def test_a_picture_of_another_size_than_its_mask(self, tmp_path: Path) -> None:
        notes = make_notes(5, width=50, height=40, num_masks=3)
        files = [("sa_5.jpg", make_picture(5)), ("sa_5.json", dump(notes))]
        (tmp_path / "sa_000000.tar").write_bytes(tar_of(files))
        result = build(recipe(1), tmp_path, tmp_path / "out")
        kinds = {p.kind for p in result.problems}
        assert kinds == {ProblemKind.SIZE_MISMATCH, ProblemKind.COUNT_MISMATCH}
        assert result.info.num_samples == 0

    def test_finishing_before_all_parts_are_done(self, data: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        build_part(recipe(), data, out, part=(1, 2), stage="choose")
        with pytest.raises(InterruptedBuildError, match="2 archives have not listed"):
            build(recipe(), data, out, only_finish=True)
        build_part(recipe(), data, out, part=(2, 2), stage="choose")
        build_part(recipe(), data, out, part=(2, 2), stage="write")
        with pytest.raises(InterruptedBuildError, match="shards are not written"):
            build(recipe(), data, out, only_finish=True)

    @pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/4", ""])
    def test_no_part_of_an_array(self, text: str) -> None:
        with pytest.raises(UserError, match="no part of an array"):
            check_part(text)

    def test_parts_beside_a_whole_build(self, data: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with (
            Place.of(out).claim(),
            pytest.raises(HqdataError, match="is writing to this folder"),
        ):
            build_part(recipe(), data, out, part=(1, 2))


class TestCommandLine:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--stage", "write"], "--task I/N"),
            (["--stage", "finish", "--task", "1/2"], "leave out --task"),
            (["--task", "9/2"], "no part of an array"),
            (["--ray-address", "127.0.0.1:1"], "--engine ray"),
        ],
    )
    def test_options_that_do_not_go_together(
        self, words: list[str], said: str, data: Path, tmp_path: Path
    ) -> None:
        done = hqdata(
            "build", "--recipe", "sa1b-44k", "--data-root", data, "--out", tmp_path / "o", *words
        )
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr

    def test_without_a_place_to_build(self, data: Path) -> None:
        done = hqdata("build", "--recipe", "sa1b-44k", "--data-root", data)
        assert done.returncode == 2
        assert "--out" in done.stderr

    def test_the_plan_reads_no_archive(self, data: Path) -> None:
        done = hqdata("build", "--recipe", "sa1b-44k", "--data-root", data, "--plan")
        assert done.returncode == 0
        assert "4 of 1,000 archives" in done.stdout
        assert "10 Gbit/s" in done.stdout

    def test_the_plan_without_any_archive(self, tmp_path: Path) -> None:
        done = hqdata("build", "--recipe", "sa1b-44k", "--data-root", tmp_path, "--plan")
        assert done.returncode == 0
        assert "1,000 archives" in done.stdout

    def test_the_plan_of_a_recipe_that_draws_nothing(self, tmp_path: Path) -> None:
        done = hqdata("build", "--recipe", "mini", "--data-root", tmp_path, "--plan")
        assert done.returncode == 2
        assert "draws nothing" in done.stderr


def test_real_pictures_and_annotations_go_through(real_data: Path, tmp_path: Path) -> None:
    """Real photographs and real annotations of SA-1B; they belong to different pictures, so the
    photographs are brought to the annotations' size.
    """
    folder = tmp_path / "data" / "sa_000000"
    folder.mkdir(parents=True)
    photos = sorted((real_data / "sa1b").glob("*.jpg"))
    notes = sorted((real_data / "sa1b" / "annotations_real_fragments").glob("*.json"))
    assert (len(photos), len(notes)) == (4, 5)
    num_masks = 0
    for number, path in enumerate(notes):
        value = json.loads(path.read_bytes())
        num_masks += len(value["annotations"])
        pixels = cv2.imread(str(photos[number % 4]))
        assert pixels is not None
        size = (value["image"]["width"], value["image"]["height"])
        cv2.imwrite(str(folder / f"{path.stem}.jpg"), cv2.resize(pixels, size))
        shutil.copy(path, folder / path.name)
    assert num_masks == 9
    out = tmp_path / "out"
    result = build(recipe(5, masks="all"), tmp_path / "data", out)
    assert result.problems == ()
    assert result.info.num_samples == 9
    areas = {
        str(a["id"]): a["area"] / (a["segmentation"]["size"][0] * a["segmentation"]["size"][1])
        for path in notes
        for a in json.loads(path.read_bytes())["annotations"]
    }
    table = Dataset.open(out).samples
    for mask, fraction in zip(
        table["upstream_mask"].to_pylist(), table["mask_area_fraction"].to_pylist(), strict=True
    ):
        assert fraction == pytest.approx(areas[mask.partition("#")[2]], abs=1e-7)


def test_the_four_real_photographs_go_through_untouched(real_data: Path, tmp_path: Path) -> None:
    """With drawn annotations of their sizes: not a byte of them changes."""
    files = []
    for path in sorted((real_data / "sa1b").glob("*.jpg")):
        image_id = int(path.stem.rpartition("_")[2])
        pixels = cv2.imread(str(path))
        assert pixels is not None
        height, width = pixels.shape[:2]
        notes = make_notes(image_id, width=width, height=height, num_masks=5)
        files += [(f"sa_{image_id}.jpg", path.read_bytes()), (f"sa_{image_id}.json", dump(notes))]
    (tmp_path / "sa_000000.tar").write_bytes(tar_of(files))
    result = build(recipe(4), tmp_path, tmp_path / "out")
    assert result.problems == ()
    dataset = Dataset.open(tmp_path / "out")
    stored = {dataset.read_member(dataset.row(i), "image") for i in range(4)}
    assert stored == {data for name, data in files if name.endswith(".jpg")}
