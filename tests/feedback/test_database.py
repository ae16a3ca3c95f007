from __future__ import annotations

import sys
from pathlib import Path

import pytest

from feedback.database import StoreError, open_engine
from feedback.migrations import migrate
from tests.feedback.examples import rows


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "accepted: sqlite:///<path> and postgresql://"),
        ("postgresql://host:port/x", "accepted: sqlite:///<path> and postgresql://"),
        ("mysql://ann:hush@host/x", "'mysql' is not supported; accepted: sqlite:///<path>"),
        ("postgresql+asyncpg://host/x", "'postgresql+asyncpg' is not supported"),
        ("sqlite://", "would lose ratings"),
        ("sqlite:///:memory:", "would lose ratings"),
        (
            "sqlite:////nowhere/at/all.sqlite",
            "sqlite:////nowhere/at/all.sqlite: unable to open database file",
        ),
        ("sqlite:////proc/x.sqlite", "unable to open database file"),
        ("postgresql://ann:hush@127.0.0.1:1/x?password=hush", "Connection refused"),
        ("postgresql:///x?nonsense=1", "nonsense"),
    ],
)
def test_an_unusable_url_is_one_clear_line_without_the_password(url: str, said: str) -> None:
    with pytest.raises(StoreError) as refused:
        migrate(url)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "hush" not in str(refused.value)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 100)
    with pytest.raises(StoreError, match=r"notes\.txt: file is not a database"):
        migrate(f"sqlite:///{path}")


def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"install routerd\[postgres\]"):
        open_engine("postgresql://host/x", connections=1)


def test_commits_wait_for_the_disk(store_url: str, dialect: str) -> None:
    if dialect == "sqlite":
        assert rows(store_url, "PRAGMA journal_mode") == [("wal",)]
        assert rows(store_url, "PRAGMA synchronous") == [(2,)]  # FULL
    else:
        assert rows(store_url, "SHOW synchronous_commit") == [("on",)]
