"""The part of the store about versions: which one serves, what its scores mean, and the runs that made it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection

from feedback import activations, calibrations, runs, traffic
from feedback.connected import LONG_SECONDS, Connected
from feedback.records import Activation, Holdback, LoggedPrompt, Rated, Run, StoredCalibration
from feedback.traffic import Day, Encoded, Scored


class Versioned(Connected):
    """Versions of routers and the jobs that change them."""

    async def activate(
        self,
        router: str,
        version: str,
        directory: str,
        fitted: Sequence[StoredCalibration],
        by: str,
        run_id: str | None = None,
        holdback: Holdback | None = None,
        over: int | None = None,
    ) -> Activation:
        """Makes the version active and its calibrations current, in one transaction.

        run_id: the run that publishes it; raises Lost if another process has taken that over. holdback: what the
        version before keeps, if it is another one. over: the number of the activation that it was compared with;
        raises Overtaken if that serves no longer.
        """

        def work(connection: Connection) -> Activation:
            if run_id is not None:
                runs.hold(run_id, connection)
            return activations.activate(router, version, directory, fitted, by, holdback, over, connection)

        return await self._write(work)

    async def undo(self, judged: Activation, version: str, directory: str, by: str, run: Run) -> Activation | None:
        """Makes the version active in place of the judged one, and the run a part of the history, in one transaction.
        None: the judged one serves no longer, and nothing is changed."""

        def work(connection: Connection) -> Activation | None:
            undone = activations.undo(judged, version, directory, by, connection)
            if undone:
                runs.add(run, connection)
            return undone

        return await self._write(work)

    async def rated_held_back(self, began: Activation, earlier: str, since: Collection[str]) -> list[Rated]:
        """What people said in the holdback that this activation began, of the earlier version and of those since."""
        return await self._read(partial(activations.rated, began, earlier, since), LONG_SECONDS)

    async def active(self, router: str) -> Activation | None:
        """The router's active version; None: the configured artifact."""
        return await self._read(partial(activations.active, router))

    async def activations(self, router: str, limit: int | None = None) -> list[Activation]:
        """The router's versions, newest first."""
        return await self._read(partial(activations.newest, router, limit))

    async def traffic(self, encoder_id: str, limit: int) -> list[LoggedPrompt]:
        """The newest routed prompts that were encoded so, newest first."""
        return await self._read(partial(calibrations.traffic, encoder_id, limit))

    async def texts(self, limit: int) -> list[str]:
        """The newest routed prompts whose text was kept, newest first."""
        return await self._read(partial(calibrations.texts, limit))

    async def add_calibration(self, calibration: StoredCalibration) -> None:
        """From now on the one that counts for its router, version and ladder."""
        await self._write(partial(calibrations.add, calibration))

    async def calibration(self, router: str, version: str, ladder: Sequence[str]) -> StoredCalibration | None:
        """The newest one, or None."""
        return await self._read(partial(calibrations.newest, router, version, ladder))

    # Stretches of traffic (feedback/traffic.py), in Unix seconds

    async def traffic_count(self, after: float, before: float) -> int:
        """How many decisions were made."""
        return await self._read(partial(traffic.count, after, before), LONG_SECONDS)

    async def traffic_scored(self, after: float, before: float, part: float) -> list[Scored]:
        """A random part, in (0, 1], of the decisions."""
        return await self._read(partial(traffic.scored, after, before, part), LONG_SECONDS)

    async def traffic_encoded(self, encoder_id: str, after: float, before: float, part: float) -> list[Encoded]:
        """A random part, in (0, 1], of the decisions, of those whose embedding by this encoder is kept."""
        return await self._read(partial(traffic.encoded, encoder_id, after, before, part), LONG_SECONDS)

    async def traffic_embeddings(self, decision_ids: Sequence[str]) -> dict[str, bytes]:
        """As they are stored, by id."""
        return await self._read(partial(traffic.embeddings, decision_ids), LONG_SECONDS)

    async def traffic_days(self, stretches: Sequence[tuple[float, float]]) -> list[Day]:
        """Of each stretch how many decisions were made, and how many of them rated by its end."""
        return await self._read(partial(traffic.days, stretches), LONG_SECONDS)

    # Runs of scheduled jobs

    async def claim_run(self, job: str, scheduled_for: float, holder: str, expiry_seconds: float) -> Run | None:
        """A run for the holder alone; None: it was made, or the job is running, with a heartbeat younger than that."""
        return await self._write(partial(runs.claim, job, scheduled_for, holder, expiry_seconds))

    async def wants_run(self, job: str, scheduled_for: float, expiry_seconds: float) -> bool:
        """Whether that run is still to be made, and can be now."""
        return await self._read(partial(runs.wanted, job, scheduled_for, expiry_seconds))

    async def beat(self, run_id: str) -> bool:
        """Says that the holder lives. False: the run was taken over or given up; its holder should stop."""
        return await self._write(partial(runs.beat, run_id))

    async def finish_run(self, run_id: str, status: str, verdict: str, record: dict[str, Any] | None = None) -> bool:
        """Writes a run's end. False: it was taken over or given up, and nothing is written."""
        return await self._write(partial(runs.finish, run_id, status, verdict, record))

    async def runs(self, job: str, limit: int = 100) -> list[Run]:
        """The job's runs, the last scheduled first."""
        return await self._read(partial(runs.newest, job, limit))

    async def run_summary(self) -> list[tuple[str, str, int, float | None]]:
        """Of each job and status, how many runs are on record, and when the last of them ended (Unix seconds)."""
        return await self._read(runs.summary)
