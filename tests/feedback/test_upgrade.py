"""Databases of every earlier version, with rows in them: upgraded, and read by all that reads; and replicas of several
versions on one database."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alembic import command
from sqlalchemy import Connection, MetaData, Table

from feedback import golden, logged, migrations, report
from feedback.battles import Weights
from feedback.dashboard import summary as summary_module
from feedback.dashboard.summary import Summaries
from feedback.database import StoreError, open_engine, writing
from feedback.golden import Parts
from feedback.records import Outcome, Rating
from feedback.store import Store
from gateway_plugin import ids
from scorer import chores, hosting
from scorer.config import Config
from scorer.features import NAMES
from scorer.scoring import Hosted
from scorer.sections import EncoderConfig, Rung
from tests.feedback.examples import a_decision, execute, id_aged, rows

REVISIONS = list(reversed(migrations.revisions()))
NOW = time.time()
VECTOR = bytes(4 * 384)
FEATURES = bytes(4 * len(NAMES))
LADDER = (Rung("strong", like="gpt-4-1106-preview"), Rung("cheap", like="mixtral-8x7b-instruct-v0.1"))
CONFIG = Config(ladder=LADDER, encoder=EncoderConfig("static"), default="router-mf-p50")
FULL: dict[str, dict[str, Any]] = {
    "decisions": {
        "decision_id": "", "created_at": NOW - 60, "requested": "router", "router": "mf", "version": "v1",
        "mode": "route", "threshold": 0.3, "win_rates": json.dumps({"strong": 0.5, "cheap": 0.2}),
        "quality": json.dumps({"strong": 0.9, "cheap": 0.7}),
        "probabilities": json.dumps({"strong": 0.1, "cheap": 0.9}), "model": "cheap",
        "propensity": 0.9, "explored": False, "reason": "below", "unit": "s1", "session_id": "s1",
        "user": "ann", "call_id": "call", "needs": json.dumps({"chars": 3}), "text_hash": "a" * 64, "text": "hi",
        "encoder_id": "e", "embedding": VECTOR, "features": FEATURES, "expired_at": None, "policy": "threshold",
        "pinned": None, "rule": None, "guards": None, "costs": json.dumps({"strong": 2.0, "cheap": 1.0}),
        "expected_cost": 1.0,
    },
    "outcomes": {
        "decision_id": "", "status": "success", "chosen": "cheap", "served": "cheap", "tokens_in": 3, "tokens_out": 4,
        "cost": 0.25, "latency_ms": 5.0, "stream": False, "call_id": "call", "reported_at": NOW - 59,
        "finish_reason": "stop",
    },
    "ratings": {
        "feedback_id": "", "decision_id": "", "user": "ann", "source": "human", "kind": "thumb", "value": 1.0,
        "comment": "good", "created_at": NOW - 50, "superseded_at": None, "tags": json.dumps(["quick"]),
    },
    "idempotency_keys": {"key": "k", "digest": "d", "answer": json.dumps({"feedback_id": "f"}), "created_at": NOW},
    "calibrations": {
        "calibration_id": "", "router": "mf", "version": "v1", "ladder": '["strong","cheap"]', "sample": "traffic",
        "lowest": bytes(8), "created_at": NOW,
    },
    "comparisons": {
        "comparison_id": "", "decision_id": "", "model_a": "strong", "model_b": "cheap", "winner": "tie",
        "source": "human", "user": "bob", "created_at": NOW - 40,
    },
    "activations": {
        "router": "mf", "number": 1, "version": "v1", "directory": "/artifacts/v1", "previous": None, "changed_at": NOW,
        "changed_by": "retrain",
    },
    "runs": {
        "run_id": "", "job": "retrain", "scheduled_for": 1.0, "holder": "h", "attempt": 1, "started_at": NOW,
        "heartbeat_at": NOW, "finished_at": NOW, "status": "published", "verdict": "better", "record": "{}",
    },
    "judgements": {
        "decision_id": "", "created_at": NOW, "model_a": "cheap", "model_b": "strong", "attempts": 1, "due_at": NOW,
        "finished_at": NOW, "status": "judged", "forward": "tie", "backward": "tie",
    },
    "judge_calls": {"call_id": "", "decision_id": "", "model": "judge", "started_at": NOW, "estimate": 0.5},
    "pins": {
        "session": "s1", "requested": "router", "model": "cheap", "version": "v1", "pinned_at": NOW, "seen_at": NOW,
        "tokens": 3.0,
    },
    "spend": {"start": 900, "calls": 1, "strong": 0, "dollars": 0.25, "expected": 1.0},
}  # fmt: skip


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Summaries, which take a process of their own each."""
    monkeypatch.setattr(summary_module, "_apart", asyncio.to_thread)


