"""Gates: points where a run waits for a decision; who may decide, how many must, and what happens when nobody does.

Owns the terms as a plan writes them, the states of a gate, and what a set of decisions comes to. Reads no clock; rows
are storage's, opening and deciding are engine verbs.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue


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


class FormField(BaseModel):
    """A value that whoever approves fills in; it becomes the var of its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["string", "integer", "number", "boolean"] = "string"
    required: bool = True
    default: JsonValue = None
    one_of: tuple[JsonValue, ...] | None = None


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
    """Whether the one who submitted the run may decide."""
    form: dict[str, FormField] = {}
    expires_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    on_expiry: Literal["deny", "approve", "escalate"] = "deny"
    escalate_to: tuple[str, ...] = ()
