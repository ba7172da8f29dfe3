"""What a test can make go wrong on the way to the Hub."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import BadRequestError, HfHubHTTPError

from support.hub import (
    FakeHub,
    cut_body,
    drop,
    hang_up_after_bytes,
    lose_answer,
    rate_limited,
    slow,
    status,
    then,
    wrong_digest,
)
from support.hub.clients import CONTENT, DIGEST, REPO, TAR, asked, fetched, made, pushed, put

HUNG_UP = r"disconnected|reset|[Bb]roken pipe"

UPLOAD = """
import sys
from huggingface_hub import HfApi
HfApi().upload_folder(folder_path=sys.argv[1], repo_id="me/x", repo_type="dataset")
"""


class TestFaults:
    def test_the_client_waits_as_long_as_it_is_told(
        self, hub: FakeHub, folder: Path, waits: list[float]
    ) -> None:
        hub.faults.add("POST", "/preupload/", rate_limited(7))
        hub.faults.add("PUT", "/storage/", status(503))
        pushed(hub, folder)
        assert sorted(waits) == [1, 8]
        assert asked(hub, "POST", "/preupload/") == [429, 200]
        assert hub.repo(REPO).tree()[TAR] == (DIGEST, len(CONTENT))

    def test_a_rule_lets_some_pass_and_then_ends(self, hub: FakeHub) -> None:
        api = made(hub)
        hub.faults.add("GET", "/api/datasets/me/x$", status(418), times=2, after=1)
        for code in (200, 418, 418, 200):
            if code == 200:
                api.repo_info(REPO, repo_type="dataset")
            else:
                with pytest.raises(HfHubHTTPError) as caught:
                    api.repo_info(REPO, repo_type="dataset")
                assert caught.value.response.status_code == code
        assert asked(hub, "GET", "/me/x") == [200, 418, 418, 200]

    def test_without_an_end_the_client_gives_up(
        self, hub: FakeHub, folder: Path, waits: list[float]
    ) -> None:
        api = made(hub)
        hub.faults.add("PUT", DIGEST, status(500), times=None)
        with pytest.raises(RuntimeError, match="Error while uploading"):
            api.upload_folder(folder_path=folder, repo_id=REPO, repo_type="dataset")
        assert waits == [1, 2, 4, 8, 8]
        assert asked(hub, "PUT", DIGEST) == [500] * 6

    def test_a_dropped_request_did_nothing(self, hub: FakeHub) -> None:
        api = made(hub)
        hub.faults.add("POST", "/branch/", drop())
        with pytest.raises(Exception, match=HUNG_UP):
            api.create_branch(REPO, branch="next", repo_type="dataset")
        assert list(hub.repo(REPO).refs) == ["main"]
        assert asked(hub, "POST", "/branch/") == [0]

    def test_a_lost_answer_did_it(self, hub: FakeHub) -> None:
        api = made(hub)
        hub.faults.add("POST", "/commit/main", lose_answer())
        with pytest.raises(Exception, match=HUNG_UP):
            put(api, "a.txt", b"1")
        assert hub.repo(REPO).read("main", "a.txt") == b"1"

    def test_an_interrupted_upload_leaves_nothing(
        self, hub: FakeHub, folder: Path, waits: list[float]
    ) -> None:
        api = made(hub)
        hub.faults.add("PUT", DIGEST, hang_up_after_bytes(70_000), times=None)
        with pytest.raises(RuntimeError):
            api.upload_folder(folder_path=folder, repo_id=REPO, repo_type="dataset")
        assert DIGEST not in hub.blobs
        assert not any(hub.blobs.incoming.iterdir())
        assert {r.bytes_received for r in hub.requests if DIGEST in r.path} == {70_000}
        hub.faults.clear()
        api.upload_folder(folder_path=folder, repo_id=REPO, repo_type="dataset")
        assert hub.repo(REPO).read("main", TAR) == CONTENT

    def test_other_bytes_than_promised_are_refused(
        self, hub: FakeHub, folder: Path, waits: list[float]
    ) -> None:
        api = made(hub)
        hub.faults.add("PUT", DIGEST, wrong_digest())
        with pytest.raises(RuntimeError) as caught:
            api.upload_folder(folder_path=folder, repo_id=REPO, repo_type="dataset")
        assert isinstance(caught.value.__cause__, BadRequestError)
        assert DIGEST not in hub.blobs

    def test_a_cut_download_is_taken_up_where_it_ended(
        self, hub: FakeHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
        pushed(hub, folder)
        hub.faults.add("GET", "/cdn/", cut_body())
        assert fetched(hub, TAR, tmp_path / "cache") == CONTENT
        assert asked(hub, "GET", "/cdn/") == [200, 206]

    def test_a_download_can_be_of_other_bytes(
        self, hub: FakeHub, folder: Path, tmp_path: Path
    ) -> None:
        pushed(hub, folder)
        hub.faults.add("GET", "/cdn/", wrong_digest())
        found = fetched(hub, TAR, tmp_path / "cache")
        assert len(found) == len(CONTENT) and found != CONTENT

    def test_a_listing_can_tell_other_digests(self, hub: FakeHub, folder: Path) -> None:
        api = pushed(hub, folder)
        hub.faults.add("GET", "/tree/", wrong_digest())
        (first, _) = api.list_repo_tree(REPO, "dis", repo_type="dataset")
        assert first.lfs is not None and first.lfs.sha256[1:] == DIGEST[1:]
        assert first.lfs.sha256 != DIGEST

    def test_an_answer_can_be_slow(self, hub: FakeHub) -> None:
        api = made(hub)
        hub.faults.add("GET", "/refs", slow(0.2))
        start = time.monotonic()
        api.list_repo_refs(REPO, repo_type="dataset")
        assert time.monotonic() - start >= 0.2

    def test_a_killed_client_does_no_harm(
        self, hub: FakeHub, folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        api = made(hub)
        arrived, go_on = threading.Event(), threading.Event()

        def wait() -> None:
            arrived.set()
            go_on.wait(30)

        hub.faults.add("PUT", "/storage/", then(wait))
        command = [sys.executable, "-c", UPLOAD, str(folder)]
        client = subprocess.Popen(command, env=hub.environment("hf_me"))
        assert arrived.wait(60)
        os.kill(client.pid, signal.SIGKILL)
        assert client.wait(30) == -signal.SIGKILL
        go_on.set()
        api.upload_folder(folder_path=folder, repo_id=REPO, repo_type="dataset")
        assert hub.repo(REPO).read("main", TAR) == CONTENT
        assert "Traceback" not in capfd.readouterr().err
