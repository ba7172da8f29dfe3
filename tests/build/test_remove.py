"""`build --remove`: what a report of overlaps names stays out, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hqdata.build.run import BuildOptions, BuildResult, build
from hqdata.errors import UserError
from hqdata.overlap.removal import read_removal
from hqdata.overlap.report import Pair
from hqdata.recipe import Recipe, RecipeSource
from hqdata.resolve import resolve
from hqdata.shards.check import check
from hqdata.shards.dataset import Dataset, DatasetInfo, read_info
from hqdata.shards.reader import ShardReader
from support.builds import bytes_of, hqdata, own_sources, write_recipe
from support.reports import pair, report

COUNTS = {"flowers": 9, "tools": 5}
FLOWER, OTHER, TOOL = "flowers-pic-003", "flowers-pic-007", "tools-pic-001"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_sources(tmp_path_factory.mktemp("data"), COUNTS)


class Builder:
    """Builds into one folder, with a report or without, and keeps what was told."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.data, self.folder, self.out = data, folder, folder / "out"
        self.told: list[str] = []

    def __call__(
        self,
        *pairs: Pair,
        remove: bool = True,
        names: tuple[str, ...] = tuple(COUNTS),
        samples_per_shard: int = 3,
        data: Path | None = None,
    ) -> BuildResult:
        sources = tuple(
            RecipeSource(
                source=name,
                images=f"{name}/images",
                masks=f"{name}/masks",
                expect=COUNTS[name],
            )
            for name in names
        )
        recipe = Recipe(name="own", sources=sources, samples_per_shard=samples_per_shard)
        removal = None
        if remove:
            path = self.folder / "overlap.json"
            report(*pairs).write(path)
            removal = read_removal(path)
        self.told = []
        options = BuildOptions(remove=removal)
        return build(resolve(recipe), data or self.data, self.out, options, tell=self.told.append)

    def built(self) -> set[str]:
        return {str(row["key"]) for row in Dataset.open(self.out).samples.to_pylist()}

    def said(self, words: str) -> bool:
        return any(words in line for line in self.told)


@pytest.fixture
def builder(data: Path, tmp_path: Path) -> Builder:
    return Builder(data, tmp_path)


def test_exactly_the_confirmed_keys_stay_out(builder: Builder) -> None:
    builder(remove=False)
    before = builder.built()
    result = builder(pair(FLOWER), pair(OTHER, confirmed=False), pair(TOOL, kind="near"))
    assert builder.built() == before - {FLOWER, TOOL}
    in_shards = {m.key for path in builder.out.glob("*/*.tar") for m in ShardReader(path)}
    assert in_shards == builder.built()
    assert result.clean and result.info.complete
    assert result.info.sources["flowers"]["all"].dropped == 1
    assert not check(builder.out).damages


def test_each_is_recorded_with_its_reason_and_the_report(builder: Builder) -> None:
    info = builder(pair(FLOWER)).info
    assert info.removed is not None
    assert (info.removed.num_keys, info.removed.dataset_digest) == (1, "ab" * 32)
    (dropped,) = info.dropped
    assert (dropped.source, dropped.split, dropped.name) == ("flowers", "all", "Pic 003")
    mark = info.removed.report_sha256[:12]
    assert dropped.reason == (
        f"overlaps dis/validation DIS-VD/im/x.jpg (crop), by the report {mark}"
    )


def test_it_is_the_data_set_that_was_never_larger(builder: Builder, tmp_path: Path) -> None:
    """Whatever was built there before: the same report gives the same bytes."""
    builder(remove=False)
    builder(pair(FLOWER), pair(TOOL))
    fresh = Builder(builder.data, tmp_path / "fresh")
    fresh(pair(FLOWER), pair(TOOL))
    assert bytes_of(builder.out) == bytes_of(fresh.out)
    assert not check(builder.out).damages


def test_run_again_it_keeps_everything(builder: Builder) -> None:
    builder(pair(FLOWER))
    before = bytes_of(builder.out)
    again = builder(pair(FLOWER))
    assert (again.num_written, bytes_of(builder.out)) == (0, before)
    assert not builder.said("come back")


def test_without_the_report_the_pictures_come_back_and_it_says_so(builder: Builder) -> None:
    builder(remove=False)
    before = bytes_of(builder.out)
    builder(pair(FLOWER), pair(TOOL))
    builder(remove=False)
    assert builder.said("warning: 2 pictures")
    assert builder.said("--remove")
    assert bytes_of(builder.out) == before


