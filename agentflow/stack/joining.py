"""Joining: whether the stack that is up already is what somebody asks for who would start one.

Owns the comparison and its words. A stack takes its options once, when it starts.
"""

from __future__ import annotations

from pathlib import Path

from agentflow.domain.error import PreconditionFailed
from agentflow.domain.wording import listing
from agentflow.embedded import StackState
from agentflow.stack.supervision import StackOptions


def check_joined(home: Path, state: StackState, wanted: StackOptions, *, concurrency: int | None) -> None:
    """Raise PreconditionFailed where the stack that is up lacks something of what is wanted.

    ``concurrency`` is the one that was asked for, None where any will do.
    """
    lacking = _lacking(state, wanted, concurrency)
    if lacking:
        raise PreconditionFailed(
            f"A stack of {home} runs already, as process {state.pid}, and it {listing(lacking)}. It takes its options "
            "when it starts: end it with `agentflow down`, then start it again.",
            home=str(home),
            pid=state.pid,
            lacking=lacking,
        )


def _lacking(state: StackState, wanted: StackOptions, concurrency: int | None) -> list[str]:
    found = []
    if wanted.has_api and state.api_url is None:
        found.append("serves no API")
    if wanted.has_flower and not state.has_flower:
        found.append("has no Flower")
    if wanted.has_beat and not state.has_beat:
        found.append("has no beat")
    if concurrency is not None and concurrency != state.concurrency:
        found.append(f"performs {state.concurrency} steps at once, not {concurrency}")
    return found
