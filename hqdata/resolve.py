"""What a recipe comes to once every name is looked up and every default filled in."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pydantic import ValidationError

from hqdata.catalogue.evaluation import find_image_set
from hqdata.catalogue.manifest import Defect, MaskValues, SetManifest, SplitLayout
from hqdata.catalogue.registry import find_set, set_name
from hqdata.catalogue.sampled import SampledSet, find_sampled
from hqdata.errors import UserError, nearest
from hqdata.recipe import Recipe, RecipeDefect, RecipeSource, SampleSettings, source_name
from hqdata.sampling import Choice
from hqdata.storage import archive_stem
from hqdata.yaml_files import explain


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
class SampleRequest:
    """One split to draw from archives, with all that the recipe and the catalogue say about it.

    Attributes:
        source: short name; the folder of its shards and the prefix of its keys.
        split: name of the split.
        expect: number of samples; None where any number will do, or where a picture may have
            several.
        licence: short id.
        settings: what the recipe says.
        choice: the same in the form that decides about pictures and masks, its seed filled in.
        set: the data set.
        subset: fewer pictures than asked for are no fault.
    """

    source: str
    split: str
    expect: int | None
    licence: str
    settings: SampleSettings
    choice: Choice
    set: SampledSet
    subset: bool

    def to_dict(self) -> dict[str, object]:
        """What `dataset.json` keeps of it."""
        return {
            "source": self.source,
            "split": self.split,
            "expect": self.expect,
            "images": self.settings.images,
            **asdict(self.choice),
        }


@dataclass(frozen=True, slots=True)
class ResolvedRecipe:
    """A recipe with every name looked up and every default filled in.

    `splits` are paired from files, `samples` are drawn from archives.
    """

    recipe: Recipe
    splits: tuple[SplitRequest, ...]
    samples: tuple[SampleRequest, ...] = ()

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.recipe.name

    @property
    def requests(self) -> tuple[SplitRequest | SampleRequest, ...]:
        """All that it builds: what is paired from files, then what is drawn from archives."""
        return (*self.splits, *self.samples)

    def to_dict(self) -> dict[str, object]:
        """What `dataset.json` keeps of it: settings, and the splits with their expected counts."""
        kept = self.recipe.model_dump(mode="json", exclude_defaults=False)
        for gone in ("extends", "exclude", "sources"):
            kept.pop(gone)
        kept["splits"] = [
            {"source": s.source, "split": s.split, "expect": s.expect} for s in self.splits
        ]
        if self.samples:
            kept["samples"] = [sample.to_dict() for sample in self.samples]
        return kept


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
    samples = [_sample(recipe, item, subset=subset) for item in recipe.sources if _is_drawn(item)]
    requests = [
        request
        for item in recipe.sources
        if not _is_drawn(item)
        for request in _requests(recipe, item, subset=subset)
    ]
    names = [(request.source, request.split) for request in requests]
    names += [(sample.source, sample.split) for sample in samples]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"recipe {recipe.name!r} asks for {name[0]} {name[1]} twice")
    for defect in recipe.defects:
        _check_defect(defect, requests, recipe.exclude)
    for target in recipe.must_not_overlap:
        where = check_overlap_target(target)
        if where in names:
            raise UserError(
                f"recipe {recipe.name!r} builds {target}, which it must not overlap",
                do="take it out of 'sources' or out of 'must_not_overlap'",
            )
    return ResolvedRecipe(recipe, tuple(requests), tuple(samples))


def _is_drawn(item: RecipeSource) -> bool:
    """Whether a source is drawn from archives; folders of one's own may be called as they like."""
    return item.images is None and find_sampled(item.source) is not None


