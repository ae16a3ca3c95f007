"""Bodies that are wrong, or anything at all: a 400 that names the field, never a 500."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scorer.decisions import Decision
from tests.feedback.examples import id_aged
from tests.feedback.talking import Daemon, problem

ID = "01900000-0000-7000-8000-000000000000"
BAD_FEEDBACK: list[tuple[object, str | None]] = [
    ({"rating": "up"}, "decision_id"),
    ({"decision_id": 1, "rating": "up"}, "decision_id"),
    ({"decision_id": "", "rating": "up"}, "decision_id"),
    ({"decision_id": ID.replace("-", ""), "rating": "up"}, "decision_id"),
    ({"decision_id": ID + "\n", "rating": "up"}, "decision_id"),
    ({"decision_id": ID[:-1] + "\0", "rating": "up"}, "decision_id"),
    ({"decision_id": "6b9f5c1e-3f1d-4c6a-9c39-1d0a3d9f2b11", "rating": "up"}, "decision_id"),
    ({"decision_id": ID}, "rating"),
    ({"decision_id": ID, "rating": "Up"}, "rating"),
    ({"decision_id": ID, "rating": True}, "rating"),
    ({"decision_id": ID, "rating": "up", "stars": 3}, "stars"),
    ({"decision_id": ID, "stars": 0}, "stars"),
    ({"decision_id": ID, "stars": 6}, "stars"),
    ({"decision_id": ID, "stars": 2.5}, "stars"),
    ({"decision_id": ID, "call_id": "call-1", "rating": "up"}, "call_id"),
    ({"call_id": "", "rating": "up"}, "call_id"),
    ({"decision_id": ID, "rating": "up", "tags": ["t" * 65]}, "tags[0]"),
    ({"decision_id": ID, "rating": "up", "tags": ["t"] * 21}, "tags"),
    ({"decision_id": ID, "rating": "up", "comment": "c" * 4001}, "comment"),
    ({"decision_id": ID, "rating": "up", "user": "u" * 257}, "user"),
    ({"decision_id": ID, "rating": "up", "thumb": 1}, "thumb"),
    ([], None),
]


def test_a_bad_feedback_body_names_the_field(daemon: Daemon) -> None:
    for body, field in BAD_FEEDBACK:
        assert problem(daemon.post("/v1/feedback", body)) == (400, "bad_request", field), body


def test_what_is_not_json_is_400(daemon: Daemon) -> None:
    for body in (b"", b"{", b"\xff", b'{"comment": "\\ud800"}', b"[" * 60_000):
        for path in ("/v1/feedback", "/v1/comparisons", "/v1/outcomes"):
            assert problem(daemon.client.post(path, content=body))[0] == 400, body


def test_bodies_have_a_limit(daemon: Daemon) -> None:
    assert problem(daemon.client.post("/v1/feedback", content=b" " * 70_000)) == (413, "too_large", None)
    assert problem(daemon.client.post("/v1/outcomes", content=b" " * 5_000_000)) == (413, "too_large", None)


def test_any_text_can_be_a_comment(daemon: Daemon, decision: Decision) -> None:
    comment = "\0 \U0001f642 \u202e ' ; DROP TABLE ratings; --" + "\U0001f642" * 3900
    assert daemon.rate(decision.decision_id, comment=comment, user="a\0b").status_code == 201
    (rating,) = daemon.read(decision.decision_id)["ratings"]
    assert (rating["comment"], rating["user"]) == (comment.replace("\0", "\ufffd"), "a\ufffdb")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
IDS = st.builds(id_aged, st.floats(-1e6, 1e6)) | st.uuids().map(str) | st.text(max_size=40)
FEEDBACK = st.fixed_dictionaries(
    {"decision_id": IDS | JSON_VALUES, "rating": st.sampled_from(["up", "down", "none"]) | JSON_VALUES},
    optional={
        "comment": st.text() | JSON_VALUES,
        "user": st.text() | JSON_VALUES,
        "call_id": st.text() | JSON_VALUES,
        "stars": st.integers() | JSON_VALUES,
        "tags": st.lists(st.text()) | JSON_VALUES,
        "more": JSON_VALUES,
    },
)
CALL = st.fixed_dictionaries({"call_id": st.text(), "stars": st.integers(0, 6)})
COMPARISON = st.fixed_dictionaries(
    {"model_a": st.text(max_size=3), "model_b": st.text(max_size=3), "winner": st.sampled_from(["model_a", "tie"])},
    optional={"decision_id": IDS, "prompt": st.text(), "user": st.text() | JSON_VALUES, "source": st.text()},
)
LIKELY = st.fixed_dictionaries(
    {"decision_id": st.builds(id_aged, st.floats(0, 500)), "rating": st.sampled_from(["up", "down", "none"])},
    optional={"comment": st.text(), "user": st.text()},
)
OUTCOME = st.fixed_dictionaries(
    {
        "decision_id": st.builds(id_aged, st.floats(-1e6, 1e6)),
        "status": st.sampled_from(["success", "failure", "fallback", "rejected"]),
    },
    optional={
        "served": st.text(),
        "error": st.text() | st.none(),
        "tokens_in": st.integers(0, 2**53),
        "cost": st.floats(0, allow_infinity=False, allow_nan=False),
        "stream": st.booleans() | st.none(),
        "more": JSON_VALUES,
    },
)
OUTCOMES = st.lists(OUTCOME | JSON_VALUES, max_size=4)
REPORT = OUTCOMES | st.fixed_dictionaries({}, optional={"outcomes": OUTCOMES | JSON_VALUES, "plugin": JSON_VALUES})


def test_no_body_is_ever_answered_with_a_server_error(daemon: Daemon) -> None:
    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        path=st.sampled_from(["/v1/feedback", "/v1/comparisons", "/v1/outcomes"]),
        body=(FEEDBACK | CALL | COMPARISON | LIKELY | REPORT | JSON_VALUES).map(lambda body: json.dumps(body).encode())
        | st.binary(max_size=50),
        key=st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=5),
    )
    def answered(path: str, body: bytes, key: str | None) -> None:
        headers = {} if key is None else {"idempotency-key": key}
        answer = daemon.client.post(path, content=body, headers=headers)
        assert answer.status_code in (200, 201, 202, 400, 404, 409)
        if answer.status_code >= 400:
            problem(answer)

    answered()


def test_likely_bodies_are_accepted(daemon: Daemon) -> None:
    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
    @given(body=LIKELY)
    def accepted(body: dict[str, Any]) -> None:
        assert daemon.post("/v1/feedback", body).status_code == 202

    accepted()
