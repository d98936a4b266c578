"""Answers: what becomes of what a model or a service said.

Owns which answers go into the content store, under which name, and which of them go again when the run ends. An answer
that nobody chose to keep is a file of the store (0600) while a later step needs it, has no row, and is else nowhere.
"""

from __future__ import annotations

from sqlalchemy import Connection

from agentflow.content.store import Address, ContentStore
from agentflow.domain.action import HttpAction, LlmAction
from agentflow.domain.error import ContentError
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.plan import Plan, Step
from agentflow.engine.context import EngineContext
from agentflow.executors.base import CallRecord
from agentflow.storage import steps
from agentflow.storage.attempts import Artifact
from agentflow.telemetry import get_logger

log = get_logger(__name__)

TEXT = "text"
"""What an answer is called in the content store, in templates and among the artifacts."""
ANSWER_KIND = "answer"


def keep_answer(store: ContentStore, address: Address, step: Step, call: CallRecord) -> list[Artifact]:
    """Put a call's answer into the store if somebody needs it; returns the row of one that stays."""
    if call.answer is None or not _is_wanted(step):
        return []
    store.adopt(address, call.answer)
    if is_passing(step):
        return []
    media_type, size = call.answer_media_type, call.answer_bytes
    return [Artifact(TEXT, ANSWER_KIND, size, size, call.answer_sha256 or "", media_type, is_cut=False)]


def _is_wanted(step: Step) -> bool:
    match step.action:
        case LlmAction(keep_content=is_kept, is_answer_needed=is_needed):
            return is_kept or is_needed
        case HttpAction():
            return True
        case _:
            return False


def is_passing(step: Step) -> bool:
    """Whether the step's answer is kept only until its run ends."""
    return isinstance(step.action, LlmAction) and step.action.is_answer_needed and not step.action.keep_content


def forget_answers(context: EngineContext, tx: Connection, run_id: RunId, plan: Plan) -> None:
    """Remove the answers of a run that nobody chose to keep; what resists is logged and left."""
    passing = {step.id for step in plan.steps if is_passing(step)}
    if not passing:
        return
    for facts in steps.read_facts(tx, run_id, passing).values():
        for attempt in range(1, facts.attempt + 1):
            forget_answer(context.store, Address(str(run_id), TEXT, facts.key, attempt), plan.step(facts.key))


def forget_answer(store: ContentStore, address: Address, step: Step) -> None:
    """Remove one answer that nobody chose to keep; nothing where the step's answers stay or where there is none."""
    if not is_passing(step):
        return
    try:
        store.delete(address)
    except ContentError as error:
        log.warning("answer_not_removed", run_id=address.run_id, step_id=address.step, error=str(error))


def lost_answers(plan: Plan, succeeded: frozenset[StepKey]) -> frozenset[StepKey]:
    """Return those of the succeeded steps whose answers went with the end of their run."""
    return frozenset(step.id for step in plan.steps if step.id in succeeded and is_passing(step))
