"""What agent programs put into a human's turn: blocks of context, wrappers, and results of tools as plain text."""

import re

# Claude Code; Cline and Roo; Codex; Cursor
_BLOCKS = (
    "system-reminder",
    "environment_details",
    "environment_context",
    "user_instructions",
    "user_info",
    "additional_data",
)
_WRAPPERS = ("task", "user_query", "user_message")

# Cline and Roo, which call tools in the text, and programs in the manner of ReAct and SWE-agent
_RESULT = re.compile(r"\s*(?:\[\w+(?: for [^\n]{0,2000})?\] Result:|observation:)", re.IGNORECASE)


def is_result(text: str) -> bool:
    """Whether the text is what a tool said, in a turn of the human's."""
    return _RESULT.match(text) is not None


def human(text: str) -> str:
    """The text without blocks of context, and out of its wrapper."""
    if "<" in text:
        for block in _BLOCKS:
            text = _without(text, block)
    text = text.strip()
    for wrapper in _WRAPPERS:
        opening, closing = f"<{wrapper}>", f"</{wrapper}>"
        if text.startswith(opening) and text.endswith(closing):
            return text[len(opening) : -len(closing)].strip()
    return text


def _without(text: str, block: str) -> str:
    """A block that is never closed is text."""
    opening, closing = f"<{block}>", f"</{block}>"
    if opening not in text:
        return text
    kept, start = [], 0
    while (opened := text.find(opening, start)) >= 0 and (closed := text.find(closing, opened)) >= 0:
        kept.append(text[start:opened])
        start = closed + len(closing)
    return "".join([*kept, text[start:]])
