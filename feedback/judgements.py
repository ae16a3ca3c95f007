"""Statements about judgements: queued, claimed by one worker at a time, kept step by step, and paid for under a cap.

Times are by the database's clock where it has one, as in feedback/runs.py, so that replicas agree on what has expired.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Update, and_, delete, exists, func, or_, select, update

from feedback import comparisons, statements
from feedback.records import Comparison, Judgement
from feedback.schema import DecisionRow, JudgeCallRow, JudgementRow
from feedback.verdicts import settled, share
from gateway_plugin import ids

JUDGE = "judge"  # the source of the comparisons that verdicts become
WAITING, JUDGED = "waiting", "judged"
MOST_WAITING = 1000  # beyond it nothing is queued: what is drawn must not outgrow what is judged
ATTEMPTS = 5

_DAY = 86_400.0
_LONGEST_SECONDS = 3 * _DAY  # that texts wait, at most
_LEDGER_SECONDS = 90 * _DAY
_DECIDED_SECONDS = 600.0  # by which a decision is written
_STEPS = ("answer_b", "forward", "backward")


class Counts(NamedTuple):
    """agreeing: verdicts that both orders gave, of those judged; ties: of those judged, too. spent: dollars today."""

    judged: int
    agreeing: int
    ties: int
    given_up: int
    waiting: int
    spent: float

    @property
    def text(self) -> str:
        """In a line."""
        ends = f"{self.given_up:,} given up, {self.waiting:,} waiting; ${self.spent:.2f} today"
        if not self.judged:
            return f"the judge: no verdicts, {ends}"
        agreeing = share(self.agreeing, self.judged)
        return (
            f"the judge: {self.judged:,} verdicts, of which both orders agree on {agreeing.value:.1%} "
            f"({agreeing.low:.1%}, {agreeing.high:.1%}); {self.ties / self.judged:.1%} ties; {ends}"
        )


def queue(new: Sequence[Judgement], connection: Connection) -> int:
    """Adds those whose decision is new, while there is room; how many."""
    waiting = select(func.count()).select_from(JudgementRow).where(JudgementRow.finished_at.is_(None))
    room = MOST_WAITING - connection.execute(waiting).scalar_one()
    now, added = statements.now(connection), 0
    for one in new[: max(room, 0)]:
        row = {
            **msgspec.structs.asdict(one),
            "messages": msgspec.json.encode(one.messages).decode(),
            "created_at": now,
            "due_at": now,
            "attempts": 0,
            "claim": None,
            "status": WAITING,
        }
        insert = statements.insert(connection, JudgementRow).values(row)
        added += connection.execute(insert.on_conflict_do_nothing(index_elements=["decision_id"])).rowcount
    return added


def claim(expiry_seconds: float, connection: Connection) -> Judgement | None:
    """The one that has been due longest, for the caller alone until the claim expires; None: nothing is due."""
    statements.take_turns("claim of judgements", connection)
    now = statements.now(connection)
    waiting = JudgementRow.finished_at.is_(None), JudgementRow.due_at <= now, JudgementRow.attempts < ATTEMPTS
    due = select(JudgementRow.decision_id).where(*waiting, _decided())  # else it was erased, or is not written yet
    first = due.order_by(JudgementRow.due_at).limit(1).scalar_subquery()
    taken = update(JudgementRow).where(JudgementRow.decision_id == first)
    values = {"claim": ids.mint(), "due_at": now + expiry_seconds, "attempts": JudgementRow.attempts + 1}
    row = connection.execute(taken.values(values).returning(JudgementRow.__table__)).mappings().first()
    if row is None:
        return None
    known = {**row, "messages": msgspec.json.decode(row["messages"])}
    return Judgement(**{name: known[name] for name in Judgement.__struct_fields__})


def keep(one: Judgement, expiry_seconds: float, connection: Connection) -> bool:
    """Keeps what was paid for so far, and renews the claim. False: it is another's by now."""
    steps = {name: getattr(one, name) for name in _STEPS}
    return _mine(one, {**steps, "due_at": statements.now(connection) + expiry_seconds}, connection)


def finish(one: Judgement, connection: Connection) -> bool:
    """Makes the two verdicts a comparison, and lets go of the texts. False: it is another's by now."""
    assert one.forward is not None
    assert one.backward is not None
    verdicts = {"forward": one.forward, "backward": one.backward}
    if not _mine(one, {**verdicts, **_end(JUDGED, connection)}, connection):
        return False
    winner = settled(one.forward, one.backward)
    preferred = Comparison(
        model_a=one.model_a, model_b=one.model_b, winner=winner, decision_id=one.decision_id, source=JUDGE
    )
    comparisons.add(preferred, None, True, connection)
    return True


