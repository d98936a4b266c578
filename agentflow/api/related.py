"""What is told of a run beside itself: a run before it is one, its steps alone, what it came from, what differs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from agentflow.api.bodies import Trial
from agentflow.api.caller import Json, Viewer
from agentflow.api.intake import Route
from agentflow.api.paging import Cursor, Limit, page
from agentflow.client import StepView
from agentflow.client.documents import opened_document
from agentflow.domain.ids import RunId
from agentflow.storage import step_pages
from agentflow.storage.events import hold_snapshot

router = APIRouter(prefix="/runs", tags=["runs"], route_class=Route)


@router.post("/check")
def check(caller: Viewer, body: Trial) -> Json:
    """Tell what a submission would do, and write nothing: a dry run. 422 with every fault at once."""
    wanted: dict[str, Any] = {
        "project": caller.project(body.project),
        "budget": body.budget,
        "directive": body.directive,
        "mode": body.mode,
        "plan_hash": body.plan_hash,
    }
    if isinstance(body.plan, str):
        stored = caller.flow.stored_plan(body.plan, project=wanted["project"])
        wanted["project"] = wanted["project"] or caller.flow.settings.project
        return caller.flow.check(stored, body.vars, **wanted).as_json()
    with opened_document(body.plan, body.files, caller.key.project) as loaded:
        return caller.flow.check(loaded, body.vars, **wanted).as_json()


@router.get("/{run}/steps")
def steps(caller: Viewer, run: str, limit: Limit = 100, cursor: Cursor = None) -> Json:
    """List the steps of a run in the order of its plan, with their attempts."""
    found = caller.run(run)
    with caller.flow.context.database.transaction() as tx:
        hold_snapshot(tx)  # items are made meanwhile, and edges from them to what is shown
        places = step_pages.read_places(tx, RunId(found.uuid))
        chosen, following = page(enumerate(places), lambda each: (each[0],), limit, cursor)
        shown = step_pages.read_steps(tx, [place for _, place in chosen], places)
    return {
        "schema": "agentflow.steps/1",
        "run": found.id,
        "steps": [step.as_json() for step in shown],
        "next_cursor": following,
    }


@router.get("/{run}/steps/{step}/attempts")
def attempts(caller: Viewer, run: str, step: str) -> Json:
    """List the attempts of a step, the first one first: on which worker, for how long, how each ended."""
    found = caller.run(run)
    tried: StepView = found.step(step)
    told = [attempt.as_json() for attempt in tried.attempts]
    return {"schema": "agentflow.attempts/1", "run": found.id, "step": tried.id, "attempts": told}


@router.get("/{run}/lineage")
def lineage(caller: Viewer, run: str) -> Json:
    """Tell where a run came from, and which runs came from it: its forks, and the child runs of its steps."""
    found = caller.run(run)
    return {"schema": "agentflow.lineage/1", "run": found.id, **found.view.lineage.as_json()}


@router.get("/{run}/diff/{other}")
def diff(caller: Viewer, run: str, other: str) -> Json:
    """Compare a run with a later one: plans, vars, and how each step ended, what it left and what it used."""
    return caller.flow.diff(caller.run(run), caller.run(other)).as_json()
