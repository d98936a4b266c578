"""The written form of a workflow: workflow.yaml, agents.yaml and tools.yaml.

Owns reading each strictly: an unknown field is a fault, and what this version does not have is a fault by name and
never ignored. What the nodes are to each other is workflow_check's. Reads no file: engine/load_workflow does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agentflow.domain.document import NOT_AVAILABLE, Form, Value
from agentflow.domain.duration import format_duration
from agentflow.domain.llm_document import LLM_FORM
from agentflow.domain.plan import NAME_PATTERN, NAME_WORDS
from agentflow.domain.wording import listing, shorten
from agentflow.domain.workflow import ARGUMENT, Agent, Edge, Kind, MergeMode, Node, Operation, Role

NODE_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,47}", re.ASCII)
LATER_FILES = (
    "memory.yaml", "plugins.yaml", "provider_credentials.yaml", "policy.yaml", "metrics.yaml", "evaluations.yaml",
    "scheduler.yaml", "cli_profiles.yaml", "schemas",
)  # fmt: skip
"""What a directory of the format may hold and this version does not have."""
CONTEXTS = ("none", "global")
"""The built-in context profiles; ``global`` reads memory, of which there is none yet."""
_WORKFLOW = Form(known=("name", "nodes", "edges"), required=("nodes", "edges"))
_NODE = Form(
    known=(
        "stage_id", "name", "kind", "role", "default_start", "agent_id", "operation", "continue_on_failure",
        "always_fail", "context", "merge_failure_mode", "metadata", "tools", "merge",
    ),
    required=("stage_id", "kind", "role", "context"),
    later=("inputs_schema_id", "outputs_schema_id"),
)  # fmt: skip
_EDGE = Form(
    known=("from_node_id", "to_node_id", "condition", "label", "edge_id"), required=("from_node_id", "to_node_id")
)
_AGENTS = Form(known=("agents",), required=("agents",))
_AGENT = Form(
    known=("agent_id", "name", "timeout", *LLM_FORM.known),
    required=("agent_id", "model", "prompt"),
    later=("tools", "memory", "context"),
)
_TOOLS = Form(known=("tools", "files"), required=("tools",))
_TOOL = Form(
    known=("tool_id", "name", "kind", "timeout", "output", "subprocess", "python"),
    required=("tool_id",),
    later=("capabilities", "risk", "allow_network", "allow_shell", "filesystem_root"),
)
_ACTIONS = ("subprocess", "python")


def read_workflow(value: Value, default_name: str) -> tuple[str, list[Node], list[Edge]]:
    """Read workflow.yaml: its name, its nodes and its edges."""
    fields = value.fields(_WORKFLOW) or {}
    name = fields["name"].text() if "name" in fields else default_name
    if "name" in fields and name is not None and not re.match(NAME_PATTERN, name):
        fields["name"].fault("bad_id", f"name cannot be {shorten(name)!r}: {NAME_WORDS}")
    nodes = [node for item in _items(fields.get("nodes")) if (node := _read_node(item)) is not None]
    edges = [edge for item in _items(fields.get("edges")) if (edge := _read_edge(item)) is not None]
    return name or default_name, nodes, edges


def _items(value: Value | None) -> list[Value]:
    return (value.items() or []) if value is not None else []


def _read_node(value: Value) -> Node | None:
    key = value.value.get("stage_id") if isinstance(value.value, Mapping) else None
    value = value.of_step(key if isinstance(key, str) else None)
    fields = value.fields(_NODE)
    if fields is None:
        return None
    stage_id = _read_id(fields["stage_id"]) if "stage_id" in fields else None
    kind = fields["kind"].choice(tuple(Kind)) if "kind" in fields else None
    role = _read_role(fields["role"]) if "role" in fields else None
    context = fields["context"].text() if "context" in fields else None
    if context is not None and context not in CONTEXTS:
        fields["context"].fault(
            NOT_AVAILABLE, f"the context profile {shorten(context)!r} is not available: write {listing(CONTEXTS)}"
        )
    _refuse_later(fields)
    if stage_id is None or kind is None or role is None:
        return None
    return Node(
        stage_id=stage_id,
        role=Role(role),
        kind=Kind(kind),
        path=value.path,
        name=_text(fields, "name") or stage_id,
        agent_id=_text(fields, "agent_id"),
        operation=_text(fields, "operation"),
        context=context or "none",
        is_default_start=_is_set(fields, "default_start"),
        goes_on=_is_set(fields, "continue_on_failure"),
        always_fails=_is_set(fields, "always_fail"),
        merge_mode=_read_mode(fields, role),
    )


def _read_id(value: Value) -> str | None:
    text = value.text()
    if text is not None and not NODE_ID.fullmatch(text):
        value.fault(
            "bad_id",
            f"{shorten(text)!r} is no stage_id: start with a letter or _, then letters, digits, _ and -, "
            "at most 48 characters",
        )
        return None
    return text


def _read_role(value: Value) -> str | None:
    if isinstance(value.value, str) and value.value not in tuple(Role):
        roles = listing(tuple(Role))
        value.fault("invalid_node_role", f"role cannot be {shorten(value.value)!r}: write one of {roles}")
        return None
    return value.choice(tuple(Role))


def _read_mode(fields: Mapping[str, Value], role: str) -> MergeMode:
    if "merge_failure_mode" not in fields:
        return MergeMode.FAIL_ON_ANY
    value = fields["merge_failure_mode"]
    mode = value.choice(tuple(MergeMode))
    if role != Role.MERGE:
        value.fault("bad_value", "merge_failure_mode is for merges")
    return MergeMode(mode or MergeMode.FAIL_ON_ANY)


def _refuse_later(fields: Mapping[str, Value]) -> None:
    """Record a fault for what a node asks for that is not there yet; empty lists and mappings ask for nothing."""
    for name, what in (("tools", "tools on a node"), ("merge", "settings of a merge")):
        if name not in fields:
            continue
        entries = fields[name].items() if name == "tools" else fields[name].entries()
        if entries:
            fields[name].fault(NOT_AVAILABLE, f"{what} are not available in this version: remove {name}")
    if "metadata" in fields:
        fields["metadata"].json()


def _text(fields: Mapping[str, Value], name: str) -> str | None:
    return fields[name].text() if name in fields else None


def _is_set(fields: Mapping[str, Value], name: str) -> bool:
    return bool(fields[name].boolean()) if name in fields else False


def _read_edge(value: Value) -> Edge | None:
    fields = value.fields(_EDGE)
    if fields is None:
        return None
    if "condition" in fields and "label" in fields:
        fields["label"].fault("bad_value", "condition and label are the same: write one of them")
    source, target = _text(fields, "from_node_id"), _text(fields, "to_node_id")
    condition = _text(fields, "condition" if "condition" in fields else "label")
    _text(fields, "edge_id")
    return None if source is None or target is None else Edge(source, target, condition, value.path)


def read_agents(value: Value) -> dict[str, Agent]:
    """Read agents.yaml; what a model call is judged by is the plan's own reading."""
    agents: dict[str, Agent] = {}
    for item in _items((value.fields(_AGENTS) or {}).get("agents")):
        fields = item.fields(_AGENT) or {}
        key = _text(fields, "agent_id")
        llm = {"keep_content": True} | {name: fields[name].json() for name in LLM_FORM.known if name in fields}
        timeout = _read_timeout(fields)
        if key in agents:
            fields["agent_id"].fault("duplicate_id", f"the agent {shorten(key or '')!r} stands twice")
        elif key is not None:
            agents[key] = Agent(key, llm, timeout, item.path)
    return agents


