"""What each address answers when all is well: statuses, the schema of ``schemas/``, other media types, headers.

Owns that table, by method and path below the prefix. Problems are in none of it: description.py derives them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from agentflow.api.components import reference

HEADERS: Mapping[str, str] = {
    "Location": "The path of what was made, or of what takes its time.",
    "ETag": "Changes with what is shown; send it back as If-None-Match, or as If-Match where that is taken.",
    "Retry-After": "After how many seconds to ask again.",
    "WWW-Authenticate": "How a key is shown.",
    "Content-Disposition": "What is sent is to be saved, not shown.",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of one address: JSON of ``schema`` or what ``kinds`` name, with one of ``statuses``."""

    schema: str | None = None
    statuses: tuple[int, ...] = (200,)
    kinds: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    has_unchanged: bool = False

    def as_responses(self) -> dict[str, Any]:
        """Return it as the description has it."""
        content: dict[str, Any] = {kind: {"schema": {"type": "string"}} for kind in self.kinds}
        if self.schema is not None:
            content = {"application/json": {"schema": reference(self.schema)}} | content
        said = {"content": content} | described(self.headers)
        found = {str(status): {"description": HTTPStatus(status).phrase, **said} for status in self.statuses}
        if self.has_unchanged:
            found["304"] = {"description": "Nothing changed since.", **described(["ETag"])}
        return found


def described(headers: Iterable[str]) -> dict[str, Any]:
    """Describe the headers of an answer; nothing where there are none."""
    found = {name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in headers}
    return {"headers": found} if found else {}


_MADE = Answer("run", (201, 200), headers=("Location",))
_BEGUN = Answer("run", (202,), headers=("Location",))
_RUN = Answer("run")
ANSWERS: Mapping[str, Answer] = {
    "GET /livez": Answer("alive"),
    "GET /health/ready": Answer("health", (200, 503)),
    "GET /openapi.json": Answer("openapi"),
    "GET /docs": Answer(kinds=("text/html",)),
    "GET /metrics": Answer(kinds=("text/plain", "application/openmetrics-text")),
    "POST /runs": _MADE,
    "GET /runs": Answer("runs"),
    "GET /runs/{run}": Answer("run", headers=("ETag",), has_unchanged=True),
    "GET /runs/{run}/steps/{step}": Answer("run/properties/steps/items"),
    "GET /runs/{run}/why": Answer("why"),
    "GET /runs/{run}/events": Answer("events"),
    "GET /runs/{run}/report": Answer("report", kinds=("text/plain", "text/html")),
    "GET /runs/{run}/budget": Answer("budget"),
    "GET /runs/{run}/gates": Answer("gates"),
    "GET /runs/{run}/artifacts": Answer("artifacts"),
    "GET /runs/{run}/artifacts/{name}": Answer(kinds=("application/octet-stream",), headers=("Content-Disposition",)),
    "POST /runs/{run}/cancel": _BEGUN,
    "POST /runs/{run}/pause": _BEGUN,
    "POST /runs/{run}/abort": _BEGUN,
    "POST /runs/{run}/resume": _RUN,
    "POST /runs/{run}/retry": _RUN,
    "POST /runs/{run}/fork": _MADE,
    "POST /runs/{run}/approve": _RUN,
    "POST /runs/{run}/reject": _RUN,
    "POST /runs/{run}/signal": _RUN,
    "POST /runs/{run}/budget": _RUN,
    "POST /runs/{run}/guide": _RUN,
    "POST /runs/{run}/override": _RUN,
    "GET /gates": Answer("gates"),
    "GET /plans": Answer("stored-plans"),
    "POST /plans": Answer("push"),
    "GET /schedules": Answer("schedules"),
    "GET /workers": Answer("workers"),
    "GET /queues": Answer("queues"),
    "GET /limits": Answer("limits"),
    "GET /budgets": Answer("budget"),
    "GET /dead-letters": Answer("dead-letters"),
}
