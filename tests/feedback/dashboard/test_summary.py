"""The figures: those of the report, of a sample where there is much, kept a minute; the same on page and as data."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from feedback import logged, report
from feedback.dashboard import summary
from feedback.dashboard.summary import Summaries
from feedback.savings import savings
from feedback.store import Store
from scorer import hosting
from scorer.calibration import Calibration
from scorer.config import Config
from scorer.scoring import Hosted
from scorer.sections import Budget, PolicyConfig
from tests.feedback.dashboard import nights
from tests.feedback.dashboard.reading import Page, number


@pytest.fixture(scope="module")
def figures(client: httpx.Client) -> dict[str, Any]:
    return client.get("/v1/report/30").json()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def page(client: httpx.Client, figures: dict[str, Any]) -> Page:
    return Page(client.get("/").text)


async def test_data_are_what_the_report_finds(figures: dict[str, Any], replayed: Config) -> None:
    store = Store(replayed.database_url)
    log = await logged.read(store, replayed.models, figures["after"])
    await store.close()
    assert figures["happened"] == report.plain(report.happened(log))
    usable = log.usable()
    spent = report.plain(savings(usable))
    assert figures["savings"] == spent
    lines = {line["policy"]: line for line in figures["what_if"]["lines"]}
    gap = lines["always strongest"]["cost"]["value"] - lines["as it was"]["cost"]["value"]
    assert gap == pytest.approx(spent["below_strongest"]["value"])
    gap = lines["as it was"]["cost"]["value"] - lines["always cheapest"]["cost"]["value"]
    assert gap == pytest.approx(spent["above_cheapest"]["value"])


def test_page_and_data_have_the_same_key_figures(page: Page, figures: dict[str, Any]) -> None:
    happened, saved = figures["happened"], figures["savings"]
    assert number(page.texts["saved"]) == pytest.approx(1000 * saved["below_strongest"]["value"], abs=0.005)
    assert number(page.texts["above"]) == pytest.approx(1000 * saved["above_cheapest"]["value"], abs=0.005)
    total = saved["requests"] * saved["below_strongest"]["value"]
    assert number(page.texts["total"]) == pytest.approx(total, abs=0.005)
    assert number(page.texts["strong-share"]) == pytest.approx(100 * happened["strong_share"]["value"], abs=0.05)
    assert number(page.texts["target"]) == 100 * figures["target"] == 40
    assert number(page.texts["approval"]) == pytest.approx(100 * happened["groups"][0]["rating"]["value"], abs=0.05)
    assert number(page.texts["requests"]) == happened["requests"] == 2800


@pytest.mark.parametrize("table", ["by-model", "by-version"])
def test_page_and_data_have_the_same_ratings(page: Page, figures: dict[str, Any], table: str) -> None:
    models = nights.SETTINGS.models
    groups = [one for one in figures["happened"]["groups"] if one["name"] != "all"]
    groups = [one for one in groups if (one["name"] in models) == (table == "by-model")]
    rows = page.tables[table][1:]
    assert len(rows) == len(groups) >= 2
    for row, group in zip(rows, groups, strict=True):
        assert row[0] == group["name"]
        assert number(row[1]) == group["requests"]
        assert number(row[3]) == pytest.approx(100 * group["rating"]["value"], abs=0.05)
        low, high = (number(end) for end in row[4].split(" to "))
        assert [low, high] == pytest.approx([100 * group["rating"][end] for end in ("low", "high")], abs=0.05)


def test_page_and_data_have_the_same_costs_frontier_and_histogram(page: Page, figures: dict[str, Any]) -> None:
    lines = {line["policy"]: line for line in figures["what_if"]["lines"]}
    for row in page.tables["costs"][1:]:
        line = lines[row[0]]
        assert number(row[1]) == pytest.approx(1000 * line["cost"]["value"], abs=0.005)
        assert number(row[4]) == pytest.approx(line["dr"]["value"], abs=0.0005)
    *curve, here = page.tables["curve"][1:]
    assert len(curve) == len(figures["curve"]["points"]) == 11
    for row, point in zip(curve, figures["curve"]["points"], strict=True):
        assert number(row[0]) == pytest.approx(100 * point["share"], abs=0.05)
        assert number(row[1]) == pytest.approx(1000 * point["cost"], abs=0.005)
        assert number(row[2]) == pytest.approx(point["rating"]["value"], abs=0.0005)
    assert number(here[2]) == pytest.approx(lines["as it was"]["snips"]["value"], abs=0.0005)
    drawn = [number(row[2]) for row in page.tables["histogram"][1:]]
    assert drawn == pytest.approx([100 * share for share in figures["scores"]["recent"]], abs=0.05)
    assert sum(figures["scores"]["recent"]) == pytest.approx(1)


def test_savings_are_exact_where_a_model_costs_the_same_each_time() -> None:
    """3 cents at the strongest, 1 at the cheapest, which gets three of four: (3 - 1) * 3 / 4 are saved of 3."""
    chosen = np.array([0] * 10 + [1] * 30)
    log = a_log(chosen, np.where(chosen == 0, 0.03, 0.01), strong=0.25)
    found = savings(log)
    assert found.below_strongest.value == pytest.approx(0.015)
    assert found.above_cheapest.value == pytest.approx(0.005)
    assert found.part == pytest.approx(0.5)


def test_interval_of_savings_is_that_of_the_mean_of_differences() -> None:
    """Where all cost alike at a model but for noise, the terms are known: their mean and standard error, by numpy."""
    generator = np.random.default_rng(3)
    chosen = (generator.random(4000) > 0.5).astype(np.int64)
    cost = np.where(chosen == 0, 0.03, 0.01) + generator.normal(0, 0.004, 4000)
    found = savings(a_log(chosen, cost)).below_strongest
    means = [cost[chosen == model].mean() for model in (0, 1)]
    strongest = means[0] + (chosen == 0) / 0.5 * (cost - means[0])
    as_it_was = (means[0] + means[1]) / 2 + cost - np.where(chosen == 0, *means)
    terms = strongest - as_it_was
    assert found.value == pytest.approx(terms.mean(), rel=1e-6)
    assert found.error == pytest.approx(terms.std(ddof=1) / 4000**0.5, rel=1e-3)


def a_log(chosen: Any, cost: Any, strong: float = 0.5) -> logged.Log:
    n = len(chosen)
    words = {name: np.full(n, "", np.str_) for name in ("left_out", "router", "version", "encoder_id", "text_hash")}
    return logged.Log(
        models=("strong", "cheap"),
        chosen=chosen,
        served=chosen,
        probabilities=np.tile([strong, 1 - strong], (n, 1)),
        win_rates=np.full((n, 2), 0.5),
        reward=np.full(n, np.nan),
        cost=cost,
        tokens_in=np.full(n, np.nan),
        cluster=np.arange(n),
        embeddings=np.zeros((n, 0), np.float32),
        features=np.zeros((n, 0), np.float32),
        **words,
    )


async def test_much_traffic_is_sampled_and_totals_are_of_all_of_it(
    replayed: Config, figures: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "MOST_REQUESTS", 700)
    store = Store(replayed.database_url)
    summaries = Summaries(replayed, store, lambda _: hosted(replayed))
    found = await summaries.get(30)
    await store.close()
    assert (found.decisions, found.part) == (2800, 0.25)
    assert abs(found.happened.requests - 700) < 4 * (2800 * 0.25 * 0.75) ** 0.5
    whole = figures["savings"]["requests"] * figures["savings"]["below_strongest"]["value"]
    assert found.total == pytest.approx(whole, rel=0.25)


async def test_figures_are_kept_for_a_minute(replayed: Config) -> None:
    store = Store(replayed.database_url)
    now = [time.time()]
    summaries = Summaries(replayed, store, lambda _: hosted(replayed), lambda: now[0])
    first = await summaries.get(1)
    now[0] += 59
    assert await summaries.get(1) is first
    now[0] += 2
    assert (await summaries.get(1)).made_at == now[0]
    await store.close()


def hosted(config: Config) -> Hosted:
    return hosting.load_scoring(config).hosted["mf"]


async def test_nothing_at_all_can_be_summed_up(tmp_path: Path) -> None:
    config = msgspec.structs.replace(nights.SETTINGS, data_dir=tmp_path)
    store = hosting.open_store(config)
    summaries = Summaries(config, store, lambda _: hosted(config))
    found = await summaries.get(30)
    await store.close()
    assert (found.happened.requests, found.savings.requests, found.curve.points) == (0, 0, ())


@pytest.mark.parametrize("days", ["0", "366", "-1", "1.5", "one", "²"])
def test_days_that_are_none_are_a_400_on_page_and_data(client: httpx.Client, days: str) -> None:
    answer = client.get(f"/v1/report/{days}")
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "days")
    assert client.get("/", params={"days": days}).status_code == 400


def test_target_is_what_the_policy_asks_for() -> None:
    def of(**changes: object) -> float | None:
        return summary.target(msgspec.structs.replace(nights.SETTINGS, **changes))

    assert of() == 0.4
    assert of(default="router-mf-0.3") is None
    assert of(policy=PolicyConfig(budget=Budget(strong_share=0.2))) == 0.2
    assert of(policy=PolicyConfig(budget=Budget(daily_dollars=3))) is None
    assert of(policy=PolicyConfig(quality_target=0.8)) is None


def test_histogram_has_every_score_once_and_the_calibrations_beside() -> None:
    rates = np.array([[0.5, 0.2], [0.5, 0.4], [0.5, 0.4], [0.5, 0.9]])
    log = a_log(np.zeros(4, np.int64), np.zeros(4))
    one = hosted(nights.SETTINGS)
    router = np.full(4, one.router.name)
    version = np.array([one.router.version] * 3 + ["another"])
    log = replace(log, win_rates=rates, router=router, version=version)
    known = Calibration("a sample", np.array([0.2, 0.3]))
    found = summary.scores(summary.serving(Hosted(one.router, one.ladder, known)), log, 0.3)
    assert found.requests == 3
    assert (sum(found.recent), sum(found.known or [])) == pytest.approx((1, 1))
    heavy = found.edges[int(np.argmax(found.recent))]
    assert heavy <= 0.4
    assert max(found.recent) == pytest.approx(2 / 3)
