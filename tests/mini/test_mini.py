"""The procedural stand-in: counts, layout, masks, determinism, continuing and refusing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from hqdata.errors import CancelledError, UserError
from hqdata.mini import make_mini
from hqdata.mini.layout import SPLITS, fss_class, parse_scale, pictures
from hqdata.mini.make import CHUNK_PICTURES
from hqdata.mini.scenes import FAMILIES, LOOKS, blend, render
from support.builds import child_environment, command, heed_ctrl_c

SOME = "0.02"
QUICK = ("fss", "ecssd", "coift")


def digests(root: Path) -> dict[str, str]:
    """Return path: sha256 of every file below ``root``."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three whole small sets, made by one worker."""
    out = tmp_path_factory.mktemp("quick") / "mini"
    make_mini(out, workers=1, sets=QUICK)
    yield out


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ("full", [3000, 470, 4748, 500, 500, 10000, 10553, 5019, 1000, 10000, 280, 287]),
        ("0.02", [60, 9, 95, 10, 10, 200, 211, 100, 20, 200, 6, 6]),
        (0.0001, [1, 1, 1, 1, 1, 10, 1, 1, 1, 1, 1, 1]),
        ("small", [24, 6, 24, 4, 6, 40, 32, 16, 16, 24, 6, 6]),
    ],
)
def test_counts(scale: str | float, expected: list[int]) -> None:
    assert [split.count(parse_scale(scale)) for split in SPLITS] == expected


def test_hqseg_44k_counts_add_up() -> None:
    training = {"dis/train", "thinobject/train", "fss/all", "duts/train", "duts/test"}
    training |= {"ecssd/all", "msra/all"}
    full = parse_scale("full")
    total = sum(s.count(full) for s in SPLITS if f"{s.set}/{s.split}" in training)
    assert total == 44_320


@pytest.mark.parametrize("scale", ["0", "-1", "1.5", "tiny", "nan", 0.0])
def test_no_scale(scale: str | float) -> None:
    with pytest.raises(UserError, match="not a scale"):
        parse_scale(scale)


def test_full_plan_has_unique_paths_and_the_size_mix_of_the_real_sets() -> None:
    plan = [p for s in SPLITS for p in pictures(s, parse_scale("full"), 0)]
    paths = [path for p in plan for path in (p.image, p.mask)]
    assert len(set(paths)) == len(paths) == 2 * sum(s.full for s in SPLITS)
    dis = [(p.width, p.height) for p in plan if p.look == "dis"]
    assert min(max(size) for size in dis) >= 1500
    assert max(w * h for w, h in dis) <= 12.1e6
    assert 2500 < np.mean([max(size) for size in dis]) < 3600


def test_fss_has_a_thousand_classes_of_ten() -> None:
    names = [fss_class(index)[0] for index in range(1000)]
    assert len(set(names)) == 1000
    assert names[0] == "fool's_gold"


def test_a_picture_keeps_its_content_when_the_scale_grows() -> None:
    for split in SPLITS:
        few, many = (pictures(split, parse_scale(f), 3) for f in (0.003, 0.01))
        assert [p.key for p in few] == [p.key for p in many[: len(few)]]
        assert [(p.width, p.family) for p in few] == [(p.width, p.family) for p in many[: len(few)]]


def test_small_layout_is_the_official_one(quick: Path) -> None:
    files = set(digests(quick))
    assert {"ECSSD/images/0001.jpg", "ECSSD/ground_truth_mask/0016.png", "mini.json"} <= files
    assert "fewshot_data/fewshot_data/fool's_gold/10.png" in files
    assert len(files) == 2 * (40 + 16 + 6) + 1
    marker = json.loads((quick / "mini.json").read_text())
    assert marker["counts"] == {"fss/all": 40, "ecssd/all": 16, "coift/all": 6}


def test_paths_of_the_other_sets() -> None:
    small = parse_scale("small")
    first = {f"{s.set}/{s.split}": pictures(s, small, 0)[0] for s in SPLITS}
    assert first["dis/train"].image.startswith("DIS5K/DIS-TR/im/5#Frame#3#Lattice#")
    assert first["dis/vd"].mask.startswith("DIS5K/DIS-VD/gt/")
    assert first["thinobject/test"].image.startswith("ThinObject5K/images/")
    assert first["duts/train"].image == "DUTS-TR/DUTS-TR-Image/ILSVRC2012_test_00000004.jpg"
    assert first["duts/test"].mask.startswith("DUTS-TE/DUTS-TE-Mask/ILSVRC2012_")
    assert first["msra/all"].mask == "MSRA10K_Imgs_GT/Imgs/60000.png"
    assert first["hrsod/all"].mask.startswith("HRSOD/masks/")


