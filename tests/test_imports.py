"""Imports run one way: from the command line down to the errors, never back, never in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hqdata
from support.builds import child_environment

PACKAGE = Path(hqdata.__file__).resolve().parent
TRAINER = PACKAGE.parent / "training"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "resources"),
    ("problems", "progress", "files", "yaml_files", "codecs", "by_pillow", "storage", "remote"),
    ("fingerprint", "sample", "sampling", "claims", "places"),
    ("archives", "parallel", "threads", "catalogue", "orientation", "pictures"),
    ("mask_levels", "mask_colours", "mask_figures", "masks", "rle"),
    ("scan", "recipe", "resolve", "normalise"),
    ("sources", "shards", "bundles"),
    ("build", "overlap", "report", "mini", "overview"),
    ("hub",),
    ("cli", "cli_build", "cli_common", "cli_overlap", "cli_pull", "cli_push"),
)
"""Top-level modules and sub-packages, the lowest first; each may import its own layer and below."""

TRAINER_LAYERS: tuple[tuple[str, ...], ...] = (
    ("config", "prompts", "uniforms", "metrics", "scores", "paper", "run_chart"),
    ("distributed", "journal", "flags", "loss", "results", "page", "cli_common"),
    ("model",),
    ("data",),
    ("snapshot", "eval_samples", "feature_cache", "inference"),
    ("run_folder", "evaluation"),
    ("pictures", "loading", "loop", "setup", "pretraining"),
    ("observe",),
    ("train", "evaluate", "predict", "pretrain", "overview"),
)
"""The same of the trainer."""

BEYOND_SHARDS = {("training.overview", "hqdata.overlap.report")}
"""What it reads of the data package beside shards: the page of all reads the proof, too."""

RANK = {
    f"{package}.{name}": rank
    for package, layers in (("hqdata", LAYERS), ("training", TRAINER_LAYERS))
    for rank, layer in enumerate(layers)
    for name in layer
}


def _imports(path: Path, package: str) -> set[str]:
    """Modules of a package that a file imports, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}."):
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.startswith(f"{package}.")}
    return found


def _modules(root: Path) -> dict[str, Path]:
    return {
        ".".join((root.name, *path.relative_to(root).with_suffix("").parts)): path
        for path in sorted(root.rglob("*.py"))
        if path.name not in ("__init__.py", "__main__.py")
    }


def _unit(module: str) -> str:
    """`hqdata.shards.writer` as `hqdata.shards`."""
    return ".".join(module.split(".")[:2])


DATA_MODULES, TRAINER_MODULES = _modules(PACKAGE), _modules(TRAINER)
MODULES = DATA_MODULES | TRAINER_MODULES


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_its_own_layer_and_below(name: str) -> None:
    package = name.partition(".")[0]
    for imported in _imports(MODULES[name], package):
        assert RANK[_unit(imported)] <= RANK[_unit(name)], f"{name} imports {imported}"


@pytest.mark.parametrize("name", TRAINER_MODULES)
def test_the_trainer_meets_the_data_package_at_its_shards(name: str) -> None:
    for imported in _imports(TRAINER_MODULES[name], "hqdata"):
        if (name, imported) in BEYOND_SHARDS:
            continue
        assert RANK[_unit(imported)] <= RANK["hqdata.shards"], f"{name} imports {imported}"


@pytest.mark.parametrize("name", DATA_MODULES)
def test_the_data_package_knows_nothing_of_the_trainer(name: str) -> None:
    assert _imports(DATA_MODULES[name], "training") == set()


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {
        name: _imports(path, name.partition(".")[0]) & set(MODULES)
        for name, path in MODULES.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for imported in sorted(graph[name]):
                visit(imported, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_data_package_imports_without_torch_and_without_the_loaders() -> None:
    names = ", ".join(sorted(DATA_MODULES))
    heavy = ("torch", "datasets", "webdataset", "timm", "huggingface_hub")
    heavy += ("fsspec", "s3fs", "ray")
    code = f"import sys, {names}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=child_environment(),
    )
    assert done.stdout.strip() == "[]"


def test_files_stay_short() -> None:
    """A file that grows past about 400 lines is usually two ideas."""
    long = {
        name: count
        for name, path in MODULES.items()
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 420
    }
    assert long == {}
