"""What became of one routed request; it travels in the request's metadata from the hook to the log events."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

KEY = "routerd"  # in the metadata

_LONGEST_HEADER = 200


@dataclass
class Routing:
    """A class of our own, so that a client can't forge one in its metadata."""

    decision_id: str
    requested: str  # the virtual name
    call_type: str = ""
    call_id: str | None = None
    session_id: str | None = None
    user: str | None = None
    status: str = "fallback"  # or routed, or observe
    model: str | None = None  # the one chosen; None when the request was left on the virtual group
    router: str | None = None
    version: str | None = None
    win_rate: float | None = None  # the one that was compared with the threshold
    threshold: float | None = None
    reason: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)  # that whoever answers must have
    candidates: Sequence[str] = ()  # that may serve it, strongest first
    error: str | None = None  # of the last attempt at a provider that failed
    sample: list[dict[str, str]] | None = None  # the conversation, where the daemon wants the answer for its judge
    rating_token: str | None = None  # with which a browser may rate the answer
    reported: bool = False
    created_at: float = field(default_factory=time.time)  # Unix seconds

    def decide(self, answer: Mapping[str, object], model: str, candidates: Sequence[str]) -> None:
        """Takes over the daemon's answer, whose parts may be missing; candidates run from the strongest down."""
        self.status = "observe" if answer.get("mode") == "observe" else "routed"
        self.model = model
        self.win_rate = _compared(answer.get("win_rates"), model, candidates)
        self.threshold = _number(answer.get("threshold"))
        self.router, self.version = _text(answer.get("router")), _text(answer.get("version"))
        self.reason = _text(answer.get("reason")) or ""
        self.rating_token = _text(answer.get("rating_token"))

    def fall_back(self, model: str | None, reason: str) -> None:
        self.status, self.model, self.reason = "fallback", model, reason

    def headers(self) -> dict[str, str]:
        """x-routerd-*; HTTP allows Latin-1 without controls, so other characters become question marks."""
        values = {
            "decision-id": self.decision_id,
            "router": self.router,
            "version": self.version,
            "model": self.model or self.requested,
            "win-rate": None if self.win_rate is None else f"{self.win_rate:.4f}",
            "threshold": None if self.threshold is None else f"{self.threshold:.4f}",
            "status": self.status,
            "reason": self.reason,
            "rating-token": self.rating_token,
        }
        return {f"x-routerd-{name}": _header(value) for name, value in values.items() if value}

    def outcome(self, status: str, seen: Mapping[str, object]) -> dict[str, object]:
        """What the daemon is told at the end; after a fallback also what it needs to rate the answer."""
        outcome: dict[str, object] = {
            "decision_id": self.decision_id,
            "status": status,
            "chosen": self.model or self.requested,
            "call_id": self.call_id,
            "call_type": self.call_type,
            "error": self.error,
            **seen,
        }
        if self.status == "fallback":
            outcome |= {
                "status": "fallback",
                "requested": self.requested,
                "reason": self.reason,
                "created_at": self.created_at,
                "session_id": self.session_id,
                "user": self.user,
            }
        return {name: value for name, value in outcome.items() if value is not None}


def find(*places: object) -> Routing | None:
    """The routing in one of the metadata buckets."""
    for place in places:
        routing = place.get(KEY) if isinstance(place, Mapping) else None
        if isinstance(routing, Routing):
            return routing
    return None


def _compared(rates: object, model: str, candidates: Sequence[str]) -> float | None:
    """The chosen model's win rate; of the strongest candidate, which has none to speak of, the lowest that it beat."""
    if not isinstance(rates, Mapping):
        return None
    names = candidates[1:] if candidates[:1] == [model] else [model]
    return min((rate for name in names if (rate := _number(rates.get(name))) is not None), default=None)


def _header(value: str) -> str:
    return "".join(c if " " <= c <= "~" or "\xa0" <= c <= "\xff" else "?" for c in value[:_LONGEST_HEADER])


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
