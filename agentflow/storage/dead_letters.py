"""Dead letters: steps that were failed as poisoned, and their public shape.

Which steps are poisoned is domain/transition.py's; the list is read over a partial index of just these.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.error import NotFound
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.state import FINAL_RUN_STATES, RunState
from agentflow.domain.wording import did_you_mean
from agentflow.storage.database import statement
from agentflow.storage.view_shapes import moment

DEAD_LETTERS_SCHEMA = "agentflow.dead-letters/1"
WORKERS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A poisoned step: where it is, how often it lost its worker, when last, and which workers those were."""

    run_id: RunId
    project: str
    name: str
    run_state: RunState
    step: StepKey
    action: str
    losses: int
    since: datetime
    workers: tuple[str, ...]

    @property
    def is_replayable(self) -> bool:
        """Whether its run has ended; until then the step cannot be taken up again."""
        return self.run_state in FINAL_RUN_STATES

    def as_json(self) -> dict[str, Any]:
        """The dead letter as ``dead-letters --json`` prints it."""
        return {
            "run": str(self.run_id),
            "project": self.project,
            "name": self.name,
            "run_state": self.run_state.value,
            "step": self.step,
            "action": self.action,
            "losses": self.losses,
            "since": moment(self.since),
            "workers": list(self.workers),
            "is_replayable": self.is_replayable,
        }


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Dead letters, the newest first; ``total`` counts those too that a limit left out."""

    letters: tuple[DeadLetter, ...]
    total: int

    def of(self, run_id: RunId, step: str) -> DeadLetter:
        """Return one of them. NotFound for a step that is none."""
        known = {letter.step: letter for letter in self.letters if letter.run_id == run_id}
        if step not in known:
            raise NotFound(f"Run {run_id} has no dead letter {step!r}: {did_you_mean(step, known)}", step=step)
        return known[StepKey(step)]

    def as_json(self) -> dict[str, Any]:
        """The list as ``dead-letters --json`` prints it."""
        letters = [letter.as_json() for letter in self.letters]
        return {"schema": DEAD_LETTERS_SCHEMA, "total": self.total, "dead_letters": letters}


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters are asked for: of one run, of a project, of plans of a name; None for all."""

    run_id: RunId | None = None
    project: str | None = None
    name: str | None = None


def read(tx: Connection, wanted: LetterFilter, limit: int) -> DeadLetters:
    """Read up to ``limit`` dead letters."""
    parameters = {
        "run_id": wanted.run_id,
        "project": wanted.project,
        "name": wanted.name,
        "most": limit,
        "workers": WORKERS_SHOWN,
    }
    rows = tx.execute(statement("view_dead_letters"), parameters).all()
    letters = tuple(
        DeadLetter(
            run_id=RunId(row.run_id),
            project=row.project,
            name=row.name,
            run_state=RunState(row.run_state),
            step=StepKey(row.step),
            action=row.action,
            losses=row.losses,
            since=row.since,
            workers=tuple(row.workers),
        )
        for row in rows
    )
    return DeadLetters(letters, rows[0].total if rows else 0)
