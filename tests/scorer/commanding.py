"""Commands as a person gives them, and the one line of a fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner, Result

from scorer.cli import cli

LADDER = "ladder: [{model: big, like: gpt-4-1106-preview}, {model: small, like: mixtral-8x7b-instruct-v0.1}]\n"
Write = Callable[..., Path]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def fault(*arguments: object) -> str:
    """The one line that a person gets."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    (line,) = result.output.strip().splitlines()
    assert line.startswith("routerd: ")
    return line
