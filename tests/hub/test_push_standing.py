"""Pushing to a repository that is there already: who sees it, and what it may not lose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hqdata.errors import UserError
from hqdata.hub.pull_request import title_of
from hqdata.hub.push import push
from hqdata.hub.remote import HubError, HubUnreachableError
from hqdata.progress import Silent
from hqdata.shards.dataset import Dataset
from support.hub import (
    FakeHub,
    status,
    then,
)
from support.pushes import (
    OTHER_TOKEN,
    TOKEN,
    assert_holds,
    connect,
    plan_of,
    run,
    small_dataset,
    upload_as,
)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """`secrets` is under no licence, so its pictures may not be public."""
    folder = tmp_path_factory.mktemp("mixed")
    return small_dataset(folder, {"secrets": 2, "tools": 2}, unlicensed=["secrets"])


class TestWhoSeesIt:
    def test_pictures_that_must_be_private_never_reach_a_public_repository(
        self, server: FakeHub, mixed: Dataset
    ) -> None:
        connect(server).api.create_repo("me/things", repo_type="dataset", private=False)
        with pytest.raises(UserError, match="these pictures may not be published"):
            run(server, mixed)
        assert server.uploads.total() == 0
        assert run(server, mixed, what="manifest").state == "pushed"

    def test_what_may_be_public_is_not_made_so_by_where_it_goes(
        self, server: FakeHub, dataset: Dataset
    ) -> None:
        connect(server).api.create_repo("me/things", repo_type="dataset", private=False)
        with pytest.raises(UserError, match="private unless told otherwise") as caught:
            run(server, dataset)
        assert "--public" in str(caught.value)

    @pytest.mark.parametrize("merge", [True, False], ids=["pushed", "left in a pull request"])
    @pytest.mark.parametrize(
        "later", [{"what": "manifest"}, {"sources": ["tools"]}], ids=["manifest", "part"]
    )
    def test_a_private_repository_with_such_pictures_in_its_past_does_not_become_public(
        self, server: FakeHub, mixed: Dataset, merge: bool, later: dict[str, Any]
    ) -> None:
        run(server, mixed, merge=merge)
        with pytest.raises(UserError, match="with its whole history") as caught:
            run(server, mixed, public=True, replace=True, **later)
        assert "secrets" in str(caught.value)
        assert server.repo("me/things").private

    def test_nor_does_one_in_which_a_file_of_the_same_name_once_held_another_picture(
        self, server: FakeHub, dataset: Dataset
    ) -> None:
        run(server, dataset)
        upload_as(server, TOKEN, "examples/tools.jpg", b"a picture of somebody's")
        with pytest.raises(UserError, match=r"in which there is examples/tools\.jpg"):
            run(server, dataset, public=True, replace=True)
        assert server.repo("me/things").private

    def test_one_without_them_does_and_is_not_gated_any_more(
        self, server: FakeHub, dataset: Dataset
    ) -> None:
        run(server, dataset)
        assert run(server, dataset, public=True).state in ("pushed", "unchanged")
        repo = server.repo("me/things")
        assert (repo.private, repo.gated) == (False, False)
        assert_holds(server, plan_of(dataset, public=True))

    def test_a_hub_that_gates_no_private_repository_is_strict_enough(
        self, server: FakeHub, dataset: Dataset
    ) -> None:
        server.faults.add("PUT", r"/settings$", status(400, body={"error": "not for private ones"}))
        assert run(server, dataset).state == "pushed"
        assert (server.repo("me/things").private, server.repo("me/things").gated) == (True, False)


class TestPullRequests:
    def test_one_that_cannot_be_merged_any_more_makes_room_for_another(
        self, server: FakeHub, dataset: Dataset
    ) -> None:
        run(server, dataset, merge=False)
        sent = dict(server.uploads)
        upload_as(server, TOKEN, "README.md", b"# by hand\n")
        assert run(server, dataset, replace=True).state == "pushed"
        repo = server.repo("me/things")
        assert [p.status for p in repo.pull_requests] == ["closed", "merged"]
        assert_holds(server, plan_of(dataset))
        assert server.uploads == sent

    def test_that_of_somebody_else_is_left_alone(self, server: FakeHub, dataset: Dataset) -> None:
        connect(server).api.create_repo("me/things", repo_type="dataset", private=False)
        theirs = connect(server, OTHER_TOKEN).api
        theirs.create_pull_request(
            "me/things", title=title_of(plan_of(dataset, public=True)), repo_type="dataset"
        )
        upload_as(server, OTHER_TOKEN, "things.py", b"import os\n", revision="refs/pr/1")
        assert run(server, dataset, public=True).state == "pushed"
        repo = server.repo("me/things")
        assert [(p.author, p.status) for p in repo.pull_requests] == [
            ("else", "draft"),
            ("me", "merged"),
        ]
        assert "things.py" not in repo.tree()

    def test_foreign_files_in_ours_are_not_merged(self, server: FakeHub, dataset: Dataset) -> None:
        run(server, dataset, merge=False)
        upload_as(server, TOKEN, "things.py", b"import os\n", revision="refs/pr/1")
        with pytest.raises(HubError, match=r"not of this push, e\.g\. things\.py"):
            run(server, dataset)
        assert set(server.repo("me/things").tree()) == {".gitattributes"}

    def test_a_merge_that_the_hub_shows_late_is_waited_for(
        self, server: FakeHub, dataset: Dataset
    ) -> None:
        server.faults.add("GET", r"/tree/", status(200, body="[]"), after=4)
        waits: list[float] = []
        hub = connect(server)
        hub.wait = waits.append  # type: ignore[method-assign]
        result = push(plan_of(dataset), hub, reporter=Silent(), tell=lambda line: None)
        assert (result.state, len(waits)) == ("pushed", 1)

    def test_a_hub_that_does_not_merge_now_may_merge_later(
        self, server: FakeHub, dataset: Dataset
    ) -> None:
        server.faults.add("POST", r"/merge$", status(503), times=None)
        with pytest.raises(HubUnreachableError) as caught:
            run(server, dataset)
        assert caught.value.exit_status == 1
        assert "/discussions/1" in str(caught.value)


class TestWhatIsThereAlready:
    def test_a_repository_that_has_moved_is_named(
        self, server: FakeHub, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run(server, dataset)
        hub = connect(server)
        info = hub.api.repo_info("me/things", repo_type="dataset")
        info.id = "me/new-name"
        monkeypatch.setattr(hub.api, "repo_info", lambda *words, **settings: info)
        with pytest.raises(UserError, match="is called me/new-name now"):
            push(plan_of(dataset), hub, reporter=Silent(), tell=lambda line: None)

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
        with pytest.raises(UserError, match="has more than the one that is being pushed") as caught:
            run(server, dataset, sources=["boats", "cups"])
        assert "tools all has 6 samples there, 0 here" in str(caught.value)

    def test_fewer_samples_of_the_same_sources_too(
        self, server: FakeHub, dataset: Dataset, tmp_path: Path
    ) -> None:
        run(server, dataset)
        fewer = small_dataset(tmp_path / "fewer", {"tools": 6, "boats": 2, "cups": 3})
        with pytest.raises(UserError, match="has more") as caught:
            run(server, fewer)
        assert "boats all has 4 samples there, 2 here" in str(caught.value)

    def test_the_manifest_alone_does_not_take_the_place_of_the_pictures(
        self, server: FakeHub, dataset: Dataset
    ) -> None:
        run(server, dataset)
        with pytest.raises(UserError, match="has more") as caught:
            run(server, dataset, what="manifest")
        assert "its shards" in str(caught.value)
        run(server, dataset, what="manifest", replace=True)
        repo = server.repo("me/things")
        tag = f"sha256-{dataset.info.digest}"
        assert set(repo.tags) == {tag, f"{tag}-manifest"}
        assert [p for p in repo.tree(tag) if p.endswith(".tar")]  # still to be had there

    def test_a_card_that_somebody_edited_is_not_overwritten_unasked(
        self, server: FakeHub, dataset: Dataset
    ) -> None:
        run(server, dataset)
        card = server.repo("me/things").read("main", "README.md") + b"more about it\n"
        upload_as(server, TOKEN, "README.md", card)
        with pytest.raises(UserError, match="edited the card"):
            run(server, dataset)
        assert server.repo("me/things").read("main", "README.md") == card
        assert run(server, dataset, replace=True).state == "pushed"
        assert_holds(server, plan_of(dataset))

    def test_only_what_a_push_put_there_is_taken_away(
        self, server: FakeHub, dataset: Dataset, tmp_path: Path
    ) -> None:
        run(server, dataset)
        mine = {"extra/train-00000-of-00001.tar": b"x" * 99, "examples/mine.jpg": b"y" * 99}
        for path, data in mine.items():
            upload_as(server, TOKEN, path, data)
        grown = small_dataset(tmp_path / "more", {"tools": 6, "boats": 4, "cups": 5})
        assert run(server, grown).state == "pushed"
        for path, data in mine.items():
            assert server.repo("me/things").read("main", path) == data

    def test_files_of_other_people_stay(self, server: FakeHub, dataset: Dataset) -> None:
        connect(server).api.create_repo("me/things", repo_type="dataset", private=True)
        upload_as(server, TOKEN, "notes.txt", b"mine")
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
        # The merge is undone as soon as the main branch is looked at again.
        server.faults.add("GET", r"/revision/main", then(interfere), times=None)
        with pytest.raises(HubError, match="somebody else has changed the repository"):
            run(server, dataset)
