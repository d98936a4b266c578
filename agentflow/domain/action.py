"""What a step does: the actions of this format version, as a stored plan holds them.

Owns the types only. Their written form is action_document's; performing them is the executors'. Content (stdin,
prompt, system text) is never here, only its hash and size.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from agentflow.domain.budget import MAX_TOKENS, MAX_USD_NANO, Budget
from agentflow.domain.gate import GateTerms
from agentflow.domain.ids import StepKey


class ContentRef(BaseModel):
    """Names content in the content store by the hash and size (in bytes) of its UTF-8 text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class NoopAction(BaseModel):
    """Does nothing, in process: for joins and benchmarks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["noop"] = "noop"


class SubprocessAction(BaseModel):
    """Runs a command: an argument list, or a string for the shell when ``shell`` says so."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["subprocess"] = "subprocess"
    command: tuple[str, ...] | str
    env: dict[str, str] = {}
    cwd: str = "."
    """Relative to the attempt's work directory."""
    stdin: ContentRef | None = None
    ok_exit_codes: tuple[int, ...] = (0,)
    shell: bool = False


class Price(BaseModel):
    """What a model costs, in nano-dollars a million tokens (1 USD is 1e9); the plan's word wins over price lists."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_nano: int = Field(ge=0, le=MAX_USD_NANO)
    output_nano: int = Field(ge=0, le=MAX_USD_NANO)


class LlmAction(BaseModel):
    """Calls a model, named ``provider:model``."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    type: Literal["llm"] = "llm"
    model: str
    system: ContentRef | None = None
    prompt: ContentRef
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    temperature: float | None = Field(default=None, ge=0)
    seed: int | None = None
    output_schema: dict[str, JsonValue] | None = None
    keep_content: bool = False
    """Whether the answer stays after the run."""
    is_answer_needed: bool = False
    """Whether a later step refers to the answer; it is then in the content store until the run ends. Set at reading,
    for prompts and stdin are no part of the stored plan."""
    price: Price | None = None


class HttpAction(BaseModel):
    """Calls an HTTP service. ``body`` is content: the JSON text of ``json``, whose strings may be templates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["http"] = "http"
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    url: str
    body: ContentRef | None = None
    headers: dict[str, str] = {}
    ok_status: tuple[int, ...] | None = None
    """None: every status from 200 to 299."""
    credential: str | None = None
    """The id of a provider credential, sent as a bearer token to the address that it belongs to and to no other."""


class DecisionAction(BaseModel):
    """Chooses one label of a closed set; the steps of the other labels are not taken. Written ``switch``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["decision"] = "decision"
    on: str
    """An expression; see domain/decision.py for how its value names a label."""
    cases: dict[str, tuple[StepKey, ...]] = Field(min_length=1)
    """The steps that each label takes; all of them need this one."""
    default: str | None = None
    """The label for a value that names none."""
    fail: tuple[str, ...] = ()
    """Labels that fail the step."""


class WaitAction(BaseModel):
    """Waits for a time or for a signal; exactly one of ``for_seconds``, ``until`` and ``event``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["wait"] = "wait"
    for_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    until: str | None = None
    """An ISO 8601 time with its zone, or a template of one."""
    event: str | None = None
    """The name of the signal that ends it."""
    timeout_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """How long to wait for a signal."""


class ApprovalAction(BaseModel):
    """Opens a gate and waits for it to be decided; see domain/gate.py."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["approval"] = "approval"
    gate: GateTerms


class RunAction(BaseModel):
    """Runs another plan as a child run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["run"] = "run"
    plan: str
    """NAME or NAME@VERSION of a stored plan, or the path of a file beside this plan."""
    vars: dict[str, JsonValue] = {}
    """Values of the child's vars; strings in them may be templates."""
    budget: Budget | None = None
    """Caps of the child run, over its plan's by kinds; all those of the run that starts it hold too."""
    fingerprint: str | None = None
    """Of the plan in a file, which was read with this one. A stored plan is looked up at submit (run.child_plans)."""


class GroupAction(BaseModel):
    """The body of a foreach with several steps: an item has ended when all of them have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["group"] = "group"


class PythonAction(BaseModel):
    """Calls a function ``pkg.mod:name`` of the allow-list, in a process of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["python"] = "python"
    call: str
    args: ContentRef | None = None
    """The JSON text of the keyword arguments, whose strings may be templates."""
    json_args: tuple[str, ...] | None = None
    """The arguments whose text is JSON: the function is given what it says."""


class NotifyAction(BaseModel):
    """Tells somebody how the run stands, in counts only; exactly one of the three."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["notify"] = "notify"
    webhook: str | None = None
    email: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None


Action = Annotated[
    SubprocessAction
    | NoopAction
    | LlmAction
    | HttpAction
    | PythonAction
    | NotifyAction
    | DecisionAction
    | WaitAction
    | ApprovalAction
    | RunAction
    | GroupAction,
    Field(discriminator="type"),
]

ENGINE_ACTIONS = frozenset({"decision", "wait", "approval", "run", "group"})
"""Actions that no worker performs: the engine decides them once their needs have ended, or holds them until then."""
