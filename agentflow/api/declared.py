"""What each address answers when all is well: statuses, the schema of ``schemas/``, other media types, headers.

Owns that table, by method and path below the prefix. Problems are in none of it: description.py derives them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
    """The answer of one address: JSON of ``schema`` or what ``kinds`` name, with one of ``statuses``.

    With one of ``empty`` nothing is sent, and with one of ``problems`` a problem that its form alone does not tell of.
    What ``begins_job`` answers 202 with that job. ``events`` are the schemas of a stream's events, by their names.
    """

    schema: str | None = None
    statuses: tuple[int, ...] = (200,)
    kinds: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    empty: tuple[int, ...] = ()
    problems: tuple[int, ...] = ()
    begins_job: bool = False
    events: Mapping[str, str] = field(default_factory=dict)

    def as_responses(self) -> dict[str, Any]:
        """Return it as the description has it."""
        content: dict[str, Any] = {kind: {"schema": {"type": "string"}} for kind in self.kinds}
        if self.schema is not None:
            content = {"application/json": {"schema": reference(self.schema)}} | content
        if self.events:
            told = {name: reference(schema) for name, schema in self.events.items()}
            content[_STREAM] = {"schema": {"type": "string", "x-events": told}}
        said = {"content": content} | described(self.headers)
        found = {str(status): {"description": HTTPStatus(status).phrase, **said} for status in self.statuses}
        found |= {str(status): _EMPTY[status] for status in self.empty}
        return found | (_BEGUN_JOB.as_responses() if self.begins_job else {})


def described(headers: Iterable[str]) -> dict[str, Any]:
    """Describe the headers of an answer; nothing where there are none."""
    found = {name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in headers}
    return {"headers": found} if found else {}


_EMPTY: Mapping[int, dict[str, Any]] = {
    204: {"description": "Nothing is to come any more."},
    304: {"description": "Nothing changed since.", **described(["ETag"])},
}
_STREAM = "text/event-stream"
_AT_A_STREAM = "Only with `Accept: text/event-stream`: "
TAKEN_BY_STREAMS = {
    "parameters": [
        {"name": name, "in": place, "required": False, "schema": {"type": "string"}, "description": _AT_A_STREAM + said}
        for name, place, said in (
            ("after", "query", "the same as Last-Event-ID, which goes over it."),
            ("last-event-id", "header", "the id that came last; the stream goes on behind it."),
        )
    ]
}
"""What an address of pages takes instead of `cursor` and `limit` from who asks it for a stream."""
_MADE = Answer("run", (201, 200), headers=("Location",))
_BEGUN = Answer("run", (202,), headers=("Location",))
_BEGUN_JOB = Answer("job", (202,), headers=("Location",))
_RUN = Answer("run")
_ACTED = Answer("acted")
_SCHEDULE_ACTED = Answer("schedule-acted")
_KEY = Answer("key")
_WEBHOOK = Answer("webhook")
ANSWERS: Mapping[str, Answer] = {
    "POST /runs": _MADE,
    "GET /runs": Answer("runs"),
    "POST /runs/check": Answer("dry-run"),
    "POST /runs/cancel": _ACTED,
    "POST /runs/pause": _ACTED,
    "POST /runs/resume": _ACTED,
    "POST /runs/retry": _ACTED,
    "GET /runs/{run}": Answer("run", headers=("ETag",), empty=(304,)),
    "GET /runs/{run}/steps": Answer("steps"),
    "GET /runs/{run}/steps/{step}": Answer("run/properties/steps/items"),
    "GET /runs/{run}/steps/{step}/attempts": Answer("attempts"),
    "GET /runs/{run}/lineage": Answer("lineage"),
    "GET /runs/{run}/diff/{other}": Answer("diff"),
    "GET /runs/{run}/why": Answer("why"),
    "GET /runs/{run}/events": Answer("events", empty=(204,), events={"event": "event"}),
    "GET /runs/{run}/logs": Answer("log-chunks", kinds=(_STREAM,), empty=(204,)),
    "GET /runs/{run}/verify": Answer("audit-report"),
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
    "POST /runs/{run}/modify": _RUN,
    "GET /events": Answer(problems=(406,), events={"event": "event", "kpi": "kpi"}),
    "GET /gates": Answer("gates"),
    "GET /plans": Answer("stored-plans"),
    "POST /plans": Answer("push", (201, 200), headers=("Location",)),
    "POST /plans/check": Answer("plan"),
    "GET /plans/{plan}": Answer("plan"),
    "GET /plans/{plan}/graph": Answer("graph"),
    "GET /plan-schema": Answer("plan-schema"),
    "GET /schedules": Answer("schedules"),
    "POST /schedules": Answer("schedule", (201, 200), headers=("Location",)),
    "GET /schedules/{name}": Answer("schedule", headers=("ETag",)),
    "PUT /schedules/{name}": Answer("schedule", (200, 201), headers=("ETag", "Location")),
    "DELETE /schedules/{name}": _SCHEDULE_ACTED,
    "GET /schedules/{name}/firings": Answer("firings"),
    "POST /schedules/{name}/pause": _SCHEDULE_ACTED,
    "POST /schedules/{name}/resume": _SCHEDULE_ACTED,
    "POST /schedules/{name}/run-now": Answer("firing", (202,), headers=("Location",)),
    "POST /schedules/{name}/backfill": Answer("backfill", (202, 200), headers=("Location",)),
    "GET /dead-letters": Answer("dead-letters"),
    "POST /dead-letters/replay": Answer("replay"),
    "GET /workers": Answer("workers"),
    "GET /queues": Answer("queues"),
    "GET /limits": Answer("limits", problems=(404,)),
    "GET /budgets": Answer("budget"),
    "GET /audit/events": Answer("events"),
    "POST /audit/verify": _BEGUN_JOB,
    "GET /audit/checkpoints": Answer("checkpoints"),
    "GET /audit/key": Answer("audit-key", problems=(404,)),
    "GET /maintenance": Answer("maintenance"),
    "POST /maintenance/pause": Answer("maintenance", (202,), headers=("Location",)),
    "POST /maintenance/resume": Answer("maintenance"),
    "GET /retention": Answer("prune"),
    "POST /retention/prune": Answer("prune", begins_job=True),
    "GET /jobs": Answer("jobs"),
    "GET /jobs/{job}": Answer("job"),
    "GET /keys": Answer("keys"),
    "POST /keys": Answer("key", (201,), headers=("Location",)),
    "GET /keys/{name}": _KEY,
    "DELETE /keys/{name}": _KEY,
    "GET /webhooks": Answer("webhooks"),
    "POST /webhooks": Answer("webhook", (201,), headers=("Location",)),
    "GET /webhooks/{name}": _WEBHOOK,
    "DELETE /webhooks/{name}": _WEBHOOK,
    "GET /webhooks/{name}/deliveries": Answer("webhook-deliveries"),
    "POST /webhooks/{name}/test": Answer("webhook-delivery"),
    "POST /webhooks/{name}/replay": Answer("webhook-replay", (202,), headers=("Location",)),
    "POST /webhooks/{name}/enable": _WEBHOOK,
    "POST /webhooks/{name}/disable": _WEBHOOK,
    "POST /webhooks/{name}/rotate": _WEBHOOK,
    "GET /health/ready": Answer("health", (200, 503)),
    "GET /metrics": Answer(kinds=("text/plain", "application/openmetrics-text")),
    "GET /openapi.json": Answer("openapi"),
    "GET /docs": Answer(kinds=("text/html",)),
    "GET /livez": Answer("alive"),
}
