"""What is beside the runs: gates that wait, stored plans, schedules, workers, queues, limits, budgets, dead letters."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from agentflow.api.bodies import Push
from agentflow.api.caller import Json, Operator, Project, Viewer
from agentflow.client.documents import opened_document

router = APIRouter(tags=["installation"])


@router.get("/gates")
def gates(caller: Viewer, project: Project = None) -> Json:
    """List the gates that wait for a decision, the oldest first."""
    found = caller.flow.gates(project=caller.project(project))
    return {"schema": "agentflow.gates/1", "gates": [gate.as_json() for gate in found]}


@router.get("/plans")
def plans(caller: Viewer, project: Project = None, name: str | None = None) -> Json:
    """List the versions of the stored plans, the newest first."""
    found = caller.flow.stored_plans(project=caller.project(project), name=name)
    return {"schema": "agentflow.stored-plans/1", "plans": [each.as_json() for each in found]}


@router.post("/plans")
def push(caller: Operator, body: Push) -> Json:
    """Store a plan as the next version of its name; as none if it is the newest one already."""
    with opened_document(body.plan, body.files) as loaded:
        pushed = caller.flow.push(loaded, project=caller.project(body.project))
    return {
        "schema": "agentflow.push/1",
        "project": pushed.project,
        "name": pushed.name,
        "version": pushed.version,
        "fingerprint": pushed.fingerprint,
        "is_new": pushed.is_new,
    }


@router.get("/schedules")
def schedules(caller: Viewer, project: Project = None) -> Json:
    """List the schedules by name, with their next due times."""
    found = caller.flow.schedules.list(project=caller.project(project))
    return {"schema": "agentflow.schedules/1", "schedules": [each.as_json() for each in found]}


@router.get("/workers")
def workers(caller: Viewer) -> Json:
    """List the workers: what they serve, when they last took a message, what they run."""
    return caller.flow.workers().as_json()


@router.get("/queues")
def queues(caller: Viewer) -> Json:
    """List the queues: what waits in them, and who takes from them."""
    return caller.flow.queues().as_json()


@router.get("/limits")
def limits(caller: Viewer, key: str | None = None) -> Json:
    """Tell the limits in use: rates, concurrencies and circuit breakers."""
    return caller.flow.limits(key).as_json()


@router.get("/budgets")
def budgets(
    caller: Viewer, project: Project = None, day: Annotated[bool, Query(description="Only those of today.")] = False
) -> Json:
    """Tell how the configured budgets stand, or those of one project."""
    return caller.flow.budget(project=caller.project(project), is_today=day).as_json()


@router.get("/dead-letters")
def dead_letters(caller: Viewer, project: Project = None, name: str | None = None) -> Json:
    """List the steps that were given up because they lost worker after worker, the newest first."""
    return caller.flow.dead_letters(project=caller.project(project), name=name).as_json()
