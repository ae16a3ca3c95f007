"""The HTTP endpoints for ratings, outcomes and decisions: parse, call, answer."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from feedback import askers
from feedback.database import Unavailable
from feedback.keys import Idempotency, KeyReused
from feedback.plugins import PluginReport, Plugins
from feedback.ratings import AmbiguousCall, UnknownCall, UnknownDecision
from feedback.records import THUMBS, Comparison, ComparisonReceipt, Rating, Receipt, Record, SampledOutcome, worth
from feedback.store import Store
from feedback.writer import DecisionWriter
from gateway_plugin import ids
from scorer.decisions import Decision, KeptPrompt
from scorer.tokens import caller
from scorer.web import JSON, Endpoint, Problem, decode, read_body

_FEEDBACK_BYTES = 64 * 1024
_COMPARISON_BYTES = 2**20
_OUTCOMES_BYTES = 4 * 2**20
_KEY_CHARACTERS = 255
_DECISION_FIELDS = tuple(name for name in Decision.__struct_fields__ if name not in ("embedding", "features"))


Keep = Callable[[str], Awaitable[KeptPrompt]]
Take = Callable[[Sequence[SampledOutcome]], Awaitable[None]]
Explain = Callable[[Decision], Awaitable[dict[str, Any]]]
Person = Annotated[str, msgspec.Meta(max_length=256)]
Model = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class Feedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/feedback`: a decision or a LiteLLM call, and a thumb or stars; `none` retracts either."""

    decision_id: str | None = None
    call_id: Annotated[str, msgspec.Meta(min_length=1, max_length=512)] | None = None
    rating: Literal["up", "down", "none"] | None = None
    stars: Annotated[int, msgspec.Meta(ge=1, le=5)] | None = None
    comment: Annotated[str, msgspec.Meta(max_length=4000)] | None = None
    tags: Annotated[list[Annotated[str, msgspec.Meta(max_length=64)]], msgspec.Meta(max_length=20)] = []
    user: Person | None = None


