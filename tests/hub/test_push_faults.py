"""Pushing to a Hub that fails, refuses or lies."""

from __future__ import annotations

import pytest

from hqdata.errors import UserError
from hqdata.hub.push import push
from hqdata.hub.remote import HubError, HubUnreachableError
from hqdata.progress import Silent
from hqdata.shards.dataset import Dataset
from support.hub import (
    FakeHub,
    drop,
    hang_up_after_bytes,
    lose_answer,
    rate_limited,
    status,
    then,
    wrong_digest,
)
from support.pushes import (
    TOKEN,
    assert_holds,
    connect,
    plan_of,
    run,
)

COMMIT = r"/commit/"
STORE = r"^/(?!api/)"


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

    def test_a_hub_that_goes_away_in_the_middle_is_one_message(
        self, server: FakeHub, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The client closes its connections then, also under its other threads."""
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        server.faults.add("PUT", STORE, drop(), times=None)
        told: list[str] = []
        with pytest.raises(HubUnreachableError, match="run the same command again"):
            push(plan_of(dataset), connect(server, tell=told.append), reporter=Silent(), tell=print)
        assert told
        assert not [line for line in told if "Signature=" in line]
        server.faults.clear()
        assert run(server, dataset).state == "pushed"
