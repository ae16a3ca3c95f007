from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from feedback.imports import Read, read
from feedback.records import Comparison, Outcome, Rating
from feedback.store import Store
from gateway_plugin import ids
from scorer.decisions import KeptPrompt, kept
from scorer.tables import DataError
from tests.feedback.examples import a_decision, id_aged, rows

OF = "01900000-0000-7000-8000-000000000000"
PAIR = {"model_a": "strong", "model_b": "cheap", "winner": "tie"}


def keep(texts: Sequence[str]) -> list[KeptPrompt]:
    assert len(set(texts)) == len(texts)
    return [kept("embedding", text, "f" * 64, text.encode(), b"features") for text in texts]


def parsed(path: Path, *lines: object) -> Read:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read(path, keep, now=5.0)


def fault(path: Path, line: dict[str, Any]) -> str:
    """What is said of a bad second line."""
    with pytest.raises(DataError) as refused:
        parsed(path, {"decision_id": OF, "rating": "up"}, line)
    said = str(refused.value)
    assert said.startswith(f"{path}, line 2: ")
    assert "\n" not in said
    return said.removeprefix(f"{path}, line 2: ")


def test_thumbs_stars_scores_and_retractions_are_ratings(tmp_path: Path) -> None:
    lines = ({"rating": "up"}, {"stars": 2}, {"value": 0.3}, {"kind": "stars"}, {"rating": "none"}, {"rating": "down"})
    ratings = parsed(tmp_path / "f.jsonl", *({"decision_id": OF, **line} for line in lines)).ratings
    expected = [("thumb", 1.0), ("stars", 0.25), ("score", 0.3), ("stars", None), ("thumb", None), ("thumb", 0.0)]
    assert [(rating.kind, rating.value) for rating in ratings] == expected
    assert {rating.created_at for rating in ratings} == {ids.minted_at(OF)}


def test_a_row_says_all_that_a_rating_can(tmp_path: Path) -> None:
    line = {"value": 0.5, "kind": "stars", "user": "ann", "source": "survey", "comment": "so so", "tags": ["slow"]}
    line |= {"decision_id": OF, "created_at": 7.5, "feedback_id": "rating 1", "record": "rating"}
    (rating,) = parsed(tmp_path / "f.jsonl", line).ratings
    assert rating == Rating(
        decision_id=OF,
        value=0.5,
        kind="stars",
        user="ann",
        source="survey",
        comment="so so",
        tags=("slow",),
        created_at=7.5,
        feedback_id="rating 1",
    )


def test_a_row_without_an_id_gets_one_that_says_its_content(tmp_path: Path) -> None:
    line = {"decision_id": OF, "rating": "up", "user": "ann"}
    first, again, other = parsed(tmp_path / "f.jsonl", line, line, {**line, "user": "bob"}).ratings
    assert first.feedback_id == again.feedback_id != other.feedback_id
    (elsewhere,) = parsed(tmp_path / "g.jsonl", line).ratings
    assert elsewhere.feedback_id == first.feedback_id


def test_comparisons_have_a_decisions_prompt_or_one_of_their_own(tmp_path: Path) -> None:
    vectors = {"text_hash": "a" * 64, "encoder_id": "f" * 64, "embedding": "ZW1i", "features": "ZmVh"}
    lines = ({"decision_id": OF}, {"prompt": "why?"}, {"prompt": "why?", "user": "ann"}, {**vectors, "created_at": 1})
    comparisons = parsed(tmp_path / "f.jsonl", *({**PAIR, **line} for line in lines)).comparisons
    of, first, second, elsewhere = comparisons
    assert (of.decision_id, of.text_hash, of.created_at) == (OF, None, ids.minted_at(OF))
    assert (first.embedding, first.text, first.created_at, first.winner) == (b"why?", None, 5.0, "tie")
    assert first.text_hash == second.text_hash == kept("hash", "why?", "", b"", b"").text_hash
    assert (elsewhere.embedding, elsewhere.features, elsewhere.created_at) == (b"emb", b"fea", 1.0)
    assert len({comparison.comparison_id for comparison in comparisons}) == 4


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"decision_id": OF}, "rating, stars, value: expected one of them, got none"),
        ({"decision_id": OF, "rating": "up", "stars": 3}, "rating, stars, value: expected one of them, got rating and"),
        ({"decision_id": OF, "rating": "Up"}, "rating: invalid enum value 'Up'"),
        ({"decision_id": OF, "stars": 6}, "stars: expected `int` <= 5"),
        ({"decision_id": OF, "value": 1.5}, "value: expected `float` <= 1.0"),
        ({"decision_id": "x", "rating": "up"}, "decision_id: 'x' is not a UUIDv7"),
        ({"rating": "up"}, "fields: object missing required field `decision_id`"),
        ({"decision_id": OF, "rating": "up", "thumb": 1}, "fields: object contains unknown field `thumb`; fields: dec"),
        ({"decision_id": OF, "rating": "up", "record": "thumb"}, "record: invalid enum value 'thumb'"),
        (PAIR, "decision_id, prompt, text_hash: expected one of them, got none"),
        ({**PAIR, "prompt": "a", "decision_id": OF}, "decision_id, prompt, text_hash: expected one of them, got dec"),
        ({**PAIR, "prompt": " "}, "prompt: is empty"),
        ({**PAIR, "prompt": "a", "model_a": "cheap"}, "model_b: is the same as model_a"),
        ({**PAIR, "prompt": "a", "winner": "strong"}, "winner: invalid enum value 'strong'"),
    ],
)
def test_a_bad_row_is_one_line_with_its_number_and_field(tmp_path: Path, line: dict[str, Any], said: str) -> None:
    assert fault(tmp_path / "f.jsonl", line).startswith(said)


