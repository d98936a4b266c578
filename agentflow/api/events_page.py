"""Pages of audit events, of a run or of the installation, in the order of writing."""

from __future__ import annotations

from agentflow.api.caller import Caller, Json
from agentflow.api.paging import cursor_of, number_of
from agentflow.client import Run
from agentflow.domain.ids import RunId
from agentflow.storage import feeds, views
from agentflow.storage.view_shapes import EventView


def events_page(caller: Caller, chain: RunId, limit: int, cursor: str | None) -> Json:
    """Return up to ``limit`` events of a chain that is written one after the other, after a cursor."""
    with caller.flow.context.database.transaction() as tx:
        found = views.events_after(tx, chain, number_of(cursor), limit + 1)
    return _page(chain, found[:limit], found[limit - 1].id if len(found) > limit else None)


def run_events_page(caller: Caller, run: Run, limit: int, cursor: str | None) -> Json:
    """Return up to ``limit`` events of a run, after a cursor.

    Of a run that goes on, an event may appear below others: so the page behind which there is another one ends where
    none can appear any more.
    """
    after, chain = number_of(cursor), RunId(run.uuid)
    with caller.flow.context.database.transaction() as tx:
        ended_at = feeds.read_end(tx, chain)
        found = views.events_after(tx, chain, after, limit + 1)
    if len(found) <= limit or ended_at is not None:
        return _page(chain, found[:limit], found[limit - 1].id if len(found) > limit else None)
    settled = caller.flow.event_feed(run).settle()
    with caller.flow.context.database.transaction() as tx:
        found = views.events_after(tx, chain, after, limit)
    listed = [event for event in found if event.id <= settled]
    return _page(chain, listed, listed[-1].id if listed else after)


def _page(chain: RunId, listed: list[EventView], following: int | None) -> Json:
    events = [event.as_json() for event in listed]
    next_cursor = None if following is None else cursor_of((following,))
    return {"schema": "agentflow.events/1", "run": str(chain), "events": events, "next_cursor": next_cursor}
