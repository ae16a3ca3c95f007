"""What RouteLLM's two transformers share: a Hugging Face directory of the published layout, read without its code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from scorer.artifacts import ArtifactError
from scorer.routellm import files

CONFIG, TOKENIZER = "config.json", "tokenizer.json"


def config(directory: Path, architecture: str) -> dict[str, Any]:
    """config.json of a model for some purpose, such as `ForSequenceClassification`."""
    path = directory / CONFIG
    try:
        found = msgspec.json.decode(files.read(path), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path}: not a model's configuration: {error}") from None
    architectures = found.get("architectures")
    if not isinstance(architectures, list) or not any(str(name).endswith(architecture) for name in architectures):
        raise ArtifactError(f"{path}: architectures {architectures}; expected one ...{architecture}")
    return found


def tokenizer(directory: Path) -> Tokenizer:
    """The fast tokenizer in tokenizer.json, which neither cuts nor pads."""
    path = directory / TOKENIZER
    try:
        found = Tokenizer.from_buffer(files.read(path))
    except ArtifactError:
        raise
    except Exception as error:  # the library raises nothing narrower
        raise ArtifactError(f"{path}: not a tokenizer: {error}") from None
    found.no_padding()
    found.no_truncation()
    return found


def network(directory: Path, kind: str, dtype: str) -> Any:
    """A model of an Auto class of transformers, in its evaluation mode, on a GPU if there is one. Needs torch.

    Raises ArtifactError, also when a tensor is missing: transformers would make it up.
    """
    import torch
    import transformers

    files.weights(directory)
    transformers.utils.logging.disable_progress_bar()
    try:
        model, report = getattr(transformers, kind).from_pretrained(
            directory,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # of any kind: what the library makes of a file that is not what it should be
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ArtifactError(f"{directory}: cannot be loaded: {reason}") from None
    if missing := sorted(report["missing_keys"]):
        raise ArtifactError(f"{directory}: {len(missing)} tensors are missing, such as {missing[0]!r}")
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
