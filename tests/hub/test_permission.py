"""A permission file: read whole, or refused by name."""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path

import pytest

from hqdata.errors import UserError
from hqdata.hub.permission import EXAMPLE, read_permission

TODAY = datetime.date(2025, 1, 1)


def write(folder: Path, **changes: object) -> Path:
    """The example with changes; a field of None is left out."""
    fields: dict[str, object] = {
        "source": "dis",
        "holder": "The authors of DIS5K",
        "granted_to": "A lab",
        "date": "2024-05-17",
        "allows": "private",
        "name": "Letter of 17 May",
        "evidence": "https://example.org/letter.pdf",
    }
    fields = {k: v for k, v in {**fields, **changes}.items() if v is not None}
    path = folder / "permission.json"
    path.write_text(json.dumps(fields))
    return path


def test_the_example_is_one(tmp_path: Path) -> None:
    path = tmp_path / "permission.yaml"
    path.write_text(EXAMPLE)
    found = read_permission(path, TODAY)
    assert (found.source, found.allows) == ("dis", "private")
    assert found.date == datetime.date(2024, 5, 17)
    assert found.sha256 == hashlib.sha256(EXAMPLE.encode()).hexdigest()


def test_json_is_read_too(tmp_path: Path) -> None:
    found = read_permission(write(tmp_path, expires="2025-01-01"), TODAY)
    assert found.holder == "The authors of DIS5K" and found.expires == TODAY


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"holder": None}, "holder"),
        ({"holder": "  "}, "holder"),
        ({"name": "two\nlines"}, "name"),
        ({"allows": "everything"}, "allows"),
        ({"allows": "refuse"}, "allows"),
        ({"date": 1715900000}, "date"),
        ({"date": "last week"}, "date"),
        ({"expires": "2024-05-16"}, "expires before"),
        ({"sha256": "e" * 64}, "sha256"),
        ({"allow": "private"}, "did you mean 'allows'"),
    ],
)
def test_a_slip_is_named(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match="not valid") as caught:
        read_permission(write(tmp_path, **changes), TODAY)
    assert said in (caught.value.expected or "")
    assert EXAMPLE.splitlines()[0] in (caught.value.do or "")


def test_it_has_to_hold_today(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expired on 2024-12-31") as caught:
        read_permission(write(tmp_path, expires="2024-12-31"), TODAY)
    assert "--exclude dis" in (caught.value.do or "")
    with pytest.raises(UserError, match=r"a day to come, 2025-01-02"):
        read_permission(write(tmp_path, date="2025-01-02"), TODAY)
    assert read_permission(write(tmp_path, date="2025-01-01"), TODAY).date == TODAY


def test_other_files_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_permission(tmp_path / "nothing.yaml", TODAY)
    path = tmp_path / "list.yaml"
    path.write_text("- dis\n")
    with pytest.raises(UserError, match="no table of fields"):
        read_permission(path, TODAY)
