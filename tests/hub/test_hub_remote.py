"""Talking to the Hub: what is tried again, how long is waited, and what is said of a refusal."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hqdata.errors import UserError
from hqdata.hub.remote import (
    LONGEST_WAIT,
    MAX_TRIES,
    Hub,
    HubError,
    HubUnreachableError,
    check_repo_id,
    waiting_time,
    without_secrets,
)

TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345"


class Answer:
    """As much of an HTTP answer as is looked at."""

    def __init__(self, status: int, **headers: str) -> None:
        self.status_code = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class RefusedError(Exception):
    def __init__(self, status: int, message: str = "", **headers: str) -> None:
        super().__init__(f"{status} for url https://x/y?X-Signature=abc with {TOKEN}")
        self.response = Answer(status, **headers)
        self.server_message = message


class Script:
    """Fails as told, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


class Ear:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.waits: list[float] = []


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def hub(ear: Ear) -> Hub:
    return Hub(
        endpoint="http://127.0.0.1:9",
        token=TOKEN,
        tell=ear.lines.append,
        sleep=ear.waits.append,
    )


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_passes_by_itself_is_tried_again(hub: Hub, ear: Ear, status: int) -> None:
    script = Script(RefusedError(status), RefusedError(status))
    assert hub.call("asking", script) == "done"
    assert (script.calls, ear.waits) == (3, [1.0, 2.0])
    assert ear.lines[0] == f"asking: the Hub answers {status}; trying again in 1 s"


def test_the_hub_says_how_long_to_wait(hub: Hub, ear: Ear) -> None:
    assert hub.call("asking", Script(RefusedError(429, retry_after="37"))) == "done"
    assert ear.waits == [37.0]


def test_who_is_asked_to_wait_too_long_is_told_when_to_come_back(hub: Hub, ear: Ear) -> None:
    with pytest.raises(HubUnreachableError, match="wait for 60 min") as caught:
        hub.call("asking", Script(RefusedError(429, retry_after="3600")))
    assert (ear.waits, caught.value.exit_status) == ([], 1)


def test_a_lost_connection_is_tried_again(hub: Hub, ear: Ear) -> None:
    script = Script(ConnectionResetError("reset by peer"), TimeoutError("timed out"))
    assert hub.call("asking", script) == "done"
    assert script.calls == 3


def test_what_a_thread_of_the_client_met_is_found_behind_its_wrapping(hub: Hub) -> None:
    wrapped = RuntimeError("Error while uploading 'x' to the Hub.")
    wrapped.__cause__ = RefusedError(503)
    assert hub.call("uploading", Script(wrapped)) == "done"
    wrapped.__cause__ = RefusedError(403, "no")
    with pytest.raises(HubError, match="answers 403: no"):
        hub.call("uploading", Script(wrapped))


@pytest.mark.parametrize(
    ("status", "tried"), [("client error (403 Forbidden)", 1), ("server error (503 Busy)", 2)]
)
def test_what_the_hubs_storage_calls_a_network_error_may_be_a_refusal(
    hub: Hub, status: str, tried: int
) -> None:
    script = Script(ConnectionError(f"Network error: Request error: HTTP status {status}, domain"))
    if tried == 1:
        with pytest.raises(HubError, match="answers 403"):
            hub.call("uploading", script)
    else:
        assert hub.call("uploading", script) == "done"
    assert script.calls == tried


def test_after_some_tries_it_is_enough(hub: Hub, ear: Ear) -> None:
    script = Script(*(RefusedError(503, "under maintenance") for _ in range(99)))
    with pytest.raises(HubUnreachableError, match="under maintenance") as caught:
        hub.call("asking", script)
    assert script.calls == MAX_TRIES
    assert "run the same command again" in str(caught.value)
    assert caught.value.exit_status == 1


@pytest.mark.parametrize(
    ("status", "message", "headers", "hint"),
    [
        (401, "Invalid credentials", {}, "not valid or has expired"),
        (403, "you must use a write token", {}, "has to be of an account that may"),
        (403, "Private repository storage limit reached", {}, "free some storage"),
        (402, "payment required", {}, "free some storage"),
        (403, "ask", {"X_Error_Code": "GatedRepo"}, "ask for access"),
        (404, "", {"X_Error_Code": "RepoNotFound"}, "look at the name"),
        (409, "already exists", {}, "somebody else is changing"),
        (412, "stale", {}, "somebody else is changing"),
        (400, "bad card", {}, "bad card"),
    ],
)
def test_a_refusal_stops_at_once_with_its_cause(
    hub: Hub, ear: Ear, status: int, message: str, headers: dict[str, str], hint: str
) -> None:
    script = Script(RefusedError(status, message, **headers), RefusedError(500))
    with pytest.raises(HubError) as caught:
        hub.call("asking", script)
    assert (script.calls, ear.waits) == (1, [])
    assert hint in str(caught.value)
    assert caught.value.exit_status == 2
    assert TOKEN not in str(caught.value)
    assert "X-Signature" not in str(caught.value)


