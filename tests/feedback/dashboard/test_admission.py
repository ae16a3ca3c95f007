"""Whom the pages admit: a token's session, and without a token this machine by its own name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import msgspec
import pytest

from feedback.dashboard.commands import Commands
from gateway_plugin import ids
from scorer import daemon
from scorer.config import Config
from tests.conftest import served
from tests.feedback.dashboard.reading import Page
from tests.feedback.dashboard.visiting import PAGES, TOKEN


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


def test_tokens_cannot_be_tried_out_at_the_login(fresh: Config) -> None:
    with guarded(fresh) as client:
        statuses = [client.post("/login", data={"token": f"guess {number}"}).status_code for number in range(25)]
        assert statuses[:20] == [403] * 20
        assert 429 in statuses[20:]


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
