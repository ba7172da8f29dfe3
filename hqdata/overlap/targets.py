"""What a user may name as an evaluation set, and the one name that each of them has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from hqdata.catalogue.evaluation import ImageSet, find_image_set
from hqdata.catalogue.manifest import SetManifest
from hqdata.catalogue.registry import find_set
from hqdata.errors import UserError
from hqdata.overlap.fingerprints import read_summary
from hqdata.overview import EVALUATION_SPLITS
from hqdata.resolve import FOLDER, check_overlap_target
from hqdata.storage import archive_stem


@dataclass(frozen=True, slots=True)
class Target:
    """One evaluation set that a user named.

    Attributes:
        name: the one name it has in reports and files: `dis/validation`, `coco-val2017`,
            `folder:<path as given>`.
        manifest, split: of a split of a data set.
        image_set: of an image-only evaluation set.
        folder: of a folder or an archive of pictures.
        fingerprints: of a file of fingerprints.
    """

    name: str
    manifest: SetManifest | None = None
    split: str = ""
    image_set: ImageSet | None = None
    folder: Path | None = None
    fingerprints: Path | None = None

    @property
    def source(self) -> str:
        """The name that `--use` has for it."""
        return self.manifest.short_name if self.manifest else self.name


def find_target(text: str, data_root: Path) -> Target:
    """What a user means by a name or a path.

    A split (`dis/validation`), a data set of which only one split is for evaluation (`dis`), an
    image-only set (`coco-val2017`), `folder:` and a path below the data root, or the path of a
    folder, an archive or a file of fingerprints. Where something could be a name and a path it is
    the name; `./name` is the path.

    Raises:
        UserError: none of them.
    """
    if text.startswith(FOLDER):
        name, _ = check_overlap_target(text)
        return _path(data_root / name.removeprefix(FOLDER), name)
    if text.startswith((".", "/", "~")):
        return _path(Path(text).expanduser(), FOLDER + text)
    try:
        return _named(text)
    except UserError:
        path = Path(text)
        if path.exists():
            return _path(path, FOLDER + text)
        raise


def _named(text: str) -> Target:
    manifest = None if "/" in text else _manifest(text)
    if manifest is not None:
        text = f"{manifest.short_name}/{_only_split(manifest)}"
    name, split = check_overlap_target(text)
    if split:
        return Target(f"{name}/{split}", manifest=find_set(name), split=split)
    return Target(name, image_set=find_image_set(name))


def _manifest(name: str) -> SetManifest | None:
    try:
        return find_set(name)
    except UserError:
        return None


def _only_split(manifest: SetManifest) -> str:
    """The split that is for evaluation, or the only one there is."""
    name, splits = manifest.short_name, list(manifest.splits)
    if len(splits) > 1:
        splits = [split for split in splits if (name, split) in EVALUATION_SPLITS]
    if len(splits) != 1:
        raise UserError(
            f"which split of {manifest.full_name} is meant?",
            expected="one of " + ", ".join(f"{name}/{split}" for split in manifest.splits),
        )
    return splits[0]


def _path(path: Path, name: str) -> Target:
    if path.is_file() and path.suffix == ".parquet":
        summary = read_summary(path)
        try:
            target = _named(summary.set)
        except UserError:  # somebody's folder, or a set that another installation knows
            target = Target(summary.set)
        return replace(target, folder=None, fingerprints=path)
    if path.is_dir() or (path.is_file() and archive_stem(path.name) is not None):
        return Target(name, folder=path)
    raise UserError(
        "there is no such folder of pictures" if not path.exists() else "this is no folder",
        where=path,
        expected="a folder or an archive of pictures, a file of fingerprints (.parquet), or the "
        "name of an evaluation set",
    )
