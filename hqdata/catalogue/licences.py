"""Licences as data: well-known ones by id, and the terms of sets that have no manifest."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hqdata.catalogue.manifest import Licence, SetManifest, ShortName
from hqdata.catalogue.registry import load_manifests
from hqdata.catalogue.sampled import fold, load_sampled
from hqdata.errors import UserError
from hqdata.resources import manifests_dir
from hqdata.yaml_files import explain, read_yaml

KNOWN_FILE = "known.yaml"

NOT_STATED = "not-stated"
"""The id of a recipe that says nothing."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KnownLicence(_Model):
    """A well-known licence."""

    name: str = Field(min_length=1)
    url: str = Field(pattern=r"^https://\S+$")
    push: Literal["refuse", "private", "private-gated", "public"]


class _KnownLicences(_Model):
    licences: dict[str, KnownLicence]


class SetTerms(_Model):
    """The terms of a data set that nothing else is known of, or needs to be."""

    short_name: ShortName
    full_name: str
    aliases: tuple[str, ...] = ()
    title: str
    home: str
    citation: str = Field(description="BibTeX")
    licence: Licence


@cache
def known_licences(folder: Path | None = None) -> dict[str, Licence]:
    """Well-known licences by id in lower case.

    Raises:
        UserError: the file that lists them is not valid.
    """
    path = (folder or _folder()) / KNOWN_FILE
    try:
        found = _KnownLicences.model_validate(read_yaml(path, "a list of licences")).licences
    except ValidationError as error:
        raise UserError(
            "the list of licences is not valid", where=path, expected=explain(error, _KnownLicences)
        ) from error
    return {
        name.casefold(): Licence(
            id=name,
            name=known.name,
            url=known.url,
            evidence=f"The recipe says {name}.",
            push=known.push,
        )
        for name, known in found.items()
    }


@cache
def set_terms(folder: Path | None = None) -> dict[str, SetTerms]:
    """The terms of sets without a manifest of pairs, by short name.

    They are those of `manifests/licences/` and of the sets that are sampled from archives; of a
    `folder` only what is in it.

    Raises:
        UserError: a file is not valid.
    """
    found = {}
    for name, item in load_sampled().items() if folder is None else ():
        document = item.model_dump(include=set(SetTerms.model_fields))
        found[name] = SetTerms.model_validate(document)
    for path in sorted((folder or _folder()).glob("*.yaml")):
        if path.name == KNOWN_FILE:
            continue
        try:
            terms = SetTerms.model_validate(read_yaml(path, "the terms of a data set"))
        except ValidationError as error:
            raise UserError(
                "the terms are not valid", where=path, expected=explain(error, SetTerms)
            ) from error
        found[terms.short_name] = terms
    return found


def known_sets() -> list[SetManifest | SetTerms]:
    """Every set of which terms are known."""
    return [*load_manifests().values(), *set_terms().values()]


def find_terms(name: str) -> SetManifest | SetTerms | None:
    """What is known of the set of a name, an alias or a full name; None if nothing is.

    Case does not matter, nor does `_` for `-`.
    """
    folded = fold(name)
    for known in known_sets():
        names = (known.short_name, known.full_name, *known.aliases)
        if folded in map(fold, names):
            return known
    return None


def licence_of_id(licence_id: str) -> Licence:
    """The licence that an id in a recipe or a record means; private copies only if none is known.

    An id that a set's own terms have, such as `dis5k-terms`, means these terms.
    """
    known = known_licences().get(licence_id.casefold())
    if known is not None:
        return known
    for found in known_sets():
        if found.licence.id.casefold() == licence_id.casefold() != "none-stated":
            return found.licence
    stated = licence_id.casefold() not in (NOT_STATED, "none-stated")
    return Licence(
        id=licence_id,
        name=f"{licence_id}, of which nothing is known here" if stated else "no licence stated",
        evidence=f"The recipe says {licence_id!r}, which is no well-known licence."
        if stated
        else "The recipe states no licence for these pictures.",
        push="private",
    )


def _folder() -> Path:
    return manifests_dir() / "licences"
