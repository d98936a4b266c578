"""Some steps of a run as surfaces show them: of a large run, those of one page are read, and no others.

Owns no order of its own: it is that in which whole_run.py shows all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from agentflow.domain.ids import RunId, StepKey
from agentflow.storage import views
from agentflow.storage.database import statement
from agentflow.storage.view_shapes import StepView
from agentflow.storage.whole_run import StepFacts, below_foreachs, calls_of, step_views


@dataclass(frozen=True, slots=True)
class StepPlace:
    """Where a step stands."""

    id: str
    key: StepKey
    action: str
    items: int | None
    foreach: StepKey | None
    item: int | None


def read_places(tx: Connection, run_id: RunId) -> list[StepPlace]:
    """Read where the steps of a run stand, in the order in which they are shown. NotFound when there is no run."""
    rows = tx.execute(statement("view_step_places"), {"run_id": run_id}).all()
    if not rows:
        views.read_summary(tx, run_id)
    return below_foreachs([StepPlace(str(row[0]), *row[1:]) for row in rows])


def read_steps(tx: Connection, chosen: Sequence[StepPlace], places: Sequence[StepPlace]) -> list[StepView]:
    """Read some steps of a run, of which all places are known."""
    row = tx.execute(statement("view_some_steps"), {"step_ids": [each.id for each in chosen]}).one()
    facts = {each.key: each for each in (StepFacts(*values) for values in row.steps or ())}
    found = step_views(row, facts.values(), places, calls_of(row))
    return [found[each.key] for each in chosen if each.key in found]
