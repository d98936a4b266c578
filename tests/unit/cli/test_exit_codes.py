"""The exit codes are those of the contract, for every end of a run and every error."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest

from agentflow.cli import exit_codes
from agentflow.domain.error import AgentflowError
from agentflow.domain.state import FINAL_RUN_STATES, RESTING_RUN_STATES

CONTRACT = {
    "completed": 0,
    "failed": 1,
    "partial": 3,
    "cancelled": 4,
    "paused": 5,
    "exhausted": 5,
    "waiting": 5,
}
FAILURES = {
    "already_decided",
    "conflict",
    "content",
    "error",
    "not_allowed",
    "run_failed",
    "template",
    "too_many_requests",
    "unauthenticated",
}
"""Errors that no usage explains and that have no code of their own: exit code 1."""


def _errors(root: type[AgentflowError] = AgentflowError) -> Iterator[type[AgentflowError]]:
    yield root
    for child in root.__subclasses__():
        yield from _errors(child)


def test_every_end_and_every_rest_has_the_code_of_the_contract() -> None:
    ends = {state.value for state in FINAL_RUN_STATES} | {state.value for state in RESTING_RUN_STATES}

    assert {state: exit_codes.of_state(state) for state in ends} == CONTRACT


def test_every_error_is_in_the_table_or_is_a_plain_failure() -> None:
    importlib.import_module("agentflow.domain.error")
    codes = {error.code for error in _errors() if error.__module__ == "agentflow.domain.error"}

    assert codes == set(exit_codes.BY_ERROR) | FAILURES


@pytest.mark.parametrize(
    ("code", "expected"),
    [("plan_rejected", 2), ("not_found", 2), ("servers_unreachable", 6), ("wait_timeout", 124), ("content", 1)],
)
def test_an_error_becomes_its_exit_code(code: str, expected: int) -> None:
    assert exit_codes.of_error(code) == expected
