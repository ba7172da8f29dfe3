"""Flags for every value of the config, made from the config itself."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from pydantic_core import PydanticUndefined

from hqdata.errors import UserError, nearest
from training.config import TrainConfig


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are errors like all others."""

    def error(self, message: str) -> NoReturn:
        """Raises a UserError, with the nearest flag where one is unknown."""
        unknown = message.removeprefix("unrecognized arguments: ").split()
        if unknown and unknown[0].startswith("-") and "unrecognized" in message:
            flags = [name for action in self._actions for name in action.option_strings]
            name = unknown[0].partition("=")[0]
            message = f"unknown flag {name!r}{nearest(name, flags)}"
        raise UserError(message, do=f"see all flags: {self.prog} --help")


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for each value; only those that were given appear in the parsed namespace."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, field in TrainConfig.model_fields.items():
        extra = field.json_schema_extra
        title = str(extra["group"]) if isinstance(extra, dict) else "other"
        group = groups.setdefault(title, parser.add_argument_group(title))
        default = field.default
        text = str(field.description)
        if default not in (None, (), PydanticUndefined):
            shown = ",".join(default) if isinstance(default, tuple) else default
            text += f" [{shown}]"
        flag = "--" + name.replace("_", "-")
        options: dict[str, Any] = {
            "dest": name,
            "default": argparse.SUPPRESS,
            "help": text.replace("%", "%%"),
        }
        if isinstance(default, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
        elif isinstance(default, tuple):
            group.add_argument(flag, action="append", metavar="NAME", **options)
        else:
            group.add_argument(flag, metavar=_metavar(name, default), **options)


def given_values(namespace: argparse.Namespace) -> dict[str, Any]:
    """The values that were given as flags; `--exclude dis,ecssd --exclude fss` is three names."""
    values: dict[str, Any] = {}
    for name in TrainConfig.model_fields:
        if name not in namespace:
            continue
        value = getattr(namespace, name)
        if isinstance(value, list):
            value = tuple(part for one in value for part in one.replace(",", " ").split())
        values[name] = value
    return values


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The parsed flags; help goes to stdout and ends the program."""
    return parser.parse_args(sys.argv[1:] if arguments is None else list(arguments))


def _metavar(name: str, default: object) -> str:
    if name in ("out", "cache_dir", "sam_checkpoint", "shards", "eval_shards"):
        return "PATH"
    if name == "recipe":
        return "NAME|PATH"
    if name in ("model", "device", "precision", "compat"):
        return "NAME"
    return "N" if isinstance(default, int) or default is None else "X"
