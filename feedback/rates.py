"""One error rate over all nights: what part of it tonight's tests may spend.

Run k is given the share k^-1.5 / 2.612 of the rate (these sum to 1), divided among its routers; what a published
challenger was tested at passes on to the next run as well. This is the fallback procedure (Wiens 2003; online: Tian
and Ramdas 2021). Its family-wise error is bounded by the rate however the tests depend on each other: a level moves on
only from a publication, so before the first false one each share has been used against at most one version that is
worse, and P(a false publication) is at most the sum of those shares.

A confidence sequence would not do instead: it holds over looks at one challenger while ratings come in. Every night has
another challenger, on a golden set that grows slowly and then no more, and a sequence for each would have to share the
rate all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from feedback.records import Run

_POWER, _ZETA = 1.5, 2.6123753486854883  # Riemann's zeta of 1.5


class Rate(NamedTuple):
    """run: its number, from 1, of those that tested; level: what it may spend."""

    run: int
    level: float


def following(earlier: Sequence[Run], error_rate: float, attempt: int = 1) -> Rate:
    """Of the run after these, in any order. A run that left no record may have tested, and published: it counts, each
    of its attempts, and passes nothing on; so do earlier attempts at this one."""
    counted = _in_order(run for run in earlier if run.record is None or "rate" in run.record)
    number = attempt + sum(run.attempt for run in counted)
    last = counted[-1].record if counted and attempt == 1 else None
    passed_on = float(last["rate"]["passed_on"]) if last else 0.0
    return Rate(number, min(error_rate * number**-_POWER / _ZETA + passed_on, error_rate))


def last_said(earlier: Sequence[Run]) -> dict[str, Any] | None:
    """What the last of these that came to an end found to be said, as its record has it; None: there is none."""
    ended = _in_order(run for run in earlier if run.record and "said" in run.record)
    return ended[-1].record["said"] if ended and ended[-1].record else None


def _in_order(runs: Iterable[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: math.inf if run.finished_at is None else run.finished_at)
