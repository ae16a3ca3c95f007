"""One pass of a causal model over a request, behind a prefix that was read once.

Attention looks back only: so the keys and values of what stands before every request are the same for all of them, and
tokens that pad a shorter row on its right change nothing to their left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    KeysValues = tuple[torch.Tensor, torch.Tensor]  # (1, heads, tokens, d) both


class Prefix:
    """Keys and values of the prefix, which attention layers take for their cache. They are read and never written, so
    any number of threads may share one."""

    def __init__(self, kept: Mapping[int, KeysValues], length: int) -> None:
        """kept: by layer; length: in tokens."""
        self.length = length
        self._kept = dict(kept)

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any) -> KeysValues:
        """A layer's own, after those of the prefix."""
        import torch

        first_keys, first_values = (first.expand(len(keys), -1, -1, -1) for first in self._kept[layer])
        return torch.cat([first_keys, keys], dim=2), torch.cat([first_values, values], dim=2)


class _Recorder:
    """Takes the keys and values that make a Prefix."""

    length = 0

    def __init__(self) -> None:
        self.kept: dict[int, KeysValues] = {}

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any) -> KeysValues:
        self.kept[layer] = keys, values
        return keys, values


def embed(trunk: Any, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """(n, tokens, d): what the first layer reads of rows of tokens, the shorter ones padded on their right."""
    import torch

    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
    hidden: torch.Tensor = trunk.embed_tokens(ids)
    return hidden


def read_prefix(trunk: Any, layers: range, hidden: torch.Tensor) -> tuple[torch.Tensor, Prefix]:
    """What `layers` make of the prefix (1, tokens, d), and what they keep of it."""
    recorder = _Recorder()
    made = _through(trunk, layers, hidden, recorder)
    return made, Prefix(recorder.kept, hidden.shape[1])


def read(trunk: Any, layers: range, hidden: torch.Tensor, prefix: Prefix) -> torch.Tensor:
    """What `layers` make of rows (n, tokens, d) behind the prefix."""
    return _through(trunk, layers, hidden, prefix)


def _through(trunk: Any, layers: range, hidden: torch.Tensor, cache: Prefix | _Recorder) -> torch.Tensor:
    import torch

    start, tokens = cache.length, hidden.shape[1]
    positions = torch.arange(start, start + tokens)[None]
    rotations = trunk.rotary_emb(hidden, positions)
    visible = torch.ones(tokens, start + tokens, dtype=torch.bool).tril(start)[None, None]
    for layer in layers:  # by place: the cache's name is not the same in all versions of transformers
        hidden = trunk.layers[layer](hidden, visible, positions, cache, position_embeddings=rotations)
    return hidden
