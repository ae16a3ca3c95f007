"""What a judge is sent of a request that was drawn for it: conversation and answer, as plain text or not at all."""

from collections.abc import Mapping

LIMIT = 60_000  # characters of a conversation, and of an answer; a longer one is not sent, since a part is another one

_TEXT = ("text", "input_text", "output_text")
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_REDACTED = "redacted-by-litellm"  # where the operator has turned message logging off

Message = dict[str, str]


class _NotPlain(Exception):
    """There is more to it than text."""


def conversation(body: Mapping[str, object]) -> list[Message] | None:
    """Of a request body, with `role` (system, user, assistant) and `content`; ends with the human's words.

    None where it has pictures, tools or anything else that another model would have to see, or is too long.
    """
    try:
        messages = [*_instructions(body), *_turns(body)]
    except _NotPlain:
        return None
    if not messages or messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        return None
    return messages if sum(len(message["content"]) for message in messages) <= LIMIT else None


def answer(response: object) -> str | None:
    """The text of a chat's or completion's first choice, of /v1/messages and of /v1/responses; None where it calls
    tools, is blank, or is too long. The last event of a stream of the latter holds the response."""
    whole = _part(response, "response") or response
    try:
        text = _said(whole).strip()
    except _NotPlain:
        return None
    return text if text and text != _REDACTED and len(text) <= LIMIT else None


def _instructions(body: Mapping[str, object]) -> list[Message]:
    given = [body[field] for field in ("system", "instructions") if body.get(field)]
    return [{"role": "system", "content": _text(content)} for content in given]


def _turns(body: Mapping[str, object]) -> list[Message]:
    for field in ("messages", "input", "prompt"):
        value = body.get(field)
        if isinstance(value, str):
            return [{"role": "user", "content": _encodable(value)}]
        if isinstance(value, list) and field != "prompt":
            return [_message(item) for item in value]
        if value is not None:
            raise _NotPlain
    raise _NotPlain


def _message(item: object) -> Message:
    role = _ROLES.get(str(item.get("role"))) if isinstance(item, dict) else None
    if not isinstance(item, dict) or role is None or item.get("tool_calls") or item.get("function_call"):
        raise _NotPlain
    return {"role": role, "content": _text(item.get("content"))}


def _text(content: object) -> str:
    if isinstance(content, str):
        return _encodable(content)
    if not isinstance(content, list):
        raise _NotPlain
    texts = [_part(part, "text") for part in content if _part(part, "type") in _TEXT]
    if len(texts) != len(content) or not all(isinstance(text, str) for text in texts):
        raise _NotPlain
    return _encodable("\n".join(map(str, texts)))


def _said(response: object) -> str:
    choices = _part(response, "choices")
    if isinstance(choices, list) and choices:
        message = _part(choices[0], "message")
        if message is None:
            return _text(_part(choices[0], "text"))
        if _part(message, "tool_calls") or _part(message, "function_call"):
            raise _NotPlain
        return _text(_part(message, "content"))
    output = _part(response, "output")
    if isinstance(output, list):
        said = [part for part in output if _part(part, "type") != "reasoning"]
        if len(said) != 1 or _part(said[0], "type") != "message":
            raise _NotPlain
        return _text(_part(said[0], "content"))
    content = _part(response, "content")
    if isinstance(content, list):
        content = [part for part in content if _part(part, "type") not in ("thinking", "redacted_thinking")]
    return _text(content)


def _part(value: object, name: str) -> object:
    """Of a mapping or an object."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _encodable(text: str) -> str:
    """Surrogate pairs joined, lone ones replaced, so that it encodes as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
