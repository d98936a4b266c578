"""Problems: how an error becomes an answer (RFC 9457), in one table.

Owns the statuses. The words are the error's own, as the command line prints them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from agentflow.client.conflicts import told
from agentflow.domain import misfit
from agentflow.domain.error import AgentflowError, PlanRejected, TooManyRequests
from agentflow.storage.database import ConflictingWrite, UnwritableValue
from agentflow.telemetry import get_logger

MEDIA_TYPE = "application/problem+json"
AGAIN_SECONDS = 1
log = get_logger(__name__)
STATUSES: Mapping[str, HTTPStatus] = {
    "usage": HTTPStatus.BAD_REQUEST,
    "ambiguous_id": HTTPStatus.BAD_REQUEST,
    "unauthenticated": HTTPStatus.UNAUTHORIZED,
    "not_allowed": HTTPStatus.FORBIDDEN,
    "not_found": HTTPStatus.NOT_FOUND,
    "run_pruned": HTTPStatus.GONE,
    "plan_drift": HTTPStatus.CONFLICT,
    "idempotency_conflict": HTTPStatus.CONFLICT,
    "invalid_transition": HTTPStatus.CONFLICT,
    "precondition_failed": HTTPStatus.PRECONDITION_FAILED,
    "already_decided": HTTPStatus.CONFLICT,
    "plan_rejected": HTTPStatus.UNPROCESSABLE_ENTITY,
    "manifest_load": HTTPStatus.UNPROCESSABLE_ENTITY,
    "schema_validation": HTTPStatus.UNPROCESSABLE_ENTITY,
    "dag_validation": HTTPStatus.UNPROCESSABLE_ENTITY,
    "template": HTTPStatus.UNPROCESSABLE_ENTITY,
    "misfit": HTTPStatus.UNPROCESSABLE_ENTITY,
    "too_many_requests": HTTPStatus.TOO_MANY_REQUESTS,
    "conflict": HTTPStatus.SERVICE_UNAVAILABLE,
    "content": HTTPStatus.SERVICE_UNAVAILABLE,
    "store_mismatch": HTTPStatus.SERVICE_UNAVAILABLE,
    "servers_unreachable": HTTPStatus.SERVICE_UNAVAILABLE,
    "configuration": HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The status of an error by its code; of what is not in the table it is 500."""
NOTHING_HERE = "Nothing is served here: /api/v1/docs says what is and where, /api/v1/metrics has the metrics."
TOO_LARGE, INTERNAL = "too_large", "internal"
CODES: Mapping[HTTPStatus, str] = {
    HTTPStatus.BAD_REQUEST: "bad_request",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.NOT_ACCEPTABLE: "not_acceptable",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
}
"""The code of what is refused by its status alone."""


def add_handlers(app: FastAPI) -> None:
    """Let every error that leaves a route become a problem."""
    app.add_exception_handler(Exception, _answer_any)
    for known in (ConflictingWrite, UnwritableValue):  # else the server logs them as what nobody knows
        app.add_exception_handler(known, _answer_any)
    app.add_exception_handler(AgentflowError, _answer)
    app.add_exception_handler(RequestValidationError, _answer_misfit)
    app.add_exception_handler(HTTPException, _answer_http)


def problem_of(error: AgentflowError, path: str) -> JSONResponse:
    """Return the answer to a call that failed with ``error``."""
    status = STATUSES.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    members: dict[str, Any] = {"details": json.loads(json.dumps(error.details, default=str))}
    if isinstance(error, PlanRejected):
        names = ("file", "line", "column", "step", "code", "message")
        members["faults"] = [{name: getattr(fault, name) for name in names} for fault in error.faults]
    elif isinstance(error, misfit.Misfit):
        members["faults"] = [fault.as_json() for fault in error.faults]
    return problem(status, error.code, str(error), path, headers=_headers(status, error), **members)


def problem(
    status: HTTPStatus,
    code: str,
    detail: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> JSONResponse:
    """Return an answer of the form that all errors have."""
    body = {
        "type": f"urn:agentflow:problem:{code}",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "instance": path,
        "code": code,
        "details": {},
        **members,
    }
    return JSONResponse(body, status, dict(headers or {}), MEDIA_TYPE)


def _headers(status: HTTPStatus, error: AgentflowError) -> dict[str, str]:
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return {"WWW-Authenticate": getattr(error, "challenge", "Bearer")}
        case HTTPStatus.SERVICE_UNAVAILABLE:
            return {"Retry-After": str(AGAIN_SECONDS)}
        case HTTPStatus.TOO_MANY_REQUESTS if isinstance(error, TooManyRequests):
            return {"Retry-After": str(max(1, ceil(error.retry_after)))}
        case _:
            return {}


async def _answer(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AgentflowError)  # noqa: S101 - what the handler is registered for
    return problem_of(error, request.url.path)


async def _answer_any(request: Request, error: Exception) -> JSONResponse:
    known = told(error)
    if isinstance(known, AgentflowError):
        known.__cause__ = error
        return problem_of(known, request.url.path)
    log.error("request_failed", path=request.url.path, error=type(error).__name__, exc_info=error)
    said = "A bug of agentflow; its log tells more."
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, INTERNAL, said, request.url.path)


async def _answer_misfit(request: Request, error: Exception) -> JSONResponse:
    """Tell every field that does not fit; what was given is not repeated, for it may be content."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what the handler is registered for
    return problem_of(misfit_of(error, request), request.url.path)


def misfit_of(error: RequestValidationError, request: Request) -> misfit.Misfit:
    """Return what the framework found of a request, in our words."""
    given = {"body": error.body, "query": request.query_params, "header": request.headers, "path": request.path_params}
    body = getattr(request.scope.get("route"), "body_field", None)
    known = () if body is None else getattr(body.field_info.annotation, "model_fields", ())
    return misfit.misfit_of(error.errors(), given, known)


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - what the handler is registered for
    status = HTTPStatus(error.status_code)
    detail = NOTHING_HERE if error.detail == HTTPStatus.NOT_FOUND.phrase else str(error.detail)
    return problem(status, CODES[status], detail, request.url.path, headers=error.headers)
