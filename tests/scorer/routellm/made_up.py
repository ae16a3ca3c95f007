"""Checkpoints of the published names and shapes, filled with random numbers, and prompts for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from scorer.routers.base import Prompts

STRONG, WEAK = "gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"
TEXTS = ("What is the capital of France?", "Prove that every finite integral domain is a field.", "你好，世界", "Hi")


def prompts(*texts: str) -> Prompts:
    """As a router gets them, whose own embeddings RouteLLM's routers do not read."""
    given = texts or TEXTS
    return Prompts(given, np.full((len(given), 4), np.nan, np.float32), np.full((len(given), 2), np.nan, np.float32))


def mf_tensors(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    return {
        "P.weight": generator.normal(size=(64, 128)).astype(np.float32),
        "text_proj.0.weight": generator.normal(size=(128, 1536)).astype(np.float32),
        "classifier.0.weight": generator.normal(size=(1, 128)).astype(np.float32),
    }


def write_mf(directory: Path, tensors: dict[str, NDArray[np.float32]] | None = None) -> Path:
    """A directory with model.safetensors alone, as the hub has it."""
    directory.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(mf_tensors() if tensors is None else tensors, directory / "model.safetensors")
    return directory
