"""How many edited copies the search for overlaps finds, beside hashes that others use.

    python -m benchmarks.overlap                        # photographs of $HQDATA_REAL_DATA/photos
    python -m benchmarks.overlap --photos FOLDER        # your own: distinct photographs
    python -m benchmarks.overlap --limits               # edits of which nothing is asked
    python -m benchmarks.overlap --speed [--coco]       # how long a whole proof takes

Every edit that the self-test knows is made of every photograph, and every copy is searched for
among all photographs, by our search and by each peer, the same copies in the same run. A photograph
half the list away lends the foreground that is pasted over.

A pair of a copy and its original is right; so is one with the photograph that lent a foreground.
Any other pair is false: the photographs have to be distinct. Recall counts originals alone;
precision is the share of all pairs that are right.

Ends with status 1 if a recall that is asked is missed, or if our search has a false pair.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import cv2
import faiss
import numpy as np

from benchmarks.overlap_limits import LIMITS
from benchmarks.overlap_peers import Peer, Pixels, peers
from hqdata.fingerprint import dihedral_hashes, trim_borders
from hqdata.overlap.edits import EDITS, Edit, Given
from hqdata.overlap.features import extract_evaluation
from hqdata.overlap.index_files import open_searcher, write_known
from hqdata.overlap.judge import View
from hqdata.overlap.search import Known
from hqdata.overlap.tasks import make_query
from hqdata.overlap.views import upright_pixels

REAL_DATA = Path(
    os.environ.get("HQDATA_REAL_DATA", Path(__file__).resolve().parents[2] / "shared/real-data")
)
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
OURS = "ours"
_TASK = 8
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Setting:
    """What every process of a run works with.

    Attributes:
        photos: the files, in the order by which they are numbered.
        index: folder of what our search knows of them.
        with_peers: whether the peers are run.
        limits: whether the edits are those of which nothing is asked.
    """

    photos: tuple[Path, ...]
    index: Path
    with_peers: bool
    limits: bool = False

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The edits that are made."""
        return LIMITS if self.limits else EDITS


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one copy.

    Attributes:
        edit: its name.
        photo, donor: numbers of the photographs; the donor is -1 where it lent nothing.
        kind: what our search calls the pair with the original, "" if it does not find it.
        hints: pairs with other photographs that our search mentions and does not confirm.
        paired: method -> photographs that it pairs the copy with.
        seconds: method -> what it took, from pixels to pairs.
        why: photograph -> our reason for a pair with it.
    """

    edit: str
    photo: int
    donor: int
    kind: str
    hints: int
    paired: dict[str, frozenset[int]]
    seconds: dict[str, float]
    why: dict[int, str]


@dataclass(slots=True)
class Row:
    """One line of the table: an edit.

    Attributes:
        found: method -> copies that it finds with their original.
        false: method -> (photograph of the copy, photograph it is paired with, why).
        right: method -> right pairs.
        kinds: what our search calls the pairs with originals, and how often.
        hints: pairs with other photographs that it mentions and does not confirm.
    """

    edit: Edit
    planted: int = 0
    found: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    false: dict[str, list[tuple[int, int, str]]] = field(default_factory=lambda: defaultdict(list))
    missed: list[int] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    hints: int = 0
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def recall(self, method: str) -> float:
        """Share of the copies that a method finds."""
        return self.found[method] / self.planted

    @property
    def asked(self) -> str:
        """The share that is asked, in words."""
        return f"{self.edit.recall:.1%}" if self.edit.recall else "-"

    @property
    def verdict(self) -> str:
        """Whether our search does what is asked, in a word."""
        return ("held" if self.held else "MISSED") if self.edit.recall else ""

    @property
    def held(self) -> bool:
        """Whether our search finds as many as are asked."""
        return self.recall(OURS) >= self.edit.recall


def read(path: Path) -> Pixels:
    """The photograph, upright, uint8 (h, w, 3) RGB."""
    return upright_pixels(path.read_bytes(), gray=False)


def photographs(folder: Path, limit: int | None = None) -> tuple[Path, ...]:
    """The photographs of a folder by name; `limit` of them, spread over the whole list."""
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if limit is None or limit >= len(found):
        return tuple(found)
    return tuple(found[len(found) * n // limit] for n in range(limit))


def known(pixels: Pixels) -> Known:
    """What the search knows of an evaluation picture."""
    x0, y0, x1, y1 = trim_borders(pixels)
    return Known(
        pixels.shape[1],
        pixels.shape[0],
        dihedral_hashes(pixels),
        dihedral_hashes(np.ascontiguousarray(pixels[y0:y1, x0:x1])),
        extract_evaluation(pixels),
    )


def _known_of(path: Path) -> Known:
    cv2.setNumThreads(1)
    return known(read(path))


class CopySearch:
    """Makes copies and searches for them; what one process keeps from task to task."""

    def __init__(self, setting: Setting) -> None:
        cv2.setNumThreads(1)
        faiss.omp_set_num_threads(1)
        self.setting = setting
        self.searcher = open_searcher(setting.index)
        self.photo = lru_cache(maxsize=16)(lambda n: read(setting.photos[n]))
        self.view = lru_cache(maxsize=1024)(lambda n: View.of(read(setting.photos[n])))
        self.peers: list[Peer] = peers()[0] if setting.with_peers else []
        originals = [read(path) for path in setting.photos] if self.peers else []
        self.codes = {
            peer.family: np.stack([peer.encode(pixels) for pixels in originals])
            for peer in {p.family: p for p in self.peers}.values()
        }

    def run(self, edit: Edit, photo: int) -> Outcome:
        """Makes one copy and searches for it."""
        donor = (photo + len(self.setting.photos) // 2) % len(self.setting.photos)
        rng = np.random.default_rng([photo, zlib.crc32(edit.name.encode())])
        copy = edit.apply(Given(self.photo(photo), self.photo(donor), rng))
        paired: dict[str, frozenset[int]] = {}
        seconds: dict[str, float] = {}
        began = time.perf_counter()
        findings = self.searcher.search(
            [make_query(copy)], view_query=lambda _: View.of(copy), view_known=self.view
        )
        seconds[OURS] = time.perf_counter() - began
        sure = [f for f in findings if f.judgement.confirmed]
        paired[OURS] = frozenset(f.known for f in sure)
        for family, group in groupby(self.peers, key=lambda peer: peer.family):
            began = time.perf_counter()
            members = list(group)
            code = members[0].encode(copy)
            encoded = time.perf_counter() - began
            for peer in members:
                began = time.perf_counter()
                matches = peer.matches(code, self.codes[family])
                paired[peer.name] = frozenset(np.flatnonzero(matches).tolist())
                seconds[peer.name] = encoded + time.perf_counter() - began
        lent = donor if "pasted" in edit.name and donor != photo else -1
        return Outcome(
            edit.name,
            photo,
            lent,
            next((f.judgement.kind for f in sure if f.known == photo), ""),
            sum(not f.judgement.confirmed and f.known not in (photo, lent) for f in findings),
            paired,
            seconds,
            {f.known: f"{f.judgement.kind}: {f.judgement.reason}" for f in sure},
        )


_process: CopySearch | None = None


def _start(setting: Setting) -> None:
    global _process
    _process = CopySearch(setting)


def _work(copies: Sequence[tuple[int, int]]) -> list[Outcome]:
    assert _process is not None
    return [_process.run(_process.setting.edits[edit], photo) for edit, photo in copies]


def measure(
    photos: Sequence[Path],
    *,
    step: int,
    with_peers: bool,
    workers: int,
    limits: bool = False,
) -> list[Row]:
    """Plants copies of every `step`th photograph and searches for them among all."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="hqdata-bench-") as scratch:
        index = Path(scratch) / "index"
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            write_known(list(pool.map(_known_of, photos, chunksize=8)), index, threads=workers)
        setting = Setting(tuple(photos), index, with_peers, limits)
        rows = {edit.name: Row(edit) for edit in setting.edits}
        copies = [(edit, n) for edit in range(len(rows)) for n in range(0, len(photos), step)]
        tasks = [copies[begin : begin + _TASK] for begin in range(0, len(copies), _TASK)]
        with ProcessPoolExecutor(
            workers, mp_context=context, initializer=_start, initargs=(setting,)
        ) as pool:
            for outcomes in pool.map(_work, tasks):
                for outcome in outcomes:
                    _count(rows[outcome.edit], outcome)
    return list(rows.values())


