"""The client's verbs on gates: which of them wait, and approving or rejecting one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from agentflow.client.checks import checked_actor, checked_why
from agentflow.client.conflicts import trying_again
from agentflow.client.connection import Connected
from agentflow.domain.gate import Verdict
from agentflow.domain.gate_shape import GateView
from agentflow.domain.ids import RunId, StepKey
from agentflow.engine.decide import Answer, Decided, decide
from agentflow.storage import gates, views

if TYPE_CHECKING:
    from agentflow.client.run import Run


class Gates(Connected):
    """What knows the gates of runs, and decides them."""

    def gates(
        self, run: Run | str | UUID | None = None, *, project: str | None = None, mine: bool = False
    ) -> Sequence[GateView]:
        """Return the gates that wait for a decision, the oldest first: of one run with those below it, or of all.

        ``mine`` leaves those that the actor of this client may approve and has not yet. NotFound for an unknown run.
        """
        run_id = None if run is None else self._gated_run(run)
        with self._reading() as tx:
            found = gates.view(tx, run_id=run_id, project=project, is_open=True, is_tree=True)
        if not mine:
            return found
        actor, groups = checked_actor(self.settings.actor), self.settings.approver_groups
        return [view for view in found if view.is_for(actor, groups)]

    def verdicts(self, gate: GateView) -> Sequence[Verdict]:
        """Tell what the actor of this client may say to an open gate, and has not yet."""
        return gate.verdicts_of(checked_actor(self.settings.actor), self.settings.approver_groups)

    def gate_history(self, run: Run | str | UUID) -> Sequence[GateView]:
        """Return all gates that a run opened, in that order, decided ones too. NotFound for an unknown run."""
        run_id = self._gated_run(run)
        with self._reading() as tx:
            return gates.view(tx, run_id=run_id, is_open=False)

    @trying_again
    def approve(
        self,
        run: Run | str | UUID,
        step: str | None = None,
        *,
        why: str | None = None,
        form: Mapping[str, Any] | None = None,
    ) -> Decided:
        """Approve the gate of a run; ``step`` names it where several are open, ``form`` gives values of its form.

        Raises NotAllowed for somebody who may not, UsageError for values that do not fit, AlreadyDecided (who, when)
        if somebody was faster, InvalidTransition when no gate is open, and NotFound.
        """
        return self._decide(run, step, Verdict.APPROVE, why, form)

    @trying_again
    def reject(self, run: Run | str | UUID, step: str | None = None, *, why: str | None = None) -> Decided:
        """Reject the gate of a run: one rejection is enough. Raises as ``approve`` does."""
        return self._decide(run, step, Verdict.REJECT, why, None)

    def _decide(
        self, run: Run | str | UUID, step: str | None, verdict: Verdict, why: str | None, form: Mapping[str, Any] | None
    ) -> Decided:
        answer = Answer(checked_actor(self.settings.actor), verdict, checked_why(why), dict(form or {}))
        key = None if step is None else StepKey(str(step))
        return decide(self._checked_context(), self._gated_run(run), key, answer)

    def _gated_run(self, run: Run | str | UUID) -> RunId:
        if not isinstance(run, str | UUID):
            return RunId(run.uuid)
        with self._reading() as tx:
            return views.find_run(tx, str(run))
