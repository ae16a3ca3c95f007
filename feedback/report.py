"""What routing did, and what another policy would have done: figures with intervals, as data and as text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feedback import costs, ope, policies, raters, regression
from feedback.contexts import context
from feedback.drift import Drift
from feedback.logged import Log
from feedback.ope import Estimate, Floats, Terms
from scorer import calibration

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

GAMMAS = (1.5, 2.0, 3.0)  # how many times as likely bad answers may be rated, or good ones


@dataclass(frozen=True)
class Group:
    """What happened to some of the requests. cost: US dollars a request; rating: mean of those rated, in [0, 1]."""

    name: str
    requests: int
    cost: Estimate
    rated: Estimate
    rating: Estimate


@dataclass(frozen=True)
class Happened:
    """strong_share: of the answered requests; left_out: how many requests estimates cannot use, by reason."""

    requests: int
    strong_share: Estimate
    groups: tuple[Group, ...]  # all, by model that served, by router version
    left_out: dict[str, int]


@dataclass(frozen=True)
class Bound:
    """The mean rating of all requests, if of those alike bad answers are rated up to gamma times as readily, or good
    ones."""

    gamma: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """One policy on the requests that estimates can use. shares: of its calls, by model; cost: dollars a request.

    ips, snips and dr are mean ratings among raters; everyone is the same for all requests, by who tends to rate.
    """

    policy: str
    shares: dict[str, float]
    cost: Estimate
    ips: Estimate
    snips: Estimate
    dr: Estimate
    everyone: Estimate
    bounds: tuple[Bound, ...]


@dataclass(frozen=True)
class WhatIf:
    """requests: that estimates use; ratings: of those; unscored: not used, since the router cannot score them now.

    rated: for each model P(an answer is rated), fitted, on the thirds of prompts from those that the logging routers
    thought easiest for the cheaper models to those they thought hardest. over_shuffled: the lead in dr of the policy
    asked about over its cost-matched shuffle.
    """

    requests: int
    ratings: int
    unscored: int
    rated: dict[str, list[float]]
    over_shuffled: Estimate
    lines: tuple[Line, ...]


def happened(log: Log) -> Happened:
    """Of everything logged."""
    answered = log.served >= 0
    versions = np.char.add(np.char.add(log.router, " "), log.version)
    groups = [_group("all", log, np.ones(len(log), bool))]
    groups += [_group(model, log, log.served == place) for place, model in enumerate(log.models)]
    groups += [_group(str(name), log, versions == name) for name in np.unique(versions) if name.strip()]
    reasons = Counter(log.left_out.tolist())
    return Happened(
        requests=len(log),
        strong_share=ope.share(np.where(answered, log.served == 0, np.nan), log.cluster),
        groups=tuple(groups),
        left_out={reason: count for reason, count in reasons.most_common() if reason},
    )


def what_if(log: Log, name: str, win_rates: Floats, threshold: float, exploration: float) -> WhatIf:
    """A policy by these win rates (n, m) of the usable requests `log`, beside what it must beat.

    Requests whose win rates are NaN are left out of all lines.
    """
    scored = np.atleast_1d(~np.isnan(win_rates).any(axis=1))
    used, rates = (log, win_rates) if scored.all() else (log.take(scored), win_rates[scored])
    candidates = used.candidates
    expected = costs.expected(used.chosen, used.cost, used.tokens_in, len(used.models))
    target = policies.routed(rates, candidates, used.models, threshold, exploration)
    shuffled = f"{name}, shuffled"
    targets = {
        "as it was": used.probabilities,
        name: target,
        shuffled: policies.shuffled(target, candidates, expected),
        "always cheapest": policies.cheapest(candidates),
        "always strongest": policies.strongest(candidates),
    }
    x = context(used.embeddings, used.features, used.win_rates)
    q = regression.cross_fitted(x, used.chosen, used.reward, used.cluster, len(used.models))
    rated = raters.rated(used.logged, used.win_rates)
    among = {policy: ope.dr(used.logged, each, used.reward, q, rated) for policy, each in targets.items()}
    return WhatIf(
        requests=len(used),
        ratings=int((~np.isnan(used.reward)).sum()),
        unscored=int((~scored).sum()),
        rated=_by_difficulty(used, rated),
        over_shuffled=ope.difference(among[name], among[shuffled], used.cluster),
        lines=tuple(_line(policy, used, each, among[policy], expected, q, rated) for policy, each in targets.items()),
    )


def _line(name: str, log: Log, target: Floats, among: Terms, expected: Floats, q: Floats, rated: Floats) -> Line:
    terms = [
        ope.dr(log.logged, target, log.cost, expected),
        ope.ips(log.logged, target, log.reward),
        ope.snips(log.logged, target, log.reward),
        among,
        ope.dr_everyone(log.logged, target, log.reward, q, rated),
    ]
    cost, ips, snips, dr, everyone = (ope.estimate(each, log.cluster) for each in terms)
    shares = dict(zip(log.models, target.mean(axis=0).tolist(), strict=True)) if len(target) else {}
    return Line(name, shares, cost, ips, snips, dr, everyone, _bounds(everyone))


def _by_difficulty(log: Log, rated: Floats) -> dict[str, list[float]]:
    if not len(log):
        return {}
    thirds = np.array_split(np.argsort(calibration.lowest(log.win_rates), kind="stable"), 3)
    means = np.array([rated[third].mean(axis=0) for third in thirds if len(third)])
    return dict(zip(log.models, means.T.tolist(), strict=True))


def _bounds(found: Estimate) -> tuple[Bound, ...]:
    """From the ends of the interval; none without one."""
    if not found.enough:
        return ()
    return tuple(
        Bound(gamma, ope.under_selection(found.low, 1 / gamma), ope.under_selection(found.high, gamma))
        for gamma in GAMMAS
    )


def _group(name: str, log: Log, rows: NDArray[np.bool_]) -> Group:
    reward, cluster = log.reward[rows], log.cluster[rows]
    was_rated = (~np.isnan(reward)).astype(np.float64)
    return Group(
        name,
        int(rows.sum()),
        ope.mean(log.cost[rows], cluster),
        ope.share(was_rated, cluster),
        ope.share(reward, cluster),
    )


# As text and as JSON


def plain(report: DataclassInstance) -> dict[str, Any]:
    """For JSON: no NaN."""
    content: dict[str, Any] = _finite(asdict(report))
    return content


def text(found: Happened) -> str:
    """What happened."""
    heads = ["", "requests", "$ / 1000", "rated %", "mean rating of those rated"]
    lines = [
        [
            group.name,
            f"{group.requests:,}",
            _cell(group.cost, 3, 1000, observed=True),
            _cell(group.rated, 1, 100),
            _cell(group.rating, 3),
        ]
        for group in found.groups
    ]
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in found.left_out.items()) or "none"
    return "\n".join(
        [
            f"{found.requests:,} requests; to the strongest model: {_cell(found.strong_share, 1, 100)} %",
            _table(heads, lines),
            f"not for estimates: {left_out}",
        ]
    )


def drift_text(found: Sequence[Drift]) -> str:
    """Evaluations, the newest first: what the newest found, and when there were alarms before."""
    if not found:
        return "drift: not evaluated yet; a daemon does so once a day"
    newest, *earlier = found
    heads = ["", "seen", "expected", "p", ""]
    lines = [
        [
            f"{one.check.replace('_', ' ')} {one.router}".strip(),
            *(f"{number:.3f}" for number in (one.value, one.expected)),
            f"{one.p:.1g}",
            "DRIFT" if one.alarm else "",
        ]
        for one in newest.checks
    ]
    alarms = [f"{_day(each.before)}: {each.verdict}" for each in earlier if each.alarms]
    return "\n".join(
        [
            f"drift up to {_day(newest.before)}: {newest.verdict}",
            *([_table(heads, lines)] if lines else []),
            *(f"not checked: {check}: {why}" for check, why in newest.skipped.items()),
            f"a check alarms at p < {newest.level:.2g}: {newest.false_alarms:g} false alarms a year in the mean",
            *(["alarms before:", *alarms] if alarms else []),
        ]
    )


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def what_if_text(found: WhatIf) -> str:
    """What would have been."""
    models = list(found.lines[0].shares)
    heads = ["", *(f"{model} %" for model in models), "$ / 1000", "raters say: DR", "SNIPS", "IPS"]
    lines = []
    for line in found.lines:
        shares = [f"{100 * line.shares[model]:.1f}" for model in models]
        given = [_cell(each, 3) for each in (line.dr, line.snips, line.ips)]
        lines.append([line.policy, *shares, _cell(line.cost, 3, 1000), *given])
    unscored = f"; {found.unscored:,} more have no scores" if found.unscored else ""
    return "\n".join(
        [
            f"{found.requests:,} requests with a choice, {found.ratings:,} of them rated{unscored}",
            _table(heads, lines),
            f"{found.lines[1].policy} leads its shuffle by {_cell(found.over_shuffled, 3)}",
            "dollars where a model did not serve: by the prompt's tokens, at what the model cost elsewhere",
            "",
            "if everybody rated",
            _everyone(found),
            "",
            f"how many rate, % on easy, middling and hard prompts: {_raters(found)}",
        ]
    )


def _everyone(found: WhatIf) -> str:
    heads = ["", "as those alike do", *(f"selected up to {gamma:g}-fold" for gamma in GAMMAS)]
    lines = []
    for line in found.lines:
        bounds = [f"{bound.low:.3f} to {bound.high:.3f}" for bound in line.bounds] or ["-"] * len(GAMMAS)
        lines.append([line.policy, _cell(line.everyone, 3), *bounds])
    return _table(heads, lines)


def _raters(found: WhatIf) -> str:
    shares = {model: ", ".join(f"{100 * share:.1f}" for share in thirds) for model, thirds in found.rated.items()}
    return "; ".join(f"{model} {thirds}" for model, thirds in shares.items())


def _cell(number: Estimate, digits: int, scale: float = 1, observed: bool = False) -> str:
    """A mean with its interval, or how few decisions are behind it."""
    if math.isnan(number.value):
        return "-"
    value = f"{scale * number.value:.{digits}f}"
    if not number.enough:
        return f"{value} (not enough{'' if observed else ' overlap'}: {number.size:.0f})"
    return f"{value} ({scale * number.low:.{digits}f}, {scale * number.high:.{digits}f})"


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, the first to the left."""
    rows = [list(heads), *map(list, lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(row))
        for row in ([*zip(row, widths, strict=True)] for row in rows)
    )


def _finite(value: Any) -> Any:
    """JSON has no NaN: null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
