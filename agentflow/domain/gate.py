"""Gates: points where a run waits for a decision; who may decide, how many must, and what happens when nobody does.

Owns the terms as a plan writes them, the states of a gate, who may decide and how many of them are missing. Reads no
clock; rows are storage's, opening and deciding are engine verbs, what a gate finds by itself is gate_finding.py's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from agentflow.domain.ids import StepKey

GATE_ACTOR = "gate"
"""Who is said to have decided where a gate did so by itself."""
MAX_REDO_ROUNDS = 10
"""How often a gate of one round of its run may send steps back, unless the plan says otherwise."""


class GateKind(StrEnum):
    """What a gate is about."""

    APPROVAL = "approval"
    POLICY = "policy"
    SAFETY = "safety"
    ARTIFACTS = "artifacts"
    CONSENSUS = "consensus"
    QUALITY = "quality"


class GateState(StrEnum):
    """How a gate stands; it is decided once, and a new round opens a new one."""

    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


class Verdict(StrEnum):
    """What one person says to a gate."""

    APPROVE = "approve"
    REJECT = "reject"


class CheckMode(StrEnum):
    """What becomes of a gate whose check did not succeed: it is rejected, the deciders are told, or nothing."""

    BLOCK = "block"
    WARN = "warn"
    SKIP = "skip"


class FormField(BaseModel):
    """A value that whoever approves fills in; it becomes the var of its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["string", "integer", "number", "boolean"] = "string"
    required: bool = True
    default: JsonValue = None
    one_of: tuple[JsonValue, ...] | None = None


class Redo(BaseModel):
    """Where a rejection sends the run back to: the step is done again with what is behind it, the gate too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: StepKey
    max_rounds: int = Field(default=MAX_REDO_ROUNDS, ge=1)
    """How often at most in one round of the run; the next rejection fails the gate."""


class GateTerms(BaseModel):
    """What a plan says of a gate. ``approvers`` are names and ``@groups``; none means anyone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: GateKind = GateKind.APPROVAL
    message: str = ""
    """For people; it may refer to vars only."""
    approvers: tuple[str, ...] = ()
    count: int = Field(default=1, ge=1)
    """How many must approve; one rejection rejects."""
    allows_self: bool = False
    """Whether the one who submitted the run may approve."""
    form: dict[str, FormField] = {}
    expires_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    on_expiry: Literal["deny", "approve", "escalate"] = "deny"
    escalate_to: tuple[str, ...] = ()
    artifacts: dict[StepKey, tuple[str, ...]] = {}
    """Which files steps must have left, by globs of their names."""
    checks: dict[StepKey, CheckMode] = {}
    """What the end of these steps says to the gate."""
    is_automatic: bool = False
    """Whether it decides itself, by its artifacts and checks."""
    on_reject: Redo | None = None
    """None: a rejection fails the step."""


Groups = Mapping[str, Collection[str]]
"""The members of each group of approvers, by its name without the ``@``."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one person said to a gate; ``given`` are the values that were filled in."""

    actor: str
    verdict: Verdict
    at: datetime
    why: str | None = None
    given: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why somebody may not decide a gate: a code and the words for it."""

    code: Literal["not_an_approver", "self_approval"]
    message: str


def group_of(approvers: Sequence[str], actor: str, groups: Groups) -> str | None:
    """Return as what ``actor`` is among ``approvers``: the name or the ``@group``; ``*`` where anyone is, else None."""
    if not approvers:
        return "*"
    if actor in approvers and not actor.startswith("@"):
        return actor
    return next((each for each in approvers if each.startswith("@") and actor in groups.get(each[1:], ())), None)


def refusal(
    terms: GateTerms,
    approvers: Sequence[str],
    actor: str,
    verdict: Verdict,
    submitters: Collection[str],
    groups: Groups,
) -> Refusal | None:
    """Say why ``actor`` may not decide so, None where they may. Who submitted the run may always reject it."""
    is_own = actor in submitters
    if verdict is Verdict.APPROVE and is_own and not terms.allows_self:
        return Refusal(
            "self_approval",
            f"{actor} submitted the run and may not approve it: somebody else must (allow_self is not set)",
        )
    if group_of(approvers, actor, groups) is None and not (is_own and verdict is Verdict.REJECT):
        return Refusal("not_an_approver", f"{actor} may not decide it: {who_may(approvers, groups)} may")
    return None


def who_may(approvers: Sequence[str], groups: Groups) -> str:
    """Name those who may decide, for people; a group without members says so."""
    if not approvers:
        return "anyone"
    named = [
        each if not each.startswith("@") or groups.get(each[1:]) else f"{each} (which has no members here)"
        for each in approvers
    ]
    return ", ".join(named)


def approved_by(decisions: Sequence[Decision]) -> tuple[str, ...]:
    """Who approved so far, the first one first; each counts once."""
    return tuple(dict.fromkeys(each.actor for each in decisions if each.verdict is Verdict.APPROVE))


def values_given(decisions: Sequence[Decision]) -> dict[str, Any]:
    """What was filled in so far."""
    return {name: value for each in decisions for name, value in (each.given or {}).items()}