def _count(row: Row, outcome: Outcome) -> None:
    row.planted += 1
    row.hints += outcome.hints
    if outcome.kind:
        row.kinds[outcome.kind] += 1
    else:
        row.missed.append(outcome.photo)
    for method, others in outcome.paired.items():
        right = others & {outcome.photo, outcome.donor}
        row.found[method] += outcome.photo in others
        row.right[method] += len(right)
        row.seconds[method].append(outcome.seconds[method])
        for other in sorted(others - right):
            why = outcome.why.get(other, "") if method == OURS else ""
            row.false[method].append((outcome.photo, other, why))


def recall_table(rows: Sequence[Row], methods: Sequence[str]) -> Iterator[str]:
    """The lines of the table of recall."""
    width = max(len(row.edit.name) for row in rows)
    others = "".join(f"{name:>10}" for name in methods if name != OURS)
    yield f"{'edit':{width}} copies  asked   ours            ms{others}  kinds"
    for row in rows:
        yield (
            f"{row.edit.name:{width}} {row.planted:6} {row.asked:>6} "
            f"{row.recall(OURS):6.1%} {row.verdict:6} "
            f"{1000 * statistics.median(row.seconds[OURS]):6.0f}"
            + "".join(f"{row.recall(name):10.1%}" for name in methods if name != OURS)
            + "  "
            + ", ".join(f"{kind} {count}" for kind, count in row.kinds.most_common())
        )


