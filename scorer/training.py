"""The training set: battles read, cleared of evaluation prompts, encoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scorer import contamination, sharding
from scorer.battles import Battles, read
from scorer.routers.base import Encodes, Prompts
from scorer.tables import DataError, read_table

Progress = Callable[[int, int], None]  # done, of how many
_BLOCK = 256  # prompts between two reports


@dataclass(frozen=True)
class TrainingSet:
    """Battles and their prompts, row i of which is text i of `battles.prompts`; and what was left out."""

    battles: Battles
    prompts: Prompts
    dropped_by_text: int  # prompts
    dropped_by_cosine: int

    @property
    def record(self) -> dict[str, object]:
        """For an artifact's `data`."""
        source, prompt = self.battles.source, self.battles.prompt
        sources, rows = np.unique(source, return_counts=True)
        return {
            "fingerprint": self.battles.fingerprint,
            "prompts": len(self.prompts),
            "prompts_by_source": {str(name): len(np.unique(prompt[source == name])) for name in sources},
            "battles": dict(zip(sources.tolist(), rows.tolist(), strict=True)),
            "dropped_by_text": self.dropped_by_text,
            "dropped_by_cosine": self.dropped_by_cosine,
        }


def training_set(
    battle_files: Iterable[Path],
    encoder: Encodes,
    *,
    evaluation_files: Iterable[Path] = (),
    least_battles: int = 1,
    progress: Progress = lambda done, total: None,
) -> TrainingSet:
    """Reads battles; drops players with fewer than `least_battles`, then prompts too close to the `prompt` column of
    the evaluation files. Raises DataError."""
    battles = frequent(read(battle_files), least_battles)
    if len(battles) and battles.settled:
        raise DataError("any two players' battles all end alike: prompts make no difference, there is nothing to learn")
    evaluation = [text for path in evaluation_files for text in read_table(path).texts("prompt")]
    by_text = contamination.by_text(battles.prompts, evaluation)
    battles = battles.take(~by_text[battles.prompt])
    prompts = encode(encoder, battles.prompts, progress)
    close = contamination.by_cosine(prompts.embeddings, encode(encoder, evaluation, progress).embeddings)
    battles = battles.take(~close[battles.prompt])
    if not len(battles):
        raise DataError("no battle is left to learn from")
    kept = Prompts(battles.prompts, prompts.embeddings[~close], prompts.features[~close])
    return TrainingSet(battles, kept, int(by_text.sum()), int(close.sum()))


def frequent(battles: Battles, least: int) -> Battles:
    """The battles between players that have at least `least` of them."""
    names, rows = np.unique(np.concatenate([battles.model_a, battles.model_b]), return_counts=True)
    kept = names[rows >= least]
    return battles.take(np.isin(battles.model_a, kept) & np.isin(battles.model_b, kept))


def encode(encoder: Encodes, texts: Sequence[str], progress: Progress = lambda done, total: None) -> Prompts:
    """All texts, reporting every few hundred."""
    blocks = [texts[start : start + _BLOCK] for start in range(0, max(len(texts), 1), _BLOCK)]
    parts = []
    for part in sharding.encoded(encoder, blocks):
        parts.append(part)
        progress(min(len(parts) * _BLOCK, len(texts)), len(texts))
    return Prompts(
        tuple(texts),
        np.concatenate([p.embeddings for p in parts]),
        np.concatenate([p.features for p in parts]),
    )