def test_thinobject_lists_name_the_masks(tmp_path: Path) -> None:
    report = make_mini(tmp_path, scale=0.0001, workers=1, sets=["thinobject"])
    assert report.counts == {("thinobject", s): 1 for s in ("train", "val", "test")}
    root = tmp_path / "ThinObject5K"
    for split in ("train", "val", "test"):
        for line in (root / "list" / f"{split}.txt").read_text().splitlines():
            assert (root / "masks" / line).is_file()
    files = [p for p in root.rglob("*") if p.suffix in (".jpg", ".png")]
    assert report.num_bytes == sum(p.stat().st_size for p in files)


def test_files_hold_what_the_formats_promise(quick: Path) -> None:
    for path in sorted(quick.rglob("*.png")):
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        photo = path.with_suffix(".jpg")
        for old, new in (("ground_truth_mask", "images"), ("masks", "images")):
            photo = Path(str(photo).replace(f"/{old}/", f"/{new}/"))
        image = cv2.imread(str(photo))
        assert mask is not None and image is not None
        assert mask.dtype == np.uint8 and mask.shape == image.shape[:2]
        if "COIFT" in path.parts:
            assert np.unique(mask).tolist() == [0, 1]
        else:
            assert 0.005 < np.mean(mask > 128) < 0.9
            assert mask.min() == 0 and mask.max() == 255
            assert np.any((mask > 60) & (mask < 200)), "no soft edge"


@pytest.mark.parametrize("look", sorted(LOOKS))
def test_every_look_gives_a_usable_mask(look: str) -> None:
    for seed in range(6):
        scene = render(look, np.random.default_rng(seed), 320, 240)
        assert scene.image.shape == (240, 320, 3) and scene.image.dtype == np.uint8
        assert scene.mask.shape == (240, 320) and scene.mask.dtype == np.uint8
        assert 0.005 < np.mean(scene.mask > 128) < 0.9
        if scene.ids is not None:
            numbers = np.unique(scene.ids)
            assert numbers.tolist() == list(range(len(numbers)))
            assert 2 <= len(numbers) <= (4 if look == "hrsod" else 2)
        assert (scene.ids is None) == (look not in ("hrsod", "coift"))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_can_be_drawn_small_and_large(family: str) -> None:
    for size in ((96, 64), (700, 1300)):
        mask = render("ecssd", np.random.default_rng(5), *size, family=family).mask
        assert 0.005 < np.mean(mask > 128) < 0.9


def test_blend_is_ground_where_the_mask_is_empty_and_front_where_it_is_full() -> None:
    rng = np.random.default_rng(0)
    ground, front = (rng.integers(0, 256, (8, 256, 3)).astype(np.uint8) for _ in range(2))
    coverage = np.arange(256, dtype=np.uint8)[None].repeat(8, 0)
    mixed = blend(ground, front, coverage)
    assert np.array_equal(mixed[:, 0], ground[:, 0])
    assert np.array_equal(mixed[:, 255], front[:, 255])
    part = coverage[..., None] / 255.0
    assert np.abs(mixed - (part * front + (1 - part) * ground)).max() <= 1.0


@pytest.mark.parametrize("look", ["msra", "fss", "thin"])
def test_edges_of_picture_and_mask_fall_together(look: str) -> None:
    def slope(image: np.ndarray) -> np.ndarray:
        gray = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 0.7)
        return np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))

    scores = np.zeros((5, 5))
    for seed in range(8):
        scene = render(look, np.random.default_rng(seed), 400, 300)
        photo, truth = slope(scene.image.mean(-1)), slope(scene.mask)
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                moved = np.roll(truth, (dy, dx), (0, 1))
                scores[dy + 2, dx + 2] += np.corrcoef(photo.ravel(), moved.ravel())[0, 1]
    assert divmod(int(scores.argmax()), 5) == (2, 2)


