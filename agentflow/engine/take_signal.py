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
    if not any(isinstance(how, Holds) and how.signal is not None for _, how in begun):
        return list(begun)
    sent = {waiting.name for waiting in signals.read_waiting(tx, run_id)}
    return [
        (step, _unless_sent(tx, run_id, step, how, how.signal, moves))
        if isinstance(how, Holds) and how.signal in sent
        else (step, how)
        for step, how in begun
    ]


def _unless_sent(
    tx: Connection, run_id: RunId, step: steps.Successor, how: Holds, name: str, moves: Moves
) -> Beginning:
    taken = signals.take(tx, run_id, name, step.id)
    if taken is None:
        return how
    moves.note("took", step.key, {"signal": name, "number": taken.id, "actor": taken.actor})
    return Ends(StepState.SUCCEEDED, result=taken.data)
