"""What a build starts from: the pairs of every split of the recipe that is made of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hqdata.problems import ProblemKind
from hqdata.resolve import ResolvedRecipe, SplitRequest
from hqdata.scan import scan
from hqdata.sources.discover import choose, discover, pair_found
from hqdata.sources.layouts import TreeIndex
from hqdata.sources.pairing import Pairing, find_duplicate_keys

Where = tuple[str, str]
"""(source, split)."""


@dataclass(frozen=True, slots=True)
class Paired:
    """The pairs of a build.

    Attributes:
        requests: the splits, with what the layout that was found says of their masks.
        pairings: of every split.
        layouts: name of the layout by "source/split".
    """

    requests: tuple[SplitRequest, ...]
    pairings: dict[Where, Pairing]
    layouts: dict[str, str]


def find_pairs(
    resolved: ResolvedRecipe,
    data_root: Path | str,
    use: Mapping[str, str],
    tell: Callable[[str], None],
) -> Paired:
    """Looks for every split below the data root and pairs its files; opens no picture.

    Raises:
        HqdataError: a missing or ambiguous source, a folder that cannot be read.
    """
    if not resolved.splits:
        return Paired((), {}, {})
    tree = scan(data_root, on_archive=_archive_teller(tell))
    for archive, reason in tree.unreadable.items():
        tell(f"warning: {archive} is left alone: {reason}")
    index = TreeIndex(tree)
    chosen = choose(discover(index, resolved.splits, use), tree)
    pairings: dict[Where, Pairing] = {}
    for request, match in chosen:
        tell(f"{request.source} {request.split}: {match.where} (layout: {match.layout})")
        pairings[(request.source, request.split)] = pair_found(index, request, match)
    _report_bad_members_once(pairings)
    requests = (replace(r, mask_values=m.spec.mask_values or r.mask_values) for r, m in chosen)
    layouts = {f"{r.source}/{r.split}": m.layout for r, m in chosen}
    return Paired(tuple(requests), find_duplicate_keys(pairings), layouts)


def _report_bad_members_once(pairings: dict[Where, Pairing]) -> None:
    """Splits that read the same archive each see its refused members; one row each is enough.

    One for each source: what is said of a source must not depend on which others are built.
    """
    seen: set[tuple[str, str]] = set()
    for where, pairing in pairings.items():
        kept = []
        for problem in pairing.problems:
            member = (problem.source, problem.image)
            if problem.kind is ProblemKind.BAD_MEMBER and member in seen:
                continue
            if problem.kind is ProblemKind.BAD_MEMBER:
                seen.add(member)
            kept.append(problem)
        pairings[where] = replace(pairing, problems=tuple(kept))


def _archive_teller(tell: Callable[[str], None]) -> Callable[[str, int], None]:
    def on_archive(path: str, num_bytes: int) -> None:
        if path.lower().endswith((".gz", ".tgz")):
            tell(f"{path}: reading {num_bytes / 2**20:,.0f} MiB to list it; a .zip has an index")

    return on_archive