def test_a_csv_will_do(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text(f"decision_id,rating,stars,user\n{OF},up,,ann\n{OF},,4,bob\n")
    found = [(one.user, one.kind, one.value) for one in read(path, keep, 5.0).ratings]
    assert found == [("ann", "thumb", 1.0), ("bob", "stars", 0.75)]


# Into the database


def a_rating(decision_id: str, made: float, **changes: Any) -> Rating:
    fields: dict[str, Any] = {"value": 1.0, "user": "ann", "created_at": made, "feedback_id": f"rating {made}"}
    return Rating(decision_id=decision_id, **fields | changes)


async def current(store: Store, decision_id: str) -> list[str]:
    record = await store.decision(decision_id)
    assert record is not None
    return [rating.feedback_id for rating in record.ratings]


async def test_what_is_taken_again_changes_nothing(store: Store, store_url: str) -> None:
    decision = a_decision()
    await store.add_decisions([decision])
    ratings = [a_rating(decision.decision_id, 1.0), a_rating(decision.decision_id, 2.0, user="bob")]
    comparisons = [Comparison(model_a="strong", model_b="cheap", winner="tie", text_hash="a")]
    assert await store.take([*ratings, ratings[0]], comparisons) == (2, 1, 1, 0)
    assert await store.take(ratings, comparisons) == (0, 0, 3, 0)
    assert await store.take([], []) == (0, 0, 0, 0)
    assert rows(store_url, "SELECT count(*) FROM ratings") == [(2,)]


async def test_of_a_persons_ratings_the_newest_is_current_wherever_it_came_from(store: Store, store_url: str) -> None:
    decision = a_decision()
    await store.add_decisions([decision])
    await store.rate(a_rating(decision.decision_id, 20.0))
    await store.take([a_rating(decision.decision_id, 10.0), a_rating(decision.decision_id, 15.0)], [])
    assert await current(store, decision.decision_id) == ["rating 20.0"]
    history = "SELECT feedback_id, superseded_at FROM ratings ORDER BY created_at"
    assert rows(store_url, history) == [("rating 10.0", 15.0), ("rating 15.0", 20.0), ("rating 20.0", None)]
    await store.take([a_rating(decision.decision_id, 30.0), a_rating(decision.decision_id, 25.0, user="bob")], [])
    assert await current(store, decision.decision_id) == ["rating 25.0", "rating 30.0"]
    await store.rate(a_rating(decision.decision_id, 40.0))
    assert await current(store, decision.decision_id) == ["rating 25.0", "rating 40.0"]


async def test_what_is_said_of_decisions_that_nobody_knows_is_dropped(store: Store, store_url: str) -> None:
    decided, fallback, young, old = id_aged(7200), id_aged(7200), ids.mint(), id_aged(7200)
    await store.add_decisions([a_decision(decision_id=decided)])
    await store.record_outcomes([Outcome(decision_id=fallback, status="fallback", served="strong")])
    ratings = [a_rating(one, number) for number, one in enumerate((decided, fallback, young, old))]
    pair = {"model_a": "strong", "model_b": "cheap", "winner": "tie"}
    comparisons = [Comparison(decision_id=one, **pair) for one in (decided, old)]  # type: ignore[arg-type]
    assert await store.take(ratings, comparisons) == (3, 1, 0, 2)
    assert rows(store_url, "SELECT count(*) FROM ratings") == [(3,)]
    assert rows(store_url, "SELECT decision_id FROM comparisons") == [(decided,)]


async def test_many_are_taken_at_once(store: Store, store_url: str) -> None:
    decisions = [a_decision() for _ in range(1200)]
    await store.add_decisions(decisions)
    made = [
        a_rating(one.decision_id, number, feedback_id=f"{turn} {number}", user=f"user {number % 3}")
        for turn in range(2)
        for number, one in enumerate(decisions)
    ]
    assert await store.take(made, []) == (2400, 0, 0, 0)
    assert rows(store_url, "SELECT count(*), count(superseded_at) FROM ratings") == [(2400, 1200)]


async def test_a_fault_on_the_way_takes_everything_back(store: Store, store_url: str) -> None:
    decision = a_decision()
    await store.add_decisions([decision])
    bad = Comparison(model_a="strong", model_b="cheap", winner=None, text_hash="a")  # type: ignore[arg-type]
    with pytest.raises(Exception, match="comparisons"):
        await store.take([a_rating(decision.decision_id, 1.0)], [bad])
    assert rows(store_url, "SELECT count(*) FROM ratings") == [(0,)]
    assert rows(store_url, "SELECT count(*) FROM comparisons") == [(0,)]
