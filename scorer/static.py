"""Prompts to numbers in a tenth of a millisecond: a vector a token, added up. No session, no window of attention.

The vectors are distilled from a sentence encoder (scorer.distil); one such encoder ships with the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import msgspec
import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from tokenizers import Tokenizer

from scorer import encoder, features
from scorer.encoder import Card, EncoderError
from scorer.routers.base import Prompts

RECIPE = 1  # raised by whatever changes an embedding: how vectors are made, weighed, rounded and added
VECTORS = "vectors.safetensors"
UNKNOWN = "[UNK]"


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that an embedding depends on besides its text."""

    form: ClassVar[int] = RECIPE
    remedy: ClassVar[str] = "install the package again, or run `routerd encoder export static`"

    weights: str  # SHA-256 of the distilled encoder's model.safetensors
    tokenizer: str  # SHA-256 of its tokenizer.json
    pooling: Literal["static"]
    dimension: int
    smoothing: float  # a of the weight a / (a + p), for a token of probability p
    window: int  # characters; of a longer text the first and the last half
    version: int  # RECIPE

    @property
    def id(self) -> str:
        return encoder.digest(msgspec.json.encode(self, order="sorted"))


class Static:
    """A static encoder. Embeddings are sums of token vectors, of unit length.

    Every text is summed on its own and in one order, so its embedding is the same to the last bit whatever comes with
    it. A text without tokens is taken for one unknown word.
    """

    name = "static"

    def __init__(self, card: Card[Recipe], rows: NDArray[np.int8], scales: NDArray[np.float32], tokenizer: Tokenizer):
        """rows (tokens, d) times scales (tokens,) are the vectors."""
        self.id = card.id
        self.dimension = card.dimension
        self._half = card.recipe.window // 2
        self._rows = rows
        self._scales = scales[:, None]
        self._tokenizer = tokenizer
        self._blank = [tokenizer.token_to_id(UNKNOWN) or 0]

    @classmethod
    def load(cls, directory: Path) -> Static:
        """Reads and checks a distilled encoder. Raises EncoderError."""
        card = encoder.read_card(directory, Recipe)
        tokenizer = encoder.read_tokenizer(directory, card)
        try:
            tensors = safetensors.numpy.load(encoder.read_file(directory, VECTORS, card))
            rows, scales = tensors["rows"], tensors["scales"]
        except (safetensors.SafetensorError, KeyError) as error:
            raise EncoderError(f"{directory / VECTORS}: not a static encoder's vectors: {error}") from None
        tokens = tokenizer.get_vocab_size()
        if (rows.dtype, rows.shape) != (np.int8, (tokens, card.dimension)) or scales.shape != (tokens,):
            expected = f"{tokens} int8 rows of {card.dimension} and their scales"
            raise EncoderError(f"{directory / VECTORS}: expected {expected}, found {rows.dtype}{list(rows.shape)}")
        return cls(card, rows, scales, tokenizer)

    def encode(self, texts: Sequence[str]) -> Prompts:
        """Embeds and measures n texts of any length. Thread-safe; no text influences another."""
        embeddings = np.empty((len(texts), self.dimension), np.float32)
        measured = np.empty((len(texts), len(features.NAMES)), np.float32)
        for row, text in enumerate(texts):
            embeddings[row] = self._embed(self.tokens(text))
            measured[row] = features.extract(text)
        return Prompts(tuple(texts), embeddings, measured)

    def tokens(self, text: str) -> list[int]:
        """Token ids; of a text longer than the window, those of its ends."""
        if len(text) > 2 * self._half:
            text = f"{text[: self._half]}\n{text[-self._half :]}"
        ids: list[int] = self._tokenizer.encode(encoder.readable(text), add_special_tokens=False).ids
        return ids or self._blank

    def _embed(self, ids: list[int]) -> NDArray[np.float32]:
        # added row by row, not by BLAS: its order of summation depends on the machine's cores
        total = (self._rows.take(ids, axis=0) * self._scales.take(ids, axis=0)).sum(axis=0)
        embedding: NDArray[np.float32] = total / max(float(np.sqrt(np.square(total).sum())), 1e-30)
        return embedding
