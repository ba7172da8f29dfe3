"""YAML that people write: what the parser would pass over is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from hqdata.errors import UserError
from hqdata.recipe import load_recipe
from hqdata.resolve import resolve
from hqdata.yaml_files import read_yaml


def test_a_key_that_stands_twice_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: a\nseed: 1\nseed: 2\n")
    with pytest.raises(UserError, match=r"'seed' stands there twice \(line 3"):
        read_yaml(path, "a recipe")


def test_anchors_and_merge_keys_still_work(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("a: &a {x: 1}\nb:\n  <<: *a\n  y: 2\n")
    assert read_yaml(path, "a file") == {"a": {"x": 1}, "b": {"x": 1, "y": 2}}


@pytest.mark.parametrize("count", ["true", "0", "-3", "2.5"])
def test_a_count_is_a_positive_whole_number(tmp_path: Path, count: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"name: a\nsources:\n  - {{source: ecssd, expect: {count}}}\n")
    with pytest.raises(UserError, match="not valid"):
        load_recipe(path)


def test_an_extending_recipe_may_say_anew_what_it_expects_of_a_source(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: a\nextends: hqseg-44k\nsources:\n"
        "  - {source: dis5k, splits: [train], expect: {train: 12}}\n"
    )
    counts = {(s.source, s.split): s.expect for s in resolve(load_recipe(path)).splits}
    assert counts[("dis", "train")] == 12
    assert counts[("ecssd", "all")] == 1000
    assert len(counts) == 7