def test_two_workers_write_the_same_bytes_as_one(quick: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    make_mini(
        tmp_path, workers=2, sets=[*QUICK], progress=lambda done, total: seen.append((done, total))
    )
    assert digests(tmp_path) == digests(quick)
    assert seen[-1] == (62, 62) and [d for d, _ in seen] == sorted(d for d, _ in seen)


def test_seed_changes_pictures_but_not_names(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_mini(tmp_path / str(seed), scale=0.001, seed=seed, workers=1, sets=["ecssd"])
    one, two = digests(tmp_path / "0"), digests(tmp_path / "1")
    assert one.keys() == two.keys()
    assert all(one[name] != two[name] for name in one)


class StopError(Exception):
    """Stands for a run that is killed."""


def test_a_run_cut_short_is_continued_to_the_same_bytes(quick: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 45:
            raise StopError

    with pytest.raises(StopError):
        make_mini(tmp_path, workers=1, sets=QUICK, progress=stop)
    assert (tmp_path / "mini.partial.json").exists() and not (tmp_path / "mini.json").exists()
    made = sorted(tmp_path.rglob("*.jpg"))
    assert len(made) == 45
    made[0].unlink()
    (made[1].parent / f"{made[1].name}.part").write_bytes(b"half")
    made[1].unlink()
    kept = made[2].stat().st_mtime_ns
    with pytest.raises(UserError, match="other arguments"):
        make_mini(tmp_path, workers=1, sets=QUICK, seed=9)
    make_mini(tmp_path, workers=1, sets=QUICK)
    assert made[2].stat().st_mtime_ns == kept
    assert digests(tmp_path) == digests(quick)


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:1],
        lambda whole: whole[:-1],
        lambda whole: whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2),
    ],
    ids=["empty", "one-byte", "cut", "zeros-at-the-end"],
)
def test_a_picture_that_a_crash_left_incomplete_is_made_again(
    tmp_path: Path, kind: str, damage: Callable[[bytes], bytes]
) -> None:
    out = tmp_path / "mini"
    make_mini(out, scale=0.001, workers=1, sets=["fss"])
    before = digests(out)
    broken, other = sorted(out.rglob(f"*.{kind}"))[:2]
    broken.write_bytes(damage(broken.read_bytes()))
    kept = other.stat().st_mtime_ns
    make_mini(out, scale=0.001, workers=1, sets=["fss"])
    assert digests(out) == before
    assert other.stat().st_mtime_ns == kept


def drawing(out: Path, workers: int) -> subprocess.Popen[str]:
    """Start a run of 200 pictures and return when every worker has finished one."""
    words = ("--only", "fss", "--scale", SOME, "--workers", str(workers), "--out", out)
    run = subprocess.Popen(
        command("mini", *words),
        env=child_environment(),
        preexec_fn=heed_ctrl_c,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    plan = [p for s in SPLITS if s.set == "fss" for p in pictures(s, parse_scale(SOME), 0)]
    first = [out / plan[CHUNK_PICTURES * number].mask for number in range(workers)]
    deadline = time.monotonic() + 60
    while not all(path.exists() for path in first):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    return run


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    if not listed.exists():
        pytest.skip("needs /proc to list the processes of a run")
    return [int(child) for child in listed.read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("undisturbed") / "mini"
    make_mini(out, scale=SOME, workers=2, sets=["fss"])
    return digests(out)


@pytest.mark.slow
def test_workers_die_with_a_parent_that_is_killed_and_the_same_command_goes_on(
    undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "mini"
    run = drawing(out, workers=2)
    assert run.stderr is not None
    workers = children(run.pid)
    assert len(workers) >= 2
    os.kill(run.pid, signal.SIGKILL)
    run.stderr.close()
    assert run.wait(10) == -signal.SIGKILL
    wait_until_gone(workers)
    made = {p: p.stat().st_mtime_ns for p in out.rglob("*.png")}
    assert 2 <= len(made) < 200
    assert not (out / "mini.json").exists()
    again = command("mini", "--only", "fss", "--scale", SOME, "--workers", "2", "--out", out)
    subprocess.run(again, env=child_environment(), check=True, capture_output=True, timeout=60)
    assert digests(out) == undisturbed
    assert all(p.stat().st_mtime_ns == when for p, when in made.items())


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_says_how_to_go_on(
    undisturbed: dict[str, str], tmp_path: Path, workers: int
) -> None:
    out = tmp_path / "mini"
    run = drawing(out, workers)
    assert run.stderr is not None
    started = children(run.pid)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the parent and the workers
    said = run.stderr.read()
    run.stderr.close()
    assert run.wait(20) == 130
    assert "error: stopped" in said and "run the same command again" in said
    assert "Traceback" not in said
    wait_until_gone(started)
    assert not (out / "mini.json").exists()
    assert 1 <= len(list(out.rglob("*.png"))) < 200
    make_mini(out, scale=SOME, workers=2, sets=["fss"])
    assert digests(out) == undisturbed


def test_ctrl_c_in_a_script_is_an_error_with_the_way_on(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(CancelledError, match="stopped") as caught:
        make_mini(tmp_path, scale=0.001, workers=1, sets=["fss"], progress=stop)
    assert caught.value.exit_status == 130
    assert "the same command again" in (caught.value.do or "")


def test_wrong_arguments_of_the_command_exit_with_2(tmp_path: Path) -> None:
    for words in (["--scale", "2"], ["--only", "ecsd"], ["--workers", "0"], ["--sets", "dis"]):
        done = subprocess.run(
            command("mini", "--out", tmp_path / "mini", *words),
            env=child_environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2, (words, done.stderr)
        assert "Traceback" not in done.stderr


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="not empty"):
        make_mini(tmp_path, workers=1, sets=["ecssd"])
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_unknown_set_and_worker_count(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no set 'ecsd'"):
        make_mini(tmp_path, sets=["ecsd"])
    with pytest.raises(UserError, match="0 workers"):
        make_mini(tmp_path, workers=0)
    assert not list(tmp_path.iterdir())
