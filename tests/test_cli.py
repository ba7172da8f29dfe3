"""The commands as a user types them: what they print, what they leave behind, how they end."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hqdata.problems import Problem, ProblemKind
from hqdata.shards.dataset import Dataset
from support.builds import bytes_of, hqdata, own_sources, write_recipe
from support.pictures import encode, photo


def _zipped(root: Path, target: Path) -> Path:
    """Every top-level folder of a data root as an archive of its own."""
    target.mkdir()
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        with zipfile.ZipFile(target / f"{folder.name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(p for p in folder.rglob("*") if p.is_file()):
                archive.write(file, file.relative_to(root))
    return target


@pytest.mark.parametrize("layout", ["official", "repack"])
def test_real_pictures_build_check_and_count_clean_from_folders_and_archives(
    arranged: dict[str, Path], tmp_path: Path, layout: str
) -> None:
    """Both layouts, as folders and zipped: exit 0, and one digest however it is packed."""
    zipped = _zipped(arranged[layout], tmp_path / "zipped")
    digests = set()
    for name, root in {"folder": arranged[layout], "zip": zipped}.items():
        for recipe in ("hqseg-44k", "evaluation"):
            out = tmp_path / f"{name}-{recipe}"
            arguments = ["--data-root", root, "--out", out, "--recipe", recipe, "--subset"]
            built = hqdata("build", *arguments)
            assert built.returncode == 0, built.stdout + built.stderr
            assert "digest" in built.stdout
            assert hqdata("check", out).returncode == 0
            assert hqdata("check", out, "--quick").returncode == 0
            stats = hqdata("stats", out)
            assert stats.returncode == 0, stats.stderr
            info = Dataset.open(out).info
            assert info.complete and info.num_problems == 0
            digests.add((recipe, info.digest))
    assert len(digests) == 2


def test_without_subset_a_part_of_the_release_is_not_complete(
    arranged: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    built = hqdata(
        "build", "--data-root", arranged["official"], "--out", out, "--include", "ecssd,dis5k"
    )
    assert built.returncode == 1
    assert "incomplete" in built.stdout
    info = json.loads((out / "dataset.json").read_text())
    assert info["complete"] is False
    assert info["sources"]["dis"]["train"] == {
        "expected": 3000,
        "built": 40,
        "rejected": 0,
        "dropped": 0,
    }
    kinds = {row["kind"] for row in _problems(out)}
    assert kinds == {"count_mismatch", "missing_name"}
    assert sum(row["kind"] == "missing_name" for row in _problems(out)) == 964
    checked = hqdata("check", out)
    assert checked.returncode == 1
    assert (
        "undamaged" in checked.stdout and "incomplete: dis train has 40 of 3,000" in checked.stdout
    )


def _problems(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (out / "problems.jsonl").read_text().splitlines()]


def _rewrite(path: Path, change: Callable[[Image.Image], Image.Image]) -> None:
    with Image.open(path) as image:
        changed = change(image)
    buffer = io.BytesIO()
    changed.save(buffer, "PNG" if path.suffix == ".png" else "JPEG")
    path.write_bytes(buffer.getvalue())


def _label_map(mask: Image.Image) -> Image.Image:
    gray = np.asarray(mask.convert("L"))
    colours = np.zeros((*gray.shape, 3), np.uint8)
    colours[: gray.shape[0] // 2] = (200, 30, 30)
    colours[gray > 128] = (20, 180, 60)
    return Image.fromarray(colours)


Damage = Callable[[Path, Path], object]

DAMAGES: dict[str, tuple[ProblemKind, Damage]] = {
    "mask deleted": (ProblemKind.MISSING_MASK, lambda image, mask: mask.unlink()),
    "image deleted": (ProblemKind.MISSING_IMAGE, lambda image, mask: image.unlink()),
    "image is text": (ProblemKind.UNREADABLE_IMAGE, lambda i, m: i.write_text("<html>404</html>")),
    "image empty": (ProblemKind.UNREADABLE_IMAGE, lambda i, m: i.write_bytes(b"")),
    "image cut short": (
        ProblemKind.TRUNCATED_IMAGE,
        lambda i, m: i.write_bytes(i.read_bytes()[: i.stat().st_size * 2 // 3]),
    ),
    "image with a hole": (
        ProblemKind.DAMAGED_IMAGE,
        lambda i, m: _cut_a_hole(i),
    ),
    "mask cut short": (
        ProblemKind.UNREADABLE_MASK,
        lambda i, m: m.write_bytes(m.read_bytes()[: m.stat().st_size // 2]),
    ),
    "mask of another size": (
        ProblemKind.SIZE_MISMATCH,
        lambda i, m: _rewrite(m, lambda x: x.resize((x.width // 2, x.height))),
    ),
    "mask all black": (
        ProblemKind.EMPTY_MASK,
        lambda i, m: _rewrite(m, lambda x: Image.new("L", x.size)),
    ),
    "mask a colour label map": (ProblemKind.AMBIGUOUS_MASK, lambda i, m: _rewrite(m, _label_map)),
    "image claims 100,000 x 100,000": (ProblemKind.TOO_LARGE, lambda i, m: _claim_huge(i)),
    "two images of one stem": (
        ProblemKind.DUPLICATE_KEY,
        lambda i, m: shutil.copy(i, i.with_suffix(".jpeg")),
    ),
    "a PNG called .jpg": (
        ProblemKind.MISLABELLED_FILE,
        lambda i, m: i.write_bytes(encode(photo(1), "PNG")),
    ),
    "a stray text file": (
        ProblemKind.STRAY_FILE,
        lambda i, m: (i.parent / "notes.txt").write_text("to do"),
    ),
}


def _cut_a_hole(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + data[len(data) * 3 // 5 :])


def _claim_huge(path: Path) -> None:
    data = bytearray(path.read_bytes())
    position = 2
    while data[position + 1] not in (0xC0, 0xC1, 0xC2):
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    data[position + 5 : position + 9] = (65_500).to_bytes(2, "big") * 2
    path.write_bytes(data)


def test_each_kind_of_damage_is_one_named_problem_and_the_rest_is_built(
    arranged: dict[str, Path], tmp_path: Path
) -> None:
    """Real pictures damaged in every way: exit 1, each named, nothing else lost."""
    root = tmp_path / "data"
    shutil.copytree(arranged["official"] / "DIS5K", root / "DIS5K")
    images = sorted((root / "DIS5K" / "DIS-TR" / "im").iterdir())
    expected: dict[str, ProblemKind] = {}
    for (kind, damage), image in zip(DAMAGES.values(), images, strict=False):
        mask = root / "DIS5K" / "DIS-TR" / "gt" / f"{image.stem}.png"
        damage(image, mask)
        name = "notes" if kind is ProblemKind.STRAY_FILE else image.stem
        expected[name] = kind
    out = tmp_path / "out"
    built = hqdata("build", "--data-root", root, "--include", "dis", "--subset", "--out", out)
    assert built.returncode == 1
    assert "Traceback" not in built.stderr
    problems = [Problem.from_dict(row) for row in _problems(out)]
    named = {Path(p.image or p.mask).stem: p.kind for p in problems}
    assert named == expected
    assert len(problems) == len(DAMAGES)
    lost = len(DAMAGES) - 1  # the stray file costs no sample
    counts = Dataset.open(out).info.sources["dis"]["train"]
    assert (counts.built, counts.rejected) == (40 - lost, lost)
    for kind in set(expected.values()):
        assert kind.value in built.stdout
    assert hqdata("check", out).returncode == 0


def test_with_nothing_there_it_says_what_is_missing_and_where_to_get_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    built = hqdata("build", "--out", out, "--data-root", _empty(tmp_path))
    assert built.returncode == 2
    for text in ("DIS5K.zip", "3,529,707,387 bytes", "https://", "hqdata mini", "make demo"):
        assert text in built.stderr
    for name in ("dis", "thinobject", "fss", "duts", "ecssd", "msra"):
        assert name in built.stderr
    assert "Traceback" not in built.stderr
    assert not out.exists()


def _empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_the_data_root_comes_from_the_environment_too(tmp_path: Path) -> None:
    own_sources(tmp_path / "data", {"mine": 2})
    recipe = write_recipe(tmp_path / "own.yaml", ["mine"])
    out = tmp_path / "out"
    built = hqdata("build", "--recipe", recipe, "--out", out, HQDATA_ROOT=str(tmp_path / "data"))
    assert built.returncode == 0, built.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["build", "--out", "x", "--recipe", "hqseg44k"], "did you mean 'hqseg-44k'?"),  # recipe
        (["build", "--out", "x", "--exclude", "ecsd"], "did you mean 'ecssd'?"),  # source
        (["build", "--out", "x", "--data-root", "no/where"], "not a folder"),  # data root
        (["build", "--out", "x", "--use", "dis"], "expected SOURCE=PATH"),  # form of --use
        (["build", "--out", "x", "--recipe", "no/such.yaml"], "no such recipe file"),  # path
        (["check", "no/where"], "there is no folder"),  # no data set
        (["stats", "no/where"], "there is no folder"),  # no data set either
        (["mini", "--out", "x", "--scale", "huge"], "scale"),  # scale
        (["build"], "--out"),  # option missing
        (["bulid"], "build"),  # command
    ],
)
def test_a_mistake_gets_one_message_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = hqdata(*arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_two_places_for_one_source_are_a_question(
    arranged: dict[str, Path], tmp_path: Path
) -> None:
    root = tmp_path / "data"
    for place in ("old", "new"):
        shutil.copytree(arranged["official"] / "ECSSD", root / place / "ECSSD")
    arguments = ["build", "--data-root", root, "--include", "ecssd", "--subset"]
    asked = hqdata(*arguments, "--out", tmp_path / "out")
    assert asked.returncode == 2
    assert "old/ECSSD" in asked.stderr and "new/ECSSD" in asked.stderr
    assert "--use ecssd=" in asked.stderr
    answered = hqdata(*arguments, "--out", tmp_path / "out", "--use", "ecssd=new")
    assert answered.returncode == 0, answered.stderr
    assert "new/ECSSD" in answered.stderr


def test_the_overview_lists_every_source_with_layout_and_counts(arranged: dict[str, Path]) -> None:
    shown = hqdata("sources", "--data-root", arranged["repack"])
    assert shown.returncode == 0, shown.stdout
    assert "sam-hq repack" in shown.stdout
    assert "10,553" in shown.stdout


def test_the_stand_in_goes_the_whole_way(tmp_path: Path) -> None:
    """mini, build, check, stats with a page, for both kinds of sets: complete and clean."""
    data = tmp_path / "data-mini"
    made = hqdata("mini", "--out", data)
    assert made.returncode == 0, made.stderr
    for recipe, count in (("mini", 176), ("mini-evaluation", 24)):
        out = tmp_path / recipe
        built = hqdata("build", "--data-root", data, "--recipe", recipe, "--out", out)
        assert built.returncode == 0, built.stdout + built.stderr
        assert f"{count} samples" in built.stdout
        assert hqdata("check", out).returncode == 0
        page = tmp_path / f"{recipe}.html"
        assert hqdata("stats", out, "--html", page).returncode == 0
        assert page.read_text().startswith("<!doctype html>")
    table = pq.read_table(tmp_path / "mini" / "samples.parquet")
    assert len(set(table["key"].to_pylist())) == 176
    again = hqdata("build", "--data-root", data, "--recipe", "mini", "--out", tmp_path / "mini")
    assert "0 written" in again.stdout
    before = bytes_of(tmp_path / "mini")
    assert hqdata("build", "--data-root", data, "--recipe", "mini", "--out", tmp_path / "again")
    assert bytes_of(tmp_path / "again") == before


def test_a_broken_pipe_is_no_traceback(arranged: dict[str, Path]) -> None:
    import subprocess

    from support.builds import child_environment, command

    words = command("sources", "--data-root", arranged["official"])
    run = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=child_environment()
    )
    assert run.stdout is not None and run.stderr is not None
    run.stdout.close()
    said = run.stderr.read()
    run.stderr.close()
    run.wait(60)
    assert "Traceback" not in said
