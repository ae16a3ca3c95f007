"""A stand-in model provider that speaks OpenAI's protocol: a proxy needs neither a key nor a network.

    python -m tests.demo.provider --port 9001 --latency 0.2

It answers `/v1/chat/completions`, `/v1/completions`, `/v1/responses` and `/v1/embeddings`, and `GET /calls`
tells what it was asked. `POST /behaviour` with `{"latency": s, "gap": s, "status": code, "cut": true, "cached": n}`
makes it slow, makes its streams slow, makes it fail, makes it break off its streams halfway, or makes it say that it
had so much of the prompt in its cache; fields left out go back to normal.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

_ids = itertools.count(1)


class Provider:
    """An ASGI application; `calls` holds the bodies it was sent, newest last."""

    def __init__(self, latency: float = 0.0) -> None:
        self.latency = latency  # seconds before the first byte
        self.gap = 0.001  # seconds between the chunks of a stream
        self.status = 200  # of every answer; 4xx and 5xx answer OpenAI's error object
        self.cut = False  # streams break off halfway
        self.cached: int | None = None  # tokens of the prompt; None: it does not say
        self.calls: deque[dict[str, object]] = deque(maxlen=10_000)
        self._app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/completions", self._completion, methods=["POST"]),
                Route("/v1/responses", self._response, methods=["POST"]),
                Route("/v1/embeddings", self._embedding, methods=["POST"]),
                Route("/calls", self._told, methods=["GET"]),
                Route("/behaviour", self._behave, methods=["POST"]),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def _chat(self, request: Request) -> Response:
        body = await self._asked(request)
        if failure := self._failure():
            return failure
        answer = _answer(body, body["messages"])
        frame = _frame(body, "chat.completion.chunk" if body.get("stream") else "chat.completion")
        if body.get("stream"):
            deltas: list[dict[str, object]] = [{"role": "assistant", "content": ""}]
            deltas += [{"content": word} for word in answer]
            return self._stream(
                body, frame, answer, [{"index": i, "delta": delta} for delta in deltas for i in _choices(body)]
            )
        message = {"role": "assistant", "content": "".join(answer)}
        choices = [{"index": i, "message": message, "finish_reason": _end(body, answer)} for i in _choices(body)]
        return JSONResponse(frame | {"choices": choices, "usage": self._usage(body["messages"], answer)})

    async def _completion(self, request: Request) -> Response:
        body = await self._asked(request)
        if failure := self._failure():
            return failure
        answer, frame = _answer(body, body["prompt"]), _frame(body, "text_completion")
        if body.get("stream"):
            return self._stream(body, frame, answer, [{"index": 0, "text": word} for word in answer])
        choice = {"index": 0, "text": "".join(answer), "finish_reason": _end(body, answer)}
        return JSONResponse(frame | {"choices": [choice], "usage": self._usage(body["prompt"], answer)})

    async def _response(self, request: Request) -> Response:
        body = await self._asked(request)
        if failure := self._failure():
            return failure
        answer = _answer(body, body["input"])
        usage = self._usage(body["input"], answer)
        response = {
            "id": f"resp_{next(_ids)}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "completed",
            "model": body["model"],
            "output": [
                {
                    "id": f"msg_{next(_ids)}",
                    "type": "message",
                    "role": "assistant",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": "".join(answer), "annotations": []}],
                }
            ],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": usage["prompt_tokens"],
                "input_tokens_details": {"cached_tokens": self.cached or 0},
                "output_tokens": usage["completion_tokens"],
                "total_tokens": usage["total_tokens"],
            },
        }
        cut_short = _end(body, answer) == "length"
        if cut_short:
            response |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        if not body.get("stream"):
            return JSONResponse(response)
        created: dict[str, object] = {
            "type": "response.created",
            "response": response | {"status": "in_progress", "output": []},
        }
        delta = {
            "type": "response.output_text.delta",
            "output_index": 0,
            "content_index": 0,
            "item_id": "msg",
        }
        end = "response.incomplete" if cut_short else "response.completed"
        done: dict[str, object] = {"type": end, "response": response}
        events: list[dict[str, object]] = [created, *(delta | {"delta": word} for word in answer), done]
        return StreamingResponse(_events(events, self.gap), media_type="text/event-stream")

    async def _embedding(self, request: Request) -> Response:
        body = await self._asked(request)
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [{"object": "embedding", "index": i, "embedding": [1.0, 0.0]} for i in range(len(texts))]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        return JSONResponse({"object": "list", "model": body["model"], "data": data, "usage": usage})

    async def _told(self, _: Request) -> Response:
        return JSONResponse(list(self.calls))

    async def _behave(self, request: Request) -> Response:
        self.behave(**await request.json())
        return Response(status_code=204)

    def behave(
        self,
        latency: float = 0.0,
        gap: float = 0.001,
        status: int = 200,
        cut: bool = False,
        cached: int | None = None,
    ) -> None:
        self.latency, self.gap, self.status, self.cut, self.cached = latency, gap, status, cut, cached

    async def _asked(self, request: Request) -> dict[str, object]:
        body: dict[str, object] = await request.json()
        self.calls.append(body)
        await asyncio.sleep(self.latency)
        return body

    def _usage(self, asked: object, answer: list[str]) -> dict[str, object]:
        """One token a word."""
        prompt = len(json.dumps(asked).split())
        usage: dict[str, object] = {
            "prompt_tokens": prompt,
            "completion_tokens": len(answer),
            "total_tokens": prompt + len(answer),
        }
        return usage if self.cached is None else usage | {"prompt_tokens_details": {"cached_tokens": self.cached}}

    def _failure(self) -> Response | None:
        if self.status < 400:
            return None
        kind = "rate_limit_error" if self.status == 429 else "server_error"
        error = {"message": f"the stand-in was told to answer {self.status}", "type": kind, "code": None}
        return JSONResponse({"error": error}, status_code=self.status)

    def _stream(
        self,
        body: dict[str, object],
        frame: dict[str, object],
        answer: list[str],
        choices: list[dict[str, object]],
    ) -> Response:
        chunks = [frame | {"choices": [{**choice, "finish_reason": None}]} for choice in choices]
        if self.cut:
            return StreamingResponse(_cut(chunks[: len(chunks) // 2], self.gap), media_type="text/event-stream")
        empty: dict[str, object] = {"delta": {}} if "delta" in choices[0] else {"text": ""}
        ends = ({"index": i, "finish_reason": _end(body, answer), **empty} for i in _choices(body))
        chunks += [frame | {"choices": [end]} for end in ends]
        options = body.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            asked = body.get("messages", body.get("prompt"))
            chunks.append(frame | {"choices": [], "usage": self._usage(asked, answer)})
        return StreamingResponse(_events(chunks, self.gap, end="[DONE]"), media_type="text/event-stream")


async def _events(chunks: Iterable[dict[str, object]], gap: float, end: str | None = None) -> AsyncIterator[str]:
    for chunk in chunks:
        name = f"event: {chunk['type']}\n" if "type" in chunk else ""
        yield f"{name}data: {json.dumps(chunk)}\n\n"
        await asyncio.sleep(gap)
    if end is not None:
        yield f"data: {end}\n\n"


async def _cut(chunks: Iterable[dict[str, object]], gap: float) -> AsyncIterator[str]:
    async for event in _events(chunks, gap):
        yield event
    raise ConnectionResetError("the stand-in was told to cut its streams")


def _frame(body: dict[str, object], kind: str) -> dict[str, object]:
    return {
        "id": f"stand-in-{next(_ids)}",
        "object": kind,
        "created": int(time.time()),
        "model": body["model"],
    }


def _answer(body: dict[str, object], asked: object) -> list[str]:
    """The words of an answer that names the model and repeats the end of what it was asked, as many as may be."""
    return [word + " " for word in f"{body['model']} heard: {_text(asked)[-200:]}".split()][: _limit(body)]


def _choices(body: dict[str, object]) -> range:
    """The indices of as many answers as were asked for."""
    n = body.get("n")
    return range(n if isinstance(n, int) else 1)


def _limit(body: dict[str, object]) -> int | None:
    """The most words that were asked for."""
    limits = (body.get(name) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"))
    return next((limit for limit in limits if isinstance(limit, int)), None)


def _end(body: dict[str, object], answer: list[str]) -> str:
    return "length" if len(answer) == _limit(body) else "stop"


def _text(asked: object) -> str:
    """The last text in a prompt, a list of messages or a list of parts."""
    if isinstance(asked, str):
        return asked
    if isinstance(asked, list) and asked:
        return _text(asked[-1])
    if isinstance(asked, dict):
        return _text(asked.get("content", asked.get("text", "")))
    return ""


def main() -> None:
    import uvicorn

    parser = argparse.ArgumentParser(description="a stand-in model provider that speaks OpenAI's protocol")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before the first byte")
    arguments = parser.parse_args()
    uvicorn.run(Provider(arguments.latency), host="127.0.0.1", port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
