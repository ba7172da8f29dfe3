"""The Hub that tests push to keeps accounts, repositories and references as the real one does."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub.errors import (
    BadRequestError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from support.hub import FakeHub
from support.hub.clients import CONTENT, DIGEST, REPO, TAR, api_of, fetched, made, pushed, put


class TestAccounts:
    def test_a_token_says_who_and_what_it_may(self, hub: FakeHub) -> None:
        hub.add_user("reader", "hf_read", role="read", organizations=("lab",))
        found = api_of(hub, "hf_read").whoami()
        assert found["name"] == "reader"
        assert found["auth"]["accessToken"]["role"] == "read"
        assert [o["name"] for o in found["orgs"]] == ["lab"]

    @pytest.mark.parametrize(
        ("token", "text"), [("hf_nobody", "Invalid credentials"), ("hf_old", "is expired")]
    )
    def test_a_bad_token_is_refused_everywhere(self, hub: FakeHub, token: str, text: str) -> None:
        hub.add_user("old", "hf_old", role="expired")
        made(hub)
        with pytest.raises(HfHubHTTPError, match=text) as caught:
            api_of(hub, token).repo_info(REPO, repo_type="dataset")
        assert caught.value.response.status_code == 401

    def test_a_token_to_read_makes_and_changes_nothing(self, hub: FakeHub) -> None:
        made(hub)
        hub.add_user("me", "hf_read", role="read")
        api = api_of(hub, "hf_read")
        with pytest.raises(HfHubHTTPError, match="don't have the rights to create a dataset"):
            api.create_repo("me/other", repo_type="dataset")
        with pytest.raises(HfHubHTTPError, match="create_pr=1"):
            put(api, "a.txt", b"1")
        assert hub.repo(REPO).commits()[0].title == "initial commit"

    def test_other_users_write_in_their_own_names_only(self, hub: FakeHub) -> None:
        made(hub)
        with pytest.raises(HfHubHTTPError, match="under the namespace"):
            api_of(hub, "hf_you").create_repo("me/y", repo_type="dataset")
        with pytest.raises(HfHubHTTPError) as caught:
            put(api_of(hub, "hf_you"), "a.txt", b"1")
        assert caught.value.response.status_code == 403

    def test_an_organisation_is_its_members_own(self, hub: FakeHub) -> None:
        hub.add_user("member", "hf_member", organizations=("lab",))
        api_of(hub, "hf_member").create_repo("lab/x", repo_type="dataset")
        assert hub.repo("lab/x").owner == "member"


class TestRepositories:
    def test_a_new_one_has_a_first_commit(self, hub: FakeHub) -> None:
        url = made(hub, private=True).create_repo(REPO, repo_type="dataset", exist_ok=True)
        assert url.repo_id == REPO
        assert hub.repo(REPO).private
        assert list(hub.repo(REPO).tree()) == [".gitattributes"]
        assert [c.title for c in hub.repo(REPO).commits()] == ["initial commit"]

    def test_it_is_made_once(self, hub: FakeHub) -> None:
        with pytest.raises(HfHubHTTPError, match="already created") as caught:
            made(hub).create_repo(REPO, repo_type="dataset")
        assert caught.value.response.status_code == 409

    def test_settings_change(self, hub: FakeHub) -> None:
        api = made(hub)
        api.update_repo_settings(REPO, repo_type="dataset", private=True, gated="manual")
        info = api.repo_info(REPO, repo_type="dataset")
        assert (info.private, info.gated) == (True, "manual")
        assert (hub.repo(REPO).private, hub.repo(REPO).gated) == (True, "manual")

    @pytest.mark.parametrize(("token", "code"), [("hf_you", 404), (None, 401)])
    def test_a_private_one_is_not_there_for_others(
        self, hub: FakeHub, token: str | None, code: int
    ) -> None:
        made(hub, private=True)
        with pytest.raises(RepositoryNotFoundError) as caught:
            api_of(hub, token).repo_info(REPO, repo_type="dataset")
        assert caught.value.response.status_code == code

    def test_a_gated_one_shows_its_list_and_not_its_files(
        self, hub: FakeHub, folder: Path, tmp_path: Path
    ) -> None:
        pushed(hub, folder).update_repo_settings(REPO, repo_type="dataset", gated="auto")
        stranger = api_of(hub, "hf_you")
        assert TAR in stranger.list_repo_files(REPO, repo_type="dataset")
        with pytest.raises(GatedRepoError, match="not in the authorized list"):
            stranger.auth_check(REPO, repo_type="dataset")
        with pytest.raises(GatedRepoError):
            fetched(hub, TAR, tmp_path / "cache", "hf_you")
        with pytest.raises(GatedRepoError, match="log in"):
            fetched(hub, TAR, tmp_path / "cache", None)
        hub.repo(REPO).grant("you")
        assert fetched(hub, TAR, tmp_path / "cache", "hf_you") == CONTENT
        stranger.auth_check(REPO, repo_type="dataset")

    def test_it_can_be_removed(self, hub: FakeHub) -> None:
        made(hub).delete_repo(REPO, repo_type="dataset")
        assert hub.repos == {}

    def test_info_tells_sizes_card_and_digests(self, hub: FakeHub, folder: Path) -> None:
        info = pushed(hub, folder).dataset_info(REPO, files_metadata=True)
        assert info.card_data is not None and info.card_data.license == "other"
        (tar,) = (s for s in info.siblings or () if s.rfilename == TAR)
        assert tar.lfs is not None and (tar.size, tar.lfs.sha256) == (len(CONTENT), DIGEST)
        part = api_of(hub).dataset_info(REPO, expand=["sha"])
        assert (part.sha, part.siblings) == (info.sha, None)


class TestReferences:
    def test_a_pull_request_is_merged_as_one_commit(self, hub: FakeHub, folder: Path) -> None:
        api = made(hub)
        info = api.upload_folder(
            folder_path=folder,
            repo_id=REPO,
            repo_type="dataset",
            create_pr=True,
            commit_message="Pictures",
        )
        assert (info.pr_num, info.pr_revision) == (1, "refs/pr/1")
        assert list(hub.repo(REPO).tree()) == [".gitattributes"]
        more = api.upload_file(
            path_or_fileobj=b"1",
            path_in_repo="more.txt",
            repo_id=REPO,
            repo_type="dataset",
            revision="refs/pr/1",
        )
        assert hub.repo(REPO).refs["refs/pr/1"] == more.oid
        found = {
            f.path: f
            for f in api.list_repo_tree(
                REPO, repo_type="dataset", revision="refs/pr/1", recursive=True
            )
        }
        assert found[TAR].lfs.sha256 == DIGEST
        api.merge_pull_request(REPO, 1, repo_type="dataset")
        assert [c.title for c in hub.repo(REPO).commits()] == ["Pictures (#1)", "initial commit"]
        assert hub.repo(REPO).tree() == hub.repo(REPO).tree("refs/pr/1")
        details = api.get_discussion_details(REPO, 1, repo_type="dataset")
        assert details.status == "merged"
        assert details.merge_commit_oid == hub.repo(REPO).refs["main"]

    def test_pull_requests_are_found_by_status(self, hub: FakeHub) -> None:
        api = made(hub)
        for title in ("first", "second", "third"):
            api.create_pull_request(REPO, title, repo_type="dataset")
        api.create_discussion(REPO, "a question", repo_type="dataset")
        hub.page_size = 2
        api.change_discussion_status(REPO, 1, "closed", repo_type="dataset")

        def found(**filters: str) -> list[tuple[int, str]]:
            listed = api.get_repo_discussions(REPO, repo_type="dataset", **filters)  # type: ignore[arg-type]
            return [(d.num, d.status) for d in listed]

        assert found() == [(4, "open"), (3, "draft"), (2, "draft"), (1, "closed")]
        assert found(discussion_type="pull_request", discussion_status="open") == [
            (3, "draft"),
            (2, "draft"),
        ]
        assert found(discussion_status="closed") == [(1, "closed")]
        assert [p.num for p in hub.repo(REPO).pull_requests] == [1, 2, 3]
        said = api.comment_discussion(REPO, 1, "never mind", repo_type="dataset")
        assert said.content == "never mind"

    def test_a_draft_is_published_before_it_is_merged(self, hub: FakeHub) -> None:
        api = made(hub)
        api.create_pull_request(REPO, "a draft", repo_type="dataset")
        put(api, "a.txt", b"1", revision="refs/pr/1")
        with pytest.raises(BadRequestError, match="draft"):
            api.merge_pull_request(REPO, 1, repo_type="dataset")
        api.change_discussion_status(REPO, 1, "open", repo_type="dataset")
        api.merge_pull_request(REPO, 1, repo_type="dataset")
        assert hub.repo(REPO).read("main", "a.txt") == b"1"

    def test_what_both_sides_changed_is_not_merged(self, hub: FakeHub) -> None:
        api = made(hub)
        put(api, "a.txt", b"1", create_pr=True)
        put(api, "a.txt", b"2")
        with pytest.raises(HfHubHTTPError, match=r"conflicting files: a\.txt"):
            api.merge_pull_request(REPO, 1, repo_type="dataset")
        assert api.get_discussion_details(REPO, 1, repo_type="dataset").conflicting_files == [
            "a.txt"
        ]

    def test_others_may_offer_and_not_merge(self, hub: FakeHub) -> None:
        made(hub)
        put(api_of(hub, "hf_you"), "a.txt", b"1", create_pr=True)
        with pytest.raises(HfHubHTTPError) as caught:
            api_of(hub, "hf_you").merge_pull_request(REPO, 1, repo_type="dataset")
        assert caught.value.response.status_code == 403
        assert hub.repo(REPO).pull_requests[0].author == "you"

    def test_tags_and_branches_stand_for_commits(
        self, hub: FakeHub, folder: Path, tmp_path: Path
    ) -> None:
        api = pushed(hub, folder)
        api.create_tag(REPO, tag="v1", repo_type="dataset", tag_message="the first")
        api.create_branch(REPO, branch="next", repo_type="dataset")
        put(api, "dataset.json", b"{2}")
        assert fetched(hub, "dataset.json", tmp_path / "c", revision="v1") == b"{}"
        assert fetched(hub, "dataset.json", tmp_path / "c") == b"{2}"
        assert hub.repo(REPO).tags == {"v1": hub.repo(REPO).refs["next"]}
        for make in (
            lambda: api.create_tag(REPO, tag="v1", repo_type="dataset"),
            lambda: api.create_branch(REPO, branch="next", repo_type="dataset"),
        ):
            with pytest.raises(HfHubHTTPError) as caught:
                make()
            assert caught.value.response.status_code == 409
        api.create_tag(REPO, tag="v1", repo_type="dataset", exist_ok=True)
        refs = api.list_repo_refs(REPO, repo_type="dataset", include_pull_requests=True)
        assert {b.name for b in refs.branches} == {"main", "next"}
        assert [(t.name, t.ref) for t in refs.tags] == [("v1", "refs/tags/v1")]
        assert refs.pull_requests == []
        api.delete_tag(REPO, tag="v1", repo_type="dataset")
        api.delete_branch(REPO, branch="next", repo_type="dataset")
        assert list(hub.repo(REPO).refs) == ["main"]
        with pytest.raises(RevisionNotFoundError, match="v1"):
            api.repo_info(REPO, repo_type="dataset", revision="v1")

    def test_history_is_listed_page_by_page(self, hub: FakeHub) -> None:
        api = made(hub)
        hub.page_size = 2
        for number in range(4):
            put(api, "a.txt", b"%d" % number, commit_message=f"number {number}")
        titles = [c.title for c in api.list_repo_commits(REPO, repo_type="dataset")]
        assert titles == [*(f"number {n}" for n in (3, 2, 1, 0)), "initial commit"]
