"""A sentence encoder distilled into a static one, after model2vec: what it makes of each token alone, in fewer
dimensions, common tokens weighing less. Needs torch, unlike serving.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from tokenizers import Tokenizer

from scorer import encoder, export, static
from scorer.encoder import TOKENIZER, EncoderError
from scorer.static import VECTORS, Recipe, Static

DIMENSION = 256
SMOOTHING = 1e-4  # model2vec's
WINDOW = 6000  # characters, as many as the features read

_BATCH = 512  # tokens

Floats = NDArray[np.float64]


def distil(
    source: str = export.SOURCE, cache: Path | None = None, dimension: int = DIMENSION, out: Path | None = None
) -> Path:
    """Writes `out`, or else `<cache>/<encoder id>/`, and returns it; a sound one that is already there is left alone.

    `source` as in `export`. Raises EncoderError.
    """
    model = export.find(source)
    recipe = Recipe(*export.digests(source, model), "static", dimension, SMOOTHING, WINDOW, static.RECIPE)
    target = out or (cache or encoder.default_cache()) / recipe.id
    if not _is_sound(target):
        with export.scratch(target.parent) as folder:
            _write(source, model, recipe, folder)
            export.publish(folder, target, _is_sound)
    return target


def _is_sound(directory: Path) -> bool:
    try:
        Static.load(directory)
    except EncoderError:
        return False
    return True


def _write(source: str, model: Path, recipe: Recipe, directory: Path) -> None:
    export.need("torch", "transformers")
    try:
        with export.quiet():
            tokenizer = encoder.plain(Tokenizer.from_file(str(model / TOKENIZER)))
            tokens = _alone(export.transformer(model), tokenizer)
    except EncoderError:
        raise
    except Exception as problem:  # of any kind, as in export
        fault = f"encoder source {source}: cannot distil {model} ({export.reason(problem)})"
        raise EncoderError(fault) from problem
    if not 1 <= recipe.dimension <= tokens.shape[1]:
        raise EncoderError(f"encoder dimension {recipe.dimension}: 1 to {tokens.shape[1]} are accepted")
    vectors = principal(tokens, recipe.dimension) * rarity(len(tokens), recipe.smoothing)[:, None]
    rows, scales = rounded(vectors)
    (directory / VECTORS).write_bytes(safetensors.numpy.save({"rows": rows, "scales": scales}))
    shutil.copyfile(model / TOKENIZER, directory / TOKENIZER)
    export.write_card(directory, source, recipe.dimension, recipe, (VECTORS, TOKENIZER))


def _alone(network: Any, tokenizer: Tokenizer) -> Floats:
    """(tokens, d): the mean of the last layer for every token between the tokens that begin and end a text."""
    import torch

    around = tokenizer.encode("").ids
    before, after = torch.tensor(around[: len(around) // 2]), torch.tensor(around[len(around) // 2 :])
    parts = []
    with torch.inference_mode():
        for ids in torch.arange(tokenizer.get_vocab_size()).split(_BATCH):
            rows = [before.expand(len(ids), -1), ids[:, None], after.expand(len(ids), -1)]
            parts.append(network(input_ids=torch.cat(rows, 1).long()).last_hidden_state.mean(1).double().numpy())
    return np.concatenate(parts)


def principal(rows: Floats, dimension: int) -> Floats:
    """(n, dimension): the rows' first principal components, each signed so that its largest value is positive."""
    centred = rows - rows.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    components: Floats = centred @ axes[:, ::-1][:, :dimension]
    largest = components[np.abs(components).argmax(axis=0), np.arange(dimension)]
    signed: Floats = components * np.sign(largest)
    return signed


def rarity(tokens: int, smoothing: float) -> Floats:
    """(tokens,) smooth inverse frequencies a / (a + p), where a vocabulary in order of frequency has Zipf's p."""
    p = 1 / np.arange(2, tokens + 2)
    weights: Floats = smoothing / (smoothing + p / p.sum())
    return weights


def rounded(vectors: Floats) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rows of whole numbers within 127, and what each is to be multiplied by."""
    scales = np.maximum(np.abs(vectors).max(axis=1), 1e-9) / 127
    return np.round(vectors / scales[:, None]).astype(np.int8), scales.astype(np.float32)
