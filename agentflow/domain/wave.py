"""Waves: steps that start together and end before the next wave starts.

Owns the rules of ``wave: N`` and what becomes of it: between two waves stands a join that needs every step of the one
and that every step of the other needs, so that the edges grow with the steps and not with their square. The engine ends
a join itself, as soon as its needs have ended, however they did.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from agentflow.domain.action import GroupAction
from agentflow.domain.ids import StepKey
from agentflow.domain.plan import MAX_STEPS, Step
from agentflow.domain.step_document import StepDraft
from agentflow.domain.wording import shorten

Needs = Mapping[StepKey, tuple[StepKey, ...]]


@dataclass(frozen=True, slots=True)
class Waves:
    """The needs of all steps with those that follow from the waves, and the joins by the step that each comes after."""

    needs: dict[StepKey, tuple[StepKey, ...]]
    joins: Mapping[StepKey, Step]
    behind: frozenset[StepKey] = frozenset()
    """The steps that a join stands before."""

    def with_joins(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        """Return ``steps`` with the joins among them, each after the last step of its wave."""
        return tuple(one for step in steps for one in (step, self.joins.get(step.id)) if one is not None)


def join_id(wave: int) -> StepKey:
    """What the join after a wave is called."""
    return StepKey(f"wave-{wave}-end")


def is_laid_in_waves(drafts: Sequence[StepDraft]) -> bool:
    """Whether the order of these steps is that of their waves."""
    return any(_is_written(draft) for draft in drafts)


def lay_waves(drafts: Sequence[StepDraft], needs: Needs) -> Waves:
    """Check the waves of a plan and return what follows from them; a plan without waves stays as it is."""
    for draft in drafts:
        _refuse_inside(draft)
    if not is_laid_in_waves(drafts):
        return Waves(dict(needs), {})
    before = {draft.key: _wave(draft) for draft in drafts if draft.key is not None}
    for draft in drafts:
        _check_wave(draft)
        _check_needs(draft, before)
    waves: defaultdict[int, list[StepKey]] = defaultdict(list)
    for key, wave in before.items():
        if wave is not None:
            waves[wave].append(key)
    _check_joins(drafts, waves)
    return _laid(dict(needs), dict(sorted(waves.items())))


def _laid(needs: dict[StepKey, tuple[StepKey, ...]], waves: Mapping[int, Sequence[StepKey]]) -> Waves:
    numbers = list(waves)
    joins: dict[StepKey, Step] = {}
    for earlier, later in pairwise(numbers):
        join = Step(id=join_id(earlier), needs=tuple(waves[earlier]), action=GroupAction(), when="always", wave=earlier)
        joins[waves[earlier][-1]] = join
        needs[join.id] = join.needs
        for key in waves[later]:
            needs[key] = (*needs.get(key, ()), join.id)
    return Waves(needs, joins, frozenset(key for number in numbers[1:] for key in waves[number]))


def _is_written(draft: StepDraft) -> bool:
    return isinstance(draft.value.value, Mapping) and draft.value.value.get("wave") is not None


def _refuse_inside(draft: StepDraft) -> None:
    for inner in draft.body:
        if _is_written(inner):
            inner.value.child("wave").fault("wave_in_body", "waves order the steps of the plan, not those of a body")
        _refuse_inside(inner)


def _wave(draft: StepDraft) -> int | None:
    wave = draft.read.get("wave")
    return wave if isinstance(wave, int) else None


def _check_wave(draft: StepDraft) -> None:
    if not _is_written(draft) and isinstance(draft.value.value, Mapping):
        draft.value.fault("missing_wave", "the step writes no wave, but others do: once one step does, every step must")


def _check_needs(draft: StepDraft, waves: Mapping[StepKey, int | None]) -> None:
    wave = _wave(draft)
    for key, value in draft.needs or ():
        other = waves.get(key)
        if wave is None or other is None or key == draft.key or other < wave:
            continue
        which = "the same wave, whose steps start together" if other == wave else f"the later wave {other}"
        value.fault("wave_contradiction", f"the step is of wave {wave} and needs {shorten(key)!r} of {which}")


def _check_joins(drafts: Sequence[StepDraft], waves: Mapping[int, Sequence[StepKey]]) -> None:
    joins = {join_id(wave) for wave in sorted(waves)[:-1]}
    for draft in drafts:
        if draft.key in joins:
            draft.value.child("id").fault("duplicate_id", f"{draft.key} is the join that ends that wave: rename it")
    if len(drafts) + len(joins) > MAX_STEPS:
        drafts[0].value.fault(
            "too_many_steps",
            f"with the joins between its waves the plan has {len(drafts) + len(joins)} steps; {MAX_STEPS} is the most",
        )
