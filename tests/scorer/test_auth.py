"""Whom the daemon answers: which call needs which scope, for every route, and what the others are told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway_plugin import ids
from scorer import daemon
from scorer.auth import Guard, address
from scorer.config import Config
from scorer.encoder import Encoder
from scorer.sections import GatewayConfig, Limits, Rate, Rung, TokensConfig
from scorer.tokens import Tokens
from scorer.web import Problem
from tests.conftest import served
from tests.scorer.conftest import EASY

TOKENS = {scope: f"a-token-for-{scope}" for scope in ("route", "feedback", "admin", "metrics")}
ALL = "one-token-for-everything"
LADDER = (Rung("gpt-4o", like="gpt-4-1106-preview"), Rung("gpt-4o-mini", like="mixtral-8x7b-instruct-v0.1"))
BODIES: dict[str, Any] = {"/v1/route": {"prompt": EASY}, "/v1/outcomes": [], "/v1/score": {"prompts": [EASY]}}

SCOPES: dict[tuple[str, str], set[str]] = {
    ("post", "/v1/route"): {"route"},
    ("post", "/v1/score"): {"route", "admin"},
    ("post", "/v1/outcomes"): {"route"},
    ("get", "/v1/routers"): {"route", "admin"},
    ("post", "/v1/feedback"): {"feedback"},
    ("post", "/v1/comparisons"): {"feedback"},
    ("get", "/v1/decisions/{decision_id}"): {"admin"},
    ("get", "/v1/report/{days}"): {"admin"},
    ("post", "/v1/chat/completions"): {"route"},
    ("get", "/v1/models"): {"route"},
    ("post", "/v1/erasures"): {"admin"},
    ("get", "/v1/erasures/{erasure_id}"): {"admin"},
    ("get", "/healthz"): set(TOKENS),
    ("get", "/readyz"): set(TOKENS),
}
"""Who may call what; a call that is not named here is the admin's."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Config:
    granted = TokensConfig(**{scope: (token, f"{token}-next") for scope, token in TOKENS.items()})
    return Config(LADDER, token=ALL, tokens=granted, data_dir=tmp_path_factory.mktemp("auth"), gateway=GatewayConfig())


@pytest.fixture(scope="module")
def client(config: Config) -> Iterator[httpx.Client]:
    with served(daemon.build(config)) as url, httpx.Client(base_url=url, timeout=30) as opened:
        yield opened


@pytest.fixture(scope="module")
def operations(client: httpx.Client) -> dict[tuple[str, str], Any]:
    """All that the OpenAPI document describes."""
    paths = client.get("/openapi.json").json()["paths"]
    return {(method, path): operation for path, methods in paths.items() for method, operation in methods.items()}


def call(client: httpx.Client, method: str, path: str, token: str | None) -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    body = BODIES.get(path, {}) if method in ("post", "put", "patch") else None
    return client.request(method, re.sub(r"{\w+}", "nobody", path), headers=headers, json=body)


def test_every_route_answers_tokens_of_its_scopes_and_no_others(
    client: httpx.Client, operations: dict[tuple[str, str], Any]
) -> None:
    assert set(SCOPES) <= set(operations)
    for method, path in operations:
        wanted = SCOPES.get((method, path), {"admin"})
        for scope, token in TOKENS.items():
            for one in (token, f"{token}-next"):
                answer = call(client, method, path, one)
                told = answer.status_code == 403 and answer.json()["error"]["code"] == "insufficient_scope"
                assert told == (scope not in wanted), (method, path, scope, answer.text)
                assert answer.status_code != 401


def test_every_route_but_health_refuses_who_has_no_token(
    client: httpx.Client, operations: dict[tuple[str, str], Any]
) -> None:
    for method, path in operations:
        for token in (None, "nonsense", TOKENS["route"][:-1], ALL[1:]):
            status = call(client, method, path, token).status_code
            assert (status == 401) == (path not in ("/healthz", "/readyz")), (method, path, token)


def test_the_one_token_opens_every_route(client: httpx.Client, operations: dict[tuple[str, str], Any]) -> None:
    for method, path in operations:
        assert call(client, method, path, ALL).status_code not in (401, 403)


def test_the_document_says_which_scopes(operations: dict[tuple[str, str], Any]) -> None:
    for (method, path), wanted in SCOPES.items():
        described = {scope for one in operations[method, path]["security"] for scope in one.get("token", [])}
        assert described - {"rating"} == (wanted if path not in ("/healthz", "/readyz") else set())


def test_refusals_are_one_line_that_says_what_is_missing(client: httpx.Client) -> None:
    answers = [call(client, "get", "/v1/report/{days}", token) for token in (None, "nonsense", TOKENS["route"])]
    assert [(one.status_code, one.json()["error"]["message"], one.headers["www-authenticate"]) for one in answers] == [
        (401, "this call takes a token; expected `Authorization: Bearer <token>`", "Bearer"),
        (
            401,
            "this token is not known here, or has expired; expected `Authorization: Bearer <token>`",
            'Bearer error="invalid_token"',
        ),
        (
            403,
            "this token is for route; this call takes one for admin",
            'Bearer error="insufficient_scope", scope="admin"',
        ),
    ]


def test_metrics_are_closed_by_a_token_for_them(client: httpx.Client, config: Config, tmp_path: Path) -> None:
    statuses = {scope: call(client, "get", "/metrics", token).status_code for scope, token in TOKENS.items()}
    assert statuses == {"route": 403, "feedback": 403, "admin": 200, "metrics": 200}
    assert client.get("/metrics").status_code == 401
    assert 'call="/v1/report/{days}",status="401"' in call(client, "get", "/metrics", ALL).text
    without = msgspec.structs.replace(config, tokens=TokensConfig(route=(TOKENS["route"],)), data_dir=tmp_path)
    with served(daemon.build(without)) as url:
        assert httpx.get(f"{url}/metrics").status_code == 200