def test_another_report_brings_back_what_it_does_not_name(builder: Builder) -> None:
    builder(pair(FLOWER), pair(TOOL))
    builder(pair(TOOL))
    assert builder.said("warning: 1 pictures")
    assert builder.said("flowers Pic 003")
    assert FLOWER in builder.built() and TOOL not in builder.built()


@pytest.mark.parametrize("pairs", [(), (pair(FLOWER, confirmed=False),)])
def test_a_report_without_a_confirmed_pair_is_told_and_changes_nothing(
    builder: Builder, pairs: tuple[Pair, ...]
) -> None:
    builder(remove=False)
    before = bytes_of(builder.out)
    result = builder(*pairs)
    assert builder.said("no confirmed overlap")
    assert (result.info.removed, bytes_of(builder.out)) == (None, before)


def test_of_duplicates_one_stays(builder: Builder) -> None:
    builder(pair(OTHER, set="within", name=FLOWER, kind="near"))
    assert FLOWER in builder.built() and OTHER not in builder.built()


@pytest.mark.parametrize(
    "pairs",
    [
        (pair("flowers-pic-099"),),  # none of the keys is there
        (pair(FLOWER), pair("flowers-pic-099"), pair("tools-pic-098")),  # some are not
    ],
)
def test_a_report_of_another_data_set_is_refused(builder: Builder, pairs: tuple[Pair, ...]) -> None:
    builder(remove=False)
    before = bytes_of(builder.out)
    with pytest.raises(UserError, match=r"flowers-pic-099[^Z]*belongs to another"):
        builder(*pairs)
    assert bytes_of(builder.out) == before


def test_sources_that_are_not_built_are_passed_over(builder: Builder) -> None:
    builder(pair(FLOWER), pair(TOOL), names=("tools",))
    assert builder.said("1 keys are of sources that this recipe does not build: flowers")
    assert len(builder.built()) == 4


def test_only_what_the_report_names_may_make_a_complete_data_set_smaller(
    builder: Builder, tmp_path: Path
) -> None:
    """A file that went missing is still noticed, though the report makes room for one."""
    builder(remove=False)
    poorer = own_sources(tmp_path / "poorer", COUNTS)
    for folder, suffix in (("images", "jpg"), ("masks", "png")):
        (poorer / "flowers" / folder / f"Pic 000.{suffix}").unlink()
    with pytest.raises(UserError, match="the complete data set here has 9 samples of flowers"):
        builder(pair(FLOWER), data=poorer)


def test_fewer_shards_leave_none_of_the_old_ones(builder: Builder) -> None:
    """Nine flowers are three shards of three, six are two: the names of all shards change."""
    builder(remove=False)
    builder(*(pair(f"flowers-pic-00{n}") for n in range(3)))
    assert len(list(builder.out.glob("flowers/*.tar"))) == 2
    assert not check(builder.out).damages


def test_a_whole_split_may_go(builder: Builder) -> None:
    builder(remove=False)
    result = builder(*(pair(f"tools-pic-00{n}") for n in range(5)))
    assert result.info.complete
    assert not (builder.out / "tools").exists()
    assert not check(builder.out).damages
    builder(remove=False)
    assert len(builder.built()) == 14


def test_a_manifest_without_the_field_still_reads(builder: Builder) -> None:
    builder(remove=False)
    document = json.loads((builder.out / "dataset.json").read_text())
    assert "removed" not in document
    info = read_info(builder.out)
    assert info.removed is None
    assert info.own_sha256() == DatasetInfo.model_validate(document).manifest_sha256


def test_on_the_command_line(data: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "own.yaml", list(COUNTS))
    common = ["--recipe", recipe, "--data-root", data, "--out", tmp_path / "out", "--workers", "1"]
    path = tmp_path / "overlap.json"
    missing = hqdata("build", *common, "--remove", path)
    assert missing.returncode == 2 and "there is no such report" in missing.stderr
    assert not (tmp_path / "out").exists()
    report(pair(FLOWER)).write(path)
    done = hqdata("build", *common, "--remove", path)
    assert done.returncode == 0, done.stderr
    assert "left out, by the report" in done.stderr
    assert "13 samples" in done.stdout
    shown = hqdata("stats", tmp_path / "out", "--html", tmp_path / "page.html")
    assert shown.returncode == 0, shown.stderr
    assert "overlaps dis/validation" in (tmp_path / "page.html").read_text()
