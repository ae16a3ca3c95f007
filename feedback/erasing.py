"""The HTTP endpoints for erasures: asked for here, carried out by a process (feedback/erasure.py)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from feedback.records import Erasure
from feedback.store import Store
from feedback.writer import DecisionWriter
from scorer.web import JSON, Endpoint, Problem, decode, read_body

_BODY_BYTES = 16 * 1024
_FLUSH_SECONDS = 5.0


class EraseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/erasures`: in no address, since those are logged on the way."""

    user: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]  # as decisions keep it


class ErasureAnswer(msgspec.Struct, frozen=True):
    """How an erasure goes, without the user's id. status: asked, removed (rows are gone), rebuilt (versions, too), or
    finished (what came late as well). Times are Unix seconds."""

    erasure_id: str
    status: str
    asked_at: float
    removed: dict[str, int]
    versions: dict[str, list[str]]
    finished_at: float | None


def endpoints(store: Store, writer: DecisionWriter) -> list[Endpoint]:
    """As data."""

    async def erase(request: Request) -> Response:
        body = decode(await read_body(request, _BODY_BYTES), EraseRequest)
        await writer.settle(_FLUSH_SECONDS)
        return JSON(_answer(await store.ask_erasure(body.user)), status_code=202)

    async def erasure(request: Request) -> Response:
        erasure_id = request.path_params["erasure_id"]
        found = await store.erasure(erasure_id)
        if found is None:
            raise Problem(404, "unknown_erasure", f"no erasure {erasure_id}")
        return JSON(_answer(found))

    return [
        Endpoint(
            "POST",
            "/v1/erasures",
            erase,
            "Erase all that is known of a user, and what was learned from it. It is on record, and carried out soon.",
            answers={202: ErasureAnswer},
            body=EraseRequest,
            errors=(400, 408, 413, 503),
            scopes=("admin",),
        ),
        Endpoint(
            "GET",
            "/v1/erasures/{erasure_id}",
            erasure,
            "How far an erasure is.",
            answers={200: ErasureAnswer},
            errors=(404, 503),
            scopes=("admin",),
        ),
    ]


def _answer(one: Erasure) -> ErasureAnswer:
    return ErasureAnswer(
        erasure_id=one.erasure_id,
        status=one.status,
        asked_at=one.asked_at,
        removed=one.removed or {},
        versions=one.versions or {},
        finished_at=one.finished_at,
    )
