"""The Hub that tests push to takes what clients send it by Xet, which is how they do by default."""

from __future__ import annotations

import hashlib
import random
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub.utils import get_session

from support.hub import FakeHub, fake_hub, status, wrong_digest
from support.hub.xet_format import DamagedError, read_chunks, read_shard, write_shard

pytest.importorskip("hf_xet")

REPO = "me/x"

UPLOAD = """
import sys
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("me/x", repo_type="dataset", exist_ok=True, private=True)
pull = sys.argv[2] == "pull"
api.upload_folder(folder_path=sys.argv[1], repo_id="me/x", repo_type="dataset", create_pr=pull)
"""

DOWNLOAD = """
import sys
from huggingface_hub import hf_hub_download
print(hf_hub_download("me/x", sys.argv[1], repo_type="dataset"))
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    with fake_hub(tmp_path / "hub") as hub:
        hub.add_user("me", "hf_me")
        yield hub


@pytest.fixture
def contents() -> dict[str, bytes]:
    """What packs in each of the ways that there are, and what is small."""
    noise = random.Random(0).randbytes(300_000)
    return {
        "noise.tar": noise,
        "text.tar": b"".join(b"line %d of a text\n" % n for n in range(20_000)),
        "numbers.tar": struct.pack("<70001f", *(n * 0.37 for n in range(70_001))) + b"ab",
        "twice.tar": noise[100_000:] + noise,
        "small.tar": b"abc",
        "plain.txt": b"in git",
        "empty.txt": b"",
    }


@pytest.fixture
def folder(tmp_path: Path, contents: dict[str, bytes]) -> Path:
    root = tmp_path / "shards"
    root.mkdir()
    for name, data in contents.items():
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def machine(hub: FakeHub) -> dict[str, str]:
    """The environment of a user's machine, with what its clients remember."""
    return _machine(hub)


def _machine(hub: FakeHub, token: str = "hf_me") -> dict[str, str]:
    more = {"HF_HUB_DISABLE_XET": "0", "HF_XET_CLIENT_RETRY_BASE_DELAY": "50ms"}
    return hub.environment(token, **more)


def run(machine: dict[str, str], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=machine, capture_output=True, text=True, timeout=120)


def pushed(machine: dict[str, str], folder: Path, where: str = "main") -> None:
    done = run(machine, UPLOAD, str(folder), where)
    assert done.returncode == 0, done.stderr


def held(hub: FakeHub, ref: str = "main") -> dict[str, bytes]:
    repo = hub.repo(REPO)
    return {path: repo.read(ref, path) for path in repo.tree(ref) if path != ".gitattributes"}


def sent(hub: FakeHub) -> int:
    """Bytes of xorbs that were received."""
    return sum(r.bytes_received for r in hub.requests if r.path.startswith("/v1/xorbs/"))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class TestUploads:
    def test_files_are_put_together_from_what_came(
        self, hub: FakeHub, machine: dict[str, str], folder: Path, contents: dict[str, bytes]
    ) -> None:
        pushed(machine, folder)
        assert held(hub) == contents
        assert hub.repo(REPO).tree()["noise.tar"] == (digest(contents["noise.tar"]), 300_000)
        large = {digest(data) for name, data in contents.items() if name.endswith(".tar")}
        assert set(hub.uploads) == large and set(hub.uploads.values()) == {1}
        assert sent(hub) < sum(len(data) for data in contents.values())
        assert hub.unknown == []

    def test_a_pull_request_is_opened_as_a_draft(
        self, hub: FakeHub, machine: dict[str, str], folder: Path, contents: dict[str, bytes]
    ) -> None:
        pushed(machine, folder, "pull")
        assert held(hub) == {}
        assert held(hub, "refs/pr/1") == contents
        assert [p.status for p in hub.repo(REPO).pull_requests] == ["draft"]

    def test_what_is_there_is_not_sent_again(
        self, hub: FakeHub, machine: dict[str, str], folder: Path, contents: dict[str, bytes]
    ) -> None:
        pushed(machine, folder)
        before, commits = sent(hub), hub.repo(REPO).commits()
        pushed(machine, folder)
        pushed(_machine(hub), folder)
        assert hub.repo(REPO).commits() == commits
        hub.repos.clear()
        pushed(_machine(hub), folder)
        assert held(hub) == contents
        assert sent(hub) == before

    def test_they_come_down_as_always(
        self, hub: FakeHub, machine: dict[str, str], folder: Path, contents: dict[str, bytes]
    ) -> None:
        pushed(machine, folder)
        done = run(_machine(hub), DOWNLOAD, "numbers.tar")
        assert Path(done.stdout.strip()).read_bytes() == contents["numbers.tar"]


