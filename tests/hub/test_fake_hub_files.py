"""The Hub that tests push to takes and gives files as the real one does."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfFileSystem,
    snapshot_download,
)
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    HfHubHTTPError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session

from support.hub import FakeHub, status
from support.hub.clients import (
    CONTENT,
    DIGEST,
    OTHER_CONTENT,
    OTHER_TAR,
    REPO,
    TAR,
    api_of,
    asked,
    fetched,
    made,
    pushed,
    put,
    run,
)


class TestUploads:
    def test_a_folder_goes_up_each_file_once(self, hub: FakeHub, folder: Path) -> None:
        pushed(hub, folder)
        tree = hub.repo(REPO).tree()
        assert tree[TAR] == (DIGEST, len(CONTENT))
        assert tree["dataset.json"] == (None, 2)
        assert tree["empty.txt"] == (None, 0)
        assert hub.repo(REPO).read("main", OTHER_TAR) == OTHER_CONTENT
        assert set(hub.uploads.values()) == {1} and len(hub.uploads) == 2
        assert hub.unknown == []

    def test_the_same_folder_again_changes_nothing(self, hub: FakeHub, folder: Path) -> None:
        api = pushed(hub, folder)
        before = hub.repo(REPO).commits()
        info = api.upload_folder(folder_path=folder, repo_id=REPO, repo_type="dataset")
        assert info.oid == before[0].oid
        assert hub.repo(REPO).commits() == before
        assert set(hub.uploads.values()) == {1}

    def test_a_large_file_may_be_asked_for_in_parts(self, hub: FakeHub, folder: Path) -> None:
        hub.multipart_over, hub.part_size = 1000, 60_000
        pushed(hub, folder)
        assert hub.repo(REPO).read("main", TAR) == CONTENT
        assert len(asked(hub, "PUT", "/parts/")) == 2 * -(-len(CONTENT) // 60_000)
        assert hub.uploads[DIGEST] == 1
        assert not any((hub.folder / "parts").iterdir())

    def test_what_was_uploaded_outlives_a_commit_that_failed(
        self, hub: FakeHub, folder: Path
    ) -> None:
        api = made(hub)
        hub.faults.add("POST", "/commit/", status(400, body={"error": "no"}))
        with pytest.raises(BadRequestError, match="no"):
            api.upload_folder(folder_path=folder, repo_id=REPO, repo_type="dataset")
        assert list(hub.repo(REPO).tree()) == [".gitattributes"]
        api.upload_folder(folder_path=folder, repo_id=REPO, repo_type="dataset")
        assert set(hub.uploads.values()) == {1}
        assert hub.repo(REPO).tree()[TAR] == (DIGEST, len(CONTENT))

    def test_files_and_folders_go(self, hub: FakeHub, folder: Path) -> None:
        api = pushed(hub, folder)
        operations = [CommitOperationDelete("dis/"), CommitOperationDelete("dataset.json")]
        api.create_commit(REPO, operations, commit_message="less", repo_type="dataset")
        assert list(hub.repo(REPO).tree()) == [".gitattributes", "README.md", "empty.txt"]
        with pytest.raises(EntryNotFoundError, match="doesn't exist"):
            api.delete_file("dataset.json", REPO, repo_type="dataset")

    def test_a_commit_on_something_older_is_refused(self, hub: FakeHub) -> None:
        api = made(hub)
        first = hub.repo(REPO).refs["main"]
        put(api, "a.txt", b"1", parent_commit=first)
        with pytest.raises(HfHubHTTPError, match="commit has happened since") as caught:
            put(api, "a.txt", b"2", parent_commit=first)
        assert caught.value.response.status_code == 412

    def test_a_large_file_that_never_came_cannot_be_committed(self, hub: FakeHub) -> None:
        api = made(hub)
        operation = CommitOperationAdd("a.tar", CONTENT)
        operation._upload_mode, operation._is_uploaded = "lfs", True
        with pytest.raises(BadRequestError, match="does not exist"):
            api.create_commit(REPO, [operation], commit_message="a", repo_type="dataset")

    def test_a_card_with_bad_metadata_is_refused(self, hub: FakeHub, folder: Path) -> None:
        api = made(hub)
        (folder / "README.md").write_text("---\nlicense: mine\n---\n")
        with pytest.raises(ValueError, match='"license" must be one of'):
            api.upload_folder(folder_path=folder, repo_id=REPO, repo_type="dataset")
        assert hub.uploads == {}

    @pytest.mark.parametrize(
        ("head", "said"),
        [
            ("license: [cc0-1.0", "YAML Metadata Error"),
            ("tags: [1]", '"tags" must be'),
            ("configs: [{data_files: a}]", "config_name"),
            ("configs: [{config_name: a}, {config_name: a}]", "different names"),
            ("configs: [{config_name: a, data_files: [{path: b}]}]", '"split" and "path"'),
            ("extra_gated_fields: [a]", "extra_gated_fields"),
        ],
    )
    def test_what_the_metadata_of_a_card_must_be(self, hub: FakeHub, head: str, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            api_of(hub)._validate_yaml(f"---\n{head}\n---\n", repo_type="dataset")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("# no metadata", "empty or missing yaml"),
            ("---\nsize_categories: small\n---\n", "not in the official list"),
        ],
    )
    def test_what_the_metadata_of_a_card_should_be(
        self, hub: FakeHub, text: str, said: str
    ) -> None:
        with pytest.warns(UserWarning, match=said):
            api_of(hub)._validate_yaml(text, repo_type="dataset")

    def test_private_storage_ends_somewhere(self, hub: FakeHub, folder: Path) -> None:
        api = made(hub, private=True)
        hub.quota = len(CONTENT) * 2 - 1
        with pytest.raises(HfHubHTTPError, match="Private repository storage limit") as caught:
            api.upload_folder(folder_path=folder, repo_id=REPO, repo_type="dataset")
        assert caught.value.response.status_code == 403
        hub.quota += 1
        api.upload_folder(folder_path=folder, repo_id=REPO, repo_type="dataset")

    def test_large_files_are_never_whole_in_memory(self, hub: FakeHub, tmp_path: Path) -> None:
        api = made(hub)
        big = tmp_path / "big.tar"
        with big.open("wb") as file:
            file.truncate(300_000_000)
        code = (
            "import sys; from huggingface_hub import HfApi; "
            "HfApi().upload_file(path_or_fileobj=sys.argv[1], path_in_repo='big.tar', "
            "repo_id='me/x', repo_type='dataset')"
        )
        tracemalloc.start()
        try:
            run(hub, code, str(big))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert api.file_exists(REPO, "big.tar", repo_type="dataset")
        assert peak < 20_000_000


class TestDownloads:
    def test_a_whole_snapshot_comes_down(self, hub: FakeHub, folder: Path, tmp_path: Path) -> None:
        pushed(hub, folder)
        there = snapshot_download(
            REPO,
            repo_type="dataset",
            endpoint=hub.endpoint,
            token="hf_me",
            local_dir=tmp_path / "there",
        )
        for path in folder.rglob("*.*"):
            assert (Path(there) / path.relative_to(folder)).read_bytes() == path.read_bytes()
        assert hub.unknown == []

    def test_large_files_come_from_another_origin_without_the_token(
        self, hub: FakeHub, folder: Path, tmp_path: Path
    ) -> None:
        pushed(hub, folder, private=True)
        assert fetched(hub, TAR, tmp_path / "cache") == CONTENT
        assert asked(hub, "HEAD", TAR) == [302]
        assert asked(hub, "GET", f"/cdn/{DIGEST}") == [200]

    def test_a_link_to_the_store_cannot_be_made_up(self, hub: FakeHub, folder: Path) -> None:
        pushed(hub, folder)
        session = get_session()
        assert session.get(f"{hub.storage}/cdn/{DIGEST}").status_code == 403
        good = hub.signed(f"/cdn/{DIGEST}", filename="a.tar")
        assert session.get(good).content == CONTENT
        with_token = session.get(good, headers={"Authorization": "Bearer hf_me"})
        assert with_token.status_code == 400

    def test_parts_of_files_can_be_read(self, hub: FakeHub, folder: Path) -> None:
        pushed(hub, folder)
        fs = HfFileSystem(endpoint=hub.endpoint, token="hf_me", skip_instance_cache=True)
        root = f"datasets/{REPO}"
        assert fs.ls(f"{root}/dis", detail=False) == [f"{root}/{TAR}", f"{root}/{OTHER_TAR}"]
        assert fs.glob(f"{root}/dis/train-*-of-00002.tar")[0] == f"{root}/{TAR}"
        with fs.open(f"{root}/{TAR}", "rb", block_size=1000) as file:
            file.seek(5000)
            assert file.read(300) == CONTENT[5000:5300]
            file.seek(-10, 2)
            assert file.read() == CONTENT[-10:]
        with fs.open(f"{root}/dataset.json", "rb") as file:
            assert file.read() == b"{}"
        assert 206 in asked(hub, "GET", f"/cdn/{DIGEST}")
        with pytest.raises(FileNotFoundError):
            fs.info(f"{root}/nothing.txt")
        assert hub.unknown == []

    def test_a_range_beyond_the_end_is_refused(self, hub: FakeHub, folder: Path) -> None:
        pushed(hub, folder)
        url = f"{hub.endpoint}/datasets/{REPO}/resolve/main/dataset.json"
        found = get_session().get(url, headers={"Range": "bytes=2-"})
        assert (found.status_code, found.headers["Content-Range"]) == (416, "bytes */2")

    def test_listings_have_pages_folders_and_last_commits(self, hub: FakeHub, folder: Path) -> None:
        api = pushed(hub, folder)
        hub.page_size = 2
        plain = api.list_repo_tree(REPO, repo_type="dataset")
        names = [".gitattributes", "README.md", "dataset.json", "dis", "empty.txt"]
        assert [f.path for f in plain] == names
        assert len(asked(hub, "GET", "/tree/")) == 3
        below = list(api.list_repo_tree(REPO, "dis", repo_type="dataset", expand=True))
        assert [f.path for f in below] == [TAR, OTHER_TAR]
        assert below[0].last_commit is not None
        assert below[0].last_commit.oid == hub.repo(REPO).refs["main"]
        (info,) = api.get_paths_info(REPO, [TAR, "nothing"], repo_type="dataset")
        assert info.lfs is not None and info.lfs.sha256 == DIGEST
        with pytest.raises(EntryNotFoundError):
            list(api.list_repo_tree(REPO, "nothing", repo_type="dataset"))

    @pytest.mark.parametrize(
        ("path", "revision", "error"),
        [("nothing", "main", EntryNotFoundError), ("README.md", "v9", RevisionNotFoundError)],
    )
    def test_what_is_missing_is_said_to_be(
        self, hub: FakeHub, tmp_path: Path, path: str, revision: str, error: type[Exception]
    ) -> None:
        made(hub)
        with pytest.raises(error):
            fetched(hub, path, tmp_path / "cache", revision=revision)


LOAD = """
import json, sys
from datasets import load_dataset
config, streaming = sys.argv[1], sys.argv[2] == "streaming"
rows = load_dataset("me/x", config, split="train", streaming=streaming)
print(json.dumps([[r["__key__"], r["json"]["n"]] for r in rows]))
"""


class TestDatasets:
    @pytest.mark.parametrize("how", ["streaming", "whole"])
    def test_shards_are_read_by_the_configurations_of_the_card(
        self, hub: FakeHub, tmp_path: Path, how: str
    ) -> None:
        root = tmp_path / "wds"
        for source in ("cats", "dogs"):
            for number in range(2):
                path = root / source / f"train-{number:05d}-of-00002.tar"
                path.parent.mkdir(parents=True, exist_ok=True)
                with tarfile.open(path, "w") as archive:
                    data = json.dumps({"n": number}).encode()
                    member = tarfile.TarInfo(f"{source}-{number}.json")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        (root / "README.md").write_text(
            "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n"
            "    path: '*/train-*-of-00002.tar'\n- config_name: cats\n  data_files:\n"
            "  - split: train\n    path: cats/train-*-of-00002.tar\n---\n"
        )
        pushed(hub, root, private=True)
        cats = [["cats-0", 0], ["cats-1", 1]]
        assert json.loads(run(hub, LOAD, "cats", how)) == cats
        if how == "streaming":
            every = json.loads(run(hub, LOAD, "default", how))
            assert every == [*cats, ["dogs-0", 0], ["dogs-1", 1]]
