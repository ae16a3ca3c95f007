"""Requests made from the OpenAPI document, and against it: never a server error, and every answer is as described.

On PostgreSQL, which refuses texts that SQLite takes.
"""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.postgres import Postgres
from tests.scorer.conftest import Start

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 20  # of each operation
NUL = "a%00b"


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_answers_to_generated_requests_are_as_described(start: Start, postgres: Postgres, mode: GenerationMode) -> None:
    client = start(database=postgres.create())
    schema = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
    operations = [schema[path][method] for path in schema for method in schema[path]]
    assert len(operations) >= 10
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and "requestBody" not in operation.definition.raw:
            continue  # nothing can be wrong with it

        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(checks=CHECKS)

        check()


def test_a_nul_character_in_an_address_is_no_server_error(start: Start, postgres: Postgres) -> None:
    client = start(database=postgres.create())
    fields = ("before", "model", "router", "user", "status", "rated", "period")
    paths = [f"/decisions?{field}={NUL}" for field in fields]
    paths += [f"/{where}/{NUL}" for where in ("decisions", "static", "confirm", "v1/decisions", "v1/report")]
    statuses = {path: client.get(path).status_code for path in (*paths, f"/?days={NUL}")}
    assert {path: status for path, status in statuses.items() if status >= 500} == {}
