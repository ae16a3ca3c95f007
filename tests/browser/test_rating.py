"""The script of docs/feedback.md, as it stands there, on pages of other sites in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from scorer import daemon
from scorer.sections import BrowserRatings
from tests.browser.chromium import Browser
from tests.conftest import served
from tests.demo.stack import ROOT
from tests.feedback.dashboard import nights

TOKEN = "a long enough token"
(SCRIPT,) = re.findall(r"```js\n(.*?)```", (ROOT / "docs/feedback.md").read_text(), re.DOTALL)
PAGE = Starlette(routes=[Route("/", lambda _: HTMLResponse("<!doctype html><title>a chat</title>"))])


class Sites(NamedTuple):
    """Addresses: a page that may rate, one that may not, and the daemon's."""

    chat: str
    stranger: str
    daemon: httpx.Client


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Sites]:
    with ExitStack() as stack:
        chat, stranger = (stack.enter_context(served(PAGE)) for _ in range(2))
        allowed = BrowserRatings(keys=("k" * 32,), origins=(chat,))
        config = msgspec.structs.replace(nights.SETTINGS, data_dir=tmp_path, token=TOKEN, browser_ratings=allowed)
        headers = {"authorization": f"Bearer {TOKEN}"}
        url = stack.enter_context(served(daemon.build(config)))
        yield Sites(chat, stranger, stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=30)))


async def rate(browser: Browser, sites: Sites, page: str, token: str) -> str:
    """What the script says in the end."""
    script = SCRIPT.replace("https://routerd.example.com", str(sites.daemon.base_url).rstrip("/"))
    async with browser.tab() as tab:
        await tab.open(page)
        said = await tab.run(f"{script}; rate({token!r}, 'down').then(() => 'done', error => error.message)")
    return str(said)


def asked(sites: Sites) -> tuple[str, str]:
    """The id of a decision, and its rating token."""
    answer = sites.daemon.post("/v1/route", json={"prompt": "why?", "user": "ann"}).json()
    return answer["decision_id"], answer["rating_token"]


async def test_an_end_user_rates_his_answer_and_no_other(browser: Browser, sites: Sites) -> None:
    decision_id, token = asked(sites)
    other, _ = asked(sites)
    assert await rate(browser, sites, sites.chat, token) == "done"
    (rating,) = sites.daemon.get(f"/v1/decisions/{decision_id}").json()["ratings"]
    assert (rating["value"], rating["user"]) == (0.0, "ann")
    said = await rate(browser, sites, sites.chat, token.replace(decision_id, other))
    assert said.startswith("this token is not known here, or has expired")
    assert sites.daemon.get(f"/v1/decisions/{other}").json()["ratings"] == []


async def test_a_page_of_another_site_sends_nothing(browser: Browser, sites: Sites) -> None:
    decision_id, token = asked(sites)
    assert await rate(browser, sites, sites.stranger, token) == "Failed to fetch"
    assert sites.daemon.get(f"/v1/decisions/{decision_id}").json()["ratings"] == []
