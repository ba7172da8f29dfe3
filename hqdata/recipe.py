"""What to build: a checked YAML file."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hqdata.catalogue.manifest import Defect, MaskValues, ShortName
from hqdata.catalogue.registry import set_name
from hqdata.errors import UserError, nearest
from hqdata.resources import recipes_dir
from hqdata.yaml_files import explain, read_yaml


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Count = Annotated[int, Field(strict=True, ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class SampleSettings(_Model):
    """What is wanted of a set that is sampled from archives.

    `images` pictures, and of each the `masks` that come first by their hash. A mask counts only if
    it reaches the publisher's own figures for its quality and if its area lies within the bounds,
    which are shares of the picture's. Without a `seed` the recipe's own holds.
    """

    images: Count
    masks: Literal["all"] | Count = 1
    seed: Annotated[int, Field(strict=True, ge=0)] | None = None
    min_predicted_iou: Share = 0.0
    min_stability_score: Share = 0.0
    min_area_fraction: Share = 0.0
    max_area_fraction: Share = 1.0

    @model_validator(mode="after")
    def _bounds_leave_something(self) -> SampleSettings:
        if self.min_area_fraction > self.max_area_fraction:
            raise ValueError("'min_area_fraction' is above 'max_area_fraction'")
        return self


class RecipeSource(_Model):
    """One line of `sources`: a data set that is known, or a pair of folders of your own.

    `expect` counts the samples of each split; `any` accepts whatever is there. Without it the
    manifest's counts hold. For folders of your own `images` and `masks` are paths below the data
    root. `sample` is for a set that is sampled from archives, and needed there.
    """

    source: str = Field(min_length=1)
    splits: tuple[ShortName, ...] | None = None
    expect: dict[str, Count] | Literal["any"] | Count | None = None
    images: str | None = None
    masks: str | None = None
    list: str | None = None
    mask_values: MaskValues = "auto"
    licence: str = "not-stated"
    sample: SampleSettings | None = None

    @model_validator(mode="after")
    def _own_or_known(self) -> RecipeSource:
        if (self.images is None) != (self.masks is None):
            raise ValueError("folders of your own need both 'images' and 'masks'")
        if self.images is None and self.list is not None:
            raise ValueError("'list' goes with 'images' and 'masks'")
        if self.images is not None and self.images == self.masks:
            raise ValueError(
                "'images' and 'masks' are the same files; where one folder holds both, say which "
                "are which, e.g. 'mine/*.jpg' and 'mine/*.png'"
            )
        if isinstance(self.expect, int) and not (self.splits is None or len(self.splits) == 1):
            raise ValueError("'expect' as one number needs a single split")
        if self.sample is not None:
            self._check_sample()
        return self

    def _check_sample(self) -> None:
        if self.images is not None:
            raise ValueError("'sample' is for a set of archives, not for folders of your own")
        if self.mask_values != "auto":
            raise ValueError("'sample' goes without 'mask_values': its masks are binary")
        if self.expect not in (None, "any"):
            raise ValueError("'sample' goes without a number to expect: its 'images' says how many")


class RecipeDefect(Defect):
    """A known bad input of a source, and what to do about it; comes before the manifest's own."""

    source: str
    reported: str = "the recipe"


