from __future__ import annotations

import time
from typing import Any

import pytest

from feedback.records import Record, ReportedOutcome
from feedback.signals import KINDS, Signal, implicit
from scorer.sections import Signals

WEIGHTS = {"regenerated": 0.3, "disconnected": 0.1, "length": 0.15, "error": 0.2}


def a_record(regenerated: bool = False, **outcome: Any) -> Record:
    known = {"decision_id": "d", "status": "success", "chosen": "strong", "served": "cheap", "reported_at": time.time()}
    return Record(
        decision_id="d",
        decision=None,
        expired=False,
        outcome=ReportedOutcome(**{**known, **outcome}),
        ratings=[],
        regenerated=regenerated,
    )


@pytest.mark.parametrize(
    ("record", "signals"),
    [
        (a_record(), []),
        (a_record(finish_reason="stop", disconnected=False), []),
        (a_record(regenerated=True), [Signal("regenerated", "cheap", 0.3)]),
        (a_record(disconnected=True), [Signal("disconnected", "cheap", 0.1)]),
        (a_record(finish_reason="length"), [Signal("length", "cheap", 0.15)]),
        (a_record(status="fallback", finish_reason="length"), [Signal("length", "cheap", 0.15)]),
        (a_record(status="failure", served=None, error="APIError 500"), [Signal("error", "strong", 0.2)]),
        (a_record(status="failure", served=None, disconnected=True), [Signal("disconnected", "strong", 0.1)]),
        (a_record(error="APIError 500"), []),  # of an attempt at another model, before this one answered
        (a_record(status="rejected", served=None, error="HTTPException 429"), []),
        (a_record(served=None, finish_reason="length"), []),
        (
            a_record(regenerated=True, disconnected=True, finish_reason="length"),
            [
                Signal("regenerated", "cheap", 0.3),
                Signal("disconnected", "cheap", 0.1),
                Signal("length", "cheap", 0.15),
            ],
        ),
    ],
)
def test_a_signal_is_a_loss_of_the_model_that_served(record: Record, signals: list[Signal]) -> None:
    assert implicit(record, WEIGHTS) == signals
    assert all(signal.value == 0 for signal in signals)


def test_a_weight_of_zero_switches_a_signal_off() -> None:
    record = a_record(regenerated=True, finish_reason="length")
    assert implicit(record, {**WEIGHTS, "regenerated": 0}) == [Signal("length", "cheap", 0.15)]
    assert implicit(record, {}) == []


def test_without_an_outcome_there_is_no_signal() -> None:
    record = Record(decision_id="d", decision=None, expired=True, outcome=None, ratings=[], regenerated=True)
    assert implicit(record, WEIGHTS) == []


def test_every_signal_can_be_configured() -> None:
    assert Signals.__struct_fields__ == KINDS
