"""Results as tables and files, with the paper's figures beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hqdata.errors import UserError
from support.evaluations import result
from training import paper
from training.results import (
    Results,
    lines,
    make_results,
    notes,
    read_results,
    to_markdown,
    to_table,
    write_results,
)

FOUR = result(
    dis_validation=(0.6, 0.8),
    coift_all=(0.9, 0.85),
    hrsod_all=(0.8, 0.85),
    thinobject_test=(0.7, 0.9),
)
DEFAULT = ("dis/train", "duts/test", "duts/train", "thinobject/train")


def results(**changes: Any) -> Results:
    values = {
        "model": "vit_l",
        "weights": "best.safetensors",
        "trained_on": DEFAULT,
        "dataset": "evaluation",
        "dataset_digest": "0" * 64,
        "prompt": "box",
        "precision": "fp32",
    }
    return make_results(changes.pop("result", FOUR), **{**values, **changes})


def rows(**changes: Any) -> dict[str, tuple[str, ...]]:
    return {
        line.name: (line.sam, line.hq, line.gain, line.paper_sam, line.paper_hq)
        for line in lines(results(**changes))
    }


def test_the_paper_s_means_are_those_of_its_sets() -> None:
    for mean, method in ((paper.MEAN.sam, "sam"), (paper.MEAN.hq, "hq")):
        own = [getattr(row, method) for row in paper.BY_SET.values()]
        assert mean.miou == pytest.approx(sum(s.miou for s in own) / 4, abs=0.00051)
        assert mean.mbiou == pytest.approx(sum(s.mbiou for s in own) / 4, abs=0.00051)
    assert set(paper.BY_SET) == set(paper.FOUR_SETS) == set(paper.TITLES)


def test_sets_that_were_trained_on_stand_in_parentheses() -> None:
    assert rows() == {
        "COIFT": ("90.0 / 45.0", "85.0 / 42.5", "-5.0 / -2.5", "92.1 / 86.5", "94.8 / 90.1"),
        "DIS-VD": ("60.0 / 30.0", "(80.0 / 40.0)", "+20.0 / +10.0", "62.0 / 52.8", "(78.6 / 70.4)"),
        "HRSOD": ("80.0 / 40.0", "85.0 / 42.5", "+5.0 / +2.5", "90.2 / 83.1", "93.6 / 86.9"),
        "ThinObject5K-TE": (
            "70.0 / 35.0", "(90.0 / 45.0)", "+20.0 / +10.0", "73.6 / 61.8", "(89.5 / 79.9)",
        ),
        "mean": ("75.0 / 37.5", "(85.0 / 42.5)", "+10.0 / +5.0", "79.5 / 71.1", "(89.1 / 81.8)"),
        "mean, zero-shot sets": ("85.0 / 42.5", "85.0 / 42.5", "+0.0 / +0.0", "", ""),
    }  # fmt: skip


def test_a_family_that_was_left_out_is_zero_shot() -> None:
    found = rows(trained_on=("thinobject/train", "duts/train"))
    assert found["DIS-VD"][1] == "80.0 / 40.0"
    assert found["ThinObject5K-TE"][1] == "(90.0 / 45.0)"
    everything = rows(trained_on=("duts/train",))
    assert everything["mean"][1] == "85.0 / 42.5"
    assert "mean, zero-shot sets" not in everything


def test_an_unknown_training_set_is_said_to_be_unknown() -> None:
    assert rows(trained_on=None)["COIFT"][1] == "85.0 / 42.5 ?"
    assert any("unknown" in note for note in notes(results(trained_on=None)))
    assert "trained on is unknown" in to_markdown(results(trained_on=None))


@pytest.mark.parametrize(
    "changes",
    [{"model": "vit_b"}, {"prompt": "points:5"}, {"prompt": "box, noise 0.4"}],
    ids=["another backbone", "points", "noise"],
)
def test_the_paper_s_figures_stand_only_beside_what_they_compare_with(
    changes: dict[str, str],
) -> None:
    assert all(row[3:] == ("", "") for row in rows(**changes).values())
    assert "paper |" not in to_markdown(results(**changes))


def test_the_paper_s_mean_is_that_of_its_four_sets() -> None:
    some = result(dis_validation=(0.6, 0.8), coift_all=(0.9, 0.85))
    assert rows(result=some)["mean"][3:] == ("", "")
    own = rows(result=result(mine_all=(0.5, 0.6)))
    assert own == {"mine/all": ("50.0 / 25.0", "60.0 / 30.0", "+10.0 / +5.0", "", "")}


def test_the_file_is_read_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for trained_on in (DEFAULT, None):
        write_results(path, results(trained_on=trained_on))
        again = read_results(path)
        assert again == results(trained_on=trained_on)
        assert again.result == FOUR
    document = json.loads(path.read_bytes())
    assert document["means"]["dis/validation/hq_miou"] == pytest.approx(0.8)
    assert len(document["images"]) == 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "no JSON"),
        (b'{"version": 2}', "version 2"),
        (b"[]", "version None"),
        (b'{"version": 1, "model": 3}', "not valid"),
    ],
    ids=["cut off", "another version", "another document", "missing fields"],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_results(path)
    with pytest.raises(UserError, match="cannot read"):
        read_results(tmp_path / "none.json")


def test_the_tables_show_the_same_rows() -> None:
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(to_table(results()))
    text, markdown = console.export_text(), to_markdown(results())
    for row in rows().values():
        for cell in row:
            assert cell in text
            assert cell in markdown
    header, rule, *rest = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in (header, rule, *rest)} == {8}
    assert len(rest) == 6


def test_images_without_an_object_are_told() -> None:
    import dataclasses

    from training.scores import collect

    images = [image for one in FOUR.sets for image in one.images]
    images[0] = dataclasses.replace(images[0], has_object=False)
    told = notes(results(result=collect(images)))
    assert any("1 images have no object" in note for note in told)


class TestATokenTrainedOnSa1b:
    """The ablation of the paper: a token that saw none of the finely masked sets."""

    OF_SA_1B = ("sa1b/train",)

    def test_everything_is_zero_shot(self) -> None:
        found = rows(trained_on=self.OF_SA_1B)
        assert found["DIS-VD"][1] == "80.0 / 40.0"
        assert found["mean"][1] == "85.0 / 42.5"

    def test_the_paper_gives_the_mean_of_its_own_and_nothing_else(self) -> None:
        found = rows(trained_on=self.OF_SA_1B)
        assert found["mean"][3:] == ("79.5 / 71.1", "78.3 / 70.1")
        assert found["DIS-VD"][3:] == ("62.0 / 52.8", "")
        said = notes(results(trained_on=self.OF_SA_1B))
        assert any("trained on 44 thousand images of SA-1B" in note for note in said)

    def test_with_other_sources_it_is_no_ablation(self) -> None:
        found = rows(trained_on=("sa1b/train", "dis/train"))
        assert found["mean"][4] == "(89.1 / 81.8)"

    def test_the_recipe_is_told(self, tmp_path: Path) -> None:
        made = results(trained_on=self.OF_SA_1B, recipe="sa1b-44k")
        assert "Trained on sa1b/train (recipe sa1b-44k)." in notes(made)
        write_results(tmp_path / "r.json", made)
        assert read_results(tmp_path / "r.json") == made
