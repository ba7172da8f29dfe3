"""What can go wrong because of the user, the machine or another process.

Everything here is shown as one message without a traceback. Damage in the *data* is not an error
but a `hqdata.problems.Problem`: it is collected while the work goes on.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class HqdataError(Exception):
    """A failure that the person at the keyboard can mend.

    Args:
        what: what is wrong, in one sentence, with the offending value.
        where: the file, archive member or setting it concerns.
        expected: what would have been right.
        do: what to do about it.
    """

    exit_status = 2

    def __init__(
        self,
        what: str,
        *,
        where: str | Path | None = None,
        expected: str | None = None,
        do: str | None = None,
    ) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.expected = expected
        self.do = do
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [self.what]
        for label, text in (("where", self.where), ("expected", self.expected), ("to do", self.do)):
            if text:
                lines.append(f"  {label}: {text}".replace("\n", "\n    "))
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes hand their errors to the parent by pickling them.
        return _rebuild, (type(self), self.what, self.where, self.expected, self.do)


def _rebuild(
    kind: type[HqdataError], what: str, where: str | None, expected: str | None, do: str | None
) -> HqdataError:
    return kind(what, where=where, expected=expected, do=do)


class UserError(HqdataError):
    """A wrong path, name, option or file that the user gave."""


class MissingSourceError(HqdataError):
    """A source that the recipe asks for is not below the data root."""


class AmbiguousSourceError(HqdataError):
    """Several places could be the same source: a question to the user."""


class BusyError(HqdataError):
    """Another process is writing to the same place."""


class DatasetError(HqdataError):
    """A folder that is not a finished data set, or of another version."""


class InterruptedBuildError(HqdataError):
    """The build stopped half-way through no fault of its inputs; the same command resumes it."""

    exit_status = 1


class CancelledError(InterruptedBuildError):
    """The user stopped it."""

    exit_status = 130


def nearest(word: str, choices: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"`, or an empty string when nothing is close."""
    known = list(choices)
    folded = {c.casefold(): c for c in known}
    close = difflib.get_close_matches(word.casefold(), list(folded), n=1, cutoff=0.5)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""
