"""Scanning a bundle: the same choice whatever it is packed in, and nothing is believed."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import io
import os
import random
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hqdata.bundles.find import Bundle, find_bundles
from hqdata.bundles.scan import BundleScan, ScanStoppedError, scan_bundle
from hqdata.errors import InterruptedBuildError
from hqdata.places import Place
from hqdata.sampling import Choice, image_hash
from hqdata.storage import FileReader
from support.sa1b import DAMAGE, File, Kind, make_bundle, make_files, make_picture, tar_of

CHOICE = Choice(seed=11)
KINDS: tuple[Kind, ...] = ("tar", "gz", "folder")


def scan(
    bundle: Bundle, out: Path, num_keep: int = 5, choice: Choice = CHOICE, *, index: bool = False
) -> BundleScan:
    ticks: list[int] = []
    place = Place.of(out)
    found = scan_bundle(
        bundle,
        choice,
        num_keep,
        kept=place,
        kept_name=f".hqdata/kept/{bundle.name}.tar",
        index=Place.of(out / "index") if index else None,
        tick=ticks.append,
        should_stop=lambda: False,
    )
    assert sum(ticks) == bundle.size
    assert min(ticks, default=0) >= 0
    assert BundleScan.read(found.to_bytes()) == found
    return found


def only(root: Path) -> Bundle:
    (bundle,) = find_bundles(root)
    return bundle


def told(found: BundleScan) -> tuple[object, ...]:
    """All that must not depend on the packing."""
    return (
        found.bundle,
        found.num_images,
        found.exhausted,
        [(c.hash, c.image_id, c.image_path, c.notes_path, c.annotations) for c in found.candidates],
        found.passed_over,
    )


def candidates(found: BundleScan) -> list[int]:
    return [candidate.image_id for candidate in found.candidates]


def by_hash(ids: list[int] | range, seed: int = 11) -> list[int]:
    return sorted(ids, key=lambda image_id: (image_hash(seed, image_id), image_id))


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_by_hash_are_listed_with_where_their_bytes_lie(
    tmp_path: Path, kind: Kind
) -> None:
    folder = "sa_000020" if kind == "folder" else "sa_000020.tar"
    make_bundle(tmp_path / "in" / folder, range(100, 140), kind=kind, order="shuffled")
    bundle = only(tmp_path / "in")
    found = scan(bundle, tmp_path / "out", 7)
    assert candidates(found) == by_hash(range(100, 140))[:7]
    assert (found.bundle, found.num_images, found.exhausted) == ("sa_000020", 40, False)
    assert (found.stamp, found.num_keep, found.choice) == (bundle.stamp, 7, CHOICE.to_dict())
    assert found.damage == found.passed_over == ()
    with FileReader() as reader:
        for row in found.candidates:
            assert row.hash == image_hash(11, row.image_id)
            assert row.image_path == f"sa_000020/sa_{row.image_id}.jpg"
            assert row.notes_path == f"sa_000020/sa_{row.image_id}.json"
            assert reader.read(row.image) == make_picture(row.image_id)
            assert b"sa_%d.jpg" % row.image_id in reader.read(row.notes)
            assert len(row.annotations) == 1


DAMAGES = st.dictionaries(
    st.integers(0, 29), st.sampled_from(sorted(set(DAMAGE) - {"twice"})), max_size=12
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(1, 35),
    DAMAGES,
    st.integers(0, 99),
    st.sampled_from([0, 1, 3]),
    st.sampled_from([0.0, 0.95]),
)
def test_the_choice_is_the_same_whatever_the_packing_and_the_order(
    tmp_path_factory: pytest.TempPathFactory,
    num_keep: int,
    damage: Mapping[int, str],
    order: int,
    masks: int,
    iou: float,
) -> None:
    root = tmp_path_factory.mktemp("packings")
    choice = Choice(seed=order, masks=masks, min_predicted_iou=iou)
    files = make_files(range(30), num_masks=5, damage=damage)
    random.Random(order).shuffle(files)
    found = []
    for kind in KINDS:
        pack(root / kind, files, kind)
        bundle = only(root / kind)
        found.append(scan(bundle, root / "out", num_keep, choice))
    found.append(scan(only(root / "tar"), root / "out", num_keep, choice, index=True))
    found.append(scan(only(root / "tar"), root / "out", num_keep, choice, index=True))
    assert all(told(other) == told(found[0]) for other in found)
    whole = scan(only(root / "tar"), root / "out", 99, choice)
    assert whole.exhausted
    # Fewer asked for are the first of more; the last pictures are not asked for in vain.
    assert candidates(found[0]) == candidates(whole)[:num_keep]
    assert found[0].exhausted == (len(whole.candidates) <= num_keep)
    last = [(row.hash, row.image_id) for row in found[0].candidates][-1:]
    assert found[0].passed_over == tuple(
        row for row in whole.passed_over if found[0].exhausted or (row.hash, row.image_id) < last[0]
    )
    shutil.rmtree(root)


def pack(root: Path, files: list[File], kind: Kind) -> None:
    root.mkdir(parents=True)
    if kind == "folder":
        (root / "sa_000001").mkdir()
        for name, data in files:
            (root / "sa_000001" / name).write_bytes(data)
        return
    data = tar_of(files)
    (root / "sa_000001.tar").write_bytes(data if kind == "tar" else gzip.compress(data, 1))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=60, max_size=60),
    st.integers(1, 50),
    st.integers(1, 9),
    st.integers(0, 1_000),
)
def test_the_first_of_several_bundles_are_the_first_of_all(
    tmp_path_factory: pytest.TempPathFactory,
    homes: list[int],
    wanted: int,
    num_keep: int,
    seed: int,
) -> None:
    """However the pictures are spread: list a few of each, and more where that was too few."""
    root = tmp_path_factory.mktemp("spread")
    files = make_files(range(60), num_masks=1, damage={7: "no_json", 8: "bad_rle"})
    for home in set(homes):
        here = [file for file in files if homes[int(file[0].split("_")[1].split(".")[0])] == home]
        pack(root / str(home), [*here, ("sa_1.txt", b"")], "tar")
        (root / str(home) / "sa_000001.tar").rename(root / f"sa_00000{home}.tar")
    bundles = {bundle.name: bundle for bundle in find_bundles(root)}
    choice = Choice(seed=seed)
    scans = {name: scan(bundle, root, num_keep, choice) for name, bundle in bundles.items()}
    while True:
        merged = sorted((c.hash, c.image_id) for s in scans.values() for c in s.candidates)[:wanted]
        bound = merged[-1] if len(merged) == wanted else (2**64, 0)
        short = [name for name, found in scans.items() if not found.covers(bound)]
        if not short:
            break
        for name in short:
            scans[name] = scan(bundles[name], root, 2 * scans[name].num_keep, choice)
    eligible = by_hash([i for i in range(60) if i not in (7, 8)], seed)
    assert [image_id for _, image_id in merged] == eligible[:wanted]
    shutil.rmtree(root)


DAMAGED = {
    "no_json": "missing_mask",
    "no_image": "missing_image",
    "bad_json": "unreadable_mask",
    "empty_json": "unreadable_mask",
    "bad_rle": "unreadable_mask",
    "wrong_size": "unreadable_mask",
    "no_masks": "unreadable_mask",
    "other_id": "unreadable_mask",
    "wrong_types": "unreadable_mask",
    "no_object": "unreadable_mask",
    "low_scores": "filtered",
    "empty_image": "unreadable_image",
    "twice": "duplicate_key",
}


@pytest.mark.parametrize("kind", ["tar", "gz"])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_picture_that_cannot_be_used_is_named_and_the_next_takes_its_place(
    tmp_path: Path, name: str, kind: Kind
) -> None:
    order = by_hash(range(20))
    make_bundle(
        tmp_path / "sa_000001.tar", range(20), kind=kind, damage={order[1]: name}, num_masks=3
    )
    choice = Choice(seed=11, min_predicted_iou=0.5)
    found = scan(only(tmp_path), tmp_path / "out", 3, choice)
    assert candidates(found) == [order[0], order[2], order[3]]
    assert [(row.image_id, row.kind, row.image_path) for row in found.passed_over] == [
        (order[1], DAMAGED[name], f"sa_000001/sa_{order[1]}.jpg")
    ]
    assert found.passed_over[0].message


def test_every_kind_of_damage_is_looked_at() -> None:
    assert set(DAMAGED) | {"truncated"} == set(DAMAGE)


def test_no_picture_is_decoded(tmp_path: Path) -> None:
    make_bundle(tmp_path / "sa_000001.tar", range(5), damage=dict.fromkeys(range(5), "truncated"))
    assert len(scan(only(tmp_path), tmp_path / "out", 9).candidates) == 5


@pytest.mark.parametrize("num_twice", [1, 12])
def test_pictures_that_come_twice_close_no_door_on_others(tmp_path: Path, num_twice: int) -> None:
    """In a stream they look like the first until their like comes, when the others have gone by."""
    order = by_hash(range(40))
    first = set(order[:num_twice])
    files = make_files(range(40), num_masks=1)
    of_first = [file for file in files if int(file[0][3:].split(".")[0]) in first]
    others = [file for file in files if file not in of_first]
    pack(tmp_path / "in", [*of_first, *others, *of_first], "gz")
    found = scan(only(tmp_path / "in"), tmp_path / "out", 3)
    assert candidates(found) == order[num_twice : num_twice + 3]
    assert [row.kind for row in found.passed_over] == ["duplicate_key"] * num_twice
    with FileReader() as reader:
        for row in found.candidates:
            assert reader.read(row.image) == make_picture(row.image_id)


def test_reading_a_local_tar_takes_its_headers_and_the_json_that_are_needed(
    tmp_path: Path,
) -> None:
    make_bundle(tmp_path / "sa_000001.tar", range(200), num_masks=2, width=640, height=480)
    bundle = only(tmp_path)
    found = scan(bundle, tmp_path / "out", 5, index=True)
    assert 401 * 512 <= found.num_bytes_read < 401 * 512 + 6 * 2_000 < bundle.size / 10
    again = scan(bundle, tmp_path / "out", 5, index=True)
    assert again.num_bytes_read < 6 * 2_000
    assert again.candidates == found.candidates


# Archives that are not whole


@pytest.mark.parametrize("kind", ["tar", "gz"])
def test_what_lies_before_a_cut_is_used_and_the_cut_is_told(tmp_path: Path, kind: Kind) -> None:
    files = make_files(range(20), num_masks=2)
    whole = tar_of(files)
    tail = len(tar_of(files[:30])) - 10_240 + 300
    cut = whole[: max(tail, len(whole) * 3 // 4)]
    data = cut if kind == "tar" else gzip.compress(whole, 1)[: -(len(whole) // 10)]
    (tmp_path / "sa_000001.tar").write_bytes(data)
    found = scan(only(tmp_path), tmp_path / "out", 30)
    assert 3 < len(found.candidates) < 20
    assert len(found.damage) == 1
    assert "cut short after" in found.damage[0]
    assert found.exhausted
    with FileReader() as reader:
        for row in found.candidates:
            assert reader.read(row.image) == make_picture(row.image_id)


@pytest.mark.parametrize("kind", ["tar", "gz"])
def test_a_tar_cut_anywhere_gives_the_same_packed_or_not(tmp_path: Path, kind: Kind) -> None:
    whole = tar_of(make_files(range(4), num_masks=1))
    for cut in (0, 100, 512, 1_000, len(whole) // 2, len(whole) - 10_240):
        results = []
        for number, data in enumerate((whole[:cut], gzip.compress(whole[:cut]))):
            place = tmp_path / str(number) / "sa_000001.tar"
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(data)
            results.append(scan(only(place.parent), tmp_path / "out", 9))
        assert told(results[0]) == told(results[1])
        assert len(results[0].damage) == len(results[1].damage) == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty, no tar file, or cut short"),
        (b"<html>Access denied</html>" * 99, "no tar file"),
        (gzip.compress(b"<html>Access denied</html>" * 99, mtime=0), "no tar file"),
        (b"\x1f\x8b" + bytes(600), "no tar file (its compression is damaged"),
        (gzip.compress(bytes(1024), mtime=0)[:-9], "gzip stream ends too early"),
    ],
    ids=["nothing", "a page", "a page in gzip", "no gzip", "half of gzip"],
)
def test_what_is_no_archive_is_told_and_holds_nothing(
    tmp_path: Path, data: bytes, said: str
) -> None:
    (tmp_path / "sa_000001.tar").write_bytes(data)
    found = scan(only(tmp_path), tmp_path / "out")
    assert found.candidates == ()
    assert found.exhausted
    assert said in found.damage[0]


def test_a_wrong_checksum_of_gzip_is_told(tmp_path: Path) -> None:
    """Only what is decompressed together with the end of it is lost."""
    files = make_files(range(80), num_masks=1, width=200, height=150)
    data = bytearray(gzip.compress(tar_of(files)))
    data[-6] ^= 1
    (tmp_path / "sa_000001.tar").write_bytes(data)
    found = scan(only(tmp_path), tmp_path / "out", 99)
    assert 40 < len(found.candidates) <= 80
    assert "incorrect data check" in found.damage[0]


def test_gzip_in_several_parts_and_with_padding_is_whole(tmp_path: Path) -> None:
    whole = tar_of(make_files(range(3), num_masks=1))
    parts = gzip.compress(whole[:5_000]) + gzip.compress(whole[5_000:]) + bytes(700)
    (tmp_path / "sa_000001.tar.gz").write_bytes(parts)
    found = scan(only(tmp_path), tmp_path / "out")
    assert len(found.candidates) == 3
    assert found.damage == ()


def test_a_bomb_is_put_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hqdata.bundles.stream.ALWAYS_EXPANDED", 2**20)
    bomb = gzip.compress(tar_of([("sa_1.jpg", bytes(50 * 2**20))]))
    (tmp_path / "sa_000001.tar.gz").write_bytes(bomb)
    found = scan(only(tmp_path), tmp_path / "out")
    assert "grows to more than 64 times its size" in found.damage[0]


def test_refused_members_are_named_and_counted(tmp_path: Path) -> None:
    files = [(f"../sa_{number}.jpg", b"x") for number in range(12)]
    (tmp_path / "sa_000001.tar").write_bytes(tar_of([*files, *make_files([99], num_masks=1)]))
    found = scan(only(tmp_path), tmp_path / "out")
    assert candidates(found) == [99]
    assert len(found.damage) == 11
    assert "'../sa_0.jpg' is refused" in found.damage[0]
    assert found.damage[-1] == "2 more members are refused"


def test_members_may_lie_in_folders_and_among_other_files(tmp_path: Path) -> None:
    files = [("README", b"hello"), *make_files([1, 2], num_masks=1), ("._sa_3.jpg", b"?")]
    (tmp_path / "sa_000001.tar").write_bytes(tar_of(files, folder="./sa_000001/"))
    found = scan(only(tmp_path), tmp_path / "out")
    assert sorted(c.image_path for c in found.candidates) == [
        "sa_000001/sa_1.jpg",
        "sa_000001/sa_2.jpg",
    ]


def test_pictures_beyond_the_limit_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("choose", "streamed"):
        monkeypatch.setattr(f"hqdata.bundles.{name}.MAX_IMAGE_BYTES", 100)
    for kind in KINDS:
        pack(tmp_path / kind, make_files([1], num_masks=1), kind)
        found = scan(only(tmp_path / kind), tmp_path / "out")
        assert [row.kind for row in found.passed_over] == ["too_large"]


# Folders, changes, stops


def test_a_folder_of_another_name_gives_bare_file_names(tmp_path: Path) -> None:
    make_bundle(tmp_path / "mine", [1, 2, 3], kind="folder", num_masks=1)
    found = scan(only(tmp_path), tmp_path / "out")
    assert found.bundle == "mine"
    assert {c.image_path for c in found.candidates} == {"sa_1.jpg", "sa_2.jpg", "sa_3.jpg"}


def test_two_pictures_of_one_number_in_a_folder_are_neither(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "sa_000001", [1, 2], kind="folder", num_masks=1)
    shutil.copy(folder / "sa_1.jpg", folder / "sa_1.jpeg")
    found = scan(only(tmp_path), tmp_path / "out")
    assert candidates(found) == [2]
    assert [(row.image_id, row.kind) for row in found.passed_over] == [(1, "duplicate_key")]


def test_a_picture_of_another_suffix_keeps_its_name(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "sa_000001", [1], kind="folder", num_masks=1)
    (folder / "sa_1.jpg").rename(folder / "sa_1.JPEG")
    found = scan(only(tmp_path), tmp_path / "out")
    assert [c.image_path for c in found.candidates] == ["sa_000001/sa_1.JPEG"]


def test_an_archive_that_changed_since_it_was_found_is_an_interruption(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "sa_000001.tar", [1], num_masks=1)
    bundle = only(tmp_path)
    path.write_bytes(path.read_bytes() + bytes(512))
    with pytest.raises(InterruptedBuildError, match="has changed"):
        scan(bundle, tmp_path / "out")


def test_an_archive_that_has_gone_is_told(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "sa_000001.tar", [1], num_masks=1)
    bundle = only(tmp_path)
    path.unlink()
    with pytest.raises(InterruptedBuildError, match="cannot be read by") as error:
        scan(bundle, tmp_path / "out")
    assert "No such file" in str(error.value)
    assert "move it away" in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_stops_when_it_is_told_to_and_leaves_nothing(tmp_path: Path, kind: Kind) -> None:
    pack(tmp_path / "in", make_files(range(30), num_masks=1), kind)
    out = tmp_path / "out"
    bundle = only(tmp_path / "in")
    for asked in (0, 1, 2):
        left = iter([False] * asked)
        with pytest.raises(ScanStoppedError):
            scan_bundle(
                bundle,
                CHOICE,
                20,
                kept=Place.of(out),
                kept_name="kept.tar",
                index=None,
                tick=lambda number: None,
                should_stop=lambda left=left: next(left, True),
            )
    assert not out.exists() or list(out.iterdir()) == []


def test_nothing_asked_for_and_nowhere_to_keep_are_mistakes_of_the_caller(tmp_path: Path) -> None:
    make_bundle(tmp_path / "sa_000001.tar", [1], kind="gz", num_masks=1)
    bundle = only(tmp_path)
    with pytest.raises(ValueError, match="0 candidates are none"):
        scan(bundle, tmp_path / "out", 0)
    with pytest.raises(ValueError, match="a place to keep it"):
        scan_bundle(
            bundle,
            CHOICE,
            1,
            kept=None,
            kept_name="",
            index=None,
            tick=lambda number: None,
            should_stop=lambda: False,
        )


# What is kept


def test_candidates_of_gzip_are_kept_as_a_tar_that_is_always_the_same(tmp_path: Path) -> None:
    files = make_files(range(25), num_masks=2)
    kept = []
    for number in range(2):
        random.Random(number).shuffle(files)
        pack(tmp_path / str(number), files, "gz")
        out = tmp_path / f"out{number}"
        found = scan(only(tmp_path / str(number)), out, 4)
        kept.append((out / ".hqdata/kept/sa_000001.tar").read_bytes())
        assert {c.image.container for c in found.candidates} == {
            str(out / ".hqdata/kept/sa_000001.tar")
        }
        assert [path.name for path in (out / ".hqdata/kept").iterdir()] == ["sa_000001.tar"]
    assert kept[0] == kept[1]
    order = by_hash(range(25))[:4]
    wanted = [f"sa_000001/sa_{i}.{end}" for i in order for end in ("jpg", "json")]
    with tarfile.open(fileobj=io.BytesIO(kept[0])) as tar:
        assert tar.getnames() == wanted


def test_what_is_kept_of_gzip_has_stamps_of_the_archive_not_of_the_kept_file(
    tmp_path: Path,
) -> None:
    pack(tmp_path / "in", make_files(range(25), num_masks=2), "gz")
    bundle = only(tmp_path / "in")
    few, more = scan(bundle, tmp_path / "a", 3), scan(bundle, tmp_path / "b", 9)
    assert [c.image.stamp for c in few.candidates] == [c.image.stamp for c in more.candidates[:3]]
    assert all(c.image.stamp.startswith(bundle.stamp) for c in few.candidates)


@pytest.mark.parametrize("change", [b"", b"no parquet", None])
def test_an_index_that_is_not_of_this_archive_is_not_believed(
    tmp_path: Path, change: bytes | None
) -> None:
    path = make_bundle(tmp_path / "in/sa_000001.tar", range(9), num_masks=1)
    before = scan(only(tmp_path / "in"), tmp_path / "out", index=True)
    index = tmp_path / "out/index/sa_000001.parquet"
    if change is None:
        path.write_bytes(tar_of(make_files(range(20, 45), num_masks=1)))
    else:
        index.write_bytes(change)
    written = index.read_bytes()
    after = scan(only(tmp_path / "in"), tmp_path / "out", index=True)
    assert (told(after) == told(before)) == (change is not None)
    assert index.read_bytes() != written
    assert told(after) == told(scan(only(tmp_path / "in"), tmp_path / "out"))


def test_what_a_failing_disk_does_not_give_is_nobodys_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bundle(tmp_path / "in/sa_000001.tar", range(9), num_masks=1)
    bundle = only(tmp_path / "in")
    pread, bad = os.pread, bundle.size // 2

    def failing(handle: int, size: int, offset: int) -> bytes:
        if offset > bad:
            raise OSError(errno.EIO, "Input/output error")
        return pread(handle, size, offset)

    with monkeypatch.context() as patch:
        patch.setattr("hqdata.bundles.walk.os.pread", failing)
        with pytest.raises(InterruptedBuildError, match="Input/output error"):
            scan(bundle, tmp_path / "out", 20, index=True)
    again = scan(bundle, tmp_path / "out", 20, index=True)
    assert (len(again.candidates), again.damage) == (9, ())


def test_damage_is_told_again_from_the_index(tmp_path: Path) -> None:
    files = [("../out", b"x"), *make_files(range(9), num_masks=1)]
    (tmp_path / "sa_000001.tar").write_bytes(tar_of([*files, files[1]])[:-10_240])
    first = scan(only(tmp_path), tmp_path / "out", index=True)
    second = scan(only(tmp_path), tmp_path / "out", index=True)
    assert second.num_bytes_read < first.num_bytes_read
    assert dataclasses.replace(second, num_bytes_read=first.num_bytes_read) == first
    assert len(first.damage) == 2


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"{}", b"0" * 64 + b"\n{}", bytes(range(256))],
    ids=["nothing", "no digest", "no line", "another digest", "noise"],
)
def test_a_kept_scan_that_is_not_ours_is_none(data: bytes) -> None:
    assert BundleScan.read(data) is None


def test_a_kept_scan_that_was_changed_is_none(tmp_path: Path) -> None:
    make_bundle(tmp_path / "sa_000001.tar", [1, 2], num_masks=1)
    data = scan(only(tmp_path), tmp_path / "out").to_bytes()
    assert BundleScan.read(data) is not None
    assert BundleScan.read(data[:-1]) is None
    assert BundleScan.read(data.replace(b"sa_000001", b"sa_000002")) is None


def test_covers_says_when_more_must_be_listed(tmp_path: Path) -> None:
    make_bundle(tmp_path / "sa_000001.tar", range(10), num_masks=1)
    order = [(image_hash(11, i), i) for i in by_hash(range(10))]
    found = scan(only(tmp_path), tmp_path / "out", 4)
    assert [found.covers(key) for key in order] == [True] * 4 + [False] * 6
    whole = scan(only(tmp_path), tmp_path / "out", 10)
    assert whole.exhausted
    assert whole.covers((2**64, 0))


def test_real_pictures_with_real_masks_go_through(real_data: Path, tmp_path: Path) -> None:
    """The real json of five pictures, with real photographs under their numbers."""
    photos = sorted((real_data / "sa1b").glob("*.jpg"))
    notes = sorted((real_data / "sa1b/annotations_real_fragments").glob("*.json"))
    files: list[File] = []
    for number, path in enumerate(notes):
        files.append((f"{path.stem}.jpg", photos[number % len(photos)].read_bytes()))
        files.append((path.name, path.read_bytes()))
    results = []
    for kind in KINDS:
        pack(tmp_path / kind, files, kind)
        results.append(scan(only(tmp_path / kind), tmp_path / "out", 9, Choice(44320, masks=0)))
    assert told(results[0]) == told(results[1]) == told(results[2])
    assert sorted(candidates(results[0])) == [1, 34, 560, 1010, 3032002]
    assert sum(len(c.annotations) for c in results[0].candidates) == 9
    own = dict(files)
    with FileReader() as reader:
        for found in results:
            for row in found.candidates:
                assert reader.read(row.image) == own[f"sa_{row.image_id}.jpg"]
                assert reader.read(row.notes) == own[f"sa_{row.image_id}.json"]