@cache
def hosted() -> Hosted:
    return hosting.load_scoring(CONFIG).hosted["mf"]


def at_revision(url: str, revision: str) -> None:
    """A database as the version that ended with the revision left it."""
    engine = open_engine(url, connections=1)
    with writing(engine).begin() as connection:
        config = migrations._config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def columns(url: str) -> dict[str, list[str]]:
    engine = open_engine(url, connections=1)
    with engine.connect() as connection:
        found = {table.name: [column.name for column in table.columns] for table in _tables(connection)}
    engine.dispose()
    return found


def lived(url: str, known: dict[str, list[str]], number: int = 1) -> str:
    """A row of every table, by statements that name the columns of a version; the decision's id."""
    decision_id = id_aged(60.0 - number)
    own = {
        "feedback_id": ids.mint(), "calibration_id": ids.mint(), "comparison_id": ids.mint(), "run_id": ids.mint(),
        "decision_id": decision_id, "key": f"k{number}", "number": number, "scheduled_for": float(number),
        "start": 900 * number, "session": f"s{number}", "unit": f"s{number}",
    }  # fmt: skip
    engine = open_engine(url, connections=1)
    with writing(engine).begin() as connection:
        for table in _tables(connection):
            row = {**FULL.get(table.name, {}), **own, "call_id": ids.mint()}
            values = {name: row[name] for name in known.get(table.name, []) if name in FULL.get(table.name, {})}
            if values:
                names = ", ".join(f'"{name}"' for name in values)
                marks = ", ".join("?" if engine.dialect.name == "sqlite" else "%s" for _ in values)
                statement = f"INSERT INTO {table.name} ({names}) VALUES ({marks})"
                connection.exec_driver_sql(statement, tuple(values.values()))
    engine.dispose()
    return decision_id


def _tables(connection: Connection) -> list[Table]:
    metadata = MetaData()
    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name != migrations.VERSION_TABLE]


async def check_reads(url: str, decision_ids: list[str], since: str) -> None:
    """What retraining gathers, the report, the history and what a replica follows."""
    store = Store(url)
    try:
        for decision_id in decision_ids:
            record = await store.decision(decision_id)
            assert record is not None
            assert record.decision is not None
            assert record.decision.embedding == VECTOR
            assert record.outcome is not None
            assert (record.outcome.served, record.outcome.cost) == ("cheap", 0.25)
            assert [one.value for one in record.ratings] == [1.0]
        material = await golden.gather(store, "e", Weights(), Parts(newest=0.5), NOW)
        assert material.said.ratings == len(decision_ids)
        assert len(material.training) + len(material.golden) + len(material.newest) >= 1
        log = await logged.read(store, ("strong", "cheap"))
        assert report.happened(log).requests == len(decision_ids)
        config = msgspec.structs.replace(CONFIG, database=url)
        summary = await Summaries(config, store, lambda _: hosted()).get(7)
        assert (summary.decisions, summary.happened.requests) == (len(decision_ids), len(decision_ids))
        newest = await store.calibration("mf", "v1", ["strong", "cheap"]) if since >= "0002" else None
        assert (newest is not None) == (since >= "0002")
        assert len(await store.activations("mf")) == (len(decision_ids) if since >= "0003" else 0)
        assert len(await store.runs("retrain")) == (len(decision_ids) if since >= "0003" else 0)
        assert (await store.judging()).judged == (len(decision_ids) if since >= "0004" else 0)
        assert (await store.spend("strong", NOW))[-1].dollars == pytest.approx(0.25 * len(decision_ids))
        receipt = await store.rate(Rating(decision_id=decision_ids[0], value=0.0, user="ann"))
        assert receipt.status == "stored"
        found = await store.of_user("ann", NOW + 60)
        assert set(found.decision_ids) == set(decision_ids)
    finally:
        await store.close()


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_database_of_every_version_is_upgraded_and_replicas_of_that_go_on_writing(
    empty_url: str, revision: str
) -> None:
    """Their statements name the columns that they know; what they wrote before and after is read."""
    at_revision(empty_url, revision)
    known = columns(empty_url)
    first = lived(empty_url, known)
    before = {table: rows(empty_url, f"SELECT count(*) FROM {table}") for table in known}
    migrations.migrate(empty_url)
    assert before == {table: rows(empty_url, f"SELECT count(*) FROM {table}") for table in known}
    assert len(before) >= 4
    second = lived(empty_url, known, number=2)
    await check_reads(empty_url, [first, second], revision)


