"""Dead letters: the steps that were given up because they lost worker after worker, and taking them up again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from agentflow.api.bodies import Replay
from agentflow.api.caller import Caller, Json, Operator, Project, Viewer
from agentflow.api.intake import Route
from agentflow.api.once import Once
from agentflow.api.paging import Cursor, Limit, page
from agentflow.domain.error import UsageError
from agentflow.storage.dead_letters import DeadLetter, DeadLetters

router = APIRouter(prefix="/dead-letters", tags=["dead letters"], route_class=Route)


@router.get("")
def dead_letters(
    caller: Viewer,
    project: Project = None,
    name: Annotated[str | None, Query(description="Only of plans of this name.")] = None,
    run: Annotated[str | None, Query(description="Only of this run.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Json:
    """List the newest 1000 dead letters, the newest first; ``total`` counts all."""
    only = None if run is None else caller.run(run)
    found = caller.flow.dead_letters(only, project=caller.project(project), name=name)
    letters, following = page(found.letters, _place, limit, cursor)
    return DeadLetters(tuple(letters), found.total).as_json() | {"next_cursor": following}


def _place(letter: DeadLetter) -> tuple[float, str, str]:
    return -letter.since.timestamp(), str(letter.run_id), letter.step


@router.post("/replay")
def replay(caller: Operator, once: Once, body: Replay) -> Response:
    """Take one dead letter up again, or all of a filter, in a new round of their runs."""
    return once(lambda: JSONResponse(_replayed(caller, body)))


def _replayed(caller: Caller, body: Replay) -> Json:
    is_one = body.run is not None and body.step is not None
    if body.all == is_one or (not is_one and (body.run or body.step)) or (is_one and (body.project or body.name)):
        raise UsageError('Name a "run" and its "step", or say "all": true, with "project" or "name" to choose of all.')
    project = caller.project(body.project)
    if body.run is not None and body.step is not None:
        replayed = [caller.flow.replay(caller.run(body.run), body.step, is_dry=body.dry_run)]
    else:
        replayed = caller.flow.replay_all(project=project, name=body.name, is_dry=body.dry_run)
    answer = {"schema": "agentflow.replay/1", "is_dry_run": body.dry_run}
    return answer | {"runs": [each.as_json() for each in replayed]}
