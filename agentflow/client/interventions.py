"""The client's interventions: overriding a step, modifying what has not run, guiding model calls, aborting a run.

Owns the checks of what is handed in, on the flow and on the handle of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from agentflow.client.budgets import Money, checked_more
from agentflow.client.checks import checked_actor, checked_why
from agentflow.client.conflicts import trying_again
from agentflow.client.connection import Connected
from agentflow.domain.duration import parse_duration
from agentflow.domain.error import UsageError
from agentflow.domain.gate_shape import GateView
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.override import Choose, Override, Skip, Succeed
from agentflow.engine.guide import Guidance, Guided, guide
from agentflow.engine.modify import Changes, Modified, modify
from agentflow.engine.override import Asked, Overridden, override
from agentflow.engine.pause import PauseAsked, pause
from agentflow.storage import views

if TYPE_CHECKING:
    from agentflow.client.flow import AgentFlow
    from agentflow.client.run import Run


class Interventions(Connected):
    """What changes runs on the way; each leaves one event with who and why."""

    @trying_again
    def override(
        self,
        run: Run | str | UUID,
        step: str,
        *,
        why: str,
        skip: bool = False,
        succeed: bool = False,
        result: Any = None,
        choose: str | None = None,
    ) -> Overridden:
        """End a step that has not run: skipped, succeeded with a ``result`` (JSON), or by the label of a decision.

        Raises NotFound, UsageError for what the step cannot have, and InvalidTransition when it runs or has ended, or
        stands behind a gate that nobody has decided.
        """
        how = _how(skip=skip, succeed=succeed, result=result, choose=choose)
        asked = Asked(_id(self, run), StepKey(str(step)), how, checked_actor(self.settings.actor), _why(why))
        return override(self._checked_context(), asked)

    @trying_again
    def modify(
        self,
        run: Run | str | UUID,
        step: str | None = None,
        *,
        why: str,
        steps: int | None = None,
        tokens: int | None = None,
        usd: Money | None = None,
        active_time: str | timedelta | None = None,
        timeout: str | timedelta | None = None,
        priority: int | None = None,
    ) -> Modified:
        """Add to the budget of a run, or set its priority, or the ``timeout`` and priority of a step that has not run.

        Raises NotFound, UsageError for what does not fit, and InvalidTransition when the run or the step has ended, or
        the step runs.
        """
        is_more = any(each is not None for each in (steps, tokens, usd, active_time))
        wanted = Changes(
            checked_more(steps, tokens, usd, active_time) if is_more else None,
            None if timeout is None else _seconds(timeout),
            None if priority is None else _priority(priority),
        )
        key = None if step is None else StepKey(str(step))
        actor, said = checked_actor(self.settings.actor), _why(why)
        wanted.check(key)
        return modify(self._checked_context(), _id(self, run), key, wanted, actor=actor, why=said)

    @trying_again
    def guide(self, run: Run | str | UUID, text: str, *, step: str | None = None, why: str | None = None) -> Guided:
        """Give a run a text that its next model call is told, or that of ``step``; it is kept as content only.

        Raises NotFound, UsageError and InvalidTransition where nobody would hear it.
        """
        key = None if step is None else StepKey(str(step))
        actor, said = checked_actor(self.settings.actor), checked_why(why)
        return guide(self._checked_context(), Guidance(_id(self, run), str(text), key, actor, said))

    @trying_again
    def abort(self, run: Run | str | UUID, *, why: str) -> PauseAsked:
        """Stop a run now and keep it: what runs is ended and given back, and it rests until it is resumed."""
        actor, said = checked_actor(self.settings.actor), _why(why)
        return pause(self._checked_context(), _id(self, run), actor, why=said, is_hard=True)


class RunInterventions:
    """The same, on the handle of a run."""

    _flow: AgentFlow

    if TYPE_CHECKING:

        def refresh(self) -> Run:
            """Forget the snapshot."""

        @property
        def uuid(self) -> UUID:
            """The run's id."""

    def override(
        self,
        step: str,
        *,
        why: str,
        skip: bool = False,
        succeed: bool = False,
        result: Any = None,
        choose: str | None = None,
    ) -> Overridden:
        """End a step that has not run. Raises as ``AgentFlow.override`` does."""
        done = self._flow.override(self.uuid, step, why=why, skip=skip, succeed=succeed, result=result, choose=choose)
        self.refresh()
        return done

    def modify(
        self,
        step: str | None = None,
        *,
        why: str,
        steps: int | None = None,
        tokens: int | None = None,
        usd: Money | None = None,
        active_time: str | timedelta | None = None,
        timeout: str | timedelta | None = None,
        priority: int | None = None,
    ) -> Modified:
        """Change what has not run. Raises as ``AgentFlow.modify`` does."""
        done = self._flow.modify(
            self.uuid,
            step,
            why=why,
            steps=steps,
            tokens=tokens,
            usd=usd,
            active_time=active_time,
            timeout=timeout,
            priority=priority,
        )
        self.refresh()
        return done

    def guide(self, text: str, *, step: str | None = None, why: str | None = None) -> Guided:
        """Tell the next model call of the run, or of a step, a text. Raises as ``AgentFlow.guide`` does."""
        return self._flow.guide(self.uuid, text, step=step, why=why)

    def gates(self) -> Sequence[GateView]:
        """Read the gates of the run, and of those below it, that wait for a decision, the oldest first."""
        return self._flow.gates(self.uuid)

    def abort(self, *, why: str) -> PauseAsked:
        """Stop the run now and keep it, until it is resumed. Raises InvalidTransition."""
        asked = self._flow.abort(self.uuid, why=why)
        self.refresh()
        return asked


def _id(flow: Connected, run: Run | str | UUID) -> RunId:
    if not isinstance(run, str | UUID):
        return RunId(run.uuid)
    if isinstance(run, UUID):
        return RunId(run)
    with flow._reading() as tx:  # noqa: SLF001 - one of the mixins that share this base
        return views.find_run(tx, run)


def _why(why: object) -> str:
    said = checked_why(why)
    if said is None:
        raise UsageError("Say why: it stands in the audit beside what you change.")
    return said


def _how(*, skip: bool, succeed: bool, result: Any, choose: str | None) -> Override:
    if skip + succeed + (choose is not None) != 1:
        raise UsageError("Say one of: skip the step, let it succeed, or choose the label of a decision.")
    if result is not None and not succeed:
        raise UsageError("A result is given to a step that succeeds.")
    if choose is not None:
        return Choose(str(choose))
    return Skip() if skip else Succeed(result)


def _priority(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"A priority is a whole number from 0 to 9, not {str(value)[:80]!r}.")
    return value


def _seconds(value: str | timedelta) -> float:
    try:
        seconds = value.total_seconds() if isinstance(value, timedelta) else parse_duration(value)
    except ValueError as error:
        raise UsageError(f"timeout: {error}") from None
    if not seconds > 0:
        raise UsageError("timeout takes a time above 0, such as 10m.")
    return seconds
