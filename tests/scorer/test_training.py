"""The training set: what is left to learn from, each prompt encoded once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from scorer import battles, training
from scorer.battles import BAR, Battles
from scorer.routers.base import Prompts
from scorer.tables import DataError


class Encoder:
    """Directions drawn from a hash of the text without its exclamation marks: those alone leave two texts close."""

    name, id = "hashes", "e" * 64

    def __init__(self) -> None:
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str]) -> Prompts:
        self.seen += texts
        rows = np.array([self._direction(text) for text in texts], np.float32).reshape(len(texts), 16)
        return Prompts(tuple(texts), rows, np.array([[len(text)] for text in texts], np.float32).reshape(-1, 1))

    def _direction(self, text: str) -> list[float]:
        seed = int.from_bytes(hashlib.sha256(text.replace("!", "").encode()).digest()[:8], "big")
        row = np.random.default_rng(seed).normal(size=16)
        direction: list[float] = (row / np.linalg.norm(row)).tolist()
        return direction


def write(path: Path, prompts: list[str], model: str = "a") -> Path:
    outcomes = [number % 2 for number in range(len(prompts))]  # were they all alike, there would be nothing to learn
    battles.write(path, Battles.of(prompts, [model] * len(prompts), [BAR] * len(prompts), outcomes, 1, model))
    return path


def evaluation(path: Path, prompts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return path


def test_rows_of_prompts_match_those_of_battles(tmp_path: Path) -> None:
    files = [write(tmp_path / "1.jsonl", ["p", "q", "p"]), write(tmp_path / "2.parquet", ["q", "r"], "b")]
    encoder = Encoder()
    found = training.training_set(files, encoder)
    assert found.prompts.texts == found.battles.prompts == ("p", "q", "r")
    assert encoder.seen == ["p", "q", "r"]
    np.testing.assert_array_equal(found.prompts.embeddings, encoder.encode(["p", "q", "r"]).embeddings)
    assert found.record["battles"] == {"a": 3, "b": 2}


def test_evaluation_prompts_are_dropped_by_text_and_by_cosine(tmp_path: Path) -> None:
    known, close = "how many legs do nine spiders have", "name the largest planet of all"
    file = write(tmp_path / "1.jsonl", [f"Q: {known}? A:", close.replace(" ", "!"), "kept", "kept"])
    asked = evaluation(tmp_path / "e.jsonl", [known, close.replace(" ", "")])
    found = training.training_set([file], Encoder(), evaluation_files=[asked])
    assert (found.dropped_by_text, found.dropped_by_cosine) == (1, 1)
    assert found.battles.prompts == found.prompts.texts == ("kept",)
    assert (found.record["dropped_by_text"], found.record["dropped_by_cosine"]) == (1, 1)


def test_players_with_few_battles_are_left_out(tmp_path: Path) -> None:
    files = [write(tmp_path / "1.jsonl", ["p", "q"]), write(tmp_path / "2.jsonl", ["r"], "rare")]
    found = training.training_set(files, Encoder(), least_battles=2)
    assert found.battles.players == ("a", BAR)
    assert found.prompts.texts == ("p", "q")


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no battle is left"):
        training.training_set([write(tmp_path / "1.jsonl", ["p"])], Encoder(), least_battles=9)


def test_progress_counts_every_prompt() -> None:
    seen: list[tuple[int, int]] = []
    encoded = training.encode(Encoder(), [str(i) for i in range(600)], lambda done, total: seen.append((done, total)))
    assert seen == [(256, 600), (512, 600), (600, 600)]
    assert len(encoded) == 600
