"""A client of an OpenAI-compatible chat endpoint: the proxy's own, usually."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gateway_plugin import names

if TYPE_CHECKING:
    import aiohttp

MARK = "routerd-judge"  # the `user` of every call, by which spend logs tell them from clients'

_LARGEST_ANSWER = 4 * 2**20  # bytes

Message = Mapping[str, str]


class Reply(NamedTuple):
    """What a model said. whole: it was not cut short."""

    text: str
    tokens_in: int
    tokens_out: int
    whole: bool


class ChatError(Exception):
    """No reply; one line that says why. passing: another try may do. free: it surely cost nothing."""

    def __init__(self, message: str, *, passing: bool, free: bool) -> None:
        super().__init__(message)
        self.passing, self.free = passing, free


class _Told(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Told
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


class Chat:
    """One endpoint. Bound to the event loop that it is first used in; `seconds` is the longest that a call may take."""

    def __init__(self, url: str, key: str | None, seconds: float) -> None:
        self.url, self._key, self._seconds = url.rstrip("/"), key, seconds
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, model: str, messages: Sequence[Message], most_tokens: int) -> Reply:
        """Raises ChatError."""
        import aiohttp  # not before it is needed: most daemons have no judge, and would start later

        body = {"model": model, "messages": list(messages), "max_tokens": most_tokens, "user": MARK}
        try:
            status, headers, raw = await self._post(msgspec.json.encode(body))
        except TimeoutError as error:
            unsent = isinstance(error, aiohttp.ConnectionTimeoutError)
            raise self._failed(f"no answer within {self._seconds:g} seconds", passing=True, free=unsent) from None
        except (aiohttp.ClientError, OSError) as error:
            unsent = isinstance(error, aiohttp.ClientConnectorError)
            fault = f"cannot be reached ({str(error) or type(error).__name__})"
            raise self._failed(fault, passing=True, free=unsent) from None
        if status != 200:
            raise self._refused(status, raw)
        if headers.get("x-litellm-attempted-fallbacks", "0") != "0":
            raise self._failed(f"{model} is away, the proxy answered with another model", passing=True, free=False)
        return self._read(raw)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        import aiohttp

        if self._session is None:
            headers = {"Content-Type": "application/json", names.MARK: MARK}
            if self._key:
                headers["Authorization"] = f"Bearer {self._key}"
            timeout = aiohttp.ClientTimeout(total=self._seconds)
            self._session = aiohttp.ClientSession(headers=headers, timeout=timeout)
        async with self._session.post(f"{self.url}/chat/completions", data=body, allow_redirects=False) as answer:
            raw = bytearray()
            async for some in answer.content.iter_any():
                raw += some
                if len(raw) > _LARGEST_ANSWER:
                    raise aiohttp.ClientPayloadError("the answer is too large")
            return answer.status, answer.headers, bytes(raw)

    def _read(self, raw: bytes) -> Reply:
        try:
            said = msgspec.json.decode(raw, type=_Completion)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._failed(f"answers no chat completion: {error}", passing=True, free=False) from None
        if not said.choices or said.choices[0].message.content is None:
            raise self._failed("answers without a text", passing=True, free=False)
        usage, choice = said.usage or _Usage(), said.choices[0]
        text = choice.message.content or ""
        return Reply(text, usage.prompt_tokens, usage.completion_tokens, choice.finish_reason != "length")

    def _refused(self, status: int, raw: bytes) -> ChatError:
        try:
            message = str(msgspec.json.decode(raw)["error"]["message"])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
            message = raw.decode("utf-8", "replace")
        shown = " ".join(message.replace(self._key, "***").split() if self._key else message.split())
        # a wrong key or name is put right in the configuration; what is wrong with one prompt is not
        passing = status not in (400, 413, 422)
        return self._failed(f"http {status}: {shown[:200] or 'no reason given'}", passing=passing, free=True)

    def _failed(self, fault: str, *, passing: bool, free: bool) -> ChatError:
        return ChatError(f"{self.url}: {fault}", passing=passing, free=free)
