"""The page of the whole experiment: what it says follows from the files, whatever they hold."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hqdata.errors import DatasetError, UserError
from hqdata.overlap.report import EvaluationSet, OverlapReport, Recall, Unread
from hqdata.shards.dataset import Dataset
from support.evaluations import result, small_sets
from support.reports import pair, report
from training import overview
from training.config import TrainConfig
from training.overview import Overview, compare, examine, find_sources, render_overview
from training.results import Results, make_results, write_results
from training.run_folder import RunFolder, RunInfo


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_sets(tmp_path_factory.mktemp("overview"), {"one": 5, "two": 2})


def proof(dataset: Dataset, *pairs: Any, **changes: Any) -> OverlapReport:
    """A report of these shards against two sets, whole unless told otherwise."""
    values: dict[str, Any] = {
        "evaluation": tuple(
            EvaluationSet(set=name, num_images=30, how="pictures", digest="c" * 64, source="there")
            for name in ("dis/validation", "coift/all")
        ),
        "self_test": {"grey": Recall(planted=9, found=9, asked=0.9)},
    }
    return report(*pairs, digest=dataset.info.digest).model_copy(update=values | changes)


def run_info(dataset: Dataset, **changes: Any) -> RunInfo:
    values: dict[str, Any] = {
        "model": "vit_micro",
        "dataset": dataset.info.name,
        "dataset_digest": dataset.info.digest,
        "selection_digest": "b" * 64,
        "trained_on": {"one/all": 5, "two/all": 2},
        "num_samples": 7,
        "sam_sha256": "d" * 64,
        "num_parameters": 415_744,
        "versions": {},
    }
    return RunInfo(**{**values, **changes})


def figures(weights: str = "after epoch 1", **sets: tuple[float, float]) -> Results:
    return make_results(
        result(**(sets or {"dis_validation": (0.5, 0.8), "coift_all": (0.8, 0.7)})),
        model="vit_micro",
        weights=weights,
        trained_on=("one/all", "two/all"),
        dataset="evaluation",
        dataset_digest="0" * 64,
        prompt="box",
        precision="fp32",
    )


def data(dataset: Dataset, **changes: Any) -> Overview:
    info = changes.get("run", run_info(dataset))
    whole = Overview(
        dataset=dataset,
        sources=find_sources(dataset, info),
        report=proof(dataset),
        run=info,
        results=figures(),
        num_evaluations=1,
        sheet=b"\x89PNG",
        links={"stats": "stats.html", "overlap": "overlap.html", "run": "run/index.html"},
        commands=[("Try it:", "hqdata sources")],
    )
    return dataclasses.replace(whole, **changes)


def text_of(page: str) -> str:
    """What a reader reads, white space as one blank."""
    body = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+([.,;:])", r"\1", " ".join(body.split()))


class Balanced(HTMLParser):
    """Fails on an element that is closed by another; keeps addresses and identifiers."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.names: set[str] = set()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href")]
        self.names |= {v or "" for k, v in attrs if k == "id"}

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("changes", [{}, {"sheet": None}, {"links": {}}, {"commands": ()}])
def test_the_page_is_whole_and_loads_nothing(shards: Dataset, changes: dict[str, Any]) -> None:
    page = render_overview(data(shards, **changes))
    parsed = Balanced(page)
    assert parsed.open == []
    inner = {a[1:] for a in parsed.addresses if a.startswith("#")}
    assert inner
    assert inner <= parsed.names
    outer = {a for a in parsed.addresses if not a.startswith(("#", "data:"))}
    assert outer == set(changes.get("links", data(shards).links).values())
    assert "default-src 'none'" in page


def test_sources_have_pictures_shares_and_what_was_trained_on(shards: Dataset) -> None:
    info = run_info(shards, trained_on={"one/all": 5})
    sources = find_sources(shards, info)
    assert [(s.name, s.built, s.trained, len(s.samples)) for s in sources] == [
        ("one/all", 5, 5, 3),
        ("two/all", 2, 0, 2),
    ]
    assert all(a.startswith("data:image/jpeg;base64,/9j/") for s in sources for _, a in s.samples)
    page = text_of(render_overview(data(shards, run=info)))
    for told in ("71.4 %", "not trained on", "trained on 5 of these 7 pairs", shards.info.digest):
        assert told in page


