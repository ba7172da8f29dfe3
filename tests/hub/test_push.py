"""Pushing a data set to a Hub: what arrives, what is never sent twice, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hqdata.errors import BusyError, UserError
from hqdata.hub import upload
from hqdata.hub.plan import Planned
from hqdata.hub.pull_request import title_of
from hqdata.hub.push import PushResult, push
from hqdata.hub.remote import HubError
from hqdata.progress import Silent
from hqdata.shards.dataset import Dataset
from support.hub import (
    FakeHub,
    drop,
    fake_hub,
    hang_up_after_bytes,
    lose_answer,
    rate_limited,
    status,
    then,
    wrong_digest,
)
from support.pushes import (
    OTHER_TOKEN,
    TOKEN,
    Recorder,
    assert_holds,
    connect,
    plan_of,
    planned_for,
    small_dataset,
)

COMMIT = r"/commit/"
STORE = r"^/(?!api/)"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_dataset(tmp_path_factory.mktemp("to-push"))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with fake_hub(tmp_path / "hub") as server:
        server.add_user("me", TOKEN)
        server.add_user("else", OTHER_TOKEN)
        yield server
        assert server.failures == []


def run(server: FakeHub, dataset: Dataset, **settings: object) -> PushResult:
    options = {k: settings.pop(k) for k in ("replace", "merge") if k in settings}
    plan = plan_of(dataset, **settings)  # type: ignore[arg-type]
    return push(
        plan,
        connect(server),
        reporter=Silent(),
        tell=lambda line: None,
        **options,  # type: ignore[arg-type]
    )


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
        assert {request.method for request in server.requests[seen:]} <= {"GET", "HEAD"}

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


class TestFaults:
    @pytest.mark.parametrize(
        ("method", "path", "action"),
        [
            ("PUT", STORE, drop()),
            ("PUT", STORE, hang_up_after_bytes(1000)),
            ("PUT", STORE, wrong_digest()),
            ("PUT", STORE, status(503)),
            ("POST", r"objects/batch", status(500)),
            ("POST", r"objects/batch", drop()),
            ("POST", r"/preupload/", status(502)),
            ("POST", COMMIT, rate_limited(0)),
            ("POST", COMMIT, status(429, {"Retry-After": "0"})),
            ("POST", COMMIT, drop()),
            ("POST", COMMIT, lose_answer()),
            ("POST", r"repos/create", lose_answer()),
            ("POST", r"/discussions$", lose_answer()),
            ("POST", r"/merge$", lose_answer()),
            ("POST", r"/merge$", status(503)),
            ("POST", r"/tag/", lose_answer()),
            ("PUT", r"/settings$", status(504)),
            ("GET", r"/tree/", status(408)),
            ("GET", r"/discussions", drop()),
            ("GET", r"whoami", status(500)),
        ],
        ids=lambda value: getattr(value, "kind", value),
    )
    def test_what_passes_by_itself_is_lived_through(
        self,
        server: FakeHub,
        dataset: Dataset,
        method: str,
        path: str,
        action: object,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        rule = server.faults.add(method, path, action)  # type: ignore[arg-type]
        assert run(server, dataset).state == "pushed"
        assert rule.used == 1
        assert_holds(server, plan_of(dataset))
        assert [p.status for p in server.repo("me/things").pull_requests] == ["merged"]
        assert len(server.repo("me/things").tags) == 1

    def test_a_far_side_that_tells_of_other_bytes_is_not_believed(
        self, server: FakeHub, dataset: Dataset
    ) -> None:
        server.faults.add("GET", r"/tree/refs%2Fpr|/tree/refs/pr", wrong_digest(), times=None)
        with pytest.raises(HubError, match="not on the Hub as it was sent"):
            run(server, dataset)
        repo = server.repo("me/things")
        assert set(repo.tree()) == {".gitattributes"}
        assert repo.tags == {}

    @pytest.mark.parametrize(
        ("role", "hint"), [("expired", "not valid or has expired"), ("read", "write access")]
    )
    def test_a_token_that_may_not_write_is_named_as_the_cause(
        self, server: FakeHub, dataset: Dataset, role: str, hint: str
    ) -> None:
        server.add_user("me", "hf_ThatTokenMayNotWriteAnything0001", role=role)
        hub = connect(server, "hf_ThatTokenMayNotWriteAnything0001")
        with pytest.raises(HubError, match=hint) as caught:
            push(plan_of(dataset), hub, reporter=Silent(), tell=lambda line: None)
        assert "hf_ThatToken" not in str(caught.value)
        assert server.uploads.total() == 0

    def test_a_token_that_expires_meanwhile_loses_nothing(
        self, server: FakeHub, dataset: Dataset
    ) -> None:
        def expire() -> None:
            server.add_user("me", TOKEN, role="expired")

        server.faults.add("POST", COMMIT, then(expire))
        with pytest.raises(HubError, match="not valid or has expired"):
            run(server, dataset)
        sent = server.uploads.copy()
        server.add_user("me", TOKEN)
        assert run(server, dataset).state == "pushed"
        assert_holds(server, plan_of(dataset))
        assert all(server.uploads[sha] == number for sha, number in sent.items())

    def test_a_full_account_is_named_as_the_cause(self, server: FakeHub, dataset: Dataset) -> None:
        server.quota = 1000
        with pytest.raises(HubError, match="storage of the account"):
            run(server, dataset)

    def test_who_has_no_token_is_told_where_to_get_one(
        self, server: FakeHub, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
        with pytest.raises(UserError, match="no token") as caught:
            push(plan_of(dataset), connect(server, ""), reporter=Silent(), tell=print)
        assert "hf auth login" in str(caught.value)
        assert server.requests == []

    def test_somebody_elses_name_is_refused(self, server: FakeHub, dataset: Dataset) -> None:
        with pytest.raises(HubError, match="403"):
            run(server, dataset, repo_id="else/things")


class TestWhatIsThereAlready:
    def test_pictures_that_must_be_private_never_reach_a_public_repository(
        self, server: FakeHub, dataset: Dataset
    ) -> None:
        connect(server).api.create_repo("me/things", repo_type="dataset", private=False)
        with pytest.raises(UserError, match="the repository is public"):
            run(server, dataset)
        assert server.uploads.total() == 0
        assert run(server, dataset, what="manifest").state == "pushed"

    def test_another_data_set_does_not_make_room_by_itself(
        self, server: FakeHub, dataset: Dataset, tmp_path: Path
    ) -> None:
        run(server, dataset)
        other = small_dataset(tmp_path / "other", {"stones": 4}, name="stones")
        with pytest.raises(UserError, match="holds another data set, 'own'"):
            run(server, other)
        assert_holds(server, plan_of(dataset))
        assert run(server, other, replace=True).state == "pushed"
        assert_holds(server, plan_of(other))

    def test_less_of_the_same_needs_a_word_too(self, server: FakeHub, dataset: Dataset) -> None:
        run(server, dataset)
        with pytest.raises(UserError, match="has sources that this one has not: tools"):
            run(server, dataset, sources=["boats", "cups"])

    def test_files_of_other_people_stay(self, server: FakeHub, dataset: Dataset) -> None:
        api = connect(server).api
        api.create_repo("me/things", repo_type="dataset", private=True)
        api.upload_file(
            path_or_fileobj=b"mine",
            path_in_repo="notes.txt",
            repo_id="me/things",
            repo_type="dataset",
        )
        with pytest.raises(UserError, match="no data set of hqdata"):
            run(server, dataset)
        run(server, dataset, replace=True)
        assert server.repo("me/things").read("main", "notes.txt") == b"mine"

    def test_somebody_who_changes_the_same_files_meanwhile_is_noticed(
        self, server: FakeHub, dataset: Dataset
    ) -> None:
        def interfere() -> None:
            server.repo("me/things").branches["main"] = first

        run(server, dataset, merge=False)
        first = server.repo("me/things").branches["main"]
        # The merge is undone as soon as the tree of the main branch is looked at again.
        server.faults.add("GET", r"/tree/main", then(interfere), after=1)
        with pytest.raises(HubError, match="somebody else has changed the repository"):
            run(server, dataset)


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
    assert server.repo("me/things").read("main", "README.md").endswith(b"x\n")
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
