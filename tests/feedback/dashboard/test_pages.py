"""The pages over a real socket: what they show."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator
from html import unescape
from itertools import pairwise

import httpx
import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback.records import Outcome, Rating
from gateway_plugin import ids
from scorer import daemon
from scorer.config import Config
from scorer.sections import RouterConfig
from tests.conftest import Serve, served
from tests.feedback.dashboard import nights
from tests.feedback.dashboard.reading import Page
from tests.feedback.dashboard.visiting import PAGES, put, wait_for
from tests.feedback.examples import a_decision


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_small_whole_and_needs_no_script(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    page = Page(answer.text)  # which asserts that every element is closed
    assert answer.status_code == 200
    assert len(answer.content) < 40_000
    assert not [tag for tag, given in page.tags if tag == "script" or any(name.startswith("on") for name in given)]
    assert not [tag for tag, given in page.tags if "style" in given]
    assert "script" not in answer.headers["content-security-policy"]
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_landmarks_one_heading_and_labelled_controls(client: httpx.Client, path: str) -> None:
    page = Page(client.get(path).text)
    tags = [tag for tag, _ in page.tags]
    assert [tags.count(tag) for tag in ("h1", "main", "header", "footer")] == [1, 1, 1, 1]
    sections = [given["aria-labelledby"] for tag, given in page.tags if tag == "section"]
    assert all(name in page.texts for name in sections)
    assert all(given.get("aria-label") for tag, given in page.tags if given.get("role") == "img")
    assert all(given.get("scope") for tag, given in page.tags if tag == "th")


def test_empty_state_has_a_command_that_works_and_then_gives_way(serve: Serve, fresh: Config) -> None:
    url = serve(daemon.build(fresh))
    page = Page(httpx.get(url).text)
    assert "Nothing was routed yet" in httpx.get(url).text
    curl = shlex.split(page.texts["ask"])
    headers = dict(one.split(": ") for flag, one in pairwise(curl) if flag == "-H")
    answer = httpx.post(curl[1], headers=headers, content=curl[curl.index("-d") + 1], timeout=30)
    assert answer.json()["model"] in fresh.models
    wait_for(lambda: answer.json()["decision_id"] in httpx.get(url, timeout=30).text)


def test_empty_state_has_lines_for_litellm_that_are_yaml(serve: Serve, fresh: Config) -> None:
    html = httpx.get(serve(daemon.build(fresh))).text
    (lines,) = re.findall(r">(model_list:.*?)</pre>", html, re.DOTALL)
    content = yaml.safe_load(unescape(lines))
    assert content["callback_settings"]["routerd"]["fallback"] == "gpt-4o"
    assert [one["model_name"] for one in content["model_list"]] == ["router", "router-*"]


def test_decision_page_explains_the_choice(serve: Serve, fresh: Config) -> None:
    decision = a_decision(
        guards={"cheap": "its window is too small"}, costs={"strong": 0.02, "medium": 0.01, "cheap": 0.001}
    )
    outcome = Outcome(decision_id=decision.decision_id, status="success", served="cheap", tokens_in=12, cost=0.00123)
    rating = Rating(decision_id=decision.decision_id, value=0.0, user="ann", comment="wrong")
    put(fresh, [decision], [outcome], [rating])
    html = httpx.get(f"{serve(daemon.build(fresh))}/decisions/{decision.decision_id}").text
    rows = Page(html).tables["models"][1:]
    assert [row[0] for row in rows] == ["strong", "medium", "cheap chosen"]
    assert [row[1] for row in rows] == ["0.500", "0.350", "0.200"]
    assert [row[4] for row in rows] == ["0.025", "0.025", "0.950"]
    for told in (
        "win rate 0.200 is below 0.300",
        "its window is too small",
        "$0.001230",
        "wrong",
        "ann",
        "what is 1 + 1?",
        "At threshold up to 0.2: strong",
        "None is known: the prompt was encoded by another encoder than the one in use.",
    ):
        assert told in unescape(html)


@pytest.mark.parametrize("router", ["mf", "sw"])
def test_decision_page_tells_what_spoke_for_the_scores(serve: Serve, fresh: Config, router: str) -> None:
    config = msgspec.structs.replace(
        fresh, keep="text", routers={router: RouterConfig()}, default=f"router-{router}-0.5"
    )
    url = serve(daemon.build(config))
    first, second = (
        httpx.post(f"{url}/v1/route", json={"model": "router", "prompt": prompt}, timeout=30).json()["decision_id"]
        for prompt in ("What is the capital of France?", "What is the capital of <Spain>?")
    )
    wait_for(lambda: httpx.get(f"{url}/v1/decisions/{second}", timeout=30).status_code == 200)
    httpx.post(f"{url}/v1/feedback", json={"decision_id": second, "rating": "up"}, timeout=30)
    html = httpx.get(f"{url}/decisions/{first}", timeout=30).text
    page = Page(html)
    head, *parts, total, score = page.tables["parts"]
    assert head == ["Part of the sum", "gpt-4o", "gpt-4o-mini"]
    for column in (1, 2):
        values = [float(row[column].replace("−", "-")) for row in (*parts, total)]
        assert sum(values[:-1]) == pytest.approx(values[-1], abs=0.006)  # as far as they are shown
        assert float(score[column]) == pytest.approx(1 / (1 + math.exp(-values[-1])), abs=0.001)
    assert page.tables["alike"][1][-1] == "What is the capital of <Spain>?"
    assert ("pretrained battle" in html) == (router == "sw")


def test_decision_that_nobody_has_heard_of_is_a_404_page(client: httpx.Client) -> None:
    for name in (ids.mint(), "nonsense"):
        answer = client.get(f"/decisions/{name}")
        assert (answer.status_code, answer.headers["content-type"][:9]) == (404, "text/html")


def test_decisions_are_filtered_and_paged_to_the_last(client: httpx.Client) -> None:
    seen: list[str] = []
    path = "/decisions?model=gpt-4o&rated=down"
    while path:
        html = client.get(path).text
        seen += re.findall(r'href="/decisions/([0-9a-f-]{36})"', html)
        older = re.search(r'href="([^"]*)" rel="next"', html)
        path = unescape(older.group(1)) if older else ""
    assert len(seen) == len(set(seen)) > 50  # more than a page
    assert seen == sorted(seen, reverse=True)
    one = client.get(f"/v1/decisions/{seen[-1]}").json()
    assert (one["model"], one["ratings"][0]["value"]) == ("gpt-4o", 0.0)


@pytest.mark.parametrize("query", ["status=nonsense", "rated=maybe", "period=year"])
def test_filter_that_is_none_is_a_400_page(client: httpx.Client, query: str) -> None:
    assert client.get(f"/decisions?{query}").status_code == 400


def test_versions_say_what_serves_and_what_was_rolled_back(client: httpx.Client) -> None:
    tables = Page(client.get("/versions").text).tables
    states = [row[2] for row in next(iter(tables.values()))[1:]]
    assert states == ["rolled back by itself", "serves", ""]


MARKUP = st.text(st.sampled_from("<>&\"'`= /abcimgsvonerr{}%#\u2028"), min_size=1, max_size=40)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(user=MARKUP, model=MARKUP, reason=MARKUP, comment=MARKUP)
def test_what_strangers_say_is_text(guestbook: Guestbook, user: str, model: str, reason: str, comment: str) -> None:
    """Ends in <script> whatever comes before; the page has as many elements as for plain words."""
    bait = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"
    words = [one + bait for one in (user, model, reason, comment)]
    for path in guestbook(*words):
        html = guestbook.client.get(path, params={"user": words[0]} if path == "/decisions" else None).text
        page = Page(html)
        assert not [given for tag, given in page.tags if tag == "script" or "onerror" in given]
        assert bait in unescape(html)


class Guestbook:
    """Puts a decision of these words into the store; what pages show them."""

    def __init__(self, config: Config, client: httpx.Client) -> None:
        self.config, self.client = config, client

    def __call__(self, user: str, model: str, reason: str, comment: str) -> list[str]:
        rates = {model: 0.5, "cheap": 0.4}
        decision = a_decision(
            user=user, model=model, reason=reason, win_rates=rates, probabilities=rates, session_id=user
        )
        outcome = Outcome(decision_id=decision.decision_id, status="failure", served=model, error=reason)
        rating = Rating(decision_id=decision.decision_id, value=1.0, user=user, comment=comment, tags=(comment,))
        put(self.config, [decision], [outcome], [rating])
        return ["/decisions", f"/decisions/{decision.decision_id}"]


@pytest.fixture(scope="module")
def guestbook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guestbook]:
    config = msgspec.structs.replace(nights.SETTINGS, data_dir=tmp_path_factory.mktemp("guests"))
    with served(daemon.build(config)) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield Guestbook(config, client)
