"""A recorded permission: who allowed whom to publish the pictures of a source, when and how far."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from hqdata.errors import UserError
from hqdata.files import sha256_file
from hqdata.yaml_files import explain, read_yaml

EXAMPLE = """\
source: dis
holder: who gave it, such as the authors of the set
granted_to: who may publish
date: 2024-05-17
allows: private        # or private-gated, or public
name: title of the letter or agreement
evidence: a link to it, or its words"""
"""A permission file, for messages and for the documentation."""


def _no_number(value: Any) -> Any:
    # A number would be taken for seconds since 1970.
    if isinstance(value, int | float):
        raise ValueError("a date is written 2024-05-17")
    return value


Day = Annotated[datetime.date, BeforeValidator(_no_number)]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, pattern=r"^[^\r\n]*$")]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class PermissionFile(BaseModel):
    """What stands in a permission file.

    Attributes:
        source: the data set it is about, by any of its names, or a source of one's own.
        holder: who gave it.
        granted_to: who may publish.
        date: when it was given.
        allows: whom the pictures may be published to.
        name: title of the document.
        evidence: where it can be read: an address, or its words. Stays out of the card.
        expires: last day on which it holds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Line
    holder: Line
    granted_to: Line
    date: Day
    allows: Literal["private", "private-gated", "public"]
    name: Line
    evidence: Words
    expires: Day | None = None

    @model_validator(mode="after")
    def _in_order(self) -> PermissionFile:
        if self.expires is not None and self.expires < self.date:
            raise ValueError("it expires before its own date")
        return self


class Permission(PermissionFile):
    """A permission with the digest of the file that it was read from, in hexadecimal."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


def read_permission(path: Path, today: datetime.date) -> Permission:
    """Reads and checks a permission file, YAML or JSON.

    Raises:
        UserError: no such file, a field missing or wrong, expired, or of a day to come.
    """
    document = read_yaml(path, "a permission")
    if not isinstance(document, dict):
        raise UserError("the permission is no table of fields", where=path, expected=EXAMPLE)
    try:
        found = PermissionFile.model_validate(document)
    except ValidationError as error:
        raise UserError(
            "the permission is not valid",
            where=path,
            expected=explain(error, PermissionFile),
            do=f"write it like this:\n{EXAMPLE}",
        ) from error
    if found.date > today:
        raise UserError(
            f"the permission is of a day to come, {found.date}",
            where=path,
            expected=f"a date up to today, {today}",
        )
    if found.expires is not None and found.expires < today:
        raise UserError(
            f"the permission expired on {found.expires}",
            where=path,
            do=f"ask {found.holder} for a new one, or leave the source out: "
            f"--exclude {found.source}",
        )
    return Permission(**found.model_dump(), sha256=sha256_file(path))
