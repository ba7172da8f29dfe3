"""Talking to the Hub: what is worth another try is tried again, and what is not says its cause.

`huggingface_hub` does the talking. Here stand the user's token, the waiting times, and the words
for what went wrong.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hqdata.errors import HqdataError, UserError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")

WORTH_ANOTHER_TRY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that pass by themselves."""

MAX_TRIES = 6
PATIENCE = 120.0
"""Seconds after which no new try is begun: the client has tries of its own within each of these."""

LONGEST_WAIT = 900.0
"""Seconds that the Hub may ask for; with more, it is better to come back later."""

_SECRETS = (
    (re.compile(r"(hf|api_org|hf_jwt)_[A-Za-z0-9._-]{16,}"), r"\1_…"),
    (re.compile(r"(https?://)[^\s/@]+:[^\s/@]+@"), r"\1…@"),
    (re.compile(r"(?i)(bearer\s+)\S+"), r"\1…"),
    # The query of a link to a file's bytes is a signature: whoever has it may read or write them.
    (re.compile(r"(https?://[^\s'\"?]+)\?[^\s'\"]+"), r"\1?…"),
)

_REPO_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


class HubError(HqdataError):
    """The Hub said no, and would say it again."""


class HubUnreachableError(HubError):
    """The Hub could not be reached, or could not answer; the same command goes on later."""

    exit_status = 1


class _Response(Protocol):
    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Any: ...


_tokens: set[str] = set()
"""Those that are in use: whatever they look like, they are shown nowhere."""


def without_secrets(text: str) -> str:
    """The text without tokens and without the signed parts of links."""
    for token in _tokens:
        text = text.replace(token, "…")
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def check_repo_id(repo_id: str) -> str:
    """The name of a data set's repository on the Hub; the address of its page is taken, too.

    Raises:
        UserError: it is no `owner/name`.
    """
    repo_id = re.sub(r"^(https?://[^/]+/)?datasets/", "", repo_id.rstrip("/"))
    parts = repo_id.split("/")
    fits = _REPO_ID.fullmatch(repo_id) and max(map(len, parts)) <= 96
    if not fits or "--" in repo_id or ".." in repo_id or repo_id.endswith((".git", ".ipynb")):
        raise UserError(
            f"{repo_id!r} cannot name a data set on the Hub",
            expected="owner/name of letters, digits, '-', '_' and '.', at most 96 of each and not "
            "ending in '.git', e.g. me/hqseg-44k",
        )
    return repo_id


