"""One verb on many runs: those that a filter means, each by itself, and what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from agentflow.api import bodies
from agentflow.api.caller import Caller, Json, Operator
from agentflow.api.deeds import plain
from agentflow.api.intake import Route
from agentflow.client import Run
from agentflow.client.bulk import act_on_each, select
from agentflow.client.retention import checked_age
from agentflow.domain.error import UsageError

router = APIRouter(prefix="/runs", tags=["many runs"], route_class=Route)
COUNTED = 10_000
"""Up to how many it is counted whom a filter means: no more are read, whatever there is."""


@router.post("/cancel")
def cancel_many(caller: Operator, body: bodies.Many) -> Json:
    """End the runs that a filter means; what runs of them is told to stop."""
    return _act(caller, "cancel", body, lambda run: run.cancel())


@router.post("/pause")
def pause_many(caller: Operator, body: bodies.ManyPaused) -> Json:
    """Let the runs rest that a filter means. Runs of later go on: everything rests by a maintenance."""
    return _act(caller, "pause", body, lambda run: run.pause(now=body.now, why=body.why))


@router.post("/resume")
def resume_many(caller: Operator, body: bodies.Many) -> Json:
    """Let the runs go on that a filter means: those that are paused, or rest over a budget that was raised."""
    return _act(caller, "resume", body, lambda run: run.resume())


@router.post("/retry")
def retry_many(caller: Operator, body: bodies.Many) -> Json:
    """Take up the failed and partial runs that a filter means; cancelled ones only with ``state``."""
    return _act(caller, "retry", body, lambda run: run.retry())


def _act(caller: Caller, verb: str, body: bodies.Many, do: Callable[[Run], Any]) -> Json:
    meant = _meant(caller, verb, body)
    chosen = meant[: body.limit]
    answer: Json = {"schema": "agentflow.acted/1", "verb": verb, "is_dry_run": body.dry_run}
    answer |= {"meant": min(len(meant), COUNTED), "has_more": len(meant) > COUNTED}
    if body.dry_run:
        return answer | {"runs": [run.summary.as_json() for run in chosen]}
    told = list(act_on_each(chosen, lambda run: {"did": plain(do(run))}))
    outcomes = Counter(each.outcome.value for each in told)
    runs = [each.as_json() | {"answer": each.answer.get("did", {})} for each in told]
    return answer | {"outcomes": dict(outcomes), "runs": runs}


def _meant(caller: Caller, verb: str, body: bodies.Many) -> list[Run]:
    filters = (body.state, body.name, body.project, body.older_than)
    if body.all == any(each is not None for each in filters):
        raise UsageError('Choose runs by "state", "name", "project" or "older_than", or say "all": true; not both.')
    project = caller.project(body.project)
    age = None if body.older_than is None else checked_age(body.older_than)
    wanted = {"state": body.state, "project": project, "name": body.name}
    return select(caller.flow, verb, **wanted, older_seconds=age, most=COUNTED + 1)
