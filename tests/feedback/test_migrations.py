from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from feedback import migrations
from feedback.database import StoreError, open_engine
from feedback.migrations import VERSION_TABLE, migrate
from feedback.schema import Base
from feedback.store import Store
from tests.feedback.examples import a_decision, execute, rows

SECOND_REVISION = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "9999", "{}"
def upgrade(): op.add_column("ratings", sa.Column("stars", sa.Integer))
"""

STRUCTURE = {
    "sqlite": """
        SELECT it.name, own.name, own.type || own."notnull" || own.pk
        FROM sqlite_master it, pragma_table_info(it.name) own WHERE it.type = 'table' UNION ALL
        SELECT tbl_name, name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY 1, 2, 3""",
    "postgresql": """
        SELECT table_name, column_name, data_type || is_nullable FROM information_schema.columns
        WHERE table_schema = 'public' UNION ALL
        SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2, 3""",
}


def test_alembic_finds_no_difference_between_the_migrations_and_the_schema(empty_url: str) -> None:
    migrate(empty_url)
    engine = open_engine(empty_url, connections=1)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_the_migrated_database_is_the_one_that_the_schema_creates(empty_url: str, dialect: str) -> None:
    def structure() -> list[list[str]]:
        found = rows(empty_url, STRUCTURE[dialect])
        return [[" ".join(str(cell).split()) for cell in row] for row in found if VERSION_TABLE not in str(row)]

    migrate(empty_url)
    migrated = structure()
    engine = open_engine(empty_url, connections=1)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    engine.dispose()
    assert len(migrated) >= 8
    assert migrated == structure()


async def test_an_older_database_is_upgraded_with_its_rows_and_a_newer_one_refused(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(empty_url)
    store = Store(empty_url)
    decision = a_decision()
    await store.add_decisions([decision])
    newer = tmp_path / "100 % newer"
    shutil.copytree(Path(migrations.__file__).parent, newer)
    (newer / "versions" / "r9999.py").write_text(SECOND_REVISION.format(migrations.revisions()[0]))
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "_SCRIPTS", newer)
        migrate(empty_url)
    assert rows(empty_url, "SELECT count(stars) FROM ratings") == [(0,)]
    assert await store.find_decision(decision.decision_id) == decision
    with pytest.raises(StoreError, match="its schema, 9999, is of a newer routerd; upgrade this one") as refused:
        migrate(empty_url)
    assert "\n" not in str(refused.value)
    await store.close()


def test_a_failing_migration_leaves_the_database_as_it_was(empty_url: str) -> None:
    execute(empty_url, "CREATE TABLE ratings (theirs INTEGER)")
    with pytest.raises(StoreError, match="ratings"):
        migrate(empty_url)
    execute(empty_url, "DROP TABLE ratings")
    migrate(empty_url)
    assert rows(empty_url, "SELECT count(*) FROM decisions") == [(0,)]


def test_processes_that_start_together_migrate_once(empty_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    together = spawn.Barrier(3)
    processes = [spawn.Process(target=_migrate_together, args=(empty_url, together)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert rows(empty_url, f"SELECT version_num FROM {VERSION_TABLE}") == [(migrations.revisions()[0],)]


def test_a_new_file_that_another_process_is_just_writing_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "new.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # SQLite refuses to switch to WAL meanwhile, without waiting
    threading.Timer(0.3, other.rollback).start()
    migrate(f"sqlite:///{path}")
    assert rows(f"sqlite:///{path}", "PRAGMA journal_mode") == [("wal",)]
    other.close()


def test_a_file_that_stays_locked_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "_LOCK_SECONDS", 0.1)
    path = tmp_path / "new.sqlite"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"new\.sqlite: database is locked$"):
        migrate(f"sqlite:///{path}")
    other.close()


def _migrate_together(url: str, together: multiprocessing.synchronize.Barrier) -> None:
    together.wait(timeout=60)
    migrate(url)
