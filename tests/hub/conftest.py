"""A Hub of one's own, and something to put on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from hqdata.shards.dataset import Dataset
from support.hub import FakeHub, fake_hub
from support.pushes import OTHER_TOKEN, TOKEN, small_dataset


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub with the users `me` and `you`; clients in this process use plain HTTP."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with fake_hub(tmp_path / "hub") as hub:
        hub.add_user("me", "hf_me")
        hub.add_user("you", "hf_you")
        yield hub


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client would have waited between its attempts."""
    from huggingface_hub.utils import _http

    waits: list[float] = []
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=waits.append))
    return waits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small data set."""
    from support.hub.clients import FILES, written

    return written(tmp_path / "shards", FILES)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """What is pushed: three sources of one's own, in seven shards."""
    return small_dataset(tmp_path_factory.mktemp("to-push"))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub with `me`, who pushes, and somebody else; clients in this process use plain HTTP."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with fake_hub(tmp_path / "hub") as server:
        server.add_user("me", TOKEN)
        server.add_user("else", OTHER_TOKEN)
        yield server
