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

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "resources"),
    ("problems", "progress", "files", "yaml_files", "codecs", "by_pillow", "storage"),
    ("fingerprint", "sample"),
    ("archives", "parallel", "catalogue", "orientation", "pictures"),
    ("mask_levels", "mask_colours", "mask_figures", "masks"),
    ("scan", "recipe", "resolve", "normalise"),
    ("sources", "shards"),
    ("build", "overlap", "report", "mini", "overview"),
    ("cli", "cli_common", "cli_overlap"),
)
"""Top-level modules and sub-packages, the lowest first; each may import its own layer and below."""

RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def _imports(path: Path) -> set[str]:
    """Modules of this package that a file imports, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hqdata."):
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.startswith("hqdata.")}
    return found


MODULES = {
    ".".join(("hqdata", *path.relative_to(PACKAGE).with_suffix("").parts)): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name not in ("__init__.py", "__main__.py")
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_its_own_layer_and_below(name: str) -> None:
    own = RANK[name.split(".")[1]]
    for imported in _imports(MODULES[name]):
        assert RANK[imported.split(".")[1]] <= own, f"{name} imports {imported}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name: _imports(path) & set(MODULES) for name, path in MODULES.items()}
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
    names = ", ".join(sorted(MODULES))
    heavy = ("torch", "datasets", "webdataset", "timm")
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
