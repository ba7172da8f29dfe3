"""`hqdata pull` as people run it: what it prints, how it ends, and what a kill leaves."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from hqdata.problems import Problem, ProblemKind
from hqdata.report.build_table import composition, problem_summary
from hqdata.shards.dataset import Dataset
from support.builds import REPOSITORY, build_own, bytes_of, command, heed_ctrl_c, own_sources
from support.hub import FakeHub, fake_hub, rate_limited, slow, then
from support.on_hub import TOKEN, downloads, files_of, put

COUNTS = {"tools": 6, "boats": 4, "cups": 3}
REPO = "me/things"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("cli-pull")
    build_own(
        own_sources(root / "data", COUNTS), root / "shards", list(COUNTS), samples_per_shard=2
    )
    return Dataset.open(root / "shards")


@pytest.fixture
def server(tmp_path: Path, dataset: Dataset) -> Iterator[FakeHub]:
    with fake_hub(tmp_path / "hub") as server:
        server.add_user("me", TOKEN)
        server.add_user("else", "hf_SomebodyElse")
        server.add_user("late", "hf_NoLongerValid", "expired")
        put(server, REPO, files_of(dataset), private=True)
        yield server


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def start(server: FakeHub, *words: str | Path, token: str | None = TOKEN) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**server.environment(token), "PYTHONPATH": os.pathsep.join(PATHS)},
        cwd=server.folder,
        preexec_fn=heed_ctrl_c,
    )


PATHS = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]


def run(server: FakeHub, *words: str | Path, token: str | None = TOKEN) -> tuple[int, str, str]:
    """Exit status, output, messages; the token is in neither."""
    with start(server, *words, token=token) as process:
        output, said = process.communicate(timeout=60)
    assert token is None or token not in output + said
    assert "Traceback" not in said
    return process.returncode, output, said


def as_pushed(out: Path, dataset: Dataset) -> bool:
    wanted = bytes_of(dataset.root)
    return {name: d for name, d in bytes_of(out).items() if name in wanted} == wanted


def test_all_of_it_and_then_it_is_checked(server: FakeHub, dataset: Dataset, out: Path) -> None:
    status, output, said = run(server, "pull", REPO, "--out", out)
    assert status == 0, said
    assert f"digest {dataset.info.digest}" in output
    assert f"commit {server.repo(REPO).branches['main']}" in output
    assert "13 samples in 7 shards (7 fetched" in output
    assert "fetching 7 shards" in said
    assert run(server, "check", "--quick", out)[0] == 0
    assert as_pushed(out, dataset)


def test_what_was_pushed_comes_back(server: FakeHub, dataset: Dataset, out: Path) -> None:
    """Without one source; the rest is what a build without it writes, on both sides."""
    words = ["push", dataset.root, "--repo", "me/back", "--exclude", "cups"]
    status, _, said = run(server, *words, "--without-certificate")
    assert status == 0, said
    status, _, said = run(server, "pull", "me/back", "--out", out)
    assert status == 0, said
    pushed = server.repo("me/back")
    for name in ("dataset.json", "samples.parquet", "_info.json", "README.md", "croissant.json"):
        assert (out / name).read_bytes() == pushed.read("main", name)
    assert run(server, "check", "--quick", out)[0] == 0
    assert not (out / "cups").exists()


def test_names_are_shown_as_they_are(dataset: Dataset) -> None:
    """A manifest is somebody else's: nothing in it is markup for the terminal."""
    name = "[red]x[/red] [/] :boom:"
    counts = dataset.info.sources["cups"]["all"]
    info = dataset.info.model_copy(update={"name": name, "sources": {name: {f"a{name}": counts}}})
    problem = Problem(name, name, name, "", ProblemKind.EMPTY_MASK, name)
    console = Console(file=io.StringIO(), width=200)
    with console.capture() as shown:
        console.print(composition(info), problem_summary([problem]))
    # Title, source and split; where, and file and words of the example.
    assert shown.get().count(name) == 3 + 4


