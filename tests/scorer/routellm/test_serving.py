"""RouteLLM's checkpoints in the daemon, in `routerd evaluate` and in `routerd calibrate`."""

from __future__ import annotations

import asyncio
import csv
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from gateway_plugin import ids
from gateway_plugin.client import Client, Unavailable
from gateway_plugin.settings import Settings
from scorer import catalogue, config
from scorer.artifacts import ArtifactError
from scorer.cli import cli
from scorer.config import ConfigError
from scorer.encoder import Encoder
from scorer.evaluation import benchmarks, methods
from scorer.routellm import layout
from scorer.routellm.factorization import Factorization
from scorer.routers.random import Random
from scorer.scoring import Hosted, Job, Scored, Scoring
from scorer.sections import EmbeddingsConfig, RouterConfig, Rung
from tests.scorer.conftest import EASY, HARD, TWO, Start, route
from tests.scorer.routellm.endpoint import Endpoint
from tests.scorer.routellm.made_up import STRONG, WEAK, prompts, write_mf

LADDER = (STRONG, WEAK)


@pytest.fixture
def mf(tmp_path: Path) -> Path:
    return write_mf(tmp_path / "mf_gpt4_augmented")


@pytest.fixture
def serving(start: Start, mf: Path, endpoint: Endpoint) -> Callable[..., httpx.Client]:
    """A daemon with RouteLLM's mf and the random router."""

    def run(ladder: tuple[Rung, ...] = TWO, **changes: Any) -> httpx.Client:
        routers = {"mf": RouterConfig(str(mf), endpoint.settings(**changes)), "random": RouterConfig()}
        return start(ladder, routers=routers, default="router-mf-0.5")

    return run


def test_the_daemon_serves_a_checkpoint(serving: Callable[..., httpx.Client], mf: Path, endpoint: Endpoint) -> None:
    client = serving()
    win_rates = Factorization.load(mf, endpoint.settings()).score(prompts(EASY, HARD), LADDER).win_rates
    for prompt, (_, expected) in zip((EASY, HARD), win_rates.tolist(), strict=True):
        answer = route(client, prompt)
        assert answer["win_rates"] == {"strong": 0.5, "weak": expected}
        assert answer["model"] == ("strong" if expected >= 0.5 else "weak")
        assert str(answer["version"]).startswith("routellm-")
    together = client.post("/v1/score", json={"router": "mf", "prompts": [EASY, HARD]}).json()["win_rates"]
    assert [one["weak"] for one in together] == win_rates[:, 1].tolist()
    told = client.get("/v1/routers").json()["routers"]["mf"]
    assert (told["calibrated_on"], told["thresholds"]) == (None, {})


def test_nothing_to_score_asks_no_endpoint(serving: Callable[..., httpx.Client], endpoint: Endpoint) -> None:
    assert route(serving(), " ")["model"] == "strong"
    assert endpoint.asked == []


def test_a_daemon_starts_while_its_endpoint_is_down_and_serves_when_it_is_up(
    serving: Callable[..., httpx.Client], endpoint: Endpoint
) -> None:
    endpoint.stop()
    client = serving()
    refused = client.post("/v1/route", json={"model": "router-mf-0.5", "prompt": EASY})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    error = refused.json()["error"]
    assert error["code"] == "unscorable"
    assert error["message"].startswith(f"mf: {endpoint.url}: cannot be reached (")
    assert route(client, EASY, model="router-random-0.5")["router"] == "random"
    endpoint.start()
    assert route(client, EASY)["router"] == "mf"


async def test_the_plugin_falls_back_and_keeps_its_breaker_closed(
    serving: Callable[..., httpx.Client], endpoint: Endpoint
) -> None:
    """Otherwise an endpoint that is down would cost the daemon's other routers their requests."""
    client = serving(timeout_ms=50)
    endpoint.seconds = 0.2
    plugin = Client(Settings(url=str(client.base_url).rstrip("/")))
    loop = asyncio.get_running_loop()
    for i in range(8):
        body = {"decision_id": ids.mint(), "model": "router-mf-0.5", "prompt": f"{EASY} {i}"}
        with pytest.raises(Unavailable):
            await plugin.route(body, loop.time() + 2)
    assert plugin.breaker.state == "closed"
    body = {"decision_id": ids.mint(), "model": "router-random-0.5", "prompt": EASY}
    assert (await plugin.route(body, loop.time() + 2))["router"] == "random"
    await plugin.close()


