"""What to score in a request: the human's last words, and what the answering model must be able to do."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from gateway_plugin import harness, tokens

Score = Literal["last_user", "conversation"]

LIMIT = 32_000  # characters of text that are kept

_SMALLEST_LIMIT, _LARGEST_LIMIT = 1, 2**53  # of tokens to answer with; the latter is JSON's

_TEXT = ("text", "input_text", "output_text")
_IMAGE = ("image_url", "input_image", "image")
_AUDIO = ("input_audio", "audio")
_TOOL_RESULT = ("tool_result", "function_call_output", "custom_tool_call_output")
_TOOL_ROLES = ("tool", "function")
_SYSTEM_ROLES = ("system", "developer")

_CONTINUATION_LENGTH = 60
_WORD = re.compile(r"\w+(?:'\w+)?")
_CONTINUATION = re.compile(
    r"(?:(?:yes|yep|yeah|yup|y|no|nope|ok|okay|k|sure|right|correct|exactly|good|great|perfect|nice|cool|fine"
    r"|alright|thanks|thank you|thx|ty|please|pls|continue|proceed|next|more|resume|retry|again|try again|and"
    r"|then|now|go|go on|go ahead|go for it|carry on|keep going|keep on|do it|do that|do so|do this|let's go"
    r"|lets go|looks good|sounds good|lgtm|got it|i see|that's right|that works|so|well|very much|a lot|it"
    r"|with it)(?: |$))*"
)


class BadPrompt(ValueError):
    """A request body whose shape is wrong; `field` is a path such as `messages[3].content`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field, self.message = field, message


@dataclass(frozen=True)
class Prompt:
    """`text` has at most LIMIT characters and encodes as UTF-8.

    `needs` has images, audio, tools, json; chars, which counts the text of the whole conversation, tool results
    included; tokens, which estimates what all of the request takes, definitions of tools and schemas included; and
    max_tokens where the request has it. `continuation`: the last message is a tool's result. `opening`: the system
    prompt and the first words of the human's, which a conversation keeps to its end; None without such words.
    """

    text: str
    needs: dict[str, bool | int]
    continuation: bool = False
    opening: tuple[str, str] | None = None


@dataclass
class _Seen:
    """What a walk over the conversation has met so far."""

    chars: int = 0
    tokens: float = 0.0
    images: int = 0
    audio: bool = False
    tools: bool = False
    continuation: bool = False  # the message met last is a tool's result
    answered: bool = False  # the assistant has spoken
    system: tuple[str, ...] = ()

    def add(self, text: str) -> str:
        self.chars += len(text)
        self.tokens += tokens.estimate(text)
        return text


def extract(body: Mapping[str, object], score: Score = "last_user") -> Prompt:
    """Raises BadPrompt unless `body` has a well-formed `messages`, `input` or `prompt`.

    score: last_user takes the human's last turn. conversation puts the earlier ones after it, newest first, and then
    the system prompt, since what encoders read is the beginning.
    """
    seen = _Seen(tools=bool(body.get("tools") or body.get("functions")))
    for name in ("system", "instructions"):
        seen.system += tuple(seen.add(text) for text in _texts(body.get(name)))
    said = [turn for turn in _human_turns(body, seen) if turn]
    needs: dict[str, bool | int] = {
        "images": seen.images > 0,
        "audio": seen.audio,
        "tools": seen.tools,
        "json": _wants_json(body),
        "chars": seen.chars,
        "tokens": _tokens(body, seen),
    }
    if (most := _most_tokens(body)) is not None:
        needs["max_tokens"] = most
    system = "\n".join(seen.system)
    text = _question(said) if score == "last_user" else _conversation(said, system)
    is_conversation = body.get("messages") is not None or body.get("input") is not None
    opening = (_encodable(_bounded(system)), _encodable(_bounded(said[0]))) if said and is_conversation else None
    return Prompt(_encodable(_bounded(text)), needs, seen.continuation, opening)


def _human_turns(body: Mapping[str, object], seen: _Seen) -> Iterator[str]:
    """The human's turns in order, without what tools and harnesses put between them."""
    for field in ("messages", "input", "prompt"):
        value = body.get(field)
        if value is None:
            continue
        if isinstance(value, str) and field != "messages":
            yield harness.human(seen.add(value))
        elif isinstance(value, list):
            walk = _completion_prompts if field == "prompt" else _messages
            yield from walk(field, value, seen)
        else:
            raise BadPrompt(field, "must be a list" if field == "messages" else "must be a string or a list")
        return
    raise BadPrompt("messages", "missing: the body has none of messages, input and prompt")


def _completion_prompts(field: str, prompts: list[object], seen: _Seen) -> Iterator[str]:
    """A batch of prompts is one request, so it is scored as one text; token ids have no text."""
    texts = []
    for index, item in enumerate(prompts):
        if isinstance(item, str):
            texts.append(harness.human(seen.add(item)))
        elif not isinstance(item, int | list):
            raise BadPrompt(f"{field}[{index}]", "must be a string or token ids")
    yield "\n".join(texts)