def read_tools(value: Value) -> tuple[dict[str, Operation], tuple[str, ...]]:
    """Read tools.yaml: the operations of deterministic nodes, and the globs of the files that these need."""
    fields = value.fields(_TOOLS) or {}
    operations: dict[str, Operation] = {}
    for item in _items(fields.get("tools")):
        operation = _read_tool(item)
        if operation is not None and operation.tool_id in operations:
            item.child("tool_id").fault("duplicate_id", f"the tool {shorten(operation.tool_id)!r} stands twice")
        elif operation is not None:
            operations[operation.tool_id] = operation
    return operations, tuple(fields["files"].texts()) if "files" in fields else ()


def _read_tool(value: Value) -> Operation | None:
    fields = value.fields(_TOOL) or {}
    key, timeout = _text(fields, "tool_id"), _read_timeout(fields)
    if "kind" in fields and fields["kind"].text() == "llm_tool":
        fields["kind"].fault(NOT_AVAILABLE, "tools of kind llm_tool are not available in this version")
    elif "kind" in fields:
        fields["kind"].choice((Kind.DETERMINISTIC.value, "llm_tool"))
    output = fields["output"].choice(("text", "json")) if "output" in fields else "text"
    written = [name for name in _ACTIONS if name in fields]
    if len(written) != 1:
        value.fault("no_action", f"a tool is exactly one of {listing(_ACTIONS)}")
    action: dict[str, Any] = {}
    for name in written:
        action = {key: entry.json() for key, entry in (fields[name].entries() or {}).items()}
        _check_input(fields[name], action)
    if "python" in written and "output" in fields:
        fields["output"].fault("unknown_field", "output is for commands: a function puts out what it returns")
    if key is None or len(written) != 1:
        return None
    return Operation(key, written[0], action, output == "json", timeout, value.path)


def _check_input(value: Value, action: Mapping[str, Any]) -> None:
    """Record a fault where what a node is given has its place already, and where it finds none."""
    if "stdin" in action:
        value.child("stdin").fault("unknown_field", "stdin is the node's input: remove it")
    args = value.child("args").entries() if "args" in action else None
    if args is not None and ARGUMENT in args:
        args[ARGUMENT].fault("unknown_field", f"the argument {ARGUMENT} is the node's input: remove it")
    if "json_args" in action:
        value.child("json_args").texts()


def _read_timeout(fields: Mapping[str, Value]) -> str | None:
    seconds = fields["timeout"].seconds() if "timeout" in fields else None
    return None if seconds is None else format_duration(seconds)
