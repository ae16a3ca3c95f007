"""What a call to a model costs: at most, before it is made, and by its usage afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from feedback.chat import Message, Reply

_OVERHEAD = 16  # tokens that a message costs beside its text, at most


class Price(NamedTuple):
    """US dollars per million tokens."""

    tokens_in: float
    tokens_out: float

    def most(self, messages: Sequence[Message], most_tokens: int) -> float:
        """Dollars: no tokenizer makes more tokens of a text than it has bytes."""
        sent = sum(len(message["content"].encode()) + _OVERHEAD for message in messages)
        return self.dollars(sent, most_tokens)

    def paid(self, reply: Reply) -> float | None:
        """Dollars; None: the endpoint does not say what was used."""
        if not reply.tokens_in + reply.tokens_out:
            return None
        return self.dollars(reply.tokens_in, reply.tokens_out)

    def dollars(self, tokens_in: float, tokens_out: float) -> float:
        """Of so many tokens."""
        return (tokens_in * self.tokens_in + tokens_out * self.tokens_out) / 1e6
