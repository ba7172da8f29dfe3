"""Kill it anywhere, fill the disk, damage it: the same command again gives the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from hqdata.build.run import BuildOptions, build
from hqdata.build.work import sidecar_path
from hqdata.errors import BusyError, CancelledError, InterruptedBuildError, UserError
from hqdata.shards.check import check
from hqdata.shards.dataset import Dataset
from support.builds import (
    build_own,
    bytes_of,
    child_environment,
    command,
    heed_ctrl_c,
    hqdata,
    own_recipe,
    own_sources,
    write_recipe,
)

NAMES = ["flowers", "tools"]
SETTINGS = {"samples_per_shard": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    return own_sources(root, {"flowers": 24, "tools": 12}, width=640, height=480)


@pytest.fixture(scope="module")
def reference(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("reference") / "out"
    build_own(data, out, NAMES, **SETTINGS)
    return bytes_of(out)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "own.yaml", NAMES, "samples_per_shard: 4")


def _child(data: Path, out: Path) -> None:
    build_own(data, out, NAMES, **SETTINGS)


def _start_building(arguments: list[str | Path]) -> subprocess.Popen[str]:
    """The command line in a process of its own, returned once it writes shards."""
    run = subprocess.Popen(
        command(*arguments),
        env=child_environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )
    assert run.stderr is not None
    for line in run.stderr:
        if line.startswith("building"):
            return run
    raise AssertionError("the build ended before it wrote a shard")


def _temporaries(out: Path) -> list[Path]:
    return [path for path in out.rglob("*.tmp") if path.is_file()]


@pytest.mark.slow
def test_killed_fifty_times_at_random_moments(
    data: Path, reference: dict[str, str], tmp_path: Path
) -> None:
    """No moment leaves a folder that passes for a data set, or that a later run cannot complete."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.builds", "hqdata.build.run"])
    out = tmp_path / "out"
    rng = random.Random(44320)
    killed = 0
    while killed < 50:
        child = context.Process(target=_child, args=(data, out))
        child.start()
        child.join(rng.uniform(0, 0.6))
        child.kill()
        child.join()
        if child.exitcode == -signal.SIGKILL:
            killed += 1
        else:
            assert child.exitcode == 0
            assert bytes_of(out) == reference
            # Take something away again, so that the next run has work to be killed in.
            victim = rng.choice(sorted(out.glob("*/*.tar")))
            rng.choice([victim.unlink, lambda v=victim: shutil.rmtree(v.parent)])()
            (out / "dataset.json").unlink()
        if (out / "dataset.json").exists():
            assert not check(out).damages
    build_own(data, out, NAMES, **SETTINGS)
    assert bytes_of(out) == reference
    assert _temporaries(out) == []


