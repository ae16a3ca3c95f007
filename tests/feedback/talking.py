"""A client of the feedback endpoints, and what stands behind them."""

from typing import Any

import httpx

from feedback.plugins import Plugins
from feedback.store import Store


class Daemon:
    """A client of the feedback endpoints, and what stands behind them."""

    def __init__(self, url: str, store: Store, plugins: Plugins, client: httpx.Client) -> None:
        self.url, self.store, self.plugins, self.client = url, store, plugins, client

    def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        return self.client.post(path, json=body, headers={name.replace("_", "-"): headers[name] for name in headers})

    def rate(self, decision_id: str, rating: str = "up", **more: Any) -> httpx.Response:
        return self.post("/v1/feedback", {"decision_id": decision_id, "rating": rating, **more})

    def read(self, decision_id: str) -> dict[str, Any]:
        answer = self.client.get(f"/v1/decisions/{decision_id}")
        assert answer.status_code == 200, answer.text
        whole: dict[str, Any] = answer.json()
        return whole


def problem(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code and field of an error, whose message is one line that names the field."""
    error = answer.json()["error"]
    field = error.get("field")
    assert "\n" not in error["message"]
    assert error["message"].startswith(field or "")
    return answer.status_code, error["code"], field


PAIR = {"model_a": "strong", "model_b": "cheap", "winner": "model_b"}