def test_a_fault_of_ours_is_not_dressed_up_as_the_hubs(hub: Hub) -> None:
    with pytest.raises(ZeroDivisionError):
        hub.call("asking", Script(ZeroDivisionError()))
    with pytest.raises(FileNotFoundError):
        hub.call("asking", Script(FileNotFoundError("gone")))


def test_there_is_an_end_to_patience(ear: Ear) -> None:
    """The client has tried for half a minute before it gives up, each time."""
    hours = iter(range(0, 10_000, 50))
    hub = Hub(
        endpoint="http://127.0.0.1:9",
        token=TOKEN,
        tell=ear.lines.append,
        sleep=ear.waits.append,
        clock=lambda: float(next(hours)),
    )
    script = Script(*(ConnectionError("no route") for _ in range(99)))
    with pytest.raises(HubUnreachableError):
        hub.call("uploading", script)
    assert script.calls == 3


def test_a_closed_client_is_a_lost_connection(hub: Hub) -> None:
    """One thread of the client closes the connections of all when its own fails."""
    wrapped = RuntimeError("Error while uploading 'x' to the Hub.")
    wrapped.__cause__ = RuntimeError("Cannot send a request, as the client has been closed.")
    assert hub.call("uploading", Script(wrapped)) == "done"


@pytest.mark.parametrize("token", ["hf_ünïcode", "hf_with blank", "hf_\x00"])
def test_what_cannot_be_a_token_is_told_before_it_is_sent(token: str) -> None:
    with pytest.raises(UserError, match="character in it that no token has") as caught:
        Hub(endpoint="http://127.0.0.1:9", token=token)
    assert token not in str(caught.value)


def test_what_cannot_be_an_address_is_told_before_it_is_asked() -> None:
    with pytest.raises(UserError, match="no address of a Hub") as caught:
        Hub(endpoint="garbage", token=TOKEN)
    assert caught.value.where == "HF_ENDPOINT"


def test_nobody_but_us_tells_of_the_clients_warnings(hub: Hub) -> None:
    import huggingface_hub.file_download
    import huggingface_hub.lfs

    assert huggingface_hub.lfs and huggingface_hub.file_download  # they come when they are needed
    logger = logging.getLogger("huggingface_hub")
    assert not [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]
    assert not logger.propagate


def test_the_clients_warnings_come_without_what_is_secret_in_them(hub: Hub, ear: Ear) -> None:
    logging.getLogger("huggingface_hub.utils").warning(
        "retrying PUT https://cdn/x/y?X-Amz-Signature=f00 with Authorization: Bearer %s", TOKEN
    )
    assert ear.lines == ["retrying PUT https://cdn/x/y?… with Authorization: Bearer …"]


@given(st.text(alphabet="abcXYZ012_- /?&=:.", max_size=40), st.text(max_size=20))
def test_no_token_survives(before: str, after: str) -> None:
    assert TOKEN not in without_secrets(before + TOKEN + after)


@pytest.mark.parametrize(
    "secret", ["api_org_AbCdEfGhIjKlMnOpQrStUv", "hf_jwt_AbCdEfGhIj.KlMnOpQrSt-UvWx", "me:pass"]
)
def test_other_secrets_are_hidden_too(secret: str) -> None:
    told = without_secrets(f"GET https://{secret}@hub/x" if ":" in secret else f"token {secret}")
    assert secret not in told


def test_a_token_of_any_form_is_hidden_once_it_is_in_use() -> None:
    Hub(endpoint="http://127.0.0.1:9", token="my-own-hub's-token")
    assert without_secrets("with my-own-hub's-token") == "with …"


def test_waiting_grows_and_ends() -> None:
    waits = [waiting_time(None, attempt) for attempt in range(1, 10)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (1.0, 60.0)
    limited = Answer(429, ratelimit='"api";r=0;t=55')
    assert waiting_time(limited, 1) == 56.0
    assert waiting_time(Answer(429, ratelimit='"api";r=12;t=55'), 1) == 1.0
    assert waiting_time(Answer(503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), 2) == 2.0
    assert LONGEST_WAIT > 300  # the window of the Hub's own rate limit


@pytest.mark.parametrize("name", ["me/hqseg-44k", "A/b", "a.b/c_d"])
def test_names_of_repositories(name: str) -> None:
    assert check_repo_id(name) == name


@pytest.mark.parametrize(
    "address",
    ["https://huggingface.co/datasets/me/x", "datasets/me/x", "http://h:1/datasets/me/x/"],
)
def test_the_address_of_its_page_names_a_repository_too(address: str) -> None:
    assert check_repo_id(address) == "me/x"


@pytest.mark.parametrize(
    "name",
    [
        "hqseg",
        "",
        "a/b/c",
        "/x",
        "x/",
        "me/a b",
        "me/../x",
        "me/a--b",
        "me/x.git",
        "me/" + "a" * 97,
    ],
)
def test_what_cannot_name_a_repository(name: str) -> None:
    with pytest.raises(UserError, match="cannot name a data set on the Hub"):
        check_repo_id(name)


def test_the_token_is_the_hubs_own(monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert Hub(endpoint="http://127.0.0.1:9").has_token
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert not Hub(endpoint="http://127.0.0.1:9").has_token
