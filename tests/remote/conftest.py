"""A storage that speaks S3, for the tests of a folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hqdata.remote.retry import Retry
from support.s3 import S3Server, s3_server


@pytest.fixture(scope="session")
def storage_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def storage(storage_process: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The storage without faults; what lies in it is of all tests, each in a folder of its own."""
    for name, value in storage_process.env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setattr(
        "hqdata.remote.patience.PATIENCE", Retry(max_tries=6, first_wait=0.05, longest_wait=0.5)
    )
    storage_process.fail()
    storage_process.forget()
    return storage_process
