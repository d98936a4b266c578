"""A gate as surfaces print it: terms, what was found, what was said, and who is still missing.

Owns the JSON shape and its derived parts. No value that was filled in stands in it, only the names of the fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from agentflow.domain.child import loops
from agentflow.domain.gate import (
    Decision,
    GateKind,
    GateState,
    GateTerms,
    Groups,
    Verdict,
    approved_by,
    group_of,
    refusal,
    values_given,
)
from agentflow.domain.ids import RunId, StepId, StepKey


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate with what was said to it."""

    id: UUID
    state: GateState
    kind: GateKind
    round: int
    terms: GateTerms
    facts: Mapping[str, Any]
    plan_fingerprint: str
    opened_at: datetime
    expires_at: datetime | None
    is_escalated: bool
    decided_at: datetime | None
    decisions: tuple[Decision, ...]

    @property
    def approvers(self) -> tuple[str, ...]:
        """Who may decide it now; none means anyone."""
        return self.terms.escalate_to if self.is_escalated else self.terms.approvers

    @property
    def missing(self) -> int:
        """How many approvals are missing while it is open."""
        if self.state is not GateState.OPEN:
            return 0
        return max(0, self.terms.count - len(approved_by(self.decisions)))

    @property
    def to_fill_in(self) -> tuple[str, ...]:
        """The fields of its form that nobody has filled in and that must be."""
        given = values_given(self.decisions)
        return tuple(
            name
            for name, field in self.terms.form.items()
            if field.required and field.default is None and name not in given
        )

    def as_json(self) -> dict[str, Any]:
        """The gate without its run."""
        terms = self.terms
        return {
            "id": str(self.id),
            "kind": self.kind.value,
            "state": self.state.value,
            "round": self.round,
            "message": terms.message,
            "approvers": list(self.approvers),
            "count": terms.count,
            "approved_by": list(approved_by(self.decisions)),
            "missing": self.missing,
            "allow_self": terms.allows_self,
            "automatic": terms.is_automatic,
            "form": {name: field.model_dump(mode="json", exclude_none=True) for name, field in terms.form.items()},
            "opened_at": _moment(self.opened_at),
            "expires_at": _moment(self.expires_at),
            "on_expiry": terms.on_expiry if terms.expires_seconds is not None else None,
            "is_escalated": self.is_escalated,
            "decided_at": _moment(self.decided_at),
            "plan_fingerprint": self.plan_fingerprint,
            "found": {name: value for name, value in self.facts.items() if name != "run_round"},
            "decisions": [
                {
                    "actor": said.actor,
                    "verdict": said.verdict.value,
                    "why": said.why,
                    "set": sorted(said.given or {}),
                    "at": _moment(said.at),
                }
                for said in self.decisions
            ],
        }


@dataclass(frozen=True, slots=True)
class GateView:
    """A gate as surfaces show it, with the run and the step that it belongs to."""

    run_id: RunId
    step_id: StepId
    step: StepKey
    project: str
    plan_name: str
    submitted_by: str
    read_at: datetime
    gate: Gate

    def as_json(self) -> dict[str, Any]:
        """The gate as ``gates --json`` prints it."""
        head = {
            "run": str(self.run_id),
            "step": self.step,
            "project": self.project,
            "name": self.plan_name,
            "submitted_by": self.submitted_by,
        }
        return head | self.gate.as_json()

    def is_for(self, actor: str, groups: Groups) -> bool:
        """Whether ``actor`` may approve it and has not yet."""
        return group_of(self.gate.approvers, actor, groups) is not None and self._is_free_to(actor)

    def verdicts_of(self, actor: str, groups: Groups) -> tuple[Verdict, ...]:
        """What ``actor`` may say to it, and has not yet."""
        terms, who, submitters = self.gate.terms, self.gate.approvers, (self.submitted_by,)
        allowed = [each for each in Verdict if refusal(terms, who, actor, each, submitters, groups) is None]
        has_approved = actor in approved_by(self.gate.decisions)
        return tuple(each for each in allowed if not (has_approved and each is Verdict.APPROVE))

    def left_json(self, groups: Groups) -> dict[str, Any]:
        """Who may approve it and has not yet: names, and groups with somebody who may; None for anyone.

        ``may_give`` counts the approvals that can still come. ``but_not`` is who submitted the run, where that leaves
        them out; a group without members is told by itself.
        """
        approvers, by = self.gate.approvers, self.submitted_by
        members = {each: groups.get(each[1:], ()) if each.startswith("@") else (each,) for each in approvers}
        left = [each for each in approvers if any(map(self._is_free_to, members[each]))]
        people = {person for each in left for person in members[each] if self._is_free_to(person)}
        is_out = not self.gate.terms.allows_self and (not approvers or any(by in members[each] for each in left))
        return {
            "may_approve": left if approvers else None,
            "may_give": min(len(people), self.gate.missing) if approvers else self.gate.missing,
            "but_not": by if is_out else None,
            "empty_groups": [each for each in approvers if not members[each]],
        }

    def _is_free_to(self, approver: str) -> bool:
        is_own = approver == self.submitted_by and not self.gate.terms.allows_self
        return not is_own and approver not in approved_by(self.gate.decisions)


def by_items(found: Sequence[GateView]) -> list[GateView]:
    """Order gates that stand in the order of their opening: those of a foreach together, by its items."""
    owners: dict[tuple[RunId, StepKey], int] = {}
    keyed = []
    for view in found:
        around = loops(view.step)
        owner = (view.run_id, around[0].key if around else view.step)
        keyed.append((owners.setdefault(owner, len(owners)), [loop.item for loop in around], view))
    return [view for _, _, view in sorted(keyed, key=lambda each: each[:2])]


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
