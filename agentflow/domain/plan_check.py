"""What the steps of a plan mean to each other: ids, the order rule, needs, cycles, and what this version can perform.

Owns the faults that no single step shows. References inside texts are reference_check's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from agentflow.domain.action import ENGINE_ACTIONS, DecisionAction
from agentflow.domain.document import NOT_AVAILABLE
from agentflow.domain.fault import Fault
from agentflow.domain.graph import find_cycles
from agentflow.domain.ids import StepKey
from agentflow.domain.plan import Plan
from agentflow.domain.step_document import StepDraft
from agentflow.domain.wave import is_laid_in_waves
from agentflow.domain.wording import did_you_mean, listing, shorten

STARTS_AT_ONCE = (None, "succeeded", "always")
"""Conditions that hold where nothing came before."""


def check_available(plan: Plan, available_actions: Collection[str]) -> tuple[Fault, ...]:
    """Return a fault for each step of ``plan`` whose action is not among ``available_actions``."""
    return tuple(
        Fault(
            NOT_AVAILABLE,
            f"the action {step.action.type} is not available here; available: {listing(sorted(available_actions))}",
            (*path, step.action.type),
            step.id,
        )
        for step, path in plan.places()
        if step.action.type not in available_actions and step.action.type not in ENGINE_ACTIONS
    )


def check_order(drafts: Sequence[StepDraft]) -> dict[StepKey, tuple[StepKey, ...]]:
    """Check ids, needs and order; return the resolved needs by id, without what could not be resolved.

    A step without needs follows the step above it as long as no step writes needs. Once one does, all but the first
    must. Bodies of foreachs are ordered each by itself; ids are unique in the whole plan.
    """
    _check_ids([inner for draft in drafts for inner in draft.walk()])
    own = _check_level(drafts)
    resolved: dict[StepKey, tuple[StepKey, ...]] = {}
    for bodies in reversed([_check_bodies(draft) for draft in drafts]):
        resolved |= bodies
    return resolved | own


def _check_bodies(draft: StepDraft) -> dict[StepKey, tuple[StepKey, ...]]:
    resolved: dict[StepKey, tuple[StepKey, ...]] = {}
    if draft.body:
        resolved |= _check_level(draft.body)
        for inner in draft.body:
            resolved |= _check_bodies(inner)
    return resolved


def _check_level(drafts: Sequence[StepDraft]) -> dict[StepKey, tuple[StepKey, ...]]:
    known = {draft.key for draft in drafts if draft.key is not None}
    is_written = any(draft.needs is not None for draft in drafts)
    has_waves = is_laid_in_waves(drafts)
    resolved: dict[StepKey, tuple[StepKey, ...]] = {}
    above: StepKey | None = None
    for position, draft in enumerate(drafts):
        needs = _written_needs(draft, known)
        if draft.needs is None and position > 0 and not has_waves:
            if is_written and isinstance(draft.value.value, Mapping):
                draft.value.fault(
                    "missing_needs",
                    "the step writes no needs, but others do: once one step does, "
                    "every step but the first must; needs: [] waits for none",
                )
            needs = (above,) if above is not None else ()
        if draft.key is not None:
            resolved.setdefault(draft.key, needs)
            above = draft.key
    _check_cycles(drafts, resolved)
    return resolved


def check_roots(drafts: Sequence[StepDraft], behind: Collection[StepKey] = ()) -> None:
    """Record a fault for each condition of a step that waits for none: it starts with the run, and nobody asks.

    A condition that has another fault is left at that. The steps ``behind`` wait for a wave.
    """
    for draft in drafts:
        if draft.body:
            check_roots(draft.body)
    has_waves = is_laid_in_waves(drafts)
    for position, draft in enumerate(drafts):
        is_root = draft.needs == [] or (draft.needs is None and (not position or has_waves))
        if not is_root or draft.key in behind or draft.read.get("when") in STARTS_AT_ONCE:
            continue
        value = draft.value.child("when")
        if not any(fault.path == value.path for fault in value.faults):
            value.fault(
                "when_without_needs",
                "the step waits for none and starts with the run: its condition would not be asked; "
                "remove it, or write needs (a noop step before it will do)",
            )


def check_switches(drafts: Sequence[StepDraft], needs: Mapping[StepKey, Sequence[StepKey]]) -> None:
    """Record a fault for each step of a case that is not there, or that does not need its switch."""
    for draft in drafts:
        check_switches(draft.body, needs)
        action = draft.read.get("action")
        if not isinstance(action, DecisionAction) or draft.key is None:
            continue
        written = "switch" if "switch" in draft.value.value else "decision"
        if "cases" not in draft.value.value[written]:
            continue
        if draft.is_foreach:
            draft.value.child("foreach").fault(
                "bad_value", "a switch is not done for each item: write a foreach with steps, and the switch among them"
            )
        beside = {other.key for other in drafts if other.key is not None}
        for label, keys in action.cases.items():
            place = draft.value.child(written).child("cases").child(label)
            for key in keys:
                if key not in beside:
                    place.fault("invalid_target_node", f"the case names {shorten(key)!r}: {did_you_mean(key, beside)}")
                elif draft.key not in needs.get(key, ()):
                    place.fault("invalid_target_node", f"{key} must need {draft.key}, which chooses it: add it there")


def _check_ids(drafts: Sequence[StepDraft]) -> dict[StepKey, int]:
    """Return the position of each id; report those that stand twice."""
    known: dict[StepKey, int] = {}
    for position, draft in enumerate(drafts):
        if draft.key is None:
            continue
        if draft.key in known:
            draft.value.child("id").fault(
                "duplicate_id", f"the id {shorten(draft.key)!r} stands twice: step {known[draft.key] + 1} has it too"
            )
        known.setdefault(draft.key, position)
    return known


def _written_needs(draft: StepDraft, known: Collection[StepKey]) -> tuple[StepKey, ...]:
    needs = []
    for key, value in draft.needs or ():
        if key == draft.key:
            value.fault("self_need", f"the step needs itself: remove {shorten(key)!r} from its needs")
        elif key not in known:
            value.fault("unknown_need", f"needs names an unknown step {shorten(key)!r}: {did_you_mean(key, known)}")
        else:
            needs.append(key)
    return tuple(needs)


def _check_cycles(drafts: Sequence[StepDraft], resolved: dict[StepKey, tuple[StepKey, ...]]) -> None:
    by_key = {draft.key: draft for draft in reversed(drafts)}
    for cycle in find_cycles(resolved):
        needs = [f"{key} needs {need}" for key, need in zip(cycle, (*cycle[1:], cycle[0]), strict=True)]
        draft = by_key[cycle[0]]
        place = draft.value.child("needs") if draft.needs is not None else draft.value
        place.fault("cycle", f"the steps wait for each other: {listing(needs)}; remove one of these needs")
