"""What docs/contributing.md says of adding a router is true of the file that it shows."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import httpx
import numpy as np
import pytest

from gateway_plugin import names
from scorer import catalogue, daemon
from scorer.battles import BAR, Battles
from scorer.config import Config
from scorer.routers.base import Prompts
from scorer.sections import EncoderConfig, RouterConfig, Rung
from tests.conftest import Serve
from tests.demo.stack import ROOT

PAGE = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
EASY = ["Hi", "What is 2 + 2?", "Name a colour."]
HARD = [f"Prove that {'the sum of these and many other numbers is even ' * 20}{i}" for i in range(3)]


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The file in the document."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path_factory.mktemp("router") / "length.py"
    path.write_text(source, encoding="utf-8")
    made = ModuleType("length")
    sys.modules["length"] = made
    exec(compile(source, str(path), "exec"), made.__dict__)
    return made


def test_router_of_the_document_is_fitted_stored_hosted_and_asked(
    module: ModuleType, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = catalogue.load_encoder("static")
    artifact = module.Length.fit(*thumbs(encoder.encode([*EASY, *HARD])), encoder_id=encoder.id).save(tmp_path / "one")
    monkeypatch.setitem(catalogue.LOADERS, "length", module.Length.load)
    monkeypatch.setattr(names, "ROUTERS", (*names.ROUTERS, "length"))
    config = Config(
        (Rung("strong"), Rung("weak")),
        data_dir=tmp_path,
        encoder=EncoderConfig("static"),
        routers={"length": RouterConfig(str(artifact))},
        default="router-length-p50",
        exploration=0.0,
    )
    with httpx.Client(base_url=serve(daemon.build(config))) as client:
        asked = {
            text: client.post("/v1/route", json={"model": "router-length-0.5", "prompt": text}) for text in EASY + HARD
        }
        shared = client.post("/v1/route", json={"model": "router-length-p100", "prompt": EASY[0]}).json()
        metrics = client.get("/metrics").text
    assert [answer.json()["model"] for answer in asked.values()] == ["weak"] * 3 + ["strong"] * 3
    assert (shared["model"], shared["router"]) == ("strong", "length")
    assert 'routerd_decisions_total{model="strong",reason="threshold",router="length",status="routed"} 4.0' in metrics


def thumbs(prompts: Prompts) -> tuple[Battles, Prompts]:
    """The weak model does the easy ones and fails at the hard ones."""
    count = len(prompts)
    outcome = np.where(np.arange(count) < len(EASY), 1.0, 0.0)
    sides = np.full(count, "weak"), np.full(count, BAR)
    told = np.full(count, "human")
    return Battles(tuple(prompts.texts), np.arange(count), *sides, outcome, np.ones(count), told), prompts


def test_scores_of_the_document_s_router_are_its_formula_whatever_the_batch(module: ModuleType) -> None:
    prompts = catalogue.load_encoder("static").encode(["a" * 19, "a" * 999])
    router = module.Length(np.log(100.0), "1", "")
    win_rates = router.score(prompts, ("strong", "middle", "weak")).win_rates
    assert win_rates == pytest.approx(np.array([[0, 1 / 12, 1 / 6], [0, 5 / 11, 10 / 11]]), rel=1e-6)  # n / (n + 100)
    assert (router.score(prompts[1:], ("strong", "weak")).win_rates == win_rates[1:, [0, 2]]).all()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:scorer|feedback|gateway_plugin|tests)/[\w./]*)`", PAGE))))
def test_places_of_the_document_are_there(path: str) -> None:
    assert (ROOT / path).exists() or path == "scorer/routers/length.py"
