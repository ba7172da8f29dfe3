"""Tasks on a real Ray: done again when a worker dies, not done again when they say no."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hqdata.build.ray_engine import RayEngine, environment, refuse_other_versions
from hqdata.build.run import BuildOptions, build
from hqdata.errors import UserError
from hqdata.progress import Silent
from hqdata.recipe import Recipe, RecipeSource, SampleSettings
from hqdata.resolve import ResolvedRecipe, resolve
from support.builds import bytes_of, child_environment, command, hqdata
from support.rays import ray_of_its_own
from support.sa1b import make_bundle

RECIPE = """
name: sa1b-small
sources:
  - {source: sa1b, sample: {images: 120}}
samples_per_shard: 30
seed: 3
"""


def recipe() -> ResolvedRecipe:
    source = RecipeSource(source="sa1b", sample=SampleSettings(images=120))
    whole = Recipe(name="sa1b-small", sources=(source,), samples_per_shard=30, seed=3)
    return resolve(whole, subset=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sa1b")
    for number in range(5):
        ids = range(number * 40 + 1, number * 40 + 41)
        kind: Any = "gz" if number == 3 else "tar"
        path = root / f"sa_{number:06d}.tar"
        # Large enough that a shard takes a while: somebody may want to kill its worker.
        size = {"width": 480, "height": 320}
        damage = {ids[6]: "truncated"}
        make_bundle(path, ids, kind=kind, num_masks=10, damage=damage, **size)
    return root


@pytest.fixture(scope="module")
def reference(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("reference") / "out"
    build(recipe(), data, out)
    return bytes_of(out)


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """A Ray of three cores in this process."""
    library = pytest.importorskip("ray")
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with ray_of_its_own() as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        library.init(
            address="local",
            num_cpus=3,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": child_environment()["PYTHONPATH"]}},
        )
        try:
            yield
        finally:
            library.shutdown()
            for number, handler in before.items():
                signal.signal(number, handler)


def run(work: Any, tasks: list[Any], workers: int | None = 3) -> list[Any]:
    with RayEngine(workers) as engine:
        return engine.run(work, tasks, reporter=Silent(), out="out")


class _Work:
    """Works that travel by value, as this file cannot be imported where they run."""

    @staticmethod
    def double() -> Any:
        def work(task: int, *, tick: Callable[[int], None], should_stop: object) -> int:
            tick(1)
            return 2 * task

        return work

    @staticmethod
    def die_once(folder: Path) -> Any:
        def work(task: int, *, tick: Callable[[int], None], should_stop: object) -> int:
            marker = folder / str(task)
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return task

        return work

    @staticmethod
    def refuse(folder: Path) -> Any:
        def work(task: int, *, tick: Callable[[int], None], should_stop: object) -> int:
            (folder / f"{task}-{time.monotonic_ns()}").touch()
            raise UserError("that is no good", where="here", do="mend it")

        return work


@pytest.mark.usefixtures("ray")
class TestEngine:
    @pytest.mark.parametrize("workers", [1, 3, None])
    def test_results_come_in_the_order_of_the_tasks(self, workers: int | None) -> None:
        assert run(_Work.double(), list(range(20)), workers) == [2 * i for i in range(20)]

    def test_nothing_to_do(self) -> None:
        assert run(_Work.double(), []) == []

    def test_a_task_whose_worker_is_killed_is_done_again(self, tmp_path: Path) -> None:
        assert run(_Work.die_once(tmp_path), [1, 2, 3, 4]) == [1, 2, 3, 4]
        assert len(list(tmp_path.iterdir())) == 4

    def test_our_own_errors_come_back_as_they_are_and_are_not_tried_again(
        self, tmp_path: Path
    ) -> None:
        with pytest.raises(UserError, match="that is no good") as error:
            run(_Work.refuse(tmp_path), [1])
        assert error.value.do == "mend it"
        assert len(list(tmp_path.iterdir())) == 1

    def test_the_same_bytes_as_without_it(
        self, data: Path, reference: dict[str, str], tmp_path: Path
    ) -> None:
        options = BuildOptions(engine=RayEngine(3))
        build(recipe(), data, tmp_path / "out", options)
        assert bytes_of(tmp_path / "out") == reference
        again = build(recipe(), data, tmp_path / "out", options)
        assert again.num_written == 0


class _Scripted:
    """As much of Ray as an engine uses; task 0 fails, and its neighbours are done or at work."""

    def __init__(self, connected: bool) -> None:
        self.cancelled: list[int] = []
        self.is_initialized = lambda: connected
        self.put = self.init = lambda *_, **__: None
        self.shutdown = lambda: None
        self.cluster_resources = lambda: {"CPU": 4}
        self.nodes = lambda: [{"Alive": True}]
        self.exceptions = SimpleNamespace(RayError=KeyError)
        self._finished = [0]

    def remote(self, **_: object) -> Callable[[object], object]:
        return lambda function: SimpleNamespace(remote=lambda work, task, versions: task)

    def wait(
        self, tasks: list[int], *, num_returns: int, timeout: float
    ) -> tuple[list[int], list[int]]:
        ready = [task for task in tasks if task in self._finished][:num_returns]
        self._finished = [0, 1]  # the second one, too, by the next time that somebody looks
        return ready, [task for task in tasks if task not in ready]

    def get(self, task: int) -> object:
        return None, 0, UserError("that is no good"), ""

    def cancel(self, task: int, *, force: bool) -> None:
        self.cancelled.append(task)


@pytest.mark.parametrize(("connected", "cancelled"), [(True, [2, 3]), (False, [])])
def test_after_an_error_nothing_is_cancelled_that_is_done(
    monkeypatch: pytest.MonkeyPatch, connected: bool, cancelled: list[int]
) -> None:
    """Ray ends the whole process when that happens; with a connection of our own all tasks end."""
    scripted = _Scripted(connected)
    monkeypatch.setitem(sys.modules, "ray", scripted)
    with RayEngine(4) as engine, pytest.raises(UserError, match="that is no good"):
        engine.run(_Work.double(), [0, 1, 2, 3, 4], reporter=Silent(), out="out")
    assert scripted.cancelled == cancelled


def test_a_node_with_other_libraries_is_refused() -> None:
    here = environment()
    refuse_other_versions(here, dict(here), "node-7")
    name = next(iter(here))
    with pytest.raises(UserError, match=rf"{name} \(0.1, not") as error:
        refuse_other_versions(here, {**here, name: "0.1"}, "node-7")
    assert error.value.where == "node-7"


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import hqdata.build.ray_engine as module

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(module.importlib, "import_module", missing)
    with pytest.raises(UserError, match="Ray is not installed") as error, RayEngine():
        pass
    assert "hqdata[scale]" in str(error.value)


def _of_ray(parent: int, title: str) -> list[int]:
    """Processes below `parent` whose command line begins with a title."""
    above: dict[int, int] = {}
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it has gone meanwhile
        above[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
        if words.startswith(title.encode()):
            found.append(int(entry.name))

    def is_below(pid: int) -> bool:
        while pid in above and pid != parent:
            pid = above[pid]
        return pid == parent

    return [pid for pid in found if is_below(pid)]


@pytest.fixture
def variables() -> Iterator[dict[str, str]]:
    with ray_of_its_own() as found:
        yield found


def _start(data: Path, out: Path, path: Path, variables: dict[str, str]) -> subprocess.Popen[str]:
    path.write_text(RECIPE, encoding="utf-8")
    words = ("build", "--recipe", path, "--data-root", data, "--out", out, "--subset")
    return subprocess.Popen(
        command(*words, "--engine", "ray", "--workers", "3", "--ray-address", "local"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=child_environment(**variables),
    )


@pytest.mark.slow
def test_a_build_outlives_workers_that_are_killed(
    data: Path, reference: dict[str, str], tmp_path: Path, variables: dict[str, str]
) -> None:
    """`kill -9` of whatever works on a task, six times, while the build goes on."""
    run = _start(data, tmp_path / "out", tmp_path / "recipe.yaml", variables)
    killed = 0

    def hunt() -> None:
        nonlocal killed
        while killed < 6 and run.poll() is None:
            for pid in _of_ray(run.pid, "ray::_do")[:1]:
                os.kill(pid, signal.SIGKILL)
                killed += 1
                time.sleep(0.1)
            time.sleep(0.01)

    hunter = threading.Thread(target=hunt)
    hunter.start()
    told, _ = run.communicate(timeout=200)
    hunter.join()
    assert run.returncode == 1, told  # five pictures are damaged, and their places taken
    assert killed > 0, told
    assert bytes_of(tmp_path / "out") == reference


@pytest.mark.slow
def test_a_driver_that_is_killed_leaves_nothing_running_and_a_build_to_go_on_with(
    data: Path, reference: dict[str, str], tmp_path: Path, variables: dict[str, str]
) -> None:
    out = tmp_path / "out"
    run = _start(data, out, tmp_path / "recipe.yaml", variables)
    begun = time.monotonic()
    while not list(out.glob(".hqdata/shards/*/*.json")) and run.poll() is None:
        assert time.monotonic() - begun < 120
        time.sleep(0.02)
    # Not Ray's own agents, which look for their parent once a minute.
    below = [pid for title in ("ray::_do", "ray::IDLE") for pid in _of_ray(run.pid, title)]
    assert below
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert not (out / "dataset.json").exists()
    deadline = time.monotonic() + 60
    while any(_is_alive(pid) for pid in below):
        assert time.monotonic() < deadline, "workers of a dead driver go on"
        time.sleep(0.1)
    done = hqdata(
        "build", "--recipe", tmp_path / "recipe.yaml", "--data-root", data, "--out", out, "--subset"
    )
    assert done.returncode == 1, done.stderr
    assert bytes_of(out) == reference


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_cluster_that_is_not_there(tmp_path: Path, data: Path) -> None:
    begun = time.monotonic()
    done = hqdata(
        "build",
        *("--recipe", "sa1b-44k", "--data-root", data, "--out", tmp_path / "out"),
        *("--engine", "ray", "--ray-address", "127.0.0.1:1"),
    )
    assert done.returncode == 2, done.stderr
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - begun < 60
