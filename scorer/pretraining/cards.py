"""Model cards: prose that people write, and marked sections in it that are written from what came out.

A section stands between `<!-- name -->` and `<!-- /name -->`: the data, the commands and the metrics. Everything else
of a card (intended use, limits, languages) is carried over as it is.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scorer import artifacts
from scorer.calibration import PRETRAINED
from scorer.pretraining.recipes import Recipe, Recipes
from scorer.pretraining.sources import SOURCES
from scorer.tables import DataError

CARD = "CARD.md"

_WIDTH = 118
_BASELINES = (
    "prompt length",
    "LiteLLM heuristic",
    "LiteLLM heuristic_v2",
    "kNN, own labels",
    "random, expected",
)
_TITLES = {"mmlu": "MMLU", "gsm8k": "GSM8K"}


def fill(card: str, sections: Mapping[str, str]) -> str:
    """The card with these sections' contents. Raises DataError where the card has no place for one."""
    for name, content in sections.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if card.count(begin) != 1 or card.count(end) != 1 or card.index(begin) > card.index(end):
            raise DataError(f"expected one section {begin.strip()} ... {end}")
        before, _, rest = card.partition(begin)
        card = f"{before}{begin}\n{content}\n\n{end}{rest.partition(end)[2]}"
    return card


def prose(recipe: Recipe) -> str:
    """Its card in the package. Raises DataError where that is none, or has no place for what is to be written in."""
    where = PRETRAINED / recipe.place / CARD
    try:
        card = where.read_text(encoding="utf-8")
        fill(card, dict.fromkeys(_sections(recipe), ""))
    except (OSError, UnicodeDecodeError, DataError) as error:
        raise DataError(f"{where}: no card to fill: {error}") from None
    return card


def written(made: Recipes, recipe: Recipe) -> str:
    """The card of what was made. Raises DataError and ArtifactError."""
    sections = {"commands": commands(Recipes(made.chosen).commands(recipe))}
    if recipe.is_router:
        sections["data"] = data(artifacts.read_manifest(made.made(recipe)))
        sections["metrics"] = metrics(made.report(recipe.encoder), label(recipe))
    return fill(prose(recipe), sections)


def _sections(recipe: Recipe) -> tuple[str, ...]:
    return ("data", "commands", "metrics") if recipe.is_router else ("commands",)


def label(recipe: Recipe) -> str:
    """Its name in an evaluation's report, which names an artifact of one's own after its directory, too."""
    return f"{recipe.what} ({Path(recipe.place).name})"


def data(manifest: artifacts.Manifest) -> str:
    """What it was fitted on, a line a source. Artifacts made before prompts were counted lack that column."""
    battles, prompts = manifest.data["battles"], manifest.data.get("prompts_by_source")
    counted = {"battles": battles} if prompts is None else {"prompts": prompts, "battles": battles}
    lines = [
        (
            one.title,
            one.origin,
            one.licence,
            *(f"{count[one.name]:,}" for count in counted.values()),
            one.weight,
            one.role,
        )
        for one in SOURCES
        if one.name in battles
    ]
    dropped = (
        f"Dropped: {manifest.data['dropped_by_text']} prompts that contain a question of the evaluation files, "
        f"{manifest.data['dropped_by_cosine']} with a cosine of 0.95 or more to one."
    )
    return f"{_table(['data', 'from', 'licence', *counted, 'weight', 'as'], lines)}\n\n{dropped}"


def commands(ran: Iterable[Sequence[str]]) -> str:
    """A shell block."""
    return "\n".join(["```sh", *(_wrapped(shlex.join(["routerd", *arguments])) for arguments in ran), "```"])


def metrics(report: Path, method: str) -> str:
    """From an evaluation's report.json: the router `method` beside the other routers and the baselines, with 95 %
    intervals."""
    benchmarks = json.loads(report.read_text(encoding="utf-8"))["benchmarks"]
    lines = [line for benchmark in benchmarks for line in _measured(benchmark, method)]
    return _table(["benchmark", "method", "APGR", "CPT(50) %", "CPT(80) %", "leads by"], lines)


def _measured(benchmark: Mapping[str, Any], method: str) -> Iterator[Sequence[str]]:
    """A line a method; "leads by" is the router's difference in APGR to it on the same resamples."""
    found = {row["method"]: row["measures"] for row in benchmark["methods"]}
    others = [row["method"] for row in benchmark["methods"] if row["router"] and row["method"] != method]
    leads = _leads(benchmark["tests"], method)
    title = f"{_TITLES.get(benchmark['benchmark'], benchmark['benchmark'])} ({benchmark['prompts']:,})"
    for name in (method, *others, *(name for name in _BASELINES if name in found)):
        measures, shown = found[name], name.partition(" (")[0]
        yield (
            title if name == method else "",
            f"**{shown}**" if name == method else shown,
            _interval(measures["apgr"], 1, 3),
            _interval(measures["cpt_50"], 100, 1),
            _interval(measures["cpt_80"], 100, 1),
            _interval(leads[name], 1, 3) if name in leads else "",
        )


def _leads(tests: Iterable[Mapping[str, Any]], method: str) -> dict[str, Mapping[str, float | None]]:
    """The method's differences to others, each of which is tested in one direction."""
    ahead = {test["b"]: test["difference"] for test in tests if test["a"] == method}
    behind = {test["a"]: _negative(test["difference"]) for test in tests if test["b"] == method}
    return ahead | behind


def _negative(value: Mapping[str, float | None]) -> Mapping[str, float | None]:
    swapped = {"value": value["value"], "low": value["high"], "high": value["low"]}
    return {name: None if number is None else -number for name, number in swapped.items()}


def _interval(value: Mapping[str, float | None], scale: float, digits: int) -> str:
    """Alone where it has no width; nothing where there is no value."""
    middle, low, high = (
        "" if (number := value[key]) is None else f"{number * scale:.{digits}f}" for key in ("value", "low", "high")
    )
    return middle if low == high else f"{middle} ({low}, {high})"


def _table(titles: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    rows = [titles, ["---"] * len(titles), *([str(cell) for cell in line] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _wrapped(command: str) -> str:
    """Broken before options where it is too long for a line."""
    lines, indent = [""], "    "
    for part in re.split(r" (?=--)", command):
        if lines[-1] and len(lines[-1]) + len(part) + 3 > _WIDTH:
            lines.append(indent + part)
        else:
            lines[-1] = f"{lines[-1]} {part}" if lines[-1] else part
    return " \\\n".join(lines)
