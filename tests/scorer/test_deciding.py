"""Rules, guards, policies and sessions through a daemon on a real socket."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import httpx
import msgspec
import pytest

from gateway_plugin import ids
from scorer import sampler
from scorer.config import ConfigError
from scorer.sections import Budget, PolicyConfig, RuleConfig, Sessions
from tests.scorer.conftest import EASY, HARD, THREE, Start, route

KNOWN = (
    msgspec.structs.replace(THREE[0], price=(10.0, 30.0), cached_price=1.0, window=8000, images=True, tools=True),
    msgspec.structs.replace(THREE[1], price=(1.0, 3.0), window=8000, images=False, tags={"region": "eu"}),
    msgspec.structs.replace(THREE[2], price=(0.1, 0.3), window=1000, images=False),
)


def logged(client: httpx.Client, decision_id: object) -> dict[str, object]:
    deadline = time.monotonic() + 5
    while (answer := client.get(f"/v1/decisions/{decision_id}")).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return answer.json()  # type: ignore[no-any-return]


def between(client: httpx.Client) -> tuple[str, str, str]:
    """A prompt that goes to the small model, one that does not, and the virtual name that parts them."""
    prompts = (EASY, HARD, "Hi", "Write a haiku about rain.")
    rates = {prompt: route(client, prompt)["win_rates"]["small"] for prompt in prompts}  # type: ignore[index]
    easier, *_, harder = sorted(rates, key=rates.__getitem__)
    return easier, harder, f"router-mf-{(rates[easier] + rates[harder]) / 2:.6f}"


def test_a_rule_names_the_model_and_leaves_nothing_to_chance(start: Start) -> None:
    rule = RuleConfig(name="legal", model="strong", keywords=("contract",))
    client = start(THREE, exploration=1.0, rules=(rule,))
    answers = [route(client, f"Contract {i}", model="router-mf-p0") for i in range(5)]
    assert {(a["model"], a["propensity"], a["pinned"], a["rule"]) for a in answers} == {("strong", 1, "rule", "legal")}
    assert answers[0]["reason"] == "rule 'legal'"
    assert logged(client, answers[0]["decision_id"])["rule"] == "legal"
    assert "pinned" not in route(client, EASY)


def test_a_rule_names_a_router_by_team_and_metadata(start: Start) -> None:
    rules = (
        RuleConfig(name="research", router="router-mf-p100", teams=("research",)),
        RuleConfig(name="batch", router="router-mf-p0", metadata={"queue": "batch"}),
    )
    client = start(THREE, rules=rules)
    assert route(client, EASY, team="research", model="router-mf-p0")["model"] == "strong"
    answer = route(client, HARD, metadata={"queue": "batch"}, model="router-mf-p100")
    assert (answer["model"], answer["rule"]) == ("small", "batch")
    assert str(answer["reason"]).endswith("rule 'batch' asks router-mf-p0")


def test_guards_outrank_rules_and_say_so(start: Start) -> None:
    rule = RuleConfig(name="cheap", model="small", keywords=("picture",))
    client = start(KNOWN, rules=(rule,))
    answer = route(client, "picture", needs={"images": True}, model="router-mf-p0")
    assert (answer["model"], answer["pinned"]) == ("strong", "guard")
    assert answer["reason"] == "the only candidate; left out: middle (no images), small (no images)"
    assert "rule" not in answer
    assert logged(client, answer["decision_id"])["guards"] == {"middle": "no images", "small": "no images"}


def test_a_long_prompt_goes_to_a_model_that_holds_it(start: Start) -> None:
    client = start(KNOWN)
    assert route(client, "word " * 200, model="router-mf-p0")["model"] == "small"
    answer = route(client, "word " * 2000, model="router-mf-p0")
    assert answer["model"] == "middle"
    assert "small (about 3060 tokens, its window holds 1000)" in str(answer["reason"])


def test_cooldown_and_tags_narrow_and_none_allowed_is_a_403(start: Start) -> None:
    client = start(KNOWN)
    assert route(client, HARD, model="router-mf-p100", cooldown=["strong"])["model"] == "middle"
    assert route(client, HARD, model="router-mf-p100", needs={"region": "eu"})["model"] == "middle"
    body = {"prompt": EASY, "needs": {"region": "eu"}, "candidates": ["strong", "small"]}
    refused = client.post("/v1/route", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_allowed")
    assert "with region: eu" in refused.json()["error"]["message"]


def test_a_price_of_quality_chooses_by_quality_less_dollars(start: Start) -> None:
    """An answer of 300 tokens and these few: the choice is that of the answered qualities and the logged costs."""
    for rate in (0.0, 30.0, 1e4):
        client = start(KNOWN, policy=PolicyConfig(quality_per_dollar=rate))
        answer = route(client, HARD)
        costs: dict[str, float] = logged(client, answer["decision_id"])["costs"]  # type: ignore[assignment]
        quality: dict[str, float] = answer["quality"]  # type: ignore[assignment]
        assert costs["strong"] == pytest.approx(0.009, rel=0.1)
        assert answer["model"] == max(costs, key=lambda model: quality[model] - rate * costs[model])
        assert answer["policy"] == "lambda"
        assert route(client, HARD, model="router-mf-p100")["policy"] == "threshold"  # a name of its own stays that


def test_a_quality_target_takes_the_cheapest_model_that_reaches_it(start: Start) -> None:
    for target in (0.0, 0.6, 1.0):
        answer = route(start(KNOWN, policy=PolicyConfig(quality_target=target)), HARD)
        quality: dict[str, float] = answer["quality"]  # type: ignore[assignment]
        good = [model for model in quality if quality[model] >= target]
        assert answer["model"] == (good[-1] if good else max(quality, key=quality.__getitem__))


def test_a_policy_that_lacks_what_it_rests_on_is_refused_at_the_start(start: Start) -> None:
    with pytest.raises(ConfigError, match="policy: no price of 'strong' is known"):
        start(THREE, policy=PolicyConfig(budget=Budget(daily_dollars=1)))
    with pytest.raises(ConfigError, match=r"policy\.quality_target: random gives win rates alone"):
        start(THREE, policy=PolicyConfig(quality_target=0.9), default="router-random-p50")


def test_a_conversation_stays_on_its_model_over_replicas(start: Start) -> None:
    """The second daemon shares the database: what the first one chose holds there too."""
    first, second = start(KNOWN, exploration=1.0), start(KNOWN, exploration=1.0)
    for number in range(6):
        session = f"conversation-{number}"
        begun = route(first, EASY, session_id=session, model="router-mf-0.55")
        assert "pinned" not in begun
        for client in (second, first):
            answer = route(client, EASY, session_id=session, model="router-mf-0.55", continuation=True)
            assert (answer["model"], answer["propensity"], answer["pinned"]) == (begun["model"], 1.0, "tool_loop")


def test_a_conversation_moves_up_by_a_margin_and_a_tool_loop_does_not(start: Start) -> None:
    client = start((KNOWN[0], KNOWN[2]), sessions=Sessions(margin=0.0))
    easier, harder, name = between(client)
    assert route(client, easier, session_id="s", model=name)["model"] == "small"
    loop = route(client, harder, session_id="s", model=name, continuation=True)
    assert (loop["model"], loop["pinned"]) == ("small", "tool_loop")
    moved = route(client, harder, session_id="s", model=name)
    assert moved["model"] == "strong"
    assert str(moved["reason"]).startswith("the session moves up")
    assert route(client, harder, session_id="s", model=name)["model"] == "strong"


def test_a_conversation_moves_down_only_where_the_lost_cache_costs_less(start: Start) -> None:
    """20,000 tokens at $10 a million, or $1 from the cache; elsewhere $1: with all of them cached nothing is saved."""
    prices = {"strong": (10.0, 30.0), "small": (1.0, 30.0)}
    rungs = [msgspec.structs.replace(rung, window=None, price=prices[rung.model]) for rung in (KNOWN[0], KNOWN[2])]
    client = start(tuple(rungs))
    easier, harder, name = between(client)
    asked = {"model": name, "session_id": "s", "needs": {"tokens": 20_000, "max_tokens": 10}}
    assert route(client, harder, **asked)["model"] == "strong"
    stays = route(client, easier, **asked, cached_tokens=20_000)
    assert (stays["model"], stays["reason"]) == ("strong", "the session stays on strong")
    moved = route(client, easier, **asked, cached_tokens=1000)
    assert moved["model"] == "small"
    assert moved["reason"] == "the session moves down: $0.171000 cheaper even without its cache"


def test_derived_sessions_are_kept_apart_by_user_and_are_no_session_of_the_log(start: Start) -> None:
    client = start(THREE, exploration=1.0)
    auto = "auto:" + "0" * 64
    drawn = {}
    for user in map(str, range(12)):
        first = route(client, session_id=auto, user=user)
        again = route(client, session_id=auto, user=user)
        assert first["model"] == again["model"]
        assert again["pinned"] == "session"
        drawn[user] = first["model"]
        known = logged(client, first["decision_id"])
        assert (known["session_id"], known["unit"]) == (None, f"{auto} {user}")
    assert len(set(drawn.values())) > 1


def test_without_the_database_a_conversation_is_decided_all_the_same(start: Start, tmp_path: Path) -> None:
    client = start(THREE)
    route(client, session_id="s")
    with sqlite3.connect(tmp_path / "routerd.sqlite", isolation_level=None) as database:
        database.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        answer = route(client, session_id="new")
        assert time.monotonic() - began < 1
        assert str(answer["reason"]).endswith("the database did not say what the session is on")
        database.execute("ROLLBACK")


def test_sessions_can_be_switched_off(start: Start) -> None:
    client = start(THREE, sessions=None)
    assert route(client, EASY, session_id="s", model="router-mf-p100")["model"] == "strong"
    assert "pinned" not in route(client, EASY, session_id="s", model="router-mf-p100")


def test_a_draw_is_reproduced_from_its_record(start: Start) -> None:
    client = start(THREE, exploration=0.9)
    for number in range(20):
        answer = route(client, f"Question {number}", decision_id=ids.mint())
        known = logged(client, answer["decision_id"])
        assert sampler.draw(known["probabilities"], str(known["unit"])) == known["model"]  # type: ignore[arg-type]
