"""Win rates that a router would have given to logged prompts: from the log where it gave them, else scored again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feedback.logged import Log
from feedback.ope import Floats
from scorer.routers.base import Prompts, ReadsText, Router

_BLOCK = 1000


def win_rates(log: Log, router: Router, known_as: Sequence[str], encoder_id: str) -> Floats:
    """(n, m), NaN where neither is possible: another encoder's vectors, none kept, or a router that reads texts.

    `known_as` are the names that the router knows the log's models by.
    """
    given = (log.router == router.name) & (log.version == router.version)
    table = np.where(given[:, None], log.win_rates, np.nan)
    if isinstance(router, ReadsText) or not log.embeddings.shape[1]:
        return table
    kept = ~np.isnan(log.embeddings).any(axis=1) & ~np.isnan(log.features).any(axis=1)
    rows = np.flatnonzero(~given & kept & (log.encoder_id == encoder_id))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        prompts = Prompts(log.text_hash[block].tolist(), log.embeddings[block], log.features[block])
        table[block] = router.score(prompts, known_as).win_rates
    return table
