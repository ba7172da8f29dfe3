"""Drawing a sample from what the archives list: pure arithmetic, no file is opened.

The sample is the eligible pictures with the smallest keyed hashes. Each archive lists its own
smallest; merged they are the answer as far as every archive listed enough, and that can be told.
A picture that proves damaged when it is decoded gives its place, its shard included, to the next
in the order, so that no other shard changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hqdata.bundles.scan import BundleScan, Candidate, PassedOver
from hqdata.problems import Problem, ProblemKind
from hqdata.resolve import SampleRequest
from hqdata.sampling import image_hash
from hqdata.shards.dataset import SampleInfo
from hqdata.sources.keys import make_key
from hqdata.sources.pairing import File, Pair, Pairing

Bound = tuple[int, int]
"""A place in the order: (hash, image id)."""

_NOWHERE: Bound = (2**64, 0)
"""Behind every picture."""

_IMAGE_NAME = re.compile(r"(?:.*/)?sa_(\d+)\.jpe?g", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A sample, as far as is known which of its pictures are damaged.

    Attributes:
        request: what the recipe asks for.
        scans: what each archive lists, by name.
        candidates: all pictures that are listed, each id once, by (hash, id).
        twice: paths of pictures that a second archive has, too; the first archive's are taken.
        damage: problems of pictures that cannot be decoded, by image id.
    """

    request: SampleRequest
    scans: tuple[BundleScan, ...]
    candidates: tuple[Candidate, ...]
    twice: tuple[str, ...]
    damage: dict[int, Problem]

    @property
    def source(self) -> str:
        """Short name of the set."""
        return self.request.source

    @property
    def split(self) -> str:
        """Name of the split."""
        return self.request.split

    @property
    def where(self) -> tuple[str, str]:
        """(source, split)."""
        return self.source, self.split

    @property
    def num_images(self) -> int:
        """Pictures asked for."""
        return self.request.settings.images

    @property
    def is_cluster(self) -> bool:
        """Whether it was drawn from a part of the archives only."""
        return len(self.scans) < self.request.set.num_archives

    def bound(self) -> Bound:
        """The place of the last picture that is taken; behind all if there are too few."""
        usable = [c for c in self.candidates if c.image_id not in self.damage]
        if len(usable) < self.num_images:
            return _NOWHERE
        last = usable[self.num_images - 1]
        return last.hash, last.image_id

    def lacking(self) -> list[BundleScan]:
        """Archives that may have a picture of the sample which they do not list."""
        bound = self.bound()
        return [scan for scan in self.scans if not scan.covers(bound)]

    def places(self) -> list[Candidate | None]:
        """The pictures in the order of the shards; None where there was none left to take it.

        The first of the order; those that are damaged make room for the next ones of it.
        """
        first, rest = self.candidates[: self.num_images], self.candidates[self.num_images :]
        reserves = (c for c in rest if c.image_id not in self.damage)
        return [c if c.image_id not in self.damage else next(reserves, None) for c in first]

    def groups(self) -> list[tuple[Pair, ...]]:
        """The pairs of each place."""
        return [() if c is None else self._pairs(c) for c in self.places()]

    def first_groups(self) -> list[tuple[Pair, ...]]:
        """The same if no picture were damaged: what the number of shards goes by."""
        return [self._pairs(c) for c in self.candidates[: self.num_images]]

    def all_keys(self) -> set[str]:
        """Keys of all pairs that are in the sample or may come to be."""
        return {pair.key for c in self.candidates for pair in self._pairs(c)}

    def _pairs(self, candidate: Candidate) -> tuple[Pair, ...]:
        several = self.request.choice.masks != 1
        stem = f"sa_{candidate.image_id}"
        found = []
        for annotation in candidate.annotations:
            name = f"{stem}_{annotation}" if several else stem
            found.append(
                Pair(
                    key=make_key(self.source, name),
                    name=name,
                    image=File(candidate.image_path, candidate.image),
                    mask=File(f"{candidate.notes_path}#{annotation}", candidate.notes),
                    annotation=annotation,
                )
            )
        return tuple(found)

    def pairing(self) -> Pairing:
        """The pairs, with all that is wrong."""
        pairs = sorted((p for group in self.groups() for p in group), key=lambda pair: pair.key)
        return Pairing(tuple(pairs), tuple(self.problems()), (), 0)

    def problems(self) -> list[Problem]:
        """What is wrong with the archives, with pictures of the sample, and with the sample."""
        bound = self.bound()
        found = [self._archive_problem(scan, line) for scan in self.scans for line in scan.damage]
        found += [
            self._problem(ProblemKind.DUPLICATE_KEY, line, image=bundle)
            for bundle, line in self._lines_of_twice()
        ]
        if not any(self.places()):
            told = f"no picture can be used; {self.filtered_line()}"
            found.append(self._problem(ProblemKind.COUNT_MISMATCH, told))
        found += [
            self._picture_problem(item)
            for scan in self.scans
            for item in scan.passed_over
            if item.kind != "filtered" and (item.hash, item.image_id) <= bound
        ]
        found += [
            replace(item, message=f"{item.message}; {self._who_took_it()}")
            for image_id, item in self.damage.items()
            if (image_hash(self.request.choice.seed, image_id), image_id) <= bound
        ]
        if self.is_cluster and not self.request.subset:
            found.append(
                self._problem(ProblemKind.CLUSTER_SAMPLE, f"{self.cluster_line()}; see --subset")
            )
        return found

    def _lines_of_twice(self) -> list[tuple[str, str]]:
        """For each archive whose pictures another has, too: its name, and what to say of it."""
        by_bundle: dict[str, list[str]] = {}
        for path in self.twice:
            by_bundle.setdefault(path.rpartition("/")[0], []).append(path)
        return [
            (
                bundle,
                f"{len(paths):,} pictures that it lists lie in an archive before it, too, e.g. "
                f"{paths[0]}; those are taken, and images_seen counts both; move one archive away",
            )
            for bundle, paths in sorted(by_bundle.items())
        ]

    def num_filtered(self) -> int:
        """Pictures that the filters passed over before the sample was full."""
        bound = self.bound()
        return sum(
            item.kind == "filtered" and (item.hash, item.image_id) <= bound
            for scan in self.scans
            for item in scan.passed_over
        )

    def filtered_line(self) -> str:
        """How many pictures the filters passed over, in words."""
        return f"the recipe's filters passed over {self.num_filtered():,}"

    def shortage_line(self) -> str | None:
        """What is to be said of a sample that is smaller than was asked for."""
        taken = sum(place is not None for place in self.places())
        if taken >= self.num_images:
            return None
        return (
            f"only {taken:,} of the {self.num_images:,} pictures asked for could be drawn; "
            f"{self.filtered_line()}"
        )

    def _who_took_it(self) -> str:
        full = self.bound() != _NOWHERE
        return "the next picture took its place" if full else "none was left to take its place"

    def cluster_line(self) -> str:
        """What is to be said of a sample of a part of the archives."""
        return (
            f"{len(self.scans):,} of {self.request.set.num_archives:,} archives are here: pictures "
            "of the others had no chance, so this is a cluster sample, not one of the whole set"
        )

    def _archive_problem(self, scan: BundleScan, line: str) -> Problem:
        return self._problem(ProblemKind.DAMAGED_ARCHIVE, line, image=scan.bundle)

    def _picture_problem(self, item: PassedOver) -> Problem:
        message = f"{item.message}; {self._who_took_it()}"
        return self._problem(ProblemKind(item.kind), message, image=item.image_path)

    def _problem(self, kind: ProblemKind, message: str, *, image: str = "") -> Problem:
        return Problem(self.source, self.split, image, "", kind, message)

    def info(self) -> SampleInfo:
        """What `dataset.json` says of it."""
        settings, choice = self.request.settings, self.request.choice
        taken = [c for c in self.places() if c is not None]
        last = max(taken, key=lambda c: (c.hash, c.image_id), default=None)
        return SampleInfo(
            images=settings.images,
            seed=choice.seed,
            masks=choice.masks,
            min_predicted_iou=choice.min_predicted_iou,
            min_stability_score=choice.min_stability_score,
            min_area_fraction=choice.min_area_fraction,
            max_area_fraction=choice.max_area_fraction,
            archives=len(self.scans),
            archives_expected=self.request.set.num_archives,
            images_seen=sum(scan.num_images for scan in self.scans),
            last_hash="" if last is None else f"{last.hash:016x}",
            cluster=self.is_cluster,
            drawn=len(taken),
            filtered=self.num_filtered(),
            replaced=sum(c.image_id in self.damage for c in self.candidates[: self.num_images]),
        )


