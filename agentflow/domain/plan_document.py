"""From the document that an author wrote to a Plan, or to every fault of it at once.

Owns the top of the document and the order of reading: single values, then steps, then what they mean to each other.
Takes content (prompts, system texts, stdin) out of the plan. Reads no file: engine/load_plan does, and it knows lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import JsonValue

from agentflow.domain.action import RunAction
from agentflow.domain.action_document import ENV_NAME
from agentflow.domain.action_reading import Place
from agentflow.domain.budget_document import read_budget
from agentflow.domain.document import Form, Path, Value
from agentflow.domain.expression import inspect_expression
from agentflow.domain.fault import Fault
from agentflow.domain.gate_check import check_gates, form_fields
from agentflow.domain.ids import StepKey
from agentflow.domain.item_flow import FlowNode, ItemFlow
from agentflow.domain.limit_document import read_concurrency, read_rate_limit
from agentflow.domain.plan import MAX_STEPS, NAME_PATTERN, NAME_WORDS, Plan, PlanFile, VarSpec
from agentflow.domain.plan_check import check_order, check_roots, check_switches
from agentflow.domain.reference_check import Declared, Producer, check_references
from agentflow.domain.retry_document import read_retry
from agentflow.domain.step_document import Defaults, StepDraft, read_step
from agentflow.domain.variable import read_vars
from agentflow.domain.wave import lay_waves
from agentflow.domain.wording import shorten

AVAILABLE_ACTIONS = ("http", "llm", "noop", "notify", "python", "subprocess")
"""The actions that workers of this version perform; executors of third parties add theirs at submit."""
OWN_PREFIX = "AGENTFLOW_"
"""Of agentflow's own settings, in whatever case: the audit key and the passwords of the servers are among them."""
_PLAN = Form(
    known=("agentflow", "name", "project", "directive", "files", "vars", "secrets", "budget", "defaults", "steps"),
    required=("agentflow", "name", "steps"),
    elsewhere=dict.fromkeys(("rate_limit", "concurrency"), "the steps: write it on each, or in defaults for all"),
)
_DEFAULTS = Form(known=("timeout", "retry", "rate_limit", "concurrency"), later=("budget",))


@dataclass(frozen=True, slots=True)
class WrittenSchema:
    """A JSON Schema that stands in a plan, yet to be judged: where, and in which step."""

    schema: JsonValue
    path: Path
    step: str | None


@dataclass(frozen=True, slots=True)
class WrittenRun:
    """A child run that stands in a plan: where, and in which step. The plan of a file is yet to be read."""

    action: RunAction
    path: Path
    step: str | None


@dataclass(frozen=True)
class PlanReading:
    """What came out of a document: the plan (None when there are faults), its content by SHA-256, and the faults.

    ``file_patterns`` are the globs of ``files``, with the path of each; the plan's own ``files`` are those handed in.
    ``schemas`` are for whoever can judge JSON Schemas.
    """

    plan: Plan | None
    content: dict[str, bytes] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    file_patterns: tuple[tuple[str, Path], ...] = ()
    schemas: tuple[WrittenSchema, ...] = ()
    runs: tuple[WrittenRun, ...] = ()


def read_plan(
    data: Any,
    *,
    files: Sequence[PlanFile] = (),
    available_actions: Collection[str] = AVAILABLE_ACTIONS,
    written: Callable[[Path], str | None] | None = None,
) -> PlanReading:
    """Read a plan document, as YAML or JSON gives it, and find all of its faults.

    ``files`` are the captured files that the plan shall name; ``written`` gives a scalar's own spelling by path.
    """
    faults: list[Fault] = []
    root = Value(data, (), faults, None, written or (lambda _path: None))
    fields = root.fields(_PLAN)
    if fields is None:
        return PlanReading(None, faults=tuple(faults))
    header, patterns = _read_header(fields)
    variables = read_vars(fields["vars"]) if "vars" in fields else {}
    secrets = _read_secrets(fields["secrets"]) if "secrets" in fields else ()
    defaults = _read_defaults(fields["defaults"]) if "defaults" in fields else Defaults()
    drafts = _read_steps(fields["steps"], defaults, available_actions) if "steps" in fields else []
    waves = lay_waves(drafts, check_order(drafts))
    needs = waves.needs
    every = [inner for draft in drafts for inner in draft.walk()]
    needed = check_references(every, _declared(variables, secrets, drafts, needs))
    check_roots(drafts, waves.behind)
    check_switches(drafts, needs)
    check_gates(every, variables, needs, _seen_needs(drafts, needs))
    content = {digest: data for draft in every for digest, data in draft.content.items()}
    schemas = tuple(WrittenSchema(schema, value.path, value.step) for draft in every for schema, value in draft.schemas)
    runs = tuple(WrittenRun(action, value.path, value.step) for draft in every for action, value in draft.runs)
    if faults:
        return PlanReading(None, content, _in_order(faults), patterns, schemas, runs)
    steps = waves.with_joins([draft.step(needs, needed) for draft in drafts])
    plan = Plan.model_validate(header | {"files": tuple(files), "vars": variables, "secrets": secrets, "steps": steps})
    return PlanReading(plan, content, (), patterns, schemas, runs)


