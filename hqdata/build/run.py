"""The whole build: find, plan, write what is missing, and only then say that a data set is
there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from hqdata.build.folder import remove_temporaries
from hqdata.build.options import BuildOptions, BuildResult, PartResult
from hqdata.build.session import Session
from hqdata.build.spool import remove_left_over
from hqdata.build.work import StoppedError
from hqdata.errors import CancelledError, UserError
from hqdata.files import no_room
from hqdata.places import Place
from hqdata.progress import Reporter, Silent
from hqdata.resolve import ResolvedRecipe

__all__ = ["BuildOptions", "BuildResult", "PartResult", "build", "build_part", "check_part"]


def build(
    resolved: ResolvedRecipe,
    data_root: Path | str,
    out: Path | str | Place,
    options: BuildOptions | None = None,
    *,
    only_finish: bool = False,
    reporter: Reporter | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> BuildResult:
    """Builds a data set; killed anywhere and called again, it gives the same bytes.

    Args:
        resolved: the recipe.
        data_root: folder or URL below which the sources lie; only read.
        out: folder or URL of the data set; nothing is written outside of it.
        options: see `BuildOptions`.
        only_finish: the tasks of an array have written the shards; refuse if they have not.
        reporter: is told the progress.
        tell: is given a line of text for each thing worth knowing.

    Raises:
        HqdataError: a missing or ambiguous source, a folder that is not ours or is being written
        to, no room, a storage that cannot be reached.
    """
    options = options or BuildOptions()
    place = Place.of(out)
    place.check_writable()
    with _explained(place), place.claim():
        if place.local is not None:
            remove_temporaries(place.local)
            remove_left_over(place.local)
        with Session(resolved, data_root, place, options, reporter or Silent(), tell) as work:
            return work.run(only_finish=only_finish)


def build_part(
    resolved: ResolvedRecipe,
    data_root: Path | str,
    out: Path | str | Place,
    options: BuildOptions | None = None,
    *,
    part: tuple[int, int],
    stage: Literal["choose", "write"] | None = None,
    reporter: Reporter | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> PartResult:
    """Does one part of a build, beside others; `build` with `only_finish` ends it.

    Args:
        resolved, data_root, out, options, reporter, tell: as for `build`, the same in all parts.
        part: (number from 1, number of parts).
        stage: `choose` has this part's archives list their pictures, `write` writes its shards;
            None does both, as far as the lists of the other parts are there.

    Raises:
        HqdataError: as for `build`.
    """
    options = options or BuildOptions()
    place = Place.of(out)
    place.check_writable()
    with (
        _explained(place),
        place.claim(shared=True),
        Session(resolved, data_root, place, options, reporter or Silent(), tell) as work,
    ):
        return work.run_part(part, stage)


@contextmanager
def _explained(out: Place) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = no_room(error, out.local) if out.local is not None else None
        if full is None:
            raise
        raise full from error
    except (KeyboardInterrupt, StoppedError):
        raise CancelledError(
            "stopped",
            where=out.shown,
            do="run the same command again to go on: finished shards are kept",
        ) from None


def check_part(text: str) -> tuple[int, int]:
    """`3/8` as (3, 8).

    Raises:
        UserError: it is no such thing.
    """
    number, slash, count = text.partition("/")
    if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return int(number), int(count)
    raise UserError(
        f"--task {text}: no part of an array",
        expected="its number and how many there are, from 1, e.g. 3/8; for Slurm "
        "--array=1-8 and --task $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT",
    )
