"""Health: whether this process lives, which anybody may ask, and whether each part that runs need is there.

Owns the parts and what is said of each, which includes that a part does not answer in time. More is said by `agentflow
doctor`, on the machine itself.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError
from sqlalchemy import Connection

from agentflow.api.caller import House, Json, Viewer
from agentflow.api.intake import Route
from agentflow.api.probe import ANSWER_SECONDS, LATE, database_late
from agentflow.domain.error import AgentflowError
from agentflow.engine.context import EngineContext
from agentflow.engine.dispatcher import SERVICE
from agentflow.engine.registration import check_registration
from agentflow.storage import health, migrations, workers

live = APIRouter(tags=["health"], route_class=Route)
router = APIRouter(prefix="/health", tags=["health"], route_class=Route)
Found = tuple[bool, str]
"""Whether a part is as it should be, and what was found."""
_UNASKED: Found = (False, "not asked: the database does not answer")
_IN_THE_DATABASE = ("migrations", "dispatcher", "workers")


@live.get("/livez")
async def livez() -> Json:  # no thread is waited for: all of them may wait for a database that does not answer
    """Say that this process answers. The one address that needs no key."""
    return {"status": "ok"}


@router.get("/ready")
async def ready(caller: Viewer, request: Request) -> JSONResponse:
    """Tell within seconds for each part that runs need whether it is there; 503 where one is not."""
    house: House = request.app.state.house
    until: float = request.state.until
    stored, redis = await asyncio.gather(_ask_stored(house, until), _ask_redis(house, until))
    found = stored | {"redis": redis}
    is_ready = all(is_well for is_well, _ in found.values())
    parts = {name: {"status": _status(is_well), "detail": detail} for name, (is_well, detail) in found.items()}
    answer = {"schema": "agentflow.health/1", "status": _status(is_ready), "components": parts}
    if is_ready:
        return JSONResponse(answer)
    return JSONResponse(answer, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "5"})


def _status(is_well: bool) -> str:
    return "ok" if is_well else "unready"


async def _ask_stored(house: House, until: float) -> dict[str, Found]:
    """Ask the database, then after the content store, which is known by what stands in the database."""
    context = house.flow.context
    try:
        found = await house.probes.database.ask(lambda: _database(context), until)
    except TimeoutError:
        found = _without_database(database_late(ANSWER_SECONDS))
    if not found["migrations"][0]:
        return found | {"content": found["migrations"]}
    try:
        content = await house.probes.content.ask(lambda: _content(context), until)
    except TimeoutError:
        content = False, f"the content store could not be looked at {LATE}"
    return found | {"content": content}


async def _ask_redis(house: House, until: float) -> Found:
    context = house.flow.context
    try:
        return await house.probes.redis.ask(lambda: _redis(context), until)
    except TimeoutError:
        return False, f"Redis does not answer {LATE}"


def _redis(context: EngineContext) -> Found:
    try:
        context.side_channel.client.ping()
    except RedisError as error:
        return False, f"Redis does not answer: {type(error).__name__}"
    return True, "it answers"


def _content(context: EngineContext) -> Found:
    try:
        check_registration(context.database, context.store, context.audit_key)
    except AgentflowError as error:
        return False, str(error)
    return True, "store and audit key are those of the runs"


def _database(context: EngineContext) -> dict[str, Found]:
    try:
        with context.database.transaction() as tx:
            facts = health.read_server(tx)
            migrated = _migrations(facts.revision)
            beyond = _beyond(tx) if migrated[0] else dict.fromkeys(("dispatcher", "workers"), migrated)
    except AgentflowError as error:
        return _without_database(str(error))
    version = divmod(facts.version_number, 10_000)
    return {"database": (True, f"PostgreSQL {version[0]}.{version[1]}"), "migrations": migrated, **beyond}


def _without_database(why: str) -> dict[str, Found]:
    return {"database": (False, why)} | dict.fromkeys(_IN_THE_DATABASE, _UNASKED)


def _migrations(revision: str | None) -> Found:
    head = migrations.head_revision()
    if revision == head:
        return True, f"revision {head}, the newest"
    return (
        False,
        f"the database stands at revision {revision or 'none'}, this version needs {head}: `agentflow migrate`",
    )


def _beyond(tx: Connection) -> dict[str, Found]:
    """Ask after what the tables tell of: who dispatches, and who works."""
    leadership = health.read_leadership(tx, SERVICE)
    leads = leadership is not None and leadership.is_live
    serving = sum(worker.is_serving for worker in workers.view_workers(tx))
    return {
        "dispatcher": (leads, "one leads" if leads else "nobody leads: start `agentflow worker` or `agentflow beat`"),
        "workers": (serving > 0, f"{serving} take steps" if serving else "none takes steps: start `agentflow worker`"),
    }