def _read_header(fields: dict[str, Value]) -> tuple[dict[str, object], tuple[tuple[str, Path], ...]]:
    if "agentflow" in fields and (version := fields["agentflow"].integer()) not in (None, 1):
        fields["agentflow"].fault("bad_format", f"the format version {version} is unknown: write agentflow: 1")
    header: dict[str, object] = {}
    for key in ("name", "project", "directive"):
        if key in fields and (text := fields[key].text()) is not None:
            header[key] = text
            if not re.match(NAME_PATTERN, text):
                fields[key].fault("bad_id", f"{key} cannot be {shorten(text)!r}: {NAME_WORDS}")
    if "budget" in fields:
        header["budget"] = read_budget(fields["budget"])
    patterns = []
    for item in (fields["files"].items() or ()) if "files" in fields else ():
        if (pattern := item.text()) is not None:
            patterns.append((pattern, item.path))
    return header, tuple(patterns)


def _read_secrets(value: Value) -> tuple[str, ...] | None:
    items = value.items()
    if items is None:
        return None
    names: list[str] = []
    for item in items:
        name = item.text()
        if name is None:
            continue
        if not ENV_NAME.fullmatch(name):
            item.fault("bad_id", f"{shorten(name)!r} is no name of a secret: use letters, digits and _")
        elif name.upper().startswith(OWN_PREFIX):
            item.fault("bad_id", f"{shorten(name)} cannot be a secret of a plan: {OWN_PREFIX}* is agentflow's own")
        elif name in names:
            item.fault("duplicate_id", f"the secret {name} stands twice")
        names.append(name)
    return tuple(names)


def _read_defaults(value: Value) -> Defaults:
    fields = value.fields(_DEFAULTS) or {}
    seconds = fields["timeout"].seconds() if "timeout" in fields else None
    defaults = Defaults(
        retry=read_retry(fields["retry"]) if "retry" in fields else None,
        rate_limit=read_rate_limit(fields["rate_limit"]) if "rate_limit" in fields else None,
        concurrency=read_concurrency(fields["concurrency"]) if "concurrency" in fields else None,
    )
    return defaults if seconds is None else replace(defaults, timeout_seconds=seconds)


def _read_steps(value: Value, defaults: Defaults, available_actions: Collection[str]) -> list[StepDraft]:
    items = value.items()
    if items is None:
        return []
    if not items:
        value.fault("bad_value", "steps is empty: a plan has at least one step")
    if len(items) > MAX_STEPS:
        value.fault("too_many_steps", f"the plan has {len(items)} steps; {MAX_STEPS} is the most: split it")
        return []
    drafts = [read_step(item, defaults, available_actions) for item in items]
    if (every := sum(1 for draft in drafts for _ in draft.walk())) > MAX_STEPS:
        value.fault(
            "too_many_steps", f"with the bodies of its foreachs the plan has {every} steps; {MAX_STEPS} is the most"
        )
    return drafts


def _seen_needs(
    drafts: Sequence[StepDraft], needs: Mapping[StepKey, tuple[StepKey, ...]]
) -> dict[StepKey, tuple[StepKey, ...]]:
    """Whose output each step may read: what it needs, and in the body of a foreach also what that needs."""
    seen = dict(needs)
    work: list[tuple[StepDraft, tuple[StepKey, ...]]] = [(draft, ()) for draft in drafts]
    while work:
        draft, around = work.pop()
        if draft.key is not None:
            seen[draft.key] = (*needs.get(draft.key, ()), *around)
            work.extend((inner, seen[draft.key]) for inner in draft.body)
    return seen


def _declared(
    variables: dict[str, VarSpec] | None,
    secrets: tuple[str, ...] | None,
    drafts: Sequence[StepDraft],
    needs: Mapping[StepKey, tuple[StepKey, ...]],
) -> Declared:
    every = [inner for draft in drafts for inner in draft.walk()]
    # Of steps with one id the first counts, here as in check_order.
    producers = {
        draft.key: Producer("foreach" if draft.is_foreach else draft.action_name, draft.has_result)
        for draft in reversed(every)
        if draft.key is not None
    }
    flow = ItemFlow(dict(reversed([*_flow_nodes(drafts, needs, ())])))
    names = None if variables is None else {*variables, *form_fields(every)}
    return Declared(names, secrets, _seen_needs(drafts, needs), producers, flow)


def _flow_nodes(
    drafts: Sequence[StepDraft], needs: Mapping[StepKey, tuple[StepKey, ...]], around: tuple[StepKey, ...]
) -> Iterator[tuple[StepKey, FlowNode]]:
    for draft in drafts:
        if draft.key is None:
            continue
        needed = {need for inner in draft.body for need in needs.get(inner.key or draft.key, ())}
        ends = [inner.key for inner in draft.body if inner.key is not None and inner.key not in needed]
        lists = [each.text for each in draft.templates if each.place is Place.ITEMS]
        items = frozenset().union(*(inspect_expression(text).references for text in lists))
        yield draft.key, FlowNode(draft.action_name, around, draft.is_foreach, items, ends[-1] if ends else None)
        yield from _flow_nodes(draft.body, needs, (*around, draft.key))


def _in_order(faults: list[Fault]) -> tuple[Fault, ...]:
    """Put the faults in the order of the document as far as paths tell: first the top, then step by step."""

    def position(fault: Fault) -> tuple[int, int]:
        match fault.path:
            case ("steps", int(index), *_):
                return 1, index
            case _:
                return 0, 0

    return tuple(sorted(faults, key=position))
