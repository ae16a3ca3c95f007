"""Routers that a daemon hosts: scores of each, encoders, texts, and shares that need a calibration."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from feedback.records import StoredCalibration
from feedback.store import Store
from scorer import artifacts, catalogue
from scorer.calibration import PRETRAINED
from scorer.config import ConfigError
from scorer.sections import EncoderConfig, RouterConfig
from tests.scorer.conftest import EASY, HARD, THREE, TWO, Start, route
from tests.scorer.text import Lengths


def test_score_gives_each_prompt_the_win_rates_of_the_ladder(start: Start) -> None:
    client = start(THREE)
    answer = client.post("/v1/score", json={"router": "mf", "prompts": [EASY, HARD]}).json()
    routed = [route(client, prompt)["win_rates"] for prompt in (EASY, HARD)]
    assert answer["win_rates"] == routed


def test_score_of_a_pair_uses_the_models_asked_for(start: Start) -> None:
    client = start(THREE)
    ask = {"router": "mf", "prompts": [HARD], "strong": "gpt-4-1106-preview", "weak": "small"}
    pair = client.post("/v1/score", json=ask).json()
    ladder = client.post("/v1/score", json={"router": "mf", "prompts": [HARD]}).json()
    assert pair["win_rates"][0]["small"] == pytest.approx(ladder["win_rates"][0]["small"], abs=1e-12)
    unknown = client.post("/v1/score", json=ask | {"weak": "no-such-model"})
    assert (unknown.status_code, unknown.json()["error"]["field"]) == (400, "weak")


def test_score_logs_nothing(start: Start, tmp_path: Path) -> None:
    client = start()
    client.post("/v1/score", json={"router": "random", "prompts": [EASY] * 3})
    time.sleep(0.2)
    import sqlite3

    with sqlite3.connect(tmp_path / "routerd.sqlite") as database:
        assert database.execute("SELECT count(*) FROM decisions").fetchone() == (0,)


def test_scores_do_not_depend_on_what_they_were_batched_with(start: Start) -> None:
    client = start()
    prompts = [f"{prompt} {n}" for n in range(20) for prompt in (EASY, HARD, "Hi")]
    alone = [client.post("/v1/score", json={"prompts": [prompt]}).json()["win_rates"][0] for prompt in prompts]
    together = client.post("/v1/score", json={"prompts": prompts}).json()["win_rates"]
    assert together == alone


def test_routers_tells_ladder_versions_and_thresholds(start: Start) -> None:
    told = start(THREE).get("/v1/routers").json()
    assert told["protocol"] == 1
    assert [rung["model"] for rung in told["ladder"]] == ["strong", "middle", "small"]
    thresholds = list(told["routers"]["mf"]["thresholds"].values())
    assert thresholds == sorted(thresholds, reverse=True)
    assert set(told["routers"]) == {"mf", "random"}


def test_every_router_that_is_hosted_can_be_asked_for(start: Start) -> None:
    client = start(THREE, routers={name: RouterConfig() for name in ("mf", "sw", "random")})
    told = client.get("/v1/routers").json()["routers"]
    for name in ("mf", "sw", "random"):
        answer = route(client, HARD, model=f"router-{name}-p30")
        assert (answer["router"], answer["version"]) == (name, told[name]["version"])
        assert answer["threshold"] == told[name]["thresholds"]["p30"]
        together = client.post("/v1/score", json={"router": name, "prompts": [EASY, HARD]}).json()
        assert together["win_rates"][1] == answer["win_rates"]


def test_the_static_encoder_serves_with_artifacts_of_its_own(start: Start) -> None:
    client = start(THREE, encoder=EncoderConfig("static"), routers={name: RouterConfig() for name in ("mf", "sw")})
    told = client.get("/v1/routers").json()
    assert told["encoder_id"] == catalogue.load_encoder("static").id
    for name in ("mf", "sw"):
        answer = route(client, HARD, model=f"router-{name}-p30")
        assert answer["version"] == told["routers"][name]["version"]
        assert answer["version"] != artifacts.read_manifest(PRETRAINED / "minilm" / name).version
        assert answer["threshold"] == told["routers"][name]["thresholds"]["p30"]


def test_artifacts_of_the_static_encoder_are_refused_beside_the_other_one(start: Start) -> None:
    with pytest.raises(ConfigError, match="fitted with the static encoder; say `encoder: static`"):
        start(routers={"mf": RouterConfig(str(PRETRAINED / "static" / "mf"))})


def lengths(monkeypatch: pytest.MonkeyPatch, sample: tuple[str, NDArray[np.float32]] | None) -> None:
    """A bert router that reads texts."""
    monkeypatch.setitem(catalogue.LOADERS, "bert", lambda *_: Lengths(sample))


def test_a_router_of_texts_is_calibrated_by_its_own_sample(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths(monkeypatch, ("chat-100", np.linspace(0, 0.99, 100, dtype=np.float32)))
    client = start(routers={"mf": RouterConfig(), "bert": RouterConfig()})
    told = client.get("/v1/routers").json()["routers"]["bert"]
    assert told["calibrated_on"] == "chat-100"
    assert told["thresholds"]["p30"] == pytest.approx(0.695)
    assert route(client, "x" * 69, model="router-bert-p30")["model"] == "weak"
    assert route(client, "x" * 70, model="router-bert-p30")["model"] == "strong"


def test_a_share_of_an_uncalibrated_router_is_a_400_that_says_what_to_run(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths(monkeypatch, None)
    client = start(routers={"mf": RouterConfig(), "bert": RouterConfig()})
    told = client.get("/v1/routers").json()["routers"]["bert"]
    assert (told["calibrated_on"], told["thresholds"]) == (None, {})
    refused = client.post("/v1/route", json={"model": "router-bert-p30", "prompt": EASY})
    fault = refused.json()["error"]
    assert (refused.status_code, fault["code"], fault["field"]) == (400, "not_calibrated", "model")
    assert fault["message"].startswith("bert is not calibrated: run routerd calibrate --router bert --prompts FILE")
    assert client.post("/v1/route", json={"model": "router-bert", "prompt": EASY}).status_code == 400
    assert route(client, "x" * 40, model="router-bert-0.5")["model"] == "weak"
    assert route(client, "x" * 60, model="router-bert-0.5")["model"] == "strong"


def test_a_default_share_of_an_uncalibrated_router_is_refused_until_it_is_calibrated(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths(monkeypatch, None)
    changes = {"routers": {"bert": RouterConfig()}, "default": "router-bert-p30"}
    with pytest.raises(ConfigError, match="default: router-bert-p30: bert is not calibrated: run routerd calibrate"):
        start(**changes)
    assert route(start(**changes | {"default": "router-bert-0.5"}), "x" * 40)["model"] == "weak"
    ladder = tuple(rung.model for rung in TWO)  # it scores places, and so knows every model by its own name
    lowest = (np.arange(100) / 100).astype("<f4").tobytes()
    stored = StoredCalibration(router="bert", version="lengths-1", ladder=ladder, sample="mine", lowest=lowest)

    async def store() -> None:
        database = Store(f"sqlite:///{tmp_path / 'routerd.sqlite'}")
        await database.add_calibration(stored)
        await database.close()

    asyncio.run(store())
    client = start(**changes)
    assert route(client, "x" * 80)["threshold"] == pytest.approx(0.695)  # with the very first request
    assert client.get("/v1/routers").json()["routers"]["bert"]["calibrated_on"] == "mine"
