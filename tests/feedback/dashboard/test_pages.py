"""The pages over a real socket: what they show, whom they admit, and what their buttons do."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from html import unescape
from itertools import pairwise
from pathlib import Path

import httpx
import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback.dashboard.commands import Commands
from feedback.records import Activation, Outcome, Rating
from feedback.store import Store
from gateway_plugin import ids
from scorer import daemon, hosting
from scorer.config import Config
from scorer.decisions import Decision
from tests.conftest import Serve, served
from tests.feedback.dashboard import nights
from tests.feedback.dashboard.reading import Page
from tests.feedback.examples import a_decision

PAGES = ("/", "/decisions", "/runs", "/versions")
TOKEN = "a long enough token"
SAYS = [sys.executable, "-c", "import sys; print('said', *sys.argv[1:])"]
SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]


# What they show


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
    ):
        assert told in unescape(html)


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


# Whom they admit


@contextmanager
def guarded(config: Config, commands: Commands | None = None) -> Iterator[httpx.Client]:
    """A daemon with a token, and a client that does not have it."""
    config = msgspec.structs.replace(config, token=TOKEN)
    with served(daemon.build(config, commands=commands)) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.mark.parametrize("path", [*PAGES, "/confirm/retrain", f"/decisions/{ids.mint()}"])
def test_without_a_session_every_page_leads_to_the_login(fresh: Config, path: str) -> None:
    with guarded(fresh) as client:
        answer = client.get(path)
        assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/login")
        assert client.post("/act/retrain").status_code == 303


def test_token_opens_a_session_that_is_signed_and_out_of_reach_of_scripts(fresh: Config) -> None:
    with guarded(fresh) as client:
        assert client.post("/login", data={"token": "another token"}).status_code == 403
        assert client.get("/versions").status_code == 303
        answer = client.post("/login", data={"token": TOKEN, "then": "/versions"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/versions")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert TOKEN not in answer.headers["set-cookie"]
        assert client.get("/versions").status_code == 200
        assert client.get("/v1/routers").status_code == 401  # the session is of the pages alone
        session = client.cookies["routerd_session"]
        client.cookies.set("routerd_session", session[:-1] + ("0" if session[-1] != "0" else "1"))
        assert client.get("/versions").status_code == 303


@pytest.mark.parametrize("then", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_login_leads_nowhere_else(fresh: Config, then: str) -> None:
    with guarded(fresh) as client:
        assert client.post("/login", data={"token": TOKEN, "then": then}).headers["location"] == "/"


def test_logout_needs_the_form_and_forgets_the_session(fresh: Config) -> None:
    with guarded(fresh) as client:
        client.post("/login", data={"token": TOKEN})
        assert client.post("/logout").status_code == 403
        form = Page(client.get("/versions").text).inputs
        assert client.post("/logout", data=form).status_code == 303
        assert client.get("/versions").status_code == 303


def test_without_a_token_only_this_machine_by_its_own_name_is_answered(client: httpx.Client) -> None:
    assert client.get("/decisions", headers={"host": "rebound.example:4141"}).status_code == 421
    assert client.get("/decisions", headers={"host": "localhost:4141"}).status_code == 200
    assert client.get("/decisions", headers={"host": "[::1]:4141"}).status_code == 200


# What their buttons do


@contextmanager
def with_buttons(config: Config, program: list[str]) -> Iterator[httpx.Client]:
    commands = Commands(program, Path("config.yaml"))
    with served(daemon.build(config, commands=commands)) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def confirmed(client: httpx.Client, path: str) -> dict[str, str]:
    """The fields of a confirmation page's form."""
    page = Page(client.get(path).text)
    return {name: page.inputs[name] for name in ("form_token", "router", "version")}


