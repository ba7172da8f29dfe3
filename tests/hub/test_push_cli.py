"""`hqdata push` as people run it: what it prints, how it ends, and what a kill leaves."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hqdata.hub.push import push
from hqdata.progress import Silent
from hqdata.shards.dataset import Dataset
from support.builds import REPOSITORY, command, heed_ctrl_c
from support.hub import FakeHub, fake_hub, rate_limited, slow, status, then
from support.pushes import TOKEN, assert_holds, connect, plan_of, small_dataset

NUM_KILLS = 20


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_dataset(tmp_path_factory.mktemp("cli-push"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeHub]:
    with hub_of_me(tmp_path / "hub") as server:
        yield server


def start(
    server: FakeHub,
    dataset: Dataset,
    *options: str,
    token: str | None = TOKEN,
    xet: bool = False,
) -> subprocess.Popen[str]:
    words = command("push", dataset.root, "--repo", "me/things", *options)
    environment = server.environment(token, HF_HUB_DISABLE_XET=str(int(not xet)))
    environment["PYTHONPATH"] = str(REPOSITORY)
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=server.folder,
        preexec_fn=heed_ctrl_c,
    )


def run(
    server: FakeHub,
    dataset: Dataset,
    *options: str,
    token: str | None = TOKEN,
    xet: bool = False,
) -> tuple[int, str, str]:
    """Exit status, output, messages; the token is in neither."""
    with start(server, dataset, *options, token=token, xet=xet) as process:
        out, said = process.communicate(timeout=120)
    assert TOKEN not in out + said
    assert "Traceback" not in said
    assert "Signature=" not in said
    return process.returncode, out, said


def test_it_says_what_it_did(server: FakeHub, dataset: Dataset) -> None:
    code, out, said = run(server, dataset, "--without-certificate")
    assert code == 0, said
    assert f"pushed: {len(plan_of(dataset).files)} files sent" in out
    assert f"{server.endpoint}/datasets/me/things" in out
    assert f"digest {dataset.info.digest}" in out
    assert "made a private repository" in said
    assert_holds(server, plan_of(dataset))
    code, out, said = run(server, dataset, "--without-certificate")
    assert (code, "all of it is there already" in out) == (0, True)


def test_without_a_certificate_nothing_is_asked_of_the_hub(
    server: FakeHub, dataset: Dataset
) -> None:
    code, _, said = run(server, dataset)
    assert (code, server.requests) == (2, [])
    assert "no certificate" in said and "--without-certificate" in said


def test_a_dry_run_is_offline(server: FakeHub, dataset: Dataset) -> None:
    code, out, _ = run(server, dataset, "--dry-run", "--without-certificate", token=None)
    assert (code, server.requests) == (0, [])
    for words in ("tools", "boats", "cups", "README.md", "private", "gated", "not legal advice"):
        assert words in out
    assert "nothing was sent" in out


def test_a_damaged_shard_keeps_everything_at_home(
    server: FakeHub, dataset: Dataset, tmp_path: Path
) -> None:
    damaged = small_dataset(tmp_path / "damaged")
    shard = damaged.root / damaged.info.shards[0].path
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    code, _, said = run(server, damaged, "--without-certificate")
    assert code == 1
    assert [request.path for request in server.requests] == ["/api/whoami-v2"]
    assert damaged.info.shards[0].path in said and "nothing was sent" in said


def test_a_rate_limit_is_told_and_waited_for(server: FakeHub, dataset: Dataset) -> None:
    server.faults.add("GET", "whoami", rate_limited(1))
    code, _, said = run(server, dataset, "--without-certificate")
    assert code == 0
    assert "asking whose token it is: the Hub answers 429" in said
    assert "trying again in 2 s" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_at_once_and_the_same_command_goes_on(
    server: FakeHub, dataset: Dataset, number: signal.Signals
) -> None:
    server.faults.add("PUT", "", slow(30), after=2)
    process = start(server, dataset, "--without-certificate")
    deadline = time.monotonic() + 60
    while not server.uploads and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - began < 10  # the upload in flight takes 30 s
    assert process.returncode == 130
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    server.faults.clear()
    assert run(server, dataset, "--without-certificate")[0] == 0
    assert_holds(server, plan_of(dataset))


class TestByTheHubsOwnStorage:
    """What the client takes unless it is told otherwise: files go up in pieces."""

    def test_it_arrives_and_a_repeat_sends_nothing(self, server: FakeHub, dataset: Dataset) -> None:
        code, _, said = run(server, dataset, "--without-certificate", xet=True)
        assert code == 0, said
        assert_holds(server, plan_of(dataset))
        assert server.xorbs
        sent = dict(server.xorbs)
        code, out, _ = run(server, dataset, "--without-certificate", xet=True)
        assert (code, "there already" in out, server.xorbs) == (0, True, sent)

    def test_killed_it_goes_on(self, server: FakeHub, dataset: Dataset) -> None:
        process = start(server, dataset, "--without-certificate", xet=True)
        server.faults.add("POST", "/commit/", then(lambda: os.kill(process.pid, signal.SIGKILL)))
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        sent = dict(server.xorbs)
        assert sent
        assert run(server, dataset, "--without-certificate", xet=True)[0] == 0
        assert_holds(server, plan_of(dataset))
        assert all(server.xorbs[name] == count for name, count in sent.items())

    def test_its_refusal_is_told_at_once(self, server: FakeHub, dataset: Dataset) -> None:
        server.faults.add("POST", "/v1/xorbs/", status(403), times=None)
        began = time.monotonic()
        code, _, said = run(server, dataset, "--without-certificate", xet=True)
        assert (code, "answers 403" in said) == (2, True), said
        assert time.monotonic() - began < 20


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_and_sends_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    dataset = small_dataset(tmp_path / "many", {"tools": 12, "boats": 8, "cups": 5})
    plan = plan_of(dataset)
    with hub_of_me(tmp_path / "undisturbed") as server:
        push(plan, connect(server), reporter=Silent(), tell=lambda line: None)
        num_requests = len(server.requests)
    for at in sorted(random.Random(44320).sample(range(num_requests), NUM_KILLS)):
        with hub_of_me(tmp_path / f"killed-{at}") as server:
            process = start(server, dataset, "--without-certificate")

            def kill(process: subprocess.Popen[str] = process) -> None:
                os.kill(process.pid, signal.SIGKILL)

            rule = server.faults.add("*", "", then(kill), after=at)
            process.communicate(timeout=60)
            assert (process.returncode, rule.used) == (-signal.SIGKILL, 1)
            push(plan, connect(server), reporter=Silent(), tell=lambda line: None)
            assert_holds(server, plan)
            repo = server.repo("me/things")
            assert len(repo.pull_requests) == 1, f"killed at request {at}"
            assert repo.tags == {plan.tag: repo.branches["main"]}
            assert set(server.uploads.values()) == {1}, f"killed at request {at}"


@contextmanager
def hub_of_me(folder: Path) -> Iterator[FakeHub]:
    with fake_hub(folder) as server:
        server.add_user("me", TOKEN)
        yield server
        assert server.failures == []