def test_the_dashboard_takes_an_admins_token_alone(client: httpx.Client) -> None:
    def login(token: str) -> int:
        return client.post("/login", data={"token": token}).status_code

    assert [login(TOKENS[scope]) for scope in ("route", "feedback", "metrics")] == [403] * 3
    assert [login(token) for token in (TOKENS["admin"], f"{TOKENS['admin']}-next", ALL)] == [303] * 3
    client.cookies.clear()
    assert client.get("/decisions").status_code == 303


def test_the_dashboard_is_closed_where_no_token_is_an_admins(config: Config, tmp_path: Path) -> None:
    changes = {"token": None, "tokens": TokensConfig(route=(TOKENS["route"],)), "data_dir": tmp_path}
    with served(daemon.build(msgspec.structs.replace(config, **changes))) as url:
        assert httpx.get(url).headers["location"].startswith("/login")
        assert httpx.post(f"{url}/login", data={"token": TOKENS["route"]}).status_code == 403
        assert httpx.get(f"{url}/v1/report/7", headers={"authorization": "Bearer x"}).status_code == 401


# Without tokens


def admitted(guard: Guard, client: tuple[str, int] = ("127.0.0.1", 1), **headers: str) -> int:
    """The status that the guard would answer a call of /v1/route with."""
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    try:
        guard.admit({"type": "http", "headers": sent, "client": client}, ("route",))
    except Problem as problem:
        return problem.status
    return 200


def test_without_tokens_programs_on_this_machine_are_answered_and_web_pages_are_not() -> None:
    guard = Guard(Tokens({}))
    assert [admitted(guard, host=host) for host in ("localhost:4141", "127.0.0.1", "[::1]:4141")] == [200] * 3
    assert [admitted(guard, host=host) for host in ("rebound.example:4141", "", "[127.0.0.1")] == [403] * 3
    assert admitted(guard, host="localhost:4141", origin="https://evil.example") == 403
    assert admitted(guard, host="localhost:4141", origin="null") == 403


def test_with_tokens_any_name_and_origin_will_do() -> None:
    guard = Guard(Tokens({ALL: ["route"]}))
    assert admitted(guard, host="x.example", origin="https://y.example", authorization=f"Bearer {ALL}") == 200


def test_the_scheme_is_bearer_in_any_case() -> None:
    guard = Guard(Tokens({ALL: ["route"]}))
    sent = [form.format(ALL) for form in ("bearer {}", "BEARER  {} ", "Basic {}", "{}", "Bearer{}", "")]
    assert [admitted(guard, authorization=one) for one in sent] == [200, 200, 401, 401, 401, 401]


# How often


def test_every_token_and_every_address_without_one_has_a_bucket() -> None:
    guard = Guard(Tokens({"one": ["route"], "other": ["route"]}), rate=Rate(0.01, 2))
    for token in ("one", "other"):
        assert [admitted(guard, authorization=f"Bearer {token}") for _ in range(3)] == [200, 200, 429]
    assert [admitted(guard, authorization="Bearer guess") for _ in range(3)] == [401, 401, 429]
    assert admitted(guard, ("127.0.0.2", 1), authorization="Bearer guess") == 401
    assert admitted(guard, authorization="Bearer one") == 429


def test_too_many_requests_are_told_when_to_come_back(config: Config, tmp_path: Path) -> None:
    limits = Limits(rate=Rate(per_second=0.05, most_at_once=1))
    with served(daemon.build(msgspec.structs.replace(config, limits=limits, data_dir=tmp_path))) as url:
        headers = {"authorization": f"Bearer {ALL}"}
        assert httpx.get(f"{url}/v1/routers", headers=headers).status_code == 200
        answer = httpx.get(f"{url}/v1/routers", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many_requests")
        assert 18 <= int(answer.headers["retry-after"]) <= 20
        assert httpx.get(f"{url}/healthz").status_code == 200


@pytest.mark.parametrize(
    ("client", "name"),
    [
        (("10.0.0.7", 1), "10.0.0.7"),
        (("2001:db8::1:2", 1), "2001:db8::/64"),
        (("2001:db8::ffff", 1), "2001:db8::/64"),
        (("fe80::1%eth0", 1), "fe80::/64"),
        (None, ""),
    ],
)
def test_a_client_is_its_address_or_its_ipv6_network(client: tuple[str, int] | None, name: str) -> None:
    assert address({"type": "http", "client": client}) == name


# How large


def test_every_route_that_takes_a_body_limits_it_however_it_comes(
    client: httpx.Client, operations: dict[tuple[str, str], Any]
) -> None:
    chunk = b'{"prompt": "' + b"x" * (2**20 - 12)
    for method, path in operations:
        if "requestBody" not in operations[method, path]:
            continue
        for content in (chunk * 17, (chunk for _ in range(17))):  # with its length, and in chunks without
            answer = client.request(method, path, content=content, headers={"authorization": f"Bearer {ALL}"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large"), path
    assert client.post("/login", content=(chunk for _ in range(2))).status_code == 413


def test_ids_are_not_taken_for_paths(client: httpx.Client) -> None:
    for path in (f"/v1/decisions/{ids.mint()}%2F..", "/v1//report/7", "/v1/report/7/", "/V1/report/7"):
        assert client.get(path, headers={"authorization": f"Bearer {TOKENS['route']}"}).status_code in (307, 403, 404)
