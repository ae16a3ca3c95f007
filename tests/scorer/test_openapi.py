"""The OpenAPI document is checked against the running daemon, whose answers must be what it describes."""

from __future__ import annotations

from typing import Any

import httpx
import jsonschema
import pytest

from gateway_plugin import ids
from tests.scorer.conftest import EASY, Start, route

UNKNOWN = "01900000-0000-7000-8000-000000000000"


def validated(document: dict[str, Any], answer: httpx.Response, path: str) -> int:
    """The answer's status, which the document must list, with a body that its schema accepts."""
    operation = document["paths"][path][answer.request.method.lower()]
    schema = operation["responses"][str(answer.status_code)]["content"]["application/json"]["schema"]
    jsonschema.validate(answer.json(), {**schema, "components": document["components"]})
    return answer.status_code


def test_every_described_path_is_served_and_every_served_path_described(start: Start) -> None:
    client = start()
    document = client.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method in operations:
            answer = client.request(method, path.format(decision_id=UNKNOWN, erasure_id=UNKNOWN, days=7))
            assert answer.json().get("error", {}).get("code") not in ("not_found", "method_not_allowed")
    assert set(document["paths"]) == {
        "/v1/route",
        "/v1/score",
        "/v1/routers",
        "/v1/feedback",
        "/v1/comparisons",
        "/v1/outcomes",
        "/v1/decisions/{decision_id}",
        "/v1/erasures",
        "/v1/erasures/{erasure_id}",
        "/v1/report/{days}",
        "/healthz",
        "/readyz",
    }


def test_answers_are_what_the_document_says(start: Start) -> None:
    client = start()
    document = client.get("/openapi.json").json()
    decision_id = route(client)["decision_id"]
    rated, unknown = {"decision_id": decision_id, "rating": "up"}, {"decision_id": UNKNOWN, "rating": "up"}
    pair = {"model_a": "strong", "model_b": "weak", "winner": "tie"}
    calls: list[tuple[str, str, object, int]] = [
        ("POST", "/v1/route", {"prompt": EASY}, 200),
        ("POST", "/v1/route", {"prompt": 3}, 400),
        ("POST", "/v1/score", {"prompts": [EASY, "Hi"]}, 200),
        ("POST", "/v1/score", {"prompts": EASY}, 400),
        ("GET", "/v1/routers", None, 200),
        ("POST", "/v1/feedback", rated, 201),
        ("POST", "/v1/feedback", {"decision_id": ids.mint(), "rating": "up"}, 202),
        ("POST", "/v1/feedback", unknown, 404),
        ("POST", "/v1/feedback", {}, 400),
        ("POST", "/v1/comparisons", {**pair, "prompt": EASY}, 201),
        ("POST", "/v1/comparisons", {**pair, "decision_id": ids.mint()}, 202),
        ("POST", "/v1/comparisons", {**pair, "decision_id": UNKNOWN}, 404),
        ("POST", "/v1/comparisons", pair, 400),
        ("POST", "/v1/outcomes", [{"decision_id": decision_id, "status": "success"}], 200),
        ("POST", "/v1/outcomes", [{"decision_id": decision_id}], 400),
        ("GET", "/healthz", None, 200),
        ("GET", "/readyz", None, 200),
    ]
    for method, path, body, status in calls:
        assert validated(document, client.request(method, path, json=body), path) == status
    path = "/v1/decisions/{decision_id}"
    assert validated(document, client.get(path.format(decision_id=decision_id)), path) == 200
    assert validated(document, client.get(path.format(decision_id=UNKNOWN)), path) == 404


@pytest.mark.parametrize("token", [None, "Bearer wrong"])
def test_missing_or_wrong_token_is_described_too(start: Start, token: str | None) -> None:
    client = start(token="correct-horse")
    document = client.get("/openapi.json").json()
    answer = client.get("/v1/routers", headers={"Authorization": token} if token else {})
    assert validated(document, answer, "/v1/routers") == 401