def test_a_slow_endpoint_keeps_no_other_router_waiting(
    serving: Callable[..., httpx.Client], endpoint: Endpoint
) -> None:
    client = serving()
    route(client, EASY, model="router-random-0.5")
    endpoint.seconds = 1.0
    statuses: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=client.base_url, timeout=30) as other:
            statuses.append(other.post("/v1/route", json={"model": "router-mf-0.5", "prompt": HARD}).status_code)

    waiting = threading.Thread(target=ask)
    waiting.start()
    while not endpoint.asked:
        time.sleep(0.01)
    began = time.monotonic()
    route(client, EASY, model="router-random-0.5")
    assert time.monotonic() - began < 0.5
    assert not statuses
    waiting.join(timeout=20)
    assert statuses == [200]


def test_in_a_batch_those_that_can_be_scored_are(endpoint: Endpoint, mf: Path, encoder: Encoder) -> None:
    router = Factorization.load(mf, endpoint.settings())
    scoring = Scoring(encoder, {"mf": Hosted(router, LADDER, None), "random": Hosted(Random(), LADDER, None)})
    known = scoring.score([Job("mf", EASY)])[0]
    assert isinstance(known, Scored)
    endpoint.stop()
    texts = [("mf", HARD), ("mf", EASY), ("random", HARD), ("mf", ""), ("mf", "new")]
    answers = scoring.score([Job(name, text) for name, text in texts])
    assert [isinstance(answer, Scored) for answer in answers] == [False, True, True, True, False]
    assert isinstance(answers[1], Scored)
    assert answers[1]._replace(stages=()) == known._replace(stages=())
    assert "cannot be reached" in str(answers[0])


def test_the_configuration_names_the_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    embeddings = {"url": "https://eu.example.com/v1", "key": "os.environ/OPENAI_API_KEY", "timeout_ms": 900}
    loaded = configured(tmp_path, {"mf": {"artifact": "/models/mf", "embeddings": embeddings}}).routers["mf"].embeddings
    assert loaded == EmbeddingsConfig(
        "https://eu.example.com/v1", "text-embedding-3-small", "sk-of-the-environment", 900
    )


def configured(directory: Path, routers: dict[str, Any]) -> config.Config:
    path = directory / "config.yaml"
    ladder = [{"model": "big", "like": STRONG}, {"model": "small", "like": WEAK}]
    settings = {"ladder": ladder, "routers": routers, "default": "router-mf-0.5", "data_dir": str(directory / "data")}
    path.write_text(yaml.safe_dump(settings))
    return config.load(path)


@pytest.mark.parametrize(
    ("embeddings", "says"),
    [
        ({"url": "api.openai.com"}, "'api.openai.com' is no http:// or https:// address"),
        ({"url": "http://host:port/"}, "embeddings: port could not be cast"),
        ({"timeout_ms": 1}, "embeddings.timeout_ms: expected `int` >= 10"),
        ({"key": "two words"}, "embeddings.key: expected `str` matching regex"),
        ({"modle": "x"}, "unknown field `modle`; accepted: url, model, key, timeout_ms"),
    ],
)
def test_a_mistake_in_the_configuration_is_one_line(tmp_path: Path, embeddings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        configured(tmp_path, {"mf": {"artifact": "/models/mf", "embeddings": embeddings}})
    assert says.lower() in str(raised.value).lower()
    assert "\n" not in str(raised.value)


def test_a_daemon_without_the_endpoint_says_what_to_write(start: Start, mf: Path) -> None:
    with pytest.raises(ConfigError, match=r"`embeddings: \{url: .*\}` beside `artifact`"):
        start(routers={"mf": RouterConfig(str(mf))}, default="router-mf-0.5")


def test_embeddings_for_what_reads_none_are_refused(start: Start, endpoint: Endpoint) -> None:
    with pytest.raises(ConfigError, match=r"routers\.random: .* is no RouteLLM checkpoint: it takes no embeddings"):
        start(routers={"random": RouterConfig(embeddings=endpoint.settings())}, default="router-random-0.5")


def test_only_directories_of_weights_or_sets_are_checkpoints(tmp_path: Path, mf: Path) -> None:
    assert layout.is_checkpoint(mf)
    assert not layout.is_checkpoint(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert not layout.is_checkpoint(tmp_path / "empty")
    (mf / "artifact.json").write_text("{}")
    assert not layout.is_checkpoint(mf)  # one of our own
    for mark in ("routellm.json", "config.json", "pytorch_model.bin", "model.safetensors.index.json"):
        (tmp_path / mark).mkdir()
        (tmp_path / mark / mark).write_text("{}")
        assert layout.is_checkpoint(tmp_path / mark)


def test_a_directory_that_is_nothing_known_is_refused(tmp_path: Path, mf: Path, encoder: Encoder) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "weights.npz").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"artifact\.json: No such file"):
        catalogue.load("mf", str(tmp_path / "other"), encoder)
    with pytest.raises(ArtifactError, match="RouteLLM has no router 'boosted'; it has mf, sw, bert, causal"):
        layout.load("boosted", mf, None)


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    path = tmp_path / "small.csv"
    generator = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", STRONG, WEAK])
        writer.writerows(
            [f"Question {i}?", int(generator.random() < 0.8), int(generator.random() < 0.5)] for i in range(60)
        )
    return path


