"""The written form of a step.

Owns reading one step into a draft: a draft keeps what could be read although something else is wrong, so that one
reading finds every fault. What steps mean to each other is plan_check's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field

from pydantic import JsonValue

from agentflow.domain.action import ENGINE_ACTIONS, GroupAction, HttpAction, LlmAction, RunAction
from agentflow.domain.action_document import ACTION_TYPES, FIELD_HOMES, LATER_ACTIONS, READERS, relative_path
from agentflow.domain.action_reading import STEP_FIELDS, ActionReading, Place, Template
from agentflow.domain.child import MAX_DEPTH
from agentflow.domain.document import NOT_AVAILABLE, Form, Value
from agentflow.domain.error import TemplateError
from agentflow.domain.expression import bare_expression
from agentflow.domain.graph_document import ForeachReading, read_foreach
from agentflow.domain.ids import StepKey
from agentflow.domain.limit import ConcurrencyLimit, RateLimit
from agentflow.domain.limit_document import read_concurrency, read_rate_limit
from agentflow.domain.plan import DEFAULT_TIMEOUT_SECONDS, ID_PATTERN, MAX_STEPS, WHEN_WORDS, Foreach, Step, StepInput
from agentflow.domain.reference import ROOTS
from agentflow.domain.retry_document import read_retry
from agentflow.domain.retry_policy import DEFAULT_RETRY, RetryPolicy
from agentflow.domain.wording import listing, nearest, shorten

LATER_STEP_FIELDS = ("budget",)
"""Fields of the format that this version does not have."""
OUTPUTS: Mapping[str, tuple[str, str]] = {
    "stdout_json": ("subprocess", "the stdout of a command"),
    "body_json": ("http", "the answer to an http step"),
}
"""What a step may declare to be its result: the action that has it, and what it is."""
BODY = "steps"
"""What stands in the place of an action where a foreach has a body."""
_STEP = Form(
    known=(*STEP_FIELDS, *READERS, BODY),
    required=("id",),
    later=(*LATER_STEP_FIELDS, *LATER_ACTIONS),
    may_be_empty=("noop",),
    elsewhere={key: f"the action: write it inside {home}" for key, home in FIELD_HOMES.items()},
)
PERFORMED = ("timeout", "retry", "rate_limit", "concurrency", "on_lost")
"""Fields about performing a step: they mean nothing on one that no worker performs."""
TAKES_INPUTS = ("subprocess", "python")
"""Actions to which artifacts can be handed as files."""
_INSTEAD: Mapping[tuple[str, str], str] = {
    ("wait", "timeout"): "write timeout inside wait, beside event",
    ("approval", "timeout"): "write expires inside approval",
    **{("group", key): "write it on the steps inside" for key in PERFORMED},
}
_INPUT = Form(known=("step", "artifact", "as"), required=("step", "artifact"))


@dataclass(frozen=True, slots=True)
class Defaults:
    """What ``defaults`` of the plan say for steps that write nothing."""

    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    retry: RetryPolicy | None = None
    rate_limit: RateLimit | None = None
    concurrency: ConcurrencyLimit | None = None


@dataclass(slots=True)
class StepDraft:
    """A step as far as it could be read. ``needs`` is None when none are written."""

    value: Value
    key: StepKey | None = None
    action_name: str | None = None
    needs: list[tuple[StepKey, Value]] | None = None
    inputs: list[tuple[StepInput, Value]] = field(default_factory=list)
    templates: list[Template] = field(default_factory=list)
    content: dict[str, bytes] = field(default_factory=dict)
    schemas: list[tuple[JsonValue, Value]] = field(default_factory=list)
    runs: list[tuple[RunAction, Value]] = field(default_factory=list)
    read: dict[str, object] = field(default_factory=dict)
    """Further fields of Step by name."""
    foreach: ForeachReading | None = None
    body: list[StepDraft] = field(default_factory=list)
    """The steps of a foreach that has several."""

    @property
    def is_foreach(self) -> bool:
        """Whether it is done for each item of a list, as far as can be seen."""
        return isinstance(self.value.value, Mapping) and self.value.value.get("foreach") is not None

    def walk(self) -> Iterator[StepDraft]:
        """This step and all in its body."""
        yield self
        for inner in self.body:
            yield from inner.walk()

    @property
    def has_result(self) -> bool:
        """Whether ``steps.ID.result`` means something; yes where what decides it could not be read."""
        match self.read.get("action"):
            case LlmAction(output_schema=schema):
                return schema is not None
            case HttpAction():
                is_unreadable = "outputs" in self.value.value and "outputs" not in self.read
                return is_unreadable or self.read.get("outputs") == "body_json"
            case _:
                return True

    def step(self, needs: Mapping[StepKey, tuple[StepKey, ...]], answers_needed: Collection[StepKey]) -> Step:
        """Return the finished step; only for a draft without faults."""
        if self.key is None:
            raise ValueError("a step without an id cannot be finished")
        inputs = tuple(one for one, _ in self.inputs)
        read = dict(self.read)
        if self.key in answers_needed and isinstance(action := read["action"], LlmAction):
            read["action"] = action.model_copy(update={"is_answer_needed": True})
        if self.foreach is not None:
            body = tuple(inner.step(needs, answers_needed) for inner in self.body)
            read["foreach"] = Foreach.model_validate({**asdict(self.foreach), "steps": body})
        return Step.model_validate({"id": self.key, "needs": needs[self.key], "inputs": inputs, **read})


def read_step(value: Value, defaults: Defaults, available_actions: Collection[str]) -> StepDraft:
    """Return the draft of the step at ``value``; what is wrong goes into its faults."""
    key = value.value.get("id") if isinstance(value.value, Mapping) else None
    value = value.of_step(key if isinstance(key, str) else None)
    draft = StepDraft(value)
    fields = value.fields(_STEP)
    if fields is None:
        return draft
    if "id" in fields:
        draft.key = _read_id(fields["id"])
    if "foreach" in fields:
        if value.path.count(BODY) > MAX_DEPTH:
            fields["foreach"].fault(
                "too_deep", f"foreachs nest at most {MAX_DEPTH} deep: make the inner ones a child run"
            )
        reading = ActionReading()
        draft.foreach = read_foreach(fields["foreach"], reading)
        draft.templates += reading.templates
    if BODY in fields:
        _read_body(draft, fields[BODY], defaults, available_actions)
    _read_action(draft, fields, available_actions)
    if "needs" in fields:
        draft.needs = _read_needs(fields["needs"])
    for item in (fields["inputs"].items() or ()) if "inputs" in fields else ():
        if (one := _read_input(item)) is not None:
            draft.inputs.append((one, item))
    if "wave" in fields:
        draft.read["wave"] = fields["wave"].integer(1, MAX_STEPS)
    _read_when(draft, fields.get("when"))
    _read_choices(draft, fields)
    _read_limits(draft, fields, defaults)
    _check_performed(draft, fields)
    return draft


def _check_performed(draft: StepDraft, fields: dict[str, Value]) -> None:
    """Record a fault for each field about performing a step that no worker performs."""
    if draft.action_name not in ENGINE_ACTIONS:
        return
    what = "a foreach with steps" if draft.action_name == "group" else f"a step of {draft.action_name}"
    for key in PERFORMED:
        if key in fields:
            hint = _INSTEAD.get((draft.action_name, key), "remove it")
            fields[key].fault("bad_value", f"{key} means nothing for {what}, which no worker performs: {hint}")


def _read_body(draft: StepDraft, value: Value, defaults: Defaults, available_actions: Collection[str]) -> None:
    if not draft.is_foreach:
        value.fault("unknown_field", "steps inside of a step are the body of a foreach: write foreach too")
    items = value.items()
    if items is not None and not items:
        value.fault("bad_value", "the body of a foreach has at least one step")
    draft.body = [read_step(item, defaults, available_actions) for item in items or ()]
    draft.read["action"] = GroupAction()
    draft.action_name = "group"


def _read_id(value: Value) -> StepKey | None:
    text = value.text()
    if text is None:
        return None
    if not re.match(ID_PATTERN, text, re.ASCII):
        value.fault(
            "bad_id",
            f"{shorten(text)!r} is no id: start with a letter or _, then letters, digits, _ and -, "
            "at most 64 characters",
        )
    return StepKey(text)


def _read_action(draft: StepDraft, fields: dict[str, Value], available_actions: Collection[str]) -> None:
    written = list(draft.value.value)
    names = [key for key in written if key in READERS or key in LATER_ACTIONS]
    if BODY in written:
        if names:
            draft.value.fault("several_actions", f"a foreach with steps has no action beside them: remove {names[0]}")
        return
    if len(names) > 1:
        draft.value.fault(
            "several_actions", f"a step has exactly one action, this has {listing(names)}: make it {len(names)} steps"
        )
    if not names:
        _report_no_action(draft.value, written, available_actions)
    for name in names:
        if name not in fields:
            continue
        draft.action_name = ACTION_TYPES.get(name, name)
        reading = ActionReading()
        READERS[name](fields[name], reading)
        draft.read["action"] = reading.action
        draft.templates += reading.templates
        draft.content |= reading.content
        draft.schemas += reading.schemas
        draft.runs += reading.runs
        if draft.action_name not in ENGINE_ACTIONS and name not in available_actions:
            fields[name].fault(
                NOT_AVAILABLE,
                f"the action {name} is not available in this version; available: {listing(sorted(available_actions))}",
            )


def _report_no_action(value: Value, written: list[object], available_actions: Collection[str]) -> None:
    unknown = [key for key in written if isinstance(key, str) and key not in _STEP.known and key not in _STEP.later]
    if any(key in FIELD_HOMES or nearest(key, READERS) for key in unknown):
        # Already reported, with the action that it was meant to be or that it belongs to.
        return
    value.fault("no_action", f"the step has no action: write one of {listing(sorted(available_actions))}")


def _read_needs(value: Value) -> list[tuple[StepKey, Value]]:
    needs: dict[StepKey, Value] = {}
    for item in value.items() or ():
        key = item.text()
        if key is None:
            continue
        if key in needs:
            item.fault("bad_value", f"needs names {shorten(key)!r} twice")
            continue
        needs[StepKey(key)] = item
    return list(needs.items())


def _read_input(value: Value) -> StepInput | None:
    if isinstance(value.value, str):
        step, _, artifact = value.value.partition("/")
        if not step or not artifact:
            value.fault(
                "bad_value", f"an input is STEP/ARTIFACT, such as collect/summary.json, not {shorten(value.value)!r}"
            )
            return None
        path = relative_path(value, artifact)
        return None if path is None else StepInput(step=StepKey(step), artifact=path, path=_own_place(path))
    fields = value.fields(_INPUT) or {}
    step_text = fields["step"].text() if "step" in fields else None
    artifact_path = relative_path(fields["artifact"], fields["artifact"].text()) if "artifact" in fields else None
    if step_text is None or artifact_path is None:
        return None
    path = relative_path(fields["as"], fields["as"].text()) if "as" in fields else _own_place(artifact_path)
    if path is None:
        return None
    return StepInput(step=StepKey(step_text), artifact=artifact_path, path=path)


def _own_place(artifact: str) -> str:
    """Where an artifact goes that is given no place: under its own name; what a glob matches, into the folder."""
    return "." if any(character in artifact for character in "*?[") else artifact


def _read_when(draft: StepDraft, value: Value | None) -> None:
    if value is None:
        return
    text = value.text()
    if text is None or text in WHEN_WORDS:
        draft.read["when"] = text
        return
    if text.isidentifier() and text not in ROOTS:
        near = nearest(text, WHEN_WORDS)
        hint = f"did you mean {near!r}?" if near else f"write {listing(WHEN_WORDS)} or an expression"
        value.fault("bad_value", f"when cannot be {shorten(text)!r}: {hint}")
        return
    try:
        draft.read["when"] = bare_expression(text)
        draft.templates.append(Template(Place.WHEN, bare_expression(text), value))
    except TemplateError as error:
        value.fault("template_syntax", f"when: {error}")


def _read_choices(draft: StepDraft, fields: dict[str, Value]) -> None:
    for key, options in (
        ("outputs", ("none", *OUTPUTS)),
        ("on_failure", ("stop", "continue", "ignore")),
        ("on_lost", ("rerun", "hold")),
    ):
        if key in fields and (choice := fields[key].choice(options)) is not None:
            draft.read[key] = choice
    outputs = str(draft.read.get("outputs", "none"))
    if outputs in OUTPUTS and draft.action_name not in (None, OUTPUTS[outputs][0]):
        hint = ": give an llm step an output_schema instead" if draft.action_name == "llm" else ""
        fields["outputs"].fault("bad_value", f"outputs: {outputs} is {OUTPUTS[outputs][1]}, which is not here{hint}")


def _read_limits(draft: StepDraft, fields: dict[str, Value], defaults: Defaults) -> None:
    draft.read["timeout_seconds"] = fields["timeout"].seconds() if "timeout" in fields else defaults.timeout_seconds
    policy = read_retry(fields["retry"]) if "retry" in fields else defaults.retry
    if draft.read.get("on_lost") == "hold" and (
        policy is None or (policy.max_attempts > 1 and not policy.on_exit_codes)
    ):
        if policy is not None and "retry" in fields:
            fields["retry"].fault(
                "hold_and_retry",
                "on_lost: hold implies one attempt unless on_exit_codes are "
                "written: set max_attempts: 1, or name the exit codes that are safe to retry",
            )
        policy = (policy or DEFAULT_RETRY).model_copy(update={"max_attempts": 1})
    draft.read["retry"] = policy or DEFAULT_RETRY
    draft.read["rate_limit"] = read_rate_limit(fields["rate_limit"]) if "rate_limit" in fields else defaults.rate_limit
    draft.read["concurrency"] = (
        read_concurrency(fields["concurrency"]) if "concurrency" in fields else defaults.concurrency
    )
