"""Small sources of one's own, and builds of them."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hqdata.build.run import BuildOptions, BuildResult, build
from hqdata.recipe import Recipe, RecipeSource
from hqdata.resolve import ResolvedRecipe, resolve
from support.pictures import write_pair

REPOSITORY = Path(__file__).resolve().parents[2]


def own_sources(root: Path, counts: dict[str, int], *, width: int = 96, height: int = 64) -> Path:
    """Makes `root/<name>/images` and `masks` with that many pairs for each name."""
    for number, (name, count) in enumerate(counts.items()):
        for index in range(count):
            images, masks = root / name / "images", root / name / "masks"
            write_pair(images, masks, f"Pic {index:03d}", 100 * number + index, width, height)
    return root


def own_recipe(names: Sequence[str], **settings: object) -> ResolvedRecipe:
    """A recipe of such folders."""
    sources = tuple(
        RecipeSource(source=name, images=f"{name}/images", masks=f"{name}/masks", licence="CC0-1.0")
        for name in names
    )
    return resolve(Recipe.model_validate({"name": "own", "sources": sources, **settings}))


def write_recipe(path: Path, names: Sequence[str], *lines: str) -> Path:
    """The same as a YAML file, for the command line."""
    listed = [f"  - {{source: {n}, images: {n}/images, masks: {n}/masks}}" for n in names]
    text = "\n".join(["name: own", "sources:", *listed, *lines])
    path.write_text(text + "\n", encoding="utf-8")
    return path


def build_own(
    root: Path, out: Path, names: Sequence[str], *, workers: int = 1, **settings: object
) -> BuildResult:
    """Builds `own_recipe` from `root`."""
    return build(own_recipe(names, **settings), root, out, BuildOptions(workers=workers))


def bytes_of(out: Path) -> dict[str, str]:
    """Digest of every file of a data set but the build's own state."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".hqdata" not in path.parts
    }


def hqdata(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=240,
        env=child_environment(**environment),
    )


def command(*arguments: str | Path) -> list[str]:
    """The command line as a list of words."""
    return [sys.executable, "-m", "hqdata", *map(str, arguments)]


def heed_ctrl_c() -> None:
    """For `preexec_fn`: what a shell starts in the background ignores SIGINT otherwise."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def child_environment(**extra: str) -> dict[str, str]:
    """The environment with this checkout's package first, and without a data root of the user's."""
    kept = {name: value for name, value in os.environ.items() if name != "HQDATA_ROOT"}
    path = os.pathsep.join(filter(None, [str(REPOSITORY), kept.get("PYTHONPATH", "")]))
    return {**kept, "PYTHONPATH": path, **extra}
