"""A sample is drawn by arithmetic on what each archive lists, and the answer is that of all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqdata.build.draw import Drawn, draw, image_id_of, newly_damaged, shares
from hqdata.build.plan import ShardTask
from hqdata.build.sampled import plan_sample
from hqdata.bundles.records import BundleScan, Candidate, PassedOver
from hqdata.problems import Problem, ProblemKind
from hqdata.recipe import Recipe, RecipeSource, SampleSettings
from hqdata.resolve import SampleRequest, resolve
from hqdata.sampling import Choice, image_hash
from hqdata.storage import FileRef

SEED = 5


def recipe(images: int, **sample: object) -> Recipe:
    settings = SampleSettings.model_validate({"images": images, **sample})
    source = RecipeSource(source="sa1b", sample=settings)
    return Recipe(name="own", sources=(source,), seed=SEED, samples_per_shard=4)


def request(images: int, *, subset: bool = False, **sample: object) -> SampleRequest:
    return resolve(recipe(images, **sample), subset=subset).samples[0]


def ref(name: str, size: int = 1000) -> FileRef:
    return FileRef(f"/data/{name}", "range", 0, size, size, -1, f"{name}:{size}")


def candidate(bundle: str, image_id: int, annotations: tuple[int, ...] = (7,)) -> Candidate:
    path = f"{bundle}/sa_{image_id}"
    return Candidate(
        image_hash(SEED, image_id),
        image_id,
        ref(f"{path}.jpg"),
        ref(f"{path}.json", 100),
        f"{path}.jpg",
        f"{path}.json",
        annotations,
    )


def scan(bundle: str, ids: Iterable[int], num_keep: int, **facts: object) -> BundleScan:
    """What an archive of these pictures lists."""
    everything = sorted((candidate(bundle, i) for i in ids), key=lambda c: (c.hash, c.image_id))
    values: dict[str, object] = {
        "bundle": bundle,
        "stamp": "1",
        "choice": Choice(SEED).to_dict(),
        "num_keep": num_keep,
        "num_images": len(everything),
        "exhausted": len(everything) <= num_keep,
        "candidates": tuple(everything[:num_keep]),
        "passed_over": (),
        "damage": (),
        "num_bytes_read": 0,
    }
    return BundleScan(**{**values, **facts})  # type: ignore[arg-type]


def problem(image_id: int, bundle: str = "sa_000000") -> Problem:
    path = f"{bundle}/sa_{image_id}.jpg"
    return Problem("sa1b", "train", path, "", ProblemKind.TRUNCATED_IMAGE, "it is cut short")


def ids_of(drawn: Drawn) -> list[int]:
    return [c.image_id for c in drawn.places() if c is not None]


def tasks_of(drawn: Drawn, images: int) -> list[ShardTask]:
    return plan_sample(drawn, drawn.pairing(), recipe(images))


ARCHIVES = st.lists(st.integers(0, 30), min_size=1, max_size=6)
"""Pictures in each of some archives."""


def numbered(sizes: list[int]) -> list[list[int]]:
    """Ids of the pictures of each archive: all different."""
    begin = 1
    found = []
    for size in sizes:
        found.append(list(range(begin, begin + size)))
        begin += size
    return found


@given(ARCHIVES, st.integers(1, 60), st.integers(1, 12))
def test_archives_that_listed_enough_give_the_smallest_of_all(
    sizes: list[int], images: int, num_keep: int
) -> None:
    """Listing again with twice as many, wherever it is asked for, always ends at the truth."""
    archives = numbered(sizes)
    keep = {f"sa_{i:06d}": num_keep for i in range(len(archives))}
    while True:
        scans = [scan(name, ids, keep[name]) for name, ids in zip(keep, archives, strict=True)]
        drawn = draw(request(images), scans, {})
        lacking = drawn.lacking()
        if not lacking:
            break
        for short in lacking:
            keep[short.bundle] *= 2
    everything = sorted(i for ids in archives for i in ids)
    truth = sorted(everything, key=lambda i: (image_hash(SEED, i), i))[:images]
    assert ids_of(drawn) == truth


@given(ARCHIVES, st.integers(1, 40), st.data())
def test_damage_gives_places_to_the_next_and_moves_nobody_else(
    sizes: list[int], images: int, data: st.DataObject
) -> None:
    archives = numbered(sizes)
    everything = [i for ids in archives for i in ids]
    damaged = data.draw(st.sets(st.sampled_from(everything))) if everything else set()
    scans = [scan(f"sa_{n:06d}", ids, 99) for n, ids in enumerate(archives)]
    whole = draw(request(images), scans, {})
    drawn = draw(request(images), scans, {i: problem(i) for i in damaged})
    usable = [i for i in everything if i not in damaged]
    truth = sorted(usable, key=lambda i: (image_hash(SEED, i), i))[:images]
    assert sorted(ids_of(drawn)) == sorted(truth)
    for before, after in zip(whole.places(), drawn.places(), strict=True):
        assert before is not None
        if before.image_id not in damaged:
            assert after == before


@given(st.integers(1, 40), st.sets(st.integers(1, 60)))
def test_only_shards_that_had_a_damaged_picture_change(images: int, damaged: set[int]) -> None:
    scans = [scan("sa_000000", range(1, 101), 100)]
    whole = draw(request(images), scans, {})
    drawn = draw(request(images), scans, {i: problem(i) for i in damaged})
    first = {task.path: task for task in tasks_of(whole, images)}
    second = {task.path: task for task in tasks_of(drawn, images)}
    assert first.keys() == second.keys()
    for path, task in first.items():
        lost = {i for i in damaged if any(x.origin.key == f"sa1b-sa_{i}" for x in task.items)}
        assert (second[path].fingerprint() == task.fingerprint()) == (not lost)


def test_finding_damage_step_by_step_ends_where_knowing_it_at_once_does() -> None:
    """The next in the order may be damaged, too; a resumed run finds that in other steps."""
    scans = [scan("sa_000000", range(1, 101), 100)]
    order = [c.image_id for c in draw(request(100), scans, {}).candidates]
    known: dict[int, Problem] = {}
    for image_id in (order[3], order[10], order[11], order[7]):
        known[image_id] = problem(image_id)
    by_steps: dict[int, Problem] = {}
    for image_id in known:
        by_steps[image_id] = known[image_id]
        stepwise = draw(request(10), scans, dict(by_steps))
    assert stepwise.places() == draw(request(10), scans, known).places()
    assert len(ids_of(stepwise)) == 10


def test_a_place_stays_empty_where_no_picture_is_left() -> None:
    drawn = draw(request(3), [scan("sa_000000", [1, 2, 3], 9)], {2: problem(2)})
    assert sorted(ids_of(drawn)) == [1, 3]
    assert drawn.places().count(None) == 1
    (told,) = [p for p in drawn.problems() if p.kind is ProblemKind.TRUNCATED_IMAGE]
    assert told.message.endswith("none was left to take its place")


def test_the_same_picture_in_two_archives_is_taken_once_from_the_first() -> None:
    scans = [scan("sa_000001", [1, 2], 9), scan("sa_000000", [2, 3], 9)]
    drawn = draw(request(3), scans, {})
    assert sorted(ids_of(drawn)) == [1, 2, 3]
    (two,) = [c for c in drawn.candidates if c.image_id == 2]
    assert two.image_path == "sa_000000/sa_2.jpg"
    assert drawn.twice == ("sa_000001/sa_2.jpg",)


class TestProblems:
    def test_those_that_the_sample_did_not_come_to_are_not_told(self) -> None:
        """What is told must not depend on how many an archive happened to list."""
        ordered = sorted(range(1, 21), key=lambda i: image_hash(SEED, i))
        over = tuple(
            PassedOver(image_hash(SEED, i), i, f"sa_000000/sa_{i}.jpg", "missing_mask", "no json")
            for i in (ordered[2], ordered[15])
        )
        ids = set(ordered) - {ordered[2], ordered[15]}
        drawn = draw(request(5), [scan("sa_000000", ids, 99, passed_over=over)], {})
        told = [p.image for p in drawn.problems() if p.kind is ProblemKind.MISSING_MASK]
        assert told == [f"sa_000000/sa_{ordered[2]}.jpg"]

    def test_a_filtered_picture_is_none(self) -> None:
        over = (PassedOver(0, 9, "sa_000000/sa_9.jpg", "filtered", "no mask passes"),)
        drawn = draw(request(2), [scan("sa_000000", [1, 2], 9, passed_over=over)], {})
        assert [p.kind for p in drawn.problems()] == [ProblemKind.CLUSTER_SAMPLE]

    def test_a_part_of_the_archives_is_one_unless_it_is_meant(self) -> None:
        scans = [scan("sa_000000", [1, 2], 9)]
        (told,) = draw(request(2), scans, {}).problems()
        assert told.kind is ProblemKind.CLUSTER_SAMPLE
        assert "1 of 1,000 archives" in told.message
        meant = draw(request(2, subset=True), scans, {})
        assert meant.problems() == []
        assert meant.info().cluster  # it goes into the manifest all the same

    def test_damage_of_an_archive_is_told_with_its_name(self) -> None:
        scans = [scan("sa_000000", [1, 2], 9, damage=("it is cut short after 4 members",))]
        told = [p for p in draw(request(2), scans, {}).problems() if p.image == "sa_000000"]
        assert [p.kind for p in told] == [ProblemKind.DAMAGED_ARCHIVE]

    def test_only_new_ones_of_this_sample_are_news(self) -> None:
        drawn = draw(request(2), [scan("sa_000000", [1, 2, 3], 9)], {1: problem(1)})
        other = replace(problem(3), source="dis")
        assert newly_damaged([problem(1), problem(2), other], drawn) == {2: problem(2)}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("sa_000020/sa_226692.jpg", 226692),
        ("sa_5.JPG", 5),
        ("sa_5.jpeg", 5),
        ("sa_000020", None),  # an archive
        ("im/2#Aircraft#4.jpg", None),  # of another source
    ],
)
def test_the_picture_of_a_problem(path: str, found: int | None) -> None:
    assert image_id_of(replace(problem(1), image=path)) == found


class TestSeveralMasks:
    def test_each_has_a_key_of_its_own_in_the_shard_of_its_picture(self) -> None:
        items = tuple(
            replace(c, annotations=(70 + c.image_id, 90 + c.image_id))
            for c in scan("sa_000000", range(1, 11), 99).candidates
        )
        scans = [scan("sa_000000", range(1, 11), 99, candidates=items)]
        drawn = draw(request(6, masks=2), scans, {})
        pairs = drawn.pairing().pairs
        assert len({pair.key for pair in pairs}) == 12
        tasks = plan_sample(drawn, drawn.pairing(), recipe(6, masks=2))
        for task in tasks:
            pictures = [item.origin.upstream_image for item in task.items]
            assert all(pictures.count(picture) == 2 for picture in pictures)


def test_shares_go_by_bytes() -> None:
    assert shares([1, 3], 8) == [2.0, 6.0]
    assert shares([], 8) == []
    assert shares([0, 0], 8) == [0.0, 0.0]
