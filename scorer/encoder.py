"""Prompts to numbers: a sentence encoder run by ONNX Runtime, and the raw features beside it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from scorer import features
from scorer.routers.base import Prompts

RECIPE = 1  # raised by whatever changes an embedding: sanitising, the window's halves, pooling, normalisation
CARD, MODEL, TOKENIZER = "encoder.json", "model.onnx", "tokenizer.json"

_REMEDY = "run `routerd encoder export`"
_LONGEST_WORD = 100  # characters; WordPiece reads a longer word as [UNK]
# Runs of what BERT's normaliser calls whitespace: the controls that `\s` includes are dropped by it instead.
_BLANKS = re.compile(r"[^\S\x0b\x0c\x1c-\x1f\x85]{2,}")


class EncoderError(Exception):
    """An encoder cannot be found, read or exported. The message is one line: what, where and what to run."""


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that an embedding depends on besides its text. Exported bytes are not part of it."""

    weights: str  # SHA-256 of the source's model.safetensors
    tokenizer: str  # SHA-256 of its tokenizer.json
    pooling: Literal["mean"]
    window: int  # tokens, with the two special ones
    version: int  # RECIPE

    @property
    def id(self) -> str:
        return digest(msgspec.json.encode(self, order="sorted"))


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of encoder.json."""

    id: str
    source: str
    dimension: int
    recipe: Recipe
    files: dict[str, str]  # name -> SHA-256


class Encoder:
    """A sentence encoder. Embeddings are the mean of the last layer's tokens, of unit length.

    Every text is a call of its own to ONNX Runtime, never a row of a batch: so its embedding is the same to
    the last bit whatever comes with it (in a batch, even of equal lengths, it is not), and nothing is padded.
    """

    def __init__(self, card: Card, model: onnxruntime.InferenceSession, tokenizer: Tokenizer) -> None:
        self.id = card.id
        self.dimension = card.dimension
        self._half = card.recipe.window // 2
        self._reach = self._half * (_LONGEST_WORD + 1)
        self._model = model
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, directory: Path, threads: int | None = None) -> Encoder:
        """Reads and checks an exported encoder. `threads` work on one text; None: as many as there are cores."""
        card = _read_card(directory)
        model = _read(directory, MODEL, card.files)
        tokenizer = _tokenizer(_read(directory, TOKENIZER, card.files))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the cores are not ours alone
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return cls(card, session, tokenizer)

    def encode(self, texts: Sequence[str]) -> Prompts:
        """Embeds and measures n texts of any length. Thread-safe; no text influences another."""
        embeddings = np.empty((len(texts), self.dimension), np.float32)
        measured = np.empty((len(texts), len(features.NAMES)), np.float32)
        for row, text in enumerate(texts):
            embeddings[row] = self._embed(self.tokens(text))
            measured[row] = features.extract(text)
        return Prompts(tuple(texts), embeddings, measured)

    def tokens(self, text: str) -> list[int]:
        """Token ids, at most `window`: of a longer text the first half and the last half of the window.

        Only so many characters of either end are tokenised as surely hold half a window of tokens: the result
        is that of tokenising the whole text as long as no word near its ends exceeds 100 characters.
        """
        if len(text) > 2 * self._reach:
            text = _BLANKS.sub(" ", text).strip()
        if len(text) <= 2 * self._reach:
            ids = self._tokenize(text)
            return ids if len(ids) <= 2 * self._half else ids[: self._half] + ids[-self._half :]
        head = self._tokenize(text[: self._reach])[:-1]  # without its [SEP]
        tail = self._tokenize(text[-self._reach :])[1:]  # without its [CLS]
        return head[: self._half] + tail[-self._half :]

    def _tokenize(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text.encode("utf-8", "ignore").decode()).ids
        return ids

    def _embed(self, ids: list[int]) -> NDArray[np.float32]:
        row = np.array([ids], np.int64)
        inputs = {"input_ids": row, "attention_mask": np.ones_like(row)}
        embedding: NDArray[np.float32] = self._model.run(["sentence_embedding"], inputs)[0][0]
        return embedding


def default_cache() -> Path:
    """Where encoders are exported to: $ROUTERD_CACHE, else $XDG_CACHE_HOME/routerd, else ~/.cache/routerd."""
    if chosen := os.environ.get("ROUTERD_CACHE"):
        return Path(chosen) / "encoders"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "routerd" / "encoders"


def resolve(cache: Path | None = None, encoder_id: str | None = None) -> Path:
    """The directory of an exported encoder: the one with this id, or the only one there is."""
    cache = cache or default_cache()
    found = sorted(card.parent for card in cache.glob(f"{encoder_id or '[!.]*'}/{CARD}"))
    if not found:
        raise EncoderError(f"{cache}: no encoder{f' {encoder_id}' if encoder_id else ''}; {_REMEDY}")
    if len(found) > 1:
        ids = ", ".join(directory.name for directory in found)
        raise EncoderError(f"{cache}: {len(found)} encoders; say which: {ids}")
    return found[0]


def digest(data: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _tokenizer(data: bytes) -> Tokenizer:
    """A tokenizer without the padding and truncation that its file may ask for."""
    tokenizer = Tokenizer.from_buffer(data)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _read_card(directory: Path) -> Card:
    path = directory / CARD
    try:
        card = msgspec.json.decode(path.read_bytes(), type=Card)
    except (OSError, msgspec.MsgspecError) as error:
        raise EncoderError(f"{path}: {getattr(error, 'strerror', None) or error}; {_REMEDY}") from None
    if card.recipe.version != RECIPE:
        raise EncoderError(f"{path}: has recipe {card.recipe.version}, not {RECIPE}; {_REMEDY}")
    if card.id != card.recipe.id:
        raise EncoderError(f"{path}: damaged, its id is not that of its recipe; {_REMEDY}")
    return card


def _read(directory: Path, name: str, files: dict[str, str]) -> bytes:
    path = directory / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EncoderError(f"{path}: {error.strerror}; {_REMEDY}") from None
    if digest(data) != files.get(name):
        raise EncoderError(f"{path}: damaged, its SHA-256 is not the recorded one; {_REMEDY}")
    return data
