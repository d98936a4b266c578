"""The verbs on a run. Each answers with the run as it stands after it and with what it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from enum import Enum
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse

from agentflow.api import bodies
from agentflow.api.caller import Json, Operator
from agentflow.client import Run

router = APIRouter(prefix="/runs/{run}", tags=["verbs"])
IdempotencyKey = Annotated[str | None, Header(description="The same key with the same fork is the same run.")]


@router.post("/cancel", status_code=HTTPStatus.ACCEPTED)
def cancel(caller: Operator, run: str) -> Json:
    """End a run: what waits ends now, what runs is told to stop."""
    found = caller.run(run)
    return _done(found, found.cancel())


@router.post("/pause", status_code=HTTPStatus.ACCEPTED)
def pause(caller: Operator, run: str, body: bodies.Pause) -> Json:
    """Let a run rest until it is resumed."""
    found = caller.run(run)
    return _done(found, found.pause(now=body.now, why=body.why))


@router.post("/resume")
def resume(caller: Operator, run: str) -> Json:
    """Let a run go on that is paused or rests over a budget."""
    found = caller.run(run)
    return _done(found, found.resume())


@router.post("/retry")
def retry(caller: Operator, run: str, body: bodies.Retry) -> Json:
    """Take up what failed, was cancelled or is held, or one such step."""
    found = caller.run(run)
    return _done(found, found.retry(body.step))


@router.post("/fork", status_code=HTTPStatus.CREATED)
def fork(
    caller: Operator, run: str, body: bodies.Fork, request: Request, idempotency_key: IdempotencyKey = None
) -> Response:
    """Make a new run that takes over what this one did before a step."""
    forked = caller.flow.fork(
        caller.run(run),
        body.from_step,
        vars=body.vars,
        budget=body.budget,
        directive=body.directive,
        idempotency_key=idempotency_key,
    )
    status = HTTPStatus.OK if forked.existing else HTTPStatus.CREATED
    where = {"Location": str(request.url_for("show", run=forked.id).path)}
    return JSONResponse(forked.summary.as_json() | {"existing": forked.existing}, status, where)


@router.post("/approve")
def approve(caller: Operator, run: str, body: bodies.Decision) -> Json:
    """Approve the gate that a run waits at, in the name of the key."""
    found = caller.run(run)
    return _done(found, found.approve(body.step, why=body.why, form=body.form))


@router.post("/reject")
def reject(caller: Operator, run: str, body: bodies.Rejection) -> Json:
    """Reject the gate that a run waits at, in the name of the key."""
    found = caller.run(run)
    return _done(found, found.reject(body.step, why=body.why))


@router.post("/signal")
def signal(caller: Operator, run: str, body: bodies.Signal) -> Json:
    """Send a signal, which ends the wait of one step or is kept for one to come."""
    found = caller.run(run)
    return _done(found, found.signal(body.name, body.data))


@router.post("/budget")
def raise_budget(caller: Operator, run: str, body: bodies.Raise) -> Json:
    """Add to the caps of a run. One that rests is resumed apart."""
    found = caller.run(run)
    return _done(found, found.raise_budget(**bodies.given(body)))


@router.post("/guide")
def guide(caller: Operator, run: str, body: bodies.Guidance) -> Json:
    """Give the next call of a model a word on its way. The text goes into the content store, into no row."""
    found = caller.run(run)
    return _done(found, found.guide(body.text, step=body.step, why=body.why))


@router.post("/override")
def override(caller: Operator, run: str, body: bodies.Overriding) -> Json:
    """End a step by a person's word: skip it, set its result, or choose for a switch."""
    found = caller.run(run)
    return _done(found, found.override(**bodies.given(body)))


@router.post("/abort", status_code=HTTPStatus.ACCEPTED)
def abort(caller: Operator, run: str, body: bodies.Why) -> Json:
    """Stop a run where it is: a pause that ends what runs now."""
    found = caller.run(run)
    return _done(found, found.abort(why=body.why))


def _done(run: Run, answer: Any) -> Json:
    return run.refresh().summary.as_json() | {"answer": _plain(answer)}


def _plain(value: Any) -> Any:
    if hasattr(value, "as_json"):
        return value.as_json()
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    match value:
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(each) for each in value]
        case Enum():
            return value.value
        case UUID():
            return str(value)
        case _:
            return value
