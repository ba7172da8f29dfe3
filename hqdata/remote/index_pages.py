"""Files below the URL of a web server that shows its folders as pages of links."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from hqdata.errors import UserError
from hqdata.remote.failures import redact

T = TypeVar("T")

MAX_FOLDERS = 100_000
"""Folders after which a server counts as one that makes them up."""

_ASKED_AT_ONCE = 16


def walk_pages(
    file_system: Any, url: str, stat: Callable[[str], T | None]
) -> Iterator[tuple[str, T]]:
    """Every file that the pages below `url` link to, by its path from there, in no order.

    Args:
        file_system: fsspec's for http.
        url: the folder.
        stat: what is known of a file, by its path; pages do not say it in a way to rely on.

    Raises:
        UserError: the server shows no page of links there, or endlessly many.
    """
    base, mark, query = url.partition("?")
    root = base.rstrip("/") + "/"
    names: list[str] = []
    pending, seen = [""], {""}
    while pending:
        folder = pending.pop()
        here = root + folder
        links = file_system.ls(here + mark + query, detail=False)
        for link in links:
            path = link.partition("?")[0].partition("#")[0]
            if urlsplit(path)[1:3] == urlsplit(here)[1:3] or not path.startswith(here):
                continue  # itself, a way up, or elsewhere
            name = path[len(root) :]
            if name in seen or ".." in name.split("/"):
                continue
            seen.add(name)
            (pending if name.endswith("/") else names).append(name)
        if len(seen) > MAX_FOLDERS * 100 or len(pending) > MAX_FOLDERS:
            raise UserError("the server's pages list endlessly many folders", where=redact(url))
    if not names:
        raise UserError(
            "the web server does not list what lies there",
            where=redact(url),
            expected="a storage that can list its files (s3://, gs://), or a server with pages "
            "that link to all of them",
            do="download the files, or name them by another URL",
        )
    decoded = [unquote(name) for name in names]
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        for name, found in zip(decoded, pool.map(stat, decoded), strict=True):
            if found is not None:
                yield name, found
