"""The paths of the founding runtime, ``/api/agent-runs/...``: the same runs, in its shapes and words.

A directive is a stored plan with a var ``goal``; the budgets are the run's. Errors are ``{"error": ...}`` with 400 for
whatever cannot be done. How a run reads in these shapes is founding_shape's.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, StringConstraints

from agentflow.api.caller import Caller, Json, Operator, Viewer
from agentflow.api.founding_shape import AgentRow, AgentRun
from agentflow.api.intake import Route
from agentflow.api.problem import misfit_of, problem_of
from agentflow.domain.error import AgentflowError, InvalidTransition, NotFound, UsageError
from agentflow.domain.ids import RunId
from agentflow.storage import agent_runs, runs
from agentflow.storage.whole_run import read_run

LISTED = 50
GOAL, TEXT = "goal", "directive_text"


class FoundingRoute(Route):
    """A route whose errors have the founding form; what else a query says is let be, as the founding runtime did."""

    knows_all_names = False

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler that the framework calls."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as misfit:
                return _refused(misfit_of(misfit, request), request)
            except HTTPException as error:
                return JSONResponse({"error": error.detail}, HTTPStatus.BAD_REQUEST)
            except AgentflowError as error:
                return _refused(error, request)

        return answer


def _refused(error: AgentflowError, request: Request) -> JSONResponse:
    known = problem_of(error, request.url.path)
    is_call = known.status_code in (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY)
    status = HTTPStatus.BAD_REQUEST if is_call else known.status_code
    headers = {name: known.headers[name] for name in ("WWW-Authenticate", "Retry-After") if name in known.headers}
    said = "Agent run not found" if isinstance(error, NotFound) and "{run}" in request.scope["route"].path else None
    return JSONResponse({"error": said or str(error)}, status, headers)


router = APIRouter(prefix="/api/agent-runs", route_class=FoundingRoute, include_in_schema=False)


class Launch(BaseModel):
    """A goal, what is to be done for it, and what it may use."""

    operator_goal: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
    directive_id: str | None = Field(default=None, description="NAME or NAME@VERSION of a stored plan; else the first.")
    custom_directive_text: str | None = Field(default=None, description="The value of the plan's var directive_text.")
    max_steps: int = Field(default=10, ge=1, le=100)
    time_budget_minutes: int = Field(default=60, ge=1, le=1440)
    token_budget: int = Field(default=10_000, ge=100, le=1_000_000)


class Decision(BaseModel):
    """Why a run may or may not start."""

    why: str | None = None


@router.post("/launch/", status_code=HTTPStatus.CREATED)
def launch(caller: Operator, body: Launch) -> Json:
    """Start a run of a directive for a goal."""
    project = caller.project(None) or caller.flow.settings.project
    directive = body.directive_id or _first(caller, project)
    try:
        plan = caller.flow.stored_plan(directive, project=project)
    except NotFound as missing:
        raise UsageError(f"Unknown directive: {missing}") from None
    given = {GOAL: body.operator_goal}
    if body.custom_directive_text is not None:
        given[TEXT] = body.custom_directive_text
    if unknown := [name for name in given if name not in plan.plan.vars]:
        raise UsageError(f"The plan {directive} cannot be told the {' and the '.join(unknown)}: it has no such var.")
    budget = {
        "steps": body.max_steps,
        "tokens": body.token_budget,
        "active_time": f"{body.time_budget_minutes}m",
    }
    made = caller.flow.submit(plan, given, project=project, budget=budget)
    run = _read(caller, made.id)
    created = {"plan": run.plan(), "created_at": run.row()["created_at"]}
    return {"agent_run_id": run.id, "status": run.status, **created}


def _first(caller: Caller, project: str) -> str:
    names = sorted(each.name for each in caller.flow.stored_plans(project=project))
    if not names:
        raise UsageError(f"There is no directive: push a plan into project {project} first.")
    return names[0]


@router.get("/")
def listed(caller: Viewer) -> Json:
    """List the newest runs."""
    summaries = [run.summary for run in caller.flow.runs(project=caller.project(None), limit=LISTED)]
    with caller.flow.context.database.transaction() as tx:
        facts = agent_runs.read_facts(tx, [each.id for each in summaries], GOAL)
    found = [AgentRow(each, facts[each.id]).row() for each in summaries if each.id in facts]
    return {"results": found, "count": len(found)}


@router.get("/{run}/")
def detail(caller: Viewer, run: str) -> Json:
    """Show a run with its steps."""
    return _read(caller, run).full()


@router.post("/{run}/status/")
def status(caller: Viewer, run: str) -> Json:
    """Tell how far a run has come, and what it used."""
    return _read(caller, run).standing()


@router.post("/{run}/report/")
def agent_report(caller: Viewer, run: str) -> Json:
    """Report a run."""
    found = _read(caller, run)
    summary = found.summary()
    return {"summary": summary, "markdown": found.markdown(), "json": summary}


@router.post("/{run}/cancel/")
def cancel_agent(caller: Operator, run: str) -> Json:
    """Cancel a run that has not ended."""
    found = caller.run(run)
    found.cancel()
    return {"agent_run_id": found.id, "status": "cancelled"}


@router.post("/{run}/approve")
def approve_agent(caller: Operator, run: str, body: Annotated[Decision | None, Body()] = None) -> Json:
    """Let a run go on that waits for a yes."""
    found = _pending(caller, run)
    caller.flow.approve(found.id, why=None if body is None else body.why)
    return {"agent_run_id": found.id, "status": _read(caller, found.id).status}


@router.post("/{run}/deny")
def deny_agent(caller: Operator, run: str, body: Annotated[Decision | None, Body()] = None) -> Json:
    """Say no to a run that waits for a yes, and end it."""
    found = _pending(caller, run)
    caller.flow.reject(found.id, why=None if body is None else body.why)
    return {"agent_run_id": found.id, "status": _read(caller, found.id).status}


def _pending(caller: Caller, reference: str) -> AgentRun:
    run = _read(caller, reference)
    if run.status != "pending_approval":
        raise InvalidTransition(f"Agent run {run.id} is {run.status}, not pending_approval.", state=run.status)
    return run


def _read(caller: Caller, reference: str) -> AgentRun:
    found = RunId(caller.run(reference).uuid)
    with caller.flow.context.database.transaction() as tx:
        return AgentRun(read_run(tx, found), runs.read_vars(tx, found).get(GOAL))
