"""Flags are made from the config, one for each value."""

from __future__ import annotations

import pytest

from hqdata.errors import UserError
from training.config import TrainConfig
from training.flags import Parser, add_config_flags, given_values, parse


@pytest.fixture
def parser() -> Parser:
    made = Parser(prog="train", allow_abbrev=False)
    add_config_flags(made)
    return made


def values(parser: Parser, *arguments: str) -> dict[str, object]:
    return given_values(parse(parser, arguments))


def test_every_value_has_a_flag_and_a_sentence_in_the_help(parser: Parser):
    text = parser.format_help()
    for name in TrainConfig.model_fields:
        assert "--" + name.replace("_", "-") in text
        assert TrainConfig.model_fields[name].description


def test_nothing_given_is_nothing_set(parser: Parser):
    assert values(parser) == {}


def test_values_arrive_under_their_names(parser: Parser):
    given = values(parser, "--batch-size", "8", "--lr", "3e-4", "--compile", "--out", "x")
    config = TrainConfig.model_validate(given)
    assert (config.batch_size, config.lr, config.compile, str(config.out)) == (8, 3e-4, True, "x")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--exclude", "dis", "--exclude", "fss"),
        ("--exclude", "dis,fss"),
        ("--exclude=dis, fss",),
    ],
)
def test_names_may_be_repeated_or_listed(parser: Parser, arguments: tuple[str, ...]):
    assert values(parser, *arguments) == {"exclude": ("dis", "fss")}


def test_a_switch_can_be_turned_off(parser: Parser):
    assert values(parser, "--no-compile") == {"compile": False}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--batchsize", "8"), "did you mean '--batch-size'"),
        (("--exlude=dis",), "did you mean '--exclude'"),
        (("--lr",), "expected one argument"),
        (("dis",), "unrecognized arguments: dis"),
    ],
)
def test_a_wrong_flag_is_a_clear_error(parser: Parser, arguments: tuple[str, ...], said: str):
    with pytest.raises(UserError, match=said):
        parse(parser, arguments)
