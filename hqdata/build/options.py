"""What a build is told beyond the recipe, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from hqdata.build.engines import Engine
from hqdata.overlap.removal import Removal
from hqdata.problems import Problem
from hqdata.shards.dataset import DatasetInfo


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build did.

    Attributes:
        info: the content of `dataset.json`.
        problems: all problems, sorted.
        num_written: shards written in this run.
        num_kept: shards kept from an earlier run.
    """

    info: DatasetInfo
    problems: tuple[Problem, ...]
    num_written: int
    num_kept: int

    @property
    def clean(self) -> bool:
        """Whether the data set is complete and nothing at all was wrong."""
        return self.info.complete and not self.problems


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What a user may say about one build beyond the recipe.

    Attributes:
        workers: processes that write shards, where no engine is given.
        use: source -> path below the data root it has to be read from.
        prune: remove shards of sources that this build does not have.
        remove: pictures to leave out, because a report of overlaps says so.
        engine: where the tasks run; None: processes of this machine.
        index: folder or URL where lists of archives' members are kept for other builds.
    """

    workers: int = 1
    use: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    prune: bool = False
    remove: Removal | None = None
    engine: Engine | None = None
    index: str | None = None


@dataclass(frozen=True, slots=True)
class PartResult:
    """What one task of an array did.

    Attributes:
        num_scanned: archives that listed their pictures in this run.
        num_written: shards written in this run.
        num_kept: shards of this task that were there already.
        waiting: archives of other tasks whose lists are not there, so that no shard can be planned.
    """

    num_scanned: int
    num_written: int
    num_kept: int
    waiting: int