def _sample(recipe: Recipe, item: RecipeSource, *, subset: bool) -> SampleRequest:
    found = find_sampled(item.source)
    if found is None or item.sample is None:
        raise UserError(
            f"source {item.source!r}: it is not said how many pictures to draw",
            where=f"recipe {recipe.name!r}",
            expected="a data set that is sampled, with `sample: {images: 1000}`",
            do="see recipes/sa1b-44k.yaml",
        )
    settings = item.sample
    for split in item.splits or ():
        if split != found.split:
            raise UserError(
                f"{found.full_name} has no split {split!r}{nearest(split, [found.split])}",
                expected=f"{found.split}, or no 'splits' at all",
            )
    if settings.images > found.num_images:
        raise UserError(
            f"source {item.source!r}: {settings.images:,} images are more than there are",
            expected=f"at most {found.num_images:,}",
        )
    one_each = settings.masks == 1
    any_number = subset or item.expect == "any"
    return SampleRequest(
        source=found.short_name,
        split=found.split,
        expect=settings.images if one_each and not any_number else None,
        licence=found.licence.id,
        settings=settings,
        choice=Choice(
            seed=recipe.seed if settings.seed is None else settings.seed,
            masks=0 if settings.masks == "all" else settings.masks,
            min_predicted_iou=settings.min_predicted_iou,
            min_stability_score=settings.min_stability_score,
            min_area_fraction=settings.min_area_fraction,
            max_area_fraction=settings.max_area_fraction,
        ),
        set=found,
        subset=any_number,
    )


def _check_defect(
    defect: RecipeDefect, requests: list[SplitRequest], left_out: tuple[str, ...]
) -> None:
    """A source or split that nobody knows is a mistake; one that is not built here is none."""
    built = [request.split for request in requests if request.source == defect.source]
    if not built and defect.source in left_out:
        return  # maybe folders of one's own, of which nothing is known once they are left out
    sampled = None if built else find_sampled(defect.source)
    if sampled is not None:
        raise UserError(
            f"defects: {sampled.full_name} is sampled and takes none",
            where=f"the defect of {defect.name or defect.file!r}",
            do="leave it out: a picture that cannot be used is replaced by the next by itself",
        )
    known = built
    if not built or any(r.source == defect.source and r.manifest is not None for r in requests):
        known = list(find_set(defect.source).splits)
    if defect.split is not None and defect.split not in known:
        raise UserError(
            f"defects: {defect.source} has no split {defect.split!r}{nearest(defect.split, known)}",
            where=f"the defect of {defect.name or defect.file!r}",
            expected="one of " + ", ".join(known),
        )


FOLDER = "folder:"
"""Begins an entry of `must_not_overlap` that is a folder of pictures below the data root."""


def check_overlap_target(target: str) -> tuple[str, str]:
    """What an entry of `must_not_overlap` means, as a pair.

    `set/split` of a manifest gives (short name, split). An image-only evaluation set such as
    `coco-val2017` gives (its name, ""), and `folder:path/below/the/data/root` (itself, ""): neither
    has splits.

    Raises:
        UserError: an unknown set or split, or a path that leaves the data root.
    """
    if target.startswith(FOLDER):
        parts = target.removeprefix(FOLDER).strip("/").split("/")
        if target.startswith(f"{FOLDER}/") or {"", ".", ".."} & set(parts):
            raise UserError(
                f"{target!r} is no folder below the data root",
                where="must_not_overlap",
                expected=f"a path without '.' and '..' below the data root, e.g. {FOLDER}mine/test",
            )
        return FOLDER + "/".join(parts), ""
    name, slash, split = target.partition("/")
    if not slash and not _is_set(name):
        return find_image_set(name).name, ""
    manifest = find_set(name)
    if split not in manifest.splits:
        raise UserError(
            f"{manifest.full_name} has no split {split!r}{nearest(split, manifest.splits)}",
            where=f"must_not_overlap: {target}",
            expected="one of " + ", ".join(f"{name}/{s}" for s in manifest.splits),
        )
    return manifest.short_name, split


def _is_set(name: str) -> bool:
    try:
        find_set(name)
    except UserError:
        return False
    return True


def _requests(recipe: Recipe, item: RecipeSource, *, subset: bool) -> list[SplitRequest]:
    name = source_name(item)
    if item.sample is not None:
        raise UserError(
            f"source {item.source!r}: 'sample' is for a data set that is sampled from archives",
            where=f"recipe {recipe.name!r}",
            do="leave 'sample' out; 'expect' says how many pairs there should be",
        )
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
        Defect(**d.model_dump(exclude={"source"}))
        for d in recipe.defects
        if is_source(d.source, name)
    )
    return [_request(item, name, split, manifest, defects, subset=subset) for split in splits]


def is_source(given: str, short_name: str) -> bool:
    """Whether a name that a recipe gives, short, full or an alias, is this source's."""
    if given == short_name:
        return True
    try:
        return set_name(given) == short_name
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
