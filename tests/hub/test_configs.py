"""The configurations: every choice of sources is a choice of shards, exactly."""

from __future__ import annotations

import fnmatch
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqdata.hub.card import render_card
from hqdata.hub.configs import Config, configs_of
from hqdata.shards.dataset import Dataset, DatasetInfo, ShardInfo, SplitCounts, dataset_digest
from support.published import facts, own, stand_in

TRAINING = ["dis/validation"]


def info_of(
    splits: dict[tuple[str, str], list[int]], must_not_overlap: list[str] = TRAINING
) -> DatasetInfo:
    """`dataset.json` of a data set with shards of these lengths, by source and split."""
    shards = tuple(
        ShardInfo(
            path=f"{source}/{split}-{n:05d}-of-{len(counts):05d}.tar",
            sha256=f"{n:064x}",
            num_samples=count,
            num_bytes=1024,
        )
        for (source, split), counts in splits.items()
        for n, count in enumerate(counts)
    )
    sources: dict[str, dict[str, SplitCounts]] = {}
    for (source, split), counts in splits.items():
        found = SplitCounts(built=sum(counts), rejected=0, dropped=0)
        sources.setdefault(source, {})[split] = found
    return DatasetInfo(
        schema_version=1,
        name="own",
        recipe={"must_not_overlap": must_not_overlap},
        complete=True,
        num_samples=sum(map(sum, splits.values())),
        num_problems=0,
        image_ext="jpg",
        sources=sources,
        layouts={},
        dropped=(),
        shards=shards,
        samples_sha256="0" * 64,
        problems_sha256="0" * 64,
        digest=dataset_digest(shards),
        tool={},
    )


def by_name(info: DatasetInfo) -> dict[str, Config]:
    found = configs_of(info)
    assert len({config.name for config in found}) == len(found)
    return {config.name: config for config in found}


def caught(config: Config, paths: list[str]) -> list[str]:
    """The paths that a configuration takes, each pattern component by component."""
    patterns = [p for _, some in config.splits for p in some]
    return [
        path
        for path in paths
        for pattern in patterns
        if path.count("/") == pattern.count("/")
        and all(map(fnmatch.fnmatchcase, path.split("/"), pattern.split("/")))
    ]


HQSEG = {
    ("dis", "train"): [384, 384],
    ("thinobject", "train"): [300],
    ("duts", "train"): [384] * 3,
    ("duts", "test"): [20],
}


class TestNames:
    def test_all_each_left_out_and_each_alone(self) -> None:
        assert list(by_name(info_of(HQSEG))) == [
            "default",
            "no-dis",
            "no-thinobject",
            "no-duts",
            "no-dis-no-thinobject",
            "dis",
            "thinobject",
            "duts",
        ]

    def test_one_source_is_not_left_out(self) -> None:
        assert list(by_name(info_of({("dis", "train"): [1]}))) == ["default", "dis"]

    def test_nothing_would_be_left_without_these_two(self) -> None:
        some = {k: v for k, v in HQSEG.items() if k[0] != "duts"}
        assert "no-dis-no-thinobject" not in by_name(info_of(some))

    def test_a_source_called_default_is_not_the_default(self) -> None:
        found = by_name(info_of({("default", "all"): [1], ("b", "all"): [2]}))
        assert found["default"].num_samples == (3,)
        assert list(found) == ["default", "no-default", "no-b", "b"]


class TestSplits:
    def test_of_a_training_set_all_is_train(self) -> None:
        found = by_name(info_of(HQSEG))["duts"]
        assert found.splits == (
            ("train", ("duts/train-*-of-00003.tar", "duts/test-*-of-00001.tar")),
        )
        assert found.num_samples == (384 * 3 + 20,)

    def test_of_evaluation_sets_keep_their_names(self) -> None:
        shapes = {
            ("dis", "validation"): [4],
            ("dis", "te1"): [5],
            ("thinobject", "test"): [6],
            ("thinobject", "val"): [1],
            ("coift", "all"): [7],
        }
        found = by_name(info_of(shapes, []))
        assert [split for split, _ in found["default"].splits] == ["validation", "test"]
        assert found["default"].num_samples == (5, 18)
        assert found["coift"].splits == (("test", ("coift/all-*-of-00001.tar",)),)

    def test_of_ones_own_without_evaluation_sets_the_whole_is_train(self) -> None:
        shapes = {("wires", "all"): [4], ("ecssd", "all"): [5], ("mine", "test"): [2]}
        found = by_name(info_of(shapes, []))
        assert found["default"].num_samples == (9, 2)
        assert [split for split, _ in found["default"].splits] == ["train", "test"]

    def test_a_split_without_samples_is_not_asked_for(self) -> None:
        found = by_name(info_of({("a", "train"): [0, 0], ("b", "train"): [1]}))
        assert list(found) == ["default", "b"]

    def test_a_data_set_without_a_sample_has_none(self) -> None:
        assert configs_of(info_of({("a", "train"): [0]})) == configs_of(info_of({})) == ()


