"""LiteLLM's own complexity classifiers, as baselines: its rules and its trained tiers, no model behind either.

They are read from the LiteLLM that is installed, so they are the ones that a gateway would run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import numpy as np

from scorer.evaluation.metrics import Floats

Score = Callable[[str], float]

_NO_DOWNLOAD = ("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # LiteLLM fetches a price list when it is imported

NAMES = ("heuristic", "heuristic_v2")


def installed() -> str | None:
    """LiteLLM's version, if it has both classifiers."""
    os.environ.setdefault(*_NO_DOWNLOAD)
    try:
        found = version("litellm")
    except PackageNotFoundError:
        return None
    modules = ("complexity_router.tier_predictor", "adaptive_router.classifier")
    try:
        return found if all(find_spec(f"litellm.router_strategy.{module}") for module in modules) else None
    except ImportError:  # from a parent package
        return None


def scores(name: str, texts: Sequence[str]) -> Floats:
    """(n,): how complex each text is. Sweeping a threshold over it sweeps the classifier's own.

    heuristic: the weighted score that its tier boundaries cut. heuristic_v2: 1 - P(the lowest tier succeeds), which its
    success threshold cuts.
    """
    score = _heuristic() if name == "heuristic" else _heuristic_v2()
    return np.array([score(text) for text in texts], np.float64)


def _heuristic() -> Score:
    from litellm.router_strategy.complexity_router import ComplexityRouter

    rules = ComplexityRouter(model_name="rules", litellm_router_instance=None, complexity_router_config={"tiers": {}})
    return lambda text: float(rules.classify(text)[1])


def _heuristic_v2() -> Score:
    from litellm.router_strategy.adaptive_router.classifier import classify_prompt
    from litellm.router_strategy.complexity_router.tier_predictor import TierSuccessPredictor, resolve_tier_artifact

    tiers = TierSuccessPredictor(resolve_tier_artifact("ultrafeedback"))
    return lambda text: 1 - float(tiers.predict(text, classify_prompt(text)).probabilities[1])
