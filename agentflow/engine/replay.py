"""Replay: take dead letters up again, as a retry of just these steps.

A replay is a retry, and so its event is one; it names the dead letters among its facts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from agentflow.domain.error import ContentError, InvalidTransition
from agentflow.domain.ids import RunId, StepKey
from agentflow.engine.context import EngineContext
from agentflow.engine.retry import retry
from agentflow.storage.dead_letters import DeadLetter


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of the dead letters of a run: taken up again, or ``refusal`` says why not."""

    run_id: RunId
    steps: tuple[StepKey, ...]
    refusal: str | None = None

    def as_json(self) -> dict[str, Any]:
        """One run as ``dead-letters replay --json`` prints it."""
        return {"run": str(self.run_id), "steps": list(self.steps), "refusal": self.refusal}


def replay(
    context: EngineContext, letters: Iterable[DeadLetter], actor: str, *, is_dry: bool = False
) -> list[Replayed]:
    """Take dead letters up run by run, one retry each; a run that refuses keeps no other from it.

    ``is_dry`` changes nothing, and refuses only where a run goes on.
    """
    by_run: dict[RunId, list[DeadLetter]] = {}
    for letter in letters:
        by_run.setdefault(letter.run_id, []).append(letter)
    return [_replay(context, run_id, of_run, actor, is_dry=is_dry) for run_id, of_run in by_run.items()]


def _replay(context: EngineContext, run_id: RunId, letters: list[DeadLetter], actor: str, *, is_dry: bool) -> Replayed:
    keys, first = tuple(letter.step for letter in letters), letters[0]
    if not first.is_replayable:
        return Replayed(run_id, keys, f"Run {run_id} is still {first.run_state}; replay it once it has ended")
    if not is_dry:
        try:
            retry(context, run_id, actor, only=frozenset(keys), facts={"dead_letters": sorted(keys)})
        except (InvalidTransition, ContentError) as error:  # somebody took it up meanwhile, or its prompts are gone
            return Replayed(run_id, keys, str(error))
    return Replayed(run_id, keys)
