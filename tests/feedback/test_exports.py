from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from feedback import exports, imports
from feedback.exports import Written
from feedback.migrations import migrate
from feedback.records import Comparison, Outcome, Rating
from feedback.store import Store
from gateway_plugin import ids
from scorer.decisions import Decision, KeptPrompt
from scorer.tables import DataError
from tests.feedback.examples import a_decision, id_aged

PAIR: dict[str, Any] = {"model_a": "strong", "model_b": "cheap", "winner": "model_a"}


async def filled(store: Store) -> Decision:
    """A decision with all that can be known of it, beside a fallback, and comparisons of each kind."""
    decision, fallback = a_decision(decision_id=id_aged(3000)), id_aged(2000)
    await store.add_decisions([decision])
    await store.record_outcomes(
        [
            Outcome(decision_id=decision.decision_id, status="success", served="cheap", tokens_in=3, cost=0.25),
            Outcome(decision_id=fallback, status="fallback", served="strong", reason="timeout"),
        ]
    )
    await store.rate(Rating(decision_id=decision.decision_id, value=0.75, kind="stars", tags=("slow",), comment="né"))
    await store.rate(Rating(decision_id=decision.decision_id, value=None, user="bob"))
    await store.rate(Rating(decision_id=fallback, value=0.0, source="judge", kind="score"))
    await store.compare(Comparison(decision_id=decision.decision_id, **PAIR))
    await store.compare(Comparison(text_hash="a", text="why?", encoder_id="f", embedding=b"e", features=b"g", **PAIR))
    await store.compare(Comparison(text_hash="b", encoder_id="f", embedding=b"h", features=b"i", **PAIR))
    return decision


async def exported(store: Store, path: Path, **options: Any) -> Written:
    settings: dict[str, Any] = {"vectors": False, "after": 0.0, "before": math.inf, "progress": lambda rows: None}
    return await exports.write(path, store, **settings | options)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_file_has_decisions_with_their_outcomes_ratings_and_comparisons(store: Store, tmp_path: Path) -> None:
    decision = await filled(store)
    path = tmp_path / "new" / "f.jsonl"
    assert await exported(store, path) == Written(decisions=2, ratings=3, comparisons=3)
    found = lines(path)
    kinds = ["decision", "rating", "rating", "decision", "rating", "comparison", "comparison", "comparison"]
    assert [row["record"] for row in found] == kinds
    assert (found[0]["decision_id"], found[0]["status"]) == (decision.decision_id, "routed")
    assert (found[0]["win_rates"], found[0]["needs"]) == (decision.win_rates, decision.needs)
    assert found[0]["outcome"]["cost"] == 0.25
    assert "embedding" not in found[0]
    assert (found[1]["value"], found[1]["tags"], found[1]["comment"]) == (0.75, ["slow"], "né")
    assert (found[3]["status"], found[3]["outcome"]["reason"]) == ("fallback", "timeout")
    assert [row.get("prompt") for row in found[5:]] == [None, "why?", None]
    assert [row.get("text_hash") for row in found[5:]] == [None, None, "b"]


async def test_parquet_says_the_same_in_columns(store: Store, tmp_path: Path) -> None:
    decision = await filled(store)
    await exported(store, tmp_path / "f.parquet", vectors=True)
    table = pyarrow.parquet.read_table(tmp_path / "f.parquet")
    found = table.to_pylist()
    assert [row["record"] for row in found].count("rating") == 3
    first = found[0]
    assert dict(first["win_rates"]) == decision.win_rates
    assert dict(first["needs"]) == {"tools": 1, "chars": 1234}
    assert (first["embedding"], first["features"]) == (decision.embedding, decision.features)
    assert (first["outcome"]["served"], first["outcome"]["tokens_in"]) == ("cheap", 3)
    assert found[1]["tags"] == ["slow"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
async def test_what_goes_out_comes_in_elsewhere_and_only_once(store: Store, tmp_path: Path, suffix: str) -> None:
    decision = await filled(store)
    path = tmp_path / f"f{suffix}"
    await exported(store, path, vectors=True)

    def keep(texts: Sequence[str]) -> list[KeptPrompt]:
        assert texts == ["why?"]
        return [KeptPrompt("a", "why?", "f", b"e", b"g")]

    read = imports.read(path, keep, now=0.0)
    assert read.decisions == 2
    assert await store.take(read.ratings, read.comparisons) == (0, 0, 6, 0)

    url = f"sqlite:///{tmp_path}/elsewhere.sqlite"
    migrate(url)
    elsewhere = Store(url)
    await elsewhere.add_decisions([decision])
    assert await elsewhere.take(read.ratings, read.comparisons) == (2, 3, 0, 1)  # one is of an unknown fallback
    here, there = await store.decision(decision.decision_id), await elsewhere.decision(decision.decision_id)
    assert here is not None
    assert there is not None
    assert here.ratings == there.ratings
    assert [page async for page in store.comparisons()] == [page async for page in elsewhere.comparisons()]
    await elsewhere.close()


async def test_a_span_of_time_goes_out(store: Store, tmp_path: Path) -> None:
    made = [id_aged(seconds) for seconds in (300, 200, 100)]
    await store.add_decisions([a_decision(decision_id=one) for one in made])
    span = {"after": ids.minted_at(made[1]), "before": ids.minted_at(made[2])}
    assert await exported(store, tmp_path / "f.jsonl", **span) == (1, 0, 0)
    assert [row["decision_id"] for row in lines(tmp_path / "f.jsonl")] == [made[1]]


async def test_a_file_is_written_whole_or_not_at_all(store: Store, tmp_path: Path) -> None:
    await filled(store)
    path = tmp_path / "f.jsonl"
    path.write_text("as it was")

    def fail(rows: int) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await exported(store, path, progress=fail)
    assert [name for name in os.listdir(tmp_path) if "sqlite" not in name] == ["f.jsonl"]
    assert path.read_text() == "as it was"
    with pytest.raises(DataError, match=r"suffix '\.txt'; accepted: \.jsonl, \.parquet"):
        await exported(store, tmp_path / "f.txt")
    with pytest.raises(DataError, match="File exists"):
        await exported(store, path / "f.jsonl")
