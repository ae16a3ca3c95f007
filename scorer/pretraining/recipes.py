"""The recipes of everything that ships: each a directory, made by commands that its card prints."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from scorer.artifacts import MANIFEST
from scorer.calibration import SAMPLE
from scorer.encoder import CARD
from scorer.pretraining import sources
from scorer.pretraining.sources import SOURCES, Source
from scorer.tables import DataError

ENCODER = "encoder"

Command = list[str]  # arguments of `routerd`


@dataclass(frozen=True)
class Recipe:
    """place: its directory in the package; what: a router, `calibration` or `encoder`; encoder: the one that it goes
    with, or that contaminated rows are found with; of: the sources of a router's battles, in the order of reading."""

    place: str
    what: str
    encoder: str
    of: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    samples: bool = False  # whether it keeps its win rates on the sample

    @property
    def is_router(self) -> bool:
        """Whether it is fitted and measured."""
        return bool(self.of)

    @property
    def sources(self) -> list[Source]:
        """Of its battles."""
        return [one for name in self.of for one in SOURCES if one.name == name]

    @property
    def files(self) -> set[str]:
        """What it needs of the data."""
        if self.what == ENCODER:
            return set()
        files = {one.file for one in self.sources}
        files |= set(sources.BENCHMARKS.values()) if self.is_router else set()
        return files | (set(sources.SAMPLE) if self.samples or self.what == SAMPLE else set())


_ALL = ("arena_bench", "human_acceptability", "llmrouter", "mmlu_gold", "mmlu_pro")
_PAIR = ("arena_bench", "mmlu_gold")  # where the pair, or its peers, have answered
_LEAST = ("--least", "100")
# mixtral's peers, found with MMLU-Pro's battles, which tie LLMRouter's models to it; causal is not tuned on those
_WEAK = (
    "mixtral-8x7b-instruct-v0.1,claude-1,claude-2,claude-2.1,claude-instant-1,gpt-3.5-turbo,gpt-3.5-turbo-1106,"
    "gemma-2-9b-it,llama-3.1-8b-instruct,llama-3.1-nemotron-51b-instruct,llama-3.3-nemotron-super-49b-v1"
)

RECIPES = (
    Recipe("static/encoder", ENCODER, "static"),
    *(
        recipe
        for encoder in ("static", "minilm")
        for recipe in (
            Recipe(f"{encoder}/calibration", SAMPLE, encoder),
            Recipe(f"{encoder}/mf", "mf", encoder, _ALL, _LEAST),
            Recipe(f"{encoder}/sw", "sw", encoder, _ALL, _LEAST),
            Recipe(f"{encoder}/boosted", "boosted", encoder, _PAIR),
        )
    ),
    Recipe("bert", "bert", "minilm", _PAIR, samples=True),
    Recipe("causal", "causal", "minilm", (*_PAIR, "llmrouter"), ("--weak", _WEAK), samples=True),
)


def choose(places: Collection[str] = ()) -> tuple[Recipe, ...]:
    """The recipes of these places, or all; in the order in which they need each other. Raises DataError."""
    known = [recipe.place for recipe in RECIPES]
    if unknown := sorted(set(places) - set(known)):
        raise DataError(f"{', '.join(unknown)}: what ships is {', '.join(known)}")
    return tuple(recipe for recipe in RECIPES if not places or recipe.place in places)


@dataclass(frozen=True)
class Recipes:
    """Some of the recipes, between two directories: what is read lies in `data`, everything else is made in `work`.

    The commands are the same, whether they are to be run or to be read.
    """

    chosen: tuple[Recipe, ...]
    data: Path = Path("DATA")
    work: Path = Path()

    def make(self, recipe: Recipe) -> Command:
        """The command that makes it, in `work`."""
        out = ["--out", str(self.made(recipe))]
        if recipe.what == ENCODER:
            return ["encoder", "export", recipe.encoder, *out]
        if recipe.what == SAMPLE:
            return ["sample", *self._encoder(recipe.encoder), *self._sample("--prompts"), "--name", "chat", *out]
        battles = [part for one in recipe.sources for part in ("--battles", str(self._battles / one.file))]
        unseen = [part for file in sources.BENCHMARKS.values() for part in ("--evaluation", str(self.data / file))]
        sample = [*self._sample("--sample"), "--sample-name", "chat-1104"] if recipe.samples else []
        return [
            *("train", recipe.what, *self._encoder(recipe.encoder)),
            *(*battles, *unseen, *recipe.options, *sample, *out),
        ]

    def imports(self, recipe: Recipe) -> dict[Path, Command]:
        """The commands that make its battles, by file."""
        return {self._battles / one.file: one.command(self.data, self._battles) for one in recipe.sources}

    def evaluate(self, encoder: str) -> Command:
        """The command that measures the routers that go with an encoder."""
        places = [f"{name}={self.data / file}" for name, file in sources.BENCHMARKS.items()]
        benchmarks = [part for place in places for part in ("--benchmark", place)]
        routers = ",".join(f"{recipe.what}={self.made(recipe)}" for recipe in self.routers(encoder))
        out = str(self.report(encoder).parent)
        return ["evaluate", *self._encoder(encoder), *benchmarks, "--routers", routers, "--out", out]

    def commands(self, recipe: Recipe) -> list[Command]:
        """All of them, from the data to the measures."""
        measured = [self.evaluate(recipe.encoder)] if recipe.is_router else []
        return [*self.imports(recipe).values(), self.make(recipe), *measured]

    def is_made(self, recipe: Recipe) -> bool:
        """Whether it is there, which it is whole or not at all."""
        return (self.made(recipe) / (CARD if recipe.what == ENCODER else MANIFEST)).is_file()

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file of the data that these need."""
        files = sorted({file for recipe in self.chosen for file in recipe.files})
        return {file: hashlib.sha256((self.data / file).read_bytes()).hexdigest() for file in files}

    def routers(self, encoder: str) -> list[Recipe]:
        """Those that are measured beside each other."""
        return [recipe for recipe in self.chosen if recipe.is_router and recipe.encoder == encoder]

    def made(self, recipe: Recipe) -> Path:
        """Its directory."""
        return self.work / recipe.place

    def report(self, encoder: str) -> Path:
        """The evaluation of an encoder's routers."""
        return self.work / "reports" / encoder / "report.json"

    @property
    def _battles(self) -> Path:
        return self.work / "battles"

    def _sample(self, option: str) -> Command:
        return [part for file in sources.SAMPLE for part in (option, str(self.data / file))]

    def _encoder(self, name: str) -> Command:
        """The one that is made here, if it is, so that all fit together."""
        own = [recipe for recipe in self.chosen if (recipe.what, recipe.encoder) == (ENCODER, name)]
        return ["--encoder", str(self.made(own[0])) if own else name]
