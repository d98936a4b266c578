"""The plan builder: the authoring document, written in Python instead of YAML.

Owns the names that Python users write. It judges nothing: a built plan is read like a written one, so both have the
same defaults, the same order rule and the same faults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, TypedDict, Unpack

from agentflow.domain.duration import format_duration
from agentflow.engine.load_plan import LoadedPlan, load_data
from agentflow.engine.load_workflow import load
from agentflow.executors.base import known_actions

Duration = str | timedelta
"""A duration as a plan writes it (``"90s"``, ``"1h30m"``) or a timedelta."""


@dataclass(frozen=True, slots=True)
class StepHandle:
    """A step of a plan being built; stands in ``needs`` of later ones."""

    id: str

    def __str__(self) -> str:
        return self.id


Need: TypeAlias = "StepHandle | ForeachBody | str"


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """A retry policy. What is left out has the default of a written ``retry``; ``max_attempts`` counts all attempts.

    Without any ``on_*`` every failure is retried.
    """

    max_attempts: int | None = None
    backoff: str | None = None
    base: Duration | None = None
    factor: float | None = None
    max_delay: Duration | None = None
    jitter: float | None = None
    on_exit_codes: Sequence[int] | None = None
    on_messages: Sequence[str] | None = None
    on_timeout: bool | None = None

    def as_document(self) -> dict[str, Any]:
        """Return the policy as a plan document writes it."""
        written = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: plain(value) for name, value in written.items() if value is not None}


class Budget(TypedDict, total=False):
    """Caps of a run, as a plan document writes them; a call of it gives a plain mapping."""

    steps: int
    tokens: int
    usd: float | Decimal
    active_time: Duration


class StepFields(TypedDict, total=False):
    """The fields that every step may have."""

    needs: Sequence[Need]
    when: str
    outputs: Literal["none", "stdout_json", "body_json"]
    inputs: Sequence[str | Mapping[str, str]]
    timeout: Duration
    retry: Retry | int | Mapping[str, Any]
    rate_limit: str | Mapping[str, Any]
    concurrency: Mapping[str, Any]
    on_failure: Literal["stop", "continue", "ignore"]
    wave: int
    on_lost: Literal["rerun", "hold"]
    foreach: str | Sequence[Any] | Mapping[str, Any]


class SubprocessFields(StepFields, total=False):
    """The fields of a subprocess step beside its command."""

    env: Mapping[str, str]
    cwd: str
    stdin: str
    ok_exit_codes: Sequence[int]
    shell: bool


class LlmFields(StepFields, total=False):
    """The fields of an llm step beside model and prompt."""

    system: str
    max_tokens: int
    temperature: float
    seed: int
    output_schema: Mapping[str, Any]
    keep_content: bool
    price: Mapping[str, float | Decimal]


class HttpFields(StepFields, total=False):
    """The fields of an http step beside its url; ``json`` is the body, whose texts may be templates."""

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    json: Any
    headers: Mapping[str, str]
    credential: str
    ok_status: Sequence[int]


class PythonFields(StepFields, total=False):
    """The fields of a python step beside its call; the texts of ``args`` may be templates.

    ``json_args`` names those of them whose text is JSON: the function is given what it says.
    """

    args: Mapping[str, Any]
    json_args: Sequence[str]


class RunFields(StepFields, total=False):
    """The fields of a child run beside its plan; values of ``vars`` may be templates."""

    vars: Mapping[str, Any]
    budget: Budget | Mapping[str, Any]


class NotifyFields(StepFields, total=False):
    """The fields of a notify step, of which there is exactly one."""

    webhook: str
    email: str | Sequence[str]
    command: Sequence[str]


class ApprovalFields(StepFields, total=False):
    """The fields of an approval step beside its message; see docs/howto/gates.md."""

    kind: Literal["approval", "policy", "safety", "artifacts", "consensus", "quality"]
    approvers: Sequence[str]
    count: int
    allow_self: bool
    form: Mapping[str, Mapping[str, Any]]
    expires: Duration
    on_expiry: Literal["deny", "approve", "escalate"]
    escalate_to: Sequence[str]
    artifacts: Mapping[str, str | Sequence[str]]
    checks: Mapping[str, Literal["block", "warn", "skip"]]
    automatic: bool
    on_reject: Literal["fail"] | Mapping[str, Any]


class SwitchFields(StepFields, total=False):
    """The fields of a switch beside ``on`` and ``cases``; labels that ``fail`` end the step as failed."""

    default: str
    fail: Sequence[str]


class Steps:
    """Steps being written, of a plan or of the body of a foreach."""

    def __init__(self, children: dict[str, Plan | LoadedPlan]) -> None:
        self._steps: list[dict[str, Any]] = []
        self._children = children

    def subprocess(self, key: str, /, command: Sequence[str] | str, **fields: Unpack[SubprocessFields]) -> StepHandle:
        """Add a step that runs a command; a text instead of a list needs ``shell=True``."""
        return self._add(key, "subprocess", {"command": command}, SubprocessFields, fields)

    def llm(self, key: str, /, *, model: str, prompt: str, **fields: Unpack[LlmFields]) -> StepHandle:
        """Add a step that calls a model, named ``provider:model``."""
        return self._add(key, "llm", {"model": model, "prompt": prompt}, LlmFields, fields)

    def http(self, key: str, /, url: str, **fields: Unpack[HttpFields]) -> StepHandle:
        """Add a step that calls a service; ``json`` needs a ``method`` that has a body."""
        return self._add(key, "http", {"url": url}, HttpFields, fields)

    def python(self, key: str, /, call: str, **fields: Unpack[PythonFields]) -> StepHandle:
        """Add a step that calls a function, ``package.module:function``, which its workers must allow."""
        return self._add(key, "python", {"call": call}, PythonFields, fields)

    def wait(
        self,
        key: str,
        /,
        *,
        for_: Duration | None = None,
        until: str | datetime | None = None,
        event: str | None = None,
        event_timeout: Duration | None = None,
        **fields: Unpack[StepFields],
    ) -> StepHandle:
        """Add a step that waits ``for_`` a time, ``until`` a moment, or for the signal ``event``: one of the three."""
        moment = until.isoformat() if isinstance(until, datetime) else until
        written = {"for": for_, "until": moment, "event": event, "timeout": event_timeout}
        required = {name: value for name, value in written.items() if value is not None}
        return self._add(key, "wait", required, StepFields, fields)

    def run(self, key: str, /, plan: Plan | LoadedPlan | str | Path, **fields: Unpack[RunFields]) -> StepHandle:
        """Add a step that runs another plan: built, loaded, the path of a file in the folder, or a stored one.

        A stored plan is named as ``NAME`` or ``NAME@VERSION``.
        """
        written = str(plan)
        if isinstance(plan, Plan | LoadedPlan):
            written = f"./built-{len(self._children) + 1}.yaml"
            self._children[written] = plan
        return self._add(key, "run", {"plan": written}, RunFields, fields)

    def approval(self, key: str, /, message: str = "", **fields: Unpack[ApprovalFields]) -> StepHandle:
        """Add a step that opens a gate and waits until it is decided; ``message`` may refer to vars only."""
        return self._add(key, "approval", {"message": message} if message else {}, ApprovalFields, fields)

    def notify(self, key: str, /, **fields: Unpack[NotifyFields]) -> StepHandle:
        """Add a step that tells a ``webhook``, an ``email`` address or a ``command`` how the run stands, in counts."""
        return self._add(key, "notify", {}, NotifyFields, fields)

    def switch(
        self,
        key: str,
        /,
        *,
        on: str,
        cases: Mapping[str, Need | Sequence[Need]],
        **fields: Unpack[SwitchFields],
    ) -> StepHandle:
        """Add a step that chooses one of ``cases`` by the value of an expression; their steps need this one.

        Later steps are named by their ids: ``cases={"edit": "change", "create": ["draft", "review"]}``.
        """
        return self._add(key, "switch", {"on": on, "cases": cases}, SwitchFields, fields)

    def foreach(
        self,
        key: str,
        /,
        items: str | Sequence[Any],
        *,
        max_parallel: int | None = None,
        max_children: int | None = None,
        merge: Literal["fail_on_any", "ignore_failures", "partial"] | None = None,
        **fields: Unpack[StepFields],
    ) -> ForeachBody:
        """Add a foreach whose body are the steps that are added to what it returns.

        ``items`` is a list, or an expression that gives one. A single step is done for each item by the keyword
        ``foreach`` of its own.
        """
        terms = {"items": items, "max_parallel": max_parallel, "max_children": max_children, "merge": merge}
        inner: list[dict[str, Any]] = []
        written = {"foreach": {name: plain(value) for name, value in terms.items() if value is not None}}
        beside = {name: plain(value) for name, value in fields.items()}
        self._steps.append({"id": key, **written, **beside, "steps": inner})
        return ForeachBody(key, self._children, inner)

    def noop(self, key: str, /, **fields: Unpack[StepFields]) -> StepHandle:
        """Add a step that does nothing, such as a join."""
        return self._add(key, "noop", {}, StepFields, fields)

    def _add(
        self,
        key: str,
        action: str,
        required: dict[str, Any],
        form: Any,
        written: Mapping[str, Any],
    ) -> StepHandle:
        # What belongs to no action stands on the step, where the reading reports it if nobody knows it.
        own = form.__optional_keys__ - StepFields.__optional_keys__
        inside = plain(required | {name: value for name, value in written.items() if name in own})
        beside = {name: plain(value) for name, value in written.items() if name not in own}
        self._steps.append({"id": key, action: inside, **beside})
        return StepHandle(key)


class ForeachBody(Steps):
    """The body of a foreach being built; it stands in ``needs`` of later steps as the foreach, and in a ``with``."""

    def __init__(self, key: str, children: dict[str, Plan | LoadedPlan], steps: list[dict[str, Any]]) -> None:
        super().__init__(children)
        self.id = key
        self._steps = steps

    def __str__(self) -> str:
        return self.id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Nothing is to be closed: the ``with`` only shows what belongs to the body."""


