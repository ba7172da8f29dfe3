"""What can go wrong between a client and the Hub, to be had on demand."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Action:
    """What befalls a request; `kind` says which of the fields count."""

    kind: str
    code: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    num_bytes: int = 0
    seconds: float = 0.0
    function: Callable[[], object] | None = None


def status(
    code: int, headers: Mapping[str, str] | None = None, body: bytes | str | dict[str, object] = b""
) -> Action:
    """Answers with this and does nothing else; a mapping becomes JSON."""
    headers = dict(headers or {})
    if isinstance(body, dict):
        headers.setdefault("Content-Type", "application/json")
        body = json.dumps(body)
    return Action("status", code, headers, body.encode() if isinstance(body, str) else body)


def rate_limited(seconds: int) -> Action:
    """The Hub's answer to too many requests, with its own headers."""
    headers = {
        "RateLimit": f'"api";r=0;t={seconds}',
        "RateLimit-Policy": '"fixed window";"api";q=1000;w=300',
    }
    message = (
        "We had to rate limit you, you hit the quota of 1000 api requests per 5 minutes period"
    )
    return status(429, headers, {"error": message})


def drop() -> Action:
    """Hangs up without a word; nothing was done."""
    return Action("drop")


def lose_answer() -> Action:
    """Does what was asked and hangs up before the answer."""
    return Action("lose_answer")


def cut_body() -> Action:
    """Promises the whole answer and hangs up half-way."""
    return Action("cut_body")


def hang_up_after_bytes(num_bytes: int) -> Action:
    """Hangs up when that many bytes of the request's body have come."""
    return Action("hang_up", num_bytes=num_bytes)


def wrong_digest() -> Action:
    """One bit turns over on the way.

    Of an upload the server receives other bytes; of a download the client does; in a listing the
    digests of large files are others.
    """
    return Action("wrong_digest")


def slow(seconds: float) -> Action:
    """Waits before it does anything."""
    return Action("slow", seconds=seconds)


def then(function: Callable[[], object]) -> Action:
    """Calls something of the test's when the request arrives, and goes on as usual."""
    return Action("then", function=function)


@dataclass
class Rule:
    """Which requests an action befalls."""

    method: str
    path: re.Pattern[str]
    action: Action
    times: int | None
    after: int
    seen: int = 0
    used: int = 0


class Faults:
    """Rules in the order they were added; the first that applies is used."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._lock = threading.Lock()

    def add(
        self, method: str, path: str, action: Action, *, times: int | None = 1, after: int = 0
    ) -> Rule:
        """Lets `action` befall requests whose path matches somewhere.

        Args:
            method: `GET`, `PUT` and so on, or `*`.
            path: regular expression, searched in the path without its query.
            action: what happens.
            times: to how many requests; None: to all.
            after: how many matching requests pass first.
        """
        rule = Rule(method, re.compile(path), action, times, after)
        with self._lock:
            self.rules.append(rule)
        return rule

    def clear(self) -> None:
        with self._lock:
            self.rules.clear()

    def take(self, method: str, path: str) -> Action | None:
        """What befalls this request, which is counted."""
        with self._lock:
            for rule in self.rules:
                if rule.method not in ("*", method) or not rule.path.search(path):
                    continue
                rule.seen += 1
                if rule.seen > rule.after and (rule.times is None or rule.used < rule.times):
                    rule.used += 1
                    return rule.action
        return None
