"""Why: compute the one reason for which a run or a step is where it is. Reads only, and decides nothing.

One snapshot of Postgres, then how many messages wait in Redis; the decision is domain/why.py's. Without Redis what
hangs on its queues is told as unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from agentflow.broker.queue_lengths import QueueLengths
from agentflow.domain.child_run import Awaited
from agentflow.domain.error import NotFound
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.state import ShownRunState, StepState
from agentflow.domain.why import Explainer, Group, Why
from agentflow.domain.why_facts import Facts, Terms
from agentflow.domain.why_words import advice, sentence, why_json
from agentflow.engine.context import EngineContext
from agentflow.engine.dispatcher import SERVICE
from agentflow.storage import standing_facts, views
from agentflow.storage.steps import ASKS
from agentflow.storage.view_shapes import moment

WHY_SCHEMA = "agentflow.why/1"
MOST_BELOW = 3
"""How many child runs of a run are looked into."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a run, or one step of it, is where it is. ``groups`` are the open steps, those with the same reason together.

    ``why`` is the reason: a ``code`` from an allow-list, its ``detail`` as JSON, the ``cause`` that it goes back to.
    """

    run_id: RunId
    state: ShownRunState
    read_at: datetime
    step: StepKey | None
    why: Why
    groups: tuple[Group, ...]

    @property
    def sentence(self) -> str:
        """The reason in words, without a subject."""
        return sentence(self.why)

    @property
    def advice(self) -> str | None:
        """What a person may do, with ``{run}`` where the run is to be named; None where waiting is all."""
        return advice(self.why)

    def as_json(self) -> dict[str, Any]:
        """The explanation as ``why --json`` prints it."""
        run = str(self.run_id)
        groups = [
            {"count": group.count, "steps": list(group.steps), "reason": why_json(group.why, run)}
            for group in self.groups
        ]
        return {
            "schema": WHY_SCHEMA,
            "run": run,
            "state": self.state.value,
            "step": self.step,
            "read_at": moment(self.read_at),
            "reason": why_json(self.why, run),
            "groups": groups,
        }


def why(context: EngineContext, run_id: RunId, step: StepKey | None = None, seen_by: str | None = None) -> Explanation:
    """Explain a run, or one step of it, to who sees one project, or all. NotFound when it has no such step."""
    settings = context.settings
    terms = Terms(settings.lost_doorbell_seconds, settings.doorbells_per_queue, ASKS, settings.approver_groups)
    with context.database.transaction() as tx:
        facts = standing_facts.read_facts(tx, run_id, SERVICE, terms, step, seen_by)
        shown = views.read_summary(tx, run_id).state
    explainer = Explainer(_with_depths(context, facts), _why_below(context, facts, step))
    reason = explainer.run() if step is None else explainer.step(step)
    groups = explainer.groups() if step is None else ()
    return Explanation(run_id, shown, facts.now, step, reason, groups)


def _why_below(context: EngineContext, facts: Facts, step: StepKey | None) -> dict[StepKey, Why]:
    """Why the child runs are where they are that held steps wait for: of the step that is asked for, or of a few."""
    asked = facts.steps if step is None else {step: facts.steps[step]}
    waiting = {key: Awaited.from_reason(each.reason) for key, each in asked.items() if each.state is StepState.HELD}
    found: dict[StepKey, Why] = {}
    for key, awaited in waiting.items():
        if awaited is None or len(found) == MOST_BELOW:
            continue
        try:
            below = why(context, awaited.run_id, seen_by=facts.seen_by)
        except NotFound:  # it is yet to be started
            continue
        found[key] = replace(below.why, run=str(below.run_id))
    return found


def _with_depths(context: EngineContext, facts: Facts) -> Facts:
    lengths = QueueLengths(context.side_channel.client, context.settings.redis_prefix).read(list(facts.queues))
    if lengths is None:
        return facts
    return replace(facts, queues={name: replace(queue, depth=lengths[name]) for name, queue in facts.queues.items()})
