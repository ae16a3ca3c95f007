"""A real daemon over a real socket: decisions, bad requests, and what it keeps and survives."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from pathlib import Path

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback.store import Store
from gateway_plugin import ids
from scorer import daemon
from scorer.config import Config
from scorer.decisions import Decision
from scorer.encoder import Encoder
from scorer.sections import Rung
from tests.conftest import Serve
from tests.demo.__main__ import PROMPTS
from tests.scorer.conftest import EASY, HARD, THREE, TWO, Start, route


def old_id(seconds: float) -> str:
    """A UUIDv7 minted some time ago."""
    milliseconds = int((time.time() - seconds) * 1000)
    random_bits = uuid.UUID(ids.mint()).int & ((1 << 80) - 1)
    return str(uuid.UUID(int=milliseconds << 80 | random_bits))


def test_answer_carries_its_evidence(start: Start) -> None:
    decision_id = ids.mint()
    answer = route(start(exploration=0.1), decision_id=decision_id)
    assert answer["decision_id"] == decision_id
    assert answer["router"] == "mf"
    assert set(answer["win_rates"]) == {"strong", "weak"}  # type: ignore[call-overload]
    assert answer["win_rates"]["strong"] == 0.5  # type: ignore[index]
    assert sum(answer["probabilities"].values()) == pytest.approx(1)  # type: ignore[attr-defined]
    assert sorted(answer["probabilities"].values()) == pytest.approx([0.05, 0.95])  # type: ignore[attr-defined]
    assert answer["propensity"] == answer["probabilities"][answer["model"]]  # type: ignore[index]


def test_share_bounds_send_everything_to_one_end_of_the_ladder(start: Start) -> None:
    client = start(THREE)
    assert {route(client, p, model="router-mf-p0")["model"] for p in (EASY, HARD)} == {"small"}
    assert {route(client, p, model="router-mf-p100")["model"] for p in (EASY, HARD)} == {"strong"}


@pytest.mark.parametrize("ladder", [TWO, THREE])
def test_threshold_rule_holds_on_the_answered_scores(start: Start, ladder: tuple[Rung, ...]) -> None:
    client = start(ladder)
    for prompt in (EASY, HARD, "Hi", "Write a haiku about rain."):
        for threshold in (0.5, 0.52, 0.55, 0.6, 0.7):
            answer = route(client, prompt, model=f"router-mf-{threshold}")
            below = [r.model for r in ladder[1:] if answer["win_rates"][r.model] < threshold]  # type: ignore[index]
            assert answer["model"] == (below[-1] if below else "strong")
            assert answer["threshold"] == threshold


def test_hard_prompts_of_the_demo_score_higher_than_its_easy_ones(start: Start) -> None:
    """The area under the ROC curve: P(a hard prompt's win rate is above an easy one's)."""
    rows = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    scored = start().post("/v1/score", json={"router": "mf", "prompts": [row["prompt"] for row in rows]}).json()
    by_level: dict[str, list[float]] = {"easy": [], "hard": []}
    for row, win_rates in zip(rows, scored["win_rates"], strict=True):
        by_level[row["level"]].append(win_rates["weak"])
    pairs = [(hard, easy) for hard in by_level["hard"] for easy in by_level["easy"]]
    assert sum(hard > easy for hard, easy in pairs) / len(pairs) > 0.8


def test_same_decision_id_gets_the_same_answer(start: Start) -> None:
    client, decision_id = start(exploration=1.0), ids.mint()
    first = route(client, EASY, decision_id=decision_id)
    assert route(client, HARD, decision_id=decision_id) == first


def test_decision_of_an_earlier_process_is_found_again(start: Start) -> None:
    decision_id = old_id(30)
    first = route(start(exploration=1.0), decision_id=decision_id)
    restarted = start(exploration=0.0)
    deadline = time.monotonic() + 5
    while restarted.get(f"/v1/decisions/{decision_id}").status_code == 404 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert route(restarted, HARD, decision_id=decision_id) == first


def test_decision_id_that_is_no_uuid7_is_refused(start: Start) -> None:
    answer = start().post("/v1/route", json={"prompt": EASY, "decision_id": str(uuid.uuid4())})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "decision_id")


def test_session_keeps_its_draw(start: Start) -> None:
    client = start(THREE, exploration=1.0)
    drawn = {route(client, session_id="conversation-1")["model"] for _ in range(20)}
    assert len(drawn) == 1


def test_full_exploration_is_uniform_over_the_ladder(start: Start) -> None:
    """300 draws with p = 1/3: each count within 4 standard deviations (8.2) of 100."""
    client = start(THREE, exploration=1.0)
    answers = [route(client, "Hi") for _ in range(300)]
    models = [answer["model"] for answer in answers]
    assert all(abs(models.count(rung.model) - 100) < 33 for rung in THREE)
    assert [answer["propensity"] for answer in answers] == pytest.approx([1 / 3] * 300)
    rule = route(start(THREE), "Hi")["model"]
    assert all(answer["explored"] == (answer["model"] != rule) for answer in answers)


def test_candidates_narrow_the_choice(start: Start) -> None:
    client = start(THREE)
    answer = route(client, HARD, model="router-mf-p100", candidates=["small", "middle", "elsewhere"])
    assert answer["model"] == "middle"
    assert list(answer["probabilities"]) == ["middle", "small"]  # type: ignore[call-overload]
    assert set(answer["win_rates"]) == {"strong", "middle", "small"}  # type: ignore[call-overload]
    refused = client.post("/v1/route", json={"prompt": EASY, "candidates": ["elsewhere"]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_allowed")


def test_observing_daemon_says_so_and_decides_all_the_same(start: Start) -> None:
    answer = route(start(mode="observe"), model="router-mf-p0")
    assert (answer["mode"], answer["model"]) == ("observe", "weak")


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("gpt-4", "bad_name"),
        ("router-", "bad_name"),
        ("router-mf-1.5", "bad_name"),
        ("router-mf-p101", "bad_name"),
        ("router-bert-0.5", "unknown_router"),
    ],
)
def test_bad_name_is_refused_with_what_is_accepted(start: Start, model: str, code: str) -> None:
    answer = start().post("/v1/route", json={"prompt": EASY, "model": model})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert "accepted" in answer.json()["error"]["message"] or "hosts mf" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"prompt": 3}', "prompt"),
        (b'{"messages": "hi"}', "messages"),
        (b'{"messages": [{"role": "user", "content": 5}]}', "messages[0].content"),
        (b'{"messages": [], "prompt": "hi"}', "messages"),
        (b"{}", "messages"),
        (b'{"prompt": "hi", "session_id": 4}', "session_id"),
        (b'{"prompt": "hi", "candidates": ["a", 7]}', "candidates[1]"),
        (b'{"prompt": "hi", "needs": {"tools": "yes"}}', "needs.tools"),
        (b'{"prompt": "hi", "needs": {"region": 1.5}}', "needs[...]"),
        (b'{"prompt": "hi", "model": null}', "model"),
        (b"[]", None),
        (b'{"prompt": "\xff\xfe"}', None),
        (b'{"prompt": "hi"', None),
        (b"", None),
    ],
)
def test_bad_body_is_a_400_that_names_the_field(start: Start, body: bytes, field: str | None) -> None:
    answer = start().post("/v1/route", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"].get("field") == field


def test_unknown_fields_are_ignored(start: Start) -> None:
    assert route(start(), temperature=0.2, tools=[{"type": "function"}])["model"] in ("strong", "weak")


def test_nothing_to_score_goes_to_the_strongest_candidate(start: Start) -> None:
    client = start(exploration=1.0)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    for messages in ([], [{"role": "user", "content": [picture]}], [{"role": "user", "content": ""}]):
        body = {"messages": messages, "model": "router-mf-p0"}
        answer = client.post("/v1/route", json=body).json()
        assert (answer["model"], answer["propensity"]) == ("strong", 1.0)
        assert answer["reason"] == "no text to score: the strongest candidate"


def test_huge_inputs_are_routed(start: Start) -> None:
    client = start()
    route(client, "word " * 200_000)
    turn = [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": "Here you are."}]
    answer = client.post("/v1/route", json={"messages": turn * 5_000})
    assert answer.status_code == 200


def test_body_over_the_limit_is_refused(start: Start) -> None:
    client = start(limits=msgspec.structs.replace(Config(ladder=TWO).limits, body_bytes=2048))
    assert client.post("/v1/route", json={"prompt": "x" * 3000}).status_code == 413


def test_unknown_path_and_method_are_json_errors(start: Start) -> None:
    client = start()
    assert client.get("/nowhere").json()["error"]["code"] == "not_found"
    wrong = client.get("/v1/route")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")


def test_token_protects_v1_and_leaves_health_open(start: Start) -> None:
    client = start(token="correct-horse")
    assert client.post("/v1/route", json={"prompt": EASY}).status_code == 401
    assert client.get("/v1/routers", headers={"Authorization": "Bearer wrong-horse"}).status_code == 401
    assert client.get("/v1/routers", headers={"Authorization": "Bearer correct-horse"}).status_code == 200
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").json() == {"status": "ready"}


async def test_overload_is_a_503_with_retry_after_and_the_rest_is_served(
    serve: Serve, tmp_path: Path, encoder: Encoder
) -> None:
    limits = msgspec.structs.replace(Config(ladder=TWO).limits, queue=4, batch=1)
    config = Config(ladder=TWO, data_dir=tmp_path, limits=limits)
    url = serve(daemon.build(config))
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        body = {"prompt": "word " * 250}
        answers = await asyncio.gather(*(client.post("/v1/route", json=body) for _ in range(80)))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert {answer.status_code for answer in answers} == {200, 503}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}


@pytest.mark.parametrize("keep", ["text", "embedding", "hash"])
async def test_keep_says_what_is_stored_of_a_prompt(start: Start, tmp_path: Path, keep: str) -> None:
    client = start(keep=keep)
    decision_id = route(client, EASY)["decision_id"]
    client.get(f"/v1/decisions/{decision_id}")
    deadline = time.monotonic() + 5
    store, decision = Store(f"sqlite:///{tmp_path / 'routerd.sqlite'}"), None
    while decision is None and time.monotonic() < deadline:
        decision = await store.find_decision(str(decision_id))
        await asyncio.sleep(0.02)
    await store.close()
    assert isinstance(decision, Decision)
    assert decision.text == (EASY if keep == "text" else None)
    assert len(decision.embedding or b"") == (0 if keep == "hash" else 384 * 4)
    assert len(decision.text_hash) == 64


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_rating_shows_up_with_its_decision_and_outcome(
    start: Start, database: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres").create() if database == "postgresql" else None
    client = start(database=url)
    decision = route(client, EASY, user="ann")
    outcome = {"decision_id": decision["decision_id"], "status": "success", "served": decision["model"], "cost": 0.01}
    assert client.post("/v1/outcomes", json=[outcome]).status_code == 200
    rated = client.post("/v1/feedback", json={"decision_id": decision["decision_id"], "rating": "up"})
    assert rated.status_code == 201
    whole = client.get(f"/v1/decisions/{decision['decision_id']}").json()
    assert (whole["model"], whole["win_rates"]) == (decision["model"], decision["win_rates"])
    assert whole["outcome"]["cost"] == 0.01
    assert [rating["value"] for rating in whole["ratings"]] == [1.0]


def test_decisions_go_on_while_the_database_is_away_and_are_written_when_it_is_back(
    start: Start, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("postgres")
    client = start(database=server.create())
    server.crash()
    try:
        decision_id = route(client, EASY)["decision_id"]
        assert client.get("/readyz").status_code == 503
        rated = client.post("/v1/feedback", json={"decision_id": decision_id, "rating": "up"})
        assert (rated.status_code, "retry-after" in rated.headers) == (503, True)
    finally:
        server.start()
    deadline = time.monotonic() + 20
    while client.post("/v1/feedback", json={"decision_id": decision_id, "rating": "up"}).status_code != 201:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert client.get(f"/v1/decisions/{decision_id}").json()["model"] in ("strong", "weak")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("model", "decision_id", "messages", "prompt", "input", "candidates", "session_id", "user", "needs")


def test_no_body_is_ever_a_server_error(start: Start) -> None:
    client = start()

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(body=st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=5) | JSON_VALUES)
    def check(body: object) -> None:
        answer = client.post("/v1/route", content=json.dumps(body).encode())
        assert answer.status_code in (200, 400, 403), answer.text

    check()
