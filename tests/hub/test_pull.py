"""A data set from a Hub: all of it or a part, verified, and never half of it taken for one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hqdata.build.run import build
from hqdata.claims import claim
from hqdata.errors import BusyError, DatasetError, HqdataError, InterruptedBuildError, UserError
from hqdata.hub.pull import PullOptions, PullResult, pull
from hqdata.hub.remote import HubError, HubUnreachableError
from hqdata.recipe import Recipe, load_recipe, select
from hqdata.resolve import resolve
from hqdata.shards.check import check
from hqdata.shards.dataset import Dataset, DatasetInfo, dataset_digest
from support.builds import build_own, bytes_of, own_sources
from support.hub import FakeHub, cut_body, drop, fake_hub, wrong_digest
from support.on_hub import TOKEN, downloads, files_of, put, visit

COUNTS = {"tools": 6, "boats": 4, "cups": 3}
BESIDE = {"README.md", "croissant.json", "overlap.json", "recipe.yaml"}
REPO = "me/things"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_sources(tmp_path_factory.mktemp("pulled") / "data", COUNTS)


@pytest.fixture(scope="module")
def dataset(data: Path) -> Dataset:
    build_own(data, data.parent / "shards", list(COUNTS), samples_per_shard=2)
    return Dataset.open(data.parent / "shards")


@pytest.fixture
def server(tmp_path: Path, dataset: Dataset) -> Iterator[FakeHub]:
    with fake_hub(tmp_path / "hub") as server:
        server.add_user("me", TOKEN)
        put(server, REPO, files_of(dataset), private=True)
        yield server


class Puller:
    """Pulls into one folder and keeps what was told."""

    def __init__(self, server: FakeHub, out: Path) -> None:
        self.server, self.out = server, out
        self.told: list[str] = []

    def __call__(self, repo_id: str = REPO, **options: Any) -> PullResult:
        self.told = []
        hub = visit(self.server, tell=self.told.append)
        return pull(hub, repo_id, self.out, PullOptions(**options), tell=self.told.append)

    def said(self, words: str) -> bool:
        return any(words in line for line in self.told)

    def is_no_data_set(self) -> bool:
        return not (self.out / "dataset.json").exists()


@pytest.fixture
def puller(server: FakeHub, tmp_path: Path) -> Puller:
    return Puller(server, tmp_path / "out")


def own_bytes(out: Path) -> dict[str, str]:
    """Digests of the files of a data set, without what comes along with it."""
    return {name: digest for name, digest in bytes_of(out).items() if name not in BESIDE}


class TestAllOfIt:
    def test_the_bytes_are_those_that_were_pushed(self, puller: Puller, dataset: Dataset) -> None:
        result = puller()
        assert own_bytes(puller.out) == bytes_of(dataset.root)
        assert not check(puller.out).damages
        num_shards = len(dataset.info.shards)
        assert (result.num_fetched, result.num_kept, result.left_out) == (num_shards, 0, ())
        assert result.bytes_fetched == sum(s.num_bytes for s in dataset.info.shards)
        assert result.info == dataset.info
        assert result.commit == puller.server.repo(REPO).branches["main"]

    def test_card_and_certificate_lie_beside_it_and_nothing_else_does(
        self, puller: Puller, dataset: Dataset
    ) -> None:
        puller()
        assert set(bytes_of(puller.out)) - set(bytes_of(dataset.root)) == BESIDE
        assert (puller.out / "README.md").read_bytes() == files_of(dataset)["README.md"]
        assert sorted(p.name for p in (puller.out / ".hqdata").iterdir()) == ["lock", "pulled.json"]

    def test_run_again_it_fetches_no_shard_and_no_table(self, puller: Puller) -> None:
        puller()
        before, stamp = len(downloads(puller.server)), (puller.out / "dataset.json").stat()
        again = puller()
        assert (again.num_fetched, len(downloads(puller.server))) == (0, before)
        assert (puller.out / "dataset.json").stat().st_mtime_ns == stamp.st_mtime_ns

    def test_what_a_build_wrote_here_is_kept(self, puller: Puller, dataset: Dataset) -> None:
        shutil.copytree(dataset.root, puller.out)
        assert puller().num_fetched == 0
        assert downloads(puller.server) == []

    @pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(b"x")])
    def test_only_what_is_damaged_is_fetched(
        self, puller: Puller, dataset: Dataset, damage: Callable[[Path], object]
    ) -> None:
        puller()
        shard = dataset.info.shards[2]
        damage(puller.out / shard.path)
        before = len(downloads(puller.server))
        assert puller().num_fetched == 1
        assert downloads(puller.server)[before:] == [shard.sha256]
        assert own_bytes(puller.out) == bytes_of(dataset.root)

    def test_an_incomplete_data_set_stays_one(
        self, puller: Puller, data: Path, tmp_path: Path
    ) -> None:
        source = {"source": "cups", "images": "cups/images", "masks": "cups/masks", "expect": 5}
        recipe = Recipe.model_validate({"name": "own", "sources": [source]})
        build(resolve(recipe), data, tmp_path / "less")
        put(puller.server, REPO, files_of(Dataset.open(tmp_path / "less")))
        assert not puller().info.complete


class TestRevisions:
    def test_everything_is_of_one_commit(self, puller: Puller, dataset: Dataset) -> None:
        repo = puller.server.repo(REPO)
        first = repo.branches["main"]
        repo.tags["v1"] = first
        put(puller.server, REPO, {"README.md": b"all gone"})
        for revision in ("v1", first):
            assert puller(revision=revision).commit == first
        assert own_bytes(puller.out) == bytes_of(dataset.root)
        with pytest.raises(DatasetError, match="is no data set of hqdata"):
            puller()

    def test_a_newer_one_replaces_shards_of_the_same_splits(
        self, puller: Puller, data: Path, tmp_path: Path
    ) -> None:
        puller()
        build_own(data, tmp_path / "new", list(COUNTS), samples_per_shard=4)
        put(puller.server, REPO, files_of(Dataset.open(tmp_path / "new")))
        puller()
        assert puller.said("removing 7 shards")
        assert own_bytes(puller.out) == bytes_of(tmp_path / "new")
        assert not check(puller.out, quick=True).damages

    def test_less_than_what_is_here_is_refused_unless_pruned(
        self, puller: Puller, data: Path, tmp_path: Path
    ) -> None:
        puller()
        shutil.copytree(data, tmp_path / "less")
        (tmp_path / "less/tools/images/Pic 003.jpg").unlink()
        (tmp_path / "less/tools/masks/Pic 003.png").unlink()
        build_own(tmp_path / "less", tmp_path / "new", list(COUNTS), samples_per_shard=2)
        put(puller.server, REPO, files_of(Dataset.open(tmp_path / "new")))
        before = bytes_of(puller.out)
        with pytest.raises(UserError, match="has 6 samples of tools all, the one on the Hub has 5"):
            puller()
        assert bytes_of(puller.out) == before
        puller(prune=True)
        assert own_bytes(puller.out) == bytes_of(tmp_path / "new")


class TestAPart:
    @pytest.mark.parametrize(
        ("options", "kept"),
        [
            ({"include": ("cups", "tools")}, ["tools", "cups"]),
            ({"exclude": ("tools",)}, ["boats", "cups"]),
        ],
    )
    def test_it_is_what_a_build_of_these_sources_writes(
        self, puller: Puller, data: Path, tmp_path: Path, options: dict[str, Any], kept: list[str]
    ) -> None:
        result = puller(**options)
        build_own(data, tmp_path / "part", kept, samples_per_shard=2)
        assert own_bytes(puller.out) == bytes_of(tmp_path / "part")
        assert not check(puller.out).damages
        assert list(result.info.sources) == kept
        assert set(result.left_out) == set(COUNTS) - set(kept)

    def test_no_other_shard_is_fetched(self, puller: Puller, dataset: Dataset) -> None:
        puller(include=("cups",))
        of_cups = {s.sha256 for s in dataset.info.shards if s.path.startswith("cups/")}
        others = {s.sha256 for s in dataset.info.shards} - of_cups
        asked = set(downloads(puller.server))
        assert of_cups <= asked and not others & asked

    def test_files_about_the_whole_do_not_lie_beside_it(self, puller: Puller) -> None:
        puller(include=("cups",))
        assert set(bytes_of(puller.out)) & BESIDE == {"overlap.json"}

    def test_growing_it_fetches_the_rest(self, puller: Puller, dataset: Dataset) -> None:
        puller(include=("tools",))
        result = puller()
        assert result.num_kept == 3
        assert own_bytes(puller.out) == bytes_of(dataset.root)

    def test_shrinking_it_takes_a_word(self, puller: Puller) -> None:
        puller()
        before = bytes_of(puller.out)
        with pytest.raises(UserError, match="not of this build") as caught:
            puller(include=("cups",))
        assert "--prune" in str(caught.value)
        assert bytes_of(puller.out) == before
        puller(include=("cups",), prune=True)
        assert not check(puller.out).damages
        assert set(bytes_of(puller.out)) & BESIDE == {"overlap.json"}
        assert not (puller.out / "tools").exists()

    def test_a_name_that_is_none_of_its_sources(self, puller: Puller) -> None:
        with pytest.raises(UserError, match="did you mean 'tools'"):
            puller(include=("tool",))
        assert not puller.out.exists()


class TestWhatIsNoDataSet:
    def test_another_repository(self, puller: Puller) -> None:
        put(puller.server, "me/else", {"README.md": b"hello", "train.csv": b"a,b"})
        with pytest.raises(DatasetError, match="me/else is no data set of hqdata"):
            puller("me/else")
        assert not puller.out.exists()

    @pytest.mark.parametrize("repo_id", ["things", "me/../things", "me/nothing"])
    def test_a_name_that_is_none(self, puller: Puller, repo_id: str) -> None:
        with pytest.raises(HqdataError) as caught:
            puller(repo_id)
        assert caught.value.exit_status == 2
        assert not puller.out.exists()

    def test_a_manifest_without_pictures_says_how_to_build_them(
        self, puller: Puller, dataset: Dataset
    ) -> None:
        put(puller.server, REPO, small_files(dataset))
        with pytest.raises(UserError, match="no pictures") as caught:
            puller()
        assert "hqdata build --recipe recipe.yaml" in str(caught.value)
        commit = puller.server.repo(REPO).branches["main"]
        assert f"with recipe.yaml from {puller.server.endpoint}/datasets/{REPO}/tree/{commit}" in (
            caught.value.do or ""
        )
        assert not puller.out.exists()

    def test_of_folders_without_a_recipe_it_promises_no_build(
        self, puller: Puller, dataset: Dataset
    ) -> None:
        put(puller.server, REPO, small_files(dataset, "recipe.yaml"))
        with pytest.raises(UserError, match="no pictures") as caught:
            puller()
        assert "hqdata build" not in str(caught.value)
        assert "ask its owner: there is no recipe.yaml" in str(caught.value)

    def test_a_report_is_named_only_where_it_lies_there(
        self, puller: Puller, dataset: Dataset
    ) -> None:
        gone = {"report_sha256": "a" * 64, "dataset_digest": "b" * 64}
        text = sealed(dataset.info, removed={**gone, "num_keys": 2, "keys": ["cups-a", "cups-b"]})
        put(puller.server, REPO, {**small_files(dataset), "dataset.json": text})
        with pytest.raises(UserError, match="no pictures") as caught:
            puller()
        assert " --remove overlap.json\n" in str(caught.value)
        assert "with recipe.yaml and overlap.json from" in str(caught.value)
        put(puller.server, REPO, {**small_files(dataset, "overlap.json"), "dataset.json": text})
        with pytest.raises(UserError, match="no pictures") as caught:
            puller()
        assert "overlap.json" not in str(caught.value)
        assert "less 2 that it leaves out" in str(caught.value)
        assert "see removed.keys in dataset.json" in str(caught.value)

    @pytest.mark.parametrize(
        ("sources", "command"),
        [
            (["dis", "thinobject", "fss", "duts", "ecssd", "msra"], "--recipe hqseg-44k --data"),
            (["ecssd", "msra"], "--recipe hqseg-44k --include ecssd,msra --data"),
        ],
    )
    def test_by_its_name_where_the_package_has_the_recipe(
        self, puller: Puller, dataset: Dataset, sources: list[str], command: str
    ) -> None:
        recipe = resolve(select(load_recipe("hqseg-44k"), include=sources)).to_dict()
        counts = dataset.info.sources["cups"]
        shards = [{**dataset.info.shards[0].model_dump(), "path": f"{sources[0]}/train-0.tar"}]
        changes = {"name": "hqseg-44k", "recipe": recipe, "sources": dict.fromkeys(sources, counts)}
        info = sealed(dataset.info, **changes, shards=shards, num_samples=shards[0]["num_samples"])
        small = {"samples.parquet": b"", "problems.jsonl": b"", "dataset.json": info}
        put(puller.server, REPO, small)
        with pytest.raises(UserError) as caught:
            puller()
        assert command in str(caught.value)
        other = sealed(
            dataset.info,
            **{**changes, "recipe": {**recipe, "seed": 1}},
            shards=shards,
            num_samples=shards[0]["num_samples"],
        )
        put(
            puller.server, REPO, {**small, "dataset.json": other, "recipe.yaml": b"name: hqseg-44k"}
        )
        with pytest.raises(UserError, match=r"build --recipe recipe\.yaml --data"):
            puller()


def small_files(dataset: Dataset, *without: str) -> dict[str, bytes]:
    """The files of a data set without its shards."""
    gone = {*without, *(shard.path for shard in dataset.info.shards)}
    return {name: data for name, data in files_of(dataset).items() if name not in gone}


def sealed(info: DatasetInfo, **changes: Any) -> bytes:
    """A `dataset.json` that agrees with itself but for what `changes` break."""
    document = {**info.model_dump(mode="json", exclude_none=True), **changes}
    made = DatasetInfo.model_validate(document)
    if "shards" in changes:
        made = made.model_copy(update={"digest": dataset_digest(made.shards)})
    return made.sealed().to_bytes()


def _split(**changes: Any) -> dict[str, Any]:
    return {"source": "cups", "split": "all", "expect": None, **changes}


def _twice(info: DatasetInfo) -> dict[str, Any]:
    shards = [shard.model_dump() for shard in (*info.shards, info.shards[0])]
    return {"shards": shards, "num_samples": info.num_samples + info.shards[0].num_samples}


class TestAManifestThatIsNotBelieved:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda info: {"digest": "0" * 64}, "digest is not that of its list"),
            (lambda info: {"num_samples": 1}, "another number of samples"),
            (lambda info: {"schema_version": 99}, "schema version 99"),
            (lambda info: {"sources": {}}, "which is no source of it"),
            (_twice, "lists a shard twice"),
            (lambda info: {"name": "[red]x"}, r"'\[red\]x' cannot name a recipe"),
            (lambda info: {"name": "x\x1b[31m"}, r"'x\\x1b\[31m' cannot name a recipe"),
            (lambda info: {"sources": {**info.sources, "[/]": {}}}, "cannot name a source"),
            (lambda info: {"sources": {"../x": {}}}, r"'\.\./x' cannot name a source"),
            (lambda info: {"sources": {"cups\n": {}}}, "cannot name a source"),
            (lambda info: {"sources": {"cups": {"[b]": info.sources["cups"]["all"]}}}, "a split"),
            (lambda info: {"image_ext": "exe"}, "its images are 'exe'"),
            (lambda info: {"recipe": {}}, "does not say of which sources"),
            (lambda info: {"recipe": {"splits": ["cups"]}}, "does not say of which sources"),
            (lambda info: {"recipe": {"splits": [_split(source="x")]}}, "does not say of which"),
            (lambda info: {"recipe": {"splits": [_split(expect="1")]}}, "does not say of which"),
        ],
    )
    def test_that_contradicts_itself(
        self,
        puller: Puller,
        dataset: Dataset,
        change: Callable[[DatasetInfo], dict[str, Any]],
        message: str,
    ) -> None:
        text = sealed(dataset.info, **change(dataset.info))
        put(puller.server, REPO, {**files_of(dataset), "dataset.json": text})
        with pytest.raises(DatasetError, match=message):
            puller()
        assert not puller.out.exists()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"{", "damaged"),
            (b"[]", "schema version None"),
            (b'{"schema_version": 1}', "not valid"),
            (b" " * (64 * 2**20 + 1), "67,108,865 bytes"),
        ],
    )
    def test_that_is_none(
        self, puller: Puller, dataset: Dataset, text: bytes, message: str
    ) -> None:
        put(puller.server, REPO, {**files_of(dataset), "dataset.json": text})
        with pytest.raises(DatasetError, match=message):
            puller()

    def test_that_no_build_writes(self, puller: Puller, dataset: Dataset) -> None:
        text = files_of(dataset)["dataset.json"]
        text = text.replace(b'"description": ""', rb'"description": "\ud800"')
        put(puller.server, REPO, {**files_of(dataset), "dataset.json": text})
        with pytest.raises(DatasetError, match="things in it that no build writes"):
            puller()

    def test_that_was_edited(self, puller: Puller, dataset: Dataset) -> None:
        text = files_of(dataset)["dataset.json"].replace(b'"own"', b'"mine"')
        put(puller.server, REPO, {**files_of(dataset), "dataset.json": text})
        with pytest.raises(DatasetError, match="changed after it was written"):
            puller()

    @pytest.mark.parametrize(
        "path",
        ["../../escape.tar", "/tmp/escape.tar", "tools/../../escape.tar", ".hqdata/shards/x.tar"],
    )
    def test_that_wants_to_write_elsewhere(
        self, puller: Puller, dataset: Dataset, path: str
    ) -> None:
        document = json.loads(files_of(dataset)["dataset.json"])
        document["shards"][0]["path"] = path
        files = {**files_of(dataset), "dataset.json": json.dumps(document).encode()}
        put(puller.server, REPO, files)
        with pytest.raises(DatasetError, match="not valid"):
            puller()
        assert not puller.out.exists()

    @pytest.mark.parametrize("name", ["samples.parquet", "problems.jsonl"])
    def test_whose_tables_are_missing_or_others(
        self, puller: Puller, dataset: Dataset, name: str
    ) -> None:
        files = files_of(dataset)
        put(puller.server, REPO, {n: d for n, d in files.items() if n != name})
        with pytest.raises(DatasetError, match=f"there is no {name}"):
            puller()
        put(puller.server, REPO, {**files, name: b"other"})
        with pytest.raises(HubError, match=f"{name} is not the file that it should be"):
            puller()
        assert puller.is_no_data_set()

    @pytest.mark.parametrize("content", [None, b"another"])
    def test_whose_shards_are_missing_or_others(
        self, puller: Puller, dataset: Dataset, content: bytes | None
    ) -> None:
        files = files_of(dataset)
        path = dataset.info.shards[1].path
        files.pop(path)
        put(puller.server, REPO, files if content is None else {**files, path: content})
        with pytest.raises(DatasetError, match=f"1 of 7 shards are not .* {path}"):
            puller()
        assert not puller.out.exists()


class TestTheFolder:
    def test_of_something_else_is_left_alone(self, puller: Puller) -> None:
        puller.out.mkdir()
        (puller.out / "thesis.tex").write_text("x")
        with pytest.raises(UserError, match="not empty"):
            puller()
        assert [p.name for p in puller.out.iterdir()] == ["thesis.tex"]

    def test_that_cannot_take_a_shard_is_one_message(self, puller: Puller) -> None:
        with claim(puller.out):
            (puller.out / "boats").write_text("a file where a folder has to be")
            (puller.out / ".hqdata" / "shards").mkdir()
        with pytest.raises(UserError, match="cannot read or write") as caught:
            puller()
        assert "boats" in str(caught.value)

    def test_that_another_process_writes_to(self, puller: Puller) -> None:
        with claim(puller.out), pytest.raises(BusyError, match=f"process {os.getpid()}"):
            puller()

    def test_a_card_of_the_users_own_stays(self, puller: Puller, dataset: Dataset) -> None:
        shutil.copytree(dataset.root, puller.out)
        (puller.out / "README.md").write_text("mine")
        for options in ({}, {"include": ("cups",), "prune": True}):
            puller(**options)
            assert (puller.out / "README.md").read_text() == "mine"
        assert (puller.out / "overlap.json").exists()

    def test_a_card_of_an_older_pull_makes_room(self, puller: Puller, dataset: Dataset) -> None:
        puller()
        put(puller.server, REPO, {**files_of(dataset), "README.md": b"# New\n"})
        assert puller().num_fetched == 0
        assert (puller.out / "README.md").read_text() == "# New\n"


class TestOnTheWay:
    def test_an_unfinished_pull_is_no_data_set_and_goes_on(
        self, puller: Puller, dataset: Dataset
    ) -> None:
        puller.server.faults.add("GET", "/resolve/.*tar$", drop(), times=None, after=3)
        with pytest.raises(HubUnreachableError):
            puller(workers=1)
        assert puller.is_no_data_set()
        there = {p.relative_to(puller.out).as_posix() for p in puller.out.glob("*/*.tar")}
        assert len(there) == 3
        puller.server.faults.clear()
        before = len(downloads(puller.server))
        result = puller()
        assert (result.num_fetched, result.num_kept) == (4, 3)
        came = {s.sha256 for s in dataset.info.shards if s.path not in there}
        # Not even the table of samples comes twice.
        assert set(downloads(puller.server)[before:]) == came
        assert own_bytes(puller.out) == bytes_of(dataset.root)

    def test_what_has_come_of_sources_that_are_left_out_is_kept(
        self, puller: Puller, dataset: Dataset
    ) -> None:
        largest = max(dataset.info.shards, key=lambda shard: shard.num_bytes)
        source = largest.path.partition("/")[0]
        puller.server.faults.add("GET", f"/cdn/{largest.sha256}", cut_body())
        puller.server.faults.add("GET", f"/cdn/{largest.sha256}", drop(), times=None)
        with pytest.raises(HubUnreachableError):
            puller(include=(source,), workers=1)
        puller.server.faults.clear()
        puller(exclude=(source,), prune=True)
        assert [p.name for p in (puller.out / ".hqdata" / "hub").iterdir()] == ["parts"]
        before = len(puller.server.requests)
        puller()
        asked = [s for s in puller.server.requests[before:] if largest.sha256 in s.path]
        assert [s.status for s in asked] == [206]
        assert own_bytes(puller.out) == bytes_of(dataset.root)
        assert not (puller.out / ".hqdata" / "hub").exists()

    def test_of_a_part_that_came_whole_nothing_stays(self, puller: Puller) -> None:
        puller(include=("cups",))
        assert not (puller.out / ".hqdata" / "hub").exists()

    def test_a_pull_over_a_data_set_leaves_none_until_it_is_done(
        self, puller: Puller, data: Path, tmp_path: Path
    ) -> None:
        puller()
        build_own(data, tmp_path / "new", list(COUNTS), samples_per_shard=4)
        put(puller.server, REPO, files_of(Dataset.open(tmp_path / "new")))
        puller.server.faults.add("GET", "/resolve/.*tar$", drop(), times=None, after=1)
        with pytest.raises(HubUnreachableError):
            puller()
        assert puller.is_no_data_set()
        puller.server.faults.clear()
        puller()
        assert own_bytes(puller.out) == bytes_of(tmp_path / "new")

    def test_a_shard_that_stays_wrong_is_named_and_not_put_in_place(
        self, puller: Puller, dataset: Dataset
    ) -> None:
        shard = dataset.info.shards[0]
        puller.server.faults.add("GET", f"/cdn/{shard.sha256}", wrong_digest(), times=2)
        with pytest.raises(HubError) as caught:
            puller()
        assert shard.path in str(caught.value) and shard.sha256 in str(caught.value)
        assert not (puller.out / shard.path).exists() and puller.is_no_data_set()
        assert puller().info == dataset.info

    def test_broken_connections_and_one_wrong_answer_are_got_over(
        self, puller: Puller, dataset: Dataset
    ) -> None:
        puller.server.faults.add("GET", "/cdn/", cut_body(), times=3)
        puller.server.faults.add("GET", "/cdn/", wrong_digest(), after=3)
        puller.server.faults.add("POST", "/paths-info/", drop())
        puller()
        assert own_bytes(puller.out) == bytes_of(dataset.root)

    def test_a_full_disk_is_one_message_and_loses_nothing(
        self, puller: Puller, dataset: Dataset, tmp_path: Path
    ) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=90k", "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
            pytest.skip("needs the right to mount a small tmpfs")
        try:
            puller.out = disk
            with pytest.raises(InterruptedBuildError, match="no room left"):
                puller(workers=2)
            assert puller.is_no_data_set()
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            assert puller().num_kept > 0
            assert own_bytes(disk) == bytes_of(dataset.root)
        finally:
            subprocess.run(["umount", str(disk)], check=True)


def test_another_data_set_in_the_folder_does_not_make_room_by_itself(
    puller: Puller, data: Path
) -> None:
    build_own(data, puller.out, list(COUNTS), name="mine", samples_per_shard=2)
    before = bytes_of(puller.out)
    with pytest.raises(UserError, match="holds another data set, 'mine'"):
        puller()
    assert bytes_of(puller.out) == before
    assert puller(prune=True).info.name == "own"
