"""What the documentation says is so: commands parse, tables fit the code, snippets run."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from hqdata.catalogue import registry
from hqdata.cli import app
from hqdata.mini import make_mini
from hqdata.overlap.edits import EDITS
from hqdata.overlap.facts import thresholds
from hqdata.overlap.report import (
    EvaluationImage,
    EvaluationSet,
    Kind,
    OverlapReport,
    Pair,
    Recall,
    Unread,
    Verdict,
)
from hqdata.overview import overview
from hqdata.problems import ProblemKind
from hqdata.progress import Silent
from hqdata.recipe import load_recipe
from hqdata.resolve import resolve
from hqdata.resources import manifests_dir
from hqdata.sample import Record
from hqdata.shards.dataset import SAMPLES_SCHEMA, DatasetInfo
from support.builds import hqdata as run_hqdata
from support.pictures import write_pair
from training.config import make_config
from training.evaluate import app as evaluate_app
from training.flags import given_values
from training.model.backbones import BACKBONES
from training.model.hq_decoder import HqDecoder
from training.overview import app as overview_app
from training.predict import app as predict_app
from training.pretrain import app as pretrain_app
from training.train import make_parser as train_parser

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])
NAMES = [path.relative_to(REPOSITORY).as_posix() for path in PAGES]
LANGUAGES_OF_COMMANDS = ("sh", "console")


def text_of(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def blocks(name: str, *languages: str) -> list[str]:
    """Fenced blocks of these languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", text_of(name), re.DOTALL | re.MULTILINE)
    return [body for language, body in found if language in languages]


def prose(name: str) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text_of(name), flags=re.DOTALL | re.MULTILINE)


def section(name: str, title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text_of(name), re.DOTALL | re.M)
    assert found, f"{name} has no section {title!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Cells of the first table, without its heading."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def commands_in_blocks() -> Iterator[tuple[str, str]]:
    for name in NAMES:
        for body in blocks(name, *LANGUAGES_OF_COMMANDS):
            for line in body.splitlines():
                found = re.match(r"(?:\$ )?hqdata (.*)", line)
                if found:
                    yield name, found[1]


def commands_in_prose() -> Iterator[tuple[str, str]]:
    for name in NAMES:
        for code in re.findall(r"`hqdata ([^`]*)`", prose(name)):
            yield name, code


@pytest.mark.parametrize(("page", "line"), list(commands_in_blocks()))
def test_every_command_line_of_a_block_parses(page: str, line: str) -> None:
    name, *arguments = shlex.split(line, comments=True)
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    command.make_context(name, arguments)


@pytest.mark.parametrize(("page", "code"), list(commands_in_prose()))
def test_every_command_of_the_prose_exists_with_its_options(page: str, code: str) -> None:
    name, *arguments = shlex.split(code)
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {a for a in arguments if a.startswith("--")} <= known


APPS = {
    "evaluate": evaluate_app,
    "overview": overview_app,
    "predict": predict_app,
    "pretrain": pretrain_app,
}
"""The trainer's commands but for `train`, which has a parser of its own."""


def commands_of_the_trainer() -> Iterator[tuple[str, str, str]]:
    """Page, module and arguments of each line that runs the trainer."""
    for name in NAMES:
        for body in blocks(name, *LANGUAGES_OF_COMMANDS):
            for line in body.replace("\\\n", " ").splitlines():
                found = re.search(r"-m training\.(\w+)(.*)", line)
                if found:
                    yield name, found[1], found[2]
        for code in re.findall(r"`[^`]*-m training\.([^`]*)`", prose(name)):
            module, _, rest = code.partition(" ")
            yield name, module, rest


@pytest.mark.parametrize(("page", "module", "line"), list(commands_of_the_trainer()))
def test_every_command_of_the_trainer_parses(page: str, module: str, line: str) -> None:
    arguments = [a for a in shlex.split(line, comments=True) if a != "..."]
    if module == "train":
        if arguments != ["--help"]:
            values = given_values(train_parser().parse_args(arguments))
            make_config(values, page)
        return
    command = typer.main.get_command(APPS[module])
    if arguments:  # in the prose a command may stand for itself
        command.make_context(module, arguments)


def test_the_pages_show_every_command_of_the_trainer() -> None:
    assert {module for _, module, _ in commands_of_the_trainer()} == {"train", *APPS}


