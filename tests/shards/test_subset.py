"""A part of a data set is, byte for byte, what a build of only these sources writes."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from itertools import combinations
from pathlib import Path

import pytest

from hqdata.build.run import BuildOptions, build
from hqdata.errors import DatasetError, UserError
from hqdata.mini import make_mini
from hqdata.overlap.removal import read_removal
from hqdata.recipe import Recipe, load_recipe, select
from hqdata.resolve import resolve
from hqdata.shards.check import check
from hqdata.shards.dataset import Dataset, DatasetInfo, Removed
from hqdata.shards.names import DATASET_FILE, PROBLEMS_FILE, SAMPLES_FILE, TIMM_FILE
from hqdata.shards.subset import Manifest, choose, rows_of, subset, whole
from support.builds import own_sources
from support.reports import pair, report
from support.tiny_shards import build_sampled

COUNTS = {"flowers": 9, "tools": 5, "birds": 4}
PARTS = [keep for size in (1, 2, 3) for keep in combinations(COUNTS, size)]
DEFECTS = [
    {"source": "tools", "name": "Pic 003", "action": "drop", "reason": "blurred"},
    {"source": "tools", "name": "Pic 0O4", "action": "drop", "reason": "a slip"},
    {"source": "flowers", "file": "Pic 008.jpg", "action": "drop", "reason": "twice"},
    {"source": "birds", "name": "nobody", "action": "keep", "reason": "a slip, too"},
]


def _sources(root: Path) -> Path:
    """Three sources in one archive, with something wrong in each and in the archive itself."""
    loose = own_sources(root / "loose", COUNTS)
    (loose / "flowers/masks/Pic 001.png").unlink()
    (loose / "flowers/images/Pic 002.jpg").write_bytes(b"no picture")
    (loose / "tools/images/notes.txt").write_text("stray")
    (loose / "birds/images/Pic 000.jpg").rename(loose / "birds/images/\udcff.jpg")
    (root / "data").mkdir()
    with tarfile.open(root / "data/pack.tar", "w") as archive:
        for name in COUNTS:
            archive.add(loose / name, f"pack/{name}")
        refused = tarfile.TarInfo("../outside.jpg")
        refused.size = 1
        archive.addfile(refused, io.BytesIO(b"x"))
    shutil.rmtree(loose)
    return root / "data"


def _recipe() -> Recipe:
    sources = [
        {"source": name, "images": f"pack/{name}/images", "masks": f"pack/{name}/masks"}
        for name in COUNTS
    ]
    sources[0]["expect"] = 9
    return Recipe.model_validate(
        {"name": "own", "sources": sources, "defects": DEFECTS, "samples_per_shard": 3}
        | {"must_not_overlap": ["dis/validation"]}
    )


class Built:
    """A data set of all sources, and builds of parts of them with the same recipe."""

    def __init__(self, data: Path, folder: Path, recipe: Recipe, *, remove: Path | None) -> None:
        self.data, self.folder, self.recipe = data, folder, recipe
        self.options = BuildOptions(remove=None if remove is None else read_removal(remove))
        build(resolve(recipe), data, folder / "all", self.options)
        self.dataset = Dataset.open(folder / "all")

    def files_of_a_build(self, keep: tuple[str, ...]) -> dict[str, bytes]:
        """The small files of a build with `--include keep`."""
        out = self.folder / "-".join(keep)
        build(resolve(select(self.recipe, include=keep)), self.data, out, self.options)
        names = (SAMPLES_FILE, PROBLEMS_FILE, TIMM_FILE, DATASET_FILE)
        return {name: (out / name).read_bytes() for name in names}


@pytest.fixture(scope="module", params=["as built", "without overlaps"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    root = tmp_path_factory.mktemp("own")
    removal = None
    if request.param == "without overlaps":
        removal = root / "overlap.json"
        report(
            pair("flowers-pic-005"),
            pair("flowers-pic-006"),
            pair("tools-pic-001", set="within", name="birds-pic-001", kind="near"),
        ).write(removal)
    return Built(_sources(root), root, _recipe(), remove=removal)


@pytest.mark.parametrize("keep", PARTS, ids="-".join)
def test_it_is_what_a_build_of_these_sources_writes(built: Built, keep: tuple[str, ...]) -> None:
    part = subset(built.dataset, keep)
    assert part.files() == built.files_of_a_build(keep)
    assert part.info.sealed() == part.info


def test_the_data_set_of_these_tests_has_something_of_everything(built: Built) -> None:
    info = built.dataset.info
    kinds = {json.loads(x)["kind"] for x in whole(built.dataset).problems.splitlines()}
    assert kinds >= {"bad_member", "unused_defect", "stray_file", "count_mismatch", "missing_mask"}
    assert {d.source for d in info.dropped} >= {"flowers", "tools"}
    assert not info.complete and len(info.recipe["defects"]) == len(DEFECTS)


def test_all_sources_are_the_whole(built: Built) -> None:
    assert subset(built.dataset, COUNTS) == whole(built.dataset)
    on_disk = {p.name: p.read_bytes() for p in built.dataset.root.iterdir() if p.is_file()}
    assert whole(built.dataset).files() == on_disk
    assert list(whole(built.dataset).files())[-1] == DATASET_FILE


def test_only_what_is_incomplete_makes_it_so(built: Built) -> None:
    assert not subset(built.dataset, ["flowers", "tools"]).info.complete
    assert subset(built.dataset, ["tools", "birds"]).info.complete


@pytest.mark.slow
def test_of_the_stand_in_too(tmp_path: Path) -> None:
    sources = ("dis", "duts", "ecssd")
    make_mini(tmp_path / "data", workers=1, sets=sources)
    recipe = select(load_recipe("mini"), include=sources)
    built = Built(tmp_path / "data", tmp_path, recipe, remove=None)
    for keep in (("duts", "dis"), ("ecssd",)):
        assert subset(built.dataset, keep).files() == built.files_of_a_build(keep)


def test_with_its_shards_it_is_a_data_set(built: Built, tmp_path: Path) -> None:
    part = subset(built.dataset, ["tools"])
    _write(part, tmp_path)
    for shard in part.info.shards:
        (tmp_path / shard.path).parent.mkdir(exist_ok=True)
        shutil.copy(built.dataset.root / shard.path, tmp_path / shard.path)
    assert check(tmp_path, quick=True).damages == ()


def test_a_part_of_a_part_is_that_part_of_the_whole(built: Built, tmp_path: Path) -> None:
    _write(subset(built.dataset, ["flowers", "birds"]), tmp_path)
    assert subset(Dataset.open(tmp_path), ["birds"]) == subset(built.dataset, ["birds"])


def _write(manifest: Manifest, folder: Path) -> None:
    for name, data in manifest.files().items():
        (folder / name).write_bytes(data)


def test_rows_keep_their_order(built: Built) -> None:
    keys = built.dataset.samples["key"].to_pylist()
    some = rows_of(built.dataset.samples, ["tools", "birds"])["key"].to_pylist()
    assert some == [key for key in keys if not key.startswith("flowers")]


@pytest.mark.parametrize("name", [SAMPLES_FILE, PROBLEMS_FILE, TIMM_FILE, DATASET_FILE])
def test_a_file_that_was_changed_is_not_passed_on(built: Built, tmp_path: Path, name: str) -> None:
    _write(whole(built.dataset), tmp_path)
    dataset = Dataset.open(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b"\n")
    with pytest.raises(DatasetError, match=f"{name} was changed"):
        whole(dataset)


@pytest.mark.parametrize("keep", [[], ["flowers", "flower"]])
def test_names_are_checked_before(built: Built, keep: list[str]) -> None:
    with pytest.raises(ValueError, match="no sources"):
        subset(built.dataset, keep)


def test_a_removal_that_lists_no_keys_is_counted_by_its_reasons(built: Built) -> None:
    """As the first manifests with a removal were."""
    digest = "cd" * 32
    removed = Removed(report_sha256=digest, dataset_digest="ab" * 32, num_keys=3)
    dropped = [
        {"source": s, "split": "all", "name": n, "reason": f"x, by the report {digest[:12]}"}
        for s, n in (("flowers", "1"), ("flowers", "2"), ("tools", "1"))
    ]
    document = built.dataset.info.model_dump(mode="json", exclude_none=True)
    info = DatasetInfo.model_validate({**document, "dropped": dropped, "removed": removed})
    dataset = Dataset(built.dataset.root, info, built.dataset.samples)
    counts = [
        None if (r := subset(dataset, [name]).info.removed) is None else r.num_keys
        for name in COUNTS
    ]
    assert counts == [2, 1, None]


def _info(*names: str) -> DatasetInfo:
    empty = {"x": {"expected": 1, "built": 0, "rejected": 0, "dropped": 0}}
    return DatasetInfo.model_validate(
        dict.fromkeys(("name", "image_ext", "samples_sha256", "problems_sha256", "digest"), "x")
        | dict.fromkeys(("num_samples", "num_problems", "schema_version"), 0)
        | {"recipe": {}, "complete": True, "layouts": {}, "dropped": [], "shards": [], "tool": {}}
        | {"sources": dict.fromkeys(names, empty)}
    )


@pytest.mark.parametrize(
    ("include", "exclude", "kept"),
    [
        ((), (), ["duts", "dis", "mine"]),
        (("mine", "duts"), (), ["duts", "mine"]),  # in the data set's order
        ((), ("dis5k",), ["duts", "mine"]),  # a full name
        (("DUTS", "dis"), ("dis",), ["duts"]),
    ],
)
def test_choosing(include: tuple[str, ...], exclude: tuple[str, ...], kept: list[str]) -> None:
    assert choose(_info("duts", "dis", "mine"), include, exclude) == kept


@pytest.mark.parametrize(
    ("include", "exclude", "message"),
    [
        (("dutz",), (), "did you mean 'duts'"),
        ((), ("ecssd",), "has no source 'ecssd'"),  # a known set, but not in here
        (("dis",), ("dis5k",), "nothing is left"),
    ],
)
def test_choosing_what_is_not_there(
    include: tuple[str, ...], exclude: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        choose(_info("duts", "dis", "mine"), include, exclude)


class TestASample:
    """A source that was drawn from archives comes and goes with what is said of it."""

    @pytest.fixture(scope="class")
    @staticmethod
    def sampled(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
        return build_sampled(tmp_path_factory.mktemp("sampled"), 4, others=2)

    def test_can_be_left_out_by_any_name(self, sampled: Dataset) -> None:
        for name in ("sa1b", "SA-1B", "sa_1b"):
            assert choose(sampled.info, exclude=[name]) == ["reds"]

    def test_stays_with_its_source(self, sampled: Dataset) -> None:
        part = subset(sampled, ["sa1b"]).info
        assert part.sampled == sampled.info.sampled
        assert part.recipe["samples"] == sampled.info.recipe["samples"]
        assert part.recipe["splits"] == []

    def test_nothing_is_said_of_it_where_it_is_left_out(self, sampled: Dataset) -> None:
        part = subset(sampled, ["reds"])
        assert b"sampled" not in part.info.to_bytes() and b"samples" not in json.dumps(
            part.info.recipe
        ).encode().replace(b"samples_per_shard", b"")

    def test_all_sources_are_the_whole(self, sampled: Dataset) -> None:
        assert subset(sampled, ["sa1b", "reds"]).info == sampled.info