class TestRefusals:
    def test_passing_failures_are_tried_again(
        self, hub: FakeHub, machine: dict[str, str], folder: Path, contents: dict[str, bytes]
    ) -> None:
        for method, path in (("GET", "xet-write-token"), ("POST", "xorbs"), ("POST", "v1/shards")):
            hub.faults.add(method, path, status(503))
        pushed(machine, folder)
        assert held(hub) == contents
        assert [r.status for r in hub.requests].count(503) == 3

    def test_damaged_pieces_make_no_file(
        self, hub: FakeHub, machine: dict[str, str], folder: Path
    ) -> None:
        hub.faults.add("POST", "/v1/xorbs/", wrong_digest(), times=None)
        done = run(machine, UPLOAD, str(folder), "main")
        assert "400 Bad Request" in done.stderr
        assert (held(hub), hub.uploads, hub.xorbs) == ({}, {}, {})

    def test_private_storage_ends_here_too(
        self, hub: FakeHub, machine: dict[str, str], folder: Path
    ) -> None:
        hub.quota = 1000
        done = run(machine, UPLOAD, str(folder), "main")
        assert "403" in done.stderr and "storage limit reached" in done.stderr
        assert held(hub) == {}

    def test_a_token_to_read_opens_nothing(
        self, hub: FakeHub, machine: dict[str, str], folder: Path
    ) -> None:
        pushed(machine, folder)
        hub.add_user("me", "hf_read", role="read")
        url = f"{hub.endpoint}/api/datasets/{REPO}/xet-{{}}-token/main"
        headers = {"Authorization": "Bearer hf_read"}
        assert get_session().get(url.format("write"), headers=headers).status_code == 403
        found = get_session().get(url.format("read"), headers=headers).json()
        for token, code in ((found["accessToken"], 403), ("xet_made_up", 401)):
            answer = get_session().post(
                f"{found['casUrl']}/v1/shards", headers={"Authorization": f"Bearer {token}"}
            )
            assert answer.status_code == code

    def test_a_shard_may_name_only_what_came(
        self, hub: FakeHub, machine: dict[str, str], folder: Path
    ) -> None:
        pushed(machine, folder)
        url = f"{hub.endpoint}/api/datasets/{REPO}/xet-write-token/main"
        found = get_session().get(url, headers={"Authorization": "Bearer hf_me"}).json()
        end = b"\xff" * 32 + bytes(16)
        tag, _ = next(iter(hub.xet_chunks.values()))
        file = struct.pack("<32sII8x", b"f" * 32, 1 << 30, 1)
        term = struct.pack("<32s4I", b"x" * 32, 0, 5, 0, 1)
        name = bytes(48)
        answer = get_session().post(
            f"{found['casUrl']}/v1/shards",
            headers={"Authorization": f"Bearer {found['accessToken']}"},
            content=tag + struct.pack("<QQ", 2, 0) + file + term + name + end + end,
        )
        assert answer.status_code == 400 and "never came" in answer.text


class TestFormat:
    def test_a_written_shard_is_read_again(self) -> None:
        head = struct.pack("<32s4I", b"x" * 32, 0, 2, 7, 7)
        chunks = [struct.pack("<32s2I8x", bytes([n]) * 32, n, 5) for n in range(2)]
        block = b"".join([head, *chunks])
        shard = read_shard(write_shard(b"t" * 32, [block], int(time.time())))
        assert (shard.tag, shard.files, list(shard.xorbs.values())) == (b"t" * 32, (), [block])

    @pytest.mark.parametrize("data", [b"", bytes(48), b"t" * 32 + struct.pack("<QQ", 2, 0)])
    def test_other_bytes_are_no_shard(self, data: bytes) -> None:
        with pytest.raises(DamagedError):
            read_shard(data)

    @pytest.mark.parametrize(
        "data", [b"\x01", b"\0\3\0\0\0\3\0\0ab", b"\0\2\0\0\0\3\0\0ab", b"\0\2\0\0\7\2\0\0ab"]
    )
    def test_other_bytes_are_no_xorb(self, tmp_path: Path, data: bytes) -> None:
        path = tmp_path / "xorb"
        path.write_bytes(data)
        with pytest.raises(DamagedError):
            list(read_chunks(path))