@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        ("retrain", "retrain"),
        ("recalibrate", "calibrate --router mf --strong-share 0.4"),
        ("rollback", "artifacts rollback mf"),
    ],
)
def test_button_runs_the_command_once_it_is_confirmed(fresh: Config, action: str, arguments: str) -> None:
    with with_buttons(fresh, SAYS) as client:
        form = confirmed(client, f"/confirm/{action}?router=mf")
        answer = client.post(f"/act/{action}", data=form)
        assert answer.status_code == 303
        html = client.get(answer.headers["location"]).text
        assert f"routerd {arguments}" in html
        assert f"said {arguments} --config config.yaml" in html


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"form_token": ""}},
        {"data": {"form_token": "0" * 64}},
        {"headers": {"origin": "https://evil.example"}},
        {"headers": {"origin": "null"}},
        {"headers": {"sec-fetch-site": "cross-site"}},
        {"headers": {"sec-fetch-site": "same-site"}},
        {"cookies": None},
    ],
    ids=str,
)
def test_form_of_another_site_or_session_does_nothing(fresh: Config, change: dict[str, dict[str, str] | None]) -> None:
    with with_buttons(fresh, SAYS) as client:
        form = confirmed(client, "/confirm/retrain")
        if "cookies" in change:
            client.cookies.clear()
        data, headers = {**form, **(change.get("data") or {})}, change.get("headers")
        assert client.post("/act/retrain", data=data, headers=headers).status_code == 403
        assert "said" not in client.get("/runs").text


def test_form_of_this_site_is_taken_with_a_browsers_headers(fresh: Config) -> None:
    with with_buttons(fresh, SAYS) as client:
        headers = {"origin": str(client.base_url).rstrip("/"), "sec-fetch-site": "same-origin"}
        answer = client.post("/act/retrain", data=confirmed(client, "/confirm/retrain"), headers=headers)
        assert answer.status_code == 303


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/confirm/nonsense", 404),
        ("/confirm/rollback?router=nonsense", 400),
        ("/confirm/activate?router=mf&version=--help", 400),
    ],
)
def test_button_for_what_is_not_there_is_a_page_that_says_so(fresh: Config, path: str, status: int) -> None:
    with with_buttons(fresh, SAYS) as client:
        assert client.get(path).status_code == status


def test_one_command_runs_at_a_time_and_ends_with_the_daemon(fresh: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback.dashboard.pages._WAIT_SECONDS", 0.1)
    began = time.monotonic()
    with with_buttons(fresh, SLEEPS) as client:
        form = confirmed(client, "/confirm/retrain")
        assert client.post("/act/retrain", data=form).status_code == 303
        assert "running" in client.get("/runs").text
        assert client.post("/act/retrain", data=form).status_code == 409
    assert time.monotonic() - began < 20


def test_daemon_without_commands_has_no_buttons(client: httpx.Client) -> None:
    assert client.get("/confirm/retrain").status_code == 404
    assert "/confirm/" not in client.get("/versions").text + client.get("/").text


def test_activation_by_button_serves_as_one_by_command_does(fresh: Config, tmp_path: Path) -> None:
    """The real command, on a file of configuration; it is what `routerd serve` gives the buttons."""
    asyncio.run(one_night(fresh))
    path = tmp_path / "config.yaml"
    ladder = [{"model": rung.model, "like": rung.like} for rung in fresh.ladder]
    path.write_text(yaml.safe_dump({"ladder": ladder, "encoder": "static", "data_dir": str(tmp_path)}))
    commands = Commands([sys.executable, "-m", "scorer"], path)
    with served(daemon.build(fresh, commands=commands)) as url, httpx.Client(base_url=url, timeout=30) as client:
        served_before = client.get("/v1/routers").json()["routers"]["mf"]["version"]
        links = re.findall(r'href="(/confirm/activate[^"]*)"', client.get("/versions").text)
        form = confirmed(client, unescape(links[0]))
        assert form["version"] != served_before
        client.post("/act/activate", data={**form, "holdback": "1"})
        wait_for(lambda: "serves from now on" in client.get("/versions").text, 30)
        wait_for(lambda: client.get("/v1/routers").json()["routers"]["mf"]["version"] == form["version"], 15)
        activation, *_ = asyncio.run(history(fresh))
        assert (activation.version, activation.holdback) == (form["version"], fresh.rollback.holdback)


async def one_night(config: Config) -> None:
    async with opened(config) as store:
        await nights.replay(store, config, nights=1, requests=20)


async def history(config: Config) -> list[Activation]:
    async with opened(config) as store:
        return await store.activations("mf")


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Store]:
    store = hosting.open_store(config)
    yield store
    await store.close()


def put(config: Config, decisions: list[Decision], outcomes: list[Outcome], ratings: list[Rating]) -> None:
    async def work() -> None:
        async with opened(config) as store:
            await store.add_decisions(decisions)
            await store.record_outcomes(outcomes)
            for rating in ratings:
                await store.rate(rating)

    asyncio.run(work())


def wait_for(happened: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
