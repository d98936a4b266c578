"""Take a signal: what a step that comes to wait for one finds sent already. Inside a verb's transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from agentflow.domain.beginning import Beginning, Ends, Holds
from agentflow.domain.ids import RunId
from agentflow.domain.state import StepState
from agentflow.engine.record import Moves
from agentflow.storage import signals, steps


def with_signals(
    tx: Connection, run_id: RunId, begun: Sequence[tuple[steps.Successor, Beginning]], moves: Moves
) -> list[tuple[steps.Successor, Beginning]]:
    """Let steps that come to wait for a signal take one that was sent before, in their order; such a step ends."""
    return [(step, _unless_sent(tx, run_id, step, how, moves)) for step, how in begun]


def _unless_sent(tx: Connection, run_id: RunId, step: steps.Successor, how: Beginning, moves: Moves) -> Beginning:
    if not isinstance(how, Holds) or how.signal is None:
        return how
    taken = signals.take(tx, run_id, how.signal, step.id)
    if taken is None:
        return how
    moves.note("took", step.key, {"signal": how.signal, "number": taken.id, "actor": taken.actor})
    return Ends(StepState.SUCCEEDED, result=taken.data)
