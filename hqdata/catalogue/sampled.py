"""Data sets that are sampled from archives, not paired from folders: the checked form of
`manifests/sampled/<name>.yaml`.

They are too large to build whole, and their archives hold pictures and annotations alike: a recipe
says how many pictures it wants, and `hqdata.bundles` reads the archives.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hqdata.catalogue.manifest import Licence, ShortName
from hqdata.errors import UserError
from hqdata.resources import manifests_dir
from hqdata.yaml_files import explain, read_yaml

Figure = Literal["num_archives", "num_images", "num_bytes"]
"""What is told of the whole release."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SampledSet(_Model):
    """One sampled set: names, terms, and how large it is as a whole.

    `archive` is a regular expression of an archive's name without its suffix. `num_archives`,
    `num_images` and `num_bytes` (of all archives) are those of the whole release; `evidence` says
    of each where it is from.
    """

    short_name: ShortName
    full_name: str
    aliases: tuple[str, ...] = ()
    title: str
    home: str
    citation: str = Field(description="BibTeX")
    licence: Licence
    split: ShortName = "train"
    archive: str = Field(min_length=1)
    num_archives: int = Field(gt=0)
    num_images: int = Field(gt=0)
    num_bytes: int = Field(gt=0)
    evidence: dict[Figure, str]
    notes: tuple[str, ...] = ()

    @field_validator("archive")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from error
        return value

    @field_validator("evidence")
    @classmethod
    def _of_all(cls, value: dict[str, str]) -> dict[str, str]:
        lacking = set(get_args(Figure)) - {name for name, text in value.items() if text}
        if lacking:
            raise ValueError(f"says not where it is from: {', '.join(sorted(lacking))}")
        return value

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of the set."""
        return tuple(dict.fromkeys((self.short_name, self.full_name, *self.aliases)))


def fold(name: str) -> str:
    """The form in which names of data sets are compared: no case, `_` the same as `-`."""
    return name.casefold().replace("_", "-")


def load_sampled_set(path: Path) -> SampledSet:
    """The checked description in one YAML file.

    Raises:
        UserError: the file is no valid one; the message names field and value.
    """
    try:
        found = SampledSet.model_validate(read_yaml(path, "a sampled data set"))
    except ValidationError as error:
        raise UserError(
            "the sampled data set is not valid", where=path, expected=explain(error, SampledSet)
        ) from error
    if found.short_name != path.stem:
        raise UserError(f"the file of {found.short_name!r} has another name", where=path)
    return found


@cache
def load_sampled(folder: Path | None = None) -> dict[str, SampledSet]:
    """All sampled sets of a folder (by default the package's `manifests/sampled/`), by short name.

    Raises:
        UserError: a file is not valid.
    """
    folder = folder or manifests_dir() / "sampled"
    return {path.stem: load_sampled_set(path) for path in sorted(folder.glob("*.yaml"))}


def find_sampled(name: str) -> SampledSet | None:
    """The sampled set of a short name, full name or alias; None if no sampled set is called so.

    Case does not matter, nor does `_` for `-`.
    """
    folded = fold(name)
    for found in load_sampled().values():
        if folded in map(fold, found.names):
            return found
    return None