def give_up(one: Judgement, why: str, connection: Connection) -> bool:
    """For good, with a reason; the texts go."""
    return _mine(one, _end(why, connection), connection)


def retry(one: Judgement, seconds: float, connection: Connection) -> bool:
    """After so many seconds."""
    return _mine(one, {"claim": None, "due_at": statements.now(connection) + seconds}, connection)


def postpone(one: Judgement, connection: Connection) -> bool:
    """To the next day (UTC), when there is money again; not an attempt."""
    tomorrow = _midnight(statements.now(connection)) + _DAY
    return _mine(one, {"claim": None, "due_at": tomorrow, "attempts": JudgementRow.attempts - 1}, connection)


def tidy(connection: Connection) -> int:
    """Gives up what has waited too long or was tried too often, and forgets old calls; how many were given up."""
    now = statements.now(connection)
    connection.execute(delete(JudgeCallRow).where(JudgeCallRow.started_at < now - _LEDGER_SECONDS))
    too_old = JudgementRow.created_at < now - _LONGEST_SECONDS
    too_often = and_(JudgementRow.attempts >= ATTEMPTS, JudgementRow.due_at <= now)
    alone = and_(JudgementRow.created_at < now - _DECIDED_SECONDS, ~_decided())
    spent = _waiting().where(or_(too_old, too_often, alone))
    return connection.execute(spent.values(_end("tried too long", connection))).rowcount


def reserve(call_id: str, decision_id: str, model: str, estimate: float, cap: float, connection: Connection) -> bool:
    """Books a call that is about to be made at its estimate. False: today's (UTC) dollars would exceed the cap."""
    statements.take_turns("the judge's budget", connection)
    if connection.execute(select(JudgeCallRow.call_id).where(JudgeCallRow.call_id == call_id)).first():
        return True  # booked before, though its caller did not hear of it
    now = statements.now(connection)
    if _spent(now, connection) + estimate > cap:
        return False
    row = {"call_id": call_id, "decision_id": decision_id, "model": model, "started_at": now, "estimate": estimate}
    connection.execute(statements.insert(connection, JudgeCallRow).values(row))
    return True


def settle(call_id: str, cost: float, connection: Connection) -> None:
    """What the call did cost."""
    connection.execute(update(JudgeCallRow).where(JudgeCallRow.call_id == call_id).values(cost=cost))


def counts(after: float, connection: Connection) -> Counts:
    """Of those that were finished from then on, and of those that wait."""
    row = JudgementRow.__table__.c
    agreeing = row.forward == row.backward
    judged = and_(row.status == JUDGED, row.finished_at >= after)

    def number(condition: ColumnElement[bool]) -> ColumnElement[Any]:
        return func.count().filter(condition)

    found = connection.execute(
        select(
            number(judged),
            number(and_(judged, agreeing)),
            number(and_(judged, or_(~agreeing, row.forward == "tie"))),
            number(and_(row.status != JUDGED, row.finished_at >= after)),
            number(row.finished_at.is_(None)),
        )
    ).one()
    return Counts(*found, spent=_spent(statements.now(connection), connection))


def _decided() -> ColumnElement[bool]:
    """Its decision is there: without one there is nothing to learn from a verdict, and its user may be erased."""
    return exists().where(DecisionRow.decision_id == JudgementRow.decision_id)


def _mine(one: Judgement, values: dict[str, Any], connection: Connection) -> bool:
    held = _waiting().where(JudgementRow.decision_id == one.decision_id, JudgementRow.claim == one.claim)
    return connection.execute(held.values(values)).rowcount == 1


def _waiting() -> Update:
    return update(JudgementRow).where(JudgementRow.finished_at.is_(None))


def _end(status: str, connection: Connection) -> dict[str, Any]:
    without = {"messages": None, "answer_a": None, "answer_b": None, "claim": None}
    return {**without, "status": status, "finished_at": statements.now(connection)}


def _spent(now: float, connection: Connection) -> float:
    """Dollars since midnight (UTC)."""
    paid = func.coalesce(JudgeCallRow.cost, JudgeCallRow.estimate)
    total = select(func.coalesce(func.sum(paid), 0.0)).where(JudgeCallRow.started_at >= _midnight(now))
    return float(connection.execute(total).scalar_one())


def _midnight(now: float) -> float:
    return now - now % _DAY