async def test_an_older_replica_goes_on_reading_and_says_once_that_it_is_old(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A column and a table that it does not know are added under it."""
    store = Store(store_url)
    look = chores._look_ahead(store)
    await look()
    execute(
        store_url,
        "ALTER TABLE ratings ADD COLUMN mood VARCHAR",
        f"UPDATE {migrations.VERSION_TABLE} SET version_num = '9999'",
    )
    try:
        with caplog.at_level(logging.WARNING):
            await look()
            await look()
        said = [record.getMessage() for record in caplog.records]
        assert said == ["the database was upgraded: its schema, 9999, is of a newer routerd; upgrade this one"]
        decision = a_decision()
        await store.add_decisions([decision])
        await store.record_outcomes([Outcome(decision_id=decision.decision_id, status="success")])
        await store.rate(Rating(decision_id=decision.decision_id, value=1.0))
        record = await store.decision(decision.decision_id)
        assert record is not None
        assert [one.value for one in record.ratings] == [1.0]
        with pytest.raises(StoreError, match="its schema, 9999, is of a newer routerd; upgrade this one"):
            migrations.migrate(store_url)
    finally:
        await store.close()
        execute(
            store_url,
            "ALTER TABLE ratings DROP COLUMN mood",
            f"UPDATE {migrations.VERSION_TABLE} SET version_num = '{migrations.revisions()[0]}'",
        )


@pytest.mark.parametrize("revision", REVISIONS[1:])
def test_a_migration_only_adds(tmp_path: Path, revision: str) -> None:
    """What an older replica relies on is there still, and nothing new is asked of it."""
    empty_url = f"sqlite:///{tmp_path}/feedback.sqlite"
    at_revision(empty_url, REVISIONS[REVISIONS.index(revision) - 1])
    before = columns(empty_url)
    at_revision(empty_url, revision)
    after = columns(empty_url)
    for table, names in before.items():
        assert set(names) <= set(after[table])
        asked = f"SELECT name FROM pragma_table_info('{table}') WHERE \"notnull\" AND dflt_value IS NULL"
        assert {name for (name,) in rows(empty_url, asked)} <= set(names)


async def test_a_backup_by_sqlite_is_a_database_to_start_from(tmp_path: Path) -> None:
    """As docs/retention.md has it: while a daemon writes; then the copy alone is opened."""
    url, copy = f"sqlite:///{tmp_path}/routerd.sqlite", tmp_path / "copy.sqlite"
    migrations.migrate(url)
    store = Store(url)
    decision = a_decision()
    await store.add_decisions([decision])
    kept = await store.rate(Rating(decision_id=decision.decision_id, value=1.0))
    source, target = sqlite3.connect(tmp_path / "routerd.sqlite"), sqlite3.connect(copy)
    source.backup(target)  # what `.backup` of the shell calls
    source.close()
    target.close()
    await store.rate(Rating(decision_id=decision.decision_id, value=0.0))  # after the backup
    await store.close()
    (tmp_path / "routerd.sqlite").unlink()
    migrations.migrate(f"sqlite:///{copy}")
    restored = Store(f"sqlite:///{copy}")
    record = await restored.decision(decision.decision_id)
    assert record is not None
    assert [one.feedback_id for one in record.ratings] == [kept.feedback_id]
    assert (await restored.rate(Rating(decision_id=decision.decision_id, value=0.5))).status == "stored"
    assert rows(f"sqlite:///{copy}", "PRAGMA integrity_check") == [("ok",)]
    await restored.close()
