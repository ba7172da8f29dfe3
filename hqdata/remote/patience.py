"""How long a command waits for a server that does not answer, and what it says in the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hqdata.errors import InterruptedBuildError
from hqdata.remote.retry import PassingError, Retry

T = TypeVar("T")

PATIENCE = Retry(max_tries=9, first_wait=0.5)
"""A minute or two without its server are outlived: it may be restarted meanwhile."""


def outlived(work: Callable[[], T], where: str, retry: Retry | None = None) -> T:
    """Does something over the network, as often as it takes.

    Args:
        work: raises PassingError where a further try may help.
        where: the URL that it concerns, as messages may show it.
        retry: how often and after which time; `PATIENCE` if nothing else is said.

    Raises:
        InterruptedBuildError: it failed for longer than it is worth to wait.
    """
    try:
        return (retry or PATIENCE).call(work)
    except PassingError as error:
        raise InterruptedBuildError(
            f"cannot be reached: {error.reason}",
            where=where,
            do="see that the server can be, and run the same command again: what is finished is "
            "kept",
        ) from None
