"""What to build: a checked YAML file, and what it comes to once names and defaults are filled
in.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hqdata.catalogue.manifest import Defect, MaskValues, SetManifest, ShortName, SplitLayout
from hqdata.catalogue.registry import find_set
from hqdata.errors import UserError, nearest
from hqdata.resources import recipes_dir
from hqdata.storage import archive_stem
from hqdata.yaml_files import explain, read_yaml


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Count = Annotated[int, Field(strict=True, ge=1)]


class RecipeSource(_Model):
    """One line of `sources`: a data set that has a manifest, or a pair of folders of your own.

    `expect` counts the samples of each split; `any` accepts whatever is there. Without it the
    manifest's counts hold. For folders of your own `images` and `masks` are paths below the data
    root.
    """

    source: str = Field(min_length=1)
    splits: tuple[ShortName, ...] | None = None
    expect: dict[str, Count] | Literal["any"] | Count | None = None
    images: str | None = None
    masks: str | None = None
    list: str | None = None
    mask_values: MaskValues = "auto"
    licence: str = "not-stated"

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
        return self


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


@dataclass(frozen=True, slots=True)
class SplitRequest:
    """One split to build, with all that the recipe and the manifest say about it.

    Attributes:
        source: short name; the folder of its shards and the prefix of its keys.
        split: name of the split.
        expect: number of samples, None for any.
        name_list: list of the release's names that is held against the files, or None.
        layouts: (name, layout) in order of preference.
        sibling_lists: lists of the release's other splits that share its folders.
        mask_values: how grey levels are to be read.
        licence: short id.
        defects: known bad inputs of this split; the first that fits counts.
        manifest: the data set, None for folders of your own.
    """

    source: str
    split: str
    expect: int | None
    name_list: str | None
    layouts: tuple[tuple[str, SplitLayout], ...]
    sibling_lists: tuple[str, ...]
    mask_values: MaskValues
    licence: str
    defects: tuple[Defect, ...]
    manifest: SetManifest | None


@dataclass(frozen=True, slots=True)
class ResolvedRecipe:
    """A recipe with every name looked up and every default filled in."""

    recipe: Recipe
    splits: tuple[SplitRequest, ...]

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.recipe.name

    def to_dict(self) -> dict[str, object]:
        """What `dataset.json` keeps of it: settings, and the splits with their expected counts."""
        kept = self.recipe.model_dump(mode="json", exclude_defaults=False)
        for gone in ("extends", "exclude", "sources"):
            kept.pop(gone)
        kept["splits"] = [
            {"source": s.source, "split": s.split, "expect": s.expect} for s in self.splits
        ]
        return kept


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
    named = {_source_name(item) for item in recipe.sources}
    inherited = (item for item in base.sources if _source_name(item) not in named)
    changed["sources"] = (*recipe.sources, *inherited)
    merged = base.model_copy(update=changed)
    return select(merged, exclude=recipe.exclude)


def _locate(name: str, beside: Path | None) -> Path:
    if "/" in name or name.endswith((".yaml", ".yml")):
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


def _source_name(item: RecipeSource) -> str:
    if item.images is None:
        return find_set(item.source).short_name
    if not re.fullmatch(_OWN_NAME, item.source):
        raise UserError(
            f"{item.source!r} cannot name a source",
            expected="lower-case letters, digits and underscores, at most 24",
        )
    return item.source


def select(
    recipe: Recipe, *, include: Collection[str] = (), exclude: Collection[str] = ()
) -> Recipe:
    """The recipe with only, or without, some of its sources.

    Raises:
        UserError: a name that is no source of the recipe (the nearest is shown), or nothing is
        left.
    """
    named = [(_source_name(item), item) for item in recipe.sources]
    known = {name for name, _ in named}

    def short(name: str) -> str:
        candidate = name if name in known else None
        if candidate is None:
            try:
                candidate = find_set(name).short_name
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
    return recipe.model_copy(update={"sources": kept})


def resolve(recipe: Recipe, *, subset: bool = False) -> ResolvedRecipe:
    """Looks up every name and fills in every default.

    Args:
        recipe: the recipe, already merged and selected.
        subset: hold neither counts nor name lists against what is there.

    Raises:
        UserError: an unknown set or split (the nearest is shown), or a split asked for twice.
    """
    if not recipe.sources:
        raise UserError(f"recipe {recipe.name!r} has no sources")
    requests = [
        request for item in recipe.sources for request in _requests(recipe, item, subset=subset)
    ]
    names = [(request.source, request.split) for request in requests]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"recipe {recipe.name!r} asks for {name[0]} {name[1]} twice")
    for defect in recipe.defects:
        _check_defect(defect, requests)
    for target in recipe.must_not_overlap:
        check_overlap_target(target)
    return ResolvedRecipe(recipe, tuple(requests))


def _check_defect(defect: RecipeDefect, requests: list[SplitRequest]) -> None:
    """A source or split that nobody knows is a mistake; one that is not built here is none."""
    built = [request.split for request in requests if request.source == defect.source]
    known = built
    if not built or any(r.source == defect.source and r.manifest is not None for r in requests):
        known = list(find_set(defect.source).splits)
    if defect.split is not None and defect.split not in known:
        raise UserError(
            f"defects: {defect.source} has no split {defect.split!r}{nearest(defect.split, known)}",
            where=f"the defect of {defect.name or defect.file!r}",
            expected="one of " + ", ".join(known),
        )


def check_overlap_target(target: str) -> tuple[str, str]:
    """(short name, split) of an entry `set/split` of `must_not_overlap`.

    Raises:
        UserError: an unknown set or split.
    """
    name, _, split = target.partition("/")
    manifest = find_set(name)
    if split not in manifest.splits:
        raise UserError(
            f"{manifest.full_name} has no split {split!r}{nearest(split, manifest.splits)}",
            where=f"must_not_overlap: {target}",
            expected="one of " + ", ".join(f"{name}/{s}" for s in manifest.splits),
        )
    return manifest.short_name, split


def _requests(recipe: Recipe, item: RecipeSource, *, subset: bool) -> list[SplitRequest]:
    name = _source_name(item)
    manifest = None if item.images is not None else find_set(item.source)
    known = ("all",) if manifest is None else tuple(manifest.splits)
    splits = item.splits or known
    if manifest is not None:
        for split in splits:
            if split not in known:
                raise UserError(
                    f"{manifest.full_name} has no split {split!r}{nearest(split, known)}",
                    expected="one of " + ", ".join(known),
                )
    elif len(splits) > 1:
        raise UserError(
            f"source {name!r}: a pair of folders is one split, not {len(splits)}",
            do="give each split a source of its own",
        )
    if isinstance(item.expect, int) and len(splits) > 1:
        raise UserError(
            f"source {name!r}: 'expect' as one number needs a single split",
            expected=f"'splits' with one of {', '.join(splits)}, or 'expect' as a table of them",
        )
    if isinstance(item.expect, dict):
        for split in item.expect:
            if split not in splits:
                raise UserError(
                    f"source {name!r}: 'expect' names split {split!r}, which is not built"
                )
    defects = tuple(
        Defect(**d.model_dump(exclude={"source"})) for d in recipe.defects if _same(d.source, name)
    )
    return [_request(item, name, split, manifest, defects, subset=subset) for split in splits]


def _same(given: str, short_name: str) -> bool:
    if given == short_name:
        return True
    try:
        return find_set(given).short_name == short_name
    except UserError:
        return False


def _request(
    item: RecipeSource,
    name: str,
    split: str,
    manifest: SetManifest | None,
    defects: tuple[Defect, ...],
    *,
    subset: bool,
) -> SplitRequest:
    facts = None if manifest is None else manifest.splits[split]
    expect = None if facts is None else facts.expect
    if isinstance(item.expect, dict):
        expect = item.expect.get(split, expect)
    elif isinstance(item.expect, int):
        expect = item.expect
    if item.expect == "any" or subset:
        expect = None
    if manifest is None:
        try:
            own = SplitLayout(
                images=_as_pattern(item.images or ""),
                masks=_as_pattern(item.masks or ""),
                list=item.list,
            )
        except ValidationError as error:
            raise UserError(
                f"source {name!r}: 'images' or 'masks' is no folder below the data root",
                expected=explain(error, SplitLayout),
                do="give a path such as 'mine/images' or 'mine.zip/images'",
            ) from error
        layouts: tuple[tuple[str, SplitLayout], ...] = (("your folders", own),)
        siblings: tuple[str, ...] = ()
    else:
        layouts = tuple(manifest.layouts_of(split))
        siblings = tuple(
            sorted(
                {
                    other.list
                    for layout in manifest.layouts
                    for other in layout.splits.values()
                    if other.list is not None
                }
            )
        )
        defects = (*defects, *(d for d in manifest.defects if d.split in (None, split)))
    # A name list is held against the files only where the whole release is expected.
    whole = facts is not None and expect == facts.expect
    return SplitRequest(
        source=name,
        split=split,
        expect=expect,
        name_list=facts.names if facts is not None and whole else None,
        layouts=layouts,
        sibling_lists=siblings,
        mask_values=item.mask_values if manifest is None else manifest.masks,
        licence=item.licence if manifest is None else manifest.licence.id,
        defects=tuple(d for d in defects if d.split in (None, split)),
        manifest=manifest,
    )


def _as_pattern(folder: str) -> str:
    """A folder's path as a pattern: `mine.zip/images` is `mine/images/*`."""
    *levels, last = folder.strip("/").split("/")
    if not last.startswith("*"):
        levels, last = [*levels, last], "*"
    return "/".join([*(archive_stem(level) or level for level in levels), last])
