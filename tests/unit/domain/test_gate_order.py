"""The order in which open gates are listed: as they opened, those of a foreach together and by its items."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from agentflow.domain.gate import GateKind, GateState, GateTerms
from agentflow.domain.gate_shape import Gate, GateView, by_items
from agentflow.domain.ids import RunId, StepId, StepKey

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
ONE, OTHER = RunId(UUID(int=1)), RunId(UUID(int=2))


def view(key: str, minute: int, run_id: RunId = ONE) -> GateView:
    """An open gate of a step, opened so many minutes after the first."""
    opened_at = FIRST + timedelta(minutes=minute)
    gate = Gate(
        UUID(int=9), GateState.OPEN, GateKind.APPROVAL, 1, GateTerms(), {}, "f", opened_at, None, False, None, ()
    )
    return GateView(run_id, StepId(UUID(int=8)), StepKey(key), "default", "plan", "ana", opened_at, gate)


def test_gates_of_items_are_in_the_order_of_the_items_and_stand_together() -> None:
    opened = [
        "early",
        "each[10].g",
        "each[2].g",
        "late",
        "each[0].g",
        "each[0].h",
        "each[2].in[11].k",
        "each[2].in[9].k",
    ]
    ordered = by_items([view(key, minute) for minute, key in enumerate(opened)])

    assert [each.step for each in ordered] == [
        "early",
        "each[0].g",
        "each[0].h",
        "each[2].g",
        "each[2].in[9].k",
        "each[2].in[11].k",
        "each[10].g",
        "late",
    ]


def test_gates_of_two_runs_are_not_mixed() -> None:
    opened = [view("each[1].g", 0), view("each[1].g", 1, OTHER), view("each[0].g", 2), view("each[0].g", 3, OTHER)]

    assert [(each.run_id, each.step) for each in by_items(opened)] == [
        (ONE, "each[0].g"),
        (ONE, "each[1].g"),
        (OTHER, "each[0].g"),
        (OTHER, "each[1].g"),
    ]
