"""The plan: an immutable graph of steps with a fingerprint.

Owns the types as they are stored and their canonical bytes. Reading what an author wrote is plan_document's, finding
faults is plan_check's; a Plan that exists has resolved needs, whole references and no content, only hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from agentflow.domain.action import ENGINE_ACTIONS, Action
from agentflow.domain.budget import Budget
from agentflow.domain.child import is_child, is_item, plan_id
from agentflow.domain.ids import StepKey
from agentflow.domain.limit import ConcurrencyLimit, RateLimit
from agentflow.domain.retry_policy import DEFAULT_RETRY, RetryPolicy

ID_PATTERN = r"^[A-Za-z_][A-Za-z0-9_-]{0,63}\Z"
NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}\Z"
NAME_WORDS = "start with a letter, a digit or _, then also . and -, at most 100 characters"
"""What it asks of a name, for people."""
MAX_STEPS = 10_000
"""Of a plan as written, and of a run with what its foreachs made."""
DEFAULT_CHILDREN = 1_000
WHEN_WORDS = ("succeeded", "failed", "always", "taken", "any")
"""The conditions that refer to nothing; domain/transition.py says what they mean."""
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


class Foreach(BaseModel):
    """Does a step, or a body of steps, once for each item of a list that is known at run time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: str | tuple[JsonValue, ...]
    """An expression that gives a list, or the list itself."""
    max_parallel: int | None = Field(default=None, ge=1)
    """How many items may be under way at once."""
    max_children: int = Field(default=DEFAULT_CHILDREN, ge=1, le=MAX_STEPS)
    """A longer list fails the step."""
    merge: Literal["fail_on_any", "ignore_failures", "partial"] = "fail_on_any"
    """What failed items make of the step: it fails; nothing; it succeeds unless all failed, and the run is partial."""
    steps: tuple[Step, ...] = ()
    """The body, where the action is a group; ids are unique in the whole plan."""


class Step(BaseModel):
    """One node of the plan; ``needs`` are resolved, ``timeout_seconds`` bounds one attempt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: StepKey = Field(pattern=ID_PATTERN.replace(r"\Z", "$"))
    needs: tuple[StepKey, ...] = ()
    action: Action
    when: str = "succeeded"
    """One of WHEN_WORDS, or an expression."""
    outputs: Literal["none", "stdout_json", "body_json"] = "none"
    inputs: tuple[StepInput, ...] = ()
    timeout_seconds: float = Field(default=DEFAULT_TIMEOUT_SECONDS, gt=0, allow_inf_nan=False)
    retry: RetryPolicy = DEFAULT_RETRY
    on_failure: Literal["stop", "continue", "ignore"] = "stop"
    """Whether a failure ends the run, makes it partial, or does not count."""
    on_lost: Literal["rerun", "hold"] = "rerun"
    rate_limit: RateLimit | None = None
    concurrency: ConcurrencyLimit | None = None
    foreach: Foreach | None = None
    wave: int | None = Field(default=None, ge=1)
    """The wave that it was written into; what follows from it stands in ``needs``."""


Foreach.model_rebuild()  # a body holds steps, and steps hold foreachs


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
        _check_needs(self.steps)
        every = [step.id for step, _ in self._walk()]
        if len(set(every)) != len(every):
            raise ValueError("a step id stands twice")
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

    def _walk(self) -> Iterator[tuple[Step, StepKey | None]]:
        """Every step, each with the foreach in whose body it stands; a foreach before its body."""
        work: list[tuple[Step, StepKey | None]] = [(step, None) for step in reversed(self.steps)]
        while work:
            step, around = work.pop()
            yield step, around
            if step.foreach is not None:
                work.extend((inner, step.id) for inner in reversed(step.foreach.steps))

    @cached_property
    def _steps_by_id(self) -> dict[StepKey, Step]:
        return {step.id: step for step, _ in self._walk()}

    def places(self) -> Iterator[tuple[Step, tuple[str | int, ...]]]:
        """Every step with its path in the document."""
        work: list[tuple[Step, tuple[str | int, ...]]] = [
            (step, ("steps", position)) for position, step in reversed([*enumerate(self.steps)])
        ]
        while work:
            step, path = work.pop()
            yield step, path
            body = step.foreach.steps if step.foreach is not None else ()
            work.extend((inner, (*path, "steps", position)) for position, inner in reversed([*enumerate(body)]))

    @property
    def every_step(self) -> Iterable[Step]:
        """All steps, those in the bodies of foreachs too."""
        return self._steps_by_id.values()

    @cached_property
    def foreach_around(self) -> Mapping[StepKey, StepKey]:
        """The foreach in whose body each of the steps stands that stand in one."""
        return {step.id: around for step, around in self._walk() if around is not None}

    def step(self, key: StepKey) -> Step:
        """Return the step ``key``, or the one that a foreach made ``key`` from. Raises KeyError when there is none."""
        return self._steps_by_id[plan_id(key)]

    def is_foreach(self, key: StepKey) -> bool:
        """Whether ``key`` is a foreach itself, and not one of its items."""
        return self.step(key).foreach is not None and not is_item(key)

    def is_body(self, key: StepKey) -> bool:
        """Whether ``key`` is an item of a foreach that has a body, and ends as that does."""
        return is_item(key) and self.step(key).action.type == "group"

    def is_engines(self, key: StepKey) -> bool:
        """Whether the engine decides ``key`` itself, and no worker performs it."""
        return self.is_foreach(key) or self.step(key).action.type in ENGINE_ACTIONS

    def stops_run(self, key: StepKey) -> bool:
        """Whether a failure of ``key`` ends the run; inside of a foreach it ends the item."""
        return self.step(key).on_failure == "stop" and not is_child(key)


def _check_needs(steps: Iterable[Step]) -> None:
    """ValueError where a step, at any depth, needs one that is not beside it."""
    steps = tuple(steps)
    keys = {step.id for step in steps}
    for step in steps:
        if not keys.issuperset(step.needs) or step.id in step.needs:
            raise ValueError(f"step {step.id!r} needs a step that is not there, or itself")
        if step.foreach is not None:
            _check_needs(step.foreach.steps)
