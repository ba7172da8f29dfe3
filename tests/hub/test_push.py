"""Pushing a data set to a Hub: what arrives, what is never sent twice, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from hqdata.errors import BusyError
from hqdata.hub import upload
from hqdata.hub.plan import Planned
from hqdata.hub.pull_request import title_of
from hqdata.hub.push import push
from hqdata.progress import Silent
from hqdata.shards.dataset import Dataset
from support.hub import (
    FakeHub,
    then,
)
from support.pushes import (
    Recorder,
    assert_holds,
    connect,
    plan_of,
    planned_for,
    run,
    small_dataset,
)

COMMIT = r"/commit/"


class TestWhatArrives:
    def test_every_file_is_there_private_gated_and_tagged(
        self, server: FakeHub, dataset: Dataset
    ) -> None:
        plan, told, recorder = plan_of(dataset), list[str](), Recorder()
        result = push(plan, connect(server), reporter=recorder, tell=told.append)
        repo = server.repo("me/things")
        assert_holds(server, plan)
        assert (repo.private, repo.gated) == (True, "manual")
        assert repo.tags == {f"sha256-{dataset.info.digest}": repo.branches["main"]}
        assert [p.status for p in repo.pull_requests] == ["merged"]
        assert (result.state, result.commit) == ("pushed", repo.branches["main"])
        assert result.num_sent == len(plan.files)
        assert result.bytes_sent == planned_for(server, plan).num_bytes
        assert recorder.stages[0][0] == "uploading"
        assert recorder.done == sorted(recorder.done)
        assert any("/discussions/1" in line for line in told)

    def test_the_main_branch_never_holds_half_of_it(
        self, server: FakeHub, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(upload, "GROUP_FILES", 1)
        seen: list[set[str]] = []

        def look() -> None:
            seen.append(set(server.repo("me/things").tree("main")))

        server.faults.add("POST", COMMIT, then(look), times=None)
        run(server, dataset)
        assert len(seen) > 5
        assert set().union(*seen) == {".gitattributes"}

    def test_the_manifest_alone_has_no_pixels_in_it(
        self, server: FakeHub, dataset: Dataset
    ) -> None:
        plan = plan_of(dataset, what="manifest")
        push(plan, connect(server), reporter=Silent(), tell=lambda line: None)
        assert_holds(server, plan)
        names = set(server.repo("me/things").tree())
        assert {"dataset.json", "samples.parquet", "README.md", "croissant.json"} <= names
        assert not [name for name in names if name.endswith((".tar", ".jpg", ".png"))]
        assert server.repo("me/things").private

    def test_a_part_is_a_data_set_of_its_own(self, server: FakeHub, dataset: Dataset) -> None:
        plan = plan_of(dataset, sources=["boats", "cups"])
        push(plan, connect(server), reporter=Silent(), tell=lambda line: None)
        assert_holds(server, plan)
        assert plan.digest != dataset.info.digest
        assert not [p for p in server.repo("me/things").tree() if p.startswith("tools/")]

    def test_it_is_shown_to_all_only_at_the_end_and_only_when_asked(
        self, server: FakeHub, dataset: Dataset
    ) -> None:
        private: list[bool] = []
        look = then(lambda: private.append(server.repo("me/things").private))
        server.faults.add("POST", COMMIT, look, times=None)
        run(server, dataset, public=True)
        assert private and all(private)
        assert not server.repo("me/things").private

    def test_a_pull_request_can_be_left_open_and_merged_later(
        self, server: FakeHub, dataset: Dataset
    ) -> None:
        result = run(server, dataset, merge=False)
        repo = server.repo("me/things")
        assert result.state == "open" and result.url.endswith("/discussions/1")
        assert set(repo.tree()) == {".gitattributes"}
        assert repo.tags == {}
        assert_holds(server, plan_of(dataset), "refs/pr/1")
        result = run(server, dataset)
        assert (result.state, result.num_sent) == ("pushed", 0)
        assert_holds(server, plan_of(dataset))
        assert len(repo.pull_requests) == 1


class TestAgain:
    def test_an_unchanged_data_set_sends_nothing(self, server: FakeHub, dataset: Dataset) -> None:
        run(server, dataset)
        repo = server.repo("me/things")
        head, refs, seen = repo.branches["main"], dict(repo.refs), len(server.requests)
        result = run(server, dataset)
        assert (result.state, result.num_sent, result.commit) == ("unchanged", 0, head)
        assert repo.refs == refs
        asked = [r for r in server.requests[seen:] if not r.path.endswith("/paths-info/" + head)]
        assert {request.method for request in asked} <= {"GET", "HEAD"}

    def test_a_lost_tag_is_put_back(self, server: FakeHub, dataset: Dataset) -> None:
        run(server, dataset)
        repo = server.repo("me/things")
        tags = dict(repo.tags)
        repo.tags.clear()
        assert run(server, dataset).state == "unchanged"
        assert repo.tags == tags

    def test_of_a_changed_data_set_only_what_differs_is_sent(
        self, server: FakeHub, dataset: Dataset, tmp_path: Path
    ) -> None:
        run(server, dataset)
        before = dict(server.uploads)
        grown = small_dataset(tmp_path / "more", {"tools": 6, "boats": 4, "cups": 5})
        result = run(server, grown)
        assert result.state == "pushed"
        assert_holds(server, plan_of(grown))  # the shards of fewer cups are gone
        assert all(count == 1 for count in server.uploads.values())
        kept = {s.sha256 for s in dataset.info.shards} & {s.sha256 for s in grown.info.shards}
        assert kept and kept <= set(before)
        assert len(server.repo("me/things").tags) == 2


def test_two_at_once_are_one_after_the_other(
    server: FakeHub, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[str] = []

    def again() -> None:
        try:
            run(server, dataset)
        except BusyError as error:
            failures.append(error.what)

    server.faults.add("POST", r"/discussions$", then(again))
    assert run(server, dataset).state == "pushed"
    assert failures == ["another push of this data set is running"]


def test_the_title_names_the_data(dataset: Dataset) -> None:
    plans = [plan_of(dataset), plan_of(dataset, sources=["boats"])]
    plans.append(plan_of(dataset, what="manifest"))
    assert len({title_of(plan) for plan in plans}) == 3
    assert dataset.info.digest[:16] in title_of(plans[0])


def test_the_metadata_name_the_day_the_repository_was_made(
    server: FakeHub, dataset: Dataset
) -> None:
    run(server, dataset)
    repo = server.repo("me/things")
    document = json.loads(repo.read("main", "croissant.json"))
    assert document["datePublished"] == repo.created[:10]
    undated = {k: v for k, v in document.items() if k != "datePublished"}
    (planned,) = (f for f in plan_of(dataset).files if f.path == "croissant.json")
    assert undated == json.loads(planned.data or b"")


def test_a_card_that_says_more_goes_into_the_pull_request_that_is_open(
    server: FakeHub, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(server, dataset, merge=False)
    sent = dict(server.uploads)
    monkeypatch.setattr(
        "hqdata.hub.plan.render_card", lambda facts: "---\nlicense: other\n---\nx\n"
    )
    assert run(server, dataset).num_sent == 1
    assert len(server.repo("me/things").pull_requests) == 1
    assert b"license: other\n---\nx\n" in server.repo("me/things").read("main", "README.md")
    assert server.uploads == sent


class TestGroups:
    def test_shards_go_up_in_groups_of_a_size(self) -> None:
        sizes = [100, 156, 50, 300, 10]
        files = [Planned(f"a/b-{i}.tar", n * 2**20, "0" * 64) for i, n in enumerate(sizes)]
        groups = [[f.num_bytes >> 20 for f in group] for group in upload.groups_of(files)]
        assert groups == [[100, 156], [50], [300], [10]]

    def test_nothing_is_lost_between_them(self) -> None:
        files = [Planned(f"a/b-{i}.tar", 2**20, hashlib.sha256().hexdigest()) for i in range(150)]
        groups = list(upload.groups_of(files))
        assert [file for group in groups for file in group] == files
        assert max(map(len, groups)) == upload.GROUP_FILES
