"""The client's verbs on dead letters: list the poisoned steps, and take them up again."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection

from agentflow.client.checks import checked_actor
from agentflow.client.conflicts import trying_again
from agentflow.client.connection import Connected
from agentflow.client.page import MAX_PAGE
from agentflow.client.run import Run
from agentflow.domain.error import InvalidTransition, UsageError
from agentflow.domain.ids import RunId
from agentflow.engine.replay import Replayed, replay
from agentflow.storage import dead_letters, views
from agentflow.storage.dead_letters import DeadLetters, LetterFilter


class DeadLetterBox(Connected):
    """What knows the dead letters of an installation."""

    def dead_letters(
        self,
        run: Run | str | UUID | None = None,
        *,
        project: str | None = None,
        name: str | None = None,
        limit: int = MAX_PAGE,
    ) -> DeadLetters:
        """Return up to ``limit`` (at most 1000) steps that were failed as poisoned, the newest first.

        A step is poisoned when it lost its worker ``AGENTFLOW_MAX_LOST`` times by itself. Raises NotFound for a run
        that there is not.
        """
        if not 0 < limit <= MAX_PAGE:
            raise UsageError(f"A page has 1 to {MAX_PAGE} dead letters, not {limit}.")
        with self._reading() as tx:
            run_id = None if run is None else _id_of(tx, run, project)
            return dead_letters.read(tx, LetterFilter(run_id, project, name), limit)

    @trying_again
    def replay(self, run: Run | str | UUID, step: str, *, project: str | None = None, is_dry: bool = False) -> Replayed:
        """Take a poisoned step up again, in a new round of its run; ``is_dry`` only looks whether that can be.

        Raises NotFound for a step that is no dead letter, InvalidTransition while its run goes on.
        """
        actor = checked_actor(self.settings.actor)
        with self._reading() as tx:
            run_id = _id_of(tx, run, project)
            letter = dead_letters.read(tx, LetterFilter(run_id), MAX_PAGE).of(run_id, step)
        (replayed,) = replay(self._checked_context(), [letter], actor, is_dry=is_dry)
        if replayed.refusal is not None:
            raise InvalidTransition(replayed.refusal, state=letter.run_state)
        return replayed

    def replay_all(
        self, *, project: str | None = None, name: str | None = None, is_dry: bool = False
    ) -> list[Replayed]:
        """Take up every dead letter, the newest 1000 at most; says of each run what became of them."""
        actor = checked_actor(self.settings.actor)
        found = self.dead_letters(project=project, name=name)
        return replay(self._checked_context(), found.letters, actor, is_dry=is_dry)


def _id_of(tx: Connection, run: Run | str | UUID, project: str | None) -> RunId:
    return RunId(run.uuid) if isinstance(run, Run) else views.find_run(tx, str(run), project)
