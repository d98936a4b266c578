"""Made-up requests to every address, from a fixed seed: no answer is a bug of ours, and each is as described.

CONTRIBUTING.md says how to let this run for ten minutes instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests import openapi
from tests.integration.api.conftest import Api

EXAMPLES = 3
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
APART = {
    "/api/v1/events",  # a stream without an end
    "/api/v1/health/ready",  # it is unready, for there is no worker
}


def _operations() -> Iterator[Any]:
    every: Any = schemathesis.openapi.from_dict(openapi.description()).get_all_operations()
    for found in every:
        operation = found.ok()
        if operation.path not in APART:
            yield operation


def test_no_request_gets_an_answer_that_is_not_described(api: Api) -> None:
    headers = {"Authorization": f"Bearer {api.flow.create_key('fuzz', 'admin').text}"}
    faults = []
    for operation in _operations():
        try:
            _try(operation, api.url, headers)
        except (AssertionError, FailureGroup) as error:
            faults.append(f"{operation.label}: {error}")
    assert not faults, "\n\n".join(faults)


def _try(operation: Any, url: str, headers: dict[str, str]) -> None:
    @seed(20261122)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[each for each in settings().phases if each.name != "shrink"],
    )
    @given(case=operation.as_strategy())
    def try_one(case: Any) -> None:
        case.call_and_validate(base_url=url, headers=headers, checks=CHECKS)

    try_one()
