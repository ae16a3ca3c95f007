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
    from scorer.routers.base import Encodes
    from scorer.sharding import Map

FILE = click.Path(path_type=Path)
T = TypeVar("T")
_CHOSEN, _CLUSTER, _MAP = "routerd.encoder", "routerd.ray", "routerd.map"


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


def load_encoder() -> Encodes:
    """The one that the command was given; with --ray, all the cluster's."""
    from scorer import catalogue, sharding

    chosen: str = click.get_current_context().meta[_CHOSEN]
    encoder, mapped = catalogue.named_encoder(chosen), mapping()
    return encoder if mapped is map else sharding.Spread(encoder, chosen, mapped)


def with_ray(command: Callable[..., None]) -> Callable[..., None]:
    """The option that `mapping` goes by."""

    def note(context: click.Context, _: click.Parameter, address: str | None) -> None:
        context.meta[_CLUSTER] = address

    return click.option(
        "--ray",
        is_flag=False,
        flag_value="local",
        metavar="[ADDRESS]",
        help="Share the work out over a Ray cluster; without its address over this machine's cores.",
        expose_value=False,
        callback=note,
    )(command)


def mapping() -> Map:
    """The cluster that the command was given, until it ends; the builtin without one."""
    from scorer import sharding

    context = click.get_current_context()
    address: str | None = context.meta.get(_CLUSTER)
    if address is None:
        return map
    if _MAP not in context.meta:
        context.meta[_MAP] = context.with_resource(sharding.cluster(address))
    mapped: Map = context.meta[_MAP]
    return mapped


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
