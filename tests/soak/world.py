"""The running whole that faults strike: one proxy and its stand-ins, and for each fault a daemon on a new database."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import make_url

from tests.demo.stack import Service, Stack
from tests.feedback.examples import rows
from tests.postgres import Postgres
from tests.soak.memory import Grown

LEAST_SECONDS = 1.0  # of anything that a scale shortens


class World:
    """`scale` shortens everything: 1 is all of it."""

    def __init__(self, stack: Stack, folder: Path, scale: float) -> None:
        self.folder, self.proxy, self.url = folder, stack.proxy, stack.daemon
        self.daemon: Service = stack.services["daemon"]
        self._gateway: Service = stack.services["proxy"]
        self._command = self.daemon.command
        self.database = ""
        self.grown: Mapping[str, Grown] = {}  # of processes whose memory was measured
        self._scale = scale
        self._numbers = itertools.count(1)
        self._postgres: Postgres | None = None

    def seconds(self, full: float) -> float:
        return max(full * self._scale, LEAST_SECONDS)

    def times(self, full: int) -> int:
        return max(round(full * self._scale), 1)

    @property
    def postgres(self) -> Postgres:
        """A server of our own."""
        if self._postgres is None:
            self._postgres = Postgres(str(self.folder / "postgres"))
        return self._postgres

    def begin(self, dialect: str, environment: Mapping[str, str]) -> None:
        """A new database, and a daemon that was started on it."""
        self.daemon.stop()
        file = self.folder / f"soak-{next(self._numbers)}.sqlite"
        self.database = f"sqlite:///{file}" if dialect == "sqlite" else self.postgres.create()
        self.configure(Path(self._command[-1]), database=self.database)
        self.daemon.command, self.daemon.environment = self._command, environment
        self.daemon.start()

    def configure(self, path: Path, **changes: Any) -> None:
        """Writes the daemon's configuration there, with these changes."""
        settings = yaml.safe_load(Path(self._command[-1]).read_text())
        path.write_text(yaml.safe_dump(settings | changes, sort_keys=False))

    @property
    def pid(self) -> int:
        assert self.daemon.process is not None
        return self.daemon.process.pid

    @property
    def proxy_pid(self) -> int:
        assert self._gateway.process is not None
        return self._gateway.process.pid

    def stored(self) -> set[str]:
        """The ids of all ratings in the database."""
        return {feedback_id for (feedback_id,) in rows(self.database, "SELECT feedback_id FROM ratings")}

    def log_bytes(self) -> int:
        """The size of SQLite's write-ahead log."""
        return Path(f"{make_url(self.database).database}-wal").stat().st_size

    def close(self) -> None:
        self.daemon.stop()
        if self._postgres is not None:
            self._postgres.close()