def test_a_part_of_it(server: FakeHub, out: Path) -> None:
    status, output, said = run(server, "pull", REPO, "--out", out, "--exclude", "boats,cups")
    assert status == 0, said
    assert "not taken: boats, cups" in output
    assert run(server, "check", "--quick", out)[0] == 0
    assert {path.parent.name for path in out.glob("*/*.tar")} == {"tools"}


@pytest.mark.parametrize(
    ("token", "gated", "repo", "words"),
    [
        (TOKEN, False, "me/thinks", "look at the name"),
        (None, False, REPO, "there is no token"),
        ("hf_SomebodyElse", False, REPO, "a private repository is shown only to"),
        ("hf_NoLongerValid", False, REPO, "not valid or has expired"),
        ("hf_SomebodyElse", True, REPO, "ask for access on the data set's page"),
    ],
    ids=["wrong name", "no token", "private", "expired", "gated"],
)
def test_a_hub_that_says_no(
    server: FakeHub, out: Path, token: str | None, gated: bool, repo: str, words: str
) -> None:
    if gated:
        server.repo(REPO).private, server.repo(REPO).gated = False, "manual"
    status, _, said = run(server, "pull", repo, "--out", out, token=token)
    assert (status, words in said) == (2, True), said
    assert not out.exists()


def test_too_many_requests_are_waited_for(server: FakeHub, dataset: Dataset, out: Path) -> None:
    server.faults.add("GET", "/resolve/.*tar$", rate_limited(1))
    begin = time.monotonic()
    status, _, said = run(server, "pull", REPO, "--out", out)
    assert status == 0 and "429" in said and "again in 2 s" in said
    assert time.monotonic() - begin > 2


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(server: FakeHub, dataset: Dataset, out: Path) -> None:
    """No moment leaves half a data set, and what was in its place is not fetched again."""
    shas = {shard.path: shard.sha256 for shard in dataset.info.shards}
    rng = random.Random(44320)
    moments = [("POST", "paths-info", 1), ("GET", "parquet$", 0), ("GET", "README", 0)]
    moments += [
        ("GET", rng.choice(["/resolve/.*tar$", "/cdn/"]), rng.randrange(1, 4)) for _ in "123"
    ]
    rng.shuffle(moments)
    victim: list[subprocess.Popen[str]] = []
    for method, path, after in moments:
        server.faults.clear()
        server.faults.add(method, path, then(lambda: victim[-1].kill()), after=after)
        there = {p.relative_to(out).as_posix() for p in out.glob("*/*.tar")}
        before = len(downloads(server))
        with start(server, "pull", REPO, "--out", out, "--workers", "2") as process:
            victim.append(process)
            process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGKILL, 0)
        assert not {shas[path] for path in there} & set(downloads(server)[before:])
        if process.returncode:
            assert not (out / "dataset.json").exists()
    server.faults.clear()
    status, _, said = run(server, "pull", REPO, "--out", out)
    assert status == 0, said
    assert as_pushed(out, dataset)
    assert sorted(path.name for path in (out / ".hqdata").iterdir()) == ["lock", "pulled.json"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_does_not_wait_for_the_network(
    server: FakeHub, dataset: Dataset, out: Path, number: signal.Signals
) -> None:
    server.faults.add("GET", "/cdn/", slow(30), times=None, after=3)
    process = start(server, "pull", REPO, "--out", out, "--workers", "2")
    try:
        deadline = time.monotonic() + 30
        while len(list(out.glob("*/*.tar"))) < 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.2)
        begin = time.monotonic()
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
        assert time.monotonic() - begin < 10
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, said
    assert "run the same command again" in said and "Traceback" not in said
    assert not (out / "dataset.json").exists()


def test_of_two_at_once_the_second_is_refused(server: FakeHub, dataset: Dataset, out: Path) -> None:
    second: list[tuple[int, str, str]] = []
    server.faults.add(
        "GET",
        "/resolve/.*tar$",
        then(lambda: second.append(run(server, "pull", REPO, "--out", out))),
    )
    status, _, said = run(server, "pull", REPO, "--out", out)
    assert status == 0, said
    assert second[0][0] == 2 and "is writing to this folder" in second[0][2]
    assert as_pushed(out, dataset)
