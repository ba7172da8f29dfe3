"""A Hugging Face Hub on this machine, for its real clients."""

from support.hub.faults import (
    Action,
    Faults,
    cut_body,
    drop,
    hang_up_after_bytes,
    lose_answer,
    rate_limited,
    slow,
    status,
    then,
    wrong_digest,
)
from support.hub.hub import FakeHub, Seen, User
from support.hub.repos import Commit, Entry, PullRequest, Repo
from support.hub.server import fake_hub

__all__ = [
    "Action",
    "Commit",
    "Entry",
    "FakeHub",
    "Faults",
    "PullRequest",
    "Repo",
    "Seen",
    "User",
    "cut_body",
    "drop",
    "fake_hub",
    "hang_up_after_bytes",
    "lose_answer",
    "rate_limited",
    "slow",
    "status",
    "then",
    "wrong_digest",
]
