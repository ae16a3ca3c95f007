"""A classifier on a Hugging Face encoder: where it lies, which weights it holds, how it reads a text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scorer import export
from scorer.encoder import TOKENIZER, EncoderError, readable

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LABELS = 3  # the strong model wins, a tie, the weak one wins
_LONGEST_TOKEN = 100  # characters: so many for each token of the window are read at most


@dataclass(frozen=True)
class Classifier:
    """A classifier to tune. digest: of its weights; network: with `head`, the parameters that the source does not have
    and that are made up; tokenizer: without padding and truncation."""

    source: str
    digest: str
    network: Any
    head: tuple[str, ...]
    tokenizer: Tokenizer

    @classmethod
    def load(cls, source: str, seed: int = 0) -> Classifier:
        """Needs torch and transformers. Raises EncoderError."""
        import torch
        import transformers
        from tokenizers import Tokenizer

        directory = export.find(source)
        digest, _ = export.digests(source, directory)
        try:
            with _silent(), torch.random.fork_rng():
                torch.manual_seed(seed)
                network, report = transformers.AutoModelForSequenceClassification.from_pretrained(
                    directory, num_labels=LABELS, dtype=torch.float32, local_files_only=True, output_loading_info=True
                )
            tokenizer = Tokenizer.from_file(str(directory / TOKENIZER))
        except Exception as problem:  # of any kind: what the libraries make of a file that is not what it should be
            raise EncoderError(
                f"base {source}: cannot be read from {directory} ({export.reason(problem)})"
            ) from problem
        tokenizer.no_padding()
        tokenizer.no_truncation()
        network.eval().requires_grad_(False)
        return cls(source, digest, network, tuple(sorted(report["missing_keys"])), tokenizer)

    @property
    def layers(self) -> Any:
        """The stack that most of the network is, a ModuleList. Raises EncoderError."""
        from torch.nn import ModuleList

        count = self.network.config.num_hidden_layers
        for module in self.network.modules():
            if isinstance(module, ModuleList) and len(module) == count:
                return module
        raise EncoderError(f"base {self.source}: has no stack of {count} layers; give an encoder like BERT")

    def tokens(self, text: str, window: int) -> list[int]:
        """At most `window`: of a longer text the first and the last half. What lies so far from either end that it
        cannot be among them is not read."""
        half, reach = window // 2, window // 2 * _LONGEST_TOKEN
        if len(text) > 2 * reach:
            text = text[:reach] + text[-reach:]
        ids: list[int] = self.tokenizer.encode(readable(text)).ids
        return ids if len(ids) <= window else ids[:half] + ids[-half:]


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps the library's progress bar, and its report of a head that is not there yet, from the user."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with export.quiet():
            yield
    finally:
        logging.set_verbosity(before)