def evaluate(benchmark: Path, mf: Path, out: Path) -> Any:
    chosen = ["--benchmark", f"small={benchmark}", "--routers", f"mf={mf}", "--draws", "20", "--out", str(out)]
    return CliRunner().invoke(cli, ["evaluate", *chosen])


def test_evaluation_takes_the_endpoint_from_the_environment_and_caches_scores(
    benchmark: Path, mf: Path, endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: Encoder
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    (loaded,) = benchmarks.load_all([("small", benchmark)], LADDER, None)
    win_rates = Factorization.load(mf, endpoint.settings()).score(prompts(*loaded.prompts), LADDER).win_rates
    for _ in range(2):
        (method,) = methods.routers([f"mf={mf}"], LADDER, encoder)
        scored = methods.score(method, loaded, lambda: prompts(*loaded.prompts), tmp_path / "scores")
        np.testing.assert_array_equal(scored, win_rates)
    assert method.name == "mf (mf_gpt4_augmented)"
    assert "sk-secret" not in method.identity
    assert [len(asked) for asked in endpoint.asked] == [60, 60]  # here above, and once for both


def test_evaluate_gives_up_in_one_line(
    benchmark: Path, mf: Path, endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: Encoder
) -> None:
    monkeypatch.setattr(methods, "litellm", list)  # which takes seconds to import
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    unnamed = evaluate(benchmark, mf, tmp_path / "out")
    assert unnamed.exit_code == 2
    assert "OPENAI_BASE_URL and OPENAI_API_KEY for `routerd evaluate`" in unnamed.output
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    endpoint.stop()
    down = evaluate(benchmark, mf, tmp_path / "out")
    assert down.exit_code == 2
    assert down.output.strip().splitlines()[-1].startswith(f"routerd: small: {endpoint.url}: cannot be reached (")


def test_an_environment_that_names_no_endpoint_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", "here")
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL, OPENAI_API_KEY: 'here' is no http:// or https:// address"):
        config.embeddings_of_environment()
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert config.embeddings_of_environment() is None
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert config.embeddings_of_environment() == EmbeddingsConfig(key="sk-secret", timeout_ms=60_000)


def test_calibrate_gives_a_share_its_threshold(
    mf: Path, endpoint: Endpoint, tmp_path: Path, encoder: Encoder, benchmark: Path
) -> None:
    embeddings = {"url": endpoint.url, "timeout_ms": 50}
    configured(tmp_path, {"mf": {"artifact": str(mf), "embeddings": embeddings}})
    endpoint.seconds = 0.1  # more than a request would wait
    arguments = ["--config", str(tmp_path / "config.yaml"), "--strong-share", "0.3", "--prompts", str(benchmark)]
    done = CliRunner().invoke(cli, ["calibrate", *arguments])
    assert done.exit_code == 0, done.output
    assert "on small.csv, 60 prompts: threshold 0." in done.output
    assert "30.0% of them go to big" in done.output
    endpoint.stop()
    down = CliRunner().invoke(cli, ["calibrate", *arguments])
    assert (down.exit_code, "cannot be reached" in down.output) == (2, True)
