"""Evaluation sets of which only the pictures matter: the checked form of
`manifests/evaluation/<name>.yaml`.

Nothing is trained or scored on them here. They are looked for so that a training set can be shown
not to share a picture with them.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from hqdata.catalogue.manifest import check_pattern
from hqdata.catalogue.registry import load_manifests
from hqdata.errors import UserError, nearest
from hqdata.resources import manifests_dir
from hqdata.yaml_files import explain, read_yaml

SetName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=40)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExpectedImages(_Model):
    """How many pictures the release has."""

    images: int = Field(gt=0)
    certainty: Literal["published", "common-knowledge"]


class ListFile(_Model):
    """A file of the release that says which of the pictures on disk belong to the set.

    `pattern` is searched for in the file's text; its one group is the path of a picture, as long as
    it has to be to be unique: `val2017/000000000139.jpg`.
    """

    file: str = Field(pattern=r"^[^/\\]+$")
    pattern: str
    page: str

    @field_validator("pattern")
    @classmethod
    def _one_group(cls, value: str) -> str:
        try:
            groups = re.compile(value.encode()).groups
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from error
        if groups != 1:
            raise ValueError("needs exactly one group, the path of a picture")
        return value


class ImageLayout(_Model):
    """One way in which people have the set on disk: folders of pictures, all of which belong to it.

    The patterns are those of `hqdata.catalogue.manifest.SplitLayout`.
    """

    name: str = Field(min_length=1)
    images: tuple[Annotated[str, AfterValidator(check_pattern)], ...] = Field(min_length=1)


class ImageSet(_Model):
    """One evaluation set: names, where it is to be had, how it lies on disk.

    `classes` names the folders that `{class}` may stand for, where the release has others beside
    them; `num_classes` only counts them.
    """

    name: SetName
    aliases: tuple[str, ...] = ()
    title: str
    home: str
    get: str = Field(min_length=1, description="what to fetch, in a sentence")
    licence: str = Field(min_length=1, description="what is known, in a sentence; no legal advice")
    expect: ExpectedImages | None = None
    classes: tuple[str, ...] = ()
    num_classes: int | None = Field(default=None, gt=0)
    listed: ListFile | None = None
    layouts: tuple[ImageLayout, ...] = Field(min_length=1)
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> ImageSet:
        if self.classes and self.num_classes is not None:
            raise ValueError("'classes' says how many there are; leave 'num_classes' out")
        counted = self.classes or self.num_classes
        patterns = [pattern for layout in self.layouts for pattern in layout.images]
        if counted and not all("{class}" in pattern for pattern in patterns):
            raise ValueError("'classes' and 'num_classes' need '{class}' in every pattern")
        return self


def load_image_set(path: Path) -> ImageSet:
    """The checked description of one evaluation set.

    Raises:
        UserError: the file is no valid one; the message names field and value.
    """
    try:
        found = ImageSet.model_validate(read_yaml(path, "an evaluation set"))
    except ValidationError as error:
        raise UserError(
            "the evaluation set is not valid",
            where=path,
            expected=explain(error, ImageSet),
            do="see docs/evaluation-sets.md for the fields",
        ) from error
    if found.name != path.stem:
        raise UserError(f"the file of evaluation set {found.name!r} has another name", where=path)
    return found


@cache
def load_image_sets(folder: Path | None = None) -> dict[str, ImageSet]:
    """All evaluation sets of a folder (by default the package's `manifests/evaluation/`), by name.

    Raises:
        UserError: a file is not valid, or two sets share a name or an alias.
    """
    folder = folder or manifests_dir() / "evaluation"
    sets = {path.stem: load_image_set(path) for path in sorted(folder.glob("*.yaml"))}
    owners: dict[str, str] = {}
    for name, found in sets.items():
        for known in (name, *found.aliases):
            owner = owners.setdefault(known.casefold(), name)
            if owner != name:
                raise UserError(
                    f"two evaluation sets are called {known!r}: {owner} and {name}", where=folder
                )
    return sets


def find_image_set(name: str) -> ImageSet:
    """The evaluation set of a name or an alias, ignoring case.

    Raises:
        UserError: no such set; the message shows the nearest name of any set.
    """
    sets = load_image_sets()
    names = {
        known.casefold(): found for found in sets.values() for known in (found.name, *found.aliases)
    }
    found = names.get(name.casefold())
    if found is None:
        with_splits = [
            f"{known}/{split}"
            for manifest in load_manifests().values()
            for known in dict.fromkeys((manifest.short_name, manifest.full_name))
            for split in manifest.splits
        ]
        raise UserError(
            f"there is no evaluation set {name!r}{nearest(name, [*names, *with_splits])}",
            expected="one of "
            + ", ".join(sets)
            + ", or a split of a data set, e.g. dis/validation",
            do="for a folder of your own give its path",
        )
    return found