class Hub:
    """The Hub as one user sees it.

    Attributes:
        endpoint: address of the Hub.
        api: the client, with the user's token if there is one.
    """

    api: HfApi

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        token: str | None = None,
        tell: Callable[[str], None] = lambda line: None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Asks nothing of the Hub yet.

        Args:
            endpoint: None: that of `HF_ENDPOINT`, or the public one.
            token: None: from the Hub's usual places, which may have none.
            tell: is given a line about each failure that is tried again.
            sleep: waits so many seconds.
            clock: tells seconds.

        Raises:
            UserError: a token or an address that cannot be one.
        """
        import huggingface_hub
        import huggingface_hub.utils.logging  # adds its own way of telling when it is imported
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()  # its bars would stand across ours
        self._tell, self._sleep, self._clock = tell, sleep, clock
        self._token = token or huggingface_hub.get_token()
        if self._token:
            _tokens.add(self._token)
            if not re.fullmatch(r"[\x21-\x7e]+", self._token):
                raise UserError("the token has a character in it that no token has", do=_TOKEN_HELP)
        self.api = huggingface_hub.HfApi(
            endpoint=endpoint, token=self._token or False, library_name="hqdata"
        )
        self.endpoint = str(self.api.endpoint)
        if not self.endpoint.startswith(("http://", "https://")):
            raise UserError(
                f"{self.endpoint!r} is no address of a Hub",
                where="HF_ENDPOINT",
                expected="one that begins with https://",
            )
        _hear_warnings(tell)

    @property
    def has_token(self) -> bool:
        """Whether there is a token at all."""
        return bool(self._token)

    def wait(self, seconds: float) -> None:
        """Waits."""
        self._sleep(seconds)

    def call(self, what: str, function: Callable[..., T], *args: Any, **settings: Any) -> T:
        """Runs a function of the client.

        Args:
            what: what is being done, for messages: "creating the repository".
            function: may be run again, with the same arguments.
            args: for it.
            settings: for it.

        Raises:
            HubError: the Hub refuses; the message says why and what to do.
            HubUnreachableError: it did not answer after several tries.
            OSError: a failure of this machine's.
        """
        began = self._clock()
        for attempt in range(1, MAX_TRIES + 1):
            try:
                return function(*args, **settings)
            except HqdataError:  # noqa: PERF203  # trying again is what this is for
                raise
            except Exception as error:
                response = _response(error)
                if response is None and not _is_lost_connection(error):
                    ours = _as_ours(error, what)
                    if ours is None:
                        raise
                    raise ours from error
                if response is not None and not _may_pass(error, response):
                    raise explain(error, response, what, self.endpoint, self.has_token) from error
                wait = waiting_time(response, attempt)
                enough = attempt == MAX_TRIES or self._clock() - began > PATIENCE
                if enough or wait > LONGEST_WAIT:
                    raise _gave_up(error, response, what, self.endpoint, attempt, wait) from error
                self._tell(f"{what}: {_short(error, response)}; trying again in {wait:.0f} s")
                self._sleep(wait)
        raise AssertionError("unreachable")


def waiting_time(response: _Response | None, attempt: int) -> float:
    """Seconds to wait before the next try: the Hub's own, or 1, 2, 4, … s after each failure."""
    headers = {k.lower(): v for k, v in response.headers.items()} if response is not None else {}
    asked = str(headers.get("retry-after", "")).strip()
    if asked.isdigit():
        return float(asked)
    # `ratelimit: "api";r=0;t=55`: nothing remains, and in 55 s there is more.
    limit = re.search(r"\br\s*=\s*0\s*;\s*t\s*=\s*(\d+)", str(headers.get("ratelimit", "")))
    if limit is not None and response is not None and response.status_code == 429:
        return float(limit[1]) + 1.0
    return min(60.0, 2.0 ** (attempt - 1))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


@dataclass(frozen=True, slots=True)
class _Told:
    """An answer of which only the status is known."""

    status_code: int
    headers: Mapping[str, str] = field(default_factory=dict)


_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d{3})\b")
"""How the library for the Hub's own storage words a refusal, whatever it raises it as."""


def _response(error: BaseException) -> _Response | None:
    """The Hub's answer behind a failure: uploads wrap what their threads met."""
    for each in _chain(error):
        response = getattr(each, "response", None)
        if response is not None and isinstance(getattr(response, "status_code", None), int):
            return response  # type: ignore[no-any-return]
        if (told := _STATUS.search(str(each))) is not None:
            return _Told(int(told[1]))
    return None


def _may_pass(error: BaseException, response: _Response) -> bool:
    """Whether the answer may be another next time: also where bytes were damaged on the way."""
    damaged = response.status_code in (400, 422) and re.search(
        r"(?i)checksum|digest", said_by_hub(error, response)
    )
    return response.status_code in WORTH_ANOTHER_TRY or bool(damaged)


_OF_THE_NETWORK = re.compile(
    r"(?i)network|connect|timed? ?out|reset|reqwest|dns|client has been closed"
)
"""Words of a failure of the network. The client closes its connections, those of its other threads
too, when one of them fails.
"""


def _is_lost_connection(error: BaseException) -> bool:
    return any(
        isinstance(each, (ConnectionError, TimeoutError))
        # The HTTP library has had several names; its failures have one base.
        or any(base.__name__ == "TransportError" for base in type(each).__mro__)
        # What the library for the Hub's own storage says of the network is a RuntimeError.
        or (isinstance(each, RuntimeError) and _OF_THE_NETWORK.search(str(each)) is not None)
        for each in _chain(error)
        if type(each).__name__ != "OfflineModeIsEnabled"
    )


