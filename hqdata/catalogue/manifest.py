"""What is known of a data set, as data: the checked form of `manifests/<name>.yaml`.

A new source is one new YAML file. Nothing here touches the pictures; `hqdata.sources.discover`
looks for the layouts and `hqdata.sources.pairing` pairs the files.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

ShortName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=24)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

MaskValues = Literal["auto", "object_ids"]

DefectAction = Literal["drop", "resize_mask", "accept", "keep"]
"""drop: leave the pair (or the one file) out · resize_mask: bring the mask to the picture's size ·
accept: take a pair that would be a problem (a mislabelled, damaged or ambiguous file) as it decodes
    ·
keep: known to be wrong upstream, kept because the published set counts it; listed in every
report."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Licence(_Model):
    """What may be done with the pictures, and how we know. Information, not legal advice."""

    id: str = Field(
        min_length=1, description="SPDX id, or a short id like 'dis5k-terms' or 'none-stated'"
    )
    name: str
    url: str | None = None
    evidence: str = Field(min_length=1, description="where it is said, in a sentence")
    push: Literal["refuse", "private", "private-gated", "public"]
    stem: str | None = Field(
        default=None,
        description="regular expression of the set's file stems: its pictures are recognised by it"
        " under another name, where nothing else has such stems",
    )

    @field_validator("stem")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from error
        return value


class Archive(_Model):
    """A file the set is distributed as."""

    name: str = Field(min_length=1)
    release: str = Field(
        description="which release it belongs to, e.g. 'official' or 'sam-hq repack'"
    )
    page: str | None = Field(default=None, description="the page it is to be had from")
    num_bytes: int | None = Field(default=None, gt=0)
    sha256: Sha256 | None = None
    note: str | None = None


class Defect(_Model):
    """A known bad input and what to do about it."""

    split: str | None = Field(default=None, description="None: whichever split has it")
    name: str | None = Field(
        default=None, description="upstream stem of the pair, e.g. 'rubber_eraser/8'"
    )
    file: str | None = Field(default=None, description="one file below its image or mask folder")
    action: DefectAction
    prefer: str | None = Field(
        default=None, description="file to take where several share the pair's stem, e.g. 'x.jpg'"
    )
    reason: str = Field(min_length=1)
    reported: str = Field(min_length=1, description="where it was reported")

    @model_validator(mode="after")
    def _one_target(self) -> Defect:
        if (self.name is None) == (self.file is None):
            raise ValueError("a defect names either a pair (name:) or one file (file:)")
        if self.file is not None and self.action != "drop":
            raise ValueError("a single file can only be dropped")
        return self


def check_pattern(value: str) -> str:
    """The pattern of a folder of pictures, as `SplitLayout` describes it, if it is one.

    Raises:
        ValueError: it is none; the message says why.
    """
    parts = value.split("/")
    if len(parts) < 2 or parts[-1] not in {"*", "*.jpg", "*.png"}:
        raise ValueError("a pattern ends in '/*', '/*.jpg' or '/*.png' below at least one folder")
    for part in parts[:-1]:
        if part != "{class}" and not re.fullmatch(r"[^*{}\\]+", part):
            raise ValueError(f"bad component {part!r}: a folder name or '{{class}}'")
    if parts[0] == "{class}" or ".." in parts or "." in parts or "" in parts:
        raise ValueError("a pattern begins with a folder name and has no '.', '..' or empty parts")
    return value


class SplitLayout(_Model):
    """Where the files of one split lie in one layout.

    `images` and `masks` are patterns of POSIX paths relative to wherever the layout is found. The
    last component is `*` (any picture file), `*.jpg` (JPEG names only) or `*.png`; a component
    `{class}` stands for one folder level whose name becomes a part of the stem (`<class>/<stem>`).
    The first
    component has to name the set: it anchors the search below the data root.
    """

    images: str
    masks: str
    list: str | None = Field(default=None, description="text file of the names in this split")
    mask_values: MaskValues | None = Field(
        default=None, description="how levels are read in this layout, if not as in the others"
    )
    within: str | None = Field(
        default=None, description="folder that the release has these in; stands in the record only"
    )

    @field_validator("images", "masks")
    @classmethod
    def _pattern(cls, value: str) -> str:
        return check_pattern(value)


class Layout(_Model):
    """One way in which people have the set on disk."""

    name: str = Field(min_length=1)
    splits: dict[str, SplitLayout] = Field(min_length=1)


class SplitFacts(_Model):
    """What is expected of a split."""

    expect: int = Field(gt=0, description="number of pairs in the release")
    certainty: Literal["published", "from-lists", "common-knowledge"] = "published"
    names: str | None = Field(
        default=None, description="a name list in manifests/names, without suffix"
    )


class SetManifest(_Model):
    """One data set: names, papers, licence, where it is to be had, how it lies on disk, what is
    wrong.
    """

    short_name: ShortName
    full_name: str
    aliases: tuple[str, ...] = ()
    title: str
    role: Literal["training", "evaluation"]
    family: ShortName | None = Field(
        default=None, description="set whose training split makes results here not zero-shot"
    )
    home: str
    citation: str = Field(description="BibTeX")
    licence: Licence
    archives: tuple[Archive, ...] = ()
    masks: MaskValues = Field(
        default="auto", description="object_ids: every non-zero value is an object"
    )
    splits: dict[ShortName, SplitFacts] = Field(min_length=1)
    layouts: tuple[Layout, ...] = Field(min_length=1)
    defects: tuple[Defect, ...] = ()
    overlap: tuple[str, ...] = Field(default=(), description="overlaps known by construction")
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> SetManifest:
        for layout in self.layouts:
            unknown = set(layout.splits) - set(self.splits)
            if unknown:
                raise ValueError(
                    f"layout {layout.name!r} has splits not in 'splits': {sorted(unknown)}"
                )
        for defect in self.defects:
            if defect.split is not None and defect.split not in self.splits:
                raise ValueError(
                    f"defect {defect.name or defect.file!r}: no split {defect.split!r}"
                )
        return self

    def layouts_of(self, split: str) -> list[tuple[str, SplitLayout]]:
        """Layouts that have this split, in order of preference."""
        return [(lay.name, lay.splits[split]) for lay in self.layouts if split in lay.splits]
