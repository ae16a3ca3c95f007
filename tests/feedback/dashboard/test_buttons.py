"""What the pages' buttons do: a command, once it is confirmed, for this session alone."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from html import unescape
from pathlib import Path

import httpx
import pytest
import yaml

from feedback.dashboard.commands import Commands
from feedback.records import Activation
from scorer import daemon
from scorer.config import Config
from tests.conftest import served
from tests.feedback.dashboard import nights
from tests.feedback.dashboard.reading import Page
from tests.feedback.dashboard.visiting import SAYS, opened, wait_for, with_buttons

SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]


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
