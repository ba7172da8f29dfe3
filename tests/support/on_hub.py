"""Files put straight into the Hub of the tests, as if somebody had pushed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hqdata.hub.remote import Hub
from hqdata.progress import Silent
from hqdata.shards.dataset import Dataset
from support.hub import Entry, FakeHub, Repo

TOKEN = "hf_TokenOfThePersonWhoPulls00000003"

LARGE = (".tar", ".parquet", ".zip", ".bin")


def put(
    server: FakeHub,
    repo_id: str,
    files: Mapping[str, bytes],
    *,
    kind: str = "dataset",
    private: bool = False,
) -> Repo:
    """Makes a commit on `main` with exactly these files; makes the repository if need be."""
    repo = server.repos.get((kind, repo_id))
    if repo is None:
        repo = Repo(kind, repo_id, repo_id.split("/")[0], server.blobs, private=private)
        server.repos[kind, repo_id] = repo
    entries = {}
    for path, data in files.items():
        if path.endswith(LARGE):
            entries[path] = Entry.large(server.blobs.add(data), len(data))
        else:
            entries[path] = Entry.regular(server.blobs, data)
    commit = repo.make_commit(repo.branches["main"], "by hand", "", repo.owner, entries)
    repo.move("main", commit.oid)
    return repo


def files_of(dataset: Dataset) -> dict[str, bytes]:
    """The files of a data set as a repository holds them, a card and a certificate beside them."""
    root = dataset.root
    names = ["dataset.json", "samples.parquet", "problems.jsonl", "_info.json"]
    names += [shard.path for shard in dataset.info.shards]
    return {name: (root / name).read_bytes() for name in names} | {
        "README.md": b"---\nlicense: other\n---\n# Things\n",
        "croissant.json": b"{}\n",
        "overlap.json": b'{"verdict": "clean"}\n',
        "recipe.yaml": b"name: own\n",
        "examples/tools.jpg": b"no picture",
    }


def downloads(server: FakeHub) -> list[str]:
    """Digests of the large files that were asked for, in order, by whom or how often ever."""
    return [
        seen.path.rpartition("/")[2]
        for seen in server.requests
        if seen.method == "GET" and seen.path.startswith("/cdn/")
    ]


def visit(
    server: FakeHub, token: str = TOKEN, tell: Callable[[str], None] = lambda line: None
) -> Hub:
    """The Hub as somebody sees it, who does not wait."""
    return Hub(endpoint=server.endpoint, token=token, tell=tell, sleep=lambda seconds: None)


class Progress(Silent):
    """Remembers how far the work had come."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def update(self, done: int) -> None:
        self.done.append(done)