def methods_table(rows: Sequence[Row], methods: Sequence[str]) -> Iterator[str]:
    """The lines of the table of methods: all edits together."""
    yield f"{'method':10}{'recall':>8}{'right pairs':>13}{'false pairs':>13}{'precision':>11}  ms"
    copies = sum(row.planted for row in rows)
    for name in methods:
        right = sum(row.right[name] for row in rows)
        false = sum(len(row.false[name]) for row in rows)
        found = sum(row.found[name] for row in rows)
        median = statistics.median(s for row in rows for s in row.seconds[name])
        yield (
            f"{name:10}{found / copies:8.1%}{right:13,}{false:13,}"
            f"{right / max(1, right + false):11.2%}  {1000 * median:.1f}"
        )


def report(rows: Sequence[Row], photos: Sequence[Path]) -> int:
    """Prints everything; returns the exit status."""
    methods = list(rows[0].found)
    print("\n".join(("", *recall_table(rows, methods), "", *methods_table(rows, methods))))
    hints = sum(row.hints for row in rows)
    print(f"\nhints of ours at other photographs, which count as nothing: {hints:,}")
    for row in rows:
        if row.missed:
            names = ", ".join(photos[n].name for n in row.missed[:_EXAMPLES])
            print(f"missed by ours, {row.edit.name}: {len(row.missed)}: {names}")
    for name in methods:
        false = [(row.edit.name, *pair) for row in rows for pair in row.false[name]]
        print(f"false pairs of {name}: {len(false):,}")
        shown = false if name == OURS else false[:: max(1, len(false) // _EXAMPLES)][:_EXAMPLES]
        for edit, photo, other, why in shown:
            print(f"  {edit}: {photos[photo].name} with {photos[other].name} {why}".rstrip())
    bad = any(not row.held or row.false[OURS] for row in rows)
    print("\nevery asked recall held, no false pair" if not bad else "\nNOT held, see above")
    return int(bad)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=REAL_DATA / "photos", help="distinct ones")
    parser.add_argument("--step", type=int, default=1, help="copies of every Nth photograph only")
    parser.add_argument("--limit", type=int, help="so many photographs only")
    parser.add_argument("--no-peers", action="store_true", help="our search alone")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--limits", action="store_true", help="edits of which nothing is asked")
    parser.add_argument("--speed", action="store_true", help="measure time instead")
    parser.add_argument("--coco", action="store_true", help="with --speed: COCO val2017, too")
    args = parser.parse_args()
    if not args.photos.is_dir():
        raise SystemExit(f"no such folder of photographs: {args.photos}; name one: --photos FOLDER")
    photos = photographs(args.photos, args.limit)
    if len(photos) < 3:
        raise SystemExit(f"{args.photos} has {len(photos)} photographs; three are the least")
    print(
        f"{len(photos)} photographs of {args.photos}, {args.workers} processes; "
        f"{platform.machine()}, Python {platform.python_version()}, OpenCV {cv2.__version__}",
        flush=True,
    )
    if args.speed:
        from benchmarks.overlap_speed import measure_speed

        sys.exit(measure_speed(photos, workers=args.workers, coco=args.coco))
    ready, absent = ([], []) if args.no_peers else peers()
    for line in (f"{OURS}: hqdata.overlap", *(f"{p.name}: {p.told}" for p in ready), *absent):
        print(line, flush=True)
    rows = measure(
        photos,
        step=args.step,
        with_peers=bool(ready),
        workers=args.workers,
        limits=args.limits,
    )
    sys.exit(report(rows, photos))


if __name__ == "__main__":
    main()
