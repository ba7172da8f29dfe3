"""Bundles behind a URL: the same as on a disk, through a network that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hqdata.bundles import stream
from hqdata.bundles.find import Bundle, find_bundles
from hqdata.bundles.scan import BundleScan, ScanStoppedError, scan_bundle
from hqdata.errors import InterruptedBuildError, UserError
from hqdata.places import Place
from hqdata.remote.retry import Retry
from hqdata.sampling import Choice, image_hash
from hqdata.storage import FileReader
from support.s3 import S3Server
from support.sa1b import make_bundle, make_files, make_picture, tar_of

CHOICE = Choice(seed=11, masks=2)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar, one with gzip inside, and a folder; beside a data set of ours."""
    root = tmp_path_factory.mktemp("local")
    damage = {3: "no_json", 4: "bad_rle", 5: "twice"}
    size = {"width": 400, "height": 300, "num_masks": 3}
    make_bundle(root / "in/sa_000000.tar", range(60), damage=damage, order="shuffled", **size)
    make_bundle(root / "in/sa_000001.tar", range(100, 160), kind="gz", order="shuffled", **size)
    make_bundle(root / "in/sub/sa_000002", range(200, 230), kind="folder", **size)
    (root / "in/built/.hqdata").mkdir(parents=True)
    (root / "in/built/.hqdata/x.json").write_bytes(b"{}")
    make_bundle(root / "in/built/sa_000003.tar", [1], num_masks=1)
    (root / "in/.hidden").mkdir()
    make_bundle(root / "in/.hidden/sa_000004.tar", [1], num_masks=1)
    return root / "in"


