"""The exception tree: everything agentflow raises on purpose.

    AgentflowError
    ├── UsageError               a call that cannot be meant
    ├── PlanRejected             a plan with faults, all of them
    │   ├── ManifestLoadError    a manifest of a workflow is missing, or no YAML
    │   ├── SchemaValidationError  a manifest has fields that it cannot have
    │   └── DAGValidationError   the nodes and edges of a workflow make no graph that can run
    ├── NotFound                 no such run, step, artifact, plan
    │   └── RunPruned            the run was there, and was pruned
    ├── AmbiguousId              a prefix that fits several runs
    ├── PlanDrift                the plan is not the one that was meant
    ├── IdempotencyConflict      the key was used for another submission
    │   └── RequestConflict      the key was used for another request, or is in use
    ├── PreconditionFailed       what is to be acted on is not as the caller saw it
    ├── InvalidTransition        a verb that the state does not allow
    │   └── AlreadyDecided       somebody else decided the gate before
    ├── Unauthenticated          no valid key was shown
    ├── NotAllowed               the actor may not do this
    ├── TooManyRequests          the caller asks more often than it may
    ├── Conflict                 others kept Postgres from doing it
    ├── TemplateError            a template that cannot be rendered
    ├── ContentError             the content store refuses or lacks something
    │   └── StoreMismatch        this process sees another content store than the runs use
    ├── ConfigurationError       settings that cannot work
    ├── ServersUnreachable       Postgres or Redis does not answer
    ├── RunFailed                a run that was waited for did not complete
    └── WaitTimeout              a wait that ran out (also a TimeoutError)

Results of guarded statements are values (outcome.py), not errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, ClassVar

from agentflow.domain.fault import Fault


class AgentflowError(Exception):
    """Base of all errors that agentflow raises on purpose; ``details`` are plain data for surfaces."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details: dict[str, Any] = details


class UsageError(AgentflowError):
    """The call cannot be meant as it stands."""

    code = "usage"


class PlanRejected(AgentflowError):
    """The plan has faults; ``faults`` holds every one of them."""

    code = "plan_rejected"
    what: ClassVar[str] = "plan has"

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        lines = [f"{fault.place}: {fault.message}" for fault in self.faults]
        count = f"{len(lines)} fault{'s' if len(lines) != 1 else ''}"
        super().__init__(f"The {self.what} {count}:\n" + "\n".join(lines), faults=len(lines))


class ManifestLoadError(PlanRejected):
    """A manifest of a workflow directory is missing or cannot be read, or the directory holds what is not due yet."""

    code = "manifest_load"
    what = "workflow's manifests have"


class SchemaValidationError(PlanRejected):
    """A manifest of a workflow directory has fields or values that it cannot have."""

    code = "schema_validation"
    what = "workflow's manifests have"


class DAGValidationError(PlanRejected):
    """The graph of a workflow breaks a rule: edge counts, cycles, what cannot be reached."""

    code = "dag_validation"
    what = "workflow's graph has"


class NotFound(AgentflowError, LookupError):
    """Nothing of that name or id exists."""

    code = "not_found"


class RunPruned(NotFound):
    """The run ended long ago and was pruned; the details say how it ended and what it used."""

    code = "run_pruned"


class AmbiguousId(AgentflowError):
    """The prefix fits more than one run."""

    code = "ambiguous_id"


class PlanDrift(AgentflowError):
    """The plan is not the one that was meant; the details name both fingerprints and, where it is known, the diff."""

    code = "plan_drift"


class IdempotencyConflict(AgentflowError):
    """The idempotency key was already used for another submission; nothing was written."""

    code = "idempotency_conflict"

    def __init__(self, key: str, *, stored: str, submitted: str) -> None:
        self.key, self.stored, self.submitted = key, stored, submitted
        super().__init__(
            f"The idempotency key {key!r} belongs to another submission (stored fingerprint {stored}, this one "
            f"{submitted}). Use another key, or submit the same plan with the same vars.",
            key=key,
            stored=stored,
            submitted=submitted,
        )


class RequestConflict(IdempotencyConflict):
    """The idempotency key stands for a request whose answer cannot be given again; nothing was done now."""

    def __init__(self, message: str, **details: Any) -> None:
        AgentflowError.__init__(self, message, **details)


class PreconditionFailed(AgentflowError):
    """What is to be acted on is not as the caller saw it; nothing was written."""

    code = "precondition_failed"


class InvalidTransition(AgentflowError):
    """The verb is not allowed in this state; nothing was written."""

    code = "invalid_transition"


class AlreadyDecided(InvalidTransition):
    """The gate was decided before; the details say how, by whom and when. Nothing was written."""

    code = "already_decided"


class Unauthenticated(AgentflowError):
    """No key was shown that opens anything."""

    code = "unauthenticated"


class NotAllowed(AgentflowError):
    """The actor may not do this; nothing was written."""

    code = "not_allowed"


class TooManyRequests(AgentflowError):
    """The caller asks more often than it may; ``retry_after`` says in how many seconds it may again."""

    code = "too_many_requests"

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(
            f"Too many requests: ask again in {max(1, ceil(retry_after))} s.", retry_after=round(retry_after, 3)
        )


class Conflict(AgentflowError):
    """Postgres did not do the call for the sake of others, again and again."""

    code = "conflict"


class TemplateError(AgentflowError):
    """A template or expression cannot be rendered."""

    code = "template"


class ContentError(AgentflowError):
    """The content store refuses or lacks something."""

    code = "content"


class StoreMismatch(ContentError):
    """This process does not see the content store that the runs use."""

    code = "store_mismatch"


class ConfigurationError(AgentflowError):
    """The settings cannot work as they are."""

    code = "configuration"


class ServersUnreachable(AgentflowError):
    """Postgres or Redis does not answer."""

    code = "servers_unreachable"


class RunFailed(AgentflowError):
    """The run that was waited for ended, or rests, without having completed."""

    code = "run_failed"


class WaitTimeout(AgentflowError, TimeoutError):
    """The run did not come to rest in time."""

    code = "wait_timeout"