@pytest.mark.slow
def test_a_killed_parent_takes_its_workers_along(
    data: Path, reference: dict[str, str], recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["build", "--data-root", data, "--recipe", recipe, "--out", out, "--workers", "2"]
    rng = random.Random(7)
    for delay in (0.0, 0.05, *(rng.uniform(0, 0.6) for _ in range(6))):
        run = _start_building(arguments)
        assert run.stderr is not None
        children = _children(run.pid)
        time.sleep(delay)
        run.kill()
        run.wait()
        run.stderr.close()
        _wait_until_gone(children)
    done = hqdata(*arguments)
    assert done.returncode == 0, done.stderr
    assert set(bytes_of(out)) == set(reference)
    assert not check(out).damages


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


def _wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 20
    for pid in pids:
        while Path(f"/proc/{pid}").exists() and _state(pid) != "Z":
            assert time.monotonic() < deadline, f"worker {pid} outlived its parent"
            time.sleep(0.05)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,  # Ctrl-C
        signal.SIGTERM,  # a job scheduler's farewell
    ],
)
def test_asked_to_stop_it_says_how_to_go_on(
    data: Path, recipe: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    arguments = ["build", "--data-root", data, "--recipe", recipe, "--out", out, "--workers", "2"]
    run = _start_building(arguments)
    assert run.stderr is not None
    run.send_signal(number)
    said = run.stderr.read()
    run.stderr.close()
    assert run.wait(30) == 130
    assert "run the same command again" in said
    assert "Traceback" not in said
    assert not (out / "dataset.json").exists()
    assert _temporaries(out) == []
    assert hqdata(*arguments).returncode == 0
    assert not check(out).damages


def test_a_full_disk_is_one_message_and_loses_nothing(
    data: Path, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["build", "--data-root", data, "--recipe", recipe, "--out", out, "--workers", "1"]
    limit = 200_000  # bytes a file: less than a shard, so that writing one fails half-way

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    full = subprocess.run(
        command(*arguments),
        env=child_environment(),
        capture_output=True,
        text=True,
        preexec_fn=small_files_only,
    )
    assert full.returncode == 1
    assert "no room left" in full.stderr
    assert "run the same command again" in full.stderr
    assert "Traceback" not in full.stderr
    assert not (out / "dataset.json").exists()
    assert _temporaries(out) == []
    assert hqdata(*arguments).returncode == 0
    assert not check(out).damages


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs; the file-size limit is tested above")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_really_full_disk_too(data: Path, reference: dict[str, str], small_disk: Path) -> None:
    with pytest.raises(InterruptedBuildError, match="no room left"):
        build_own(data, small_disk, NAMES, **SETTINGS)
    assert not (small_disk / "dataset.json").exists()
    assert _temporaries(small_disk) == []
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    result = build_own(data, small_disk, NAMES, **SETTINGS)
    assert result.num_kept > 0
    assert bytes_of(small_disk) == reference


@pytest.fixture
def finished(data: Path, reference: dict[str, str], tmp_path: Path) -> Path:
    out = tmp_path / "out"
    build_own(data, out, NAMES, **SETTINGS)
    return out


def _cut_at_a_member(path: Path) -> None:
    import tarfile

    with tarfile.open(path) as tar:
        third = tar.getmembers()[3]
    os.truncate(path, third.offset)
    with tarfile.open(path) as tar:
        assert len(tar.getmembers()) == 3  # Python's tarfile has nothing to say about it


def _flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "cut in the middle": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut at a member's end": _cut_at_a_member,
    "one bit in an image": lambda path: _flip(path, 4000),
    "one bit in a header": lambda path: _flip(path, 100),
    "emptied": lambda path: os.truncate(path, 0),
    "gone": lambda path: path.unlink(),
    "another shard's bytes": lambda path: shutil.copy(sorted(path.parent.glob("*.tar"))[1], path),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_found_and_made_anew(
    data: Path, reference: dict[str, str], finished: Path, damage: str
) -> None:
    path = sorted(finished.glob("flowers/*.tar"))[0]
    DAMAGES[damage](path)
    name = path.relative_to(finished).as_posix()
    for quick in (True, False):
        assert name in {d.path for d in check(finished, quick=quick).damages}
    result = build_own(data, finished, NAMES, **SETTINGS)
    assert (result.num_written, result.num_kept) == (1, len(result.info.shards) - 1)
    assert bytes_of(finished) == reference


@pytest.mark.parametrize("garbage", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"rows": 3}'])
def test_a_sidecar_that_is_not_ours_counts_for_nothing(
    data: Path, reference: dict[str, str], finished: Path, garbage: bytes
) -> None:
    shard = sorted(finished.glob("tools/*.tar"))[0].relative_to(finished).as_posix()
    sidecar_path(finished, shard).write_bytes(garbage)
    assert build_own(data, finished, NAMES, **SETTINGS).num_written == 1
    assert bytes_of(finished) == reference


@pytest.mark.parametrize(
    "name", ["dataset.json", "samples.parquet", "problems.jsonl", "_info.json"]
)
def test_a_lost_manifest_is_written_anew_without_touching_a_shard(
    data: Path, reference: dict[str, str], finished: Path, name: str
) -> None:
    (finished / name).unlink()
    assert build_own(data, finished, NAMES, **SETTINGS).num_written == 0
    assert bytes_of(finished) == reference


def test_a_changed_source_rewrites_its_own_shard_only(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(data, changed)
    build_own(changed, finished, NAMES, **SETTINGS)
    image = sorted((changed / "tools" / "images").iterdir())[0]
    other = sorted((changed / "tools" / "images").iterdir())[1]
    shutil.copyfile(other, image)
    result = build_own(changed, finished, NAMES, **SETTINGS)
    assert result.num_written == 1
    assert not check(finished).damages
    fresh = build_own(changed, tmp_path / "fresh", NAMES, **SETTINGS)
    assert fresh.info.digest == result.info.digest


def test_two_builds_into_one_folder_the_second_is_refused(
    data: Path, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["build", "--data-root", data, "--recipe", recipe, "--out", out, "--workers", "2"]
    first = _start_building(arguments)
    assert first.stderr is not None
    with pytest.raises(BusyError, match=f"another hqdata \\(process {first.pid}\\)"):
        build_own(data, out, NAMES, **SETTINGS)
    first.stderr.read()
    first.stderr.close()
    assert first.wait(60) == 0
    assert not check(out).damages


@pytest.mark.slow
def test_a_worker_that_is_killed_stops_the_build_with_a_message(
    data: Path, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["build", "--data-root", data, "--recipe", recipe, "--out", out, "--workers", "2"]
    run = _start_building(arguments)
    assert run.stderr is not None
    deadline = time.monotonic() + 20
    workers: list[int] = []
    while not workers and time.monotonic() < deadline:
        workers = [p for p in _children(run.pid) if "spawn_main" in _command_line(p)]
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    said = run.stderr.read()
    run.stderr.close()
    assert run.wait(60) == 1
    assert "a worker process died" in said
    assert "Traceback" not in said
    assert hqdata(*arguments).returncode == 0


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def test_a_bad_file_is_read_again_although_nothing_about_it_changed(
    data: Path, reference: dict[str, str], tmp_path: Path
) -> None:
    """A broken copy, a disk that was away: size and times may be the same once it is whole."""
    root = tmp_path / "data"
    shutil.copytree(data, root)
    image = sorted((root / "tools" / "images").iterdir())[0]
    whole, times = image.read_bytes(), image.stat()
    image.write_bytes(bytes(len(whole)))
    out = tmp_path / "out"
    broken = build_own(root, out, NAMES, **SETTINGS)
    assert [p.kind.value for p in broken.problems] == ["unreadable_image"]
    image.write_bytes(whole)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    healed = build_own(root, out, NAMES, **SETTINGS)
    assert healed.clean
    assert bytes_of(out) == reference


def test_a_flipped_bit_in_an_archive_heals_with_the_archive(
    data: Path, reference: dict[str, str], tmp_path: Path
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for name in NAMES:
        with zipfile.ZipFile(root / f"{name}.zip", "w") as archive:
            for file in sorted(p for p in (data / name).rglob("*") if p.is_file()):
                archive.write(file, file.relative_to(data))
    sound = (root / "tools.zip").read_bytes()
    _flip(root / "tools.zip", len(sound) // 3)
    out = tmp_path / "out"
    broken = build_own(root, out, NAMES, **SETTINGS)
    assert len(broken.problems) == 1
    assert "CRC" in broken.problems[0].message
    (root / "tools.zip").write_bytes(sound)
    assert build_own(root, out, NAMES, **SETTINGS).clean
    assert bytes_of(out) == reference


def test_other_content_of_the_same_size_and_time_is_noticed(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(data, changed)
    build_own(changed, finished, NAMES, **SETTINGS)
    mask = sorted((changed / "tools" / "masks").iterdir())[0]
    times = mask.stat()
    other = bytearray(mask.read_bytes())
    other += b""  # the same length, a byte of the compressed data changed below
    other[len(other) // 2] ^= 1
    mask.write_bytes(other)
    os.utime(mask, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert build_own(changed, finished, NAMES, **SETTINGS).num_written == 1


def test_an_edited_sidecar_counts_for_nothing(
    data: Path, reference: dict[str, str], finished: Path
) -> None:
    shard = sorted(finished.glob("tools/*.tar"))[0].relative_to(finished).as_posix()
    path = sidecar_path(finished, shard)
    path.write_bytes(path.read_bytes().replace(b'"mask_components":1', b'"mask_components":2'))
    assert build_own(data, finished, NAMES, **SETTINGS).num_written == 1
    assert bytes_of(finished) == reference


def test_unfinished_files_of_a_killed_build_are_removed(data: Path, finished: Path) -> None:
    left = [
        finished / ".samples.parquet.99.tmp",
        finished / "tools" / ".all-00000-of-00003.tar.99.tmp",
        finished / ".hqdata" / "shards" / "tools" / ".all-00000-of-00003.json.99.tmp",
    ]
    for path in left:
        path.write_bytes(b"half")
    build_own(data, finished, NAMES, **SETTINGS)
    assert _temporaries(finished) == []


def test_a_crash_while_the_manifest_is_written_leaves_no_data_set(
    data: Path, reference: dict[str, str], finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shards are all there, the table is new, `dataset.json` was to be last."""
    import hqdata.places as module

    (finished / "samples.parquet").write_bytes(b"damaged")
    real = module.write_whole

    def crash(path: Path, content: bytes) -> None:
        if path.name == "_info.json":
            raise KeyboardInterrupt
        real(path, content)

    monkeypatch.setattr(module, "write_whole", crash)
    with pytest.raises(CancelledError):
        build_own(data, finished, NAMES, **SETTINGS)
    assert not (finished / "dataset.json").exists()
    monkeypatch.undo()
    build_own(data, finished, NAMES, **SETTINGS)
    assert bytes_of(finished) == reference


def test_a_complete_data_set_is_not_replaced_by_less(
    data: Path, reference: dict[str, str], finished: Path, tmp_path: Path
) -> None:
    """Half of the files have gone from the data root: that is a question first."""
    part = tmp_path / "part"
    shutil.copytree(data, part)
    for path in sorted((part / "flowers").rglob("Pic 01*")):
        path.unlink()
    with pytest.raises(UserError, match="24 samples of flowers all, the sources now give 14"):
        build_own(part, finished, NAMES, **SETTINGS)
    assert bytes_of(finished) == reference
    options = BuildOptions(prune=True)
    result = build(own_recipe(NAMES, **SETTINGS), part, finished, options)
    assert result.info.num_samples == 26
    assert not check(finished).damages


def test_files_that_no_build_writes_are_left_where_they_are(data: Path, finished: Path) -> None:
    mine = finished / "tools" / "my-own-backup.tar"
    mine.write_bytes(b"precious")
    build_own(data, finished, NAMES, samples_per_shard=12)
    assert mine.read_bytes() == b"precious"


def test_a_link_in_the_output_folder_is_refused(data: Path, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (out / ".hqdata").mkdir(parents=True)
    elsewhere.mkdir()
    (out / "tools").symlink_to(elsewhere)
    with pytest.raises(UserError, match="link"):
        build_own(data, out, NAMES, **SETTINGS)
    assert list(elsewhere.iterdir()) == []


def test_an_archive_that_the_recipe_does_not_need_is_not_decompressed(
    data: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(data, root)
    with tarfile.open(root / "other.tar.gz", "w:gz") as archive:
        archive.add(data / "tools", "other")
    told: list[str] = []
    out = tmp_path / "out"
    build(own_recipe(["tools"]), root, out, tell=told.append)
    assert not any("decompressing" in line for line in told)


def test_a_slip_in_a_defect_of_the_recipe_is_a_problem(data: Path, tmp_path: Path) -> None:
    defects = [
        {"source": "tools", "name": "Pic 003", "action": "drop", "reason": "blurred"},
        {"source": "tools", "name": "Pic 0O4", "action": "drop", "reason": "blurred"},
    ]
    result = build_own(data, tmp_path / "out", ["tools"], defects=defects)
    assert [(p.kind.value, p.image) for p in result.problems] == [("unused_defect", "Pic 0O4")]
    assert result.info.sources["tools"]["all"].dropped == 1


def test_a_folder_of_something_else_is_left_alone(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.tex").write_text("dear")
    with pytest.raises(UserError, match="not empty"):
        build_own(data, out, NAMES)
    assert [p.name for p in out.iterdir()] == ["chapter1.tex"]


def test_shards_of_other_sources_are_refused_or_pruned(data: Path, finished: Path) -> None:
    with pytest.raises(UserError, match="flowers") as caught:
        build_own(data, finished, ["tools"], **SETTINGS)
    assert "--prune" in str(caught.value)
    assert Dataset.open(finished).info.num_samples == 36, "refusing changes nothing"
    build(own_recipe(["tools"], **SETTINGS), data, finished, BuildOptions(prune=True))
    assert not (finished / "flowers").exists()
    assert not check(finished).damages


def test_fewer_shards_than_before_leave_no_stale_ones(data: Path, finished: Path) -> None:
    build_own(data, finished, NAMES, samples_per_shard=12)
    assert len(list(finished.glob("flowers/*.tar"))) == 2
    assert not check(finished).damages


def test_the_output_below_the_data_root_is_never_read_as_a_source(
    data: Path, reference: dict[str, str], tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(data, root)
    build_own(root, root / "shards", NAMES, **SETTINGS)
    build_own(root, root / "shards", NAMES, **SETTINGS)
    assert bytes_of(root / "shards") == reference


def test_the_sources_are_only_read(data: Path, tmp_path: Path) -> None:
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in data.rglob("*")}
    build_own(data, tmp_path / "out", NAMES, **SETTINGS)
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in data.rglob("*")} == before
