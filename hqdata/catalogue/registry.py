"""The data sets that have a manifest, by name; and the short name of any set that is known."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import ValidationError

from hqdata.catalogue.manifest import SetManifest
from hqdata.catalogue.sampled import find_sampled, fold, load_sampled
from hqdata.errors import UserError, nearest
from hqdata.resources import manifests_dir
from hqdata.yaml_files import explain, read_yaml


def load_manifest(path: Path) -> SetManifest:
    """The checked manifest in one YAML file.

    Raises:
        UserError: the file is no valid manifest; the message names field and value.
    """
    try:
        return SetManifest.model_validate(read_yaml(path, "a data set manifest"))
    except ValidationError as error:
        raise UserError(
            "the manifest is not valid",
            where=path,
            expected=explain(error, SetManifest),
            do="see CONTRIBUTING.md for the fields",
        ) from error


@cache
def load_manifests(folder: Path | None = None) -> dict[str, SetManifest]:
    """All manifests of a folder (the package's own by default) by short name, training sets
    first.
    """
    paths = sorted((folder or manifests_dir()).glob("*.yaml"))
    sets = [load_manifest(path) for path in paths]
    order = {"training": 0, "evaluation": 1}
    by_name: dict[str, SetManifest] = {}
    for manifest in sorted(sets, key=lambda m: (order[m.role], m.short_name)):
        if manifest.short_name in by_name:
            raise UserError(
                f"two manifests have the short name {manifest.short_name!r}", where=folder
            )
        by_name[manifest.short_name] = manifest
    return by_name


def find_set(name: str) -> SetManifest:
    """The manifest of a set by short name, full name or alias.

    Case does not matter, nor does `_` for `-`.

    Raises:
        UserError: no such set; the message shows the nearest name. A set that is sampled from
            archives has no manifest of pairs and is none of these.
    """
    found = _by_folded_name().get(fold(name))
    if found is not None:
        return found
    sampled = find_sampled(name)
    if sampled is not None:
        raise UserError(
            f"{sampled.full_name} is sampled from archives and has no pairs of files",
            expected="one of " + ", ".join(load_manifests()),
        )
    names = [known for manifest in load_manifests().values() for known in _names(manifest)]
    raise UserError(
        f"there is no data set {name!r}{nearest(name, names)}",
        expected="one of " + ", ".join(load_manifests()),
    )


def set_name(name: str) -> str:
    """The short name of a data set by any of its names, whether it has a manifest or is sampled.

    Raises:
        UserError: no such set; the message shows the nearest name.
    """
    sampled = find_sampled(name)
    if sampled is not None:
        return sampled.short_name
    found = _by_folded_name().get(fold(name))
    if found is not None:
        return found.short_name
    names = [known for manifest in load_manifests().values() for known in _names(manifest)]
    names += [known for item in load_sampled().values() for known in item.names]
    raise UserError(
        f"there is no data set {name!r}{nearest(name, names)}",
        expected="one of " + ", ".join((*load_manifests(), *load_sampled())),
    )


def _names(manifest: SetManifest) -> tuple[str, ...]:
    return (manifest.short_name, manifest.full_name, *manifest.aliases)


def _by_folded_name() -> dict[str, SetManifest]:
    return {fold(name): found for found in load_manifests().values() for name in _names(found)}