def test_the_figures_of_the_base_are_those_of_the_last_evaluation_in_its_log() -> None:
    log = [json.loads(line) for line in text_of("docs/vit_micro-log.jsonl").splitlines()]
    last = max(line["step"] for line in log)
    lines = [line for line in log if line["step"] == last and "loss" not in line]
    figures = {one.get("set", "drawn scenes"): one.get("scenes", one) for one in lines}
    told = {
        name: (
            f"{100 * one['box_iou']:.1f} / {100 * one['box_boundary_iou']:.1f}",
            f"{100 * one['iou']:.1f} / {100 * one['boundary_iou']:.1f}",
        )
        for name, one in figures.items()
    }
    table = rows(section("docs/miniature.md", "vit_micro"))
    assert len(told) > 5
    assert {row[0]: tuple(row[1:]) for row in table} == told


def test_trained_parameters_are_those_of_the_code() -> None:
    table = rows(text_of("docs/training.md").partition("## Train")[0])
    told = {row[0].strip("`"): int(row[3].replace(",", "")) for row in table}
    counted = {
        name: sum(p.numel() for p in HqDecoder(backbone.early_dim).parameters())
        for name, backbone in BACKBONES.items()
    }
    assert told == counted


def test_every_option_alone_in_the_prose_of_training_is_one_of_its_commands() -> None:
    known = set(train_parser().format_help().replace(",", " ").split())
    for own in (evaluate_app, predict_app, overview_app):
        known |= {o for p in typer.main.get_command(own).params for o in p.opts}
    named = set(re.findall(r"`(--[a-z-]+)", prose("docs/training.md")))
    assert len(named) > 10
    assert named <= known


def test_every_option_alone_in_the_prose_is_one_of_hqdata() -> None:
    commands = typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]
    known = {o for command in commands for p in command.params for o in p.opts}
    pages = (
        "README.md",
        "docs/problems.md",
        "docs/sources.md",
        "docs/evaluation-sets.md",
        "docs/overlap.md",
    )
    for name in pages:
        assert set(re.findall(r"`(--[a-z-]+)", prose(name))) <= known


def test_commands_are_found_at_all() -> None:
    named = {line.split()[0] for _, line in commands_in_blocks()}
    ours = {"sources", "build", "check", "stats", "fingerprint", "verify-no-overlap"}
    assert named == ours | {"push", "pull", "fetch", "mini"}
    assert "mini" in {code.split()[0] for _, code in commands_in_prose()}


@pytest.mark.parametrize("name", NAMES)
def test_make_targets_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", text_of(name))) <= targets


@pytest.mark.parametrize("name", NAMES)
def test_links_and_paths_lead_somewhere(name: str) -> None:
    text = prose(name)
    here = (REPOSITORY / name).parent
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        if not link.startswith(("http://", "https://")):
            assert (here / link).exists(), link
    folders = "benchmarks|docs|hqdata|manifests|recipes|tests|training"
    for path in re.findall(rf"`((?:{folders})/[\w./*-]+)`", text):
        if "kites" not in path:  # the imaginary set
            assert list(REPOSITORY.glob(path)), path


@pytest.mark.parametrize("name", NAMES)
def test_lines_of_prose_are_short(name: str) -> None:
    too_long = [
        line
        for line in text_of(name).splitlines()
        if len(line) > 110 and not line.startswith("|") and "](" not in line
    ]
    assert not too_long


def test_every_kind_of_problem_has_a_section_with_an_example() -> None:
    page = "docs/problems.md"
    titles = re.findall(r"^## (.*)$", text_of(page), re.MULTILINE)
    assert sorted(titles) == sorted(kind.value for kind in ProblemKind)
    for kind in ProblemKind:
        about = section(page, kind.value)
        assert f'"kind": "{kind.value}"' in about
        assert "Typical cause:" in about
        assert "To do:" in about


def test_record_fields_are_those_of_the_code() -> None:
    table = rows(section("docs/shard-format.md", "Record"))
    of_type = {int: "integer", float: "number", str: "string"}
    told = {row[0].strip("`"): row[1] for row in table}
    assert told == {
        name: of_type.get(field.annotation, "4 integers")  # type: ignore[arg-type]
        for name, field in Record.model_fields.items()
    }


def test_columns_are_those_of_the_code_in_order() -> None:
    table = rows(section("docs/shard-format.md", "samples.parquet"))
    told = [(row[0].strip("`"), row[1]) for row in table]
    assert told == [(f.name, re.sub(r"<\w+: ", "<", str(f.type))) for f in SAMPLES_SCHEMA]
    assert not any(field.nullable for field in SAMPLES_SCHEMA)


def test_fields_of_dataset_json_are_those_of_the_code_in_order() -> None:
    table = rows(section("docs/shard-format.md", "dataset.json"))
    assert [row[0].strip("`") for row in table] == list(DatasetInfo.model_fields)


