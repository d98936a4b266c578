"""Answers: what a verb did as plain JSON, and the run as it stands after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any
from uuid import UUID

from fastapi import Request
from fastapi.responses import JSONResponse

from agentflow.api.caller import Json
from agentflow.client import Run


def done(run: Run, answer: Any) -> Json:
    """Return the run as it stands now with what a verb on it did."""
    return run.refresh().summary.as_json() | {"answer": plain(answer)}


def located(request: Request, run_id: str) -> dict[str, str]:
    """Return the header that says where a run is."""
    return {"Location": str(request.url_for("show", run=run_id).path)}


def accepted(request: Request, run: Run, answer: Any) -> JSONResponse:
    """Answer that what was asked for has begun, and where to see when it is done."""
    return JSONResponse(done(run, answer), HTTPStatus.ACCEPTED, located(request, run.id))


def plain(value: Any) -> Any:
    """Return what an engine's verb answered with as JSON has it."""
    if hasattr(value, "as_json"):
        return value.as_json()
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    match value:
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(each) for each in value]
        case Enum():
            return value.value
        case UUID():
            return str(value)
        case _:
            return value
