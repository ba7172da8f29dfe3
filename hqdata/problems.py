"""What can be wrong with the data, as a closed list, and the rows of `problems.jsonl`.

A problem never stops a build. The sample stays out, the row says which file, what is wrong and what
would mend it, and the command ends with exit status 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from hqdata.errors import DatasetError


class ProblemKind(str, Enum):
    """Every kind that can stand in `problems.jsonl`; `docs/problems.md` says what to do about
    each.
    """

    MISSING_MASK = "missing_mask"
    """An image without a mask of its stem."""
    MISSING_IMAGE = "missing_image"
    """A mask, or a line of the release's list, without an image."""
    UNREADABLE_IMAGE = "unreadable_image"
    """The image's bytes cannot be read or are no picture that can be decoded."""
    TRUNCATED_IMAGE = "truncated_image"
    """The image's file ends too early."""
    DAMAGED_IMAGE = "damaged_image"
    """The image decodes only with errors in its compressed data."""
    UNREADABLE_MASK = "unreadable_mask"
    """The mask's bytes cannot be read, are truncated, damaged or no picture."""
    MISLABELLED_FILE = "mislabelled_file"
    """The file's name says one format, its bytes another."""
    SIZE_MISMATCH = "size_mismatch"
    """Mask and upright image differ in width or height."""
    EMPTY_MASK = "empty_mask"
    """No pixel of the mask is object (> 128 after normalisation)."""
    AMBIGUOUS_MASK = "ambiguous_mask"
    """A colour label map, a trimap, a photograph: grey levels that are neither soft edges nor
    ids.
    """
    TOO_LARGE = "too_large"
    """More pixels or bytes than the recipe's limits allow."""
    DUPLICATE_KEY = "duplicate_key"
    """Two files that would get the same key."""
    UNEXPECTED_NAME = "unexpected_name"
    """A pair whose name is not in the release's list of names."""
    MISSING_NAME = "missing_name"
    """A name of the release's list that is not on disk."""
    STRAY_FILE = "stray_file"
    """A file in a source's folder that is neither image nor mask of this release."""
    UNUSED_DEFECT = "unused_defect"
    """A defect of the recipe names a pair or file that the source does not have."""
    BAD_MEMBER = "bad_member"
    """An archive member that is refused: absolute path, '..', a link, encrypted, listed twice."""
    COUNT_MISMATCH = "count_mismatch"
    """A split has another number of samples than the recipe expects."""
    DAMAGED_ARCHIVE = "damaged_archive"
    """An archive that is sampled from is cut short, unreadable or holds refused members."""
    CLUSTER_SAMPLE = "cluster_sample"
    """A sample was drawn from a part of the archives only."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        source: short name of the source.
        split: its split.
        image: upstream path of the image concerned, or "".
        mask: upstream path of the mask concerned, or "".
        kind: what is wrong.
        message: what was found, what was expected, what would mend it.
    """

    source: str
    split: str
    image: str
    mask: str
    kind: ProblemKind
    message: str

    def to_dict(self) -> dict[str, str]:
        """The row as it stands in `problems.jsonl`."""
        return {**asdict(self), "kind": self.kind.value}

    @classmethod
    def from_dict(cls, row: dict[str, str]) -> Problem:
        """The inverse of `to_dict`. Raises ValueError or TypeError for a row we did not write."""
        rest = {name: value for name, value in row.items() if name != "kind"}
        return cls(kind=ProblemKind(row["kind"]), **rest)

    def sort_key(self) -> tuple[str, ...]:
        """Order of rows: by source, split, kind, then file."""
        return (self.source, self.split, self.kind.value, self.image, self.mask, self.message)


def to_jsonl(problems: Iterable[Problem]) -> str:
    """Sorted rows, one JSON object a line; an empty string for none. Always encodes as UTF-8."""
    rows = sorted(problems, key=Problem.sort_key)
    text = "".join(
        json.dumps(row.to_dict(), sort_keys=True, ensure_ascii=False) + "\n" for row in rows
    )
    # A lone surrogate of a file name that is no UTF-8 becomes its JSON escape.
    return text.encode("utf-8", "backslashreplace").decode()


def read_jsonl(path: Path) -> list[Problem]:
    """The problems of a data set.

    Raises:
        DatasetError: the file is missing or holds something else.
    """
    try:
        # Not splitlines(): a file name may hold U+2028 and its like, which JSON leaves as they are.
        lines = path.read_text(encoding="utf-8").split("\n")
        return [Problem.from_dict(json.loads(line)) for line in lines if line]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DatasetError(f"the list of problems cannot be read: {error}", where=path) from error
