"""The verbs on a run. Each answers with the run as it stands after it and with what it did."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Request, Response
from fastapi.responses import JSONResponse

from agentflow.api import bodies
from agentflow.api.caller import Caller, Json, Operator
from agentflow.api.deeds import accepted, created, done
from agentflow.api.intake import Route
from agentflow.api.once import Once
from agentflow.api.seen import AsSeen, Seen
from agentflow.client import LoadedPlan, Run
from agentflow.client.documents import opened_document

router = APIRouter(prefix="/runs/{run}", tags=["verbs"], route_class=Route)
Pause = Annotated[bodies.Pause, Body(default_factory=bodies.Pause)]
Retry = Annotated[bodies.Retry, Body(default_factory=bodies.Retry)]
Decision = Annotated[bodies.Decision, Body(default_factory=bodies.Decision)]
"""Bodies that need not be sent: nothing has to be said in them."""
IdempotencyKey = Annotated[str | None, Header(description="The same key with the same fork is the same run.")]


@router.post("/cancel", status_code=HTTPStatus.ACCEPTED)
def cancel(caller: Operator, run: str, seen: AsSeen, request: Request) -> Response:
    """End a run: what waits ends now, what runs is told to stop."""
    with seen.of_run(caller, run) as found:
        return accepted(request, found, found.cancel())


@router.post("/pause", status_code=HTTPStatus.ACCEPTED)
def pause(caller: Operator, run: str, seen: AsSeen, request: Request, body: Pause) -> Response:
    """Let a run rest until it is resumed."""
    with seen.of_run(caller, run) as found:
        return accepted(request, found, found.pause(now=body.now, why=body.why))


@router.post("/resume")
def resume(caller: Operator, run: str, seen: AsSeen) -> Json:
    """Let a run go on that is paused or rests over a budget."""
    with seen.of_run(caller, run) as found:
        return done(found, found.resume())


@router.post("/retry")
def retry(caller: Operator, run: str, seen: AsSeen, body: Retry) -> Json:
    """Take up what failed, was cancelled or is held, or one such step."""
    with seen.of_run(caller, run) as found:
        return done(found, found.retry(body.step))


@router.post("/fork", status_code=HTTPStatus.CREATED)
def fork(
    caller: Operator,
    run: str,
    seen: AsSeen,
    body: bodies.Fork,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Make a new run that takes over what this one did before a step."""
    with seen.of_run(caller, run, is_looked_at=False) as origin, ExitStack() as opened:
        forked = caller.flow.fork(
            origin,
            body.from_step,
            vars=body.vars,
            plan=_edited(caller, origin.summary.project, body, opened),
            budget=body.budget,
            directive=body.directive,
            idempotency_key=idempotency_key,
        )
    return created(request, forked, forked.fork_json())


def _edited(caller: Caller, project: str, body: bodies.Fork, opened: ExitStack) -> LoadedPlan | None:
    match body.plan:
        case None:
            return None
        case str():
            return caller.flow.stored_plan(body.plan, project=project)
        case _:
            return opened.enter_context(opened_document(body.plan, body.files, caller.key.project))


@router.post("/approve")
def approve(caller: Operator, run: str, seen: AsSeen, body: Decision) -> Json:
    """Approve the gate that a run waits at, in the name of the key."""
    with seen.of_run(caller, run) as found:
        return done(found, found.approve(body.step, why=body.why, form=body.form))


@router.post("/reject")
def reject(caller: Operator, run: str, seen: AsSeen, body: bodies.Rejection) -> Json:
    """Reject the gate that a run waits at, in the name of the key."""
    with seen.of_run(caller, run) as found:
        return done(found, found.reject(body.step, why=body.why))


@router.post("/signal")
def signal(caller: Operator, run: str, seen: AsSeen, once: Once, body: bodies.Signal) -> Response:
    """Send a signal, which ends the wait of one step or is kept for one to come."""
    return once(lambda: _acted(seen, caller, run, lambda found: found.signal(body.name, body.data)))


@router.post("/budget")
def raise_budget(caller: Operator, run: str, seen: AsSeen, once: Once, body: bodies.Raise) -> Response:
    """Add to the caps of a run. One that rests is resumed apart."""
    return once(lambda: _acted(seen, caller, run, lambda found: found.raise_budget(**bodies.given(body))))


@router.post("/guide")
def guide(caller: Operator, run: str, seen: AsSeen, once: Once, body: bodies.Guidance) -> Response:
    """Give the next call of a model a word on its way. The text goes into the content store, into no row."""
    return once(lambda: _acted(seen, caller, run, lambda found: found.guide(body.text, step=body.step, why=body.why)))


@router.post("/override")
def override(caller: Operator, run: str, seen: AsSeen, body: bodies.Overriding) -> Json:
    """End a step by a person's word: skip it, set its result, or choose for a switch."""
    with seen.of_run(caller, run) as found:
        return done(found, found.override(**bodies.given(body)))


@router.post("/abort", status_code=HTTPStatus.ACCEPTED)
def abort(caller: Operator, run: str, seen: AsSeen, request: Request, body: bodies.Why) -> Response:
    """Stop a run where it is: a pause that ends what runs now."""
    with seen.of_run(caller, run) as found:
        return accepted(request, found, found.abort(why=body.why))


@router.post("/modify")
def modify(caller: Operator, run: str, seen: AsSeen, once: Once, body: bodies.Modification) -> Response:
    """Change what has not run: add to the budget of a run, or set a priority or a step's timeout."""
    return once(lambda: _acted(seen, caller, run, lambda found: found.modify(**bodies.given(body))))


def _acted(seen: Seen, caller: Caller, run: str, do: Callable[[Run], Any]) -> Response:
    with seen.of_run(caller, run) as found:
        return JSONResponse(done(found, do(found)))