def draw(request: SampleRequest, scans: Iterable[BundleScan], damage: dict[int, Problem]) -> Drawn:
    """Merges what the archives list."""
    ordered = tuple(sorted(scans, key=lambda scan: scan.bundle))
    taken: dict[int, Candidate] = {}
    twice = [
        candidate.image_path
        for scan in ordered
        for candidate in scan.candidates
        if taken.setdefault(candidate.image_id, candidate) is not candidate
    ]
    candidates = sorted(taken.values(), key=lambda c: (c.hash, c.image_id))
    return Drawn(request, ordered, tuple(candidates), tuple(twice), damage)


def image_id_of(problem: Problem) -> int | None:
    """The number of the picture that a problem is about; None if it is of no picture."""
    found = _IMAGE_NAME.fullmatch(problem.image)
    return None if found is None else int(found[1])


def newly_damaged(problems: Iterable[Problem], drawn: Drawn) -> dict[int, Problem]:
    """Of the problems of shards those of this sample's pictures that were not known, by image."""
    found: dict[int, Problem] = {}
    for problem in problems:
        if (problem.source, problem.split) != drawn.where:
            continue
        image_id = image_id_of(problem)
        if image_id is not None and image_id not in drawn.damage:
            found.setdefault(image_id, problem)
    return found


def shares(sizes: Sequence[int], num_images: int) -> list[float]:
    """How many pictures of a sample each archive would have if it went by its bytes alone."""
    total = sum(sizes)
    return [num_images * size / total if total else 0.0 for size in sizes]
