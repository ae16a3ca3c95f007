"""What the commands share: paths, lists, the cached encoder and progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from scorer.encoder import Encoder

FILE = click.Path(path_type=Path)


def split(names: str) -> list[str]:
    """A comma-separated list."""
    return [name.strip() for name in names.split(",") if name.strip()]


def load_encoder() -> Encoder:
    """The one in the cache."""
    from scorer.encoder import Encoder, resolve

    return Encoder.load(resolve())


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere; called with how much is done of how much."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(transient=True, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
