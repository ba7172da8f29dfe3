"""Which endpoint answers which path."""

from __future__ import annotations

import re

from support.hub import api_discussions, api_files, api_repos, api_uploads, xet
from support.hub.wire import Endpoint

REPO = r"(?P<kind>models|datasets|spaces)/(?P<id>[^/]+/[^/]+)"
PAGE = r"(?:(?P<kind>datasets|spaces)/)?(?P<id>[^/]+/[^/]+?)"
REV = r"(?P<rev>refs/(?:pr|convert|heads|tags)/[^/]+|[^/]+)"


def _written_out(path: str) -> str:
    for name, pattern in (("REPO", REPO), ("PAGE", PAGE), ("REV", REV)):
        path = path.replace(name, pattern)
    return path


def _compiled(
    routes: tuple[tuple[str, str, Endpoint], ...],
) -> list[tuple[str, re.Pattern[str], Endpoint]]:
    return [(method, re.compile(_written_out(path)), endpoint) for method, path, endpoint in routes]


HUB = _compiled(
    (
        *api_repos.ROUTES,
        *api_files.ROUTES,
        *api_uploads.ROUTES,
        *api_discussions.ROUTES,
        *xet.ROUTES,
    )
)
STORAGE = _compiled((*api_files.STORAGE_ROUTES, *api_uploads.STORAGE_ROUTES, *xet.STORAGE_ROUTES))
STREAMED = frozenset({*api_uploads.STREAMED, *xet.STREAMED})
"""Endpoints that read their body as it comes and take the lock themselves."""


def find(method: str, path: str, *, storage: bool) -> tuple[Endpoint | None, dict[str, str]]:
    """The endpoint of a path and what its pattern captured; models have no prefix in pages."""
    wanted = "GET" if method == "HEAD" else method
    for known, pattern, endpoint in STORAGE if storage else HUB:
        if known == wanted and (match := pattern.fullmatch(path)):
            captured = match.groupdict(default="")
            captured["kind"] = captured.get("kind") or "models"
            return endpoint, captured
    return None, {}
