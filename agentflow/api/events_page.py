"""Pages of audit events, of a run or of the installation, in the order of writing."""

from __future__ import annotations

from agentflow.api.caller import Caller, Json
from agentflow.api.paging import cursor_of, number_of
from agentflow.domain.ids import RunId
from agentflow.storage import views


def events_page(caller: Caller, chain: RunId, limit: int, cursor: str | None) -> Json:
    """Return up to ``limit`` events after a cursor."""
    after = number_of(cursor)
    with caller.flow.context.database.transaction() as tx:
        found = views.events_after(tx, chain, after, limit + 1)
    following = cursor_of((found[limit - 1].id,)) if len(found) > limit else None
    listed = [event.as_json() for event in found[:limit]]
    return {"schema": "agentflow.events/1", "run": str(chain), "events": listed, "next_cursor": following}
