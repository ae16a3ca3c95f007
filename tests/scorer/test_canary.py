"""A canary takes its share of the default's sessions, and is refused in one line where it cannot be."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import yaml

from scorer import arms, config, hosting
from scorer.config import ConfigError
from scorer.sections import Canary
from tests.conftest import Serve
from tests.scorer.arming import SESSIONS, configuration, started, version, versions_of
from tests.scorer.conftest import EASY, route


def test_a_canary_router_takes_its_share_of_those_who_ask_for_the_default(serve: Serve, tmp_path: Path) -> None:
    config = configuration(tmp_path, canary=Canary(0.3, "random"))
    replicas = [started(serve, config) for _ in range(2)]

    def routers(client: httpx.Client, **body: object) -> dict[str, str]:
        return {one: str(route(client, EASY, session_id=one, **body)["router"]) for one in SESSIONS}

    expected = {one: "random" if arms.canary(one, 0.3) else "mf" for one in SESSIONS}
    assert routers(replicas[0]) == routers(replicas[1]) == expected
    assert set(expected.values()) == {"mf", "random"}
    for named in ("router-mf", "router-mf-p50", "router-mf-0.5"):
        assert set(routers(replicas[0], model=named).values()) == {"mf"}
    canary, other = (next(one for one in SESSIONS if expected[one] == name) for name in ("random", "mf"))
    shown = replicas[0].get("/v1/routers").json()["routers"]
    for session, name in ((canary, "random"), (other, "mf")):
        answer = route(replicas[0], EASY, session_id=session)
        assert answer["threshold"] == shown[name]["thresholds"]["p50"]
        assert answer["version"] == shown[name]["version"]
    back = started(serve, configuration(tmp_path))
    assert set(routers(back).values()) == {"mf"}


def test_a_canary_version_is_hosted_beside_the_one_that_serves(serve: Serve, tmp_path: Path) -> None:
    config = configuration(tmp_path, canary=Canary(0.3, "mf", str(version(tmp_path, "new"))))
    client = started(serve, config)
    shipped = hosting.configured(config)["mf"].manifest.version
    found = versions_of(client)
    assert found == {one: "new" if arms.canary(one, 0.3) else shipped for one in SESSIONS}
    assert set(found.values()) == {"new", shipped}
    assert set(versions_of(client, model="router-mf").values()) == {shipped}
    answer = route(client, EASY, session_id=next(one for one in SESSIONS if found[one] == "new"))
    logged = client.get(f"/v1/decisions/{answer['decision_id']}").json()
    assert (answer["router"], answer["version"]) == ("mf", "new")
    assert logged["router"] == "mf"


@pytest.mark.parametrize(
    ("canary", "changes", "fault"),
    [
        (
            "{share: 0.1, router: bert}",
            {},
            "canary.router: 'bert' is not hosted; list it in `routers`, or say its artifact",
        ),
        ("{share: 0.1, router: nope}", {}, "canary.router: no router 'nope'; accepted: random, "),
        ("{share: 0.1, router: mf}", {}, "canary.router: 'mf' is the default already; name another version's artifact"),
        (
            "{share: 0.1, router: sw}",
            {"default": "router-mf-0.5"},
            "canary: 'router-mf-0.5' is a threshold, mf's alone",
        ),
        ("{share: 1, router: sw}", {}, "canary.share: expected `float` < 1"),
        ("{router: sw}", {}, "canary: object missing required field `share`"),
    ],
)
def test_a_canary_that_cannot_be_is_one_line(tmp_path: Path, canary: str, changes: dict[str, str], fault: str) -> None:
    path = tmp_path / "config.yaml"
    base = {"ladder": [{"model": "a"}, {"model": "b"}], "routers": {"mf": {}, "sw": {}}, "default": "router-mf-p50"}
    path.write_text(f"{yaml.safe_dump({**base, **changes})}canary: {canary}\n")
    with pytest.raises(ConfigError) as refused:
        config.load(path)
    assert str(refused.value).startswith(f"{path}: {fault}")
    assert "\n" not in str(refused.value)