def _messages(field: str, messages: list[object], seen: _Seen) -> Iterator[str]:
    for index, message in enumerate(messages):
        seen.tokens += tokens.MESSAGE
        if isinstance(message, str) and field == "input":
            seen.continuation = False
            yield harness.human(seen.add(message))
            continue
        if not isinstance(message, dict):
            raise BadPrompt(f"{field}[{index}]", "must be an object")
        role = message.get("role")
        if isinstance(role, str):
            seen.continuation = role in _TOOL_ROLES
            seen.answered |= role == "assistant"
            texts = _content(field, index, message, seen)
            if role in _SYSTEM_ROLES:
                seen.system += tuple(texts)
            elif role == "user" and seen.answered and any(map(harness.is_result, texts)):
                seen.tools = seen.continuation = True
            elif role == "user":
                yield "\n".join(filter(None, map(harness.human, texts)))
        elif role is None and isinstance(message.get("type"), str):
            seen.continuation = False
            _item(message, seen)
        else:
            raise BadPrompt(f"{field}[{index}].role", "must be a string")


def _content(field: str, index: int, message: Mapping[str, object], seen: _Seen) -> list[str]:
    """The texts of a message; those of tool results are counted and left out."""
    if calls := message.get("tool_calls"):
        seen.tools = True
        for arguments in _arguments(calls):
            seen.add(arguments)
    content = message.get("content")
    if isinstance(content, str):
        return [seen.add(content)]
    if content is None:
        return []
    if not isinstance(content, list):
        raise BadPrompt(f"{field}[{index}].content", "must be a string, a list of parts or null")
    texts = []
    for position, part in enumerate(content):
        if isinstance(part, str):
            texts.append(seen.add(part))
            continue
        if not isinstance(part, dict):
            raise BadPrompt(f"{field}[{index}].content[{position}]", "must be an object")
        kind = part.get("type")
        if kind in _TEXT:
            text = part.get("text")
            if not isinstance(text, str):
                raise BadPrompt(f"{field}[{index}].content[{position}].text", "must be a string")
            texts.append(seen.add(text))
        else:
            _item(part, seen)
    return texts


def _item(item: Mapping[str, object], seen: _Seen) -> None:
    """A part or item that holds no words of the human's."""
    kind = item.get("type")
    if kind in _IMAGE:
        seen.images += 1
    elif kind in _AUDIO:
        seen.audio = True
    elif kind in _TOOL_RESULT:
        seen.tools = seen.continuation = True
        result = item.get("content", item.get("output"))
        for text in _texts(result):
            seen.add(text)
        for part in result if isinstance(result, list) else ():
            if isinstance(part, dict) and part.get("type") in _IMAGE:
                seen.images += 1
    elif kind in ("tool_use", "function_call", "custom_tool_call"):
        seen.tools = True
        given = item.get("arguments", item.get("input"))
        seen.add(given if isinstance(given, str) else _json(given))


def _texts(content: object) -> list[str]:
    """The texts in a string or in a list of parts; other shapes have none."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    texts = (part.get("text") if isinstance(part, dict) else part for part in content)
    return [text for text in texts if isinstance(text, str)]


def _arguments(calls: object) -> list[str]:
    """The arguments in a list of tool calls."""
    functions = (call.get("function") for call in calls if isinstance(call, dict)) if isinstance(calls, list) else ()
    arguments = (function.get("arguments") for function in functions if isinstance(function, dict))
    return [text for text in arguments if isinstance(text, str)]


def _tokens(body: Mapping[str, object], seen: _Seen) -> int:
    """Of the request, to be on the safe side; without anything of what a provider adds."""
    given = [body[name] for name in ("tools", "functions", "response_format", "text") if body.get(name)]
    return math.ceil(seen.tokens + sum(tokens.estimate(_json(each)) for each in given)) + seen.images * tokens.IMAGE


def _most_tokens(body: Mapping[str, object]) -> int | None:
    """Tokens that the answer may have, if the request says so."""
    limits = (body.get(name) for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"))
    whole = (limit for limit in limits if isinstance(limit, int) and not isinstance(limit, bool))
    return next((limit for limit in whole if _SMALLEST_LIMIT <= limit <= _LARGEST_LIMIT), None)


def _json(value: object) -> str:
    """As a provider gets it; empty where it is no JSON, as schema classes."""
    try:
        return json.dumps(value, ensure_ascii=False) if value else ""
    except (TypeError, ValueError, RecursionError):
        return ""


def _question(said: list[str]) -> str:
    """The last turn; a bare continuation such as "yes, go on" comes after the question that it continues."""
    turns = said[::-1]
    if not turns:
        return ""
    last = turns[0]
    if not _is_continuation(last):
        return last
    question = next((turn for turn in turns if not _is_continuation(turn)), None)
    return last if question is None else f"{question}\n{last}"


def _conversation(said: list[str], system: str) -> str:
    """Newest first, so that a head of it is what counts most."""
    question = _question(said)
    earlier = [turn for turn in reversed(said[:-1]) if not question.startswith(f"{turn}\n")]
    return "\n".join(filter(None, [question, *earlier, system.strip()]))


def _is_continuation(text: str) -> bool:
    if len(text) > _CONTINUATION_LENGTH:
        return False
    words = " ".join(_WORD.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")))
    return _CONTINUATION.fullmatch(words) is not None


def _wants_json(body: Mapping[str, object]) -> bool:
    """Chat's `response_format` or the Responses API's `text.format`."""
    text = body.get("text")
    for wanted in (body.get("response_format"), text.get("format") if isinstance(text, dict) else None):
        if isinstance(wanted, dict):
            return wanted.get("type") != "text"
        if wanted is not None:
            return True  # a schema class
    return False


def _bounded(text: str) -> str:
    if len(text) <= LIMIT:
        return text
    head = LIMIT // 2
    return f"{text[:head]}\n{text[len(text) - (LIMIT - head - 1) :]}"


def _encodable(text: str) -> str:
    """Surrogate pairs are joined and lone surrogates replaced, so that the text encodes as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
