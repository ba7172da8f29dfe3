"""What tests of the Hub do with its clients: the data set `me/x`, of the user `me`."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download

from support.hub.hub import FakeHub

REPO = "me/x"
TAR = "dis/train-00000-of-00002.tar"
OTHER_TAR = "dis/train-00001-of-00002.tar"
CONTENT = bytes(range(256)) * 800
OTHER_CONTENT = bytes(reversed(CONTENT))
DIGEST = hashlib.sha256(CONTENT).hexdigest()

FILES = {
    "README.md": b"---\nlicense: other\n---\n# Pictures\n",
    "dataset.json": b"{}",
    "empty.txt": b"",
    TAR: CONTENT,
    OTHER_TAR: OTHER_CONTENT,
}
"""A card, a table, an empty file and two archives."""


def written(root: Path, files: dict[str, bytes]) -> Path:
    """A folder of these files."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def api_of(hub: FakeHub, token: str | None = "hf_me") -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=token or False)


def made(hub: FakeHub, **settings: Any) -> HfApi:
    """A client, with the repository made."""
    api = api_of(hub)
    api.create_repo(REPO, repo_type="dataset", **settings)
    return api


def pushed(hub: FakeHub, folder: Path, **settings: Any) -> HfApi:
    """The same, with the folder on `main`."""
    api = made(hub, **settings)
    api.upload_folder(folder_path=folder, repo_id=REPO, repo_type="dataset")
    return api


def put(api: HfApi, path: str, data: bytes, **more: Any) -> None:
    api.upload_file(
        path_or_fileobj=data,
        path_in_repo=path,
        repo_id=REPO,
        repo_type="dataset",
        **more,
    )


def fetched(
    hub: FakeHub, path: str, cache: Path, token: str | None = "hf_me", **more: Any
) -> bytes:
    found = hf_hub_download(
        REPO,
        path,
        repo_type="dataset",
        endpoint=hub.endpoint,
        token=token or False,
        cache_dir=cache,
        **more,
    )
    return Path(found).read_bytes()


def asked(hub: FakeHub, method: str, part: str) -> list[int]:
    """What requests whose path has such a part were answered with."""
    return [r.status for r in hub.requests if r.method == method and part in r.path]


def run(hub: FakeHub, code: str, *arguments: str, token: str | None = "hf_me") -> str:
    """Runs some Python that uses the Hub as its user's own; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=hub.environment(token, USE_TORCH="0"),  # which `datasets` would import otherwise
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
