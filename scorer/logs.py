"""Logs: one line an event, as text or as JSON, with the id of the decision it is about and never a prompt.

An exception is logged by its class and the places it passed, since what it says may quote what somebody asked.
"""

from __future__ import annotations

import logging
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import msgspec

from scorer.decisions import Decision

decision_id: ContextVar[str | None] = ContextVar("decision_id", default=None)  # of the request that is being served

_DECISION = ("decision_id", "requested", "model", "router", "version", "mode", "threshold", "propensity", "explored")
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_decisions = logging.getLogger("routerd.decisions")


class TextFormatter(logging.Formatter):
    """A line for people; a traceback without what the exceptions say."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def formatException(self, info: Any) -> str:
        return "\n".join(_passed(info[1]))


class JSONFormatter(logging.Formatter):
    """An object a line: time (ISO 8601, UTC), level, logger, message, decision_id where one is being made, and what the
    caller adds as `extra={"fields": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": moment, "level": record.levelname, "logger": record.name}
        line["message"] = record.getMessage()
        if about := decision_id.get():
            line["decision_id"] = about
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1]:
            line["exception"] = type(record.exc_info[1]).__name__
            line["traceback"] = _passed(record.exc_info[1])
        return msgspec.json.encode(line, enc_hook=str).decode()


def configure(kind: str) -> None:
    """Everything to standard error, as `text` or `json`."""
    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter() if kind == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    _decisions.setLevel(logging.INFO if kind == "json" else logging.WARNING)


def decided(decision: Decision) -> None:
    """A line for a decision, where lines are JSON: people would drown in them."""
    if _decisions.isEnabledFor(logging.INFO):
        _decisions.info("decided", extra={"fields": {name: getattr(decision, name) for name in _DECISION}})


def _passed(error: BaseException) -> list[str]:
    """Class and places of an exception and of those that led to it, the first one first."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)
    return [line for one in reversed(chain) for line in (*_places(one), type(one).__name__)]


def _places(error: BaseException) -> list[str]:
    return [f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
