"""Answers: what becomes of what a model or a service said.

Owns which answers go into the content store, under which name, and which of them, and of the lists that foreachs made
of them, go again when the run ends. An answer
that nobody chose to keep is a file of the store (0600) while a later step needs it, has no row, and is else nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter

from sqlalchemy import Connection

from agentflow.content.store import Address, ContentStore
from agentflow.domain.action import HttpAction, LlmAction
from agentflow.domain.child import plan_id
from agentflow.domain.error import ConfigurationError, ContentError, StoreMismatch
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.item_flow import ItemFlow, flow_of
from agentflow.domain.plan import Plan, Step
from agentflow.engine.context import EngineContext
from agentflow.engine.items import items_address
from agentflow.engine.registration import check_registration
from agentflow.executors.base import CallRecord
from agentflow.storage import children, runs
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


def find_passing(tx: Connection, run_id: RunId, plan: Plan) -> frozenset[Address]:
    """Where answers may lie that go when the run ends: nobody chose to keep them, or their attempt did not succeed.

    The caller holds the run. Nothing is asked of Postgres for a plan whose steps leave no such answers.
    """
    ids = {step.id for step in plan.every_step if isinstance(step.action, LlmAction) and _is_wanted(step)}
    if not ids:
        return frozenset()
    has_inner = any(key in plan.foreach_around or plan.is_foreach(key) for key in ids)
    found = runs.find_passing_attempts(tx, run_id, sorted(ids), TEXT, has_inner=has_inner)
    answers = (Address(str(run_id), TEXT, key, attempt) for key, attempt in found if plan_id(key) in ids)
    return frozenset((*answers, *_passing_lists(tx, run_id, plan)))


def _passing_lists(tx: Connection, run_id: RunId, plan: Plan) -> Iterator[Address]:
    """Where the lists of foreachs lie that are such an answer, or a part of one."""
    ids = passing_lists(plan, flow_of(plan))
    if ids:
        yield from (items_address(run_id, key) for key in children.read_foreachs(tx, run_id) if plan_id(key) in ids)


def passing_lists(plan: Plan, flow: ItemFlow) -> frozenset[StepKey]:
    """The foreachs of a plan whose lists go when the run ends, as the answers do that they come from."""
    foreachs = [step.id for step in plan.every_step if step.foreach is not None]
    return frozenset(key for key in foreachs if any(is_passing(plan.step(each)) for each, _ in flow.list_sources(key)))


def forget_answers(context: EngineContext, addresses: Iterable[Address]) -> bool:
    """Remove answers, outside of any transaction; False when this process does not see the installation's store.

    What resists is logged and left. Another store would hold none of them, and say that they are gone.
    """
    try:
        check_registration(context.database, context.store, context.audit_key)
    except (StoreMismatch, ConfigurationError) as error:
        log.warning("answers_left_to_others", error=str(error))
        return False
    by_step = attrgetter("run_id", "step")
    for (run_id, step), of_step in groupby(sorted(addresses, key=by_step), key=by_step):
        _forget_of_step(context.store, run_id, step, list(of_step))
    return True


def _forget_of_step(store: ContentStore, run_id: str, step: str, addresses: Sequence[Address]) -> None:
    """Visit only what is there: most attempts of a step that was often postponed left nothing."""
    try:
        there = store.find_attempts(run_id, step)
    except ContentError as error:
        _log_left(addresses[0], error)
        return
    for address in addresses:
        if address.attempt in there:
            _forget(store, address)


def forget_answer(store: ContentStore, address: Address, step: Step) -> None:
    """Remove the answer of an attempt that did not succeed; nothing where the step leaves none."""
    if isinstance(step.action, LlmAction) and _is_wanted(step):
        _forget(store, address)


def _forget(store: ContentStore, address: Address) -> None:
    try:
        store.delete(address)
    except ContentError as error:
        _log_left(address, error)


def _log_left(address: Address, error: ContentError) -> None:
    log.warning("answer_not_removed", run_id=address.run_id, step_id=address.step, error=str(error))


def lost_answers(plan: Plan, succeeded: frozenset[StepKey]) -> frozenset[StepKey]:
    """Return those of the succeeded steps whose answers went with the end of their run."""
    return frozenset(key for key in succeeded if is_passing(plan.step(key)) and not plan.is_foreach(key))
