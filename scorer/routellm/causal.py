"""RouteLLM's causal-LLM router: a Llama that foretells which score, [[1]] to [[5]], a judge will give the weak model.

win rate = P(1) + P(2) + P(3), among the five scores. Upstream decodes six tokens to find the score among them; its
model always writes the assistant's header first, so here that is given, and one prefill's logits are the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scorer.artifacts import ArtifactError
from scorer.routellm import files, transformer
from scorer.routers.base import Prompts, Scores, spread

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SYSTEM, QUESTION = "system_ft_v5.txt", "classifier_ft_v5.txt"

_SCORES = 5  # the last tokens of the vocabulary
_BEGIN, _HEADER, _HEADER_END, _TURN_END = (
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
_PLACE = "{question}"
_LONGEST = 100  # characters of a token: what lies beyond so many a token of the window is not read at all


class Conversation:
    """Prompts as the model was trained to read them: Llama 3's turns, up to where the score comes.

    A text never becomes a control token, whatever it says: upstream lets a prompt end its own turn.
    """

    def __init__(self, tokenizer: Tokenizer, system: str, question: str, window: int) -> None:
        """question: with a place for the prompt; window: tokens in all, beyond which the prompt's end is left out."""
        self._tokenizer, self._control = tokenizer, {}
        tokenizer.encode_special_tokens = True  # as text
        for token in (_BEGIN, _HEADER, _HEADER_END, _TURN_END):
            number = tokenizer.token_to_id(token)
            if number is None:
                raise ArtifactError(f"the tokenizer has no {token}: it is not that of Llama 3")
            self._control[token] = number
        self._before, _, self._after = question.strip().partition(_PLACE)
        self._start = [self._control[_BEGIN], *self._turn("system", self._tokens(f"\n\n{system.strip()}"))]
        self._end = [*self._head("assistant"), *self._tokens("\n\n")]
        self._room = window - len(self._start) - len(self._turn("user", [])) - len(self._end)
        if self._room < len(self._tokens(self._asked(""))) + 1:
            raise ArtifactError(f"{SYSTEM} and {QUESTION} leave no room for a prompt in {window} tokens")

    def tokens(self, prompt: str) -> list[int]:
        """The ids after which the score comes."""
        asked = self._tokens(self._asked(prompt[: self._room * _LONGEST]))
        if len(asked) > self._room:
            after = self._tokens(self._after)
            asked = asked[: self._room - len(after)] + after
        return [*self._start, *self._turn("user", asked), *self._end]

    def _asked(self, prompt: str) -> str:
        return f"\n\n{(self._before + prompt + self._after).strip()}"

    def _head(self, role: str) -> list[int]:
        return [self._control[_HEADER], *self._tokens(role), self._control[_HEADER_END]]

    def _turn(self, role: str, content: Sequence[int]) -> list[int]:
        return [*self._head(role), *content, self._control[_TURN_END]]

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False).ids
        return ids


class Causal:
    """The published causal-LLM router. Every prompt is a prefill of its own, so that no other one touches its score."""

    name = "causal"
    sample = None  # no prompts that it could be calibrated on come with it

    def __init__(self, network: Any, conversation: Conversation, version: str) -> None:
        self.version = version
        self._network, self._conversation = network, conversation

    def knows(self, model: str) -> bool:
        """It scores places on the ladder, so every name will do."""
        return True

    def score(self, prompts: Prompts, ladder: Sequence[str]) -> Scores:
        """P(the weak model's answer gets 3 or less) for the cheapest, spread over the ladder."""
        win = np.array([self._win_rate(text) for text in prompts.texts], np.float64)
        return Scores(spread(win, len(ladder)))

    def _win_rate(self, text: str) -> float:
        import torch

        row = torch.tensor([self._conversation.tokens(text)], device=self._network.device)
        with torch.inference_mode():
            logits = self._network(input_ids=row, use_cache=False, logits_to_keep=1).logits[0, -1, -_SCORES:]
            return float(torch.softmax(logits.double(), dim=0)[:3].sum())

    @classmethod
    def load(cls, directory: Path, tokenizer: Path | None = None) -> Causal:
        """tokenizer: the directory with tokenizer.json, if not this one. Needs torch and transformers.

        Raises ArtifactError.
        """
        config = transformer.config(directory, "ForCausalLM")
        weights = files.weights(directory)
        system, question = (_text(directory / name) for name in (SYSTEM, QUESTION))
        if question.count(_PLACE) != 1:
            raise ArtifactError(f"{directory / QUESTION}: no single {_PLACE} in it")
        tokens = _tokenizer(directory, tokenizer, int(config["vocab_size"]))
        try:
            conversation = Conversation(tokens, system, question, int(config["max_position_embeddings"]))
        except ArtifactError as error:
            raise ArtifactError(f"{directory}: {error}") from None
        network = transformer.network(directory, "AutoModelForCausalLM", "auto")
        used = [directory / name for name in (transformer.CONFIG, SYSTEM, QUESTION)]
        return cls(network, conversation, files.version([*used, *weights]))


def _text(path: Path) -> str:
    try:
        return files.read(path).decode("utf-8")
    except UnicodeDecodeError:
        raise ArtifactError(f"{path}: not UTF-8") from None


def _tokenizer(directory: Path, elsewhere: Path | None, vocabulary: int) -> Tokenizer:
    """That of the base model, with the five scores or without."""
    where = elsewhere or directory
    if not (where / transformer.TOKENIZER).exists():
        raise ArtifactError(
            f"{where}: no {transformer.TOKENIZER}; RouteLLM publishes none: take that of meta-llama/Meta-Llama-3-8B and"
            " put it there, or name its directory: `tokenizer: DIRECTORY`"
        )
    tokens = transformer.tokenizer(where)
    size = tokens.get_vocab_size(with_added_tokens=True)
    if size not in (vocabulary - _SCORES, vocabulary):
        raise ArtifactError(
            f"{where / transformer.TOKENIZER}: {size} tokens; the model's {vocabulary} leave"
            f" {vocabulary - _SCORES} beside the {_SCORES} scores"
        )
    return tokens