names = st.from_regex(r"[a-z0-9][a-z0-9_]{0,5}", fullmatch=True)


class TestPatterns:
    @given(
        st.dictionaries(
            st.tuples(names, names),
            st.lists(st.integers(1, 9), min_size=1, max_size=4),
            min_size=1,
            max_size=6,
        )
    )
    def test_take_every_shard_of_the_chosen_sources_once_and_no_other(
        self, shapes: dict[tuple[str, str], list[int]]
    ) -> None:
        info = info_of(shapes)
        paths = [shard.path for shard in info.shards]
        sources = {source for source, _ in shapes}
        for name, config in by_name(info).items():
            if name == "default":
                chosen = sources
            elif name.startswith("no-"):
                chosen = sources - {name.removeprefix("no-")}
                if name == "no-dis-no-thinobject":
                    chosen = sources - {"dis", "thinobject"}
            else:
                chosen = {name}
            wanted = [shard for shard in info.shards if shard.path.split("/")[0] in chosen]
            assert sorted(caught(config, paths)) == sorted(shard.path for shard in wanted)
            assert sum(config.num_samples) == sum(shard.num_samples for shard in wanted)

    def test_take_no_left_over_of_another_number_of_shards(self) -> None:
        found = by_name(info_of(HQSEG))["dis"]
        others = ["dis/train-00000-of-00003.tar", "dis/train2-00000-of-00002.tar", "README.md"]
        assert caught(found, [*others, "x/dis/train-00000-of-00002.tar"]) == []


def published(dataset: Dataset, folder: Path, **options: Any) -> Path:
    """The data set as it lies on the Hub."""
    shutil.copytree(dataset.root, folder, ignore=shutil.ignore_patterns(".hqdata"))
    (folder / "README.md").write_text(render_card(facts(dataset, **options)), encoding="utf-8")
    (folder / "examples").mkdir()
    (folder / "examples" / "dis.jpg").write_bytes(b"no sample")
    # What an earlier push with other shards may have left.
    shutil.copy(
        folder / dataset.info.shards[0].path,
        folder / dataset.info.shards[0].path.replace("-of-0000", "-of-0009"),
    )
    return folder


@pytest.mark.slow
class TestTheRealLoader:
    @pytest.fixture(autouse=True)
    def _at_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import datasets.config

        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", tmp_path / "modules")

    def keys(self, folder: Path, name: str) -> dict[str, list[str]]:
        from datasets import load_dataset

        found = load_dataset(str(folder), name, streaming=True)
        return {
            split: [row["__key__"] for row in rows.select_columns(["__key__"])]
            for split, rows in found.items()
        }

    def test_each_configuration_gives_exactly_its_samples(self, tmp_path: Path) -> None:
        dataset = stand_in(tmp_path, ["dis", "thinobject", "duts"])
        folder = published(dataset, tmp_path / "repo")
        rows = dataset.samples.select(["key", "source"]).to_pylist()
        sources = {"dis", "thinobject", "duts"}
        chosen = {"default": sources, "no-dis-no-thinobject": {"duts"}}
        chosen |= {name: {name} for name in sources}
        chosen |= {f"no-{name}": sources - {name} for name in sources}
        assert {config.name for config in configs_of(dataset.info)} == set(chosen)
        for name, wanted in chosen.items():
            found = self.keys(folder, name)
            assert list(found) == ["train"]
            assert sorted(found["train"]) == sorted(r["key"] for r in rows if r["source"] in wanted)

    def test_a_sample_is_image_mask_and_record(self, tmp_path: Path) -> None:
        from datasets import load_dataset

        dataset = own(tmp_path, {"a": 3, "b": 2}, must_not_overlap=TRAINING)
        folder = published(dataset, tmp_path / "repo")
        for sample in load_dataset(str(folder), "no-a", split="train"):
            assert sample["json"]["source"] == "b" and sample["mask.png"].mode == "L"
            assert sample["jpg"].size == sample["mask.png"].size == (96, 64)

    def test_of_a_manifest_alone_the_rows_are_loaded(self, tmp_path: Path) -> None:
        from datasets import load_dataset

        dataset = own(tmp_path, {"a": 3, "b": 2})
        folder = tmp_path / "repo"
        folder.mkdir()
        shutil.copy(dataset.root / "samples.parquet", folder)
        text = render_card(facts(dataset, what="manifest"))
        (folder / "README.md").write_text(text, encoding="utf-8")
        rows = load_dataset(str(folder), "samples", split="train")
        assert rows["key"] == dataset.samples["key"].to_pylist()
