"""What benchmarks of nights are given: a response matrix, a router that was fitted without it, and two models."""

from __future__ import annotations

import argparse
from pathlib import Path

from scorer.routers.factorization import Factorization
from tests.benchmarks.replay import unseen
from tests.benchmarks.streams import Matrix, matrix


def parser(description: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("file", type=Path, help="a response matrix")
    made.add_argument("--prior", type=Path, required=True, help="an MF artifact that was fitted without the file")
    made.add_argument("--ladder", required=True, help="two columns of the file, each =what it is like")
    made.add_argument("--cache", type=Path, required=True, help="for embeddings")
    return made


def read(given: argparse.Namespace) -> tuple[Matrix, Factorization, dict[str, str]]:
    """The matrix of the ladder's models, the prior, and what each of them is like."""
    like = dict(rung.split("=") for rung in given.ladder.split(","))
    prior = Factorization.load(unseen(given.prior, given.file.stem), None)
    return matrix(given.file, list(like), given.cache), prior, like
