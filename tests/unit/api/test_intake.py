"""The intake stands before every route, and every code of a refusal is in the table that callers read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

from agentflow.api import problem
from agentflow.api.app import ROUTERS
from agentflow.api.founding import router as founding
from agentflow.api.health import live
from agentflow.api.intake import Route
from agentflow.domain.error import AgentflowError

REPOSITORY = Path(__file__).parents[3]
_NOT_OVER_HTTP = {"error", "run_failed", "wait_timeout"}
"""The base of all, and what only who waits in a process of its own is told."""


def test_every_route_is_one_whose_requests_are_looked_at() -> None:
    routes = [route for router in (*ROUTERS, founding, live) for route in router.routes]

    assert len(routes) > 70
    assert [route for route in routes if not isinstance(route, Route)] == []


def _codes(root: type[AgentflowError] = AgentflowError) -> Iterator[str]:
    if root.__module__.startswith("agentflow.domain."):
        yield root.code
    for child in root.__subclasses__():
        yield from _codes(child)


def _told() -> dict[str, set[int]]:
    """The codes of the table of errors in the how-to, each with the statuses of its row."""
    page = (REPOSITORY / "docs/howto/api.md").read_text(encoding="utf-8").partition("\n## Errors\n")[2]
    rows = re.findall(r"^\| (\d[\d, ]*) \| (.*) \|$", page, re.MULTILINE)
    found: dict[str, set[int]] = {}
    for statuses, codes in rows:
        for code in re.findall(r"`([a-z_]+)`", codes):
            found.setdefault(code, set()).update(map(int, statuses.split(", ")))
    return found


def test_every_code_that_can_be_answered_stands_in_the_how_to_with_its_status() -> None:
    by_code = dict(problem.STATUSES.items())
    answered = {code: {status} for code, status in by_code.items()}
    for status, code in problem.CODES.items():
        answered.setdefault(code, set()).add(status)
    answered[problem.INTERNAL] = {HTTPStatus.INTERNAL_SERVER_ERROR}
    told = _told()

    assert set(told) == set(answered)
    assert {code: status for code, status in answered.items() if not status <= told[code]} == {}


def test_every_error_has_a_status_and_every_status_that_is_raised_a_code() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "agentflow/api").glob("*.py"))
    raised = set(re.findall(r"HTTPException\(HTTPStatus\.([A-Z_]+)", sources))

    assert set(_codes()) - _NOT_OVER_HTTP == set(problem.STATUSES)
    assert {HTTPStatus[name] for name in raised} <= set(problem.CODES)