@pytest.fixture(scope="module")
def storage(local: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.fill(local, "data")
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def s3(storage: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    for name, value in storage.env().items():
        monkeypatch.setenv(name, value)
    storage.fail()
    storage.forget()
    yield storage
    storage.fail()


def scan(
    bundle: Bundle,
    out: Path | str,
    num_keep: int = 6,
    *,
    index: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> BundleScan:
    ticks: list[int] = []
    found = scan_bundle(
        bundle,
        CHOICE,
        num_keep,
        kept=Place.of(out),
        kept_name=f"kept/{bundle.name}.tar",
        index=Place.of(f"{out}/index") if index else None,
        tick=ticks.append,
        should_stop=should_stop,
    )
    assert sum(ticks) == bundle.size
    return found


def told(found: BundleScan) -> tuple[object, ...]:
    return (
        found.bundle,
        found.num_images,
        found.exhausted,
        [(c.hash, c.image_id, c.image_path, c.notes_path, c.annotations) for c in found.candidates],
        found.passed_over,
        found.damage,
    )


def test_the_same_bundles_are_found_as_on_a_disk(s3: S3Server, local: Path) -> None:
    here, there = find_bundles(local), find_bundles(s3.url("data"))
    assert [(b.name, b.where, b.kind, b.size) for b in there] == [
        (b.name, b.where, b.kind, b.size) for b in here
    ]
    assert [b.containers[0] for b in there] == [
        s3.url("data/sa_000000.tar"),
        s3.url("data/sa_000001.tar"),
        s3.url("data/sub/sa_000002"),
    ]
    assert find_bundles(s3.url("data")) == there


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("num_keep", [6, 99])
def test_the_same_pictures_are_chosen_as_on_a_disk(
    s3: S3Server, local: Path, tmp_path: Path, number: int, num_keep: int
) -> None:
    here = find_bundles(local)[number]
    there = find_bundles(s3.url("data"))[number]
    found = scan(there, tmp_path / "there", num_keep)
    assert told(found) == told(scan(here, tmp_path / "here", num_keep))
    with FileReader() as reader:
        for row in found.candidates:
            assert reader.read(row.image) == make_picture(row.image_id, width=400, height=300)


def test_a_remote_tar_is_read_once_and_its_pictures_stay_there(
    s3: S3Server, tmp_path: Path
) -> None:
    bundle = find_bundles(s3.url("data"))[0]
    s3.forget()
    found = scan(bundle, tmp_path)
    assert found.num_bytes_read == bundle.size
    assert s3.counts()["GET"] == 1
    assert {c.image.container for c in found.candidates} == {s3.url("data/sa_000000.tar")}
    assert list(tmp_path.iterdir()) == []


def test_with_an_index_only_the_json_that_are_needed_are_fetched(
    s3: S3Server, tmp_path: Path
) -> None:
    bundle = find_bundles(s3.url("data"))[0]
    first = scan(bundle, tmp_path, 3, index=True)
    s3.forget()
    more = scan(bundle, tmp_path, 9, index=True)
    assert more.candidates[:3] == first.candidates
    assert s3.counts()["GET"] <= 9 + 1 + 3
    assert more.num_bytes_read < bundle.size / 10


def test_pictures_that_come_twice_close_no_door_on_others(s3: S3Server, tmp_path: Path) -> None:
    order = sorted(range(40), key=lambda i: image_hash(11, i))
    files = make_files(range(40), num_masks=1)
    of_first = [file for file in files if int(file[0][3:].split(".")[0]) in order[:9]]
    others = [file for file in files if file not in of_first]
    place = Place.of(s3.url("twice"))
    place.write("sa_000007.tar", tar_of([*of_first, *others, *of_first]))
    (bundle,) = find_bundles(s3.url("twice"))
    found = scan(bundle, tmp_path, 3)
    assert [row.image_id for row in found.candidates] == order[9:12]
    assert len(found.passed_over) == 9
    place.remove("sa_000007.tar")


def test_what_is_kept_may_be_behind_a_url_too(s3: S3Server, tmp_path: Path) -> None:
    bundle = find_bundles(s3.url("data"))[1]
    found = scan(bundle, s3.url("out"), index=True)
    assert {c.image.container for c in found.candidates} == {s3.url("out/kept/sa_000001.tar")}
    with FileReader() as reader:
        for row in found.candidates:
            assert reader.read(row.image) == make_picture(row.image_id, width=400, height=300)
    plain = find_bundles(s3.url("data"))[0]
    assert told(scan(plain, s3.url("out"), index=True)) == told(scan(plain, tmp_path))
    assert scan(plain, s3.url("out"), index=True).num_bytes_read < plain.size / 10


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("fault", ["busy", "cut", "cut twice"])
def test_a_connection_that_breaks_is_made_again(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fault: str
) -> None:
    quick(monkeypatch)
    bundle = find_bundles(s3.url("data"))[number]
    expected = scan(bundle, tmp_path / "a")
    if fault == "busy":
        s3.refuse(3, of="sa_00000")
    else:
        s3.cut(2 if "twice" in fault else 1, of="sa_00000")
    assert told(scan(bundle, tmp_path / "b")) == told(expected)


def test_a_network_that_stays_away_is_an_interruption(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    bundle = find_bundles(s3.url("data"))[0]
    s3.refuse(1_000, of="sa_000000.tar")
    with pytest.raises(InterruptedBuildError, match="cannot be reached") as caught:
        scan(bundle, tmp_path)
    assert "testing-secret" not in str(caught.value)


def test_who_waits_for_a_network_can_be_stopped(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = find_bundles(s3.url("data"))[0]
    s3.refuse(1_000, of="sa_000000.tar")
    answers = iter([False] * 3)
    with pytest.raises(ScanStoppedError):
        scan(bundle, tmp_path, should_stop=lambda: next(answers, True))


def test_no_access_is_told(s3: S3Server, tmp_path: Path) -> None:
    bundle = find_bundles(s3.url("data"))[0]
    s3.refuse(1_000, status=403, code="AccessDenied", of="sa_000000.tar")
    with pytest.raises(UserError, match="refused"):
        scan(bundle, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"sa_1.jpg", b"sa_9.jpg"),
        lambda data: data.replace(b"sa_1.jpg", b"sa_9.jpg")[:1_000],
        lambda data: data[:1_000],
        lambda data: data + data,
        lambda data: b"",
    ],
    ids=["no tar", "shorter and no tar", "shorter", "longer", "empty"],
)
def test_an_archive_that_was_replaced_is_an_interruption(
    s3: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[bytes], bytes],
) -> None:
    quick(monkeypatch)
    place = Place.of(s3.url("changing"))
    data = (make_bundle(tmp_path / "sa_000009.tar", range(5), num_masks=1)).read_bytes()
    place.write("sa_000009.tar", data)
    (bundle,) = find_bundles(s3.url("changing"))
    place.write("sa_000009.tar", change(data))
    with pytest.raises(InterruptedBuildError, match="has changed"):
        scan(bundle, tmp_path / "out")
    place.remove("sa_000009.tar")


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same tries with hardly a pause."""
    patience = Retry(max_tries=4, first_wait=0.01, longest_wait=0.02)
    monkeypatch.setattr(stream, "PATIENCE", patience)
    monkeypatch.setattr("hqdata.places.PATIENCE", patience)