@pytest.mark.parametrize(
    ("title", "model"),
    [
        ("overlap.json", OverlapReport),
        ("A pair", Pair),
        ("An evaluation set", EvaluationSet),
        ("An evaluation picture", EvaluationImage),
        ("An unread picture", Unread),
        ("A row of the self-test", Recall),
    ],
)
def test_fields_of_overlap_json_are_those_of_the_code_in_order(title: str, model: Any) -> None:
    page, level = "docs/overlap.md", "##" if title == "overlap.json" else "###"
    found = re.search(
        rf"^{level} {re.escape(title)}\n(.*?)(?=^##|\Z)", text_of(page), re.DOTALL | re.M
    )
    assert found, title
    assert [row[0].strip("`") for row in rows(found[1])] == list(model.model_fields)


def test_numbers_kinds_and_verdicts_of_a_proof_are_those_of_the_code() -> None:
    page = "docs/overlap.md"
    numbers = rows(section(page, "The numbers that decide"))
    assert [row[0].strip("`") for row in numbers] == list(thresholds())
    kinds = rows(section(page, "What a pair is called"))
    assert [row[0].strip("`") for row in kinds] == list(get_args(Kind))
    verdicts = rows(section(page, "Verdict and exit status"))
    assert [row[1].strip("`") for row in verdicts][: len(get_args(Verdict))] == list(
        get_args(Verdict)
    )


def test_edits_of_the_self_test_are_those_of_the_code_with_their_recall() -> None:
    table = rows(section("docs/overlap.md", "The self-test"))
    assert [(row[0], row[1]) for row in table] == [(e.name, f"{e.recall:.1%}") for e in EDITS]


def test_the_page_of_sources_is_up_to_date() -> None:
    page = runpy.run_path(str(REPOSITORY / "docs" / "make_sources_page.py"))["page"]()
    assert page == text_of("docs/sources.md"), "run: python docs/make_sources_page.py"


def test_the_recipe_of_the_readme_is_valid(tmp_path: Path) -> None:
    (body,) = blocks("README.md", "yaml")
    path = tmp_path / "wires.yaml"
    path.write_text(body, encoding="utf-8")
    resolved = resolve(load_recipe(path))
    assert [(s.source, s.split, s.expect) for s in resolved.splits] == [
        ("wires", "train", 6),
        ("ecssd", "all", None),
    ]


def test_the_worked_example_of_a_source_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (body,) = (b for b in blocks("CONTRIBUTING.md", "yaml") if "short_name" in b)
    shutil.copytree(manifests_dir(), tmp_path / "manifests")
    (tmp_path / "manifests" / "kites.yaml").write_text(body, encoding="utf-8")
    folder = tmp_path / "data" / "kites_train"
    for number in range(5):
        write_pair(folder, folder, f"kite_{number}", number)
    with monkeypatch.context() as patch:
        patch.setattr(registry, "manifests_dir", lambda: tmp_path / "manifests")
        registry.load_manifests.cache_clear()
        lines = overview(tmp_path / "data", [], Silent()).lines
    registry.load_manifests.cache_clear()
    found = {(x.source, x.split): (x.status, x.pairs, x.layout) for x in lines}
    assert found["kites", "train"] == ("found", 5, "flat")
    assert found["kites", "test"][0] == "missing"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that holds `shards/`, as the snippets expect it: DIS5K and ECSSD of the stand-in."""
    root = tmp_path_factory.mktemp("docs")
    make_mini(root / "data", workers=1, sets={"dis", "ecssd"})
    done = run_hqdata(
        "build", "--recipe", "mini", "--include", "dis,ecssd", "--data-root", root / "data",
        "--out", root / "shards", "--workers", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return root


def run_snippet(body: str, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", body, *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", range(4), ids=["webdataset", "datasets", "timm", "pyarrow"])
def test_the_snippets_of_the_readme_read_the_shards(
    number: int, shards: Path, request: pytest.FixtureRequest
) -> None:
    snippets = [text for text in blocks("README.md", "python") if "me/hqseg-44k" not in text]
    assert len(snippets) == 4
    pytest.importorskip(request.node.callspec.id)
    run_snippet(snippets[number], shards)


def test_the_snippets_of_the_format_read_the_shards(shards: Path) -> None:
    pixel_digest, verifier = blocks("docs/shard-format.md", "python")
    run_snippet(pixel_digest, shards)
    assert run_snippet(verifier, shards, "shards").startswith("40 samples, ")


def test_the_shell_finds_the_digest(shards: Path) -> None:
    (line,) = blocks("docs/shard-format.md", "sh")
    done = subprocess.run(line, shell=True, cwd=shards, capture_output=True, text=True, check=True)
    assert f'"digest": "{done.stdout.split()[0]}"' in (shards / "shards/dataset.json").read_text()
