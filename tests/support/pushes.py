"""Small data sets to push, plans for them, and what a Hub must hold afterwards."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hqdata.build.run import BuildOptions, build
from hqdata.hub.licences import What, decide, terms_of
from hqdata.hub.plan import PushPlan, dated, make_plan, manifest_of
from hqdata.hub.push import PushResult, push
from hqdata.hub.remote import Hub
from hqdata.progress import Silent
from hqdata.resolve import resolve
from hqdata.shards.dataset import Dataset
from support.builds import own_recipe, own_sources
from support.hub import FakeHub

TOKEN = "hf_TokenOfThePersonWhoPushes00000001"
OTHER_TOKEN = "hf_TokenOfSomebodyElse0000000000002"


def small_dataset(
    folder: Path,
    counts: dict[str, int] | None = None,
    *,
    unlicensed: Sequence[str] = (),
    **settings: Any,
) -> Dataset:
    """A data set of folders of one's own, two samples a shard, under CC0-1.0 unless it says so."""
    counts = counts or {"tools": 6, "boats": 4, "cups": 3}
    own_sources(folder / "data", counts)
    settings = {"samples_per_shard": 2, **settings}
    recipe = own_recipe(list(counts), **settings).recipe
    sources = tuple(
        source.model_copy(update={"licence": "not-stated"})
        if source.source in unlicensed
        else source
        for source in recipe.sources
    )
    resolved = resolve(recipe.model_copy(update={"sources": sources}))
    build(resolved, folder / "data", folder / "shards", BuildOptions(workers=1))
    return Dataset.open(folder / "shards")


def plan_of(
    dataset: Dataset,
    repo_id: str = "me/things",
    *,
    sources: list[str] | None = None,
    what: What = "all",
    public: bool = False,
) -> PushPlan:
    """A push of it without a certificate."""
    sources = sources or list(dataset.info.sources)
    return make_plan(
        dataset,
        manifest_of(dataset, sources),
        repo_id=repo_id,
        what=what,
        decision=decide(terms_of(dataset, sources, []), what=what, public=public),
        certificate=None,
        without_certificate=True,
    )


def connect(
    server: FakeHub, token: str = TOKEN, tell: Callable[[str], None] = lambda line: None
) -> Hub:
    """The Hub as somebody sees it, who does not wait."""
    return Hub(endpoint=server.endpoint, token=token, tell=tell, sleep=lambda seconds: None)


def planned_for(server: FakeHub, plan: PushPlan) -> PushPlan:
    """The plan with what only the Hub knows: the day on which the repository was made."""
    made = server.repo(plan.repo_id).created
    return dated(plan, datetime.date.fromisoformat(made[:10]))


def assert_holds(server: FakeHub, plan: PushPlan, ref: str = "main") -> None:
    """Every file of the plan is there with its bytes, and nothing else but git's own settings."""
    plan, repo = planned_for(server, plan), server.repo(plan.repo_id)
    assert set(repo.tree(ref)) == {file.path for file in plan.files} | {".gitattributes"}
    for file in plan.files:
        data = repo.read(ref, file.path)
        assert hashlib.sha256(data).hexdigest() == file.sha256, file.path
        assert len(data) == file.num_bytes


class Recorder(Silent):
    """Remembers what was reported."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int, str]] = []
        self.done: list[int] = []

    def start(self, what: str, total: int, unit: str) -> None:
        self.stages.append((what, total, unit))

    def update(self, done: int) -> None:
        self.done.append(done)


def run(server: FakeHub, dataset: Dataset, **settings: object) -> PushResult:
    """Pushes it; settings are those of `plan_of` and of `push`."""
    options = {k: settings.pop(k) for k in ("replace", "merge") if k in settings}
    plan = plan_of(dataset, **settings)  # type: ignore[arg-type]
    return push(
        plan,
        connect(server),
        reporter=Silent(),
        tell=lambda line: None,
        **options,  # type: ignore[arg-type]
    )


def upload_as(server: FakeHub, token: str, path: str, data: bytes, **settings: str) -> None:
    """Puts a file into the repository by hand."""
    connect(server, token).api.upload_file(
        path_or_fileobj=data,
        path_in_repo=path,
        repo_id="me/things",
        repo_type="dataset",
        **settings,
    )