class Preference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/comparisons`: whose answer is better, to a decision's prompt or to the one given here."""

    model_a: Model
    model_b: Model
    winner: Literal["model_a", "model_b", "tie"]
    decision_id: str | None = None
    prompt: Annotated[str, msgspec.Meta(max_length=200_000)] | None = None
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = "human"
    user: Person | None = None


class OutcomeReport(msgspec.Struct, frozen=True):
    """The body of `POST /v1/outcomes`, unless it is the bare list. Newer plugins may send more fields."""

    outcomes: list[SampledOutcome] = []
    plugin: PluginReport | None = None


class Recorded(msgspec.Struct, frozen=True):
    """How many outcomes are on record now."""

    recorded: int


_OUTCOMES = cast("type[list[SampledOutcome] | OutcomeReport]", list[SampledOutcome] | OutcomeReport)


def endpoints(
    store: Store,
    writer: DecisionWriter,
    plugins: Plugins,
    keep: Keep,
    explain: Explain,
    judge: Take | None = None,
) -> list[Endpoint]:
    """The feedback endpoints as data. `keep` says what is kept of a prompt that comes with a comparison; `explain`
    says what fed a decision; `judge` takes the answers that come with outcomes."""

    async def feedback(request: Request) -> Response:
        body = decode(await read_body(request, _FEEDBACK_BYTES), Feedback)
        rating, idempotency = _rating(body), _idempotency(request, body)
        sender = caller(request)
        with _problems():
            if sender and sender.decision_id:
                rating = await askers.own(rating, sender, store, writer)
            if body.call_id is not None:
                unwritten = writer.called(body.call_id)
                receipt = await store.rate_call(body.call_id, rating, idempotency, unwritten)
            else:
                known = writer.pending(rating.decision_id) is not None
                receipt = await store.rate(rating, idempotency, known)
        return JSON(receipt, status_code=201 if receipt.status == "stored" else 202)

    async def comparisons(request: Request) -> Response:
        body = decode(await read_body(request, _COMPARISON_BYTES), Preference)
        comparison, idempotency = await _comparison(body, keep), _idempotency(request, body)
        known = body.decision_id is not None and writer.pending(body.decision_id) is not None
        with _problems():
            receipt = await store.compare(comparison, idempotency, known)
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
            if judge:
                await judge(report.outcomes)
        return JSON(Recorded(len(report.outcomes)))

    async def decision(request: Request) -> Response:
        decision_id = request.path_params["decision_id"]
        _check_id(decision_id, "decision_id")
        unwritten = writer.pending(decision_id)  # asked first: what leaves the queue afterwards is in the store
        with _problems():
            record = await store.decision(decision_id, unwritten)
        if record is None:
            raise Problem(404, "unknown_decision", f"no decision {decision_id}")
        with _problems():
            explained = await explain(record.decision) if record.decision else None
        return JSON(_whole(decision_id, record, explained))

    return [
        Endpoint(
            "POST",
            "/v1/feedback",
            feedback,
            "Rate a served answer. 202: nobody has heard of the decision yet; the rating joins it when it arrives.",
            answers={201: Receipt, 202: Receipt},
            body=Feedback,
            errors=(400, 403, 404, 408, 409, 413, 503),
            headers=("Idempotency-Key",),
            scopes=("feedback", "rating"),
        ),
        Endpoint(
            "POST",
            "/v1/comparisons",
            comparisons,
            "Say which of two models answers a prompt better. 202: as for feedback.",
            answers={201: ComparisonReceipt, 202: ComparisonReceipt},
            body=Preference,
            errors=(400, 404, 408, 409, 413, 503),
            headers=("Idempotency-Key",),
            scopes=("feedback",),
        ),
        Endpoint(
            "POST",
            "/v1/outcomes",
            outcomes,
            "Report what became of routed requests.",
            answers={200: Recorded},
            body=_OUTCOMES,
            errors=(400, 408, 413, 503),
            scopes=("route",),
        ),
        Endpoint(
            "GET",
            "/v1/decisions/{decision_id}",
            decision,
            "A whole decision with its outcome and ratings.",
            answers={200: dict[str, Any]},
            errors=(400, 404, 503),
            scopes=("admin",),
        ),
    ]


def _rating(body: Feedback) -> Rating:
    """Raises Problem 400."""
    _check_one("decision_id", body.decision_id, "call_id", body.call_id)
    _check_one("rating", body.rating, "stars", body.stars)
    if body.decision_id is not None:
        _check_id(body.decision_id, "decision_id")
    return Rating(
        decision_id=body.decision_id or "",  # of a call, the store finds it
        kind="stars" if body.stars else "thumb",
        value=worth(body.stars) if body.stars else THUMBS[body.rating or "none"],
        user=body.user or "",
        comment=body.comment,
        tags=tuple(body.tags),
    )


async def _comparison(body: Preference, keep: Keep) -> Comparison:
    """With what is kept of a prompt of its own. Raises Problem."""
    _check_one("decision_id", body.decision_id, "prompt", body.prompt)
    if body.model_a == body.model_b:
        raise Problem(400, "bad_request", "model_b: expected another model than model_a", "model_b")
    prompt = {}
    if body.decision_id is not None:
        _check_id(body.decision_id, "decision_id")
    if body.prompt is not None:
        if not body.prompt.strip():
            raise Problem(400, "bad_request", "prompt: expected a text", "prompt")
        prompt = (await keep(body.prompt))._asdict()
    return Comparison(
        decision_id=body.decision_id,
        model_a=body.model_a,
        model_b=body.model_b,
        winner=body.winner,
        source=body.source,
        user=body.user or "",
        **prompt,
    )


def _check_one(field: str, value: object, other: str, other_value: object) -> None:
    """Raises Problem 400 unless exactly one of the two is given."""
    if value is None and other_value is None:
        raise Problem(400, "bad_request", f"{field}: missing; expected it or {other}", field)
    if value is not None and other_value is not None:
        raise Problem(400, "bad_request", f"{other}: expected it or {field}, not both", other)


def _whole(decision_id: str, record: Record, explained: dict[str, Any] | None) -> dict[str, object]:
    """The decision, flat; where it was never made, what the outcome says in its place, or null."""
    decided = {name: getattr(record.decision or record.outcome, name, None) for name in _DECISION_FIELDS}
    known = {"decision_id": decision_id, "created_at": decided["created_at"] or ids.minted_at(decision_id)}
    told = {"status": record.status, "outcome": record.outcome, "ratings": record.ratings, "explanation": explained}
    return {**decided, **known, **told}


def _check_id(decision_id: str, field: str) -> None:
    try:
        ids.minted_at(decision_id)
    except ValueError:
        raise Problem(400, "bad_request", f"{field}: expected a UUIDv7, lower case, with hyphens", field) from None


def _idempotency(request: Request, body: msgspec.Struct) -> Idempotency | None:
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not (key and len(key) <= _KEY_CHARACTERS and key.isascii() and key.isprintable()):
        fault = f"Idempotency-Key: expected 1 to {_KEY_CHARACTERS} printable ASCII characters"
        raise Problem(400, "bad_request", fault, "Idempotency-Key")
    sender = caller(request)
    if sender and sender.decision_id:
        key = f"{sender.decision_id} {key}"  # a stranger's, who shall not use up anybody else's
    return Idempotency(key, hashlib.sha256(msgspec.json.encode(body)).hexdigest())


@contextmanager
def _problems() -> Iterator[None]:
    """The store's exceptions as answers."""
    try:
        yield
    except UnknownDecision as error:
        fault = f"decision_id: no decision {error}, and it is too old to be still on its way"
        raise Problem(404, "unknown_decision", fault, "decision_id") from None
    except UnknownCall:
        fault = "call_id: no decision on such a call; one that was just made may be known in a moment"
        raise Problem(404, "unknown_call", fault, "call_id") from None
    except AmbiguousCall:
        fault = "call_id: several decisions on calls of that id; give the decision_id"
        raise Problem(409, "ambiguous_call", fault, "call_id") from None
    except KeyReused:
        fault = "Idempotency-Key: it came before, with another body"
        raise Problem(409, "key_reused", fault, "Idempotency-Key") from None
    except Unavailable:
        fault = "the database does not answer; try again"
        raise Problem(503, "unavailable", fault, headers={"retry-after": "1"}) from None
