"""What to score in a request: the human's last words, and what the answering model must be able to do."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

LIMIT = 32_000  # characters of text that are kept

_TEXT = ("text", "input_text", "output_text")
_IMAGE = ("image_url", "input_image", "image")
_AUDIO = ("input_audio", "audio")
_TOOL_RESULT = ("tool_result", "function_call_output", "custom_tool_call_output")
_OPEN, _CLOSE = "<system-reminder>", "</system-reminder>"

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

    `needs` has images, audio, tools, json and chars, which counts the text of the whole conversation, tool
    results included.
    """

    text: str
    needs: dict[str, bool | int]


@dataclass
class _Seen:
    """What a walk over the conversation has met so far."""

    chars: int = 0
    images: bool = False
    audio: bool = False
    tools: bool = False

    def add(self, text: str) -> str:
        self.chars += len(text)
        return text


def extract(body: Mapping[str, object]) -> Prompt:
    """Raises BadPrompt unless `body` has a well-formed `messages`, `input` or `prompt`."""
    seen = _Seen(tools=bool(body.get("tools") or body.get("functions")))
    for field in ("system", "instructions"):
        seen.chars += _length(body.get(field))
    said = list(_human_turns(body, seen))
    needs: dict[str, bool | int] = {
        "images": seen.images,
        "audio": seen.audio,
        "tools": seen.tools,
        "json": _wants_json(body),
        "chars": seen.chars,
    }
    return Prompt(_encodable(_bounded(_question(said))), needs)


def _human_turns(body: Mapping[str, object], seen: _Seen) -> Iterator[str]:
    """The human's turns in order, without what tools and harnesses put between them."""
    for field in ("messages", "input", "prompt"):
        value = body.get(field)
        if value is None:
            continue
        if isinstance(value, str) and field != "messages":
            yield _human(seen.add(value))
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
            texts.append(_human(seen.add(item)))
        elif not isinstance(item, int | list):
            raise BadPrompt(f"{field}[{index}]", "must be a string or token ids")
    yield "\n".join(texts)


def _messages(field: str, messages: list[object], seen: _Seen) -> Iterator[str]:
    for index, message in enumerate(messages):
        if isinstance(message, str) and field == "input":
            yield _human(seen.add(message))
            continue
        if not isinstance(message, dict):
            raise BadPrompt(f"{field}[{index}]", "must be an object")
        role = message.get("role")
        if isinstance(role, str):
            texts = _content(field, index, message, seen)
            if role == "user" and texts:
                yield "\n".join(filter(None, map(_human, texts)))
        elif role is None and isinstance(message.get("type"), str):
            _item(message, seen)
        else:
            raise BadPrompt(f"{field}[{index}].role", "must be a string")


def _content(field: str, index: int, message: Mapping[str, object], seen: _Seen) -> list[str]:
    """The texts of a message; those of tool results are counted and left out."""
    if calls := message.get("tool_calls"):
        seen.tools = True
        seen.chars += _arguments(calls)
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
        seen.images = True
    elif kind in _AUDIO:
        seen.audio = True
    elif kind in _TOOL_RESULT:
        seen.tools = True
        result = item.get("content", item.get("output"))
        seen.chars += _length(result)
        for part in result if isinstance(result, list) else ():
            if isinstance(part, dict) and part.get("type") in _IMAGE:
                seen.images = True
    elif kind in ("tool_use", "function_call"):
        seen.tools = True
        seen.chars += _length(item.get("arguments"))


def _length(content: object) -> int:
    """Characters of text in a string or in a list of parts; other shapes have none."""
    if isinstance(content, str):
        return len(content)
    if not isinstance(content, list):
        return 0
    texts = (part.get("text") if isinstance(part, dict) else part for part in content)
    return sum(len(text) for text in texts if isinstance(text, str))


def _arguments(calls: object) -> int:
    """Characters of the arguments in a list of tool calls."""
    functions = (call.get("function") for call in calls if isinstance(call, dict)) if isinstance(calls, list) else ()
    arguments = (function.get("arguments") for function in functions if isinstance(function, dict))
    return sum(map(_length, arguments))


def _human(text: str) -> str:
    """The text without the reminders that agent harnesses put into a human's turn."""
    if _OPEN not in text:
        return text.strip()
    kept, start = [], 0
    while (opened := text.find(_OPEN, start)) >= 0 and (closed := text.find(_CLOSE, opened)) >= 0:
        kept.append(text[start:opened])
        start = closed + len(_CLOSE)
    return "".join([*kept, text[start:]]).strip()


def _question(said: list[str]) -> str:
    """The last turn; a bare continuation such as "yes, go on" comes after the question that it continues."""
    turns = [turn for turn in reversed(said) if turn]
    if not turns:
        return ""
    last = turns[0]
    if not _is_continuation(last):
        return last
    question = next((turn for turn in turns if not _is_continuation(turn)), None)
    return last if question is None else f"{question}\n{last}"


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
