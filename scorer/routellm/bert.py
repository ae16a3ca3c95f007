"""RouteLLM's BERT router, which is XLM-RoBERTa with three classes: the strong model wins, a tie, the weak one wins.

win rate = P(the strong model wins) = 1 - (P(tie) + P(the weak one wins)): upstream counts ties for the weak model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from scorer.artifacts import ArtifactError
from scorer.routellm import files, transformer
from scorer.routers.base import Prompts, Scores, spread

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_LABELS = 3
_WINDOW = 512  # tokens, where the directory does not say; with the special ones
_LONGEST = 100  # characters of a token: what lies beyond so many a token of the window is not read at all


class Bert:
    """The published BERT router. Every prompt is a forward of its own, so that no other one touches its score."""

    name = "bert"
    sample = None  # no prompts that it could be calibrated on come with it

    def __init__(self, network: Any, tokenizer: Tokenizer, window: int, version: str) -> None:
        self.version = version
        self._network, self._tokenizer, self._reach = network, tokenizer, window * _LONGEST
        tokenizer.enable_truncation(window)  # on the right

    def knows(self, model: str) -> bool:
        """It scores places on the ladder, so every name will do."""
        return True

    def score(self, prompts: Prompts, ladder: Sequence[str]) -> Scores:
        """P(the strong model wins) for the cheapest, spread over the ladder."""
        win = np.array([self._win_rate(text) for text in prompts.texts], np.float64)
        return Scores(spread(win, len(ladder)))

    def _win_rate(self, text: str) -> float:
        import torch

        ids = self._tokenizer.encode(text[: self._reach].encode("utf-8", "replace").decode()).ids
        with torch.inference_mode():
            row = torch.tensor([ids], device=self._network.device)
            logits = self._network(input_ids=row, attention_mask=torch.ones_like(row)).logits[0]
            return float(torch.softmax(logits.double(), dim=0)[0])

    @classmethod
    def load(cls, directory: Path) -> Bert:
        """Needs torch and transformers. Raises ArtifactError."""
        config = transformer.config(directory, "ForSequenceClassification")
        labels = len(config.get("id2label") or range(2))  # the library's default
        if labels != _LABELS:
            raise ArtifactError(f"{directory / transformer.CONFIG}: {labels} labels; RouteLLM's bert has {_LABELS}")
        weights = files.weights(directory)
        tokenizer = transformer.tokenizer(directory)
        window = _window(directory, config)
        network = transformer.network(directory, "AutoModelForSequenceClassification", "float32")
        version = files.version([directory / transformer.CONFIG, directory / transformer.TOKENIZER, *weights])
        return cls(network, tokenizer, window, version)


def _window(directory: Path, config: dict[str, Any]) -> int:
    """Tokens that the tokenizer says the model reads, else 512, and never more than it has positions for."""
    said: object = None
    path = directory / "tokenizer_config.json"
    if path.exists():
        try:
            said = msgspec.json.decode(files.read(path), type=dict[str, Any]).get("model_max_length")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ArtifactError(f"{path}: {error}") from None
    positions = config.get("max_position_embeddings", _WINDOW)
    most = min(said, _WINDOW) if isinstance(said, int) and said > 2 else _WINDOW
    if not isinstance(positions, int) or positions < 3:
        raise ArtifactError(f"{directory / transformer.CONFIG}: max_position_embeddings {positions!r}")
    return min(most, positions)