class TestVerdict:
    def test_clean(self, shards: Dataset) -> None:
        page = text_of(render_overview(data(shards)))
        assert "No overlap found" in page
        assert "compared 10 training pictures with 60 evaluation pictures" in page
        assert "0 confirmed pairs and 0 hints; of 9 edited copies" in page
        assert "it found 9" in page
        assert "no figure below is of a picture that the token was trained on" in page
        assert "Before you read on" not in page
        assert "--subset" not in page

    def test_overlap(self, shards: Dataset) -> None:
        found = proof(shards, pair("a"), pair("b", confirmed=False), pair("c", set="within"))
        page = text_of(render_overview(data(shards, report=found)))
        assert "Overlap found" in page
        assert "1 confirmed pair and 1 hint" in page
        assert "those of dis/validation, may be of pictures" in page
        assert "Within the training set 1 confirmed pair is one picture twice" in page
        assert "no figure below" not in page

    def test_pairs_within_the_training_set_alone(self, shards: Dataset) -> None:
        found = proof(shards, pair("c", set="within"))
        page = text_of(render_overview(data(shards, report=found)))
        assert "no training picture was found among the evaluation pictures" in page

    def test_incomplete(self, shards: Dataset) -> None:
        found = proof(
            shards,
            verdict="incomplete",
            missing=("hrsod/all",),
            unread=(Unread(set="coift/all", name="x.jpg", reason="damaged"),),
            self_test={},
        )
        page = text_of(render_overview(data(shards, report=found)))
        for told in ("Not proved", "none is ruled out", "hrsod/all", "no self-test", "1 of the"):
            assert told in page
        assert "no figure below" not in page

    def test_clean_of_no_evaluation_set_is_not_taken_for_proof(self, shards: Dataset) -> None:
        page = text_of(render_overview(data(shards, report=proof(shards, evaluation=()))))
        assert "Not searched" in page
        assert "No overlap found" not in page
        assert "no figure below" not in page

    def test_a_part_of_the_sets_is_told(self, shards: Dataset) -> None:
        found = proof(shards, subset=True)
        assert "not for the published sets" in text_of(render_overview(data(shards, report=found)))

    def test_a_self_test_that_did_not_hold_is_told(self, shards: Dataset) -> None:
        missed = {"grey": Recall(planted=9, found=0, asked=0.9)}
        assert "did not hold" in examine(proof(shards, self_test=missed)).gaps[0]
        assert examine(proof(shards)).gaps == ()


class TestWarnings:
    def test_a_report_of_another_data_set(self, shards: Dataset) -> None:
        found = proof(shards, dataset_digest="e" * 64)
        page = text_of(render_overview(data(shards, report=found)))
        assert "The report of overlaps is of another data set" in page
        assert "eeeeeeeeeeeeeeee…" in page
        assert "No overlap found" not in page
        assert "no figure below" not in page

    def test_a_run_on_another_data_set(self, shards: Dataset) -> None:
        page = text_of(render_overview(data(shards, run=run_info(shards, dataset_digest="e" * 64))))
        assert "The run was trained on another data set" in page
        assert "no figure below" not in page

    def test_random_weights(self, shards: Dataset) -> None:
        page = text_of(render_overview(data(shards, run=run_info(shards, sam_sha256=""))))
        assert "SAM’s weights are random" in page

    def test_evaluated_and_not_searched(self, shards: Dataset) -> None:
        results = figures(dis_validation=(0.5, 0.8), hrsod_all=(0.5, 0.8))
        page = text_of(render_overview(data(shards, results=results)))
        assert "or only in part searched for overlaps: hrsod/all." in page
        assert "of hrsod/all not all were searched" in page


