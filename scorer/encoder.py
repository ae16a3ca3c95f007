"""Prompts to numbers: a sentence encoder run by ONNX Runtime, and the raw features beside it.

The static encoder (scorer.static) is the other one; both are read from a directory under an `encoder.json`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from scorer import features
from scorer.routers.base import Prompts

if TYPE_CHECKING:
    import onnxruntime

RECIPE = 1  # raised by whatever changes an embedding: sanitising, the window's halves, pooling, normalisation
CARD, MODEL, TOKENIZER = "encoder.json", "model.onnx", "tokenizer.json"

_LONGEST_WORD = 100  # characters; WordPiece reads a longer word as [UNK]
# Runs of what BERT's normaliser calls whitespace: the controls that `\s` includes are dropped by it instead.
_BLANKS = re.compile(r"[^\S\x0b\x0c\x1c-\x1f\x85]{2,}")


class EncoderError(Exception):
    """An encoder cannot be found, read or exported. The message is one line: what, where and what to run."""


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that an embedding depends on besides its text. Exported bytes are not part of it."""

    form: ClassVar[int] = RECIPE
    remedy: ClassVar[str] = "run `routerd encoder export`"

    weights: str  # SHA-256 of the source's model.safetensors
    tokenizer: str  # SHA-256 of its tokenizer.json
    pooling: Literal["mean"]
    window: int  # tokens, with the two special ones
    version: int  # RECIPE

    @property
    def id(self) -> str:
        return digest(msgspec.json.encode(self, order="sorted"))


class AnyRecipe(Protocol):
    """All that an embedding depends on, whatever the encoder: of `form`, the version that is read, and its remedy."""

    form: ClassVar[int]
    remedy: ClassVar[str]

    @property
    def version(self) -> int:
        """The form that it was written in."""
        ...

    @property
    def id(self) -> str:
        """Its digest."""
        ...


R = TypeVar("R", bound=AnyRecipe)


class Card(msgspec.Struct, Generic[R], frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The contents of encoder.json."""

    id: str
    source: str
    dimension: int
    recipe: R
    files: dict[str, str]  # name -> SHA-256
    precision: Literal["fp32", "int8"] = "fp32"  # of the weights as written: no part of the recipe


class Encoder:
    """A sentence encoder. Embeddings are the mean of the last layer's tokens, of unit length.

    `name` is that of the shipped artifacts that go with it.

    Every text is a call of its own to ONNX Runtime, never a row of a batch: so its embedding is the same to
    the last bit whatever comes with it (in a batch, even of equal lengths, it is not), and nothing is padded.
    """

    name = "minilm"

    def __init__(self, card: Card[Recipe], model: onnxruntime.InferenceSession, tokenizer: Tokenizer) -> None:
        self.id = card.id
        self.dimension = card.dimension
        self.precision = card.precision
        self._half = card.recipe.window // 2
        self._reach = self._half * (_LONGEST_WORD + 1)
        self._model = model
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, directory: Path, threads: int | None = None) -> Encoder:
        """Reads and checks an exported encoder. `threads` work on one text; None: as many as there are cores."""
        import onnxruntime  # the static encoder does without

        card = read_card(directory, Recipe)
        model = read_file(directory, MODEL, card)
        tokenizer = read_tokenizer(directory, card)
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
        ids: list[int] = self._tokenizer.encode(readable(text)).ids
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
    """The directory of an exported sentence encoder: the one with this id, or the only one there is."""
    cache = cache or default_cache()
    found = sorted(model.parent for model in cache.glob(f"{encoder_id or '[!.]*'}/{MODEL}"))
    if not found:
        raise EncoderError(f"{cache}: no encoder{f' {encoder_id}' if encoder_id else ''}; {Recipe.remedy}")
    if len(found) > 1:
        ids = ", ".join(directory.name for directory in found)
        raise EncoderError(f"{cache}: {len(found)} encoders; say which: {ids}")
    return found[0]


def digest(data: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def readable(text: str) -> str:
    """The text without lone surrogates, which no tokenizer takes."""
    return text.encode("utf-8", "ignore").decode()


def read_card(directory: Path, recipe: type[R]) -> Card[R]:
    """The card of an encoder with a recipe of this type. Raises EncoderError."""
    path = directory / CARD
    try:
        card: Card[R] = msgspec.json.decode(path.read_bytes(), type=Card[recipe])  # type: ignore[valid-type]
    except (OSError, msgspec.MsgspecError) as error:
        raise EncoderError(f"{path}: {getattr(error, 'strerror', None) or error}; {recipe.remedy}") from None
    if card.recipe.version != recipe.form:
        raise EncoderError(f"{path}: has recipe {card.recipe.version}, not {recipe.form}; {recipe.remedy}")
    if card.id != card.recipe.id:
        raise EncoderError(f"{path}: damaged, its id is not that of its recipe; {recipe.remedy}")
    return card


def read_tokenizer(directory: Path, card: Card[R]) -> Tokenizer:
    """The encoder's tokenizer, `plain`. Raises EncoderError."""
    return plain(Tokenizer.from_buffer(read_file(directory, TOKENIZER, card)))


def plain(tokenizer: Tokenizer) -> Tokenizer:
    """Without the padding and truncation that its file may ask for."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def read_file(directory: Path, name: str, card: Card[R]) -> bytes:
    """One of the files that the card vouches for. Raises EncoderError."""
    path = directory / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EncoderError(f"{path}: {error.strerror}; {card.recipe.remedy}") from None
    if digest(data) != card.files.get(name):
        raise EncoderError(f"{path}: damaged, its SHA-256 is not the recorded one; {card.recipe.remedy}")
    return data
