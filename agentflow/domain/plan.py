"""The plan: an immutable graph of steps with a fingerprint.

Owns the types as they are stored and their canonical bytes. Reading what an author wrote is plan_document's, finding
faults is plan_check's; a Plan that exists has resolved needs, whole references and no content, only hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from agentflow.domain.action import Action
from agentflow.domain.budget import Budget
from agentflow.domain.ids import StepKey
from agentflow.domain.limit import ConcurrencyLimit, RateLimit
from agentflow.domain.retry_policy import DEFAULT_RETRY, RetryPolicy

ID_PATTERN = r"^[A-Za-z_][A-Za-z0-9_-]{0,63}\Z"
NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}\Z"
MAX_STEPS = 10_000
DEFAULT_TIMEOUT_SECONDS = 1800.0


class PlanFile(BaseModel):
    """A file captured beside the plan: its path relative to the plan (POSIX), content hash and size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)
    executable: bool = False


class VarSpec(BaseModel):
    """A variable of the plan: its default, or that it must be given, and the values it may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: JsonValue = None
    required: bool = False
    one_of: tuple[JsonValue, ...] | None = None


class StepInput(BaseModel):
    """Artifacts of an earlier step, laid into the work directory.

    ``artifact`` is a name or a glob of names; ``path`` (relative, POSIX) is where the one artifact goes, or the folder
    for those that a glob matches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: StepKey
    artifact: str
    path: str


class Step(BaseModel):
    """One node of the plan; ``needs`` are resolved, ``timeout_seconds`` bounds one attempt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: StepKey = Field(pattern=ID_PATTERN.replace(r"\Z", "$"))
    needs: tuple[StepKey, ...] = ()
    action: Action
    when: str = "succeeded"
    """``succeeded``, ``failed``, ``always`` or an expression."""
    outputs: Literal["none", "stdout_json", "body_json"] = "none"
    inputs: tuple[StepInput, ...] = ()
    timeout_seconds: float = Field(default=DEFAULT_TIMEOUT_SECONDS, gt=0, allow_inf_nan=False)
    retry: RetryPolicy = DEFAULT_RETRY
    on_failure: Literal["stop", "continue"] = "stop"
    on_lost: Literal["rerun", "hold"] = "rerun"
    rate_limit: RateLimit | None = None
    concurrency: ConcurrencyLimit | None = None


class Plan(BaseModel):
    """A plan as it is stored: pure data, equal when its canonical bytes are equal."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    agentflow: Literal[1] = 1
    name: str
    project: str = "default"
    directive: str | None = None
    """The name under which budgets of the configuration may hold for the run."""
    budget: Budget | None = None
    files: tuple[PlanFile, ...] = ()
    vars: dict[str, VarSpec] = {}
    secrets: tuple[str, ...] = ()
    steps: tuple[Step, ...] = Field(min_length=1, max_length=MAX_STEPS)

    @model_validator(mode="after")
    def _needs_are_known(self) -> Self:
        keys = {step.id for step in self.steps}
        if len(keys) != len(self.steps):
            raise ValueError("a step id stands twice")
        for step in self.steps:
            if not keys.issuperset(step.needs) or step.id in step.needs:
                raise ValueError(f"step {step.id!r} needs a step that is not there, or itself")
        return self

    @classmethod
    def from_stored(cls, stored: bytes | str | Mapping[str, Any]) -> Self:
        """Return the plan that ``canonical_json`` was taken from; also of the mapping that JSON gives."""
        if isinstance(stored, bytes | str):
            return cls.model_validate_json(stored)
        return cls.model_validate(stored)

    def canonical_json(self) -> bytes:
        """Return the plan as UTF-8 JSON with sorted keys and no whitespace: equal plans, equal bytes."""
        # None is left out, so that a field that a later version adds as None changes no stored fingerprint.
        document = self.model_dump(mode="json", exclude_none=True)
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the canonical JSON, in hex; it covers the hashes of files and content."""
        return hashlib.sha256(self.canonical_json()).hexdigest()

    @cached_property
    def _steps_by_key(self) -> dict[StepKey, Step]:
        return {step.id: step for step in self.steps}

    def step(self, key: StepKey) -> Step:
        """Return the step ``key``. Raises KeyError when the plan has none of that id."""
        return self._steps_by_key[key]