class Plan(Steps):
    """A plan being built. ``files`` are globs in ``folder``, which is the current directory unless it is given.

    Nothing is judged before ``check`` or a submit: those raise PlanRejected with every fault.
    """

    def __init__(
        self,
        name: str,
        *,
        files: Sequence[str] = (),
        folder: str | Path = ".",
        vars: Mapping[str, Any] | None = None,  # noqa: A002 - the plan format's own name
        secrets: Sequence[str] = (),
        project: str | None = None,
        defaults: Mapping[str, Any] | None = None,
        budget: Budget | Mapping[str, Any] | None = None,
        directive: str | None = None,
    ) -> None:
        self.name = name
        self.folder = Path(folder).absolute()
        head = {"files": files, "vars": vars, "secrets": secrets, "project": project, "defaults": defaults}
        caps = {"budget": budget, "directive": directive}
        self._head = {key: plain(value) for key, value in head.items() if value}
        self._head |= {key: plain(value) for key, value in caps.items() if value is not None}
        super().__init__({})

    @staticmethod
    def load(path: str | Path) -> LoadedPlan:
        """Read a YAML or JSON plan with the files beside it, or a workflow directory.

        Raises PlanRejected, NotFound and UsageError.
        """
        return load(path, available_actions=known_actions())

    def as_document(self) -> dict[str, Any]:
        """Return the document that this plan would be in a file."""
        return {"agentflow": 1, "name": self.name, **self._head, "steps": [dict(step) for step in self._steps]}

    def check(self) -> LoadedPlan:
        """Return the finished plan with its files and content. Raises PlanRejected with every fault."""
        children = {name: plan.check() if isinstance(plan, Plan) else plan for name, plan in self._children.items()}
        return load_data(
            self.as_document(), self.folder, source=self.name, available_actions=known_actions(), children=children
        )


def plain(value: Any) -> Any:
    """Return ``value`` as plain data of a document."""
    match value:
        case StepHandle() | ForeachBody():
            return value.id
        case Retry():
            return value.as_document()
        case timedelta():
            return format_duration(value.total_seconds()) if value >= timedelta() else f"{value.total_seconds()}s"
        case Path():
            return str(value)
        case Decimal():
            return float(value)
        case Mapping():
            return {key: plain(entry) for key, entry in value.items()}
        case list() | tuple():
            return [plain(entry) for entry in value]
        case _:
            return value