class TestFigures:
    @pytest.mark.parametrize(
        ("hq", "told"), [(0.7, "10.0 higher"), (0.5, "10.0 lower"), (0.6, "the same to a tenth")]
    )
    def test_the_words_follow_the_sign(self, shards: Dataset, hq: float, told: str) -> None:
        results = figures(dis_validation=(0.6, hq))
        compared = compare(results)
        assert compared.overlap == told
        assert (compared.better, compared.worse) == ((2, 0) if hq > 0.6 else (0, 2 * (hq < 0.6)))
        page = text_of(render_overview(data(shards, results=results)))
        assert told in page
        assert ("does the same on 2" in page) == (hq == 0.6)

    def test_a_choice_among_evaluations_is_told(self, shards: Dataset) -> None:
        assert "flatters" in render_overview(data(shards, num_evaluations=4))
        assert "flatters" not in render_overview(data(shards))


def test_names_cannot_become_markup(shards: Dataset) -> None:
    page = render_overview(
        data(shards, commands=[("<b>", "<script>")], run=run_info(shards, model="<i>"))
    )
    assert not re.search(r"<(b|i|script)>", page)


class TestCommand:
    @pytest.fixture
    def folder(self, tmp_path: Path, shards: Dataset) -> RunFolder:
        folder = RunFolder(tmp_path / "run")
        folder.evaluation.mkdir(parents=True)
        folder.pictures.mkdir()
        folder.write_start(TrainConfig(model="vit_micro"), run_info(shards))
        for epoch, hq in ((1, 0.6), (2, 0.7), (3, 0.65)):
            results = figures(f"after epoch {epoch}", dis_validation=(0.5, hq))
            write_results(folder.evaluation / f"epoch-{epoch:03}.json", results)
            (folder.pictures / f"epoch-{epoch:03}.png").write_bytes(bytes([epoch] * 3))
        proof(shards).write(tmp_path / "overlap.json")
        folder.page.write_text("the run")
        return folder

    def run(self, folder: RunFolder, shards: Dataset, *more: str) -> str:
        top = folder.root.parent
        words = ["--run", folder.root, "--shards", shards.root, "--overlap", top / "overlap.json"]
        words += ["--out", top / "pages" / "index.html", *more]
        CliRunner().invoke(
            overview.app, [str(word) for word in words], catch_exceptions=False,
            standalone_mode=False,
        )  # fmt: skip
        return (top / "pages" / "index.html").read_text("utf-8")

    def test_the_best_evaluation_and_its_pictures(self, folder: RunFolder, shards: Dataset) -> None:
        page = self.run(folder, shards)
        assert "after epoch 2, of 3 evaluations" in page
        assert "data:image/png;base64,AgIC" in page
        assert 'href="../run/index.html"' in page
        assert 'href="stats.html"' not in page  # there is none
        assert self.run(folder, shards) == page

    def test_links_are_relative_and_quoted(self, folder: RunFolder, shards: Dataset) -> None:
        stats = folder.root.parent / 'a "b"?.html'
        stats.write_text("stats")
        page = self.run(folder, shards, "--stats-page", str(stats))
        assert 'href="../a%20%22b%22%3F.html"' in page

    def test_mistakes(self, folder: RunFolder, shards: Dataset) -> None:
        with pytest.raises(UserError, match="no such page"):
            self.run(folder, shards, "--overlap-page", "nowhere.html")
        with pytest.raises(UserError, match="no such report"):
            self.run(folder, shards, "--overlap", "nowhere.json")
        with pytest.raises(DatasetError, match="no folder"):
            self.run(folder, shards, "--shards", "nowhere")
        with pytest.raises(UserError, match="no folder"):
            self.run(folder, shards, "--run", "nowhere")
        for path in folder.evaluation.iterdir():
            path.unlink()
        with pytest.raises(UserError, match=r"no evaluation.*(\n.*)*train with --eval-shards"):
            self.run(folder, shards)
        assert not (folder.root.parent / "pages" / "index.html").exists()