def _as_ours(error: Exception, what: str) -> HubError | None:
    """The client's own refusals, which never reached the Hub; None for what is no such thing."""
    name = type(error).__name__
    if name == "OfflineModeIsEnabled":
        return HubError(
            f"{what}: the Hub is switched off", do="unset HF_HUB_OFFLINE to talk to the Hub"
        )
    if name == "XetAuthenticationError":
        return HubError(f"{what}: the Hub's storage refuses the token", do=_TOKEN_HELP)
    if name == "HFValidationError":
        return HubError(f"{what}: {without_secrets(str(error))}")
    return None


_TOKEN_HELP = (
    "log in with `hf auth login`, or set HF_TOKEN to a token with write access "
    "(huggingface.co/settings/tokens)"
)


def explain(
    error: BaseException, response: _Response, what: str, endpoint: str, has_token: bool
) -> HubError:
    """The words for an answer that will not change by itself."""
    status, said = response.status_code, said_by_hub(error, response)
    code = str(response.headers.get("X-Error-Code", ""))
    detail = f"{what}: the Hub answers {status}" + (f": {said}" if said else "")
    if re.search(r"(?i)storage|quota|payment|billing|upgrade", said) and status in (402, 403, 413):
        do = "free some storage of the account, or choose another owner with --repo owner/name"
    elif code == "GatedRepo":
        do = "ask for access on the data set's page, with the account that the token is of"
    elif status == 401 and not has_token:
        do = "there is no token: " + _TOKEN_HELP
    elif status == 401:
        do = "the token is not valid or has expired: " + _TOKEN_HELP
    elif status == 403:
        do = (
            "the token may not do this: it has to be of an account that may, and to allow it; "
            + _TOKEN_HELP
        )
    elif status == 404 or code == "RepoNotFound":
        do = "look at the name; a private repository is shown only to those who may read it" + (
            "" if has_token else ", and there is no token: " + _TOKEN_HELP
        )
    elif status in (409, 412):
        do = "somebody else is changing this repository: wait, and run the same command again"
    elif status == 413:
        do = "a file is larger than the Hub takes"
    else:
        do = "run the command again; if it stays so, the Hub's message is all there is to go by"
    return HubError(detail, where=endpoint, do=do)


def said_by_hub(error: BaseException, response: _Response) -> str:
    """The Hub's own words in its answer, on one line, without secrets."""
    said = str(response.headers.get("X-Error-Message", "") or "")
    if not said:
        said = next(
            (str(m) for each in _chain(error) if (m := getattr(each, "server_message", None))), ""
        )
    return without_secrets(" ".join(said.split()))[:300]


def _short(error: BaseException, response: _Response | None) -> str:
    if response is not None:
        said = said_by_hub(error, response)
        return f"the Hub answers {response.status_code}" + (f" ({said})" if said else "")
    last = list(_chain(error))[-1]
    words = without_secrets(" ".join(str(last).split()))[:200]
    return f"no answer ({words or type(last).__name__})"


def _gave_up(
    error: BaseException,
    response: _Response | None,
    what: str,
    endpoint: str,
    attempt: int,
    wait: float,
) -> HubUnreachableError:
    if wait > LONGEST_WAIT:
        hint = f"the Hub asks to wait for {wait / 60:.0f} min: run the same command again then"
    else:
        hint = "run the same command again: what has arrived is not sent again"
    tries = "once" if attempt == 1 else f"{attempt} times"
    return HubUnreachableError(
        f"{what}: {_short(error, response)}, tried {tries}", where=endpoint, do=hint
    )


def _hear_warnings(tell: Callable[[str], None]) -> None:
    """Passes the client's warnings on from now on, without the secrets that are in them."""
    logger = logging.getLogger("huggingface_hub")
    logger.handlers, logger.propagate = [_Teller(tell)], False


class _Teller(logging.Handler):
    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(without_secrets(" ".join(record.getMessage().split()))[:400])