class Recipe(_Model):
    """A recipe file. Unknown keys are refused."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    description: str = ""
    extends: str | None = None
    exclude: tuple[str, ...] = ()
    sources: tuple[RecipeSource, ...] = ()
    must_not_overlap: tuple[str, ...] = ()
    samples_per_shard: int = Field(default=384, ge=1, le=100_000)
    bytes_per_shard: int = Field(default=256 * 2**20, ge=2**16, description="of the source files")
    seed: int = Field(default=0, ge=0)
    image_field: Literal["jpg", "png"] = "jpg"
    max_pixels: int = Field(default=120_000_000, ge=1, le=2**31 - 1)
    defects: tuple[RecipeDefect, ...] = ()


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in recipes_dir().glob("*.yaml"))


def load_recipe(name_or_path: str | Path, _chain: tuple[Path, ...] = ()) -> Recipe:
    """A recipe by name or path, with what it extends merged in.

    A source that both name is as the extending recipe says.

    Raises:
        UserError: no such recipe, an unknown key, or recipes that extend each other in a circle.
    """
    path = _locate(str(name_or_path), _chain[-1].parent if _chain else None)
    if path in _chain:
        raise UserError(
            "recipes extend each other in a circle", where=" -> ".join(map(str, _chain))
        )
    document = read_yaml(path, "a recipe")
    if not isinstance(document, dict):
        raise UserError(
            "the recipe is empty" if document is None else "the recipe is no table of settings",
            where=path,
            expected="at least `name:` and `sources:`, or `name:` and `extends:`",
        )
    try:
        recipe = Recipe.model_validate(document)
    except ValidationError as error:
        raise UserError(
            "the recipe is not valid", where=path, expected=explain(error, Recipe)
        ) from error
    if recipe.extends is None:
        return select(recipe, exclude=recipe.exclude) if recipe.exclude else recipe
    base = load_recipe(recipe.extends, (*_chain, path))
    changed = {k: getattr(recipe, k) for k in recipe.model_fields_set - {"extends", "exclude"}}
    for joined in ("defects", "must_not_overlap"):
        changed[joined] = (*getattr(recipe, joined), *getattr(base, joined))
    named = {source_name(item) for item in recipe.sources}
    inherited = (item for item in base.sources if source_name(item) not in named)
    changed["sources"] = (*recipe.sources, *inherited)
    merged = base.model_copy(update=changed)
    return select(merged, exclude=recipe.exclude)


def is_recipe_path(name: str) -> bool:
    """Whether a recipe is named by the path of its file, not by a name of the package's."""
    return "/" in name or name.endswith((".yaml", ".yml"))


def _locate(name: str, beside: Path | None) -> Path:
    if is_recipe_path(name):
        path = Path(name) if beside is None else beside / name
        if not path.is_file():
            raise UserError("there is no such recipe file", where=path)
        return path.resolve()
    path = recipes_dir() / f"{name}.yaml"
    if not path.is_file():
        raise UserError(
            f"there is no recipe {name!r}{nearest(name, recipe_names())}",
            expected="one of " + ", ".join(recipe_names()) + ", or the path of a .yaml file",
        )
    return path.resolve()


_OWN_NAME = r"[a-z0-9][a-z0-9_]{0,23}"
"""Of a source of one's own: it becomes a part of keys and folders."""


def source_name(item: RecipeSource) -> str:
    """Short name of a source; of folders of one's own, checked.

    Raises:
        UserError: no such data set, or a name that cannot be one.
    """
    if item.images is None:
        return set_name(item.source)
    if not re.fullmatch(_OWN_NAME, item.source):
        raise UserError(
            f"{item.source!r} cannot name a source",
            expected="lower-case letters, digits and underscores, at most 24",
        )
    return item.source


def select(
    recipe: Recipe, *, include: Collection[str] = (), exclude: Collection[str] = ()
) -> Recipe:
    """The recipe with only, or without, some of its sources; `exclude` names those that went.

    Raises:
        UserError: a name that is no source of the recipe (the nearest is shown), or nothing is
        left.
    """
    named = [(source_name(item), item) for item in recipe.sources]
    known = {name for name, _ in named}

    def short(name: str) -> str:
        candidate = name if name in known else None
        if candidate is None:
            try:
                candidate = set_name(name)
            except UserError:
                candidate = None
        if candidate not in known:
            raise UserError(
                f"recipe {recipe.name!r} has no source {name!r}{nearest(name, known)}",
                expected="one of " + ", ".join(sorted(known)),
            )
        return candidate

    wanted = {short(name) for name in include} or known
    unwanted = {short(name) for name in exclude}
    kept = tuple(item for name, item in named if name in wanted - unwanted)
    if not kept:
        raise UserError(f"nothing is left of recipe {recipe.name!r} to build")
    gone = dict.fromkeys((*recipe.exclude, *(name for name, item in named if item not in kept)))
    return recipe.model_copy(update={"sources": kept, "exclude": tuple(gone)})
