"""Every test that asks for `store_url` runs twice: on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import make_url

from feedback.judge import Judge
from feedback.migrations import migrate
from feedback.plugins import Plugins
from feedback.store import Store
from scorer.decisions import Decision
from tests.conftest import Serve
from tests.feedback.examples import a_decision, application
from tests.feedback.judging import Endpoint, a_judge
from tests.feedback.talking import Daemon
from tests.postgres import Postgres

Away = Callable[[], AbstractContextManager[None]]


@pytest.fixture(params=["sqlite", "postgresql"])
def dialect(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def empty_url(dialect: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A database without tables."""
    if dialect == "sqlite":
        return f"sqlite:///{tmp_path}/feedback.sqlite"
    server: Postgres = request.getfixturevalue("postgres")
    return server.create()


@pytest.fixture
def store_url(dialect: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A migrated database; a SQLite one gives up on a lock after 0.1 s, so that tests need not wait."""
    if dialect == "sqlite":
        url = f"sqlite:///{tmp_path}/feedback.sqlite?timeout=0.1"
        migrate(url)
        return url
    server: Postgres = request.getfixturevalue("postgres")
    return server.emptied()


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = Store(store_url)
    yield opened
    await opened.close()


@pytest.fixture
def away(dialect: str, store_url: str, request: pytest.FixtureRequest) -> Away:
    """A context in which the database takes no writes: locked by another, or crashed until then."""

    @contextmanager
    def locked() -> Iterator[None]:
        connection = sqlite3.connect(str(make_url(store_url).database), isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.close()

    @contextmanager
    def crashed() -> Iterator[None]:
        server: Postgres = request.getfixturevalue("postgres")
        server.crash()
        try:
            yield
        finally:
            server.start()

    return locked if dialect == "sqlite" else crashed


@pytest.fixture
def daemon(store_url: str, serve: Serve) -> Iterator[Daemon]:
    store, plugins = Store(store_url), Plugins()
    url = serve(application(store, plugins=plugins))
    with httpx.Client(base_url=url, timeout=30) as client:
        yield Daemon(url, store, plugins, client)


@pytest.fixture
def decision(store_url: str) -> Decision:
    """One that is in the database."""
    made = a_decision()

    async def add() -> None:
        store = Store(store_url)
        await store.add_decisions([made])
        await store.close()

    asyncio.run(add())
    return made


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
async def judge(store: Store, endpoint: Endpoint, serve: Serve) -> AsyncIterator[Judge]:
    made = a_judge(store, serve(endpoint.app))
    yield made
    await made.close()
