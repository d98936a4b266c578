"""What a retry took up again, in words: what goes on at once, what waits for something else, and what for its needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agentflow.cli.words import count
from agentflow.domain.reason import ReasonCode
from agentflow.domain.wording import listing


def taken_up(ready: Sequence[str], pending: Sequence[str], held: Mapping[str, str]) -> str:
    """Return what a run does after its retry: ``goes on with a; the gate g asks again; 1 step waits for that``."""
    parts = [_held(code, [key for key in held if held[key] == code]) for code in dict.fromkeys(held.values())]
    if pending:
        what = "that" if ready or held else "needs of theirs" if len(pending) > 1 else "its needs"
        parts.append(f"{count(len(pending), 'step')} wait{'s' if len(pending) == 1 else ''} for {what}")
    if ready:
        return "; ".join([f"goes on with {listing(ready)}", *parts])
    return f"goes on: {'; '.join(parts)}" if parts else "goes on: no step of it is open any more"


def _held(code: str, keys: Sequence[str]) -> str:
    is_one, named = len(keys) == 1, listing(keys)
    match code:
        case ReasonCode.AWAITS_DECISION:
            return f"the gate {named} asks again" if is_one else f"the gates {named} ask again"
        case ReasonCode.AWAITS_RUN:
            runs = "runs its child run again" if is_one else "run their child runs again"
            return f"the step {named} {runs}" if is_one else f"the steps {named} {runs}"
        case _:
            return f"the step {named} waits again" if is_one else f"the steps {named} wait again"
