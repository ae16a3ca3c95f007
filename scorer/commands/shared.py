"""What the commands share: paths, lists, the cached encoder and progress bars."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from feedback.store import Store
    from scorer.config import Config
    from scorer.encoder import Encoder
    from scorer.static import Static

FILE = click.Path(path_type=Path)
T = TypeVar("T")
_CHOSEN = "routerd.encoder"


def split(names: str) -> list[str]:
    """A comma-separated list."""
    return [name.strip() for name in names.split(",") if name.strip()]


def with_encoder(command: Callable[..., None]) -> Callable[..., None]:
    """The option that `load_encoder` goes by."""

    def note(context: click.Context, _: click.Parameter, chosen: str) -> None:
        context.meta[_CHOSEN] = chosen

    return click.option(
        "--encoder",
        default="minilm",
        show_default=True,
        help="static, minilm (the one in the cache), or an exported encoder's directory.",
        expose_value=False,
        callback=note,
    )(command)


def load_encoder() -> Encoder | Static:
    """The one that the command was given."""
    from scorer import catalogue
    from scorer.encoder import MODEL
    from scorer.sections import ENCODERS

    chosen: str = click.get_current_context().meta[_CHOSEN]
    if chosen in ENCODERS:
        return catalogue.load_encoder(chosen)
    where = Path(chosen)
    return catalogue.load_encoder("minilm" if (where / MODEL).is_file() else "static", where)


def in_store(config: Config, work: Callable[[Store], Awaitable[T]]) -> T:
    """What `work` finds or does in the configured database."""
    from scorer import hosting

    async def run() -> T:
        store = hosting.open_store(config)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere; called with how much is done of how much.

    It is shown from the first call on, so that work which shows one of its own may come before.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    bar = Progress(transient=True, console=console)
    task = bar.add_task(what, total=None)

    def shown(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield shown
    finally:
        bar.stop()
