"""How many tokens a text takes, to be on the safe side and without a tokenizer: each model has another one.

A character counts by its kind, which its octet in UTF-8 tells, or the first of them. The weights are about the most
that tokenizers make of real texts; what that covers is in docs/policy.md (`python -m tests.benchmarks.tokens`). A word
in lower case is a token or two, whatever its length; a digit or a sign is often one of its own.
"""

import string

MESSAGE = 4  # that a chat template puts around each
IMAGE = 1000  # of a large one: OpenAI counts 765, Anthropic up to 1600

_ASCII = (
    (string.ascii_lowercase.encode(), 0.22),
    (string.ascii_uppercase.encode(), 0.6),
    (string.digits.encode(), 1.3),
    (string.punctuation.encode(), 1.0),
    (b" ", 0.5),
    (bytes([*range(32), 127]), 1.0),
)
_BEYOND = (
    (bytes(range(0xC2, 0xE0)), 1.2),  # accents, Cyrillic, Greek, Arabic, Hebrew
    (bytes(range(0xE0, 0xF0)), 1.4),  # Chinese, Japanese, Korean, Indic
    (bytes(range(0xF0, 0xF5)), 2.5),  # emoji
)


def estimate(text: str) -> float:
    """Of a text by itself; what its parts take together."""
    octets = text.encode("utf-8", "replace")
    kinds = _ASCII if text.isascii() else _ASCII + _BEYOND
    return sum(weight * (len(octets) - len(octets.translate(None, kind))) for kind, weight in kinds)
