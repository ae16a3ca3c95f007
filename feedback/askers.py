"""Ratings that end users send from their browsers: each of the one answer that its token names, by whoever asked."""

from __future__ import annotations

import re

import msgspec

from feedback import ratings
from feedback.ratings import UnknownDecision
from feedback.records import Rating, Record
from feedback.store import Store
from feedback.writer import DecisionWriter
from scorer.tokens import Caller
from scorer.web import Problem

_KEY = re.compile(r"[0-9a-f]{64}")  # a hash of an API key, which stands for a user without a name


async def own(rating: Rating, caller: Caller, store: Store, writer: DecisionWriter) -> Rating:
    """The rating, said by who asked for the answer: so there is one of each token, which can be changed.

    Anonymous where the gateway did not say who asked: a key that many people share is none of them.
    Raises Problem 403 for another decision or another person, and UnknownDecision.
    """
    if rating.decision_id != caller.decision_id:
        raise Problem(403, "not_yours", "decision_id: expected the one that the rating token names", "decision_id")
    if rating.user:
        raise Problem(403, "not_yours", "user: who asked is known; leave it out", "user")
    unwritten = writer.pending(rating.decision_id)  # asked first: what leaves the queue afterwards is in the store
    record = await store.decision(rating.decision_id, unwritten)
    if record is None and ratings.may_come(rating.decision_id):  # it is known on another replica, and here in a moment
        raise Problem(503, "not_yet", "the decision is not written yet; try again", headers={"retry-after": "1"})
    if record is None:
        raise UnknownDecision(rating.decision_id)
    return msgspec.structs.replace(rating, user=_asker(record))


def _asker(record: Record) -> str:
    user = getattr(record.decision or record.outcome, "user", None) or ""
    return "" if _KEY.fullmatch(user) else user
