"""The HTTP endpoints for ratings, outcomes and decisions: parse, call, answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from feedback.database import Unavailable
from feedback.plugins import PluginReport, Plugins
from feedback.records import Outcome, Rating, Receipt, Record
from feedback.store import Idempotency, KeyReused, Store, UnknownDecision
from feedback.writer import DecisionWriter
from gateway_plugin import ids
from scorer.decisions import Decision
from scorer.web import JSON, Endpoint, Problem, decode, read_body

_FEEDBACK_BYTES = 64 * 1024
_OUTCOMES_BYTES = 4 * 2**20
_KEY_CHARACTERS = 255
_VALUES = {"up": 1.0, "down": 0.0, "none": None}
_DECISION_FIELDS = tuple(name for name in Decision.__struct_fields__ if name not in ("embedding", "features"))


class Feedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/feedback`; `none` retracts."""

    decision_id: str
    rating: Literal["up", "down", "none"]
    comment: Annotated[str, msgspec.Meta(max_length=4000)] | None = None
    user: Annotated[str, msgspec.Meta(max_length=256)] | None = None


class OutcomeReport(msgspec.Struct, frozen=True):
    """The body of `POST /v1/outcomes`, unless it is the bare list. Newer plugins may send more fields."""

    outcomes: list[Outcome] = []
    plugin: PluginReport | None = None


class Recorded(msgspec.Struct, frozen=True):
    """How many outcomes are on record now."""

    recorded: int


_OUTCOMES = cast("type[list[Outcome] | OutcomeReport]", list[Outcome] | OutcomeReport)


def endpoints(store: Store, writer: DecisionWriter, plugins: Plugins) -> list[Endpoint]:
    """The feedback endpoints as data."""

    async def feedback(request: Request) -> Response:
        body = decode(await read_body(request, _FEEDBACK_BYTES), Feedback)
        _check_id(body.decision_id, "decision_id")
        rating = Rating(
            decision_id=body.decision_id,
            value=_VALUES[body.rating],
            user=body.user or "",
            comment=body.comment,
        )
        known = writer.pending(body.decision_id) is not None
        with _problems():
            receipt = await store.rate(rating, _idempotency(request, body), known)
        return JSON(receipt, status_code=201 if receipt.status == "stored" else 202)

    async def outcomes(request: Request) -> Response:
        body = decode(await read_body(request, _OUTCOMES_BYTES), _OUTCOMES)
        report, path = (OutcomeReport(body), "") if isinstance(body, list) else (body, "outcomes")
        for position, outcome in enumerate(report.outcomes):
            _check_id(outcome.decision_id, f"{path}[{position}].decision_id")
        if report.plugin:
            plugins.report(report.plugin)
        with _problems():
            await store.record_outcomes(report.outcomes)
        return JSON(Recorded(len(report.outcomes)))

    async def decision(request: Request) -> Response:
        decision_id = request.path_params["decision_id"]
        _check_id(decision_id, "decision_id")
        unwritten = writer.pending(decision_id)  # asked first: what leaves the queue afterwards is in the store
        with _problems():
            record = await store.decision(decision_id, unwritten)
        if record is None:
            raise Problem(404, "unknown_decision", f"no decision {decision_id}")
        return JSON(_whole(decision_id, record))

    return [
        Endpoint(
            "POST",
            "/v1/feedback",
            feedback,
            "Rate a served answer. 202: nobody has heard of the decision yet; the rating joins it when it arrives.",
            answers={201: Receipt, 202: Receipt},
            body=Feedback,
            errors=(400, 401, 404, 408, 409, 413, 503),
            headers=("Idempotency-Key",),
        ),
        Endpoint(
            "POST",
            "/v1/outcomes",
            outcomes,
            "Report what became of routed requests.",
            answers={200: Recorded},
            body=_OUTCOMES,
            errors=(400, 401, 408, 413, 503),
        ),
        Endpoint(
            "GET",
            "/v1/decisions/{decision_id}",
            decision,
            "A whole decision with its outcome and ratings.",
            answers={200: dict[str, Any]},
            errors=(400, 401, 404, 503),
        ),
    ]


def _whole(decision_id: str, record: Record) -> dict[str, object]:
    """The decision, flat; where it was never made, what the outcome says in its place, or null."""
    decided = {name: getattr(record.decision or record.outcome, name, None) for name in _DECISION_FIELDS}
    known = {"decision_id": decision_id, "created_at": decided["created_at"] or ids.minted_at(decision_id)}
    return {**decided, **known, "status": record.status, "outcome": record.outcome, "ratings": record.ratings}


def _check_id(decision_id: str, field: str) -> None:
    try:
        ids.minted_at(decision_id)
    except ValueError:
        raise Problem(400, "bad_request", f"{field}: expected a UUIDv7, lower case, with hyphens", field) from None


def _idempotency(request: Request, body: Feedback) -> Idempotency | None:
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not (key and len(key) <= _KEY_CHARACTERS and key.isascii() and key.isprintable()):
        fault = f"Idempotency-Key: expected 1 to {_KEY_CHARACTERS} printable ASCII characters"
        raise Problem(400, "bad_request", fault, "Idempotency-Key")
    return Idempotency(key, hashlib.sha256(msgspec.json.encode(body)).hexdigest())


@contextmanager
def _problems() -> Iterator[None]:
    """The store's exceptions as answers."""
    try:
        yield
    except UnknownDecision as error:
        fault = f"decision_id: no decision {error}, and it is too old to be still on its way"
        raise Problem(404, "unknown_decision", fault, "decision_id") from None
    except KeyReused:
        fault = "Idempotency-Key: it came before, with another body"
        raise Problem(409, "key_reused", fault, "Idempotency-Key") from None
    except Unavailable:
        fault = "the database does not answer; try again"
        raise Problem(503, "unavailable", fault, headers={"retry-after": "1"}) from None
