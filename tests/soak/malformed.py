"""Requests that no client should send. Routing must not change what the proxy says of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import NamedTuple

import aiohttp

from tests.demo.stack import KEY

PLAIN = "gpt-4o"  # the ladder's strongest, which `router` falls back to
_CHAT = "/v1/chat/completions"


class Malformed(NamedTuple):
    """status: what the proxy answers without routing; MODEL in the body stands for the model's name."""

    name: str
    body: bytes
    path: str = _CHAT
    status: int = 0

    async def send(self, http: aiohttp.ClientSession, proxy: str, *, routed: bool) -> int:
        """The answer's status."""
        body = self.body.replace(b"MODEL", b"router" if routed else PLAIN.encode())
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        async with http.post(proxy + self.path, data=body, headers=headers) as answer:
            await answer.read()
        return answer.status


async def known(proxy: str) -> list[Malformed]:
    """All of them, with the status that each has without routing."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
        statuses = await asyncio.gather(*(one.send(http, proxy, routed=False) for one in _ALL))
    return [one._replace(status=status) for one, status in zip(_ALL, statuses, strict=True)]


def _chat(name: str, messages: object, **more: object) -> Malformed:
    return Malformed(name, json.dumps({"model": "MODEL", "messages": messages, **more}).encode())


def _user(content: object) -> Sequence[dict[str, object]]:
    return [{"role": "user", "content": content}]


_DEEP = 200  # levels, which JSON readers take

_ALL = (
    Malformed("no JSON", b'{"model": "MODEL", "messages": ['),
    Malformed("an empty body", b""),
    Malformed("no object", b'["MODEL"]'),
    Malformed("bytes that are no UTF-8", b'{"model": "MODEL", "messages": [{"role": "user", "content": "\xff\xfe"}]}'),
    Malformed("no messages", b'{"model": "MODEL"}'),
    Malformed("a prompt that is a number", b'{"model": "MODEL", "prompt": 5}', path="/v1/completions"),
    Malformed("an input that is an object", b'{"model": "MODEL", "input": {}}', path="/v1/responses"),
    _chat("messages that are a text", "hi"),
    _chat("no message", []),
    _chat("a message that is null", [None]),
    _chat("a message without a role", [{"content": "hi"}]),
    _chat("a role that is a number", [{"role": 5, "content": "hi"}]),
    _chat("content that is a number", _user(5)),
    _chat("a part that is a number", _user([5])),
    _chat("a part of no known type", _user([{"type": "smell", "smell": "roses"}])),
    _chat("a lone surrogate", _user("a \ud800 b")),
    _chat("a NUL character", _user("a \0 b")),
    _chat("deep nesting", _user(json.loads("[" * _DEEP + "]" * _DEEP))),
    _chat("metadata that is a list", _user("hi"), metadata=["a"]),
    _chat("a session that is an object", _user("hi"), metadata={"session_id": {"a": 1}}),
    _chat("a limit that is no number", _user("hi"), max_tokens={"a": 1}),
    _chat("tools that are a text", _user("hi"), tools="all"),
)
