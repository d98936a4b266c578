"""Guide: give a run a text that its next model call is told, beside its own system text.

The text goes into the content store and nowhere else; rows and events hold its hash and size. The step that first
begins to call a model gets it, and says it in every attempt; its bound counts it like the rest of what is said. Where
that step ends without an answer, it waits for the next one that begins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from agentflow.domain.action import LlmAction
from agentflow.domain.child import plan_id
from agentflow.domain.error import InvalidTransition, NotFound, UsageError
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.plan import Plan
from agentflow.domain.state import FINAL_RUN_STATES, FINAL_STEP_STATES
from agentflow.domain.wording import did_you_mean
from agentflow.engine.context import EngineContext
from agentflow.engine.inputs import input_address
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.engine.registration import check_registration
from agentflow.storage import guidance, runs, steps
from agentflow.storage.retention import missing_run

MAX_BYTES = 64 * 1024
INTRODUCTION = "Guidance from a person who follows this work:"


@dataclass(frozen=True, slots=True)
class Guided:
    """What was kept: the hash and size of the text, and for which step; None is whichever calls a model next."""

    sha256: str
    bytes: int
    step: StepKey | None


@dataclass(frozen=True, slots=True)
class Guidance:
    """A text for the next model call of a run, or of a step: its name, or its id in the plan for any of its items."""

    run_id: RunId
    text: str
    step: StepKey | None
    actor: str
    why: str | None = None

    @property
    def content(self) -> bytes:
        """The text as it is kept. UsageError for one that is empty or too long."""
        content = self.text.encode("utf-8", "replace")
        if not self.text.strip() or len(content) > MAX_BYTES:
            raise UsageError(f"Guidance is a text of 1 to {MAX_BYTES:,} bytes; this one has {len(content):,}.")
        return content


def guide(context: EngineContext, given: Guidance) -> Guided:
    """Keep guidance for a run.

    UsageError where no step calls a model, or the one that is named, NotFound for an unknown step, InvalidTransition
    when nothing of the run calls a model any more. Raises StoreMismatch when this process sees another content store.
    """
    content = given.content
    guided = Guided(hashlib.sha256(content).hexdigest(), len(content), given.step)
    with context.database.transaction() as tx:  # before anything is put into the store
        _check(context, tx, given)
    check_registration(context.database, context.store, context.audit_key)
    context.store.put(input_address(given.run_id, guided.sha256), content)
    with context.database.transaction() as tx:
        run = _check(context, tx, given)
        guidance.insert(tx, run.run_id, given.step, sha256=guided.sha256, size=guided.bytes, actor=given.actor)
        facts = {"sha256": guided.sha256, "bytes": guided.bytes, "step": given.step, "why": given.why}
        record(
            context,
            tx,
            ChainHead(run.run_id, None, run.event_sequence, run.event_head),
            at=run.at,
            actor=given.actor,
            action="guide",
            subject="run",
            moves=Moves(),
            facts={name: value for name, value in facts.items() if value is not None},
        )
    return guided


def with_guidance(
    context: EngineContext, run_id: RunId, given: Iterable[str], texts: Mapping[str, str], name: str
) -> dict[str, str]:
    """Return ``texts`` with guidance behind the one called ``name``; as it was given, for it is no template.

    Raises ContentError when it is not in the store any more.
    """
    said = [_read(context, run_id, sha256) for sha256 in given]
    if not said:
        return dict(texts)
    before = [texts[name]] if texts.get(name) else []
    return {**texts, name: "\n\n".join([*before, INTRODUCTION, *said])}


def _read(context: EngineContext, run_id: RunId, sha256: str) -> str:
    with context.store.open(input_address(run_id, sha256)) as file:
        return file.read().decode("utf-8")


def _check(context: EngineContext, tx: Connection, given: Guidance) -> runs.LockedRun:
    run = runs.lock(tx, given.run_id)
    if run is None:
        raise missing_run(tx, given.run_id)
    if run.state in FINAL_RUN_STATES:
        raise InvalidTransition(f"Run {run.run_id} has ended ({run.state}): nobody hears guidance", state=run.state)
    plan = context.plans.get(tx, runs.read_plan_fingerprint(tx, run.run_id)).plan
    wanted = _callers(plan, given.step)
    standing = steps.read_states(tx, run.run_id)
    if not any(_may_call(plan, key, wanted) for key, step in standing.items() if step.state not in FINAL_STEP_STATES):
        what = f"step {given.step!r} has ended" if given.step else "every step that calls a model has ended"
        raise InvalidTransition(f"Nobody hears guidance: {what}", state=run.state)
    return run


def _callers(plan: Plan, step: StepKey | None) -> frozenset[StepKey]:
    """The ids of the steps of the plan that may say it."""
    callers = frozenset(each.id for each in plan.every_step if isinstance(each.action, LlmAction))
    if step is not None and plan_id(step) not in {each.id for each in plan.every_step}:
        raise NotFound(f"There is no step {step!r}: {did_you_mean(step, callers)}", step=step)
    if not callers or (step is not None and plan_id(step) not in callers):
        what = "No step of the run" if step is None else f"Step {step!r} never"
        raise UsageError(f"{what} calls a model: there is nobody to guide.")
    return callers if step is None else frozenset({plan_id(step)})


def _may_call(plan: Plan, key: StepKey, wanted: frozenset[StepKey]) -> bool:
    """Whether the open step ``key`` is one of ``wanted``, or a foreach that may yet make one."""
    if plan_id(key) in wanted:
        return True
    around = plan.foreach_around
    for each in wanted:
        while (foreach := around.get(each)) is not None:
            if foreach == plan_id(key):
                return True
            each = foreach
    return False
