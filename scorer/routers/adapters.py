"""Low-rank adapters (arXiv 2106.09685): W + alpha / rank * B A. Attached for training, merged for serving."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from scorer.artifacts import ArtifactError

if TYPE_CHECKING:
    import torch

A, B = ".A", ".B"  # after a tuned weight's name: its factors, (rank, in) and (out, rank)


def attach(trunk: Any, layers: range, targets: Collection[str], rank: int, alpha: int) -> dict[str, torch.nn.Parameter]:
    """Puts adapters that do nothing yet on the targets in some layers; returns their factors, to be trained."""
    from peft import LoraConfig, inject_adapter_in_model

    tuned = [f"layers.{layer}.{name}" for layer in layers for name in _linear(trunk.layers[layer], targets)]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=tuned), trunk)
    factors = {}
    for name in tuned:
        adapter = trunk.get_submodule(name)
        factors[name + A], factors[name + B] = adapter.lora_A["default"].weight, adapter.lora_B["default"].weight
    return factors


def detach(trunk: Any, factors: Collection[str]) -> None:
    """Takes them off again: the trunk is as it was."""
    for name in factors:
        if name.endswith(A):
            place = name.removesuffix(A)
            trunk.set_submodule(place, trunk.get_submodule(place).get_base_layer())


def merge(trunk: Any, tensors: Mapping[str, NDArray[Any]], alpha: int) -> None:
    """Adds adapters to the weights for good."""
    import torch

    with torch.no_grad():
        for name in tensors:
            if name.endswith(A):
                place = name.removesuffix(A)
                down, up = (torch.from_numpy(tensors[place + factor]).float() for factor in (A, B))
                trunk.get_submodule(place).weight += alpha / len(down) * (up @ down)


def check(path: Path, trunk: Any, tensors: Mapping[str, NDArray[Any]], others: Collection[str]) -> None:
    """Raises ArtifactError, naming the file, unless all tensors but the `others` adapt weights of the trunk."""
    weights = dict(trunk.named_parameters())
    for name in tensors.keys() - set(others):
        place = name[: -len(A)]
        weight, down, up = weights.get(f"{place}.weight"), tensors.get(place + A), tensors.get(place + B)
        if weight is None or down is None or up is None:
            raise ArtifactError(f"{path}: tensor {name!r} is half an adapter, or adapts nothing in the base")
        if down.ndim != 2 or up.shape != (len(weight), len(down)) or down.shape[1] != weight.shape[1]:
            raise ArtifactError(f"{path}: tensors {place!r} {down.shape}, {up.shape} do not fit {tuple(weight.shape)}")


def _linear(layer: Any, targets: Collection[str]) -> list[str]:
    return [name for name, _ in layer.named_modules() if name.rpartition(".")[2] in targets]
